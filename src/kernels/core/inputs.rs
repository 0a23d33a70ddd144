//! Random inputs for `verify`, uneven on purpose, and the comparison of levels.

use super::Check;
use crate::kernels::Random;
use crate::model::Shape;

/// Random f32 activations, NHWC, padded channels 0.
pub(crate) fn random_activation(random: &mut Random, images: usize, shape: Shape) -> Vec<f32> {
    let mut x = vec![0.0; images * shape.padded_len()];
    for pixel in x.chunks_exact_mut(shape.padded_channels()) {
        pixel[..shape.channels].fill_with(|| random.float());
    }
    x
}

/// int8 activations in NHWC, padded channels at the zero point; `next` gives the others, in order.
pub(crate) fn packed_pixels(images: usize, shape: Shape, zero_point: i32, mut next: impl FnMut() -> i8) -> Vec<i8> {
    let channels = (0..images * shape.pixels()).flat_map(|_| 0..shape.padded_channels());
    channels.map(|c| if c < shape.channels { next() } else { zero_point as i8 }).collect()
}

/// Compares levels to the bit; `got` are the device's words.
pub(crate) fn compare(case: String, expected: &[i8], got: &[u32]) -> Check {
    Check::exact(case, expected, bytemuck::cast_slice::<u32, i8>(got))
}
