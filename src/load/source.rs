//! Finds the checkpoint and its description, and reads both.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::arch::{self, Architecture};
use super::description::without_mark;
use super::tensors::Tensors;
use super::{Description, LoadOptions, TrainedNet, checkpoint, timm_config};
use crate::error::{Term, text};
use crate::tensor_file::{METADATA_KEY, read};
use crate::{Error, Result};

/// The weights' file in a Hugging Face folder.
const FOLDER_WEIGHTS: &str = "model.safetensors";
/// The description in a Hugging Face folder.
const FOLDER_CONFIG: &str = "config.json";

/// What a fused float file of this program says of itself in its metadata entry.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FloatMetadata {
    /// `float`.
    pub(crate) kind: String,
    /// Version of this form, [`FLOAT_VERSION`].
    pub(crate) version: u32,
    /// So that the file needs no other beside it.
    pub(crate) description: Description,
}

/// The only version of [`FloatMetadata`] so far.
pub(crate) const FLOAT_VERSION: u32 = 1;

/// A description, and what its source says beyond it.
struct Described {
    description: Description,
    /// The published architecture that the checkpoint must be.
    architecture: Option<&'static Architecture>,
    /// Number of logits.
    num_classes: Option<usize>,
    /// The architecture's name as the source writes it.
    name: Option<String>,
}

impl Described {
    fn plain(description: Description) -> Self {
        Self { description, architecture: None, num_classes: None, name: None }
    }

    /// A description file, or timm's configuration.
    fn read(file: &Path) -> Result<Self> {
        let parse = |text: &[u8]| {
            let text = std::str::from_utf8(text).map_err(|e| Error::bad("is not text").because(e))?;
            let text = without_mark(text);
            let json: Value = serde_json::from_str(text).map_err(|e| Error::bad("is not JSON").because(e))?;
            if !timm_config::is_timm(&json) {
                // Read from the text once more: its errors then name line and column.
                return Description::from_json(text).map(Self::plain);
            }
            let config = timm_config::read(json)?;
            Ok(Self {
                description: config.description,
                architecture: Some(config.architecture),
                num_classes: config.num_classes,
                name: Some(config.name),
            })
        };
        parse(&read(file)?).map_err(|e| e.at(file.display()))
    }

    /// What the options ask for.
    fn asked(options: &LoadOptions) -> Result<Option<Self>> {
        match (&options.describe, &options.arch) {
            (Some(_), Some(_)) => Err(Error::usage("a description file and an architecture are both given")
                .hint(text!["pass ", Term::Describe, " or ", Term::Arch, ", not both"])),
            (Some(file), None) => Self::read(file).map(Some),
            (None, Some(name)) => {
                let architecture = arch::find(name, Error::usage)?;
                Ok(Some(Self { architecture: Some(architecture), ..Self::plain(architecture.description()) }))
            }
            (None, None) => Ok(None),
        }
    }

    /// Holds the network to what the description's source says beyond the description.
    fn check(&self, net: &TrainedNet) -> Result<()> {
        if let Some(architecture) = self.architecture {
            architecture.check(&net.blocks)?;
        }
        let classes = net.classifier.bias.len();
        match self.num_classes.filter(|&said| said != classes) {
            Some(said) => Err(Error::bad(format!("config.json says {said} classes, the classifier has {classes}"))),
            None => Ok(()),
        }
    }
}

/// Loads a checkpoint: a `.safetensors` file, or a folder with `model.safetensors` and timm's
/// `config.json`.
///
/// The description is the first of: `options.describe` or `options.arch`; what a file written by
/// this program says of itself; `MODEL.json` beside the file, or `config.json` in the folder.
///
/// # Errors
/// [`ErrorKind::Usage`](crate::ErrorKind::Usage) where both options are given or the architecture
/// is unknown; [`ErrorKind::Input`](crate::ErrorKind::Input) where a file is missing or broken,
/// keys are missing or left over, a tensor has a wrong shape or type or values that are not finite,
/// a variance is negative, or the description contradicts the weights.
pub fn load(path: &Path, options: &LoadOptions) -> Result<TrainedNet> {
    let asked = Described::asked(options)?;
    let (weights, beside) = locate(path)?;
    let at = |e: Error| e.at(weights.display());
    let bytes = read(&weights)?;
    let tensors = Tensors::open(&bytes).map_err(at)?;
    let own = own_description(&tensors).map_err(at)?;
    let mut described = match asked.or_else(|| own.map(Described::plain)) {
        Some(described) => described,
        None if beside.is_file() => Described::read(&beside)?,
        None => {
            return Err(Error::input(&weights, "nothing describes this checkpoint").hint(text![
                format!("write {}, or pass ", beside.display()),
                Term::Describe,
                ", or ",
                Term::Arch,
                " for a published model",
            ]));
        }
    };
    described.description.input = options.input.over(&described.description.input)?;
    let own_name = if path.is_dir() { described.name.clone() } else { None };
    let name = own_name.unwrap_or_else(|| name_of(path));
    let net = checkpoint::build(&name, &tensors, &described.description).map_err(at)?;
    described.check(&net).map_err(at)?;
    Ok(net)
}

/// Loads a checkpoint that is in memory, e.g. embedded in a program.
///
/// # Errors
/// Those of [`load`] that concern the bytes and the description, with `name` as the place.
pub fn from_bytes(name: &str, bytes: &[u8], description: &Description) -> Result<TrainedNet> {
    let parse = || {
        let tensors = Tensors::open(bytes)?;
        own_description(&tensors)?;
        checkpoint::build(name, &tensors, description)
    };
    parse().map_err(|e| e.at(name))
}

/// As [`from_bytes`], for a file of this program, which says itself what it is.
///
/// # Errors
/// As [`from_bytes`], and where it does not.
pub(crate) fn from_own_bytes(name: &str, bytes: &[u8]) -> Result<TrainedNet> {
    let parse = || {
        let tensors = Tensors::open(bytes)?;
        let description = own_description(&tensors)?.ok_or_else(|| Error::bad("nothing describes this checkpoint"))?;
        checkpoint::build(name, &tensors, &description)
    };
    parse().map_err(|e| e.at(name))
}

/// What a file written by this program says of itself; a quantized one is refused.
fn own_description(tensors: &Tensors) -> Result<Option<Description>> {
    let Some(own) = &tensors.own else { return Ok(None) };
    match own.get("kind").and_then(Value::as_str) {
        Some("float") => {}
        Some(kind) => return Err(Error::bad(format!("is a {kind} model; a float one is needed here"))),
        None => return Err(Error::bad(format!("the metadata entry \"{METADATA_KEY}\" does not say what the file is"))),
    }
    match own.get("version").and_then(Value::as_u64) {
        Some(version) if version == u64::from(FLOAT_VERSION) => {}
        _ => return Err(Error::bad("was written by another version of repquant").hint("fuse the model again")),
    }
    let metadata = FloatMetadata::deserialize(own)
        .map_err(|e| Error::bad(format!("the metadata entry \"{METADATA_KEY}\" cannot be read")).because(e))?;
    Ok(Some(metadata.description))
}

/// The files that [`load`] or [`onnx::read`](super::onnx::read) may read for these arguments: an
/// output must not replace one of them.
pub(crate) fn input_files(path: &Path, options: &LoadOptions) -> Vec<PathBuf> {
    let located = if super::onnx::is_onnx(path) {
        vec![path.to_owned(), path.with_extension("json")]
    } else {
        locate(path).map_or_else(|_| vec![path.to_owned()], |(weights, beside)| vec![weights, beside])
    };
    located.into_iter().chain(options.describe.clone()).collect()
}

/// The file with the weights, and where its description would be.
fn locate(path: &Path) -> Result<(PathBuf, PathBuf)> {
    if path.is_dir() {
        let weights = path.join(FOLDER_WEIGHTS);
        if !weights.exists() {
            return Err(Error::input(path, format!("the folder has no {FOLDER_WEIGHTS}")).hint(CONVERT));
        }
        return Ok((weights, path.join(FOLDER_CONFIG)));
    }
    if path.exists() && path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("safetensors")) {
        return Err(Error::input(path, "is not a .safetensors file").hint(CONVERT));
    }
    Ok((path.to_owned(), path.with_extension("json")))
}

const CONVERT: &str = "convert other formats to safetensors first; the README shows how";

/// The file's stem, or the folder's name.
fn name_of(path: &Path) -> String {
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
}
