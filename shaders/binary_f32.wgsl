// Sums, differences and products of two f32 activations: see src/kernels/binary/binary_f32.rs.

struct Operand {
    // Fours of channels from one image, row, column and four channels to the next; 0 where one
    // serves all.
    image: u32,
    row: u32,
    column: u32,
    quad: u32,
}

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

fn place(operand: Operand, image: u32, row: u32, column: u32, quad: u32) -> u32 {
    return image * operand.image + row * operand.row + column * operand.column + quad * operand.quad;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    let quads = (params.channels + 3u) / 4u;
    let quad = i % quads;
    let pixel = i / quads;
    let column = pixel % params.width;
    let row = pixel / params.width % params.height;
    let image = pixel / params.width / params.height;
    if image >= params.images {
        return;
    }
    // An operand of one channel holds it in its first lane.
    var left = a[place(params.a, image, row, column, quad)];
    if params.a.quad == 0u {
        left = left.xxxx;
    }
    var right = b[place(params.b, image, row, column, quad)];
    if params.b.quad == 0u {
        right = right.xxxx;
    }
    var value = left + right;
    if params.kind == 1u {
        value = left - right;
    } else if params.kind == 2u {
        value = left * right;
    }
    if params.relu != 0u {
        value = select(value, vec4<f32>(0.0), value < vec4<f32>(0.0));
    }
    let channel = vec4<u32>(4u * quad) + vec4<u32>(0u, 1u, 2u, 3u);
    y[i] = select(vec4<f32>(0.0), value, channel < vec4<u32>(params.channels));
}
