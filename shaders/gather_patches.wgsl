// The patches of a layer's input as a matrix of bytes: see src/kernels/patches/gather_patches.rs.
//
// An invocation gathers a quad of channels at one tap of four patches: a word of four rows in each
// plane.

struct Params {
    height: u32,
    width: u32,
    // Channels, and fours of them.
    channels: u32,
    quads: u32,
    kernel_width: u32,
    taps: u32,
    // Patches of an image; the first one to gather and the end, counted over the batch.
    places: u32,
    first: u32,
    end: u32,
    // Words of a row that are written, and from row to row; words of a plane.
    words: u32,
    stride: u32,
    plane: u32,
    // The zero point in all four bytes.
    zero_word: u32,
    // The scale is divisor * 2^e with 2^23 <= divisor < 2^24; exponent is e + 150 - 6, for 64 steps.
    divisor: u32,
    exponent: i32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> corners: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> q: array<u32>;
// Bits, not floats: a GPU may flush subnormal floats to zero, and divides as it likes.
@group(0) @binding(3) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> y: array<u32>;

// round(64·x/scale), half to even, limited to two signed bytes: long division, so exact.
fn steps(bits: u32) -> i32 {
    let magnitude = bits & 0x7FFFFFFFu;
    let negative = bits != magnitude;
    if magnitude == 0u || magnitude > 0x7F800000u {
        return 0;
    }
    var rest = magnitude & 0x7FFFFFu;
    var exponent = i32(magnitude >> 23u);
    if exponent == 0 {
        let up = countLeadingZeros(rest) - 8u;
        rest <<= up;
        exponent = 1 - i32(up);
    } else {
        rest |= 0x800000u;
    }
    // rest/divisor is between 1/2 and 2, and what is wanted that times 2^power.
    let power = exponent - params.exponent;
    if power < -1 {
        return 0;
    }
    if power > 16 || magnitude == 0x7F800000u {
        return select(32639, -32768, negative);
    }
    var quotient = 0u;
    for (var i = 0; i <= power; i++) {
        let more = rest >= params.divisor;
        quotient = 2u * quotient + u32(more);
        rest = 2u * (rest - select(0u, params.divisor, more));
    }
    // What is left over is rest/(2·divisor).
    quotient += u32(rest > params.divisor || (rest == params.divisor && (quotient & 1u) == 1u));
    return select(min(i32(quotient), 32639), max(-i32(quotient), -32768), negative);
}

// A byte of each of four vectors, the first lowest.
fn four(a: vec4<i32>, b: vec4<i32>, c: vec4<i32>, d: vec4<i32>) -> vec4<u32> {
    let low = bitcast<vec4<u32>>(a & vec4<i32>(255)) | (bitcast<vec4<u32>>(b & vec4<i32>(255)) << vec4<u32>(8u));
    return low | (bitcast<vec4<u32>>(c & vec4<i32>(255)) << vec4<u32>(16u)) | (bitcast<vec4<u32>>(d) << vec4<u32>(24u));
}

// Levels and steps of four channels.
struct Quad {
    q: vec4<i32>,
    u: vec4<i32>,
}

// Of a patch: those of the image, outside of it the level of 0 and 0, past the last patch zeros.
fn load(patch_index: u32, dy: u32, dx: u32, quad: u32) -> Quad {
    if patch_index >= params.end {
        return Quad(vec4<i32>(), vec4<i32>());
    }
    // A corner above or left of the image wraps around, beyond any side.
    let corner = corners[patch_index % params.places];
    let row = corner.x + dy;
    let column = corner.y + dx;
    if row >= params.height || column >= params.width {
        return Quad(unpack4xI8(params.zero_word), vec4<i32>());
    }
    let pixel = (patch_index / params.places * params.height + row) * params.width + column;
    let at = pixel * params.quads + quad;
    let bits = x[at];
    return Quad(unpack4xI8(q[at]), vec4<i32>(steps(bits.x), steps(bits.y), steps(bits.z), steps(bits.w)));
}

// The lower byte as a signed number.
fn low_byte(u: vec4<i32>) -> vec4<i32> {
    return (u << vec4<u32>(24u)) >> vec4<u32>(24u);
}

fn high_byte(u: vec4<i32>) -> vec4<i32> {
    return (u - low_byte(u)) >> vec4<u32>(8u);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    let word = i % params.words;
    let tap = i / params.words % params.taps;
    let quad = i / params.words / params.taps;
    if quad >= params.quads {
        return;
    }
    let dy = tap / params.kernel_width;
    let dx = tap % params.kernel_width;
    let first = params.first + 4u * word;
    let a = load(first, dy, dx, quad);
    let b = load(first + 1u, dy, dx, quad);
    let c = load(first + 2u, dy, dx, quad);
    let d = load(first + 3u, dy, dx, quad);
    var levels = four(a.q, b.q, c.q, d.q);
    var high = four(high_byte(a.u), high_byte(b.u), high_byte(c.u), high_byte(d.u));
    var low = four(a.u, b.u, c.u, d.u);
    for (var k = 0u; k < 4u; k++) {
        let channel = 4u * quad + k;
        if channel < params.channels {
            let at = (channel * params.taps + tap) * params.stride + word;
            y[at] = levels.x;
            y[at + params.plane] = high.x;
            y[at + 2u * params.plane] = low.x;
        }
        levels = levels.yzwx;
        high = high.yzwx;
        low = low.yzwx;
    }
}
