// An f32 activation into a box of the output: see src/kernels/concat/concat_f32.rs.

struct Params {
    images: u32,
    x_height: u32,
    x_width: u32,
    x_channels: u32,
    y_height: u32,
    y_width: u32,
    y_channels: u32,
    first_channel: u32,
    first_row: u32,
    first_column: u32,
    unused0: u32,
    unused1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

// One invocation for each pixel of the input and four channels of the output.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    let end_channel = params.first_channel + params.x_channels;
    let first_quad = params.first_channel / 4u;
    let quads = (end_channel + 3u) / 4u - first_quad;
    let pixel = i / quads;
    let x_row = pixel / params.x_width;
    let image = x_row / params.x_height;
    if image >= params.images {
        return;
    }
    let row = image * params.y_height + params.first_row + x_row % params.x_height;
    let column = params.first_column + pixel % params.x_width;
    let quad = first_quad + i % quads;
    let at = (row * params.y_width + column) * ((params.y_channels + 3u) / 4u) + quad;
    let base = pixel * ((params.x_channels + 3u) / 4u * 4u);
    // Channels of the inputs before this one stay; those behind are written later, padded ones
    // are 0.
    var value = vec4<f32>(0.0);
    if 4u * quad < params.first_channel {
        value = y[at];
    }
    for (var k = 0u; k < 4u; k++) {
        let channel = 4u * quad + k;
        if channel >= params.first_channel && channel < end_channel {
            value[k] = x[base + channel - params.first_channel];
        }
    }
    y[at] = value;
}
