// Convolution in f32, 4 pixels × 8 output channels an invocation: see src/kernels/conv_f32.rs.

@group(0) @binding(0) var<uniform> params: FloatParams;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> states: array<State>;

// First row of the image among all images' rows, and the row and column of the first tap, which wrap around where they
// are negative. The last tile's missing pixels repeat the last one.
fn origin(pixel: u32) -> vec3<u32> {
    let p = min(pixel, params.end_pixel - 1u);
    let row = p / params.geometry.out_width;
    let image = row / params.geometry.out_height;
    return vec3<u32>(
        image * params.geometry.in_height,
        (row % params.geometry.out_height) * params.geometry.stride_y - params.geometry.pad_y,
        (p % params.geometry.out_width) * params.geometry.stride_x - params.geometry.pad_x,
    );
}

// Whether a tap lies in the image; a coordinate that wrapped around is larger than any image.
fn inside(origin: vec3<u32>, ky: u32, kx: u32) -> bool {
    return origin.y + ky < params.geometry.in_height && origin.z + kx < params.geometry.in_width;
}

// The first input quad of a tap inside the image.
fn tap(origin: vec3<u32>, ky: u32, kx: u32) -> u32 {
    return ((origin.x + origin.y + ky) * params.geometry.in_width + origin.z + kx) * params.geometry.in_quads;
}

fn store(pixel: u32, quad: u32, two: bool, a: vec4<f32>, b: vec4<f32>) {
    if pixel >= params.end_pixel {
        return;
    }
    let at = pixel * params.geometry.out_quads + quad;
    let first = activate(a);
    y[at] = first;
    observe(pixel, quad, first);
    if two {
        let second = activate(b);
        y[at + 1u] = second;
        observe(pixel, quad + 1u, second);
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

    let o0 = origin(first);
    let o1 = origin(first + 1u);
    let o2 = origin(first + 2u);
    let o3 = origin(first + 3u);
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
            let i0 = inside(o0, ky, kx);
            let i1 = inside(o1, ky, kx);
            let i2 = inside(o2, ky, kx);
            let i3 = inside(o3, ky, kx);
            // Taps outside read the first pixel, and 0 is taken in its place.
            let t0 = select(0u, tap(o0, ky, kx), i0) + in_first;
            let t1 = select(0u, tap(o1, ky, kx), i1) + in_first;
            let t2 = select(0u, tap(o2, ky, kx), i2) + in_first;
            let t3 = select(0u, tap(o3, ky, kx), i3) + in_first;
            for (var q = 0u; q < params.geometry.group_in_quads; q++) {
                let x0 = select(vec4<f32>(0.0), x[t0 + q], i0);
                let x1 = select(vec4<f32>(0.0), x[t1 + q], i1);
                let x2 = select(vec4<f32>(0.0), x[t2 + q], i2);
                let x3 = select(vec4<f32>(0.0), x[t3 + q], i3);
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
    store(first, quad, two, a0, b0);
    store(first + 1u, quad, two, a1, b1);
    store(first + 2u, quad, two, a2, b2);
    store(first + 3u, quad, two, a3, b3);
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
