// Convolution of packed int8 with one or two sets of weights: see src/kernels/conv_i8.rs.
// One invocation computes 4 pixels x 4 channels; neighbours in a workgroup have neighbouring channels.

@group(0) @binding(0) var<uniform> params: Int8Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> fine: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> coarse: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> channels: array<Channel>;
@group(0) @binding(5) var<storage, read_write> y: array<u32>;

// The last tile's missing pixels repeat the last one.
fn window(pixel: u32) -> vec3<i32> {
    return corner(params.geometry, min(pixel, params.end_pixel - 1u));
}

// Four input channels of a tap; the zero point outside the image.
fn load(tap: Tap, i: u32) -> u32 {
    return select(params.zero_word, x[tap.base + i], tap.inside);
}

// Four output channels of one pixel.
fn dots(q: u32, w: vec4<u32>) -> vec4<i32> {
    return vec4<i32>(dot4I8Packed(q, w.x), dot4I8Packed(q, w.y), dot4I8Packed(q, w.z), dot4I8Packed(q, w.w));
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
    let first_quad = quad / g.group_out_quads * g.group_in_quads;
    let end_quad = first_quad + g.group_in_quads;

    var f0 = vec4<i32>();
    var f1 = vec4<i32>();
    var f2 = vec4<i32>();
    var f3 = vec4<i32>();
    var c0 = vec4<i32>();
    var c1 = vec4<i32>();
    var c2 = vec4<i32>();
    var c3 = vec4<i32>();

    let stride = g.out_quads;
    let centre = g.kernel_height / 2u * g.kernel_width + g.kernel_width / 2u;
    var tap = 0u;
    var at = quad;
    for (var dy = 0u; dy < g.kernel_height; dy++) {
        for (var dx = 0u; dx < g.kernel_width; dx++) {
            let tap0 = tap_at(g, corner0, dy, dx);
            let tap1 = tap_at(g, corner1, dy, dx);
            let tap2 = tap_at(g, corner2, dy, dx);
            let tap3 = tap_at(g, corner3, dy, dx);
            let is_centre = tap == centre;
            if params.coarse == COARSE_FULL || (params.coarse == COARSE_CENTER && is_centre) {
                var at_coarse = select(quad, at, params.coarse == COARSE_FULL);
                for (var k = first_quad; k < end_quad; k++) {
                    let q0 = load(tap0, k);
                    let q1 = load(tap1, k);
                    let q2 = load(tap2, k);
                    let q3 = load(tap3, k);
                    let w = fine[at];
                    f0 += dots(q0, w);
                    f1 += dots(q1, w);
                    f2 += dots(q2, w);
                    f3 += dots(q3, w);
                    let v = coarse[at_coarse];
                    c0 += dots(q0, v);
                    c1 += dots(q1, v);
                    c2 += dots(q2, v);
                    c3 += dots(q3, v);
                    at += stride;
                    at_coarse += stride;
                }
            } else {
                for (var k = first_quad; k < end_quad; k++) {
                    let w = fine[at];
                    f0 += dots(load(tap0, k), w);
                    f1 += dots(load(tap1, k), w);
                    f2 += dots(load(tap2, k), w);
                    f3 += dots(load(tap3, k), w);
                    at += stride;
                }
                if params.coarse == COARSE_DIAGONAL && is_centre {
                    // The own channels: input and output have the same quads.
                    let d = vec4<i32>(
                        channels[4u * quad].diagonal,
                        channels[4u * quad + 1u].diagonal,
                        channels[4u * quad + 2u].diagonal,
                        channels[4u * quad + 3u].diagonal,
                    );
                    c0 = d * unpack4xI8(load(tap0, quad));
                    c1 = d * unpack4xI8(load(tap1, quad));
                    c2 = d * unpack4xI8(load(tap2, quad));
                    c3 = d * unpack4xI8(load(tap3, quad));
                }
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
