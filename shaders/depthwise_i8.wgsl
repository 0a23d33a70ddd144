// Depthwise convolution of packed int8 with one or two sets of weights: see
// src/kernels/conv/int8/depthwise.rs.

@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> fine: array<u32>;
@group(0) @binding(3) var<storage, read> coarse: array<u32>;
@group(0) @binding(4) var<storage, read> channels: array<Channel>;
@group(0) @binding(5) var<storage, read_write> y: array<u32>;

// Four channels of a tap; the zero point outside the image.
fn load(corner: vec3<u32>, dy: u32, dx: u32, quad: u32) -> vec4<i32> {
    let tap = tap_at(corner, dy, dx);
    return unpack4xI8(select(params.zero_word, x[tap.base + quad], tap.inside));
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

    var f0 = vec4<i32>();
    var f1 = vec4<i32>();
    var f2 = vec4<i32>();
    var f3 = vec4<i32>();
    var c0 = vec4<i32>();
    var c1 = vec4<i32>();
    var c2 = vec4<i32>();
    var c3 = vec4<i32>();

    let centre = centre_tap();
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
        store_quad(pixel + i, quad, f0, c0);
        f0 = f1;
        f1 = f2;
        f2 = f3;
        c0 = c1;
        c1 = c2;
        c2 = c3;
    }
}
