//! Decoding JPEG, PNG, WebP, BMP, TIFF and GIF files to 8-bit RGB.
//!
//! With [`Decode::Scaled`] a big JPEG is decoded at 1/4 or 1/8 of its width and height by a smaller
//! inverse transform, as Pillow's `Image.draft` and libjpeg do it, and resized from there.
//! `docs/images.md` states what that does to the pixels.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::borrow::Cow;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::budget::{Budget, Claim};
use super::preprocess::Placement;
use super::{Decoded, RgbImage, jpeg, scaled};
use crate::model::{Decode, Preprocessing};
use crate::{Error, Result};

/// More pixels than this are refused; Pillow's own limit (`DecompressionBombError`).
const MAX_PIXELS: u64 = 178_956_970;
/// A longer file is refused; the largest uncompressed image within [`MAX_PIXELS`] is smaller.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// What a decoder may allocate.
const MAX_ALLOCATION: u64 = 2 << 30;

/// Reads and decodes one image file. Its content decides the format, not its name.
///
/// Gray becomes RGB, transparency is dropped (the colours below it stay), 16 bits lose the lower 8,
/// and the EXIF orientation is ignored, as Pillow's `convert("RGB")` and torchvision do. Of several
/// pages or frames the first is read.
///
/// # Errors
/// A file that cannot be read, is no such image, is truncated or broken, or claims more than 179
/// megapixels. The message does not name the file; [`Batches`](super::Batches) adds it.
pub fn read(path: &Path) -> Result<RgbImage> {
    decode(&read_file(path)?)
}

/// Reads and decodes one image file as `preprocessing` says: whole, or with [`Decode::Scaled`] at a
/// reduced scale where the file is a JPEG that is large enough. A progressive JPEG, one of four
/// inks or coded as RGB, and one that the scaling decoder does not take, is decoded whole.
///
/// # Errors
/// As [`read`].
pub fn read_for(path: &Path, preprocessing: &Preprocessing) -> Result<Decoded> {
    decode_for(&read_file(path)?, preprocessing)
}

/// As [`read_for`], once `memory` has room for the image; the claim should be held while it is.
///
/// # Errors
/// As [`read`].
pub(super) fn read_within<'a>(
    path: &Path,
    preprocessing: &Preprocessing,
    memory: &'a Budget,
) -> Result<(Decoded, Claim<'a>)> {
    let bytes = read_file(path)?;
    let opened = open(&bytes)?;
    let claim = memory.claim(opened.memory());
    Ok((decoded(opened, &bytes, preprocessing)?, claim))
}

/// The bytes of a file of a sane length.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>> {
    let unreadable = |e: std::io::Error| Error::bad("cannot be read").because(e);
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a longer file.
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// Decodes an image file that lies in memory; see [`read`].
///
/// # Errors
/// As [`read`].
pub fn decode(bytes: &[u8]) -> Result<RgbImage> {
    whole(open(bytes)?, bytes)
}

/// Decodes an image file that lies in memory for `preprocessing`; see [`read_for`].
///
/// # Errors
/// As [`read`].
pub fn decode_for(bytes: &[u8], preprocessing: &Preprocessing) -> Result<Decoded> {
    decoded(open(bytes)?, bytes, preprocessing)
}

fn decoded(opened: Opened<impl ImageDecoder>, bytes: &[u8], preprocessing: &Preprocessing) -> Result<Decoded> {
    let size = opened.size;
    if let (Decode::Scaled, ImageFormat::Jpeg) = (preprocessing.decode, opened.format)
        // Sizes that make no sense are told of when the image is placed.
        && let Ok(Some(Placement { full, .. })) = Placement::of(size, preprocessing)
        && let Some(reduction) = scaled::reduction(size, full)
        && scaled::can_be_scaled(bytes)
        && let Some(image) = jpeg::decode(bytes, size, reduction, MAX_ALLOCATION)
    {
        return Ok(Decoded { image, size, reduction });
    }
    Ok(Decoded { image: whole(opened, bytes)?, size, reduction: 1 })
}

/// Decodes every pixel.
fn whole(opened: Opened<impl ImageDecoder>, bytes: &[u8]) -> Result<RgbImage> {
    let Opened { decoder, name, format, size } = opened;
    let jpeg = (format == ImageFormat::Jpeg).then(|| jpeg::decode(bytes, size, 1, MAX_ALLOCATION)).flatten();
    match jpeg {
        Some(image) => Ok(image),
        None => to_rgb(DynamicImage::from_decoder(decoder).map_err(|e| broken(name, e))?),
    }
}

/// A file that passed all checks that can be made before its pixels are decoded.
struct Opened<D> {
    decoder: D,
    name: &'static str,
    format: ImageFormat,
    /// Width and height.
    size: [usize; 2],
}

impl<D: ImageDecoder> Opened<D> {
    /// About how many bytes it takes to decode, at most: what the decoder gives, and beside it the
    /// RGB made from that, or a JPEG's planes and coefficients.
    fn memory(&self) -> u64 {
        let (width, height) = self.decoder.dimensions();
        let beside = if self.format == ImageFormat::Jpeg { 9 } else { 4 };
        self.decoder.total_bytes().saturating_add(beside * u64::from(width) * u64::from(height))
    }
}

fn broken(name: &str, e: ImageError) -> Error {
    let what = match &e {
        ImageError::Unsupported(_) => format!("this kind of {name} is not supported"),
        _ => format!("the {name} is truncated or broken"),
    };
    Error::bad(what).because(e)
}

fn open(bytes: &[u8]) -> Result<Opened<impl ImageDecoder + '_>> {
    let (format, name) = match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => (ImageFormat::Jpeg, "JPEG"),
        Ok(ImageFormat::Png) => (ImageFormat::Png, "PNG"),
        Ok(ImageFormat::WebP) => (ImageFormat::WebP, "WebP"),
        Ok(ImageFormat::Bmp) => (ImageFormat::Bmp, "BMP"),
        Ok(ImageFormat::Tiff) => (ImageFormat::Tiff, "TIFF"),
        Ok(ImageFormat::Gif) => (ImageFormat::Gif, "GIF"),
        _ => return Err(Error::bad("not a JPEG, PNG, WebP, BMP, TIFF or GIF image")),
    };
    if u64::try_from(bytes.len()).is_ok_and(|n| n > MAX_FILE_BYTES) {
        return Err(Error::bad("the file is larger than 1 GiB"));
    }
    if format == ImageFormat::Jpeg && !reaches_end_of_image(bytes) {
        return Err(Error::bad("the JPEG is truncated: it has no end-of-image marker"));
    }
    if format == ImageFormat::WebP && !reaches_riff_end(bytes) {
        return Err(Error::bad("the WebP is truncated: it is shorter than its header says"));
    }
    let bytes = if format == ImageFormat::Png { without_profile(bytes) } else { bytes.into() };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_ALLOCATION);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|e| broken(name, e))?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(Error::bad(format!("the {name} claims {width}×{height} pixels; the limit is {MAX_PIXELS} in all")));
    }
    Ok(Opened { decoder, name, format, size: [side(width)?, side(height)?] })
}

/// A PNG without its colour profile, which is not used: the decoder would inflate it, and a small
/// file can hold a profile of gigabytes. What is no chunk any more is left to the decoder.
fn without_profile(bytes: &[u8]) -> Cow<'_, [u8]> {
    // Length of the content, kind; content; a sum (ISO/IEC 15948, 5.3). A profile comes before the
    // pixels.
    let mut at = 8;
    while let Some((&[a, b, c, d, ref kind @ ..], _)) = bytes.get(at..).and_then(<[u8]>::split_first_chunk::<8>) {
        let end = usize::try_from(u32::from_be_bytes([a, b, c, d]))
            .ok()
            .and_then(|length| at.checked_add(length)?.checked_add(12));
        let Some(end) = end.filter(|&end| end <= bytes.len()) else { break };
        match kind {
            b"iCCP" => return [&bytes[..at], &bytes[end..]].concat().into(),
            b"IDAT" => break,
            _ => at = end,
        }
    }
    bytes.into()
}

fn side(length: u32) -> Result<usize> {
    usize::try_from(length).map_err(|e| Error::bad("the image is too large").because(e))
}

fn to_rgb(image: DynamicImage) -> Result<RgbImage> {
    let (width, height) = (side(image.width())?, side(image.height())?);
    let pixels = match image {
        DynamicImage::ImageRgb8(i) => i.into_raw(),
        DynamicImage::ImageRgba8(i) => i.as_raw().chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        DynamicImage::ImageLuma8(i) => i.as_raw().iter().flat_map(|&v| [v; 3]).collect(),
        DynamicImage::ImageLumaA8(i) => i.as_raw().chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        DynamicImage::ImageRgb16(i) => i.as_raw().iter().map(|&v| high_byte(v)).collect(),
        DynamicImage::ImageRgba16(i) => {
            i.as_raw().chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]].map(high_byte)).collect()
        }
        DynamicImage::ImageLuma16(i) => i.as_raw().iter().flat_map(|&v| [high_byte(v); 3]).collect(),
        DynamicImage::ImageLumaA16(i) => i.as_raw().chunks_exact(2).flat_map(|p| [high_byte(p[0]); 3]).collect(),
        other => return Err(Error::bad(format!("pixels of type {:?} are not supported", other.color()))),
    };
    Ok(RgbImage { width, height, pixels })
}

fn high_byte(value: u16) -> u8 {
    value.to_be_bytes()[0]
}

/// Whether the JPEG's segments lead to its end-of-image marker (ITU-T T.81, annex B).
///
/// The decoder paints what a truncated file lacks in gray and reports no error, and such a picture
/// must not count as read. Segments are stepped over by their lengths, so the marker of a thumbnail
/// inside one is not taken for it.
fn reaches_end_of_image(bytes: &[u8]) -> bool {
    const END_OF_IMAGE: u8 = 0xD9;
    let mut rest = bytes;
    loop {
        let Some(at) = rest.windows(2).position(|w| w[0] == 0xFF && w[1] != 0xFF) else { return false };
        let marker = rest[at + 1];
        rest = &rest[at + 2..];
        match marker {
            END_OF_IMAGE => return true,
            // No length follows: a stuffed 0xFF of the coded data, TEM, restarts, start of image.
            0x00 | 0x01 | 0xD0..=0xD8 => {}
            _ => {
                let Some(&[high, low]) = rest.first_chunk::<2>() else { return false };
                let Some(after) = rest.get(usize::from(u16::from_be_bytes([high, low]))..) else { return false };
                rest = after;
            }
        }
    }
}

/// Whether the file is as long as its RIFF header says; the decoder takes zeros for the last bytes
/// that are missing.
fn reaches_riff_end(bytes: &[u8]) -> bool {
    let size = bytes.get(4..).and_then(<[u8]>::first_chunk::<4>).map(|size| u32::from_le_bytes(*size));
    size.and_then(|size| usize::try_from(size).ok()).is_some_and(|size| bytes.len() - 8 >= size)
}

#[cfg(test)]
mod tests {
    use image::codecs::png::PngEncoder;
    use image::{ExtendedColorType, ImageEncoder};

    use super::*;

    #[test]
    fn the_end_of_a_thumbnail_is_not_the_end_of_the_image() {
        // Start, APP1 of 6 bytes that holds an end marker, a scan with a stuffed 0xFF and a
        // restart.
        let mut jpeg = vec![0xFF, 0xD8, 0xFF, 0xE1, 0, 6, 0xFF, 0xD9, 0xFF, 0xD9];
        jpeg.extend([0xFF, 0xDA, 0, 2, 1, 0xFF, 0x00, 2, 0xFF, 0xD0, 3]);
        assert!(!reaches_end_of_image(&jpeg));
        jpeg.extend([0xFF, 0xFF, 0xD9]);
        assert!(reaches_end_of_image(&jpeg));
        for end in 0..jpeg.len() {
            assert!(!reaches_end_of_image(&jpeg[..end]), "cut at {end}");
        }
    }

    #[test]
    fn what_is_no_image_is_said_to_be_none() {
        for bytes in [&b""[..], b"cat", b"GIF9", b"II*rest", b"\0\0\0\x20ftypavif and more"] {
            let message = decode(bytes).expect_err("no image").to_string();
            assert_eq!(message, "not a JPEG, PNG, WebP, BMP, TIFF or GIF image");
        }
        for (bytes, name) in [(&b"GIF89a\x02\0"[..], "GIF"), (b"II*\0rest", "TIFF")] {
            let message = decode(bytes).expect_err("no image").to_string();
            assert!(message.starts_with(&format!("the {name} is truncated or broken")), "{message}");
        }
    }

    #[test]
    fn profiles_are_not_inflated() {
        let mut plain = Vec::new();
        let pixels: Vec<u8> = (0..48).collect();
        PngEncoder::new(&mut plain).write_image(&pixels, 4, 4, ExtendedColorType::Rgb8).unwrap();
        let mut profiled = Vec::new();
        let mut encoder = PngEncoder::new(&mut profiled);
        encoder.set_icc_profile(vec![0; 1 << 24]).unwrap();
        encoder.write_image(&pixels, 4, 4, ExtendedColorType::Rgb8).unwrap();
        assert!(profiled.len() > plain.len() + 1000 && *without_profile(&profiled) == *plain);
        assert!(matches!(without_profile(&plain), Cow::Borrowed(_)));
        assert_eq!(decode(&profiled).unwrap().pixels, pixels);
        for end in 0..200 {
            assert!(*without_profile(&profiled[..end]) == profiled[..end], "cut at {end}");
        }
    }

    #[test]
    fn a_claimed_size_allocates_nothing() {
        // A BMP header of 30,000 × 30,000 pixels, and nothing after it.
        let mut bmp = b"BM".to_vec();
        bmp.extend([0, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0]);
        bmp.extend(30_000i32.to_le_bytes());
        bmp.extend(30_000i32.to_le_bytes());
        bmp.extend([1, 0, 24, 0]);
        bmp.extend([0; 24]);
        let message = decode(&bmp).expect_err("too large").to_string();
        assert!(message.contains("claims 30000×30000 pixels"), "{message}");
    }
}
