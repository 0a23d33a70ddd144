//! Checkpoints of `torch.save` (`.pth`, `.pt`, `.bin`), of any version; nothing in them is run.
//!
//! The pickle inside is read by the `pytorch-reader` crate, which builds tensors and containers and
//! imports nothing: what else a training script kept (arguments, an optimizer) is passed over.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pytorch_reader::{DType, PickleError, PickleValue, PytorchError, PytorchReader, Tensor};
use safetensors::Dtype;

use super::tensors::{Stored, Tensors};
use crate::{Error, Result};

/// How many bytes at the start of a file tell what it is.
pub(crate) const HEAD: usize = 262;

/// The magic number of files of PyTorch before 1.6, in the encoding of pickles.
const MAGIC: [u8; 10] = [0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19];

/// Whether a file that starts so is one of `torch.save`: a zip, a stream of pickles, a tar.
pub(crate) fn is_torch(head: &[u8]) -> bool {
    let is_zip = head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06");
    let is_tar = head.get(257..262) == Some(b"ustar");
    let is_stream = head.windows(MAGIC.len()).take(64).any(|window| window == MAGIC);
    // The length of a safetensors header may start with the byte of a pickle.
    let is_pickle = head.first() == Some(&0x80) && head.get(8) != Some(&b'{');
    is_zip || is_tar || is_stream || is_pickle
}

/// Names under which training scripts keep the weights beside other things; the first that holds
/// tensors is taken. Averaged weights come last.
const WRAPPERS: [&str; 15] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "network",
    "params",
    "weights",
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
    "params_ema",
    "model_ema_state_dict",
];

/// Opens a file; the tensors stay in it until they are asked for.
///
/// # Errors
/// A file that is broken, big-endian, or holds tensors in a form that is not read, naming it.
pub(super) fn open(path: &Path) -> Result<Tensors<'static>> {
    let size = std::fs::metadata(path).map_err(|e| Error::bad("cannot be read").because(e))?.len();
    let all: BTreeMap<String, Tensor> = PytorchReader::new(path).map_err(refusal)?.into_tensors().into_iter().collect();
    if all.is_empty() {
        return Err(Error::bad("holds no tensors").hint("torch.save(model.state_dict(), ...) writes the weights"));
    }
    // The names are joined with points there; what lies in what is asked for apart.
    let structure = PytorchReader::read_pickle_data(path, None).map_err(refusal)?;
    let (tensors, note) = unwrapped(all, structure);
    // Views may overlap; what is read of them must stay in proportion to the file.
    let bytes = tensors.values().try_fold(0u64, |sum, tensor| sum.checked_add(u64::try_from(tensor.byte_len()).ok()?));
    if bytes.is_none_or(|bytes| bytes > size.saturating_mul(4).saturating_add(1 << 20)) {
        return Err(Error::bad("its tensors are views that repeat a few values many times")
            .hint("save them with .contiguous(), or as safetensors"));
    }
    let stored = tensors.into_iter().map(|(name, tensor)| (name, Stored::torch(dtype(tensor.dtype()), tensor)));
    Ok(Tensors::of(stored.collect(), note))
}

const BROKEN: &str = "it may be cut short: download it again; of a whole module that PyTorch before 1.6 saved, save \
                      model.state_dict(), or convert it to safetensors";

/// An error of the crate in the words of this one.
fn refusal(error: PytorchError) -> Error {
    match &error {
        PytorchError::Pickle(PickleError::UnsupportedType(name)) if name.starts_with("__torch__") => {
            Error::bad(format!("is a TorchScript program ({name}), not weights"))
                .hint("write its weights: torch.save(torch.jit.load(FILE).state_dict(), \"NAME.pth\")")
        }
        PytorchError::Pickle(PickleError::UnsupportedType(name)) => Error::bad(format!(
            "holds tensors inside a `{name}`, which is not read"
        ))
        .hint("write plain weights: torch.save(model.state_dict(), \"NAME.pth\"), or safetensors as the README shows"),
        PytorchError::Pickle(PickleError::NoDataSource) => {
            Error::bad("is a pickle that torch.save did not write").hint("save the weights with torch.save")
        }
        _ => Error::bad("this is not a whole PyTorch checkpoint").because(error).hint(BROKEN),
    }
}

/// The weights among what a file holds, without the name of what holds them, and what to say of it.
fn unwrapped(
    mut all: BTreeMap<String, Tensor>,
    mut structure: PickleValue,
) -> (BTreeMap<String, Tensor>, Option<String>) {
    let mut taken: Vec<String> = Vec::new();
    let mut left: BTreeSet<String> = BTreeSet::new();
    // A wrapper may lie in a wrapper, and no deeper.
    while let (0..2, PickleValue::Dict(mut entries)) = (taken.len(), structure) {
        let below = |name: &str| format!("{name}.");
        let holds =
            |name: &String| all.range(below(name)..).next().is_some_and(|(key, _)| key.starts_with(&below(name)));
        let mut holders: Vec<String> = entries
            .iter()
            .filter(|(name, value)| matches!(value, PickleValue::Dict(_)) && holds(name))
            .map(|(name, _)| name.clone())
            .collect();
        let place = |name: &String| WRAPPERS.iter().position(|wrapper| wrapper == name);
        holders.sort_by_key(|name| (place(name).unwrap_or(WRAPPERS.len()), name.clone()));
        let Some(wrapper) = holders.first() else { break };
        // Under a name that is not known they are the weights only where there are no others.
        if place(wrapper).is_none() && !all.keys().all(|key| key.starts_with(&below(wrapper))) {
            break;
        }
        let prefix = below(wrapper);
        left.extend(entries.keys().filter(|name| *name != wrapper).cloned());
        let inside = all.into_iter().filter_map(|(key, tensor)| Some((key.strip_prefix(&prefix)?.to_owned(), tensor)));
        all = inside.collect();
        structure = entries.remove(wrapper).unwrap_or(PickleValue::None);
        taken.push(wrapper.clone());
    }
    let left: Vec<String> = left.into_iter().collect();
    let note = (!taken.is_empty()).then(|| match left.as_slice() {
        [] => format!("the weights are `{}` of the file", taken.join(".")),
        left => format!("the weights are `{}` of the file, beside {}", taken.join("."), left.join(", ")),
    });
    (all, note)
}

fn dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U64 => Dtype::U64,
        DType::U32 => Dtype::U32,
        DType::U16 => Dtype::U16,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}
