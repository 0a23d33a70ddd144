//! Constants: from the file, from files beside it, or computed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use half::{bf16, f16};

use crate::onnx_proto::TensorProto;
use crate::{Error, Result};

/// The most axes that a tensor may have.
pub(super) const MOST_AXES: usize = 8;

/// A constant.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    /// Its sides, none for a single number.
    pub dims: Vec<usize>,
    /// Its values, row by row; the product of `dims` in number.
    pub values: Values,
}

/// Numbers, widened: floats to f32 (f64 is rounded), integers and booleans to i64.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Values {
    /// Of a float type.
    Float(Vec<f32>),
    /// Of an integer type, or booleans as 0 and 1.
    Int(Vec<i64>),
}

impl Values {
    /// How many.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Float(values) => values.len(),
            Self::Int(values) => values.len(),
        }
    }
}

impl Tensor {
    /// A list of integers.
    pub(super) fn ints(values: Vec<i64>) -> Self {
        Self { dims: vec![values.len()], values: Values::Int(values) }
    }

    /// Its values as integers.
    pub(super) fn as_ints(&self) -> Result<&[i64]> {
        match &self.values {
            Values::Int(values) => Ok(values),
            Values::Float(_) => Err(Error::bad("a constant is of floats; integers are expected")),
        }
    }

    /// Its values as floats.
    pub(super) fn as_floats(&self) -> Result<&[f32]> {
        match &self.values {
            Values::Float(values) => Ok(values),
            Values::Int(_) => Err(Error::bad("a constant is of integers; floats are expected")),
        }
    }

    /// Its numbers, whatever their type.
    pub(super) fn numbers(&self) -> Vec<f32> {
        match &self.values {
            Values::Float(values) => values.clone(),
            Values::Int(values) => values.iter().map(|&value| value as f32).collect(),
        }
    }

    /// Its values, which must be floats and `len` in number.
    pub(super) fn vector(&self, len: usize) -> Result<&[f32]> {
        match self.as_floats()? {
            values if values.len() == len && self.dims.len() <= 1 => Ok(values),
            _ => Err(Error::bad(format!("a constant has shape {:?}; [{len}] is expected", self.dims))),
        }
    }
}

/// Product of sides, none where it does not fit.
pub(super) fn product(sides: &[usize]) -> Option<usize> {
    sides.iter().try_fold(1usize, |product, &side| product.checked_mul(side))
}

/// What a file's constants are read with.
pub(super) struct Source {
    /// The folder where external data lies; none for a network in memory.
    pub folder: Option<PathBuf>,
}

impl Source {
    /// Reads a constant: nothing is allocated before its bytes are known to be there.
    ///
    /// # Errors
    /// Sides, values and bytes that contradict each other, a type that is not supported, external
    /// data that is missing.
    pub(super) fn tensor(&self, proto: &TensorProto) -> Result<Tensor> {
        let dims: Option<Vec<usize>> = proto.dims.iter().map(|&side| usize::try_from(side).ok()).collect();
        let dims = dims.filter(|dims| dims.len() <= MOST_AXES);
        let (dims, count) = dims.and_then(|dims| product(&dims).map(|count| (dims, count))).ok_or_else(|| {
            Error::bad(format!("has the sides {:?}, which make no tensor of at most {MOST_AXES} axes", proto.dims))
        })?;
        let kind = proto.data_type.unwrap_or(0);
        let values = match width(kind) {
            None => {
                return Err(Error::bad(format!("has the data type number {kind}; floats and integers are supported")));
            }
            Some(width) if proto.data_location == Some(TensorProto::EXTERNAL) => {
                let bytes = count.checked_mul(width).ok_or_else(|| Error::bad("is too large"))?;
                from_bytes(kind, &self.external(proto, bytes)?)?
            }
            Some(width) => match &proto.raw_data {
                Some(raw) if count.checked_mul(width) == Some(raw.len()) => from_bytes(kind, raw)?,
                Some(raw) => {
                    let what = format!("has {} bytes for the sides {dims:?} of {width} bytes each", raw.len());
                    return Err(Error::bad(what));
                }
                None => from_lists(kind, proto)?,
            },
        };
        if values.len() != count {
            return Err(Error::bad(format!("has {} values for the sides {dims:?}", values.len())));
        }
        Ok(Tensor { dims, values })
    }

    /// Bytes of a file beside the model.
    fn external(&self, proto: &TensorProto, expected: usize) -> Result<Vec<u8>> {
        let entry = |key: &str| {
            let found = proto.external_data.iter().find(|entry| entry.key.as_deref() == Some(key));
            found.and_then(|entry| entry.value.as_deref())
        };
        let number = |key: &str| {
            entry(key)
                .map(str::parse::<u64>)
                .transpose()
                .map_err(|e| Error::bad(format!("its {key} in another file")).because(e))
        };
        let Some(folder) = &self.folder else {
            return Err(Error::bad("is in another file, and there is no folder to look in"));
        };
        let location = entry("location").ok_or_else(|| Error::bad("is in another file that is not named"))?;
        let inside = |path: &Path| path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        let outside = || {
            Error::bad(format!("is said to be in `{}`, outside the model's folder", location.escape_debug()))
                .hint("external data is read from the folder of the model alone")
        };
        // A backslash separates folders on some systems alone; a name with one is no name for a
        // data file.
        if location.is_empty() || location.contains('\\') || !inside(Path::new(location)) {
            return Err(outside());
        }
        let path = folder.join(location);
        let failed = |e: std::io::Error| Error::input(&path, "external data cannot be read").because(e);
        let (real, home) = (path.canonicalize().map_err(failed)?, folder.canonicalize().map_err(failed)?);
        if !real.starts_with(home) {
            return Err(outside());
        }
        if !std::fs::metadata(&real).map_err(failed)?.is_file() {
            return Err(Error::input(&path, "external data is not a file"));
        }
        let mut file = File::open(&real).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let length = u64::try_from(expected).map_err(|e| Error::bad("is too large").because(e))?;
        let offset = number("offset")?.unwrap_or(0);
        if number("length")?.is_some_and(|said| said != length) {
            return Err(Error::bad(format!(
                "is not of the {expected} bytes that its sides ask for in {}",
                path.display()
            )));
        }
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(Error::input(&path, format!("ends at {size}, before {length} bytes from {offset} on")));
        }
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let mut bytes = Vec::with_capacity(expected);
        file.take(length).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() != expected {
            return Err(Error::input(&path, "external data is cut short"));
        }
        Ok(bytes)
    }
}

/// Bytes of one value of a type, as `TensorProto.DataType` counts them; none for those that are not
/// read.
fn width(kind: i32) -> Option<usize> {
    match kind {
        2 | 3 | 9 => Some(1),
        4 | 5 | 10 | 16 => Some(2),
        1 | 6 | 12 => Some(4),
        7 | 11 | 13 => Some(8),
        _ => None,
    }
}

/// A list of every value made by `convert`.
fn each<const N: usize, T>(bytes: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&b| convert(b)).collect()
}

fn from_bytes(kind: i32, bytes: &[u8]) -> Result<Values> {
    Ok(match kind {
        1 => Values::Float(each(bytes, f32::from_le_bytes)),
        10 => Values::Float(each(bytes, |b| f16::from_le_bytes(b).to_f32())),
        16 => Values::Float(each(bytes, |b| bf16::from_le_bytes(b).to_f32())),
        11 => Values::Float(each(bytes, |b| narrowed(f64::from_le_bytes(b)))),
        2 | 9 => Values::Int(each(bytes, |[b]: [u8; 1]| i64::from(b))),
        3 => Values::Int(each(bytes, |b| i64::from(i8::from_le_bytes(b)))),
        4 => Values::Int(each(bytes, |b| i64::from(u16::from_le_bytes(b)))),
        5 => Values::Int(each(bytes, |b| i64::from(i16::from_le_bytes(b)))),
        6 => Values::Int(each(bytes, |b| i64::from(i32::from_le_bytes(b)))),
        12 => Values::Int(each(bytes, |b| i64::from(u32::from_le_bytes(b)))),
        7 => Values::Int(each(bytes, i64::from_le_bytes)),
        _ => Values::Int(unsigned(each(bytes, u64::from_le_bytes).as_slice())?),
    })
}

fn from_lists(kind: i32, proto: &TensorProto) -> Result<Values> {
    // 16-bit floats are kept as their bits, in the low half.
    let bits = |&v: &i32| u16::try_from(v).map_err(|e| Error::bad("has a 16-bit float of more bits").because(e));
    let halves = |convert: fn(u16) -> f32| {
        proto.int32_data.iter().map(|v| bits(v).map(convert)).collect::<Result<Vec<f32>>>().map(Values::Float)
    };
    match kind {
        1 => Ok(Values::Float(proto.float_data.clone())),
        10 => halves(|bits| f16::from_bits(bits).to_f32()),
        16 => halves(|bits| bf16::from_bits(bits).to_f32()),
        11 => Ok(Values::Float(proto.double_data.iter().map(|&v| narrowed(v)).collect())),
        7 => Ok(Values::Int(proto.int64_data.clone())),
        12 | 13 => unsigned(&proto.uint64_data).map(Values::Int),
        _ => Ok(Values::Int(proto.int32_data.iter().map(|&v| i64::from(v)).collect())),
    }
}

fn unsigned(values: &[u64]) -> Result<Vec<i64>> {
    let signed = values.iter().map(|&v| i64::try_from(v));
    signed.collect::<Result<_, _>>().map_err(|e| Error::bad("has an integer that is too large").because(e))
}

/// Bounds of what is exact in both kinds of number.
pub(super) const MOST_INT: f32 = 9.0e15;

/// Rounded to f32; what is too large becomes infinite.
#[allow(clippy::cast_possible_truncation, reason = "rounding is meant")]
pub(super) fn narrowed(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx_proto::StringStringEntryProto;

    const MEMORY: Source = Source { folder: None };

    fn proto(dims: &[i64], kind: i32) -> TensorProto {
        TensorProto { dims: dims.to_vec(), data_type: Some(kind), ..Default::default() }
    }

    #[test]
    fn every_type_is_read_from_bytes_and_lists() {
        let raw = |kind, bytes: &[u8]| {
            let proto = TensorProto { raw_data: Some(bytes.to_vec()), ..proto(&[1], kind) };
            MEMORY.tensor(&proto).unwrap().values
        };
        let float = |v: f32| Values::Float(vec![v]);
        let int = |v: i64| Values::Int(vec![v]);
        assert_eq!(raw(1, &1.5f32.to_le_bytes()), float(1.5));
        assert_eq!(raw(11, &1.5f64.to_le_bytes()), float(1.5));
        assert_eq!(raw(10, &f16::from_f32(-0.25).to_le_bytes()), float(-0.25));
        assert_eq!(raw(16, &bf16::from_f32(-0.25).to_le_bytes()), float(-0.25));
        assert_eq!((raw(2, &[255]), raw(3, &[255]), raw(9, &[1])), (int(255), int(-1), int(1)));
        assert_eq!((raw(4, &[255, 255]), raw(5, &[255, 255])), (int(65535), int(-1)));
        assert_eq!((raw(6, &[255; 4]), raw(12, &[255; 4]), raw(7, &[255; 8])), (int(-1), int(4294967295), int(-1)));
        let half = i32::from(f16::from_f32(2.5).to_bits());
        let lists = [
            (TensorProto { float_data: vec![2.5], ..proto(&[1], 1) }, float(2.5)),
            (TensorProto { double_data: vec![2.5], ..proto(&[1], 11) }, float(2.5)),
            (TensorProto { int32_data: vec![half], ..proto(&[1], 10) }, float(2.5)),
            (TensorProto { int32_data: vec![-3], ..proto(&[], 6) }, int(-3)),
            (TensorProto { int64_data: vec![-3], ..proto(&[], 7) }, int(-3)),
            (TensorProto { uint64_data: vec![3], ..proto(&[], 13) }, int(3)),
        ];
        for (proto, expected) in lists {
            assert_eq!(MEMORY.tensor(&proto).unwrap().values, expected);
        }
    }

    #[test]
    fn claims_that_the_bytes_do_not_keep_are_refused() {
        let raw = |dims: &[i64], kind, len| TensorProto { raw_data: Some(vec![0; len]), ..proto(dims, kind) };
        let cases = [
            (raw(&[2], 1, 4), "4 bytes"),
            (raw(&[i64::MAX, i64::MAX], 1, 4), "make no tensor"),
            (raw(&[i64::MAX], 1, 4), "4 bytes"),
            (raw(&[-1], 1, 4), "make no tensor"),
            (raw(&[1; 9], 1, 4), "make no tensor"),
            (raw(&[1], 8, 4), "data type number 8"),
            (raw(&[1], 0, 4), "data type number 0"),
            (raw(&[1], 13, 8), ""),
            (TensorProto { float_data: vec![1.0], ..proto(&[2], 1) }, "1 values"),
            (TensorProto { int32_data: vec![1 << 16], ..proto(&[1], 10) }, "more bits"),
            (TensorProto { data_location: Some(1), ..proto(&[1], 1) }, "no folder"),
        ];
        for (proto, words) in cases {
            match MEMORY.tensor(&proto) {
                Ok(tensor) => assert!(words.is_empty(), "{tensor:?}"),
                Err(error) => assert!(!words.is_empty() && error.to_string().contains(words), "{error}"),
            }
        }
        let huge = TensorProto { raw_data: Some(vec![255; 8]), ..proto(&[1], 13) };
        assert!(MEMORY.tensor(&huge).unwrap_err().to_string().contains("too large"));
    }

    #[test]
    fn external_data_stays_in_the_folder() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("model");
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        let bytes: Vec<u8> = [1f32, 2.0, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        std::fs::write(folder.join("sub/w.bin"), &bytes).unwrap();
        std::fs::write(root.path().join("secret"), &bytes).unwrap();
        let source = Source { folder: Some(folder.clone()) };
        let tensor = |entries: &[(&str, &str)]| {
            let entry =
                |(k, v): &(&str, &str)| StringStringEntryProto { key: Some((*k).into()), value: Some((*v).into()) };
            let external_data = entries.iter().map(entry).collect();
            source.tensor(&TensorProto { external_data, data_location: Some(1), ..proto(&[2], 1) })
        };
        let good = tensor(&[("location", "sub/w.bin"), ("offset", "4"), ("length", "8")]).unwrap();
        assert_eq!(good.values, Values::Float(vec![2.0, 3.0]));
        assert_eq!(tensor(&[("location", "./sub/w.bin")]).unwrap().values, Values::Float(vec![1.0, 2.0]));
        let absolute = root.path().join("secret").display().to_string();
        for (entries, words) in [
            (vec![], "not named"),
            (vec![("location", "../secret")], "outside"),
            (vec![("location", "sub/../../secret")], "outside"),
            (vec![("location", absolute.as_str())], "outside"),
            (vec![("location", "..\\secret")], "outside"),
            (vec![("location", "")], "outside"),
            (vec![("location", "none.bin")], "none.bin"),
            (vec![("location", "sub")], "not a file"),
            (vec![("location", "sub/w.bin"), ("offset", "8")], "ends at 12"),
            (vec![("location", "sub/w.bin"), ("offset", "18446744073709551615")], "ends at 12"),
            (vec![("location", "sub/w.bin"), ("offset", "-4")], "offset"),
            (vec![("location", "sub/w.bin"), ("length", "4")], "8 bytes"),
        ] {
            let error = tensor(&entries).unwrap_err().to_string();
            assert!(error.contains(words), "{entries:?}: {error}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(root.path().join("secret"), folder.join("link")).unwrap();
            assert!(tensor(&[("location", "link")]).unwrap_err().to_string().contains("outside"));
        }
    }
}
