// What the direct and the depthwise integer convolutions share, put in front of both, behind
// conv_i8.wgsl. An invocation computes 4 pixels × 4 channels; neighbours in a workgroup have
// neighbouring channels.

// Four channels of a pixel, biases added and requantized. A loop, for the code is long.
fn store_quad(pixel: u32, quad: u32, fine_totals: vec4<i32>, coarse_totals: vec4<i32>) {
    if pixel >= params.end_pixel {
        return;
    }
    var f = fine_totals;
    var c = coarse_totals;
    var word = 0u;
    for (var i = 0u; i < 4u; i++) {
        word = finish(pixel, quad, i, word, channels[4u * quad + i], f.x, c.x);
        f = f.yzwx;
        c = c.yzwx;
    }
    store(pixel, quad, word);
}
