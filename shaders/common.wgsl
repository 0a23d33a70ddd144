// Functions that all shaders share; put in front of each of them.

// The flat index of a workgroup whose grid was folded into two dimensions (`groups_for` on the host).
fn flat_group(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.x + group.y * groups.x;
}

// Sizes of a convolution, channels in fours: `Geometry` on the host.
struct Geometry {
    images: u32,
    in_height: u32,
    in_width: u32,
    in_quads: u32,
    out_height: u32,
    out_width: u32,
    out_quads: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride_y: u32,
    stride_x: u32,
    pad_y: u32,
    pad_x: u32,
    group_in_quads: u32,
    group_out_quads: u32,
    out_last: u32,
}

// Whether an output pixel reads the input pixel of the same index alone.
fn is_pointwise(g: Geometry) -> bool {
    return (g.kernel_height * g.kernel_width * g.stride_y * g.stride_x) == 1u && (g.pad_y | g.pad_x) == 0u;
}

// Where the window of an output pixel begins: row, column (both may lie outside) and the image's first pixel.
fn corner(g: Geometry, pixel: u32) -> vec3<i32> {
    let row = pixel / g.out_width;
    let image = row / g.out_height;
    let top = i32((row % g.out_height) * g.stride_y) - i32(g.pad_y);
    let left = i32((pixel % g.out_width) * g.stride_x) - i32(g.pad_x);
    return vec3<i32>(top, left, i32(image * g.in_height * g.in_width));
}

// The first quad that a tap of a window reads, and whether the tap is inside the image; 0 and false where it is not.
struct Tap {
    base: u32,
    inside: bool,
}

fn tap_at(g: Geometry, c: vec3<i32>, dy: u32, dx: u32) -> Tap {
    let row = c.x + i32(dy);
    let column = c.y + i32(dx);
    let inside = row >= 0 && row < i32(g.in_height) && column >= 0 && column < i32(g.in_width);
    return Tap(select(0u, u32(c.z + row * i32(g.in_width) + column) * g.in_quads, inside), inside);
}

// Parameters of the integer convolutions: `Params` in src/kernels/int8.rs.
struct Int8Params {
    geometry: Geometry,
    zero_word: u32,
    zero_point: i32,
    low: i32,
    high: i32,
    coarse: u32,
    finish: u32,
    first_pixel: u32,
    end_pixel: u32,
}

// What the coarse weights cover (0: nothing).
const COARSE_CENTER: u32 = 1u;
const COARSE_DIAGONAL: u32 = 2u;
const COARSE_FULL: u32 = 3u;

// What becomes of the totals (0: one total, requantized).
const FINISH_TWO: u32 = 1u;
const FINISH_TOTALS: u32 = 2u;

// Constants of an output channel: `Channel` in src/kernels/int8.rs.
struct Channel {
    bias: i32,
    multiplier: i32,
    right_shift: u32,
    shift: u32,
    coarse_bias: i32,
    coarse_multiplier: i32,
    diagonal: i32,
    unused: i32,
}

fn channel_total(channel: Channel, f: i32, c: i32) -> i32 {
    return f + channel.bias + (c << channel.shift);
}

// The level of an output from its fine and coarse totals without biases.
fn channel_level(p: Int8Params, channel: Channel, f: i32, c: i32) -> i32 {
    let n = channel.right_shift;
    var steps: i32;
    if p.finish == FINISH_TWO {
        let scaled_c = wide_product(c + channel.coarse_bias, channel.coarse_multiplier);
        steps = wide_rounding_shift(wide_add(scaled_c, wide_product(f + channel.bias, channel.multiplier)), n);
    } else {
        let scaled = wide_product(channel_total(channel, f, c), channel.multiplier);
        if n > 32u {
            // Half a step is a multiple of 2^32, so the lowest word has no part in the result; nearly every layer comes
            // here. The middle word is within +-2^30.
            steps = (bitcast<i32>(scaled.y) + (1 << (n - 33u))) >> (n - 32u);
        } else {
            steps = wide_rounding_shift(scaled, n);
        }
    }
    return clamp(p.zero_point + steps, p.low, p.high);
}

// Puts a level in front of the three before it; after four, the first is in the lowest byte.
fn push_level(word: u32, level: i32) -> u32 {
    return (word >> 8u) | (bitcast<u32>(level) << 24u);
}

// Integers of 96 bits in two's complement, lowest word first: WGSL has none above 32, and the sum of two 64-bit products
// with its rounding term needs 65.

fn wide_add(p: vec3<u32>, q: vec3<u32>) -> vec3<u32> {
    let low = p.x + q.x;
    let carry = u32(low < p.x);
    let sum = p.y + q.y;
    let middle = sum + carry;
    let high = p.z + q.z + u32(sum < p.y) + u32(middle < sum);
    return vec3<u32>(low, middle, high);
}

// The exact product of two signed integers, from 16-bit halves.
fn wide_product(a: i32, b: i32) -> vec3<u32> {
    let p = bitcast<u32>(a);
    let q = bitcast<u32>(b);
    let low_low = (p & 0xffffu) * (q & 0xffffu);
    let high_low = (p >> 16u) * (q & 0xffffu) + (low_low >> 16u);
    let low_high = (p & 0xffffu) * (q >> 16u) + (high_low & 0xffffu);
    var high = (p >> 16u) * (q >> 16u) + (high_low >> 16u) + (low_high >> 16u);
    // As signed numbers p and q are less by 2^32 where their sign bit is set.
    high -= select(0u, q, a < 0) + select(0u, p, b < 0);
    return vec3<u32>(p * q, high, bitcast<u32>(bitcast<i32>(high) >> 31u));
}

// (v + 2^(n-1)) >> n with 1 <= n <= 62, limited to +-2^24: far outside of int8, and a zero point can still be added.
fn wide_rounding_shift(v: vec3<u32>, n: u32) -> i32 {
    let bit = 1u << ((n - 1u) & 31u);
    let s = wide_add(v, select(vec3<u32>(0u, bit, 0u), vec3<u32>(bit, 0u, 0u), n <= 32u));
    let sign = bitcast<u32>(bitcast<i32>(s.z) >> 31u);
    let whole = n >= 32u;
    let low = select(s.x, s.y, whole);
    let middle = select(s.y, s.z, whole);
    let high = select(s.z, sign, whole);
    let m = n & 31u;
    // Two steps on the left: a shift by 32 is not defined.
    let quotient = bitcast<i32>((low >> m) | ((middle << 1u) << (31u - m)));
    let rest = (middle >> m) | ((high << 1u) << (31u - m));
    let fits = rest == bitcast<u32>(quotient >> 31u);
    return clamp(select(select(0x1000000, -0x1000000, sign != 0u), quotient, fits), -0x1000000, 0x1000000);
}
