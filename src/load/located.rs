//! Where a checkpoint lies: one file, or shards that an index lists; and where its description
//! would be.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::tensors::Tensors;
use super::torch;
use crate::tensor_file::{head, read};
use crate::{Error, Result};

/// What a Hugging Face folder holds: the first of these that is there.
const FOLDER_WEIGHTS: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
/// The description in a Hugging Face folder.
const FOLDER_CONFIG: &str = "config.json";
/// What the name of an index ends in.
const INDEX: &str = ".index.json";

/// What to do about a file of another format.
const CONVERT: &str = "convert other formats to safetensors first; the README shows how";

/// A checkpoint and its description, found and not read.
pub(super) struct Located {
    /// The file with the weights, or the index of its shards.
    pub(super) weights: PathBuf,
    /// Where its description would be.
    pub(super) beside: PathBuf,
}

impl Located {
    /// Finds the files that a path stands for.
    ///
    /// # Errors
    /// A folder without weights, a file of another kind.
    pub(super) fn find(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let weights = FOLDER_WEIGHTS.map(|name| path.join(name)).into_iter().find(|file| file.exists());
            let Some(weights) = weights else {
                return Err(
                    Error::input(path, format!("the folder has no {}", FOLDER_WEIGHTS.join(", no "))).hint(CONVERT)
                );
            };
            return Ok(Self { weights, beside: path.join(FOLDER_CONFIG) });
        }
        if is_index(path) {
            let own = path.with_file_name(format!("{}.json", name_of(path)));
            let beside = if own.is_file() { own } else { path.with_file_name(FOLDER_CONFIG) };
            return Ok(Self { weights: path.to_owned(), beside });
        }
        Ok(Self { weights: path.to_owned(), beside: path.with_file_name(format!("{}.json", name_of(path))) })
    }

    /// Every file that reading may touch.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let shards = if is_index(&self.weights) { index(&self.weights).unwrap_or_default() } else { BTreeMap::new() };
        [&self.weights, &self.beside].into_iter().cloned().chain(shards.into_keys()).collect()
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// Where a file cannot be read, or an index makes no sense.
    pub(super) fn read(&self) -> Result<Files> {
        if !is_index(&self.weights) {
            let content = Content::read(&self.weights)?;
            return Ok(Files(vec![Part { path: self.weights.clone(), content, keys: None }]));
        }
        let parts = index(&self.weights)?.into_iter().map(|(path, keys)| {
            let content = Content::read(&path).map_err(|e| e.at(self.weights.display()))?;
            Ok(Part { path, content, keys: Some(keys) })
        });
        parts.collect::<Result<_>>().map(Files)
    }
}

enum Content {
    /// The bytes of a safetensors file.
    Bytes(Vec<u8>),
    /// A file of `torch.save`, read tensor by tensor.
    Torch,
}

impl Content {
    /// Tells the format by how the file starts.
    fn read(path: &Path) -> Result<Self> {
        let head = head(path, torch::HEAD)?;
        if torch::is_torch(&head) {
            return Ok(Self::Torch);
        }
        let named = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors"));
        if named || head.get(8) == Some(&b'{') {
            return read(path).map(Self::Bytes);
        }
        Err(Error::input(path, "is neither a safetensors file nor one of torch.save").hint(CONVERT))
    }
}

/// The bytes of a checkpoint, file by file.
pub(super) struct Files(Vec<Part>);

struct Part {
    path: PathBuf,
    content: Content,
    /// The keys that an index promises; none where there is no index.
    keys: Option<BTreeSet<String>>,
}

impl Files {
    /// The tensors of all of them.
    ///
    /// # Errors
    /// A file that is broken, or holds other tensors than the index says.
    pub(super) fn tensors(&self) -> Result<Tensors<'_>> {
        let mut all: Option<Tensors<'_>> = None;
        for Part { path, content, keys } in &self.0 {
            let tensors = match content {
                Content::Bytes(bytes) => Tensors::open(bytes),
                Content::Torch => torch::open(path),
            };
            let tensors = tensors.and_then(|tensors| match keys {
                Some(keys) => agree(&tensors, keys).map(|()| tensors),
                None => Ok(tensors),
            });
            let tensors = tensors.map_err(|e| e.at(path.display()))?;
            match &mut all {
                Some(all) => all.join(tensors),
                None => all = Some(tensors),
            }
        }
        all.ok_or_else(|| Error::bad("holds no weights"))
    }
}

/// Holds a shard to its index.
fn agree(tensors: &Tensors<'_>, keys: &BTreeSet<String>) -> Result<()> {
    let present: BTreeSet<&str> = tensors.names().collect();
    if let Some(missing) = keys.iter().find(|key| !present.contains(key.as_str())) {
        return Err(Error::bad(format!("has no tensor {missing}, which the index says it has"))
            .hint("a shard may be of another version than the index; download all files again"));
    }
    match present.iter().find(|key| !keys.contains(**key)) {
        Some(extra) => Err(Error::bad(format!("has the tensor {extra}, which the index does not list here"))
            .hint("a shard may be of another version than the index; download all files again")),
        None => Ok(()),
    }
}

/// As Hugging Face writes it; its metadata say nothing that the shards do not.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The shards of an index, each with the keys that it must have.
fn index(path: &Path) -> Result<BTreeMap<PathBuf, BTreeSet<String>>> {
    let at = |e: Error| e.at(path.display());
    let bytes = read(path)?;
    let Index { weight_map } = serde_json::from_slice(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes))
        .map_err(|e| at(Error::bad("this is no index of shards: a \"weight_map\" is expected").because(e)))?;
    let mut shards: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    for (key, file) in weight_map {
        let inside = Path::new(&file);
        // Its folder is all that an index may speak of.
        if inside.components().next().is_none() || !inside.components().all(|part| matches!(part, Component::Normal(_)))
        {
            let what = format!("the shard {file:?} of the tensor {key} is not in its folder");
            return Err(at(Error::bad(what).hint("an index names files beside it")));
        }
        shards.entry(path.with_file_name(inside)).or_default().insert(key);
    }
    if shards.is_empty() {
        return Err(at(Error::bad("its \"weight_map\" lists no tensor")));
    }
    Ok(shards)
}

/// Whether a file that starts so is a checkpoint, or the index of one, though no safetensors file.
pub(crate) fn is_other_checkpoint(path: &Path, head: &[u8]) -> bool {
    is_index(path) || torch::is_torch(head)
}

fn is_index(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().to_ascii_lowercase().ends_with(INDEX))
}

/// The name of the model at a path: the file's stem, or the folder's name.
pub(super) fn name_of(path: &Path) -> String {
    let whole = |name: &std::ffi::OsStr| name.to_string_lossy().into_owned();
    if path.is_dir() {
        return path.file_name().map_or_else(|| "model".into(), whole);
    }
    let stem = path.file_stem().map_or_else(|| "model".into(), whole);
    // `model.safetensors.index.json`, `model.pth.tar`: the stem has more endings.
    let less = |stem: String| stem.rsplit_once('.').map_or(stem.clone(), |(less, _)| less.to_owned());
    if is_index(path) {
        less(less(stem))
    } else if stem.to_ascii_lowercase().ends_with(".pth") {
        less(stem)
    } else {
        stem
    }
}
