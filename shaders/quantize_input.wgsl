// 8-bit pixels to the packed int8 network input, through a table: see
// src/kernels/convert/quantize_input.rs.

struct Params {
    pixels: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    if i >= params.pixels {
        return;
    }
    let p = x[i];
    y[i] = table[p & 255u] | table[256u + ((p >> 8u) & 255u)] | table[512u + ((p >> 16u) & 255u)];
}
