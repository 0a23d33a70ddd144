// What the tiled variants of the integer convolution share, put in front of both, behind
// conv_i8.wgsl and tiles.wgsl: see src/kernels/conv/int8/tiled.rs.
//
// A workgroup computes 64 pixels × 64 output channels of one group. K runs over taps and spans, a
// span being four quads of a tap; the last span of a tap may be cut. Two spans a tile.

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

// Spans of a tap.
fn tap_spans() -> u32 {
    return (params.geometry.group_in_quads + 3u) / 4u;
}

// The first span of the centre tap.
fn centre_span() -> u32 {
    return centre_tap() * tap_spans();
}

// Whether a tile has a span with coarse weights.
fn has_coarse(tile: u32) -> bool {
    let centre = centre_span();
    return params.coarse == COARSE_FULL
        || (params.coarse == COARSE_CENTER && tile * 2u < centre + tap_spans() && tile * 2u + 2u > centre);
}

// A quad of a span in the image; 0 past the tap's end, where the weights are 0 as well.
fn quad_of(span: u32, first: u32, i: u32) -> u32 {
    let there = span * 4u + i < params.geometry.group_in_quads;
    return select(0u, x[select(0u, first + i, there)], there);
}

// A span of a tap, which begins at quad `first` of the input.
fn load_span(span: u32, first: u32) -> vec4<u32> {
    if (params.geometry.in_quads | params.geometry.group_in_quads) % 4u == 0u {
        return x_spans[first / 4u];
    }
    return vec4<u32>(
        quad_of(span, first, 0u),
        quad_of(span, first, 1u),
        quad_of(span, first, 2u),
        quad_of(span, first, 3u),
    );
}

// The output quad whose weights an invocation loads; past the group's end it is the group's last.
fn weight_quad(place: Place, lane: u32) -> u32 {
    let quads = params.geometry.group_out_quads;
    return place.group * quads + min(place.quad + lane % 16u, quads - 1u);
}

// How far an invocation is with its loads of weights.
struct WeightWalk {
    span: u32,
    tap: u32,
}

fn next_weights(walk: WeightWalk) -> WeightWalk {
    let spans = tap_spans();
    var next = walk;
    while next.span >= spans {
        next.span -= spans;
        next.tap += 1u;
    }
    return next;
}

// Where the weights of a tap's input quad and an output quad lie.
fn weight_at(tap: u32, in_quad: u32, quad: u32) -> u32 {
    return (tap * params.geometry.group_in_quads + in_quad) * params.geometry.out_quads + quad;
}
