// The end of the f32 convolutions, put in front of each of them: see src/kernels/epilogue.rs. The shader declares `params`,
// a FloatParams, and `states`.

struct FloatParams {
    geometry: Geometry,
    first_pixel: u32,
    end_pixel: u32,
    relu: u32,
    observed: u32,
}

struct State {
    exponent: i32,
    min_key: atomic<u32>,
    max_key: atomic<u32>,
    bad_image: atomic<u32>,
    zeros: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

const NONE = 0xFFFFFFFFu;
const SIGN = 0x80000000u;

// What an invocation has stored, and then its workgroup: the extreme keys, and the first image that is not finite.
var<private> least = vec4<u32>(NONE);
var<private> most = vec4<u32>(0u);
var<private> bad = NONE;
var<workgroup> group_min: atomic<u32>;
var<workgroup> group_max: atomic<u32>;
var<workgroup> group_bad: atomic<u32>;

// Not max(): it may turn a NaN into 0 and hide it.
fn activate(v: vec4<f32>) -> vec4<f32> {
    return select(v, vec4<f32>(0.0), (v < vec4<f32>(0.0)) & vec4<bool>(params.relu != 0u));
}

// Looks at four channels of an output pixel that are stored.
fn observe(pixel: u32, quad: u32, v: vec4<f32>) {
    if params.observed == 0u {
        return;
    }
    let bits = bitcast<vec4<u32>>(v);
    let magnitude = bits & vec4<u32>(~SIGN);
    let channels = select(4u, params.geometry.out_last, quad + 1u == params.geometry.out_quads);
    let real = vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(channels);
    let finite = magnitude < vec4<u32>(0x7F800000u);
    // Keys have the order of the floats; both zeros have the key of +0.
    var key = select(bits | vec4<u32>(SIGN), ~bits, bits >= vec4<u32>(SIGN));
    key = select(key, vec4<u32>(SIGN), magnitude == vec4<u32>(0u));
    least = min(least, select(vec4<u32>(NONE), key, real & finite));
    most = max(most, select(vec4<u32>(0u), key, real & finite));
    if any(real & !finite) {
        bad = min(bad, pixel / (params.geometry.out_width * params.geometry.out_height));
    }
}

// Puts together what the workgroup has stored; every invocation calls it, after its last store.
fn publish(lane: u32) {
    if params.observed == 0u {
        return;
    }
    if lane == 0u {
        atomicStore(&group_min, NONE);
        atomicStore(&group_max, 0u);
        atomicStore(&group_bad, NONE);
    }
    workgroupBarrier();
    atomicMin(&group_min, min(min(least.x, least.y), min(least.z, least.w)));
    atomicMax(&group_max, max(max(most.x, most.y), max(most.z, most.w)));
    atomicMin(&group_bad, bad);
    workgroupBarrier();
    if lane == 0u {
        let row = params.observed - 1u;
        atomicMin(&states[row].min_key, atomicLoad(&group_min));
        atomicMax(&states[row].max_key, atomicLoad(&group_max));
        atomicMin(&states[row].bad_image, atomicLoad(&group_bad));
    }
}
