// Convolution of packed int8 with one or two sets of weights as a product of tiles: see src/kernels/conv_i8/tiled.rs.
//
// A workgroup computes 64 pixels × 64 output channels of one group, an invocation 4 × 4: pixels 16 apart and one quad. K runs
// over taps and spans, a span being four quads of a tap; the last span of a tap may be cut. Two spans a tile.

@group(0) @binding(0) var<uniform> params: Int8Params;
// The input twice: by quads, and by spans where those are aligned.
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> x_spans: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> fine: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> coarse: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> channels: array<Channel>;
@group(0) @binding(6) var<storage, read_write> y: array<u32>;

// Two tiles each, one being filled while the other is read. Activations: 64 pixels × 2 spans.
var<workgroup> tile_x: array<vec4<u32>, 256>;

// Weights: 8 quads of input channels × 16 output quads.
var<workgroup> tile_fine: array<vec4<u32>, 256>;
var<workgroup> tile_coarse: array<vec4<u32>, 256>;

// Four output channels of one pixel.
fn dots(q: u32, w: vec4<u32>) -> vec4<i32> {
    return vec4<i32>(dot4I8Packed(q, w.x), dot4I8Packed(q, w.y), dot4I8Packed(q, w.z), dot4I8Packed(q, w.w));
}

// A quad of a span in the image; 0 past the tap's end, where the weights are 0 as well.
fn quad_of(span: u32, first: u32, i: u32) -> u32 {
    let there = span * 4u + i < params.geometry.group_in_quads;
    return select(0u, x[select(0u, first + i, there)], there);
}

// Whether a tile has a span with coarse weights.
fn has_coarse(tile: u32, centre: u32, spans: u32) -> bool {
    return params.coarse == COARSE_FULL
        || (params.coarse == COARSE_CENTER && tile * 2u < centre + spans && tile * 2u + 2u > centre);
}

fn store(pixel: u32, quad: u32, word: u32) {
    if pixel < params.end_pixel && params.finish != FINISH_TOTALS {
        y[pixel * params.geometry.out_quads + quad] = word;
    }
}

// A channel's output of one pixel: its level in front of the three before it, or its total to the buffer.
fn finish(pixel: u32, quad: u32, i: u32, word: u32, channel: Channel, f: i32, c: i32) -> u32 {
    if params.finish == FINISH_TOTALS {
        if pixel < params.end_pixel {
            y[4u * (pixel * params.geometry.out_quads + quad) + i] = bitcast<u32>(channel_total(channel, f, c));
        }
        return 0u;
    }
    return push_level(word, channel_level(params, channel, f, c));
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let g = params.geometry;
    // Workgroups with the same pixels follow each other.
    let columns = (g.group_out_quads + 15u) / 16u;
    let all_columns = g.out_quads / g.group_out_quads * columns;
    let flat = flat_group(group, groups);
    let first = params.first_pixel + flat / all_columns * 64u;
    if first >= params.end_pixel {
        return;
    }
    let conv_group = flat % all_columns / columns;
    let first_quad = flat % columns * 16u;
    let taps = g.kernel_height * g.kernel_width;
    let spans = (g.group_in_quads + 3u) / 4u;
    let centre = (g.kernel_height / 2u * g.kernel_width + g.kernel_width / 2u) * spans;
    let aligned = (g.in_quads | g.group_in_quads) % 4u == 0u;

    // The first half of the invocations loads activations: the span `slot & 1` of a pixel each (the last tile's missing
    // pixels repeat the last one).
    let loads_x = lane < 128u;
    let slot = lane % 128u;
    let p = min(first + slot / 2u, params.end_pixel - 1u);
    var window = vec3<i32>();
    var tap = Tap(p * g.in_quads, true);
    if !is_pointwise(g) {
        window = corner(g, p);
        tap = tap_at(g, window, 0u, 0u);
    }
    let first_in = conv_group * g.group_in_quads;
    var span = slot & 1u;
    var dy = 0u;
    var dx = 0u;
    // The second half loads the weights of an input and an output quad each; past the group's end those of its last output
    // quad.
    let weight_quad = min(first_quad + lane % 16u, g.group_out_quads - 1u);
    let weight_first = conv_group * g.group_out_quads + weight_quad;
    var weight_span = slot / 64u;
    var weight_tap = 0u;

    // What it computes.
    let own_pixel = lane / 16u;
    let own_quad = first_quad + lane % 16u;
    let quad = weight_first;
    let own_centre = centre + own_quad / 4u;
    var f0 = vec4<i32>();
    var f1 = vec4<i32>();
    var f2 = vec4<i32>();
    var f3 = vec4<i32>();
    var c0 = vec4<i32>();
    var c1 = vec4<i32>();
    var c2 = vec4<i32>();
    var c3 = vec4<i32>();

    // Loads of a tile are under way while the tile before it is multiplied: the first turn only loads, the last loads zeros.
    let tiles = (taps * spans + 1u) / 2u;
    for (var tile = 0u; tile <= tiles; tile++) {
        if span >= spans {
            // The next tap; two where a tap has one span.
            while span >= spans {
                span -= spans;
                dx += 1u;
                if dx == g.kernel_width {
                    dx = 0u;
                    dy += 1u;
                }
            }
            tap = tap_at(g, window, dy, dx);
        }
        while weight_span >= spans {
            weight_span -= spans;
            weight_tap += 1u;
        }
        // Outside the image, past the last tap and past a group's quads the first vector is read. Zero points and zeros take its
        // place only where it is stored: nothing waits for a load before the products are under way.
        let inside = tap.inside && dy < g.kernel_height;
        let in_quad = weight_span * 4u + slot / 16u % 4u;
        let there = weight_tap < taps && in_quad < g.group_in_quads;
        let loads_coarse = has_coarse(tile, centre, spans);
        let full = params.coarse == COARSE_FULL;
        let covered = there && (full || weight_tap * spans == centre);
        var load: vec4<u32>;
        var load_coarse: vec4<u32>;
        if loads_x {
            let at = select(0u, tap.base + first_in + span * 4u, inside);
            if aligned {
                load = x_spans[at / 4u];
            } else {
                load = vec4<u32>(
                    quad_of(span, at, 0u),
                    quad_of(span, at, 1u),
                    quad_of(span, at, 2u),
                    quad_of(span, at, 3u),
                );
            }
        } else {
            let at_fine = (weight_tap * g.group_in_quads + in_quad) * g.out_quads + weight_first;
            load = fine[select(0u, at_fine, there)];
            if loads_coarse {
                let at_coarse = select(in_quad * g.out_quads + weight_first, at_fine, full);
                load_coarse = coarse[select(0u, at_coarse, covered)];
            }
        }
        span += 2u;
        weight_span += 2u;

        if tile > 0u {
            let other = ((tile - 1u) & 1u) * 128u;
            let two = has_coarse(tile - 1u, centre, spans);
            for (var k = 0u; k < 2u; k++) {
                let at_x = other + own_pixel * 2u + k;
                let at_w = other + k * 64u + lane % 16u;
                let x0 = tile_x[at_x];
                let x1 = tile_x[at_x + 32u];
                let x2 = tile_x[at_x + 64u];
                let x3 = tile_x[at_x + 96u];
                var w = tile_fine[at_w];
                f0 += dots(x0.x, w);
                f1 += dots(x1.x, w);
                f2 += dots(x2.x, w);
                f3 += dots(x3.x, w);
                w = tile_fine[at_w + 16u];
                f0 += dots(x0.y, w);
                f1 += dots(x1.y, w);
                f2 += dots(x2.y, w);
                f3 += dots(x3.y, w);
                w = tile_fine[at_w + 32u];
                f0 += dots(x0.z, w);
                f1 += dots(x1.z, w);
                f2 += dots(x2.z, w);
                f3 += dots(x3.z, w);
                w = tile_fine[at_w + 48u];
                f0 += dots(x0.w, w);
                f1 += dots(x1.w, w);
                f2 += dots(x2.w, w);
                f3 += dots(x3.w, w);
                if two {
                    w = tile_coarse[at_w];
                    c0 += dots(x0.x, w);
                    c1 += dots(x1.x, w);
                    c2 += dots(x2.x, w);
                    c3 += dots(x3.x, w);
                    w = tile_coarse[at_w + 16u];
                    c0 += dots(x0.y, w);
                    c1 += dots(x1.y, w);
                    c2 += dots(x2.y, w);
                    c3 += dots(x3.y, w);
                    w = tile_coarse[at_w + 32u];
                    c0 += dots(x0.z, w);
                    c1 += dots(x1.z, w);
                    c2 += dots(x2.z, w);
                    c3 += dots(x3.z, w);
                    w = tile_coarse[at_w + 48u];
                    c0 += dots(x0.w, w);
                    c1 += dots(x1.w, w);
                    c2 += dots(x2.w, w);
                    c3 += dots(x3.w, w);
                }
                if params.coarse == COARSE_DIAGONAL && (tile - 1u) * 2u + k == own_centre {
                    // The own channels: input and output have the same quads.
                    let d = vec4<i32>(
                        channels[4u * quad].diagonal,
                        channels[4u * quad + 1u].diagonal,
                        channels[4u * quad + 2u].diagonal,
                        channels[4u * quad + 3u].diagonal,
                    );
                    // From the tile once more: a register cannot be indexed.
                    let i = own_quad % 4u;
                    c0 = d * unpack4xI8(tile_x[at_x][i]);
                    c1 = d * unpack4xI8(tile_x[at_x + 32u][i]);
                    c2 = d * unpack4xI8(tile_x[at_x + 64u][i]);
                    c3 = d * unpack4xI8(tile_x[at_x + 96u][i]);
                }
            }
        }

        let into = (tile & 1u) * 128u + slot;
        if loads_x {
            tile_x[into] = select(vec4<u32>(params.zero_word), load, inside);
        } else {
            tile_fine[into] = select(vec4<u32>(), load, there);
            if loads_coarse {
                tile_coarse[into] = select(vec4<u32>(), load_coarse, covered);
            }
        }
        workgroupBarrier();
    }

    if own_quad >= g.group_out_quads {
        return;
    }
    let pixel = first + own_pixel;
    var w0 = 0u;
    var w1 = 0u;
    var w2 = 0u;
    var w3 = 0u;
    for (var i = 0u; i < 4u; i++) {
        let channel = channels[4u * quad + i];
        w0 = finish(pixel, quad, i, w0, channel, f0.x, c0.x);
        w1 = finish(pixel + 16u, quad, i, w1, channel, f1.x, c1.x);
        w2 = finish(pixel + 32u, quad, i, w2, channel, f2.x, c2.x);
        w3 = finish(pixel + 48u, quad, i, w3, channel, f3.x, c3.x);
        f0 = f0.yzwx;
        f1 = f1.yzwx;
        f2 = f2.yzwx;
        f3 = f3.yzwx;
        c0 = c0.yzwx;
        c1 = c1.yzwx;
        c2 = c2.yzwx;
        c3 = c3.yzwx;
    }
    store(pixel, quad, w0);
    store(pixel + 16u, quad, w1);
    store(pixel + 32u, quad, w2);
    store(pixel + 48u, quad, w3);
}
