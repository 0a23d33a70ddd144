// Functions that all shaders share; put in front of each of them.

// The flat index of a workgroup whose grid was folded into two dimensions (`groups_for` on the
// host).
fn flat_group(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.x + group.y * groups.x;
}

// Puts a level in front of the three before it; after four, the first is in the lowest byte.
fn push_level(word: u32, level: i32) -> u32 {
    return (word >> 8u) | (bitcast<u32>(level) << 24u);
}

// Integers of 96 bits in two's complement, lowest word first: WGSL has none above 32, and the sum
// of two 64-bit products with its rounding term needs 65.

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

// (v + 2^(n-1)) >> n with 1 <= n <= 62, limited to +-2^24: far outside of int8, and a zero point
// can still be added.
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
