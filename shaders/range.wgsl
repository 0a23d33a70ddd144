// Least and greatest value, and the first image that is not finite: see
// src/kernels/statistics/range.rs. Behind state.wgsl and extremes.wgsl.

struct Params {
    quads: u32,
    quads_per_pixel: u32,
    last_real: u32,
    quads_per_image: u32,
    row: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// Bits, not floats: a GPU may flush subnormal floats to zero.
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> states: array<State>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // Below `quads`: within x.
    for (var i = group.x * 256u + lane; i < params.quads; i += groups.x * 256u) {
        let channels = select(4u, params.last_real, (i + 1u) % params.quads_per_pixel == 0u);
        if look(x[i], channels) {
            bad = min(bad, i / params.quads_per_image);
        }
    }
    publish(params.row, lane);
}
