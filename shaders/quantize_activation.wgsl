// f32 to int8: see src/kernels/convert/quantize_activation.rs.

struct Params {
    pixels: u32,
    channels: u32,
    inverse_scale: f32,
    zero_point: i32,
    low: f32,
    high: f32,
    unused0: u32,
    unused1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    let quads = (params.channels + 3u) / 4u;
    if i >= params.pixels * quads {
        return;
    }
    let channel = vec4<u32>(i % quads * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    let steps = clamp(round(x[i] * params.inverse_scale), vec4<f32>(params.low), vec4<f32>(params.high));
    let used = select(vec4<i32>(0), vec4<i32>(steps), channel < vec4<u32>(params.channels));
    y[i] = pack4xI8(used + vec4<i32>(params.zero_point));
}
