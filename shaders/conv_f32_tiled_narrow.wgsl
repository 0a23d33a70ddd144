// Convolution in f32 as a product of tiles (implicit GEMM): see src/kernels/conv/float/tiled.rs.
//
// A workgroup computes 64 pixels × 64 output channels of one group, an invocation 8 × 4: pixels 8
// apart, and one quad of channels. K runs over taps and input quads, two quads a tile.

// Activations, two tiles: 64 pixels × 2 quads.
var<workgroup> tile_x: array<vec4<f32>, 256>;

@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = place_of(flat_group(group, groups), 64u);
    if place.pixel >= params.end_pixel {
        return;
    }
    let in_quads = params.geometry.group_in_quads;
    let first_in = place.group * in_quads;
    let depth = depth_quads();

    // What this invocation loads of a tile: the quad `lane & 1` of a pixel, and one vector of
    // weights.
    let window = window_of(place.pixel + lane / 2u);
    var tap = window.tap;
    var walk = Walk(lane & 1u, 0u, 0u);
    var load = first_load(place, lane);
    let to_w = slot(lane);

    // What it computes.
    let own_pixel = lane / 16u;
    let own_quad = place.quad + lane % 16u;
    var a0 = bias_of(place, own_quad);
    var a1 = a0;
    var a2 = a0;
    var a3 = a0;
    var a4 = a0;
    var a5 = a0;
    var a6 = a0;
    var a7 = a0;

    // Loads of a tile are under way while the tile before it is multiplied: the first turn only
    // loads, the last loads zeros.
    let tiles = (depth + 1u) / 2u;
    for (var tile = 0u; tile <= tiles; tile++) {
        if walk.at >= in_quads {
            walk = next_tap(walk, in_quads);
            tap = tap_at(window.corner, walk.dy, walk.dx);
        }
        // Taps outside the image, and what is past the last tap, read the first vector. It becomes
        // 0 only where it is stored: nothing waits for a load before the products are under way.
        let ix = tap.inside && walk.dy < params.geometry.kernel_height;
        let iw = load.quad < depth;
        let load_x = x[select(0u, tap.base + first_in + walk.at, ix)];
        let load_w = weights[select(0u, load.at, iw)];
        walk.at += 2u;
        load.quad += 2u;
        load.at += 16u;

        if tile > 0u {
            var at_x = ((tile - 1u) & 1u) * 128u + own_pixel * 2u;
            var at_w = ((tile - 1u) & 1u) * 144u + lane % 16u;
            for (var k = 0u; k < 2u; k++) {
                let x0 = tile_x[at_x];
                let x1 = tile_x[at_x + 16u];
                let x2 = tile_x[at_x + 32u];
                let x3 = tile_x[at_x + 48u];
                let x4 = tile_x[at_x + 64u];
                let x5 = tile_x[at_x + 80u];
                let x6 = tile_x[at_x + 96u];
                let x7 = tile_x[at_x + 112u];
                var w = tile_w[at_w];
                a0 = fma(w, x0.xxxx, a0);
                a1 = fma(w, x1.xxxx, a1);
                a2 = fma(w, x2.xxxx, a2);
                a3 = fma(w, x3.xxxx, a3);
                a4 = fma(w, x4.xxxx, a4);
                a5 = fma(w, x5.xxxx, a5);
                a6 = fma(w, x6.xxxx, a6);
                a7 = fma(w, x7.xxxx, a7);
                w = tile_w[at_w + 18u];
                a0 = fma(w, x0.yyyy, a0);
                a1 = fma(w, x1.yyyy, a1);
                a2 = fma(w, x2.yyyy, a2);
                a3 = fma(w, x3.yyyy, a3);
                a4 = fma(w, x4.yyyy, a4);
                a5 = fma(w, x5.yyyy, a5);
                a6 = fma(w, x6.yyyy, a6);
                a7 = fma(w, x7.yyyy, a7);
                w = tile_w[at_w + 36u];
                a0 = fma(w, x0.zzzz, a0);
                a1 = fma(w, x1.zzzz, a1);
                a2 = fma(w, x2.zzzz, a2);
                a3 = fma(w, x3.zzzz, a3);
                a4 = fma(w, x4.zzzz, a4);
                a5 = fma(w, x5.zzzz, a5);
                a6 = fma(w, x6.zzzz, a6);
                a7 = fma(w, x7.zzzz, a7);
                w = tile_w[at_w + 54u];
                a0 = fma(w, x0.wwww, a0);
                a1 = fma(w, x1.wwww, a1);
                a2 = fma(w, x2.wwww, a2);
                a3 = fma(w, x3.wwww, a3);
                a4 = fma(w, x4.wwww, a4);
                a5 = fma(w, x5.wwww, a5);
                a6 = fma(w, x6.wwww, a6);
                a7 = fma(w, x7.wwww, a7);
                at_x += 1u;
                at_w += 72u;
            }
        }

        tile_x[(tile & 1u) * 128u + lane] = select(vec4<f32>(0.0), load_x, ix);
        tile_w[(tile & 1u) * 144u + to_w] = select(vec4<f32>(0.0), load_w, iw);
        workgroupBarrier();
    }

    let pixel = place.pixel + own_pixel;
    store_quad(place, pixel, own_quad, a0);
    store_quad(place, pixel + 8u, own_quad, a1);
    store_quad(place, pixel + 16u, own_quad, a2);
    store_quad(place, pixel + 24u, own_quad, a3);
    store_quad(place, pixel + 32u, own_quad, a4);
    store_quad(place, pixel + 40u, own_quad, a5);
    store_quad(place, pixel + 48u, own_quad, a6);
    store_quad(place, pixel + 56u, own_quad, a7);
    finish(lane);
}
