// The most products of int8, 16 chains of `dot4I8Packed` that do not depend on each other: see
// src/kernels/peaks/dot.rs.

struct Params {
    results: u32,
    rounds: u32,
    seed: u32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<i32>;

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
    let start = bitcast<i32>(at * 0x9e3779b9u);
    let m = params.seed;
    var a0 = start + 0;
    var a1 = start + 1;
    var a2 = start + 2;
    var a3 = start + 3;
    var a4 = start + 4;
    var a5 = start + 5;
    var a6 = start + 6;
    var a7 = start + 7;
    var b0 = start + 8;
    var b1 = start + 9;
    var b2 = start + 10;
    var b3 = start + 11;
    var b4 = start + 12;
    var b5 = start + 13;
    var b6 = start + 14;
    var b7 = start + 15;
    for (var i = 0u; i < params.rounds; i += 1u) {
        a0 += dot4I8Packed(bitcast<u32>(a0), m);
        a1 += dot4I8Packed(bitcast<u32>(a1), m);
        a2 += dot4I8Packed(bitcast<u32>(a2), m);
        a3 += dot4I8Packed(bitcast<u32>(a3), m);
        a4 += dot4I8Packed(bitcast<u32>(a4), m);
        a5 += dot4I8Packed(bitcast<u32>(a5), m);
        a6 += dot4I8Packed(bitcast<u32>(a6), m);
        a7 += dot4I8Packed(bitcast<u32>(a7), m);
        b0 += dot4I8Packed(bitcast<u32>(b0), m);
        b1 += dot4I8Packed(bitcast<u32>(b1), m);
        b2 += dot4I8Packed(bitcast<u32>(b2), m);
        b3 += dot4I8Packed(bitcast<u32>(b3), m);
        b4 += dot4I8Packed(bitcast<u32>(b4), m);
        b5 += dot4I8Packed(bitcast<u32>(b5), m);
        b6 += dot4I8Packed(bitcast<u32>(b6), m);
        b7 += dot4I8Packed(bitcast<u32>(b7), m);
    }
    let a = a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7;
    let b = b0 + b1 + b2 + b3 + b4 + b5 + b6 + b7;
    y[at] = a + b;
}
