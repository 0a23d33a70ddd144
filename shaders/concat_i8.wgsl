// Packed int8 into a box of the output, through a table: see src/kernels/concat/concat_i8.rs.

struct Params {
    images: u32,
    x_height: u32,
    x_width: u32,
    x_channels: u32,
    y_height: u32,
    y_width: u32,
    channels: u32,
    first_channel: u32,
    first_row: u32,
    first_column: u32,
    zero_point: i32,
    tabled: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
// What becomes of each level, four to a word, that of -128 first.
@group(0) @binding(2) var<storage, read> table: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;

fn byte_of(word: u32, index: u32) -> u32 {
    return (word >> (8u * (index & 3u))) & 0xffu;
}

// What becomes of a level in the lowest byte.
fn mapped(level: u32) -> u32 {
    let entry = level ^ 0x80u;
    return select(level, byte_of(table[entry / 4u], entry), params.tabled != 0u);
}

// One invocation for each pixel of the input and four channels of the output.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    let end_channel = params.first_channel + params.x_channels;
    let first_quad = params.first_channel / 4u;
    let quads = (end_channel + 3u) / 4u - first_quad;
    let pixel = i / quads;
    let x_row = pixel / params.x_width;
    let image = x_row / params.x_height;
    if image >= params.images {
        return;
    }
    let row = image * params.y_height + params.first_row + x_row % params.x_height;
    let column = params.first_column + pixel % params.x_width;
    let quad = first_quad + i % quads;
    let at = (row * params.y_width + column) * ((params.channels + 3u) / 4u) + quad;
    let start = pixel * ((params.x_channels + 3u) / 4u);
    let c = 4u * quad;
    let whole = (params.first_channel & 3u) == 0u && c + 4u <= end_channel;
    if whole && params.tabled == 0u {
        y[at] = x[start + (c - params.first_channel) / 4u];
        return;
    }
    // Channels of other inputs stay; where all four are written, nothing is read.
    var old = 0u;
    if c < params.first_channel || (c + 4u > end_channel && end_channel < params.channels) {
        old = y[at];
    }
    var word = 0u;
    for (var k = 0u; k < 4u; k++) {
        let channel = c + k;
        var level = byte_of(old, k);
        if channel >= params.channels {
            level = bitcast<u32>(params.zero_point);
        } else if channel >= params.first_channel && channel < end_channel {
            let own = channel - params.first_channel;
            level = mapped(byte_of(x[start + own / 4u], own));
        }
        word = push_level(word, bitcast<i32>(level));
    }
    y[at] = word;
}
