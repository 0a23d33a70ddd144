// int8 to f32: see src/kernels/convert/dequantize.rs.

struct Params {
    pixels: u32,
    channels: u32,
    scale: f32,
    zero_point: i32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

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
    let value = vec4<f32>(unpack4xI8(x[i]) - vec4<i32>(params.zero_point)) * params.scale;
    y[i] = select(vec4<f32>(0.0), value, channel < vec4<u32>(params.channels));
}
