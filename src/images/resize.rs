//! Resizing as Pillow does it on 8 bits, to the bit, and only the window of the result that is
//! asked for.
//!
//! An anti-aliased filter (its support grows with the reduction), one pass for each axis, 8-bit
//! values between them, weights as integers with 22 fractional bits. A weight depends only on the
//! full lengths before and after, so a window of the result equals the same window of the whole.
//! The order of the passes is that of Pillow 13, which differs for tall images from the versions
//! before it; the golden file of the tests holds both kinds.

use std::ops::Range;

use super::RgbImage;
use crate::model::Interpolation;

/// Fractional bits of a weight: 32 less 8 for the pixel and 2 for the overshoot of the cubic
/// filter.
const PRECISION_BITS: u32 = 32 - 8 - 2;
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// The weights of one output pixel on one axis: source pixels `start .. start + weights.len()`.
struct Taps {
    start: usize,
    weights: Vec<i32>,
}

/// The part `columns × rows` of `image` resized to `width × height`.
///
/// `extent` is how far the picture reaches into `image`: its width and height, or a little less
/// where its last pixels reach beyond a picture that was reduced while it was decoded (Pillow's
/// `box`).
///
/// `columns` and `rows` must lie within `width` and `height`; memory and time follow the window,
/// not the full result.
pub(super) fn resize_window(
    image: &RgbImage,
    extent: [f64; 2],
    [width, height]: [usize; 2],
    interpolation: Interpolation,
    columns: Range<usize>,
    rows: Range<usize>,
) -> RgbImage {
    debug_assert!(columns.end <= width && rows.end <= height, "the window leaves the image");
    let horizontal = taps(image.width, extent[0], width, interpolation, columns);
    let vertical = taps(image.height, extent[1], height, interpolation, rows);
    // What of the source some pixel of the window reads.
    let (columns, rows) = (read_by(&horizontal), read_by(&vertical));
    if vertical_first([image.width, image.height], [width, height]) {
        let low = resize_columns(image, &vertical, columns.clone(), 0);
        resize_rows(&low, &horizontal, 0..low.height, columns.start)
    } else {
        let narrow = resize_rows(image, &horizontal, rows.clone(), 0);
        resize_columns(&narrow, &vertical, 0..narrow.width, rows.start)
    }
}

/// Whether Pillow's vertical pass comes first: where the height shrinks, and by more than twice
/// what the width loses. (Found by comparing its results with those of either order on 1,500 random
/// sizes; Pillow before 13 never does it.)
fn vertical_first(before: [usize; 2], after: [usize; 2]) -> bool {
    let lost = |axis: usize| before[axis] as i64 - after[axis] as i64;
    lost(1) > 0 && lost(1) > 2 * lost(0)
}

/// The source pixels of one axis that some of the taps read.
fn read_by(taps: &[Taps]) -> Range<usize> {
    let start = taps.iter().map(|t| t.start).min().unwrap_or(0);
    let end = taps.iter().map(|t| t.start + t.weights.len()).max().unwrap_or(start);
    start..end
}

/// Pillow's `precompute_coeffs` and `normalize_coeffs_8bpc`, for the output pixels in `window`.
fn taps(input: usize, extent: f64, output: usize, interpolation: Interpolation, window: Range<usize>) -> Vec<Taps> {
    if extent == output as f64 {
        // Pillow skips the pass.
        return window.map(|i| Taps { start: i, weights: vec![1 << PRECISION_BITS] }).collect();
    }
    let scale = extent / output as f64;
    let filter_scale = scale.max(1.0);
    let support = radius(interpolation) * filter_scale;
    let step = 1.0 / filter_scale;
    window
        .map(|i| {
            let center = (i as f64 + 0.5) * scale;
            // C's conversion to int cuts towards zero, as `as` does; below zero it saturates, like
            // Pillow's check.
            let start = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(input);
            let weights: Vec<f64> =
                (0..end - start).map(|k| filter(interpolation, ((k + start) as f64 - center + 0.5) * step)).collect();
            let sum: f64 = weights.iter().sum();
            let weights = weights.iter().map(|w| if sum == 0.0 { *w } else { w / sum }).map(to_fixed).collect();
            Taps { start, weights }
        })
        .collect()
}

fn to_fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION_BITS);
    (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

fn radius(interpolation: Interpolation) -> f64 {
    match interpolation {
        Interpolation::Bilinear => 1.0,
        Interpolation::Bicubic => 2.0,
    }
}

fn filter(interpolation: Interpolation, x: f64) -> f64 {
    // Keys (1981), with the a that Pillow uses.
    const A: f64 = -0.5;
    let x = x.abs();
    // The order of the operations is Pillow's: another one may round differently.
    match interpolation {
        Interpolation::Bilinear if x < 1.0 => 1.0 - x,
        Interpolation::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        Interpolation::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        _ => 0.0,
    }
}

fn clip8(sum: i32) -> u8 {
    // The shift rounds down for negative sums too, as the half was added before.
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Horizontal pass over the rows `rows`; column 0 of `image` is column `first` of what the taps
/// count.
fn resize_rows(image: &RgbImage, taps: &[Taps], rows: Range<usize>, first: usize) -> RgbImage {
    let height = rows.len();
    let mut pixels = Vec::with_capacity(taps.len() * height * 3);
    for y in rows {
        let row = &image.pixels[y * image.width * 3..][..image.width * 3];
        for tap in taps {
            let source = &row[(tap.start - first) * 3..][..tap.weights.len() * 3];
            let mut sum = [HALF; 3];
            for (pixel, &weight) in source.chunks_exact(3).zip(&tap.weights) {
                for (s, &v) in sum.iter_mut().zip(pixel) {
                    *s += i32::from(v) * weight;
                }
            }
            pixels.extend(sum.map(clip8));
        }
    }
    RgbImage { width: taps.len(), height, pixels }
}

/// Vertical pass over the columns `columns`; row 0 of `image` is row `first` of what the taps
/// count.
fn resize_columns(image: &RgbImage, taps: &[Taps], columns: Range<usize>, first: usize) -> RgbImage {
    let width = columns.len();
    let mut pixels = Vec::with_capacity(width * taps.len() * 3);
    let mut sums = vec![HALF; width * 3];
    for tap in taps {
        sums.fill(HALF);
        for (y, &weight) in (tap.start - first..).zip(&tap.weights) {
            let row = &image.pixels[(y * image.width + columns.start) * 3..][..width * 3];
            for (s, &v) in sums.iter_mut().zip(row) {
                *s += i32::from(v) * weight;
            }
        }
        pixels.extend(sums.iter().map(|&s| clip8(s)));
    }
    RgbImage { width, height: taps.len(), pixels }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(width: usize, height: usize) -> RgbImage {
        let mut state = 1u32;
        let byte = || {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            (state >> 24) as u8
        };
        RgbImage { width, height, pixels: std::iter::repeat_with(byte).take(width * height * 3).collect() }
    }

    #[test]
    fn a_window_equals_that_part_of_the_whole() {
        let image = noise(53, 31);
        for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
            // The second one goes through the vertical pass first.
            for full in [[17, 90], [80, 11], [53, 20], [53, 31]] {
                let whole = resize_window(&image, [53.0, 31.0], full, interpolation, 0..full[0], 0..full[1]);
                let window = resize_window(&image, [53.0, 31.0], full, interpolation, 3..14, 2..10);
                for y in 0..8 {
                    let expected = &whole.pixels[((y + 2) * full[0] + 3) * 3..][..11 * 3];
                    assert_eq!(&window.pixels[y * 11 * 3..][..11 * 3], expected, "{full:?} {interpolation:?} row {y}");
                }
            }
        }
    }

    #[test]
    fn weights_of_every_pixel_sum_to_one() {
        for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
            for (input, output) in [(1, 256), (256, 1), (375, 256), (10, 256), (10_000, 256_000)] {
                for tap in taps(input, input as f64, output, interpolation, 0..output) {
                    assert!(tap.start + tap.weights.len() <= input);
                    let sum: i64 = tap.weights.iter().map(|&w| i64::from(w)).sum();
                    // Each weight is rounded on its own, by at most a half.
                    assert!((sum - (1 << PRECISION_BITS)).unsigned_abs() <= tap.weights.len() as u64);
                }
            }
        }
    }
}
