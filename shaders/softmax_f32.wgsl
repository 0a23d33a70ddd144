// Softmax along an axis in f32: see src/kernels/lines/softmax_f32.rs.

@group(0) @binding(0) var<uniform> params: Lines;
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
    if i >= params.lines {
        return;
    }
    let first = first_word(params, i);
    if is_padding(params, i) {
        for (var k = 0u; k < params.count; k++) {
            y[first + k * params.step] = 0.0;
        }
        return;
    }
    var largest = x[first];
    for (var k = 1u; k < params.count; k++) {
        largest = max(largest, x[first + k * params.step]);
    }
    var sum = 0.0;
    for (var begin = 0u; begin < params.count; begin += RUN) {
        let end = min(begin + RUN, params.count);
        var run = 0.0;
        for (var k = begin; k < end; k++) {
            run += exp(x[first + k * params.step] - largest);
        }
        sum += run;
    }
    for (var k = 0u; k < params.count; k++) {
        let at = first + k * params.step;
        y[at] = exp(x[at] - largest) / sum;
    }
    if params.along_channels != 0u {
        for (var k = params.count; k < params.padded; k++) {
            y[first + k] = 0.0;
        }
    }
}
