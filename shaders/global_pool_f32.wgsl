// Global pooling in f32: the mean, or the largest where the factor is 0, one quad of one image an
// invocation: see src/kernels/pool/global_pool_f32.rs.

struct Params {
    images: u32,
    pixels: u32,
    quads: u32,
    factor: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = flat_group(group, groups) * 64u + lane;
    if item >= params.images * params.quads {
        return;
    }
    var at = item / params.quads * params.pixels * params.quads + item % params.quads;
    if params.factor == 0.0 {
        var largest = x[at];
        for (var p = 1u; p < params.pixels; p++) {
            at += params.quads;
            let v = x[at];
            // A NaN is taken, and nothing is larger than it, where the device keeps NaN at all.
            largest = select(largest, v, (v > largest) | (v != v));
        }
        y[item] = largest;
        return;
    }
    var sum = vec4<f32>(0.0);
    for (var p = 0u; p < params.pixels; p++) {
        sum += x[at];
        at += params.quads;
    }
    y[item] = sum * params.factor;
}
