// Pooling over windows in f32: see src/kernels/pool/pool_f32.rs.

struct Params {
    images: u32,
    x_height: u32,
    x_width: u32,
    quads: u32,
    y_height: u32,
    y_width: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride_y: u32,
    stride_x: u32,
    pad_top: u32,
    pad_left: u32,
    // Rows and columns of the image with its padding: a mean with padding divides by what of the
    // window is within.
    padded_height: u32,
    padded_width: u32,
    // 0 the largest, 1 the mean of the image's values, 2 the mean with padding.
    kind: u32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

// One invocation for each output pixel and four channels.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    let pixel = i / params.quads;
    let column = pixel % params.y_width;
    let row = pixel / params.y_width % params.y_height;
    let image = pixel / params.y_width / params.y_height;
    if image >= params.images {
        return;
    }
    // In the padded image.
    let top = row * params.stride_y;
    let left = column * params.stride_x;
    let first_row = max(top, params.pad_top) - params.pad_top;
    let first_column = max(left, params.pad_left) - params.pad_left;
    let end_row = min(max(top + params.kernel_height, params.pad_top) - params.pad_top, params.x_height);
    let end_column = min(max(left + params.kernel_width, params.pad_left) - params.pad_left, params.x_width);
    let base = image * params.x_height * params.x_width;
    var largest = vec4<f32>(-3.4028234663852886e38);
    var sum = vec4<f32>(0.0);
    for (var r = first_row; r < end_row; r++) {
        for (var c = first_column; c < end_column; c++) {
            let v = x[(base + r * params.x_width + c) * params.quads + i % params.quads];
            // A NaN is taken, and nothing is larger than it, where the device keeps NaN at all.
            largest = select(largest, v, (v > largest) | (v != v));
            sum += v;
        }
    }
    var divisor = (end_row - first_row) * (end_column - first_column);
    if params.kind == 2u {
        divisor = (min(top + params.kernel_height, params.padded_height) - top)
            * (min(left + params.kernel_width, params.padded_width) - left);
    }
    y[i] = select(sum / f32(divisor), largest, params.kind == 0u);
}
