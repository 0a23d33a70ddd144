// One value for each line in f32: see src/kernels/lines/reduce_f32.rs.

struct Params {
    lines: Lines,
    // The place of the reduction in `ReduceKind::ALL`.
    kind: u32,
    // 1 / count, rounded once.
    share: f32,
    unused0: u32,
    unused1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

// The sum of what becomes of each value; `largest` is subtracted in front of an exponential.
fn sum_of(first: u32, largest: f32) -> f32 {
    var sum = 0.0;
    for (var begin = 0u; begin < params.lines.count; begin += RUN) {
        sum += sum_of_run(first, largest, begin, min(begin + RUN, params.lines.count));
    }
    return sum;
}

fn sum_of_run(first: u32, largest: f32, begin: u32, end: u32) -> f32 {
    var sum = 0.0;
    for (var k = begin; k < end; k++) {
        let v = x[first + k * params.lines.step];
        switch params.kind {
            case 2u: {
                sum += abs(v);
            }
            case 3u, 4u: {
                sum += v * v;
            }
            case 6u: {
                sum += exp(v - largest);
            }
            default: {
                sum += v;
            }
        }
    }
    return sum;
}

// The smallest or largest value, and where it is.
fn extreme(first: u32) -> vec2<f32> {
    let least = params.kind == 8u || params.kind >= 12u;
    let last = params.kind == 11u || params.kind == 13u;
    var best = x[first];
    var place = 0u;
    for (var k = 1u; k < params.lines.count; k++) {
        let v = x[first + k * params.lines.step];
        if (least && v < best) || (!least && v > best) || (last && v == best) {
            best = v;
            place = k;
        }
    }
    return vec2<f32>(best, f32(place));
}

fn product(first: u32) -> f32 {
    var result = 1.0;
    for (var k = 0u; k < params.lines.count; k++) {
        result *= x[first + k * params.lines.step];
    }
    return result;
}

fn reduced(first: u32) -> f32 {
    switch params.kind {
        case 0u, 2u, 3u: {
            return sum_of(first, 0.0);
        }
        case 1u: {
            return sum_of(first, 0.0) * params.share;
        }
        case 4u: {
            return sqrt(sum_of(first, 0.0));
        }
        case 5u: {
            return log(sum_of(first, 0.0));
        }
        case 6u: {
            let largest = extreme(first).x;
            return largest + log(sum_of(first, largest));
        }
        case 7u: {
            return product(first);
        }
        case 8u, 9u: {
            return extreme(first).x;
        }
        default: {
            return extreme(first).y;
        }
    }
}

// One invocation for each line.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    if i >= params.lines.lines {
        return;
    }
    if params.lines.along_channels != 0u {
        // One channel of four.
        y[4u * i] = reduced(first_word(params.lines, i));
        for (var k = 1u; k < 4u; k++) {
            y[4u * i + k] = 0.0;
        }
        return;
    }
    if is_padding(params.lines, i) {
        y[i] = 0.0;
        return;
    }
    y[i] = reduced(first_word(params.lines, i));
}
