// The extremes of what a workgroup looks at, put in front of the kernels that keep them, with
// state.wgsl: see src/kernels/statistics/range.rs and src/kernels/conv/float/epilogue.rs. The
// shader declares `states`.

const NONE = 0xFFFFFFFFu;
const SIGN = 0x80000000u;

// What an invocation has seen, and then its workgroup: the extreme keys, and the first image that
// is not finite.
var<private> least = vec4<u32>(NONE);
var<private> most = vec4<u32>(0u);
var<private> bad = NONE;
var<workgroup> group_min: atomic<u32>;
var<workgroup> group_max: atomic<u32>;
var<workgroup> group_bad: atomic<u32>;

// Looks at the bits of four channels; those from `channels` on are padding. Returns whether one is
// not finite.
fn look(bits: vec4<u32>, channels: u32) -> bool {
    let magnitude = bits & vec4<u32>(~SIGN);
    let real = vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(channels);
    let finite = magnitude < vec4<u32>(0x7F800000u);
    // Keys have the order of the floats; both zeros have the key of +0.
    var key = select(bits | vec4<u32>(SIGN), ~bits, bits >= vec4<u32>(SIGN));
    key = select(key, vec4<u32>(SIGN), magnitude == vec4<u32>(0u));
    least = min(least, select(vec4<u32>(NONE), key, real & finite));
    most = max(most, select(vec4<u32>(0u), key, real & finite));
    return any(real & !finite);
}

// Puts together what the workgroup has looked at; every invocation calls it, at its end.
fn publish(row: u32, lane: u32) {
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
        atomicMin(&states[row].min_key, atomicLoad(&group_min));
        atomicMax(&states[row].max_key, atomicLoad(&group_max));
        atomicMin(&states[row].bad_image, atomicLoad(&group_bad));
    }
}
