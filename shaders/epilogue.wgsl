// The end of the f32 convolutions, put in front of each of them, behind extremes.wgsl: see src/kernels/epilogue.rs. The
// shader declares `params`, a FloatParams.

struct FloatParams {
    geometry: Geometry,
    first_pixel: u32,
    end_pixel: u32,
    relu: u32,
    observed: u32,
}

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

// Puts together what the workgroup has stored; every invocation calls it, after its last store.
fn finish(lane: u32) {
    if params.observed != 0u {
        publish(params.observed - 1u, lane);
    }
}
