// Bilinear resizing in f32: see src/kernels/rearrange/resize_f32.rs.

struct Params {
    images: u32,
    x_height: u32,
    x_width: u32,
    quads: u32,
    y_height: u32,
    y_width: u32,
    unused0: u32,
    unused1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// For each output row, then each output column: the two it lies between, and the share of the
// second as f32 bits.
@group(0) @binding(2) var<storage, read> taps: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

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
    let r = 3u * row;
    let c = 3u * (params.y_height + column);
    let down = bitcast<f32>(taps[r + 2u]);
    let across = bitcast<f32>(taps[c + 2u]);
    let upper = (image * params.x_height + taps[r]) * params.x_width;
    let lower = (image * params.x_height + taps[r + 1u]) * params.x_width;
    let quad = i % params.quads;
    let left = taps[c];
    let right = taps[c + 1u];
    let top = (1.0 - across) * x[(upper + left) * params.quads + quad] + across * x[(upper + right) * params.quads + quad];
    let bottom = (1.0 - across) * x[(lower + left) * params.quads + quad] + across * x[(lower + right) * params.quads + quad];
    y[i] = (1.0 - down) * top + down * bottom;
}
