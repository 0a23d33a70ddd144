//! Finds the checkpoint and its description, and reads both.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::arch::{self, Architecture};
use super::description::{DescriptionFile, without_mark};
use super::located::{Located, name_of};
use super::tensors::Tensors;
use super::{Description, LoadOptions, Loaded, TrainedNet, checkpoint, modules, timm_config};
use crate::error::{Term, text};
use crate::tensor_file::{METADATA_KEY, read};
use crate::{Error, Result};

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

    /// What the architecture that is asked for says.
    fn of_architecture(options: &LoadOptions) -> Result<Option<Self>> {
        match (&options.describe, &options.arch) {
            (Some(_), Some(_)) => Err(Error::usage("a description file and an architecture are both given")
                .hint(text!["pass ", Term::Describe, " or ", Term::Arch, ", not both"])),
            (None, Some(name)) => {
                let architecture = arch::find(name, Error::usage)?;
                Ok(Some(Self { architecture: Some(architecture), ..Self::plain(architecture.description()) }))
            }
            (_, None) => Ok(None),
        }
    }

    /// What the architecture that is asked for, or the file itself, says (`known`), and what a
    /// description file does: the one that is asked for, or `beside`. The latter adds to what is
    /// known only where it describes no network itself.
    fn find(known: Option<Self>, beside: &Path, options: &LoadOptions) -> Result<Option<Self>> {
        let Some(file) = options.describe.as_deref().or_else(|| beside.is_file().then_some(beside)) else {
            return Ok(known);
        };
        let at = |e: Error| e.at(file.display());
        let said = Said::read(file);
        if let Some(known) = known.filter(|_| options.describe.is_none() || matches!(said, Ok(Said::Part(_)))) {
            return match said {
                Ok(Said::Part(part)) => {
                    let description = part.complete(Some(&known.description), &options.input).map_err(at)?;
                    Ok(Some(Self { description, ..known }))
                }
                _ => Ok(Some(known)),
            };
        }
        match said? {
            Said::Part(file) | Said::Whole(file) => {
                file.complete(None, &options.input).map(|description| Some(Self::plain(description))).map_err(at)
            }
            Said::Timm(config) => Ok(Some(Self {
                description: config.description,
                architecture: Some(config.architecture),
                num_classes: config.num_classes,
                name: Some(config.name),
            })),
        }
    }

    /// Holds the network to what the description's source says beyond the description.
    fn check(&self, loaded: &Loaded) -> Result<()> {
        if let Some(architecture) = self.architecture {
            match loaded {
                Loaded::Blocks(net) => architecture.check(&net.blocks)?,
                Loaded::Modules { stages, .. } => architecture.check_modules(stages)?,
            }
        }
        let classes = match loaded {
            Loaded::Blocks(net) => net.classifier.bias.len(),
            Loaded::Modules { graph, .. } => graph.class_count().unwrap_or(0),
        };
        match self.num_classes.filter(|&said| said != classes) {
            Some(said) => Err(Error::bad(format!("config.json says {said} classes, the classifier has {classes}"))),
            None => Ok(()),
        }
    }
}

/// What a description file is.
enum Said {
    Timm(timm_config::TimmConfig),
    Whole(DescriptionFile),
    /// It adds to what is known of the network otherwise.
    Part(DescriptionFile),
}

impl Said {
    /// Reads a description file, or timm's configuration.
    fn read(file: &Path) -> Result<Self> {
        let parse = |text: &[u8]| {
            let text = std::str::from_utf8(text).map_err(|e| Error::bad("is not text").because(e))?;
            let text = without_mark(text);
            let json: Value = serde_json::from_str(text).map_err(|e| Error::bad("is not JSON").because(e))?;
            if timm_config::is_timm(&json) {
                return timm_config::read(json).map(Self::Timm);
            }
            // Read from the text once more: its errors then name line and column.
            let file = DescriptionFile::parse(text)?;
            Ok(if file.is_part() { Self::Part(file) } else { Self::Whole(file) })
        };
        parse(&read(file)?).map_err(|e| e.at(file.display()))
    }
}

/// Loads a checkpoint: a `.safetensors` file, one of `torch.save`, the index of its shards
/// (`MODEL.safetensors.index.json`), or a folder with `model.safetensors`, its shards or
/// `pytorch_model.bin`, and timm's `config.json`.
///
/// The description is the first of: `options.describe` or `options.arch`; what a file written by
/// this program says of itself; `MODEL.json` beside the file, or `config.json` in the folder. A file
/// that names no family (`classes` alone, a part of `input`) adds to the architecture, or to what the
/// file says of itself.
///
/// # Errors
/// [`ErrorKind::Usage`](crate::ErrorKind::Usage) where both options are given or the architecture
/// is unknown; [`ErrorKind::Input`](crate::ErrorKind::Input) where a file is missing or broken,
/// keys are missing or left over, a tensor has a wrong shape or type or values that are not finite,
/// a variance is negative, or the description contradicts the weights.
pub(crate) fn read_checkpoint(path: &Path, options: &LoadOptions) -> Result<Loaded> {
    let architecture = Described::of_architecture(options)?;
    let located = Located::find(path)?;
    let Located { weights, beside } = &located;
    let at = |e: Error| e.at(weights.display());
    let files = located.read()?;
    let tensors = files.tensors()?;
    let own = own_description(&tensors).map_err(at)?;
    let known = architecture.or_else(|| own.map(Described::plain));
    let Some(mut described) = Described::find(known, beside, options)? else {
        return Err(Error::input(weights, "nothing describes this checkpoint").hint(text![
            format!("write {}, or pass ", beside.display()),
            Term::Describe,
            ", or ",
            Term::Arch,
            " for a published model",
        ]));
    };
    described.description.input = options.input.over(&described.description.input)?;
    let own_name = if path.is_dir() { described.name.clone() } else { None };
    let name = own_name.unwrap_or_else(|| name_of(path));
    let loaded = build(&name, &tensors, &described.description).map_err(at)?;
    described.check(&loaded).map_err(at)?;
    Ok(loaded)
}

fn build(name: &str, tensors: &Tensors<'_>, description: &Description) -> Result<Loaded> {
    match modules::build(name, tensors, description)? {
        Some((graph, stages)) => Ok(Loaded::Modules { graph, stages }),
        None => checkpoint::build(name, tensors, description).map(Loaded::Blocks),
    }
}

/// Loads a checkpoint that is in memory, e.g. embedded in a program.
///
/// # Errors
/// Those of `read_checkpoint` that concern the bytes and the description, with `name` as the place.
pub(crate) fn read_checkpoint_bytes(name: &str, bytes: &[u8], description: &Description) -> Result<Loaded> {
    let parse = || {
        let tensors = Tensors::open(bytes)?;
        own_description(&tensors)?;
        build(name, &tensors, description)
    };
    parse().map_err(|e| e.at(name))
}

/// As `read_checkpoint_bytes`, for a file of this program, which says itself what it is.
///
/// # Errors
/// As `read_checkpoint_bytes`, and where it does not.
pub(crate) fn from_own_bytes(name: &str, bytes: &[u8]) -> Result<Loaded> {
    let parse = || {
        let tensors = Tensors::open(bytes)?;
        let description = own_description(&tensors)?.ok_or_else(|| Error::bad("nothing describes this checkpoint"))?;
        build(name, &tensors, &description)
    };
    parse().map_err(|e| e.at(name))
}

/// What a file written by this program says of itself; a quantized one is refused.
fn own_description(tensors: &Tensors) -> Result<Option<Description>> {
    let Some(own) = &tensors.own else { return Ok(None) };
    match own.get("kind").and_then(Value::as_str) {
        Some("float") => {}
        Some("quantized") => {
            return Err(Error::bad("is a quantized model; a float one is needed here").hint(
                "give the float network that it was made from; this one can be evaluated, inspected and exported",
            ));
        }
        Some("statistics") => {
            return Err(Error::bad("holds the statistics of a network, not the network").hint(text![
                "give the network that ",
                Term::Calibrate,
                " was run on"
            ]));
        }
        Some(kind) => {
            return Err(Error::bad(format!("holds `{}`; a float network is needed here", kind.escape_debug())));
        }
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

/// As `read_checkpoint`, of a network that is a chain of blocks.
///
/// # Errors
/// As `read_checkpoint`, and of any other network.
pub fn load(path: &Path, options: &LoadOptions) -> Result<TrainedNet> {
    read_checkpoint(path, options)?.into_blocks().map_err(|e| e.at(path.display()))
}

/// As `read_checkpoint_bytes`, of a network that is a chain of blocks.
///
/// # Errors
/// As `read_checkpoint_bytes`, and of any other network.
pub fn from_bytes(name: &str, bytes: &[u8], description: &Description) -> Result<TrainedNet> {
    read_checkpoint_bytes(name, bytes, description)?.into_blocks().map_err(|e| e.at(name))
}

/// The files that `read_checkpoint` or [`onnx::read`](super::onnx::read) may read for these arguments: an
/// output must not replace one of them.
pub(crate) fn input_files(path: &Path, options: &LoadOptions) -> Vec<PathBuf> {
    let located = if super::onnx::is_onnx(path) {
        vec![path.to_owned(), path.with_extension("json")]
    } else {
        Located::find(path).map_or_else(|_| vec![path.to_owned()], |located| located.files())
    };
    located.into_iter().chain(options.describe.clone()).collect()
}
