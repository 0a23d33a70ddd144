// Convolution of packed int8 with one or two sets of weights: see src/kernels/conv/int8/direct.rs.

@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> fine: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> coarse: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> channels: array<Channel>;
@group(0) @binding(5) var<storage, read_write> y: array<u32>;

// Four input channels of a tap; the zero point outside the image.
fn load(tap: Tap, i: u32) -> u32 {
    return select(params.zero_word, x[tap.base + i], tap.inside);
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
    let corner0 = corner(pixel);
    let corner1 = corner(pixel + 1u);
    let corner2 = corner(pixel + 2u);
    let corner3 = corner(pixel + 3u);
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
    let centre = centre_tap();
    var tap = 0u;
    var at = quad;
    for (var dy = 0u; dy < g.kernel_height; dy++) {
        for (var dx = 0u; dx < g.kernel_width; dx++) {
            let tap0 = tap_at(corner0, dy, dx);
            let tap1 = tap_at(corner1, dy, dx);
            let tap2 = tap_at(corner2, dy, dx);
            let tap3 = tap_at(corner3, dy, dx);
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
                    let d = diagonal_of(quad);
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
        store_quad(pixel + i, quad, f0, c0);
        f0 = f1;
        f1 = f2;
        f2 = f3;
        c0 = c1;
        c1 = c2;
        c2 = c3;
    }
}
