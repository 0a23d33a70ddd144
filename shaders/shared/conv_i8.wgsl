// Parameters of the integer convolutions, and what becomes of their totals: see
// src/kernels/conv/int8/constants.rs. It is put in front of each of them, behind geometry.wgsl. The
// shader declares `channels` and y.

// `Params` on the host.
struct Int8Params {
    geometry: Geometry,
    zero_word: u32,
    zero_point: i32,
    low: i32,
    high: i32,
    coarse: u32,
    finish: u32,
    first_pixel: u32,
    end_pixel: u32,
}

@group(0) @binding(0) var<uniform> params: Int8Params;

// What the coarse weights cover (0: nothing).
const COARSE_CENTER: u32 = 1u;
const COARSE_DIAGONAL: u32 = 2u;
const COARSE_FULL: u32 = 3u;

// What becomes of the totals (0: one total, requantized).
const FINISH_TWO: u32 = 1u;
const FINISH_TOTALS: u32 = 2u;

// Constants of an output channel: `Channel` on the host.
struct Channel {
    bias: i32,
    multiplier: i32,
    right_shift: u32,
    shift: u32,
    coarse_bias: i32,
    coarse_multiplier: i32,
    diagonal: i32,
    unused: i32,
}

fn channel_total(channel: Channel, f: i32, c: i32) -> i32 {
    return f + channel.bias + (c << channel.shift);
}

// The level of an output from its fine and coarse totals without biases.
fn channel_level(channel: Channel, f: i32, c: i32) -> i32 {
    let n = channel.right_shift;
    var steps: i32;
    if params.finish == FINISH_TWO {
        let scaled_c = wide_product(c + channel.coarse_bias, channel.coarse_multiplier);
        steps = wide_rounding_shift(wide_add(scaled_c, wide_product(f + channel.bias, channel.multiplier)), n);
    } else {
        let scaled = wide_product(channel_total(channel, f, c), channel.multiplier);
        if n > 32u {
            // Half a step is a multiple of 2^32, so the lowest word has no part in the result;
            // nearly every layer comes here. The middle word is within +-2^30.
            steps = (bitcast<i32>(scaled.y) + (1 << (n - 33u))) >> (n - 32u);
        } else {
            steps = wide_rounding_shift(scaled, n);
        }
    }
    return clamp(params.zero_point + steps, params.low, params.high);
}

// The tap in the middle of the kernel.
fn centre_tap() -> u32 {
    let g = params.geometry;
    return g.kernel_height / 2u * g.kernel_width + g.kernel_width / 2u;
}

// Coarse weights of the own channels, on whose diagonal alone they are: input and output have the
// same quads.
fn diagonal_of(quad: u32) -> vec4<i32> {
    return vec4<i32>(
        channels[4u * quad].diagonal,
        channels[4u * quad + 1u].diagonal,
        channels[4u * quad + 2u].diagonal,
        channels[4u * quad + 3u].diagonal,
    );
}

// Four output channels of one pixel.
fn dots(q: u32, w: vec4<u32>) -> vec4<i32> {
    return vec4<i32>(dot4I8Packed(q, w.x), dot4I8Packed(q, w.y), dot4I8Packed(q, w.z), dot4I8Packed(q, w.w));
}

// A channel's output of a pixel: its level in front of the three before it, or its total to the
// buffer.
fn finish(pixel: u32, quad: u32, i: u32, word: u32, channel: Channel, f: i32, c: i32) -> u32 {
    if params.finish == FINISH_TOTALS {
        if pixel < params.end_pixel {
            y[4u * (pixel * params.geometry.out_quads + quad) + i] = bitcast<u32>(channel_total(channel, f, c));
        }
        return 0u;
    }
    return push_level(word, channel_level(channel, f, c));
}

// Stores the levels of a quad.
fn store(pixel: u32, quad: u32, word: u32) {
    if pixel < params.end_pixel && params.finish != FINISH_TOTALS {
        y[pixel * params.geometry.out_quads + quad] = word;
    }
}
