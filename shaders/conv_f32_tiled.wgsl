// Convolution in f32 as a product of tiles (implicit GEMM): see src/kernels/conv/float/tiled.rs.
//
// A workgroup computes 128 pixels × 64 output channels of one group, an invocation 8 × 8: pixels 16
// apart, and two quads of channels 8 apart. K runs over taps and input quads, two quads a tile.

// Activations, two tiles: 128 pixels × 2 quads.
var<workgroup> tile_x: array<vec4<f32>, 512>;

@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = place_of(flat_group(group, groups), 128u);
    if place.pixel >= params.end_pixel {
        return;
    }
    let in_quads = params.geometry.group_in_quads;
    let first_in = place.group * in_quads;
    let depth = depth_quads();

    // What this invocation loads of a tile: the quad `lane & 1` of two pixels, and one vector of
    // weights.
    let window0 = window_of(place.pixel + lane / 2u);
    let window1 = window_of(place.pixel + lane / 2u + 64u);
    var tap0 = window0.tap;
    var tap1 = window1.tap;
    var walk = Walk(lane & 1u, 0u, 0u);
    var load = first_load(place, lane);
    let to_w = slot(lane);

    // What it computes.
    let own_pixel = lane / 8u;
    let own_quad = place.quad + lane % 8u;
    var a0 = bias_of(place, own_quad);
    var b0 = bias_of(place, own_quad + 8u);
    var a1 = a0;
    var b1 = b0;
    var a2 = a0;
    var b2 = b0;
    var a3 = a0;
    var b3 = b0;
    var a4 = a0;
    var b4 = b0;
    var a5 = a0;
    var b5 = b0;
    var a6 = a0;
    var b6 = b0;
    var a7 = a0;
    var b7 = b0;

    // Loads of a tile are under way while the tile before it is multiplied: the first turn only
    // loads, the last loads zeros.
    let tiles = (depth + 1u) / 2u;
    for (var tile = 0u; tile <= tiles; tile++) {
        if walk.at >= in_quads {
            walk = next_tap(walk, in_quads);
            tap0 = tap_at(window0.corner, walk.dy, walk.dx);
            tap1 = tap_at(window1.corner, walk.dy, walk.dx);
        }
        // Taps outside the image, and what is past the last tap, read the first vector. It becomes
        // 0 only where it is stored: nothing waits for a load before the products are under way.
        let i0 = tap0.inside && walk.dy < params.geometry.kernel_height;
        let i1 = tap1.inside && walk.dy < params.geometry.kernel_height;
        let iw = load.quad < depth;
        let load0 = x[select(0u, tap0.base + first_in + walk.at, i0)];
        let load1 = x[select(0u, tap1.base + first_in + walk.at, i1)];
        let load_w = weights[select(0u, load.at, iw)];
        walk.at += 2u;
        load.quad += 2u;
        load.at += 16u;

        if tile > 0u {
            var at_x = ((tile - 1u) & 1u) * 256u + own_pixel * 2u;
            var at_w = ((tile - 1u) & 1u) * 144u + lane % 8u;
            for (var k = 0u; k < 2u; k++) {
                let x0 = tile_x[at_x];
                let x1 = tile_x[at_x + 32u];
                let x2 = tile_x[at_x + 64u];
                let x3 = tile_x[at_x + 96u];
                let x4 = tile_x[at_x + 128u];
                let x5 = tile_x[at_x + 160u];
                let x6 = tile_x[at_x + 192u];
                let x7 = tile_x[at_x + 224u];
                var u = tile_w[at_w];
                var v = tile_w[at_w + 8u];
                a0 = fma(u, x0.xxxx, a0);
                b0 = fma(v, x0.xxxx, b0);
                a1 = fma(u, x1.xxxx, a1);
                b1 = fma(v, x1.xxxx, b1);
                a2 = fma(u, x2.xxxx, a2);
                b2 = fma(v, x2.xxxx, b2);
                a3 = fma(u, x3.xxxx, a3);
                b3 = fma(v, x3.xxxx, b3);
                a4 = fma(u, x4.xxxx, a4);
                b4 = fma(v, x4.xxxx, b4);
                a5 = fma(u, x5.xxxx, a5);
                b5 = fma(v, x5.xxxx, b5);
                a6 = fma(u, x6.xxxx, a6);
                b6 = fma(v, x6.xxxx, b6);
                a7 = fma(u, x7.xxxx, a7);
                b7 = fma(v, x7.xxxx, b7);
                u = tile_w[at_w + 18u];
                v = tile_w[at_w + 26u];
                a0 = fma(u, x0.yyyy, a0);
                b0 = fma(v, x0.yyyy, b0);
                a1 = fma(u, x1.yyyy, a1);
                b1 = fma(v, x1.yyyy, b1);
                a2 = fma(u, x2.yyyy, a2);
                b2 = fma(v, x2.yyyy, b2);
                a3 = fma(u, x3.yyyy, a3);
                b3 = fma(v, x3.yyyy, b3);
                a4 = fma(u, x4.yyyy, a4);
                b4 = fma(v, x4.yyyy, b4);
                a5 = fma(u, x5.yyyy, a5);
                b5 = fma(v, x5.yyyy, b5);
                a6 = fma(u, x6.yyyy, a6);
                b6 = fma(v, x6.yyyy, b6);
                a7 = fma(u, x7.yyyy, a7);
                b7 = fma(v, x7.yyyy, b7);
                u = tile_w[at_w + 36u];
                v = tile_w[at_w + 44u];
                a0 = fma(u, x0.zzzz, a0);
                b0 = fma(v, x0.zzzz, b0);
                a1 = fma(u, x1.zzzz, a1);
                b1 = fma(v, x1.zzzz, b1);
                a2 = fma(u, x2.zzzz, a2);
                b2 = fma(v, x2.zzzz, b2);
                a3 = fma(u, x3.zzzz, a3);
                b3 = fma(v, x3.zzzz, b3);
                a4 = fma(u, x4.zzzz, a4);
                b4 = fma(v, x4.zzzz, b4);
                a5 = fma(u, x5.zzzz, a5);
                b5 = fma(v, x5.zzzz, b5);
                a6 = fma(u, x6.zzzz, a6);
                b6 = fma(v, x6.zzzz, b6);
                a7 = fma(u, x7.zzzz, a7);
                b7 = fma(v, x7.zzzz, b7);
                u = tile_w[at_w + 54u];
                v = tile_w[at_w + 62u];
                a0 = fma(u, x0.wwww, a0);
                b0 = fma(v, x0.wwww, b0);
                a1 = fma(u, x1.wwww, a1);
                b1 = fma(v, x1.wwww, b1);
                a2 = fma(u, x2.wwww, a2);
                b2 = fma(v, x2.wwww, b2);
                a3 = fma(u, x3.wwww, a3);
                b3 = fma(v, x3.wwww, b3);
                a4 = fma(u, x4.wwww, a4);
                b4 = fma(v, x4.wwww, b4);
                a5 = fma(u, x5.wwww, a5);
                b5 = fma(v, x5.wwww, b5);
                a6 = fma(u, x6.wwww, a6);
                b6 = fma(v, x6.wwww, b6);
                a7 = fma(u, x7.wwww, a7);
                b7 = fma(v, x7.wwww, b7);
                at_x += 1u;
                at_w += 72u;
            }
        }

        let to_x = (tile & 1u) * 256u + lane;
        tile_x[to_x] = select(vec4<f32>(0.0), load0, i0);
        tile_x[to_x + 128u] = select(vec4<f32>(0.0), load1, i1);
        tile_w[(tile & 1u) * 144u + to_w] = select(vec4<f32>(0.0), load_w, iw);
        workgroupBarrier();
    }

    let pixel = place.pixel + own_pixel;
    store_quad(place, pixel, own_quad, a0);
    store_quad(place, pixel, own_quad + 8u, b0);
    store_quad(place, pixel + 16u, own_quad, a1);
    store_quad(place, pixel + 16u, own_quad + 8u, b1);
    store_quad(place, pixel + 32u, own_quad, a2);
    store_quad(place, pixel + 32u, own_quad + 8u, b2);
    store_quad(place, pixel + 48u, own_quad, a3);
    store_quad(place, pixel + 48u, own_quad + 8u, b3);
    store_quad(place, pixel + 64u, own_quad, a4);
    store_quad(place, pixel + 64u, own_quad + 8u, b4);
    store_quad(place, pixel + 80u, own_quad, a5);
    store_quad(place, pixel + 80u, own_quad + 8u, b5);
    store_quad(place, pixel + 96u, own_quad, a6);
    store_quad(place, pixel + 96u, own_quad + 8u, b6);
    store_quad(place, pixel + 112u, own_quad, a7);
    store_quad(place, pixel + 112u, own_quad + 8u, b7);
    finish(lane);
}
