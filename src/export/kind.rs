//! What a safetensors file holds, told from its header alone.

#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde::Deserialize;

use crate::load;
use crate::tensor_file::METADATA_KEY;
use crate::{Error, Result};

/// The largest header that is read; that of the safetensors crate.
const MAX_HEADER: u64 = 100_000_000;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A quantized model of `quantize`.
    Quantized,
    /// A fused float model of `fuse`.
    Float,
    /// Histograms of `calibrate` or `merge`.
    Statistics,
    /// None of these: a checkpoint of another program, safetensors or not.
    Checkpoint,
}

/// The header, as far as it matters here.
#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    metadata: Option<HashMap<String, String>>,
}

/// The part of the metadata entry that every kind has.
#[derive(Deserialize)]
pub(super) struct Kind {
    pub(super) kind: String,
    pub(super) version: u64,
}

/// Tells what `path` holds; reads its header and nothing else.
///
/// # Errors
/// [`ErrorKind::Input`](crate::ErrorKind::Input) where it cannot be read, is neither a safetensors
/// file nor another checkpoint, or was written by a program that knows more kinds.
pub fn kind(path: &Path) -> Result<FileKind> {
    let unreadable = |e| Error::input(path, "could not be read").because(e);
    let file = File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    let mut start = Vec::new();
    (&file).take(load::HEAD as u64).read_to_end(&mut start).map_err(unreadable)?;
    if load::is_other_checkpoint(path, &start) {
        return Ok(FileKind::Checkpoint);
    }
    let broken = |what: String| {
        Error::input(path, "not a safetensors file")
            .because(what)
            .hint("repquant reads safetensors, and what torch.save writes; the README shows how to convert others")
    };
    let start: &[u8; 8] = start.first_chunk().ok_or_else(|| broken("shorter than its header".into()))?;
    let length = u64::from_le_bytes(*start);
    if length > MAX_HEADER.min(size.saturating_sub(8)) {
        return Err(broken(format!("a header of {length} bytes in a file of {size}")));
    }
    let mut header = Vec::new();
    (&file).seek(SeekFrom::Start(8)).map_err(unreadable)?;
    (&file).take(length).read_to_end(&mut header).map_err(unreadable)?;
    let header: Header =
        serde_json::from_slice(&header).map_err(|e| broken(format!("the header is malformed: {e}")))?;
    let Some(entry) = header.metadata.as_ref().and_then(|metadata| metadata.get(METADATA_KEY)) else {
        return Ok(FileKind::Checkpoint);
    };
    let entry: Kind = serde_json::from_str(entry)
        .map_err(|e| Error::input(path, "the metadata entry `repquant` is malformed").because(e))?;
    match entry.kind.as_str() {
        "quantized" => Ok(FileKind::Quantized),
        "float" => Ok(FileKind::Float),
        "statistics" => Ok(FileKind::Statistics),
        other => Err(Error::input(path, format!("holds `{}`, which this program does not know", other.escape_debug()))
            .hint("use the version of repquant that wrote it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, claimed: Option<u64>) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = claimed.unwrap_or(header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn kinds_are_told_by_the_entry() {
        let of = |entry: &str| kind(file(&format!(r#"{{"__metadata__":{{"repquant":{entry:?}}}}}"#), None).path());
        assert_eq!(of(r#"{"kind":"quantized","version":1,"more":[]}"#).unwrap(), FileKind::Quantized);
        assert_eq!(of(r#"{"kind":"float","version":1}"#).unwrap(), FileKind::Float);
        assert_eq!(of(r#"{"kind":"statistics","version":1}"#).unwrap(), FileKind::Statistics);
        assert!(of(r#"{"kind":"other","version":1}"#).unwrap_err().to_string().contains("`other`"));
        assert!(of("nothing").is_err());
        let plain = file(r#"{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#, None);
        assert_eq!(kind(plain.path()).unwrap(), FileKind::Checkpoint);
    }

    #[test]
    fn what_is_no_safetensors_file_is_an_error() {
        for (header, claimed) in
            [("{}", Some(u64::MAX)), ("{}", Some(3)), ("", None), ("[", None), ("PK\u{3}\u{4}", None)]
        {
            let error = kind(file(header, claimed).path()).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Input, "{header}");
        }
        let short = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(short.path(), [1, 2, 3]).unwrap();
        assert!(kind(short.path()).is_err());
        assert!(kind(Path::new("/nowhere/at/all.safetensors")).is_err());
    }
}
