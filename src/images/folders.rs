//! What image folders hold.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::npy::{self, is_array};
use crate::{Error, Result};

/// What image files are called; the case does not matter.
const EXTENSIONS: [&str; 10] = ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "tif", "tiff", "gif"];
pub(super) const EXTENSIONS_IN_WORDS: &str = "jpg, jpeg, jpe, jfif, png, webp, bmp, tif, tiff or gif";

/// What lies in folders and those inside them.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// The image files.
    pub images: Vec<PathBuf>,
    /// The arrays of `NumPy`.
    pub arrays: Vec<PathBuf>,
    /// How many other files there are, by their ending in small letters (empty: without one).
    pub others: BTreeMap<String, usize>,
}

impl Walk {
    /// Adds another walk.
    pub(super) fn add(&mut self, other: Self) {
        self.images.extend(other.images);
        self.arrays.extend(other.arrays);
        for (ending, count) in other.others {
            *self.others.entry(ending).or_default() += count;
        }
    }

    /// What is read of all that, and what is left out.
    pub(super) fn settled(mut self) -> (Vec<PathBuf>, BTreeMap<String, usize>) {
        (images_or_arrays(self.images, self.arrays, &mut self.others), self.others)
    }

    /// Whether there is nothing to read.
    pub(super) fn is_empty(&self) -> bool {
        self.images.is_empty() && self.arrays.is_empty()
    }

    /// Counts a file that is no image.
    pub(super) fn count_other(&mut self, path: &Path) {
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        *self.others.entry(ending).or_default() += 1;
    }
}

/// The images, or where there are none the arrays. Beside images lie arrays of other things, such as
/// features: those are counted among the `others`.
pub(super) fn images_or_arrays<T>(images: Vec<T>, arrays: Vec<T>, others: &mut BTreeMap<String, usize>) -> Vec<T> {
    if images.is_empty() {
        return arrays;
    }
    if !arrays.is_empty() {
        *others.entry(npy::EXTENSION.to_owned()).or_default() += arrays.len();
    }
    images
}

/// Whether a file is called as images are.
pub(super) fn is_image(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension)))
}

/// Whether `root` is a folder.
///
/// # Errors
/// Where it is none, with what it is.
pub(super) fn check_folder(root: &Path) -> Result<()> {
    match fs::metadata(root) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(Error::input(root, "is a file, not a folder of images")),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::input(root, "no such folder")),
        Err(e) => Err(Error::input(root, "cannot be read").because(e)),
    }
}

/// What tells a folder from all others, whatever path leads to it.
#[cfg(unix)]
pub(super) type Identity = (u64, u64);
/// What tells a folder from all others, whatever path leads to it.
#[cfg(not(unix))]
pub(super) type Identity = PathBuf;

/// The folder that a path leads to. Where the system numbers its folders that is their number: the
/// real path takes a look at every folder above.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn identity(folder: &Path) -> Result<Identity> {
    #[cfg(unix)]
    let found = fs::metadata(folder).map(|metadata| {
        use std::os::unix::fs::MetadataExt;
        (metadata.dev(), metadata.ino())
    });
    #[cfg(not(unix))]
    let found = fs::canonicalize(folder);
    found.map_err(|e| Error::input(folder, "cannot be read").because(e))
}

/// What a folder holds, sorted, without hidden files.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |e: std::io::Error| Error::input(folder, "cannot be read").because(e);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    // The order decides by which path a folder is found that several lead to.
    paths.sort();
    Ok(paths)
}

/// The files in `folder` and below; `visited` are the folders not to enter (links can form
/// loops).
///
/// # Errors
/// A folder that cannot be read.
pub(super) fn walk(folder: &Path, mut visited: HashSet<Identity>) -> Result<Walk> {
    let mut found = Walk::default();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        if !visited.insert(identity(&folder)?) {
            continue;
        }
        // The last one pushed is the next one read: in reverse, folders are entered in the order of
        // their names.
        for path in entries(&folder)?.into_iter().rev() {
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => pending.push(path),
                // Pipes and devices would never end.
                Ok(metadata) if !metadata.is_file() => found.count_other(&path),
                // A broken link is found unreadable when its turn comes, as any other bad image.
                _ if is_image(&path) => found.images.push(path),
                _ if is_array(&path) => found.arrays.push(path),
                _ => found.count_other(&path),
            }
        }
    }
    Ok(found)
}
