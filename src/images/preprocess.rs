//! From a decoded image to the pixels of the network's input: crop, letterbox or stretch.
//!
//! The same pixels as torchvision's `Resize(resize)` and `CenterCrop(size)` give on a Pillow image,
//! or `Resize(size)`, to the bit; a letterbox has the geometry of Ultralytics' `LetterBox`.

use std::ops::Range;

use super::resize::resize_window;
use super::{Decoded, RgbImage};
use crate::model::{Color, Fit, MAX_SIDE, Preprocessing};
use crate::{Error, Result};

/// Resizes and crops one image: `height × width` pixels of the input, `R | G << 8 | B << 16` (BGR:
/// the other way round), or the gray values that the image has where the input has one channel: they are made first, so it is
/// they that are resized, as with Pillow's `convert("L")` in front.
///
/// With [`Preprocessing::resize`] the shorter side gets that length and the longer one
/// `⌊resize · long / short⌋`; the crop starts at `round((length − size) / 2)`, halves to even, and
/// black fills what the image does not cover. Only the part inside the crop is ever computed.
/// [`Fit::Letterbox`] scales the whole by the smaller of the two ratios, sides rounded (halves to
/// even), and puts the odd pixel of the frame to the right and below; [`Fit::Stretch`] resizes each
/// side by itself.
///
/// # Errors
/// Without `resize`, an image of another size than the input; a size of 0 or beyond 16,384; an input
/// whose channels are no colours.
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
    if image.width == 0 || image.height == 0 {
        return Err(Error::bad("the image has no pixels"));
    }
    let (color, [height, width]) = (preprocessing.color, preprocessing.size);
    let placement = Placement::of(whole, preprocessing)?;
    let gray;
    let image = match (preprocessing.color, preprocessing.channels()) {
        (Color::Rgb | Color::Bgr, 3) => image,
        (Color::Gray, 1) => {
            gray = to_gray(image);
            &gray
        }
        (_, channels) => {
            let what = format!("the network's input has {channels} channels, which no image has");
            return Err(Error::bad(format!("{what}: arrays of NumPy (.npy files) are read for it")));
        }
    };
    let Some(Placement { full, columns, rows, left, top, fill }) = placement else {
        if [image.height, image.width] != preprocessing.size {
            return Err(Error::bad(format!(
                "the image is {}×{} (width × height), the network's input {width}×{height}, \
                 and the model's description has no `resize`",
                image.width, image.height
            )));
        }
        return Ok(pack(&image.pixels, color).collect());
    };
    let extent = whole.map(|side| side as f64 / reduction as f64);
    let part = resize_window(image, extent, full, preprocessing.interpolation, columns, rows);
    if [part.height, part.width] == preprocessing.size {
        return Ok(pack(&part.pixels, color).collect());
    }
    let frame = pack(&[fill; 3], color).next().unwrap_or_default();
    let mut pixels = vec![frame; width * height];
    for (y, row) in part.pixels.chunks_exact(part.width * 3).enumerate() {
        let target = &mut pixels[(top + y) * width + left..][..part.width];
        target.iter_mut().zip(pack(row, color)).for_each(|(t, p)| *t = p);
    }
    Ok(pixels)
}

/// Where an image goes: the size that the whole gets, the part of that which is seen, and what is
/// around it in the input.
pub(super) struct Placement {
    /// Width and height of the whole image after the resize.
    pub(super) full: [usize; 2],
    columns: Range<usize>,
    rows: Range<usize>,
    left: usize,
    top: usize,
    fill: u8,
}

impl Placement {
    /// For an image of this width and height; none where it must have the input's size already.
    ///
    /// # Errors
    /// A size of 0 or beyond 16,384.
    pub(super) fn of(whole: [usize; 2], preprocessing: &Preprocessing) -> Result<Option<Self>> {
        let [height, width] = preprocessing.size;
        check_side("input height", height)?;
        check_side("input width", width)?;
        let (full, fill) = match (preprocessing.fit, preprocessing.resize) {
            (Fit::Crop, None) => return Ok(None),
            (Fit::Crop, Some(resize)) => {
                check_side("resize", resize)?;
                (resized(whole, resize), 0)
            }
            (Fit::Letterbox(fill), _) => (inside(whole, [width, height]), fill),
            (Fit::Stretch, _) => ([width, height], 0),
        };
        let (columns, left) = center(full[0], width);
        let (rows, top) = center(full[1], height);
        Ok(Some(Self { full, columns, rows, left, top, fill }))
    }
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

/// Width and height of an image that is scaled until it just fits into `frame`, as Ultralytics
/// rounds them; at least 1.
fn inside(image: [usize; 2], frame: [usize; 2]) -> [usize; 2] {
    let scale = |axis: usize| frame[axis] as f64 / image[axis] as f64;
    let scale = scale(0).min(scale(1));
    // Python's round: a half goes to the even neighbour.
    [0, 1].map(|axis| ((image[axis] as f64 * scale).round_ties_even() as usize).clamp(1, frame[axis]))
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

/// The luma of each pixel in all three colours, so that the same resize serves.
fn to_gray(image: &RgbImage) -> RgbImage {
    let luma = |p: &[u8]| {
        let sum = 19595 * u32::from(p[0]) + 38470 * u32::from(p[1]) + 7471 * u32::from(p[2]) + 0x8000;
        // The factors' sum is 65,536.
        [(sum >> 16) as u8; 3]
    };
    RgbImage { pixels: image.pixels.chunks_exact(3).flat_map(luma).collect(), ..*image }
}

/// Pixels as a batch has them.
fn pack(rgb: &[u8], color: Color) -> impl Iterator<Item = u32> + '_ {
    rgb.chunks_exact(3).map(move |p| match color {
        Color::Rgb => u32::from(p[0]) | u32::from(p[1]) << 8 | u32::from(p[2]) << 16,
        Color::Bgr => u32::from(p[2]) | u32::from(p[1]) << 8 | u32::from(p[0]) << 16,
        Color::Gray => u32::from(p[0]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Decode, Interpolation};

    fn preprocessing(size: [usize; 2], resize: Option<usize>) -> Preprocessing {
        Preprocessing {
            size,
            fit: Fit::Crop,
            resize,
            interpolation: Interpolation::Bilinear,
            mean: vec![0.0; 3],
            std: vec![1.0; 3],
            color: Color::Rgb,
            decode: Decode::Full,
        }
    }

    #[test]
    fn gray_is_pillows_luma() {
        // Image.new("RGB", (1, 1), colour).convert("L").getpixel((0, 0)), Pillow 13.
        let cases = [
            ([255, 0, 0], 76),
            ([0, 255, 0], 150),
            ([0, 0, 255], 29),
            ([1, 2, 3], 2),
            ([200, 30, 129], 92),
            ([7, 250, 13], 150),
            ([77, 77, 77], 77),
            ([255, 255, 255], 255),
        ];
        let gray = Preprocessing {
            mean: vec![0.0],
            std: vec![1.0],
            color: Color::Gray,
            ..preprocessing([1, cases.len()], None)
        };
        let image = RgbImage { width: cases.len(), height: 1, pixels: cases.iter().flat_map(|(p, _)| *p).collect() };
        assert_eq!(preprocess(&image, &gray).expect("gray"), cases.map(|(_, luma)| luma));
        // The luma is what is resized: 255 red beside black, one pixel of both.
        let two = RgbImage { width: 2, height: 2, pixels: [255, 0, 0, 0, 0, 0].repeat(2) };
        assert_eq!(preprocess(&two, &Preprocessing { size: [1, 1], resize: Some(1), ..gray }).expect("gray"), [38]);
    }

    #[test]
    fn a_letterbox_is_ultralytics() {
        // Width and height of the image, of the input; LetterBox(auto=False): width and height of
        // the scaled image, left, top. (The last one has no rows left there; here it keeps one.)
        for (image, frame, expected) in [
            ([640, 480], [640, 640], [640, 480, 0, 80]),
            ([500, 375], [320, 320], [320, 240, 0, 40]),
            ([375, 500], [320, 320], [240, 320, 40, 0]),
            ([333, 500], [320, 320], [213, 320, 53, 0]),
            ([500, 334], [320, 320], [320, 214, 0, 53]),
            ([100, 100], [64, 32], [32, 32, 16, 0]),
            ([7, 3], [10, 10], [10, 4, 0, 3]),
            ([16, 5], [8, 8], [8, 2, 0, 3]),
            ([16, 7], [8, 8], [8, 4, 0, 2]),
            ([10_000, 10], [224, 224], [224, 1, 0, 111]),
        ] {
            let [width, height] = frame;
            let input = Preprocessing { fit: Fit::Letterbox(114), ..preprocessing([height, width], None) };
            let placed = Placement::of(image, &input).expect("fits").expect("is resized");
            assert_eq!([placed.full[0], placed.full[1], placed.left, placed.top], expected, "{image:?} in {frame:?}");
        }
    }

    #[test]
    fn letterbox_and_stretch_pixel_by_pixel() {
        // 4×2 in 5×3: scaled to 5×2 (2.5 goes to 2), no row above, one below.
        let image = RgbImage { width: 4, height: 2, pixels: vec![200; 24] };
        let letterbox = |color, channels, fill| Preprocessing {
            fit: Fit::Letterbox(fill),
            color,
            mean: vec![0.0; channels],
            std: vec![1.0; channels],
            ..preprocessing([3, 5], None)
        };
        let pixels = preprocess(&image, &letterbox(Color::Rgb, 3, 114)).expect("fits");
        let (inside, frame) = (200 * 0x01_01_01, 114 * 0x01_01_01);
        assert_eq!(pixels, [[inside; 10].as_slice(), &[frame; 5]].concat());
        let gray = preprocess(&image, &letterbox(Color::Gray, 1, 7)).expect("fits");
        assert_eq!(gray, [[200; 10].as_slice(), &[7; 5]].concat());
        // An image of the size is what it was; columns left and right.
        let small = RgbImage { width: 1, height: 3, pixels: (1..=9).collect() };
        let pixels = preprocess(&small, &letterbox(Color::Bgr, 3, 0)).expect("fits");
        let [a, b, c] = [0x01_02_03, 0x04_05_06, 0x07_08_09];
        assert_eq!(pixels, [0, 0, a, 0, 0, 0, 0, b, 0, 0, 0, 0, c, 0, 0]);

        // Pillow's resize of each side: 2×2 to 4×2 (Image.resize((4, 2), BILINEAR)).
        let two = RgbImage { width: 2, height: 2, pixels: [0, 0, 0, 200, 100, 40].repeat(2) };
        let stretch = Preprocessing { fit: Fit::Stretch, ..preprocessing([2, 4], None) };
        let pixel = |r: u32, g: u32, b: u32| r | g << 8 | b << 16;
        let row = [pixel(0, 0, 0), pixel(50, 25, 10), pixel(150, 75, 30), pixel(200, 100, 40)];
        assert_eq!(preprocess(&two, &stretch).expect("stretched"), row.repeat(2));
    }

    #[test]
    fn bgr_is_rgb_the_other_way_round() {
        let image = RgbImage { width: 2, height: 1, pixels: vec![1, 2, 3, 40, 50, 60] };
        let bgr = Preprocessing { color: Color::Bgr, ..preprocessing([1, 2], None) };
        let pixel = |first: u32, second: u32, third: u32| first | second << 8 | third << 16;
        assert_eq!(preprocess(&image, &bgr).expect("bgr"), [pixel(3, 2, 1), pixel(60, 50, 40)]);
        let rgb = Preprocessing { color: Color::Rgb, ..bgr };
        assert_eq!(preprocess(&image, &rgb).expect("rgb"), [pixel(1, 2, 3), pixel(40, 50, 60)]);
    }

    #[test]
    fn channels_that_are_no_colours_are_refused() {
        let image = RgbImage { width: 1, height: 1, pixels: vec![9; 3] };
        for channels in [0, 2, 4] {
            let input =
                Preprocessing { mean: vec![0.0; channels], std: vec![1.0; channels], ..preprocessing([1, 1], None) };
            let message = preprocess(&image, &input).expect_err("no colours").to_string();
            assert!(message.contains(&format!("{channels} channels")), "{message}");
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
