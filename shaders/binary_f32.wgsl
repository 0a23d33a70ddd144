// Sums, differences and products of two f32 activations: see src/kernels/binary/binary_f32.rs.

struct Params {
    a: Operand,
    b: Operand,
    images: u32,
    height: u32,
    width: u32,
    channels: u32,
    // 0 add, 1 subtract, 2 multiply.
    kind: u32,
    relu: u32,
    unused0: u32,
    unused1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    let at = place_of(i, params.height, params.width, (params.channels + 3u) / 4u);
    if at.image >= params.images {
        return;
    }
    let left = lanes(params.a, a[word_at(params.a, at)]);
    let right = lanes(params.b, b[word_at(params.b, at)]);
    var value = left + right;
    if params.kind == 1u {
        value = left - right;
    } else if params.kind == 2u {
        value = left * right;
    }
    if params.relu != 0u {
        value = select(value, vec4<f32>(0.0), value < vec4<f32>(0.0));
    }
    let channel = vec4<u32>(4u * at.quad) + vec4<u32>(0u, 1u, 2u, 3u);
    y[i] = select(vec4<f32>(0.0), value, channel < vec4<u32>(params.channels));
}
