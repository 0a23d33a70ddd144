// Depthwise convolution in f32, 4 pixels of a row × 4 channels an invocation: see
// src/kernels/conv/float/depthwise.rs.

// The input quad at a column of the row that starts at `row`; 0 outside. A column left of the image
// has wrapped around.
fn load(row: u32, column: u32) -> vec4<f32> {
    let inside = column < params.geometry.in_width;
    return select(vec4<f32>(0.0), x[row + select(0u, column, inside) * params.geometry.in_quads], inside);
}

// `row` counts through all images.
fn store_column(row: u32, column: u32, quad: u32, sum: vec4<f32>) {
    if column < params.geometry.out_width {
        store(row * params.geometry.out_width + column, quad, sum);
    }
}

// The outputs of an invocation; neighbouring items have neighbouring channels.
fn convolve(item: u32) {
    let quad = item % params.geometry.out_quads;
    let strips = (params.geometry.out_width + 3u) / 4u;
    let strip = item / params.geometry.out_quads;
    let row = strip / strips;
    if row >= params.geometry.images * params.geometry.out_height {
        return;
    }
    let image = row / params.geometry.out_height;
    let column = strip % strips * 4u;
    let top = (row % params.geometry.out_height) * params.geometry.stride_y - params.geometry.pad_y;
    let left = column * params.geometry.stride_x - params.geometry.pad_x;
    var a0 = bias[quad];
    var a1 = a0;
    var a2 = a0;
    var a3 = a0;
    for (var ky = 0u; ky < params.geometry.kernel_height; ky++) {
        if top + ky >= params.geometry.in_height {
            continue;
        }
        let start = (image * params.geometry.in_height + top + ky) * params.geometry.in_width * params.geometry.in_quads + quad;
        for (var kx = 0u; kx < params.geometry.kernel_width; kx++) {
            let w = weights[(ky * params.geometry.kernel_width + kx) * params.geometry.in_quads + quad];
            a0 = fma(w, load(start, left + kx), a0);
            a1 = fma(w, load(start, left + kx + params.geometry.stride_x), a1);
            a2 = fma(w, load(start, left + kx + 2u * params.geometry.stride_x), a2);
            a3 = fma(w, load(start, left + kx + 3u * params.geometry.stride_x), a3);
        }
    }
    store_column(row, column, quad, a0);
    store_column(row, column + 1u, quad, a1);
    store_column(row, column + 2u, quad, a2);
    store_column(row, column + 3u, quad, a3);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    convolve(flat_group(group, groups) * 64u + lane);
    finish(lane);
}
