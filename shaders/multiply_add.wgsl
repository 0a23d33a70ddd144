// The most multiplications and additions of f32, 16 chains of `fma` that do not depend on each
// other: see src/kernels/peaks/multiply_add.rs.

struct Params {
    results: u32,
    rounds: u32,
    seed: u32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = flat_group(group, groups) * 64u + lane;
    if at >= params.results {
        return;
    }
    let start = vec4<f32>(f32(at & 255u)) * vec4<f32>(0.25, 0.5, 0.75, 1.0);
    // Below 1, so that nothing overflows; not known when the shader is compiled.
    let m = vec4<f32>(f32(params.seed & 0xffffu) / 65536.0);
    let c = vec4<f32>(0.25);
    var a0 = start;
    var a1 = start + 1.0;
    var a2 = start + 2.0;
    var a3 = start + 3.0;
    var a4 = start + 4.0;
    var a5 = start + 5.0;
    var a6 = start + 6.0;
    var a7 = start + 7.0;
    var b0 = start + 8.0;
    var b1 = start + 9.0;
    var b2 = start + 10.0;
    var b3 = start + 11.0;
    var b4 = start + 12.0;
    var b5 = start + 13.0;
    var b6 = start + 14.0;
    var b7 = start + 15.0;
    for (var i = 0u; i < params.rounds; i += 1u) {
        a0 = fma(a0, m, c);
        a1 = fma(a1, m, c);
        a2 = fma(a2, m, c);
        a3 = fma(a3, m, c);
        a4 = fma(a4, m, c);
        a5 = fma(a5, m, c);
        a6 = fma(a6, m, c);
        a7 = fma(a7, m, c);
        b0 = fma(b0, m, c);
        b1 = fma(b1, m, c);
        b2 = fma(b2, m, c);
        b3 = fma(b3, m, c);
        b4 = fma(b4, m, c);
        b5 = fma(b5, m, c);
        b6 = fma(b6, m, c);
        b7 = fma(b7, m, c);
    }
    let a = ((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7));
    let b = ((b0 + b1) + (b2 + b3)) + ((b4 + b5) + (b6 + b7));
    let sum = a + b;
    y[at] = (sum.x + sum.y) + (sum.z + sum.w);
}
