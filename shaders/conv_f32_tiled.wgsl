// Convolution in f32 as a product of tiles (implicit GEMM): see src/kernels/conv_f32/tiled.rs.
//
// A workgroup computes 128 pixels × 64 output channels of one group, an invocation 8 × 8: pixels 16 apart, and two quads
// of channels 8 apart. K runs over taps and input quads, two quads a tile.

@group(0) @binding(0) var<uniform> params: FloatParams;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> states: array<State>;

// Two tiles each, one being filled while the other is read. Activations: 128 pixels × 2 quads.
var<workgroup> tile_x: array<vec4<f32>, 512>;

// Weights: 8 input channels × 16 output quads and 2 unused ones, so that neighbours write to different banks.
var<workgroup> tile_w: array<vec4<f32>, 288>;

// The last tile's missing pixels repeat the last one.
fn clamped(pixel: u32) -> u32 {
    return min(pixel, params.end_pixel - 1u);
}

// `quad` counts within the group.
fn store(pixel: u32, group_first: u32, quad: u32, a: vec4<f32>, b: vec4<f32>) {
    if pixel >= params.end_pixel {
        return;
    }
    let at = pixel * params.geometry.out_quads + group_first + quad;
    if quad < params.geometry.group_out_quads {
        let first = activate(a);
        y[at] = first;
        observe(pixel, group_first + quad, first);
    }
    if quad + 8u < params.geometry.group_out_quads {
        let second = activate(b);
        y[at + 8u] = second;
        observe(pixel, group_first + quad + 8u, second);
    }
}

@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let g = params.geometry;
    let in_quads = g.group_in_quads;
    // Workgroups with the same pixels follow each other.
    let columns = (g.group_out_quads + 15u) / 16u;
    let all_columns = g.out_quads / g.group_out_quads * columns;
    let flat = flat_group(group, groups);
    let first = params.first_pixel + flat / all_columns * 128u;
    if first >= params.end_pixel {
        return;
    }
    let conv_group = flat % all_columns / columns;
    let first_quad = flat % columns * 16u;
    let first_in = conv_group * in_quads;

    // What this invocation loads of a tile: the quad `lane & 1` of two pixels, ...
    let p0 = clamped(first + lane / 2u);
    let p1 = clamped(first + lane / 2u + 64u);
    var corner0 = vec3<i32>();
    var corner1 = vec3<i32>();
    var tap0 = Tap(p0 * g.in_quads, true);
    var tap1 = Tap(p1 * g.in_quads, true);
    if !is_pointwise(g) {
        corner0 = corner(g, p0);
        corner1 = corner(g, p1);
        tap0 = tap_at(g, corner0, 0u, 0u);
        tap1 = tap_at(g, corner1, 0u, 0u);
    }
    var quad = lane & 1u;
    var dy = 0u;
    var dx = 0u;
    // ... and one vector of weights, which lie by eights of output channels; past the group's end those of its last eight.
    let depth_quads = g.kernel_height * g.kernel_width * in_quads;
    let eights = (g.group_out_quads + 1u) / 2u;
    let eight = conv_group * eights + min(first_quad / 2u + lane / 16u, eights - 1u);
    var weight_quad = lane % 16u / 8u;
    var at_weight = eight * depth_quads * 8u + lane % 16u;
    let to_w = lane % 16u / 2u * 18u + lane / 16u * 2u + (lane & 1u);

    // What it computes.
    let own_pixel = lane / 8u;
    let own_quad = first_quad + lane % 8u;
    let bias_first = conv_group * eights * 2u;
    var a0 = bias[bias_first + min(own_quad, eights * 2u - 1u)];
    var b0 = bias[bias_first + min(own_quad + 8u, eights * 2u - 1u)];
    var a1 = a0;
    var b1 = b0;
    var a2 = a0;
    var b2 = b0;
    var a3 = a0;
    var b3 = b0;
    var a4 = a0;
    var b4 = b0;
    var a5 = a0;
    var b5 = b0;
    var a6 = a0;
    var b6 = b0;
    var a7 = a0;
    var b7 = b0;

    // Loads of a tile are under way while the tile before it is multiplied: the first turn only loads, the last loads zeros.
    let tiles = (depth_quads + 1u) / 2u;
    for (var tile = 0u; tile <= tiles; tile++) {
        if quad >= in_quads {
            // The next tap; further ones where a tap has fewer quads than a tile.
            while quad >= in_quads {
                quad -= in_quads;
                dx += 1u;
                if dx == g.kernel_width {
                    dx = 0u;
                    dy += 1u;
                }
            }
            tap0 = tap_at(g, corner0, dy, dx);
            tap1 = tap_at(g, corner1, dy, dx);
        }
        // Taps outside the image, and what is past the last tap, read the first vector. It becomes 0 only where it is stored:
        // nothing waits for a load before the products are under way.
        let i0 = tap0.inside && dy < g.kernel_height;
        let i1 = tap1.inside && dy < g.kernel_height;
        let iw = weight_quad < depth_quads;
        let load0 = x[select(0u, tap0.base + first_in + quad, i0)];
        let load1 = x[select(0u, tap1.base + first_in + quad, i1)];
        let load_w = weights[select(0u, at_weight, iw)];
        quad += 2u;
        weight_quad += 2u;
        at_weight += 16u;

        if tile > 0u {
            var at_x = ((tile - 1u) & 1u) * 256u + own_pixel * 2u;
            var at_w = ((tile - 1u) & 1u) * 144u + lane % 8u;
            for (var k = 0u; k < 2u; k++) {
                let x0 = tile_x[at_x];
                let x1 = tile_x[at_x + 32u];
                let x2 = tile_x[at_x + 64u];
                let x3 = tile_x[at_x + 96u];
                let x4 = tile_x[at_x + 128u];
                let x5 = tile_x[at_x + 160u];
                let x6 = tile_x[at_x + 192u];
                let x7 = tile_x[at_x + 224u];
                var u = tile_w[at_w];
                var v = tile_w[at_w + 8u];
                a0 = fma(u, x0.xxxx, a0);
                b0 = fma(v, x0.xxxx, b0);
                a1 = fma(u, x1.xxxx, a1);
                b1 = fma(v, x1.xxxx, b1);
                a2 = fma(u, x2.xxxx, a2);
                b2 = fma(v, x2.xxxx, b2);
                a3 = fma(u, x3.xxxx, a3);
                b3 = fma(v, x3.xxxx, b3);
                a4 = fma(u, x4.xxxx, a4);
                b4 = fma(v, x4.xxxx, b4);
                a5 = fma(u, x5.xxxx, a5);
                b5 = fma(v, x5.xxxx, b5);
                a6 = fma(u, x6.xxxx, a6);
                b6 = fma(v, x6.xxxx, b6);
                a7 = fma(u, x7.xxxx, a7);
                b7 = fma(v, x7.xxxx, b7);
                u = tile_w[at_w + 18u];
                v = tile_w[at_w + 26u];
                a0 = fma(u, x0.yyyy, a0);
                b0 = fma(v, x0.yyyy, b0);
                a1 = fma(u, x1.yyyy, a1);
                b1 = fma(v, x1.yyyy, b1);
                a2 = fma(u, x2.yyyy, a2);
                b2 = fma(v, x2.yyyy, b2);
                a3 = fma(u, x3.yyyy, a3);
                b3 = fma(v, x3.yyyy, b3);
                a4 = fma(u, x4.yyyy, a4);
                b4 = fma(v, x4.yyyy, b4);
                a5 = fma(u, x5.yyyy, a5);
                b5 = fma(v, x5.yyyy, b5);
                a6 = fma(u, x6.yyyy, a6);
                b6 = fma(v, x6.yyyy, b6);
                a7 = fma(u, x7.yyyy, a7);
                b7 = fma(v, x7.yyyy, b7);
                u = tile_w[at_w + 36u];
                v = tile_w[at_w + 44u];
                a0 = fma(u, x0.zzzz, a0);
                b0 = fma(v, x0.zzzz, b0);
                a1 = fma(u, x1.zzzz, a1);
                b1 = fma(v, x1.zzzz, b1);
                a2 = fma(u, x2.zzzz, a2);
                b2 = fma(v, x2.zzzz, b2);
                a3 = fma(u, x3.zzzz, a3);
                b3 = fma(v, x3.zzzz, b3);
                a4 = fma(u, x4.zzzz, a4);
                b4 = fma(v, x4.zzzz, b4);
                a5 = fma(u, x5.zzzz, a5);
                b5 = fma(v, x5.zzzz, b5);
                a6 = fma(u, x6.zzzz, a6);
                b6 = fma(v, x6.zzzz, b6);
                a7 = fma(u, x7.zzzz, a7);
                b7 = fma(v, x7.zzzz, b7);
                u = tile_w[at_w + 54u];
                v = tile_w[at_w + 62u];
                a0 = fma(u, x0.wwww, a0);
                b0 = fma(v, x0.wwww, b0);
                a1 = fma(u, x1.wwww, a1);
                b1 = fma(v, x1.wwww, b1);
                a2 = fma(u, x2.wwww, a2);
                b2 = fma(v, x2.wwww, b2);
                a3 = fma(u, x3.wwww, a3);
                b3 = fma(v, x3.wwww, b3);
                a4 = fma(u, x4.wwww, a4);
                b4 = fma(v, x4.wwww, b4);
                a5 = fma(u, x5.wwww, a5);
                b5 = fma(v, x5.wwww, b5);
                a6 = fma(u, x6.wwww, a6);
                b6 = fma(v, x6.wwww, b6);
                a7 = fma(u, x7.wwww, a7);
                b7 = fma(v, x7.wwww, b7);
                at_x += 1u;
                at_w += 72u;
            }
        }

        let to_x = (tile & 1u) * 256u + lane;
        tile_x[to_x] = select(vec4<f32>(0.0), load0, i0);
        tile_x[to_x + 128u] = select(vec4<f32>(0.0), load1, i1);
        tile_w[(tile & 1u) * 144u + to_w] = select(vec4<f32>(0.0), load_w, iw);
        workgroupBarrier();
    }

    let pixel = first + own_pixel;
    let group_first = conv_group * g.group_out_quads;
    store(pixel, group_first, own_quad, a0, b0);
    store(pixel + 16u, group_first, own_quad, a1, b1);
    store(pixel + 32u, group_first, own_quad, a2, b2);
    store(pixel + 48u, group_first, own_quad, a3, b3);
    store(pixel + 64u, group_first, own_quad, a4, b4);
    store(pixel + 80u, group_first, own_quad, a5, b5);
    store(pixel + 96u, group_first, own_quad, a6, b6);
    store(pixel + 112u, group_first, own_quad, a7, b7);
    finish(lane);
}
