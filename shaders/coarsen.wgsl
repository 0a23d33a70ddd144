// Widens the bins until they hold the largest magnitude: see src/kernels/statistics/coarsen.rs.
// Behind state.wgsl.

struct Params {
    row: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> states: array<State>;
@group(0) @binding(2) var<storage, read_write> counts: array<u32>;

const BINS = 4096u;

var<workgroup> group_growth: u32;

// Bits of the magnitude whose key this is.
fn magnitude(key: u32) -> u32 {
    return select(~key, key, key >= 0x80000000u) & 0x7FFFFFFFu;
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32) {
    if lane == 0u {
        let exponent = states[params.row].exponent;
        let min_key = atomicLoad(&states[params.row].min_key);
        let max_key = atomicLoad(&states[params.row].max_key);
        var needed = -100;
        if min_key <= max_key {
            let largest = max(magnitude(min_key), magnitude(max_key));
            // A normal number lies in [2^E, 2^(E+1)), E = field - 127, and must be below 2^(12+e).
            needed = max(needed, i32(largest >> 23u) - 138);
        }
        let growth = max(needed - exponent, 0);
        states[params.row].exponent = exponent + growth;
        // 12 halvings leave bin 0 alone. Whatever the row holds, this is 0 to 12.
        group_growth = u32(min(growth, 12));
    }
    let growth = workgroupUniformLoad(&group_growth);
    if growth == 0u {
        return;
    }
    // In place, from the lowest bins up: new bin b is made of old bins from b << growth on, and no
    // later round reads what an earlier one wrote. Within a round all read before any writes.
    for (var first = 0u; first < 2u * BINS; first += 256u) {
        let sign = first & BINS;
        let bin = (first & (BINS - 1u)) + lane;
        // Old bins end at BINS, whatever the growth: no side reads beyond its own.
        let begin = min(bin << growth, BINS);
        let end = min((bin + 1u) << growth, BINS);
        var sum = 0u;
        for (var old = begin; old < end; old += 1u) {
            sum += counts[sign + old];
        }
        storageBarrier();
        counts[first + lane] = sum;
    }
}
