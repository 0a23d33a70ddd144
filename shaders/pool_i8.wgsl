// Pooling of packed int8 over windows: see src/kernels/pool/pool_i8.rs.

struct Params {
    images: u32,
    quads: u32,
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride_y: u32,
    stride_x: u32,
    pad_top: u32,
    pad_left: u32,
    counted_height: u32,
    counted_width: u32,
    kind: u32,
    x_zero_point: i32,
    zero_point: i32,
    low: i32,
    high: i32,
    unused: u32,
}

const MAX: u32 = 0u;
const WITH_PADDING: u32 = 2u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
// M and n for each divisor.
@group(0) @binding(2) var<storage, read> factors: array<vec2<i32>>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;

// What a window covers along an axis: the first place inside, the end of those inside, and the
// divisor.
fn span(begin: u32, kernel: u32, pad: u32, side: u32, counted: u32) -> vec3<u32> {
    let end = begin + kernel;
    let first = min(max(begin, pad) - pad, side);
    let last = min(max(end, pad) - pad, side);
    return vec3<u32>(first, last, select(last - first, min(end, counted) - begin, params.kind == WITH_PADDING));
}

// One invocation for each output pixel and four channels.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    let quad = i % params.quads;
    let pixel = i / params.quads;
    let row = pixel / params.out_width;
    let image = row / params.out_height;
    if image >= params.images {
        return;
    }
    let top = (row % params.out_height) * params.stride_y;
    let left = (pixel % params.out_width) * params.stride_x;
    let rows = span(top, params.kernel_height, params.pad_top, params.in_height, params.counted_height);
    let columns = span(left, params.kernel_width, params.pad_left, params.in_width, params.counted_width);
    var greatest = vec4<i32>(-128);
    var sum = vec4<i32>();
    for (var iy = rows.x; iy < rows.y; iy++) {
        let start = (image * params.in_height + iy) * params.in_width;
        for (var ix = columns.x; ix < columns.y; ix++) {
            let levels = unpack4xI8(x[(start + ix) * params.quads + quad]);
            greatest = max(greatest, levels);
            sum += levels - params.x_zero_point;
        }
    }
    var word = 0u;
    if params.kind == MAX {
        word = pack4xI8(greatest);
    } else {
        let factor = factors[rows.z * columns.z - 1u];
        for (var c = 0u; c < 4u; c++) {
            let scaled = wide_product(sum.x, factor.x);
            let level = params.zero_point + wide_rounding_shift(scaled, u32(factor.y));
            word = push_level(word, clamp(level, params.low, params.high));
            sum = sum.yzwx;
        }
    }
    y[i] = word;
}
