// Convolution in f32 as a product of tiles (implicit GEMM): see src/kernels/conv_f32/tiled.rs.
//
// A workgroup computes 64 pixels × 64 output channels of one group, an invocation 8 × 4: pixels 8 apart, and one quad of
// channels. K runs over taps and input quads, two quads a tile.

@group(0) @binding(0) var<uniform> params: FloatParams;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> states: array<State>;

// Two tiles each, one being filled while the other is read. Activations: 64 pixels × 2 quads.
var<workgroup> tile_x: array<vec4<f32>, 256>;

// Weights: 8 input channels × 16 output quads and 2 unused ones, so that neighbours write to different banks.
var<workgroup> tile_w: array<vec4<f32>, 288>;

// The last tile's missing pixels repeat the last one.
fn clamped(pixel: u32) -> u32 {
    return min(pixel, params.end_pixel - 1u);
}

// `quad` counts within the group.
fn store(pixel: u32, group_first: u32, quad: u32, a: vec4<f32>) {
    if pixel < params.end_pixel && quad < params.geometry.group_out_quads {
        let v = activate(a);
        y[pixel * params.geometry.out_quads + group_first + quad] = v;
        observe(pixel, group_first + quad, v);
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
    let first = params.first_pixel + flat / all_columns * 64u;
    if first >= params.end_pixel {
        return;
    }
    let conv_group = flat % all_columns / columns;
    let first_quad = flat % columns * 16u;
    let first_in = conv_group * in_quads;

    // What this invocation loads of a tile: the quad `lane & 1` of a pixel, ...
    let p = clamped(first + lane / 2u);
    var window = vec3<i32>();
    var tap = Tap(p * g.in_quads, true);
    if !is_pointwise(g) {
        window = corner(g, p);
        tap = tap_at(g, window, 0u, 0u);
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
    let own_pixel = lane / 16u;
    let own_quad = first_quad + lane % 16u;
    let bias_first = conv_group * eights * 2u;
    var a0 = bias[bias_first + min(own_quad, eights * 2u - 1u)];
    var a1 = a0;
    var a2 = a0;
    var a3 = a0;
    var a4 = a0;
    var a5 = a0;
    var a6 = a0;
    var a7 = a0;

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
            tap = tap_at(g, window, dy, dx);
        }
        // Taps outside the image, and what is past the last tap, read the first vector. It becomes 0 only where it is stored:
        // nothing waits for a load before the products are under way.
        let ix = tap.inside && dy < g.kernel_height;
        let iw = weight_quad < depth_quads;
        let load_x = x[select(0u, tap.base + first_in + quad, ix)];
        let load_w = weights[select(0u, at_weight, iw)];
        quad += 2u;
        weight_quad += 2u;
        at_weight += 16u;

        if tile > 0u {
            var at_x = ((tile - 1u) & 1u) * 128u + own_pixel * 2u;
            var at_w = ((tile - 1u) & 1u) * 144u + lane % 16u;
            for (var k = 0u; k < 2u; k++) {
                let x0 = tile_x[at_x];
                let x1 = tile_x[at_x + 16u];
                let x2 = tile_x[at_x + 32u];
                let x3 = tile_x[at_x + 48u];
                let x4 = tile_x[at_x + 64u];
                let x5 = tile_x[at_x + 80u];
                let x6 = tile_x[at_x + 96u];
                let x7 = tile_x[at_x + 112u];
                var w = tile_w[at_w];
                a0 = fma(w, x0.xxxx, a0);
                a1 = fma(w, x1.xxxx, a1);
                a2 = fma(w, x2.xxxx, a2);
                a3 = fma(w, x3.xxxx, a3);
                a4 = fma(w, x4.xxxx, a4);
                a5 = fma(w, x5.xxxx, a5);
                a6 = fma(w, x6.xxxx, a6);
                a7 = fma(w, x7.xxxx, a7);
                w = tile_w[at_w + 18u];
                a0 = fma(w, x0.yyyy, a0);
                a1 = fma(w, x1.yyyy, a1);
                a2 = fma(w, x2.yyyy, a2);
                a3 = fma(w, x3.yyyy, a3);
                a4 = fma(w, x4.yyyy, a4);
                a5 = fma(w, x5.yyyy, a5);
                a6 = fma(w, x6.yyyy, a6);
                a7 = fma(w, x7.yyyy, a7);
                w = tile_w[at_w + 36u];
                a0 = fma(w, x0.zzzz, a0);
                a1 = fma(w, x1.zzzz, a1);
                a2 = fma(w, x2.zzzz, a2);
                a3 = fma(w, x3.zzzz, a3);
                a4 = fma(w, x4.zzzz, a4);
                a5 = fma(w, x5.zzzz, a5);
                a6 = fma(w, x6.zzzz, a6);
                a7 = fma(w, x7.zzzz, a7);
                w = tile_w[at_w + 54u];
                a0 = fma(w, x0.wwww, a0);
                a1 = fma(w, x1.wwww, a1);
                a2 = fma(w, x2.wwww, a2);
                a3 = fma(w, x3.wwww, a3);
                a4 = fma(w, x4.wwww, a4);
                a5 = fma(w, x5.wwww, a5);
                a6 = fma(w, x6.wwww, a6);
                a7 = fma(w, x7.wwww, a7);
                at_x += 1u;
                at_w += 72u;
            }
        }

        tile_x[(tile & 1u) * 128u + lane] = select(vec4<f32>(0.0), load_x, ix);
        tile_w[(tile & 1u) * 144u + to_w] = select(vec4<f32>(0.0), load_w, iw);
        workgroupBarrier();
    }

    let pixel = first + own_pixel;
    let group_first = conv_group * g.group_out_quads;
    store(pixel, group_first, own_quad, a0);
    store(pixel + 8u, group_first, own_quad, a1);
    store(pixel + 16u, group_first, own_quad, a2);
    store(pixel + 24u, group_first, own_quad, a3);
    store(pixel + 32u, group_first, own_quad, a4);
    store(pixel + 40u, group_first, own_quad, a5);
    store(pixel + 48u, group_first, own_quad, a6);
    store(pixel + 56u, group_first, own_quad, a7);
    finish(lane);
}
