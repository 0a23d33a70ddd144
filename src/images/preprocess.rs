//! From a decoded image to the pixels of the network's input: resize the shorter side, crop the
//! centre.
//!
//! The same pixels as torchvision's `Resize(resize)` and `CenterCrop(size)` give on a Pillow image,
//! to the bit.

use std::ops::Range;

use super::resize::resize_window;
use super::{Decoded, RgbImage};
use crate::model::{MAX_SIDE, Preprocessing};
use crate::{Error, Result};

/// Resizes and crops one image: `height × width` pixels of the input, `R | G << 8 | B << 16`.
///
/// With [`Preprocessing::resize`] the shorter side gets that length and the longer one
/// `⌊resize · long / short⌋`; the crop starts at `round((length − size) / 2)`, halves to even, and
/// black fills what the image does not cover. Only the part inside the crop is ever computed.
///
/// # Errors
/// Without `resize`, an image of another size than the input; a size of 0 or beyond 16,384.
pub fn preprocess(image: &RgbImage, preprocessing: &Preprocessing) -> Result<Vec<u32>> {
    prepare(image, [image.width, image.height], 1, preprocessing)
}

/// As [`preprocess`], for what [`decode::read_for`](super::decode::read_for) gives: the resized
/// image has the size that the whole one would get, and a pixel of a reduced image stands for the
/// square of pixels that it was made from.
///
/// # Errors
/// As [`preprocess`].
pub fn preprocess_decoded(decoded: &Decoded, preprocessing: &Preprocessing) -> Result<Vec<u32>> {
    prepare(&decoded.image, decoded.size, decoded.reduction, preprocessing)
}

/// `whole` is width and height of the file's image, `reduction` how many of its pixels are one of
/// `image`, each way.
fn prepare(image: &RgbImage, whole: [usize; 2], reduction: usize, preprocessing: &Preprocessing) -> Result<Vec<u32>> {
    let [height, width] = preprocessing.size;
    check_side("input height", height)?;
    check_side("input width", width)?;
    if image.width == 0 || image.height == 0 {
        return Err(Error::bad("the image has no pixels"));
    }
    let Some(resize) = preprocessing.resize else {
        if [image.height, image.width] != preprocessing.size {
            return Err(Error::bad(format!(
                "the image is {}×{} (width × height), the network's input {width}×{height}, \
                 and the model's description has no `resize`",
                image.width, image.height
            )));
        }
        return Ok(pack(&image.pixels).collect());
    };
    check_side("resize", resize)?;

    let full = resized(whole, resize);
    let extent = whole.map(|side| side as f64 / reduction as f64);
    let (columns, left) = center(full[0], width);
    let (rows, top) = center(full[1], height);
    let part = resize_window(image, extent, full, preprocessing.interpolation, columns, rows);
    if [part.height, part.width] == preprocessing.size {
        return Ok(pack(&part.pixels).collect());
    }
    let mut pixels = vec![0; width * height];
    for (y, row) in part.pixels.chunks_exact(part.width * 3).enumerate() {
        let target = &mut pixels[(top + y) * width + left..][..part.width];
        target.iter_mut().zip(pack(row)).for_each(|(t, p)| *t = p);
    }
    Ok(pixels)
}

fn check_side(name: &str, length: usize) -> Result<()> {
    if (1..=MAX_SIDE).contains(&length) {
        return Ok(());
    }
    Err(Error::bad(format!("the {name} is {length}; it must be 1 to {MAX_SIDE}")))
}

/// Width and height after the resize; `image` is width and height before.
fn resized([width, height]: [usize; 2], shorter: usize) -> [usize; 2] {
    if width <= height { [shorter, shorter * height / width] } else { [shorter * width / height, shorter] }
}

/// Which part of `length` the centre crop to `size` takes, and how much padding comes before it.
fn center(length: usize, size: usize) -> (Range<usize>, usize) {
    if length < size {
        return (0..length, (size - length) / 2);
    }
    let spare = length - size;
    // Python's round: a half goes to the even neighbour.
    let start = if spare % 4 == 3 { spare / 2 + 1 } else { spare / 2 };
    (start..start + size, 0)
}

fn pack(rgb: &[u8]) -> impl Iterator<Item = u32> + '_ {
    rgb.chunks_exact(3).map(|p| u32::from(p[0]) | u32::from(p[1]) << 8 | u32::from(p[2]) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Decode, Interpolation};

    fn preprocessing(size: [usize; 2], resize: Option<usize>) -> Preprocessing {
        Preprocessing {
            size,
            resize,
            interpolation: Interpolation::Bilinear,
            mean: [0.0; 3],
            std: [1.0; 3],
            decode: Decode::Full,
        }
    }

    #[test]
    fn the_crop_starts_where_python_rounds_it() {
        // int(round((length - 4) / 2)) for length 4 … 12, in Python.
        let starts: Vec<usize> = (4..=12).map(|length| center(length, 4).0.start).collect();
        assert_eq!(starts, [0, 0, 1, 2, 2, 2, 3, 4, 4]);
    }

    #[test]
    fn the_longer_side_is_rounded_down() {
        assert_eq!(resized([500, 375], 256), [341, 256]);
        assert_eq!(resized([375, 500], 256), [256, 341]);
        assert_eq!(resized([10_000, 10], 256), [256_000, 256]);
        assert_eq!(resized([1, 1], 256), [256, 256]);
    }

    #[test]
    fn a_smaller_image_is_framed_in_black() {
        let image = RgbImage { width: 3, height: 2, pixels: vec![9; 18] };
        let grey = 9 | 9 << 8 | 9 << 16;
        // 3×2 stays 3×2 in 4×5: one row above, two below; no column left, one right.
        let pixels = preprocess(&image, &preprocessing([5, 4], Some(2))).expect("fits");
        let mut expected = vec![0; 20];
        expected[4..7].fill(grey);
        expected[8..11].fill(grey);
        assert_eq!(pixels, expected);
    }

    #[test]
    fn without_resize_another_size_is_an_error_that_names_both() {
        let image = RgbImage { width: 3, height: 2, pixels: vec![9; 18] };
        let message = preprocess(&image, &preprocessing([4, 5], None)).expect_err("another size").to_string();
        assert!(message.contains("3×2") && message.contains("5×4"), "{message}");
        assert_eq!(preprocess(&image, &preprocessing([2, 3], None)).expect("same size").len(), 6);
    }

    #[test]
    fn a_description_cannot_ask_for_any_amount_of_memory() {
        let image = RgbImage { width: 1, height: 1, pixels: vec![9; 3] };
        for (size, resize) in
            [([0, 1], Some(1)), ([1, 1_000_000], Some(1)), ([1, 1], Some(0)), ([1, 1], Some(usize::MAX))]
        {
            assert!(preprocess(&image, &preprocessing(size, resize)).is_err(), "{size:?} {resize:?}");
        }
    }
}
