// Functions of one to three f32 values, step by step: see src/kernels/function/function_f32.rs.

struct Params {
    a: Operand,
    b: Operand,
    c: Operand,
    images: u32,
    height: u32,
    width: u32,
    channels: u32,
    steps: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> c: array<vec4<f32>>;
// The operator of each step, and what it reads.
@group(0) @binding(4) var<storage, read> steps: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> constants: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;

// The inputs of this invocation, and what its steps gave.
var<private> inputs: array<vec4<f32>, 3>;
var<private> results: array<vec4<f32>, 32>;

fn value(word: u32, quad: u32) -> vec4<f32> {
    let index = word & 0xffffffu;
    switch word >> 24u {
        case 0u: {
            return inputs[index];
        }
        case 1u: {
            return results[index];
        }
        case 2u: {
            return constants[index];
        }
        default: {
            return constants[index + quad];
        }
    }
}

fn truth(is: vec4<bool>) -> vec4<f32> {
    return select(vec4<f32>(0.0), vec4<f32>(1.0), is);
}

// Abramowitz and Stegun 7.1.26.
fn erf(v: vec4<f32>) -> vec4<f32> {
    let m = abs(v);
    let t = 1.0 / (1.0 + 0.3275911 * m);
    let p = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return sign(v) * (1.0 - p * exp(-m * m));
}

// asin(v) of the smaller of |v| and sqrt((1 − |v|) / 2), by a polynomial of its square z that was fitted to
// (asin(sqrt(z)) / sqrt(z) − 1) / z on [0, 1/4] at Chebyshev's nodes: 3e-7 off at most. WGSL allows its own asin 7e-5.
fn small_asin(v: vec4<f32>) -> vec4<f32> {
    let magnitude = abs(v);
    let near_one = magnitude > vec4<f32>(0.5);
    let z = select(magnitude * magnitude, 0.5 - 0.5 * magnitude, near_one);
    let x = select(magnitude, sqrt(z), near_one);
    var y = vec4<f32>(0.0338053863);
    y = y * z + 0.0170781082;
    y = y * z + 0.0311160942;
    y = y * z + 0.044598039;
    y = y * z + 0.0750009873;
    y = y * z + 0.166666663;
    return x + x * z * y;
}

fn asin_of(v: vec4<f32>) -> vec4<f32> {
    let small = small_asin(v);
    return sign(v) * select(small, 1.57079633 - 2.0 * small, abs(v) > vec4<f32>(0.5));
}

fn acos_of(v: vec4<f32>) -> vec4<f32> {
    let small = small_asin(v);
    let far = select(3.14159265 - 2.0 * small, 2.0 * small, v > vec4<f32>(0.0));
    return select(1.57079633 - sign(v) * small, far, abs(v) > vec4<f32>(0.5));
}

// Of a negative base only by integers; elsewhere there is no number.
fn power(v: vec4<f32>, w: vec4<f32>) -> vec4<f32> {
    let magnitude = pow(abs(v), w);
    let whole = floor(w) == w;
    let odd = fract(0.5 * w) != vec4<f32>(0.0);
    let nothing = bitcast<vec4<f32>>(vec4<u32>(0x7fc00000u) | (vec4<u32>(params.images) & vec4<u32>(0u)));
    let turned = select(magnitude, -magnitude, odd);
    let below = select(nothing, turned, whole);
    let value = select(magnitude, below, v < vec4<f32>(0.0));
    return select(value, vec4<f32>(1.0), w == vec4<f32>(0.0));
}

fn computed(code: u32, p: vec4<f32>, q: vec4<f32>, r: vec4<f32>) -> vec4<f32> {
    switch code {
        case 0u: { return abs(p); }
        case 1u: { return -p; }
        case 2u: { return sign(p); }
        case 3u: { return floor(p); }
        case 4u: { return ceil(p); }
        case 5u: { return round(p); }
        case 6u: { return 1.0 / p; }
        case 7u: { return sqrt(p); }
        case 8u: { return exp(p); }
        case 9u: { return log(p); }
        case 10u: { return erf(p); }
        case 11u: { return sigmoid(p); }
        case 12u: { return tanh_of(p); }
        case 13u: { return sin(p); }
        case 14u: { return cos(p); }
        case 15u: { return tan(p); }
        case 16u: { return asin_of(p); }
        case 17u: { return acos_of(p); }
        case 18u: { return atan(p); }
        case 19u: { return sinh(p); }
        case 20u: { return cosh(p); }
        case 21u: { return asinh(p); }
        case 22u: { return acosh(p); }
        case 23u: { return atanh(p); }
        case 24u: { return p + q; }
        case 25u: { return p - q; }
        case 26u: { return p * q; }
        case 27u: { return p / q; }
        case 28u: { return power(p, q); }
        case 29u: { return select(q, p, (p < q) | (p != p)); }
        case 30u: { return select(q, p, (p > q) | (p != p)); }
        case 31u: { return truth(p < q); }
        case 32u: { return truth(p <= q); }
        case 33u: { return truth(p == q); }
        default: { return select(q, r, p == vec4<f32>(0.0)); }
    }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    let at = place_of(i, params.height, params.width, (params.channels + 3u) / 4u);
    if at.image >= params.images {
        return;
    }
    inputs[0] = lanes(params.a, a[word_at(params.a, at)]);
    inputs[1] = lanes(params.b, b[word_at(params.b, at)]);
    inputs[2] = lanes(params.c, c[word_at(params.c, at)]);
    for (var s = 0u; s < params.steps; s++) {
        let words = steps[s];
        results[s] = computed(words.x, value(words.y, at.quad), value(words.z, at.quad), value(words.w, at.quad));
    }
    let channel = vec4<u32>(4u * at.quad) + vec4<u32>(0u, 1u, 2u, 3u);
    y[i] = select(vec4<f32>(0.0), results[params.steps - 1u], channel < vec4<u32>(params.channels));
}
