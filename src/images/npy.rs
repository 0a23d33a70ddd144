//! Arrays as `NumPy`'s `save` writes them (`.npy`, format 1.0 to 3.0): inputs of any number of
//! channels.
//!
//! A reader of its own: the header is one Python dictionary of three keys, and here the length of
//! the file is compared with what it says before anything is allocated, and nothing recurses.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::path::Path;

use super::decode::read_file;
use crate::model::Preprocessing;
use crate::{Error, Result};

/// What such files are called.
pub(super) const EXTENSION: &str = "npy";

/// The values of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    U8,
    U16,
    F16,
    F32,
    F64,
}

impl Element {
    /// From `NumPy`'s code of a type, without the order of its bytes.
    fn of(code: &str) -> Option<Self> {
        match code {
            "u1" => Some(Self::U8),
            "u2" => Some(Self::U16),
            "f2" => Some(Self::F16),
            "f4" => Some(Self::F32),
            "f8" => Some(Self::F64),
            _ => None,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 | Self::F16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// Whether values are those of pixels, to be normalized.
    fn is_pixel(self) -> bool {
        matches!(self, Self::U8 | Self::U16)
    }

    /// The value of these bytes, the least one first; that of a pixel on 0 … 1.
    fn value(self, bytes: [u8; 8]) -> f64 {
        let [a, b, c, d, ..] = bytes;
        match self {
            Self::U8 => f64::from(a) / 255.0,
            Self::U16 => f64::from(u16::from_le_bytes([a, b])) / 65535.0,
            Self::F16 => half::f16::from_le_bytes([a, b]).to_f64(),
            Self::F32 => f64::from(f32::from_le_bytes([a, b, c, d])),
            Self::F64 => f64::from_le_bytes(bytes),
        }
    }
}

/// What the header says.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    element: Element,
    big_endian: bool,
    /// Whether the first axis is the one whose neighbours lie side by side.
    fortran: bool,
    shape: Vec<usize>,
}

/// Whether a file is called as arrays are.
pub(super) fn is_array(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(EXTENSION))
}

/// Reads an array of channels × height × width (or height × width for one channel) as the input of
/// a network: bits of f32, NHWC with channels padded to a multiple of 4, as a batch of values has
/// them.
///
/// Floats are the input's very values; uint8 and uint16 are pixels, `v / 255` and `v / 65535`, and
/// normalized.
///
/// # Errors
/// A file that cannot be read, is no such array, is longer or shorter than it says, has another
/// shape, or values that are not finite. The message does not name the file.
pub(super) fn read(path: &Path, preprocessing: &Preprocessing) -> Result<Vec<u32>> {
    parse(&read_file(path)?, preprocessing)
}

fn parse(bytes: &[u8], preprocessing: &Preprocessing) -> Result<Vec<u32>> {
    let (header, data) = open(bytes)?;
    let (channels, [height, width]) = (preprocessing.channels(), preprocessing.size);
    check_shape(&header.shape, channels, [height, width])?;
    let size = header.element.bytes();
    let expected = header.shape.iter().try_fold(size, |bytes, side| bytes.checked_mul(*side));
    if expected != Some(data.len()) {
        let expected = expected.map_or_else(|| "more bytes than there can be".into(), |n| format!("{n} bytes"));
        return Err(Error::bad(format!("{expected} of values are expected, the file has {}", data.len())));
    }
    let padded = channels.next_multiple_of(4);
    let mut words = Vec::with_capacity(height * width * padded);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        for c in 0..channels {
            let index = if header.fortran { c + channels * (y + height * x) } else { (c * height + y) * width + x };
            let mut raw = [0; 8];
            raw[..size].copy_from_slice(&data[index * size..][..size]);
            if header.big_endian {
                raw[..size].reverse();
            }
            let mut value = header.element.value(raw);
            if header.element.is_pixel() {
                value = (value - preprocessing.mean[c]) / preprocessing.std[c];
            }
            #[allow(clippy::cast_possible_truncation, reason = "rounded once, as the values of pixels are")]
            let value = value as f32;
            if !value.is_finite() {
                return Err(Error::bad(format!("the value at [{c}, {y}, {x}] is {value}")));
            }
            words.push(value.to_bits());
        }
        words.resize(words.len() + padded - channels, 0);
    }
    Ok(words)
}

fn check_shape(shape: &[usize], channels: usize, [height, width]: [usize; 2]) -> Result<()> {
    if shape == [channels, height, width] || (channels == 1 && shape == [height, width]) {
        return Ok(());
    }
    let last = shape == [height, width, channels];
    let why = if last { ": its channels come last, save `array.transpose(2, 0, 1)`" } else { "" };
    Err(Error::bad(format!(
        "its shape is {shape:?}; channels × height × width, [{channels}, {height}, {width}], is expected{why}"
    )))
}

/// The header and the bytes of the values.
fn open(bytes: &[u8]) -> Result<(Header, &[u8])> {
    let Some(rest) = bytes.strip_prefix(b"\x93NUMPY") else {
        return Err(Error::bad("not an array of NumPy (.npy)"));
    };
    let truncated = || Error::bad("the array is truncated: its header is not whole");
    let (&[major, _], rest) = rest.split_first_chunk::<2>().ok_or_else(truncated)?;
    let (length, rest) = match major {
        1 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(truncated)?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(truncated)?;
            (usize::try_from(u32::from_le_bytes(*length)).map_err(|_| truncated())?, rest)
        }
        other => return Err(Error::bad(format!("an array of version {other} of the format; 1 to 3 are read"))),
    };
    let (text, data) = rest.split_at_checked(length).ok_or_else(truncated)?;
    let text = std::str::from_utf8(text).map_err(|e| Error::bad("the array's header is no text").because(e))?;
    Ok((header(text)?, data))
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 8, 8), }`, the keys in any order.
fn header(text: &str) -> Result<Header> {
    let unreadable = || Error::bad("the array's header cannot be read").hint("write it with `numpy.save`");
    let mut rest = text.trim().strip_prefix('{').ok_or_else(unreadable)?.trim_start();
    let (mut code, mut fortran, mut shape) = (None, None, None);
    while !rest.starts_with('}') {
        let (key, after) = quoted(rest).ok_or_else(unreadable)?;
        let value = after.trim_start().strip_prefix(':').ok_or_else(unreadable)?.trim_start();
        rest = match key {
            "descr" => {
                // A list is a type of several fields.
                let several = || Error::bad("an array of records; numbers are expected");
                let (found, after) = quoted(value).ok_or_else(several)?;
                code = Some(found);
                after
            }
            "fortran_order" => {
                let word = ["True", "False"].into_iter().find_map(|word| Some((word, value.strip_prefix(word)?)));
                let (word, after) = word.ok_or_else(unreadable)?;
                fortran = Some(word == "True");
                after
            }
            "shape" => {
                let (sides, after) = value.strip_prefix('(').and_then(|v| v.split_once(')')).ok_or_else(unreadable)?;
                let sides = sides.split(',').map(str::trim).filter(|side| !side.is_empty());
                // Python 2 wrote `8L`.
                let sides = sides.map(|side| side.trim_end_matches('L').parse().ok()).collect::<Option<Vec<usize>>>();
                shape = Some(sides.ok_or_else(unreadable)?);
                after
            }
            _ => return Err(unreadable()),
        };
        rest = rest.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        if rest.is_empty() {
            return Err(unreadable());
        }
    }
    let (Some(code), Some(fortran), Some(shape)) = (code, fortran, shape) else { return Err(unreadable()) };
    let Some(element) = Element::of(code.trim_start_matches(['<', '>', '=', '|'])) else {
        let what = format!("an array of the type `{}`", code.escape_debug());
        return Err(Error::bad(format!("{what}; float16, float32, float64, uint8 or uint16 are expected")));
    };
    Ok(Header { element, big_endian: code.starts_with('>'), fortran, shape })
}

/// A string in quotes, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    text[1..].split_once(quote)
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "rounded once to f32, as is tested")]
mod tests {
    use super::*;
    use crate::model::{Color, Decode, Fit, Interpolation};

    fn input(channels: usize, size: [usize; 2]) -> Preprocessing {
        Preprocessing {
            size,
            resize: None,
            interpolation: Interpolation::Bilinear,
            mean: (0..channels).map(|c| c as f64 / 8.0).collect(),
            std: (0..channels).map(|c| 0.5 + c as f64 / 4.0).collect(),
            fit: Fit::Crop,
            color: Color::of(channels),
            decode: Decode::Full,
        }
    }

    /// A file as `numpy.save` writes it.
    fn file(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let mut text = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
        while (10 + text.len() + 1) % 64 != 0 {
            text.push(' ');
        }
        text.push('\n');
        let length = u16::try_from(text.len()).expect("short").to_le_bytes();
        [b"\x93NUMPY\x01\x00".as_slice(), &length, text.as_bytes(), data].concat()
    }

    fn floats(words: &[u32]) -> Vec<f32> {
        words.iter().map(|word| f32::from_bits(*word)).collect()
    }

    #[test]
    fn floats_are_the_input_itself() {
        // 2 × 1 × 3: pixel by pixel, padded to 4 channels.
        let values = [1.0, 2.0, 3.0, -4.0, -5.0, -6.5f32];
        let expected = [1.0, -4.0, 0.0, 0.0, 2.0, -5.0, 0.0, 0.0, 3.0, -6.5, 0.0, 0.0];
        let little: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let big: Vec<u8> = values.iter().flat_map(|v| v.to_be_bytes()).collect();
        let double: Vec<u8> = values.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect();
        let half: Vec<u8> = values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
        // The first axis fastest: 1 -4 2 -5 3 -6.5.
        let fortran: Vec<u8> = [0usize, 3, 1, 4, 2, 5].iter().flat_map(|i| values[*i].to_le_bytes()).collect();
        for (descr, order, data) in [
            ("<f4", "False", little),
            (">f4", "False", big),
            ("<f8", "False", double),
            ("<f2", "False", half),
            ("<f4", "True", fortran),
        ] {
            let words = parse(&file(descr, order, "(2, 1, 3)", &data), &input(2, [1, 3])).expect("read");
            assert_eq!(floats(&words), expected, "{descr} {order}");
        }
    }

    #[test]
    fn integers_are_pixels_and_normalized() {
        let five: Vec<f32> = floats(
            &parse(&file("|u1", "False", "(5, 1, 1)", &[0, 51, 102, 204, 255]), &input(5, [1, 1])).expect("read"),
        );
        let expected = [0, 51, 102, 204, 255]
            .iter()
            .zip(0..)
            .map(|(v, c)| ((f64::from(*v) / 255.0 - f64::from(c) / 8.0) / (0.5 + f64::from(c) / 4.0)) as f32);
        assert_eq!(five[..5], expected.collect::<Vec<_>>());
        assert_eq!(five[5..], [0.0; 3]);
        // One channel may lack its axis.
        let data: Vec<u8> = [0u16, 13107, 65535].iter().flat_map(|v| v.to_be_bytes()).collect();
        let gray = floats(&parse(&file(">u2", "False", "(1, 3)", &data), &input(1, [1, 3])).expect("read"));
        assert_eq!(gray, [0.0, 0.0, 0.0, 0.0, 0.4, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let good = || file("<f4", "False", "(2, 1, 3)", &[0; 24]);
        let whole = good();
        assert!(parse(&whole, &input(2, [1, 3])).is_ok());
        for end in 0..whole.len() {
            assert!(parse(&whole[..end], &input(2, [1, 3])).is_err(), "cut at {end}");
        }
        let nan = file(
            "<f4",
            "False",
            "(2, 1, 3)",
            &[[0; 4], [0; 4], [0; 4], [0; 4], f32::NAN.to_le_bytes(), [0; 4]].concat(),
        );
        let huge = "(9223372036854775807, 9223372036854775807, 3)";
        for (bytes, words) in [
            (b"hello".to_vec(), "not an array of NumPy"),
            (whole[..whole.len() - 1].to_vec(), "24 bytes of values are expected, the file has 23"),
            ([&whole[..], &[0]].concat(), "24 bytes of values are expected, the file has 25"),
            (file("<f4", "False", "(1, 3, 2)", &[0; 24]), "save `array.transpose(2, 0, 1)`"),
            (file("<f4", "False", "(1, 2, 1, 3)", &[0; 24]), "its shape is [1, 2, 1, 3]; channels"),
            (file("<f4", "False", "(1, 3)", &[0; 12]), "[2, 1, 3], is expected"),
            (file("<f4", "False", huge, &[0; 24]), "its shape is [9223372036854775807"),
            (file("<f4", "False", "()", &[0; 4]), "its shape is []"),
            (file("<f4", "Maybe", "(2, 1, 3)", &[0; 24]), "header cannot be read"),
            (file("<f4", "False", "(2, -1, 3)", &[0; 24]), "header cannot be read"),
            (file("<i8", "False", "(2, 1, 3)", &[0; 48]), "type `<i8`; float16"),
            (file("|O", "False", "(2, 1, 3)", &[0; 48]), "type `|O`"),
            (nan, "the value at [1, 0, 1] is NaN"),
            (file("<f8", "False", "(2, 1, 3)", &1e300f64.to_le_bytes().repeat(6)), "the value at [0, 0, 0] is inf"),
        ] {
            let error = parse(&bytes, &input(2, [1, 3])).expect_err(words).to_string();
            assert!(error.contains(words), "{words}: {error}");
        }
        let records = good().iter().map(|b| if *b == b'<' { b'(' } else { *b }).collect::<Vec<_>>();
        assert!(parse(&records, &input(2, [1, 3])).is_err());
        for text in
            ["", "{", "{'descr'", "{'descr': ", "{'descr': [('a', '<f4')], }", "{'a': 1}", "{}", "{'shape': (3, }"]
        {
            assert!(header(text).is_err(), "{text}");
        }
    }
}
