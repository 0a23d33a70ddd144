// Counts values into bins of width 2^e, one histogram for each sign, exact zeros apart: see
// src/kernels/statistics/histogram.rs. Behind state.wgsl.

struct Params {
    quads: u32,
    quads_per_pixel: u32,
    last_real: u32,
    quads_per_group: u32,
    row: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// Bits, not floats: a GPU may flush subnormal floats to zero.
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> states: array<State>;
@group(0) @binding(3) var<storage, read_write> counts: array<atomic<u32>>;

const BINS = 4096u;

// Positive values in the low half, negative ones in the high half: a workgroup sees fewer than
// 65536 values. This is all of the 16 KiB that every adapter has.
var<workgroup> bins: array<atomic<u32>, 4096>;

// How many of four channels are no padding.
fn real_channels(quad: u32) -> u32 {
    if params.last_real == 4u || (quad + 1u) % params.quads_per_pixel != 0u {
        return 4u;
    }
    return params.last_real;
}

// Counts a finite value that is not zero; returns 1 for a zero.
fn count(bits: u32, exponent: i32) -> u32 {
    let magnitude = bits & 0x7FFFFFFFu;
    if magnitude == 0u {
        return 1u;
    }
    let field = i32(magnitude >> 23u);
    if field < 255 {
        // |x| = mantissa * 2^(field - 150), so floor(|x| * 2^-e) is the mantissa shifted right; at least by 12, as |x| is
        // below 2^(12 + e). A subnormal number is taken for a larger one, and still is in bin 0.
        // The mantissa is below 2^24, so the bin is below 4096 whatever exponent the row holds.
        let mantissa = (magnitude & 0x7FFFFFu) | 0x800000u;
        let bin = mantissa >> u32(clamp(150 + exponent - field, 12, 31));
        atomicAdd(&bins[bin], select(1u, 0x10000u, bits > 0x7FFFFFFFu));
    }
    return 0u;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    for (var bin = lane; bin < BINS; bin += 256u) {
        atomicStore(&bins[bin], 0u);
    }
    workgroupBarrier();

    let exponent = states[params.row].exponent;
    // Both products are below 2^32, for a grid has few more workgroups than `quads` needs.
    let begin = flat_group(group, groups) * params.quads_per_group;
    let end = min(begin + params.quads_per_group, params.quads);
    // Half of the values after a ReLU: counted in a register, so that not all lanes fight over one
    // bin.
    var zeros = 0u;
    for (var i = begin + lane; i < end; i += 256u) {
        let bits = x[i];
        let real = real_channels(i);
        zeros += count(bits.x, exponent);
        if real > 1u {
            zeros += count(bits.y, exponent);
        }
        if real > 2u {
            zeros += count(bits.z, exponent);
        }
        if real > 3u {
            zeros += count(bits.w, exponent);
        }
    }
    workgroupBarrier();

    for (var bin = lane; bin < BINS; bin += 256u) {
        let both = atomicLoad(&bins[bin]);
        if (both & 0xFFFFu) != 0u {
            atomicAdd(&counts[bin], both & 0xFFFFu);
        }
        if (both >> 16u) != 0u {
            atomicAdd(&counts[BINS + bin], both >> 16u);
        }
    }
    // Bin 0 was last read by lane 0, which may now use it for the sum of the zeros.
    if lane == 0u {
        atomicStore(&bins[0], 0u);
    }
    workgroupBarrier();
    atomicAdd(&bins[0], zeros);
    workgroupBarrier();
    if lane == 0u {
        atomicAdd(&states[params.row].zeros, atomicLoad(&bins[0]));
    }
}
