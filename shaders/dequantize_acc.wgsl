// int32 accumulators to f32: see src/kernels/convert/dequantize_acc.rs.

struct Params {
    pixels: u32,
    quads: u32,
    relu: u32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<i32>>;
@group(0) @binding(2) var<storage, read> factors: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    if i >= params.pixels * params.quads {
        return;
    }
    let accumulators = select(x[i], max(x[i], vec4<i32>()), params.relu != 0u);
    y[i] = vec4<f32>(accumulators) * factors[i % params.quads];
}
