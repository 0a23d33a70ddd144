// Packed int8 through a table: see src/kernels/function/lookup_i8.rs.

struct Params {
    words: u32,
    quads: u32,
    channels: u32,
    zero_point: i32,
    // From one channel's table to the next.
    step: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
// What becomes of each level, four to a word, that of -128 first.
@group(0) @binding(2) var<storage, read> table: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;

// One invocation for each word.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    if i >= params.words {
        return;
    }
    let levels = x[i];
    let channel = 4u * (i % params.quads);
    var word = 0u;
    for (var k = 0u; k < 4u; k++) {
        // A level counted from -128 is its byte with the sign turned.
        let entry = ((levels >> (8u * k)) & 0xffu) ^ 0x80u;
        // A padded channel's level is not used; it reads the first table.
        let begin = select(0u, (channel + k) * params.step, channel + k < params.channels);
        let level = (table[begin + entry / 4u] >> (8u * (entry & 3u))) & 0xffu;
        word = push_level(word, select(params.zero_point, i32(level), channel + k < params.channels));
    }
    y[i] = word;
}
