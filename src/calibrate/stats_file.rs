//! Statistics as a file: safetensors, so that any tool can look into it.
//!
//! | tensor | type | shape |
//! | --- | --- | --- |
//! | `exponents`, `zeros`, `min`, `max` | I32, U64, F32, F32 | activations |
//! | `NAME.positive`, `NAME.negative` | U64 | [`BINS`] |
//! | `NAME.power` | U64 | channels of the activation × [`POWER_BINS`] |
//!
//! One metadata entry `repquant` holds the rest as JSON: the kind of file, its version, the model's
//! digest, the preprocessing, the number of images and the activations' names in order. The same
//! statistics give the same bytes.

#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::collections::{HashMap, HashSet};
use std::path::Path;

use ndarray::Array2;
use safetensors::tensor::{Dtype, Metadata, TensorView};
use safetensors::{SafeTensors, serialize};
use serde::{Deserialize, Serialize};

use super::{ActivationStats, BINS, Calibration, POWER_BINS};
use crate::error::{Term, Text, text};
use crate::model::Preprocessing;
use crate::tensor_file::{self, METADATA_KEY, open};
use crate::{Error, Result};

/// What the entry calls this kind of file.
const KIND: &str = "statistics";
/// Version of the layout.
const VERSION: u64 = 1;

/// The metadata entry.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    kind: String,
    version: u64,
    model_digest: String,
    preprocessing: Preprocessing,
    images: u64,
    activations: Vec<String>,
}

/// The part of the entry that every version has, read first so that another kind or version is
/// named as such.
#[derive(Deserialize)]
struct Kind {
    kind: String,
    version: u64,
}

/// What to do about a file that is not one of ours.
fn hint() -> Text {
    text!["statistics are written by ", Term::Calibrate, " and ", Term::Merge]
}

/// The file's bytes.
///
/// # Errors
/// Where the statistics could not be read back: no images, an activation that saw no values,
/// contradicting counts.
pub fn to_bytes(calibration: &Calibration) -> Result<Vec<u8>> {
    check(calibration)?;
    let stats = &calibration.activations;
    let header = Header {
        kind: KIND.into(),
        version: VERSION,
        model_digest: calibration.model_digest.clone(),
        preprocessing: calibration.preprocessing.clone(),
        images: calibration.images,
        activations: stats.iter().map(|a| a.name.clone()).collect(),
    };
    let wrong = |e: &dyn std::fmt::Display| Error::bad(format!("the statistics cannot be written: {e}"));
    let header = serde_json::to_string(&header).map_err(|e| wrong(&e))?;

    let list = vec![stats.len()];
    let bytes_u64 = |values: &mut dyn Iterator<Item = &u64>| values.flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
    let exponents = stats.iter().flat_map(|a| a.exponent.to_le_bytes()).collect();
    let min = stats.iter().flat_map(|a| a.min.to_le_bytes()).collect();
    let max = stats.iter().flat_map(|a| a.max.to_le_bytes()).collect();
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = vec![
        ("exponents".into(), Dtype::I32, list.clone(), exponents),
        ("zeros".into(), Dtype::U64, list.clone(), bytes_u64(&mut stats.iter().map(|a| &a.zeros))),
        ("min".into(), Dtype::F32, list.clone(), min),
        ("max".into(), Dtype::F32, list, max),
    ];
    for a in stats {
        let mut add = |part, shape, values: &mut dyn Iterator<Item = &u64>| {
            tensors.push((format!("{}.{part}", a.name), Dtype::U64, shape, bytes_u64(values)));
        };
        add("positive", vec![BINS], &mut a.positive.iter());
        add("negative", vec![BINS], &mut a.negative.iter());
        add("power", vec![a.channels(), POWER_BINS], &mut a.power.iter());
    }
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name.as_str(), view)).map_err(|e| wrong(&e))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    serialize(views, Some(HashMap::from([(METADATA_KEY.to_string(), header)]))).map_err(|e| wrong(&e))
}

/// Reads a statistics file.
///
/// # Errors
/// Where it cannot be read, is not a statistics file, or contradicts itself. A malformed file never
/// makes it panic or take more memory than the file is long.
pub fn read(path: &Path) -> Result<Calibration> {
    let bytes = tensor_file::read(path)?;
    parse(&bytes).map_err(|e| e.at(path.display()))
}

fn parse(bytes: &[u8]) -> Result<Calibration> {
    let broken = |e| Error::bad("not a whole safetensors file").because(e).hint(hint());
    let (metadata, tensors) = open(bytes).map_err(broken)?;
    let header = header(&metadata)?;
    let count = header.activations.len();
    // The header's names are bounded by the tensors that the file really holds: three for each
    // activation, four more.
    if count.checked_mul(3).and_then(|n| n.checked_add(4)) != Some(tensors.len()) {
        return Err(Error::bad(format!(
            "{} tensors for {count} activations: there should be 3 for each, `exponents`, `zeros`, `min` and `max`",
            tensors.len()
        )));
    }
    let exponents = values(&tensors, "exponents", Dtype::I32, &[count], i32::from_le_bytes)?;
    let zeros = values(&tensors, "zeros", Dtype::U64, &[count], u64::from_le_bytes)?;
    let min = values(&tensors, "min", Dtype::F32, &[count], f32::from_le_bytes)?;
    let max = values(&tensors, "max", Dtype::F32, &[count], f32::from_le_bytes)?;
    let mut activations = Vec::with_capacity(count);
    for (((name, exponent), zeros), (min, max)) in
        header.activations.into_iter().zip(exponents).zip(zeros).zip(min.into_iter().zip(max))
    {
        let part = |part: &str, shape: &[usize]| {
            values(&tensors, &format!("{name}.{part}"), Dtype::U64, shape, u64::from_le_bytes)
        };
        let power = format!("{name}.power");
        let channels = tensor(&tensors, &power)?.shape().first().copied().unwrap_or(0);
        let (positive, negative) = (part("positive", &[BINS])?, part("negative", &[BINS])?);
        let power = Array2::from_shape_vec((channels, POWER_BINS), part("power", &[channels, POWER_BINS])?)
            .map_err(|e| Error::bad("shape and length differ").because(e).at(power))?;
        activations.push(ActivationStats { name, exponent, zeros, min, max, positive, negative, power });
    }
    let calibration = Calibration {
        model_digest: header.model_digest,
        preprocessing: header.preprocessing,
        images: header.images,
        activations,
    };
    check(&calibration)?;
    Ok(calibration)
}

fn header(metadata: &Metadata) -> Result<Header> {
    let text = metadata.metadata().as_ref().and_then(|m| m.get(METADATA_KEY));
    let text = text.ok_or_else(|| Error::bad("not a statistics file").hint(hint()))?;
    let malformed = |e| Error::bad("the metadata entry is malformed").because(e).hint(hint());
    let Kind { kind, version } = serde_json::from_str(text).map_err(malformed)?;
    if kind != KIND {
        return Err(Error::bad(format!("not a statistics file but a {}", kind.escape_debug())).hint(hint()));
    }
    if version != VERSION {
        return Err(Error::bad(format!("version {version} of the statistics; this program reads {VERSION}"))
            .hint("collect them again, or use the version of repquant that wrote them"));
    }
    serde_json::from_str(text).map_err(malformed)
}

fn tensor<'a>(tensors: &SafeTensors<'a>, name: &str) -> Result<TensorView<'a>> {
    tensors.tensor(name).map_err(|_| Error::bad(format!("tensor {name} is missing")))
}

/// The values of a tensor of exactly this type and shape.
fn values<T, const N: usize>(
    tensors: &SafeTensors<'_>,
    name: &str,
    dtype: Dtype,
    shape: &[usize],
    value: fn([u8; N]) -> T,
) -> Result<Vec<T>> {
    let view = tensor(tensors, name)?;
    if view.dtype() != dtype || view.shape() != shape {
        return Err(Error::bad(format!(
            "tensor {name} is {:?} {:?} and should be {dtype:?} {shape:?}",
            view.dtype(),
            view.shape()
        )));
    }
    let (words, _) = view.data().as_chunks::<N>();
    Ok(words.iter().map(|bytes| value(*bytes)).collect())
}

/// Whether statistics are what counting could have given.
fn check(calibration: &Calibration) -> Result<()> {
    if calibration.images == 0 || calibration.activations.is_empty() {
        return Err(Error::bad("these statistics hold no images or no activations"));
    }
    let mut names = HashSet::new();
    for stats in &calibration.activations {
        if !names.insert(stats.name.as_str()) {
            return Err(Error::bad(format!("activation {} is there twice", stats.name)));
        }
        check_activation(stats, calibration.images)
            .map_err(|what| Error::bad(what).at(format!("activation {}", stats.name)))?;
    }
    Ok(())
}

fn check_activation(a: &ActivationStats, images: u64) -> Result<(), String> {
    if !a.min.is_finite() || !a.max.is_finite() || a.min > a.max {
        return Err(format!("the smallest value {} and the largest {} are no range", a.min, a.max));
    }
    if a.exponent != ActivationStats::exponent_for(a.max_abs()) {
        return Err(format!("exponent {} does not belong to values from {} to {}", a.exponent, a.min, a.max));
    }
    let count = a.checked_count().ok_or("the counts do not fit 64 bits")?;
    let of_power: u64 = a.power.iter().sum(); // fits: `checked_count` added it up
    if count - a.zeros != of_power {
        return Err(format!("the histogram holds {} values, the power classes {of_power}", count - a.zeros));
    }
    let channels = u64::try_from(a.channels()).map_err(|e| e.to_string())?;
    let each = images.checked_mul(channels).filter(|&n| n > 0 && count > 0 && count.is_multiple_of(n));
    if each.is_none() {
        return Err(format!("{count} values cannot be shared out to {images} images of {channels} channels"));
    }
    if a.power.rows().into_iter().any(|row| row.sum() > count / channels) {
        return Err("a channel has more values than its share".into());
    }
    let width = f64::exp2(f64::from(a.exponent));
    for (counts, limit, sign) in [(&a.positive, a.max, "positive"), (&a.negative, -a.min, "negative")] {
        let last = counts.iter().rposition(|&n| n > 0);
        let fits = match last.and_then(|bin| u32::try_from(bin).ok()).map(f64::from) {
            None => limit <= 0.0,
            Some(bin) => limit > 0.0 && (f64::from(limit) / width).floor() == bin,
        };
        if !fits {
            return Err(format!("the last {sign} bin in use is not that of {limit}"));
        }
    }
    if a.zeros == 0 && (a.min == 0.0 || a.max == 0.0) {
        return Err("the smallest or the largest value is 0, but no zeros are counted".into());
    }
    Ok(())
}
