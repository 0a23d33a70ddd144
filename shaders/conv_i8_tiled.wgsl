// Convolution of packed int8 with one or two sets of weights as a product of tiles: see
// src/kernels/conv/int8/tiled.rs.
//
// An invocation computes 8 pixels × 4 channels: pixels 8 apart and one quad.

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
    let g = params.geometry;
    let taps = g.kernel_height * g.kernel_width;
    let spans = tap_spans();
    let first_in = place.group * g.group_in_quads;

    // What this invocation loads of a tile: the span `lane & 1` of a pixel, and the weights of an
    // input and an output quad.
    let window = window_of(place.pixel + lane / 2u);
    var tap = window.tap;
    var walk = Walk(lane & 1u, 0u, 0u);
    let quad = weight_quad(place, lane);
    var weights = WeightWalk(lane / 64u, 0u);

    // What it computes.
    let own_pixel = lane / 16u;
    let own_quad = place.quad + lane % 16u;
    let own_centre = centre_span() + own_quad / 4u;
    var f0 = vec4<i32>();
    var f1 = vec4<i32>();
    var f2 = vec4<i32>();
    var f3 = vec4<i32>();
    var f4 = vec4<i32>();
    var f5 = vec4<i32>();
    var f6 = vec4<i32>();
    var f7 = vec4<i32>();
    var c0 = vec4<i32>();
    var c1 = vec4<i32>();
    var c2 = vec4<i32>();
    var c3 = vec4<i32>();
    var c4 = vec4<i32>();
    var c5 = vec4<i32>();
    var c6 = vec4<i32>();
    var c7 = vec4<i32>();

    // Loads of a tile are under way while the tile before it is multiplied: the first turn only
    // loads, the last loads zeros.
    let tiles = (taps * spans + 1u) / 2u;
    for (var tile = 0u; tile <= tiles; tile++) {
        if walk.at >= spans {
            walk = next_tap(walk, spans);
            tap = tap_at(window.corner, walk.dy, walk.dx);
        }
        weights = next_weights(weights);
        // Outside the image, past the last tap and past a group's quads the first vector is read.
        // Zero points and zeros take its place only where it is stored: nothing waits for a load
        // before the products are under way.
        let inside = tap.inside && walk.dy < g.kernel_height;
        let in_quad = weights.span * 4u + lane / 16u % 4u;
        let there = weights.tap < taps && in_quad < g.group_in_quads;
        let loads_coarse = has_coarse(tile);
        let full = params.coarse == COARSE_FULL;
        let covered = there && (full || weights.tap == centre_tap());
        let load_x = load_span(walk.at, select(0u, tap.base + first_in + walk.at * 4u, inside));
        let load_fine = fine[select(0u, weight_at(weights.tap, in_quad, quad), there)];
        var load_coarse: vec4<u32>;
        if loads_coarse {
            load_coarse = coarse[select(0u, weight_at(select(0u, weights.tap, full), in_quad, quad), covered)];
        }
        walk.at += 2u;
        weights.span += 2u;

        if tile > 0u {
            let other = ((tile - 1u) & 1u) * 128u;
            let two = has_coarse(tile - 1u);
            for (var k = 0u; k < 2u; k++) {
                let at_x = other + own_pixel * 2u + k;
                let at_w = other + k * 64u + lane % 16u;
                let x0 = tile_x[at_x];
                let x1 = tile_x[at_x + 16u];
                let x2 = tile_x[at_x + 32u];
                let x3 = tile_x[at_x + 48u];
                let x4 = tile_x[at_x + 64u];
                let x5 = tile_x[at_x + 80u];
                let x6 = tile_x[at_x + 96u];
                let x7 = tile_x[at_x + 112u];
                var w = tile_fine[at_w];
                f0 += dots(x0.x, w);
                f1 += dots(x1.x, w);
                f2 += dots(x2.x, w);
                f3 += dots(x3.x, w);
                f4 += dots(x4.x, w);
                f5 += dots(x5.x, w);
                f6 += dots(x6.x, w);
                f7 += dots(x7.x, w);
                w = tile_fine[at_w + 16u];
                f0 += dots(x0.y, w);
                f1 += dots(x1.y, w);
                f2 += dots(x2.y, w);
                f3 += dots(x3.y, w);
                f4 += dots(x4.y, w);
                f5 += dots(x5.y, w);
                f6 += dots(x6.y, w);
                f7 += dots(x7.y, w);
                w = tile_fine[at_w + 32u];
                f0 += dots(x0.z, w);
                f1 += dots(x1.z, w);
                f2 += dots(x2.z, w);
                f3 += dots(x3.z, w);
                f4 += dots(x4.z, w);
                f5 += dots(x5.z, w);
                f6 += dots(x6.z, w);
                f7 += dots(x7.z, w);
                w = tile_fine[at_w + 48u];
                f0 += dots(x0.w, w);
                f1 += dots(x1.w, w);
                f2 += dots(x2.w, w);
                f3 += dots(x3.w, w);
                f4 += dots(x4.w, w);
                f5 += dots(x5.w, w);
                f6 += dots(x6.w, w);
                f7 += dots(x7.w, w);
                if two {
                    w = tile_coarse[at_w];
                    c0 += dots(x0.x, w);
                    c1 += dots(x1.x, w);
                    c2 += dots(x2.x, w);
                    c3 += dots(x3.x, w);
                    c4 += dots(x4.x, w);
                    c5 += dots(x5.x, w);
                    c6 += dots(x6.x, w);
                    c7 += dots(x7.x, w);
                    w = tile_coarse[at_w + 16u];
                    c0 += dots(x0.y, w);
                    c1 += dots(x1.y, w);
                    c2 += dots(x2.y, w);
                    c3 += dots(x3.y, w);
                    c4 += dots(x4.y, w);
                    c5 += dots(x5.y, w);
                    c6 += dots(x6.y, w);
                    c7 += dots(x7.y, w);
                    w = tile_coarse[at_w + 32u];
                    c0 += dots(x0.z, w);
                    c1 += dots(x1.z, w);
                    c2 += dots(x2.z, w);
                    c3 += dots(x3.z, w);
                    c4 += dots(x4.z, w);
                    c5 += dots(x5.z, w);
                    c6 += dots(x6.z, w);
                    c7 += dots(x7.z, w);
                    w = tile_coarse[at_w + 48u];
                    c0 += dots(x0.w, w);
                    c1 += dots(x1.w, w);
                    c2 += dots(x2.w, w);
                    c3 += dots(x3.w, w);
                    c4 += dots(x4.w, w);
                    c5 += dots(x5.w, w);
                    c6 += dots(x6.w, w);
                    c7 += dots(x7.w, w);
                }
                if params.coarse == COARSE_DIAGONAL && (tile - 1u) * 2u + k == own_centre {
                    let d = diagonal_of(quad);
                    // From the tile once more: a register cannot be indexed.
                    let i = own_quad % 4u;
                    c0 = d * unpack4xI8(tile_x[at_x][i]);
                    c1 = d * unpack4xI8(tile_x[at_x + 16u][i]);
                    c2 = d * unpack4xI8(tile_x[at_x + 32u][i]);
                    c3 = d * unpack4xI8(tile_x[at_x + 48u][i]);
                    c4 = d * unpack4xI8(tile_x[at_x + 64u][i]);
                    c5 = d * unpack4xI8(tile_x[at_x + 80u][i]);
                    c6 = d * unpack4xI8(tile_x[at_x + 96u][i]);
                    c7 = d * unpack4xI8(tile_x[at_x + 112u][i]);
                }
            }
        }

        let into = (tile & 1u) * 128u + lane;
        tile_x[into] = select(vec4<u32>(params.zero_word), load_x, inside);
        tile_fine[into] = select(vec4<u32>(), load_fine, there);
        if loads_coarse {
            tile_coarse[into] = select(vec4<u32>(), load_coarse, covered);
        }
        workgroupBarrier();
    }

    if own_quad >= g.group_out_quads {
        return;
    }
    let pixel = place.pixel + own_pixel;
    var w0 = 0u;
    var w1 = 0u;
    var w2 = 0u;
    var w3 = 0u;
    var w4 = 0u;
    var w5 = 0u;
    var w6 = 0u;
    var w7 = 0u;
    for (var i = 0u; i < 4u; i++) {
        let channel = channels[4u * quad + i];
        w0 = finish(pixel, quad, i, w0, channel, f0.x, c0.x);
        w1 = finish(pixel + 8u, quad, i, w1, channel, f1.x, c1.x);
        w2 = finish(pixel + 16u, quad, i, w2, channel, f2.x, c2.x);
        w3 = finish(pixel + 24u, quad, i, w3, channel, f3.x, c3.x);
        w4 = finish(pixel + 32u, quad, i, w4, channel, f4.x, c4.x);
        w5 = finish(pixel + 40u, quad, i, w5, channel, f5.x, c5.x);
        w6 = finish(pixel + 48u, quad, i, w6, channel, f6.x, c6.x);
        w7 = finish(pixel + 56u, quad, i, w7, channel, f7.x, c7.x);
        f0 = f0.yzwx;
        f1 = f1.yzwx;
        f2 = f2.yzwx;
        f3 = f3.yzwx;
        f4 = f4.yzwx;
        f5 = f5.yzwx;
        f6 = f6.yzwx;
        f7 = f7.yzwx;
        c0 = c0.yzwx;
        c1 = c1.yzwx;
        c2 = c2.yzwx;
        c3 = c3.yzwx;
        c4 = c4.yzwx;
        c5 = c5.yzwx;
        c6 = c6.yzwx;
        c7 = c7.yzwx;
    }
    store(pixel, quad, w0);
    store(pixel + 8u, quad, w1);
    store(pixel + 16u, quad, w2);
    store(pixel + 24u, quad, w3);
    store(pixel + 32u, quad, w4);
    store(pixel + 40u, quad, w5);
    store(pixel + 48u, quad, w6);
    store(pixel + 56u, quad, w7);
}
