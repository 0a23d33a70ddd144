// Packed int8 in another order: see src/kernels/rearrange/gather_i8.rs.

struct Params {
    images: u32,
    x_words: u32,
    y_words: u32,
    channels: u32,
    zero_word: u32,
    whole_words: u32,
    unused0: u32,
    unused1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> places: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;

// One invocation for each word of the output.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    let image = i / params.y_words;
    if image >= params.images {
        return;
    }
    let at = i % params.y_words;
    let start = image * params.x_words;
    var word = 0u;
    if params.whole_words != 0u {
        word = x[start + places[at]];
    } else {
        for (var k = 0u; k < 4u; k++) {
            let place = places[4u * at + k];
            word = push_level(word, bitcast<i32>(x[start + place / 4u] >> (8u * (place & 3u))));
        }
    }
    // Padded channels, where these are the last.
    let used = params.channels - 4u * (at % ((params.channels + 3u) / 4u));
    if used < 4u {
        let mask = (1u << (8u * used)) - 1u;
        word = (word & mask) | (params.zero_word & ~mask);
    }
    y[i] = word;
}
