// Least and greatest value, and the first image that is not finite: see src/kernels/range.rs.

struct Params {
    quads: u32,
    quads_per_pixel: u32,
    last_real: u32,
    quads_per_image: u32,
    row: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
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

@group(0) @binding(0) var<uniform> params: Params;
// Bits, not floats: a GPU may flush subnormal floats to zero.
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> states: array<State>;

const NONE = 0xFFFFFFFFu;
const SIGN = 0x80000000u;

var<workgroup> group_min: atomic<u32>;
var<workgroup> group_max: atomic<u32>;
var<workgroup> group_bad: atomic<u32>;

// Which of four channels are no padding.
fn real_channels(quad: u32) -> vec4<bool> {
    if params.last_real == 4u || (quad + 1u) % params.quads_per_pixel != 0u {
        return vec4<bool>(true);
    }
    return vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.last_real);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if lane == 0u {
        atomicStore(&group_min, NONE);
        atomicStore(&group_max, 0u);
        atomicStore(&group_bad, NONE);
    }
    workgroupBarrier();

    var least = vec4<u32>(NONE);
    var most = vec4<u32>(0u);
    var bad = NONE;
    for (var i = group.x * 256u + lane; i < params.quads; i += groups.x * 256u) {
        let bits = x[i];
        let magnitude = bits & vec4<u32>(~SIGN);
        let real = real_channels(i);
        let finite = magnitude < vec4<u32>(0x7F800000u);
        // Keys have the order of the floats; both zeros have the key of +0.
        var key = select(bits | vec4<u32>(SIGN), ~bits, bits >= vec4<u32>(SIGN));
        key = select(key, vec4<u32>(SIGN), magnitude == vec4<u32>(0u));
        least = min(least, select(vec4<u32>(NONE), key, real & finite));
        most = max(most, select(vec4<u32>(0u), key, real & finite));
        if any(real & !finite) {
            bad = min(bad, i / params.quads_per_image);
        }
    }
    atomicMin(&group_min, min(min(least.x, least.y), min(least.z, least.w)));
    atomicMax(&group_max, max(max(most.x, most.y), max(most.z, most.w)));
    atomicMin(&group_bad, bad);
    workgroupBarrier();

    if lane == 0u {
        atomicMin(&states[params.row].min_key, atomicLoad(&group_min));
        atomicMax(&states[params.row].max_key, atomicLoad(&group_max));
        atomicMin(&states[params.row].bad_image, atomicLoad(&group_bad));
    }
}
