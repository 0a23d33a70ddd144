// What the tiled variants of the f32 convolution share, put in front of both, behind tiles.wgsl:
// their weights.

// Two tiles, one being filled while the other is read: 8 input channels × 16 output quads and 2
// unused ones, so that neighbours write to different banks.
var<workgroup> tile_w: array<vec4<f32>, 288>;

// Weights and bias lie by eights of output channels: so many has a group.
fn eights() -> u32 {
    return (params.geometry.group_out_quads + 1u) / 2u;
}

// Quads of K: taps × input quads of a group.
fn depth_quads() -> u32 {
    return params.geometry.kernel_height * params.geometry.kernel_width * params.geometry.group_in_quads;
}

// The vector of weights that an invocation loads: where it lies, and of which quad of K it is. Past
// the group's end it is one of its last eight.
struct Load {
    at: u32,
    quad: u32,
}

fn first_load(place: Place, lane: u32) -> Load {
    let eight = place.group * eights() + min(place.quad / 2u + lane / 16u, eights() - 1u);
    return Load(eight * depth_quads() * 8u + lane % 16u, lane % 16u / 8u);
}

// Where it goes in a tile.
fn slot(lane: u32) -> u32 {
    return lane % 16u / 2u * 18u + lane / 16u * 2u + (lane & 1u);
}

// The bias of a quad of the group; past the group's end that of its last.
fn bias_of(place: Place, quad: u32) -> vec4<f32> {
    return bias[place.group * eights() * 2u + min(quad, eights() * 2u - 1u)];
}

// Stores a quad of the group, where there is such a pixel and such a quad.
fn store_quad(place: Place, pixel: u32, quad: u32, sum: vec4<f32>) {
    if pixel < params.end_pixel && quad < params.geometry.group_out_quads {
        store(pixel, place.group * params.geometry.group_out_quads + quad, sum);
    }
}
