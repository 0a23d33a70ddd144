// Matrix products of two activations in f32: see src/kernels/function/matmul_f32.rs.

struct Params {
    images: u32,
    // The result has `rows` and `columns`, the sums are of `depth` products.
    rows: u32,
    columns: u32,
    depth: u32,
    // Fours of channels of the result, and of each operand.
    quads: u32,
    a_quads: u32,
    b_quads: u32,
    // 1 where an operand has one channel, which serves all: bit 0 the first, bit 1 the second.
    single: u32,
    channels: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

// One invocation for each four channels of a place of the result.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    if i >= params.images * params.rows * params.columns * params.quads {
        return;
    }
    let quad = i % params.quads;
    let pixel = i / params.quads;
    let column = pixel % params.columns;
    let row = pixel / params.columns % params.rows;
    let image = pixel / params.columns / params.rows;
    let a_single = (params.single & 1u) != 0u;
    let b_single = (params.single & 2u) != 0u;
    let a_first = (image * params.rows + row) * params.depth * params.a_quads + select(quad, 0u, a_single);
    let b_first = (image * params.depth * params.columns + column) * params.b_quads + select(quad, 0u, b_single);
    var sum = vec4<f32>(0.0);
    for (var k = 0u; k < params.depth; k++) {
        var p = a[a_first + k * params.a_quads];
        var q = b[b_first + k * params.columns * params.b_quads];
        if a_single {
            p = p.xxxx;
        }
        if b_single {
            q = q.xxxx;
        }
        sum += p * q;
    }
    // Padded channels are 0, where one operand's lanes were copied too.
    let first = 4u * quad;
    let channel = vec4<u32>(first, first + 1u, first + 2u, first + 3u);
    y[i] = select(vec4<f32>(0.0), sum, channel < vec4<u32>(params.channels));
}
