// Depthwise convolution of packed int8 with one or two sets of weights: see src/kernels/depthwise_i8.rs.
// One invocation computes 4 pixels x 4 channels; neighbours in a workgroup have neighbouring channels.

@group(0) @binding(0) var<uniform> params: Int8Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> fine: array<u32>;
@group(0) @binding(3) var<storage, read> coarse: array<u32>;
@group(0) @binding(4) var<storage, read> channels: array<Channel>;
@group(0) @binding(5) var<storage, read_write> y: array<u32>;

// The last tile's missing pixels repeat the last one.
fn window(pixel: u32) -> vec3<i32> {
    return corner(params.geometry, min(pixel, params.end_pixel - 1u));
}

// Four channels of a tap; the zero point outside the image.
fn load(corner: vec3<i32>, dy: u32, dx: u32, quad: u32) -> vec4<i32> {
    let tap = tap_at(params.geometry, corner, dy, dx);
    return unpack4xI8(select(params.zero_word, x[tap.base + quad], tap.inside));
}

// Four channels of a pixel, biases added and requantized. A loop, for the code is long.
fn store(pixel: u32, quad: u32, fine_totals: vec4<i32>, coarse_totals: vec4<i32>) {
    if pixel >= params.end_pixel {
        return;
    }
    let at = pixel * params.geometry.out_quads + quad;
    var f = fine_totals;
    var c = coarse_totals;
    var word = 0u;
    for (var i = 0u; i < 4u; i++) {
        let channel = channels[4u * quad + i];
        if params.finish == FINISH_TOTALS {
            y[4u * at + i] = bitcast<u32>(channel_total(channel, f.x, c.x));
        } else {
            word = push_level(word, channel_level(params, channel, f.x, c.x));
        }
        f = f.yzwx;
        c = c.yzwx;
    }
    if params.finish != FINISH_TOTALS {
        y[at] = word;
    }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let g = params.geometry;
    let i = flat_group(group, groups) * 64u + lane;
    let quad = i % g.out_quads;
    let pixel = params.first_pixel + 4u * (i / g.out_quads);
    if pixel >= params.end_pixel {
        return;
    }
    let corner0 = window(pixel);
    let corner1 = window(pixel + 1u);
    let corner2 = window(pixel + 2u);
    let corner3 = window(pixel + 3u);

    var f0 = vec4<i32>();
    var f1 = vec4<i32>();
    var f2 = vec4<i32>();
    var f3 = vec4<i32>();
    var c0 = vec4<i32>();
    var c1 = vec4<i32>();
    var c2 = vec4<i32>();
    var c3 = vec4<i32>();

    let centre = g.kernel_height / 2u * g.kernel_width + g.kernel_width / 2u;
    var tap = 0u;
    for (var dy = 0u; dy < g.kernel_height; dy++) {
        for (var dx = 0u; dx < g.kernel_width; dx++) {
            let q0 = load(corner0, dy, dx, quad);
            let q1 = load(corner1, dy, dx, quad);
            let q2 = load(corner2, dy, dx, quad);
            let q3 = load(corner3, dy, dx, quad);
            let w = unpack4xI8(fine[tap * g.out_quads + quad]);
            f0 += q0 * w;
            f1 += q1 * w;
            f2 += q2 * w;
            f3 += q3 * w;
            if params.coarse == COARSE_FULL || (params.coarse == COARSE_CENTER && tap == centre) {
                let v = unpack4xI8(coarse[select(0u, tap, params.coarse == COARSE_FULL) * g.out_quads + quad]);
                c0 += q0 * v;
                c1 += q1 * v;
                c2 += q2 * v;
                c3 += q3 * v;
            }
            tap += 1u;
        }
    }
    for (var i = 0u; i < 4u; i++) {
        store(pixel + i, quad, f0, c0);
        f0 = f1;
        f1 = f2;
        f2 = f3;
        c0 = c1;
        c1 = c2;
        c2 = c3;
    }
}
