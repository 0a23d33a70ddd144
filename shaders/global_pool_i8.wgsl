// Global pooling of packed int8, the mean or the largest: see src/kernels/pool/global_pool_i8.rs.

struct Params {
    images: u32,
    pixels: u32,
    quads: u32,
    zero_sum: i32,
    multiplier: i32,
    right_shift: u32,
    zero_point: i32,
    low: i32,
    high: i32,
    kind: u32,
    unused0: u32,
    unused1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;

// One invocation for each image and four channels.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    if i >= params.images * params.quads {
        return;
    }
    var at = i / params.quads * params.pixels * params.quads + i % params.quads;
    var sum = vec4<i32>();
    var greatest = vec4<i32>(-128);
    for (var p = 0u; p < params.pixels; p++) {
        let levels = unpack4xI8(x[at]);
        sum += levels;
        greatest = max(greatest, levels);
        at += params.quads;
    }
    if params.kind == 1u {
        y[i] = pack4xI8(greatest);
        return;
    }
    var word = 0u;
    for (var c = 0u; c < 4u; c++) {
        let scaled = wide_product(sum.x - params.zero_sum, params.multiplier);
        let level = params.zero_point + wide_rounding_shift(scaled, params.right_shift);
        word = push_level(word, clamp(level, params.low, params.high));
        sum = sum.yzwx;
    }
    y[i] = word;
}
