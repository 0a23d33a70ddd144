//! JPEG files decoded at a reduced scale: what it does to the pixels, and that every check of whole
//! decoding holds.
use std::fs;
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};
use repquant::internals::images::{BatchOptions, Batches, Dataset, Decoded, decode, preprocess, preprocess_decoded};
use repquant::internals::model::{Color, Decode, Fit, Interpolation, Preprocessing};

use crate::common::test_data;

const JPEGS: [&str; 6] = ["rgb.jpg", "gray.jpg", "subsampled.jpg", "progressive.jpg", "rotated.jpg", "cmyk.jpg"];

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/images").join(name)).expect("fixture")
}

fn preprocessing(crop: usize, resize: Option<usize>, decode: Decode) -> Preprocessing {
    let interpolation = Interpolation::Bilinear;
    Preprocessing {
        size: [crop, crop],
        resize,
        interpolation,
        mean: vec![0.5; 3],
        std: vec![0.5; 3],
        fit: Fit::Crop,
        color: Color::Rgb,
        decode,
    }
}

fn scaled(bytes: &[u8], resize: usize) -> Decoded {
    decode::decode_for(bytes, &preprocessing(resize, Some(resize), Decode::Scaled)).expect("decoded")
}

/// Slow waves of uneven colours, `channels` of them: little of it is above what a scale of 1/8
/// keeps.
fn waves(width: u32, height: u32, channels: usize) -> Vec<u8> {
    let mut jpeg = Vec::new();
    let value = |x: u32, y: u32, c: usize| {
        let phase = f64::from(x) / (31.0 + 9.0 * c as f64) + f64::from(y) / (47.0 - 11.0 * c as f64);
        (128.0 + 90.0 * phase.sin()) as u8
    };
    let pixels: Vec<u8> =
        (0..height).flat_map(|y| (0..width).flat_map(move |x| (0..channels).map(move |c| value(x, y, c)))).collect();
    let color = if channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    JpegEncoder::new_with_quality(&mut jpeg, 95).write_image(&pixels, width, height, color).expect("encoded");
    jpeg
}

/// Mean and largest absolute difference.
fn difference(a: &[u8], b: &[u8]) -> (f64, u8) {
    assert_eq!(a.len(), b.len());
    let off = || a.iter().zip(b).map(|(a, b)| a.abs_diff(*b));
    (off().map(f64::from).sum::<f64>() / a.len() as f64, off().max().expect("pixels"))
}

/// The mean of each square of `reduction` pixels a side, of what of it lies within the image.
fn means(bytes: &[u8], reduction: usize) -> Vec<u8> {
    let image = decode::decode(bytes).expect("decoded");
    let (width, height) = (image.width.div_ceil(reduction), image.height.div_ceil(reduction));
    let mean = |x: usize, y: usize, c: usize| {
        let rows = y * reduction..((y + 1) * reduction).min(image.height);
        let columns = x * reduction..((x + 1) * reduction).min(image.width);
        let values: Vec<f64> = rows
            .flat_map(|y| columns.clone().map(move |x| (y, x)))
            .map(|(y, x)| f64::from(image.pixels[(y * image.width + x) * 3 + c]))
            .collect();
        (values.iter().sum::<f64>() / values.len() as f64).round() as u8
    };
    (0..height).flat_map(|y| (0..width).flat_map(move |x| (0..3).map(move |c| mean(x, y, c)))).collect()
}

#[test]
fn a_reduced_pixel_is_about_the_mean_of_those_it_stands_for() {
    for channels in [1, 3] {
        // Neither side is a multiple of 8.
        let jpeg = waves(413, 331, channels);
        for (resize, reduction) in [(82, 4), (41, 8)] {
            let decoded = scaled(&jpeg, resize);
            assert_eq!((decoded.size, decoded.reduction), ([413, 331], reduction));
            let (width, height) = (413_usize.div_ceil(reduction), 331_usize.div_ceil(reduction));
            assert_eq!([decoded.image.width, decoded.image.height], [width, height]);
            let (mean, worst) = difference(&decoded.image.pixels, &means(&jpeg, reduction));
            assert!(mean < 1.0 && worst <= 12, "{channels} channels at 1/{reduction}: {mean:.2}, at most {worst}");
        }
        assert_eq!(scaled(&jpeg, 83).reduction, 1, "331 / 4 is less than 83");
    }
}

#[test]
fn the_resized_picture_lies_where_the_whole_one_does() {
    for channels in [1, 3] {
        let jpeg = waves(413, 331, channels);
        for resize in [82, 60, 41, 30] {
            let read = |decode| {
                let preprocessing = preprocessing(resize, Some(resize), decode);
                let decoded = decode::decode_for(&jpeg, &preprocessing).expect("decoded");
                let pixels = preprocess_decoded(&decoded, &preprocessing).expect("resized");
                bytemuck::cast_slice::<u32, u8>(&pixels).to_vec()
            };
            let (mean, worst) = difference(&read(Decode::Full), &read(Decode::Scaled));
            assert!(mean < 1.0 && worst <= 10, "{channels} channels, resize {resize}: {mean:.2}, at most {worst}");
        }
    }
}

#[test]
fn colours_are_converted_as_in_the_whole_image() {
    // The same coded values, said to be RGB by an Adobe marker: decoded whole.
    let plain = waves(400, 400, 3);
    let mut marked = plain[..2].to_vec();
    marked.extend([0xFF, 0xEE, 0, 14]);
    marked.extend(b"Adobe");
    marked.extend([0, 100, 0, 0, 0, 0, 0]);
    // Without the JFIF segment, which says YCbCr.
    assert_eq!(plain[2..4], [0xFF, 0xE0]);
    marked.extend(&plain[4 + usize::from(u16::from_be_bytes([plain[4], plain[5]]))..]);
    let whole = decode::decode(&marked).expect("decoded");
    assert!(difference(&whole.pixels, &decode::decode(&plain).expect("decoded").pixels).0 > 20.0, "RGB as coded");
    let decoded = scaled(&marked, 50);
    assert_eq!((decoded.reduction, decoded.image), (1, whole));
    // A marker that says YCbCr changes nothing.
    marked[2 + 15] = 1;
    assert_eq!(scaled(&marked, 50), scaled(&plain, 50));
    assert_eq!(scaled(&plain, 50).reduction, 8);
}

#[test]
fn every_kind_of_jpeg_is_read_as_before() {
    for name in JPEGS {
        let bytes = fixture(name);
        let whole = decode::decode(&bytes).expect(name);
        let decoded = scaled(&bytes, whole.width.min(whole.height) / 8);
        assert_eq!(decoded.size, [whole.width, whole.height], "{name}");
        if ["cmyk.jpg", "progressive.jpg"].contains(&name) {
            assert_eq!((decoded.reduction, decoded.image), (1, whole), "{name} is decoded whole");
            continue;
        }
        assert_eq!(decoded.reduction, 8, "{name}");
        let (mean, worst) = difference(&decoded.image.pixels, &means(&bytes, 8));
        // Subsampled colours are halved once more, of a picture with few pixels.
        let most = if name == "rgb.jpg" || name == "gray.jpg" { 4.0 } else { 25.0 };
        assert!(mean < most, "{name}: {mean:.2}, at most {worst}");
    }
}

#[test]
fn what_is_not_scaled_is_the_same_to_the_bit() {
    for name in ["rgb.jpg", "rgb.png", "rgb.bmp", "lossy.webp"] {
        let bytes = fixture(name);
        let whole = decode::decode(&bytes).expect(name);
        // Full decoding, no resize to make room, or too large a one.
        let mut ways = vec![(Some(1), Decode::Full), (None, Decode::Scaled), (Some(1 << 13), Decode::Scaled)];
        if name != "rgb.jpg" {
            ways.push((Some(1), Decode::Scaled));
        }
        for (resize, decode) in ways {
            let decoded = decode::decode_for(&bytes, &preprocessing(1, resize, decode)).expect(name);
            assert_eq!((decoded.reduction, &decoded.image), (1, &whole), "{name} {resize:?} {decode}");
        }
    }
}

#[test]
fn a_file_cut_anywhere_is_the_same_error() {
    for name in JPEGS {
        let bytes = fixture(name);
        for end in 0..bytes.len() {
            let cut = &bytes[..end];
            let error = decode::decode_for(cut, &preprocessing(1, Some(1), Decode::Scaled)).expect_err("cut");
            assert_eq!(error.to_string(), decode::decode(cut).expect_err("cut").to_string(), "{name} cut at {end}");
        }
    }
}

#[test]
fn a_damaged_file_never_panics() {
    for name in JPEGS {
        let bytes = fixture(name);
        for at in 0..bytes.len() {
            for value in [0x00, 0x7F, 0xFF] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                let whole = decode::decode(&damaged);
                match decode::decode_for(&damaged, &preprocessing(1, Some(1), Decode::Scaled)) {
                    Ok(Decoded { image, size, reduction }) => {
                        assert_eq!([image.width, image.height], size.map(|side| side.div_ceil(reduction)));
                        assert_eq!(image.pixels.len(), image.width * image.height * 3, "{name} damaged at {at}");
                        assert!(whole.is_ok(), "{name}, byte {at} = {value}: read at 1/{reduction} alone");
                    }
                    Err(e) => assert_eq!(e.to_string(), whole.expect_err("also whole").to_string()),
                }
            }
        }
    }
}

/// The table in `docs/images.md`; the bounds are a little above what it states.
#[test]
fn photographs_change_by_what_the_documentation_states() {
    let Some(data) = test_data() else { return };
    let items = Dataset::unlabelled(&data.join("data/photos")).expect("photographs").items;
    for (crop, resize, expected) in
        [(224, 256, [(4, 2), (8, 0)]), (64, 73, [(4, 102), (8, 11)]), (32, 37, [(4, 11), (8, 113)])]
    {
        let mut seen = std::collections::BTreeMap::from([(4, Vec::new()), (8, Vec::new())]);
        for item in &items {
            let preprocessing = preprocessing(crop, Some(resize), Decode::Scaled);
            let decoded = decode::read_for(&item.path, &preprocessing).expect("decoded");
            let whole = decode::read(&item.path).expect("decoded");
            let bytes =
                |pixels: Vec<u32>| pixels.iter().flat_map(|p| p.to_le_bytes()[..3].to_vec()).collect::<Vec<u8>>();
            let reduced = bytes(preprocess_decoded(&decoded, &preprocessing).expect("resized"));
            let (mean, worst) = difference(&reduced, &bytes(preprocess(&whole, &preprocessing).expect("resized")));
            match seen.get_mut(&decoded.reduction) {
                Some(seen) => seen.push((mean, worst)),
                None => assert_eq!(worst, 0),
            }
        }
        for (reduction, count) in expected {
            let seen = &seen[&reduction];
            let mean = seen.iter().map(|s| s.0).sum::<f64>() / seen.len().max(1) as f64;
            let most = seen.iter().map(|s| s.0).fold(0.0, f64::max);
            let worst = seen.iter().map(|s| s.1).max().unwrap_or(0);
            println!("{crop} from {resize} at 1/{reduction}: mean {mean:.2}, {most:.2}, at most {worst}");
            assert_eq!(seen.len(), count, "{crop} from {resize} at 1/{reduction}");
            assert!(
                mean < 2.0 && most < 4.5 && worst <= 48,
                "{crop} from {resize} at 1/{reduction}: {mean:.2}, at most {worst}"
            );
        }
    }
}

#[test]
fn batches_decode_as_the_preprocessing_says() {
    let root = tempfile::tempdir().expect("temporary folder");
    let jpeg = waves(400, 300, 3);
    fs::write(root.path().join("a.jpg"), &jpeg).expect("written");
    let items = Dataset::unlabelled(root.path()).expect("an image").items;
    for decode in [Decode::Full, Decode::Scaled] {
        let preprocessing = preprocessing(32, Some(36), decode);
        let expected = preprocess_decoded(&decode::decode_for(&jpeg, &preprocessing).expect("decoded"), &preprocessing);
        let options = BatchOptions { batch_size: 1, skip_bad: false, threads: Some(1) };
        let batch = Batches::new(items.clone(), &preprocessing, options).next().expect("a batch").expect("read");
        assert_eq!(batch.pixels(), expected.expect("resized"), "{decode}");
    }
}
