// Bindings of the f32 convolutions, and what they do with their sums: see
// src/kernels/conv/float/epilogue.rs. It is put in front of each of them, behind geometry.wgsl and
// extremes.wgsl.

struct FloatParams {
    geometry: Geometry,
    first_pixel: u32,
    end_pixel: u32,
    relu: u32,
    observed: u32,
}

@group(0) @binding(0) var<uniform> params: FloatParams;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> states: array<State>;

// Not max(): it may turn a NaN into 0 and hide it.
fn activate(v: vec4<f32>) -> vec4<f32> {
    return select(v, vec4<f32>(0.0), (v < vec4<f32>(0.0)) & vec4<bool>(params.relu != 0u));
}

// Looks at four channels of an output pixel that are stored.
fn observe(pixel: u32, quad: u32, v: vec4<f32>) {
    if params.observed == 0u {
        return;
    }
    let channels = select(4u, params.geometry.out_last, quad + 1u == params.geometry.out_quads);
    if look(bitcast<vec4<u32>>(v), channels) {
        bad = min(bad, pixel / (params.geometry.out_width * params.geometry.out_height));
    }
}

// Stores what four channels of an output pixel sum up to.
fn store(pixel: u32, quad: u32, sum: vec4<f32>) {
    let v = activate(sum);
    y[pixel * params.geometry.out_quads + quad] = v;
    observe(pixel, quad, v);
}

// Puts together what the workgroup has stored; every invocation calls it, after its last store.
fn finish(lane: u32) {
    if params.observed != 0u {
        publish(params.observed - 1u, lane);
    }
}
