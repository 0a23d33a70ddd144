// (x - mean) / sqrt(variance + epsilon) of each line in f32: see
// src/kernels/lines/standardize_f32.rs.

struct Params {
    lines: Lines,
    // 1 / count, rounded once.
    share: f32,
    epsilon: f32,
    unused0: u32,
    unused1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

// One invocation for each line.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    let lines = params.lines;
    if i >= lines.lines {
        return;
    }
    let first = first_word(lines, i);
    if is_padding(lines, i) {
        for (var k = 0u; k < lines.count; k++) {
            y[first + k * lines.step] = 0.0;
        }
        return;
    }
    var sum = 0.0;
    for (var begin = 0u; begin < lines.count; begin += RUN) {
        let end = min(begin + RUN, lines.count);
        var run = 0.0;
        for (var k = begin; k < end; k++) {
            run += x[first + k * lines.step];
        }
        sum += run;
    }
    let mean = sum * params.share;
    var squares = 0.0;
    for (var begin = 0u; begin < lines.count; begin += RUN) {
        let end = min(begin + RUN, lines.count);
        var run = 0.0;
        for (var k = begin; k < end; k++) {
            let d = x[first + k * lines.step] - mean;
            run += d * d;
        }
        squares += run;
    }
    let deviation = sqrt(squares * params.share + params.epsilon);
    for (var k = 0u; k < lines.count; k++) {
        let at = first + k * lines.step;
        y[at] = (x[at] - mean) / deviation;
    }
    if lines.along_channels != 0u {
        for (var k = lines.count; k < lines.padded; k++) {
            y[first + k] = 0.0;
        }
    }
}
