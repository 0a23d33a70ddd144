// Sums, differences and products of packed int8: see src/kernels/binary/binary_i8.rs.

struct Operand {
    image: u32,
    row: u32,
    column: u32,
    quad: u32,
    single: u32,
    zero_point: i32,
    multiplier: i32,
    unused: u32,
}

struct Params {
    a: Operand,
    b: Operand,
    images: u32,
    height: u32,
    width: u32,
    channels: u32,
    product: u32,
    right_shift: u32,
    zero_point: i32,
    low: i32,
    high: i32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<u32>;
@group(0) @binding(2) var<storage, read> b: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;

// The word of an operand that serves an output word: image, row, column, quad.
fn place(operand: Operand, at: vec4<u32>) -> u32 {
    return dot(at, vec4<u32>(operand.image, operand.row, operand.column, operand.quad));
}

// Four channels' steps above real 0; none in padded channels.
fn steps(operand: Operand, word: u32, quad: u32) -> vec4<i32> {
    let levels = unpack4xI8(word);
    let served = select(levels, levels.xxxx, operand.single != 0u);
    let channel = vec4<u32>(4u * quad) + vec4<u32>(0u, 1u, 2u, 3u);
    return select(vec4<i32>(), served - operand.zero_point, channel < vec4<u32>(params.channels));
}

// One invocation for each pixel and four channels.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    let quads = (params.channels + 3u) / 4u;
    let pixel = i / quads;
    let row = pixel / params.width;
    let at = vec4<u32>(row / params.height, row % params.height, pixel % params.width, i % quads);
    if at.x >= params.images {
        return;
    }
    var first = steps(params.a, a[place(params.a, at)], at.w);
    var second = steps(params.b, b[place(params.b, at)], at.w);
    if params.product != 0u {
        first *= second;
        second = vec4<i32>();
    }
    var word = 0u;
    for (var c = 0u; c < 4u; c++) {
        let scaled = wide_add(
            wide_product(first.x, params.a.multiplier),
            wide_product(second.x, params.b.multiplier),
        );
        let level = params.zero_point + wide_rounding_shift(scaled, params.right_shift);
        word = push_level(word, clamp(level, params.low, params.high));
        first = first.yzwx;
        second = second.yzwx;
    }
    y[i] = word;
}
