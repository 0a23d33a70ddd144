// Sums that compare two activations: see src/kernels/statistics/error_sums.rs.

struct Params {
    quads: u32,
    quads_per_pixel: u32,
    last_real: u32,
    // 1: int8, 0: f32.
    packed: u32,
    scale: f32,
    zero_point: i32,
    unused0: u32,
    unused1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> y: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> other: array<u32>;
@group(0) @binding(3) var<storage, read_write> sums: array<vec4<f32>>;

var<workgroup> partial: array<vec4<f32>, 256>;

// Which of four channels are no padding.
fn real_channels(quad: u32) -> vec4<bool> {
    if params.last_real == 4u || (quad + 1u) % params.quads_per_pixel != 0u {
        return vec4<bool>(true);
    }
    return vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.last_real);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // One vec4 of sums for each of four channels: short chains of additions, and none between lanes
    // in the loop.
    var yy = vec4<f32>(0.0);
    var dd = vec4<f32>(0.0);
    var yz = vec4<f32>(0.0);
    var zz = vec4<f32>(0.0);
    for (var i = group.x * 256u + lane; i < params.quads; i += groups.x * 256u) {
        let real = real_channels(i);
        var z: vec4<f32>;
        if params.packed == 1u {
            z = vec4<f32>(unpack4xI8(other[i]) - vec4<i32>(params.zero_point)) * params.scale;
        } else {
            z = bitcast<vec4<f32>>(vec4<u32>(other[4u * i], other[4u * i + 1u], other[4u * i + 2u], other[4u * i + 3u]));
        }
        z = select(vec4<f32>(0.0), z, real);
        let v = select(vec4<f32>(0.0), y[i], real);
        let d = v - z;
        yy += v * v;
        dd += d * d;
        yz += v * z;
        zz += z * z;
    }
    let one = vec4<f32>(1.0);
    partial[lane] = vec4<f32>(dot(yy, one), dot(dd, one), dot(yz, one), dot(zz, one));
    workgroupBarrier();
    for (var half = 128u; half > 0u; half >>= 1u) {
        if lane < half {
            partial[lane] += partial[lane + half];
        }
        workgroupBarrier();
    }
    if lane == 0u {
        sums[group.x] = partial[0];
    }
}
