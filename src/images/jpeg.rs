//! JPEGs with the pixels of libjpeg-turbo (its accurate transform and smooth enlargement of colours),
//! which are Pillow's and thus torchvision's; also at a reduced scale, as `Image.draft` has it.
//!
//! A port to Rust decodes them. It is strict: what it finds damaged, where libjpeg would go on with a
//! warning, is left to the decoder of the `image` crate.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::panic::catch_unwind;

use libjpeg_turbo_rs::{DecodeLimits, Decoder, PixelFormat, ScalingFactor};

use super::RgbImage;

/// Decodes a JPEG of `size` (width, height) at one `reduction`-th of it, sides rounded up; none where
/// this decoder finds anything wrong with it, or would need more than `memory` bytes. `bytes` must
/// have passed the checks that are made before pixels are decoded.
pub(super) fn decode(bytes: &[u8], size: [usize; 2], reduction: usize, memory: u64) -> Option<RgbImage> {
    // It panics on some damaged headers (four inks and a height of 0).
    catch_unwind(|| decoded(bytes, size, reduction, memory)).ok().flatten()
}

fn decoded(bytes: &[u8], size: [usize; 2], reduction: usize, memory: u64) -> Option<RgbImage> {
    let mut decoder = Decoder::new(bytes).ok()?;
    decoder.set_limits(DecodeLimits { max_memory: Some(memory), ..DecodeLimits::default() });
    decoder.set_output_format(PixelFormat::Rgb);
    if reduction > 1 {
        decoder.set_scale(ScalingFactor::try_new(1, u32::try_from(reduction).ok()?).ok()?);
    }
    let image = decoder.decode_image().ok()?;
    let [width, height] = size.map(|side| side.div_ceil(reduction));
    let as_claimed = [image.width, image.height] == [width, height]
        && image.pixel_format == PixelFormat::Rgb
        && image.precision == 8
        && image.data.len() == width * height * 3;
    as_claimed.then_some(RgbImage { width, height, pixels: image.data })
}
