// Convolution in f32, 4 pixels × 8 output channels an invocation: see
// src/kernels/conv/float/direct.rs.

// Stores both quads, the second where the group has it.
fn store_eight(pixel: u32, quad: u32, two: bool, a: vec4<f32>, b: vec4<f32>) {
    if pixel >= params.end_pixel {
        return;
    }
    store(pixel, quad, a);
    if two {
        store(pixel, quad + 1u, b);
    }
}

// The outputs of an invocation.
fn convolve(flat: u32, lane: u32) {
    // Output channels by eights; the weights' address depends on the workgroup alone.
    let eights = (params.geometry.group_out_quads + 1u) / 2u;
    let columns = params.geometry.out_quads / params.geometry.group_out_quads * eights;
    let first = params.first_pixel + (flat / columns) * 256u + lane * 4u;
    if first >= params.end_pixel {
        return;
    }
    let column = flat % columns;
    let in_first = column / eights * params.geometry.group_in_quads;
    var w = column * params.geometry.kernel_height * params.geometry.kernel_width * params.geometry.group_in_quads * 8u;

    let corner0 = corner(first);
    let corner1 = corner(first + 1u);
    let corner2 = corner(first + 2u);
    let corner3 = corner(first + 3u);
    var a0 = bias[2u * column];
    var b0 = bias[2u * column + 1u];
    var a1 = a0;
    var b1 = b0;
    var a2 = a0;
    var b2 = b0;
    var a3 = a0;
    var b3 = b0;
    for (var ky = 0u; ky < params.geometry.kernel_height; ky++) {
        for (var kx = 0u; kx < params.geometry.kernel_width; kx++) {
            // Taps outside read the first pixel, and 0 is taken in its place.
            let tap0 = tap_at(corner0, ky, kx);
            let tap1 = tap_at(corner1, ky, kx);
            let tap2 = tap_at(corner2, ky, kx);
            let tap3 = tap_at(corner3, ky, kx);
            for (var q = 0u; q < params.geometry.group_in_quads; q++) {
                let x0 = select(vec4<f32>(0.0), x[tap0.base + in_first + q], tap0.inside);
                let x1 = select(vec4<f32>(0.0), x[tap1.base + in_first + q], tap1.inside);
                let x2 = select(vec4<f32>(0.0), x[tap2.base + in_first + q], tap2.inside);
                let x3 = select(vec4<f32>(0.0), x[tap3.base + in_first + q], tap3.inside);
                var u = weights[w];
                var v = weights[w + 1u];
                a0 = fma(u, x0.xxxx, a0);
                b0 = fma(v, x0.xxxx, b0);
                a1 = fma(u, x1.xxxx, a1);
                b1 = fma(v, x1.xxxx, b1);
                a2 = fma(u, x2.xxxx, a2);
                b2 = fma(v, x2.xxxx, b2);
                a3 = fma(u, x3.xxxx, a3);
                b3 = fma(v, x3.xxxx, b3);
                u = weights[w + 2u];
                v = weights[w + 3u];
                a0 = fma(u, x0.yyyy, a0);
                b0 = fma(v, x0.yyyy, b0);
                a1 = fma(u, x1.yyyy, a1);
                b1 = fma(v, x1.yyyy, b1);
                a2 = fma(u, x2.yyyy, a2);
                b2 = fma(v, x2.yyyy, b2);
                a3 = fma(u, x3.yyyy, a3);
                b3 = fma(v, x3.yyyy, b3);
                u = weights[w + 4u];
                v = weights[w + 5u];
                a0 = fma(u, x0.zzzz, a0);
                b0 = fma(v, x0.zzzz, b0);
                a1 = fma(u, x1.zzzz, a1);
                b1 = fma(v, x1.zzzz, b1);
                a2 = fma(u, x2.zzzz, a2);
                b2 = fma(v, x2.zzzz, b2);
                a3 = fma(u, x3.zzzz, a3);
                b3 = fma(v, x3.zzzz, b3);
                u = weights[w + 6u];
                v = weights[w + 7u];
                a0 = fma(u, x0.wwww, a0);
                b0 = fma(v, x0.wwww, b0);
                a1 = fma(u, x1.wwww, a1);
                b1 = fma(v, x1.wwww, b1);
                a2 = fma(u, x2.wwww, a2);
                b2 = fma(v, x2.wwww, b2);
                a3 = fma(u, x3.wwww, a3);
                b3 = fma(v, x3.wwww, b3);
                w += 8u;
            }
        }
    }
    let quad = column / eights * params.geometry.group_out_quads + 2u * (column % eights);
    let two = 2u * (column % eights) + 1u < params.geometry.group_out_quads;
    store_eight(first, quad, two, a0, b0);
    store_eight(first + 1u, quad, two, a1, b1);
    store_eight(first + 2u, quad, two, a2, b2);
    store_eight(first + 3u, quad, two, a3, b3);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    convolve(flat_group(group, groups), lane);
    finish(lane);
}
