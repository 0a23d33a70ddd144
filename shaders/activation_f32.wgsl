// Functions of one f32 value: see src/kernels/function/activation_f32.rs.

struct Params {
    quads: u32,
    channels: u32,
    // 0 clip, 1 leaky ReLU, 2 sigmoid, 3 hard sigmoid, 4 hard swish, 5 SiLU.
    kind: u32,
    unused: u32,
    // Low and high of a clip, the slope of a leaky ReLU, slope and offset of a hard sigmoid.
    a: f32,
    b: f32,
    unused0: f32,
    unused1: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

// Comparisons and not min and max, so that NaN stays where the device keeps it at all.
fn clip(v: vec4<f32>, low: f32, high: f32) -> vec4<f32> {
    let raised = select(v, vec4<f32>(low), v < vec4<f32>(low));
    return select(raised, vec4<f32>(high), raised > vec4<f32>(high));
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    if i >= params.quads {
        return;
    }
    let v = x[i];
    var value = v;
    switch params.kind {
        case 0u: {
            value = clip(v, params.a, params.b);
        }
        case 1u: {
            value = select(v, params.a * v, v < vec4<f32>(0.0));
        }
        case 2u: {
            value = sigmoid(v);
        }
        case 3u: {
            value = clip(params.a * v + params.b, 0.0, 1.0);
        }
        case 4u: {
            value = v * clip(v * params.a + 0.5, 0.0, 1.0);
        }
        default: {
            value = v * sigmoid(v);
        }
    }
    let channel = vec4<u32>(4u * (i % ((params.channels + 3u) / 4u))) + vec4<u32>(0u, 1u, 2u, 3u);
    y[i] = select(vec4<f32>(0.0), value, channel < vec4<u32>(params.channels));
}
