//! Opening safetensors files, whoever wrote them.

use std::io::Read;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::Metadata;

use crate::Error;

/// The metadata entry under which this program's own files say, as JSON, what they are.
pub(crate) const METADATA_KEY: &str = "repquant";

/// The header and the tensors of a safetensors file. Nothing is allocated beyond what the header's
/// own bytes need.
///
/// `SafeTensors::deserialize` adds the header's length to what the header claims without a check
/// for overflow, so the claim is compared with the file first.
///
/// # Errors
/// What is wrong with the file, in words.
pub(crate) fn open(bytes: &[u8]) -> Result<(Metadata, SafeTensors<'_>), String> {
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or("shorter than its header")?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|e| e.to_string())?;
    let (header, data) = rest.split_at_checked(length).ok_or("the header is longer than the file")?;
    let metadata: Metadata = serde_json::from_slice(header).map_err(|e| format!("the header is malformed: {e}"))?;
    if metadata.data_len() != data.len() {
        return Err(format!("the header describes {} bytes, the file holds {}", metadata.data_len(), data.len()));
    }
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    Ok((metadata, tensors))
}

/// The bytes of a regular file: a device or a pipe could go on for ever.
///
/// # Errors
/// Where it is none or cannot be read.
pub(crate) fn read(file: &Path) -> crate::Result<Vec<u8>> {
    head(file, usize::MAX)
}

/// As [`read`], the first bytes alone, at most so many.
///
/// # Errors
/// As [`read`].
pub(crate) fn head(file: &Path, most: usize) -> crate::Result<Vec<u8>> {
    let failed = |e: std::io::Error| Error::input(file, "cannot be read").because(e);
    if !std::fs::metadata(file).map_err(failed)?.is_file() {
        return Err(Error::input(file, "is not a file"));
    }
    if most == usize::MAX {
        return std::fs::read(file).map_err(failed);
    }
    let mut head = Vec::new();
    std::fs::File::open(file).and_then(|file| file.take(most as u64).read_to_end(&mut head)).map_err(failed)?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_add_up_to_two_to_the_64_are_refused() {
        // Each tensor alone is in order; their sum and the header's length must not wrap round.
        let step = u64::MAX / 9;
        let tensor = |i: u64| {
            let (from, to) = (i * step, (i + 1) * step);
            format!("\"t{i}\":{{\"dtype\":\"U8\",\"shape\":[{step}],\"data_offsets\":[{from},{to}]}}")
        };
        let header = format!("{{{}}}", (0..9).map(tensor).collect::<Vec<_>>().join(","));
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
        assert!(open(&bytes).unwrap_err().contains("the header describes"), "{:?}", open(&bytes).err());
    }

    #[test]
    fn only_regular_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("is not a file"));
        if cfg!(unix) {
            assert!(read(Path::new("/dev/zero")).unwrap_err().to_string().contains("is not a file"));
        }
    }
}
