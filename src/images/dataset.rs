//! Image sets on disk: which files there are, and the class of each.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::item::Item;
use super::labels::{self, in_words};
use crate::error::{Term, text};
use crate::{Error, Result};

/// What image files are called; the case does not matter.
const EXTENSIONS: [&str; 6] = ["jpg", "jpeg", "jpe", "png", "webp", "bmp"];
const EXTENSIONS_IN_WORDS: &str = "jpg, jpeg, jpe, png, webp or bmp";

/// Image files in the order of their paths (compared folder by folder, then by name).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// The images; never empty when a constructor returns it.
    pub items: Vec<Item>,
    /// The class names in the order of their indices: those given, else the sorted names of the
    /// class folders. None in a set without labels, and with a labels file that numbers its
    /// classes.
    pub classes: Option<Vec<String>>,
}

impl Dataset {
    /// All images of a folder and the folders inside it, without labels.
    ///
    /// Hidden files and folders are skipped, links are followed, and a folder that several paths
    /// lead to is read once.
    ///
    /// # Errors
    /// A folder that is missing, is a file, cannot be read, or holds no images.
    pub fn unlabelled(root: &Path) -> Result<Self> {
        check_folder(root)?;
        let paths = images_below(root, HashSet::new())?;
        Self::new(root, paths.into_iter().map(|path| Item { path, label: None }).collect(), None)
    }

    /// Images with a class each.
    ///
    /// With `labels`, the images and their classes are those that this file lists: lines
    /// `file class` or `file,class`, files relative to `root`, a class being one of the names
    /// `classes` or an index. Without it, each folder in `root` is a class and holds (at any depth)
    /// its images; `classes` says the order of the classes, else it is that of the sorted folder
    /// names. Classes without a folder are fine.
    ///
    /// # Errors
    /// As [`Dataset::unlabelled`]; a folder that is not among `classes`; an image beside the class
    /// folders; a line of the labels file that names an unknown file or class, or a file once more.
    pub fn labelled(root: &Path, labels: Option<&Path>, classes: Option<&[String]>) -> Result<Self> {
        check_folder(root)?;
        match labels {
            Some(file) => {
                let items = labels::read(root, file, classes)?;
                if items.is_empty() {
                    return Err(Error::input(file, "lists no images"));
                }
                Self::new(root, items, classes.map(<[String]>::to_vec))
            }
            None => Self::class_folders(root, classes),
        }
    }

    fn class_folders(root: &Path, classes: Option<&[String]>) -> Result<Self> {
        let mut folders = Vec::new();
        for path in entries(root)? {
            if path.is_dir() {
                folders.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path));
            } else if is_image(&path) {
                return Err(Error::input(path, "this image lies in no class folder, so its class is unknown").hint(
                    text!["put it into a folder named after its class, or list the classes with ", Term::Labels],
                ));
            }
        }
        let names = classes.map_or_else(
            || {
                let mut names: Vec<String> = folders.iter().map(|(name, _)| name.clone()).collect();
                names.sort();
                names
            },
            <[String]>::to_vec,
        );
        let mut items = Vec::new();
        for (name, folder) in folders {
            let Some(label) = names.iter().position(|known| *known == name) else {
                return Err(Error::input(&folder, format!("`{name}` is not a class of the model"))
                    .hint(format!("its description lists {}", in_words(&names))));
            };
            let paths = images_below(&folder, HashSet::from([real_path(root)?]))?;
            items.extend(paths.into_iter().map(|path| Item { path, label: Some(label) }));
        }
        Self::new(root, items, Some(names))
    }

    fn new(root: &Path, mut items: Vec<Item>, classes: Option<Vec<String>>) -> Result<Self> {
        if items.is_empty() {
            return Err(
                Error::input(root, "holds no images").hint(format!("images are files ending in {EXTENSIONS_IN_WORDS}"))
            );
        }
        items.sort();
        Ok(Self { items, classes })
    }

    /// Keeps `n` images spread evenly over the set, so that classes stay mixed: of the sorted
    /// paths, numbers `⌊i · len / n⌋`. All of them where there are no more than `n`.
    #[must_use]
    pub fn limit(mut self, n: usize) -> Self {
        let len = self.items.len();
        if n < len {
            self.items = (0..n).map(|i| self.items[i * len / n].clone()).collect();
        }
        self
    }
}

fn is_image(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension)))
}

fn check_folder(root: &Path) -> Result<()> {
    match fs::metadata(root) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(Error::input(root, "is a file, not a folder of images")),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::input(root, "no such folder")),
        Err(e) => Err(Error::input(root, "cannot be read").because(e)),
    }
}

fn real_path(folder: &Path) -> Result<PathBuf> {
    fs::canonicalize(folder).map_err(|e| Error::input(folder, "cannot be read").because(e))
}

/// What a folder holds, sorted, without hidden files.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
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

/// The image files in `folder` and below; `visited` are the real folders not to enter (links can
/// form loops).
fn images_below(folder: &Path, mut visited: HashSet<PathBuf>) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        if !visited.insert(real_path(&folder)?) {
            continue;
        }
        // The last one pushed is the next one read: in reverse, folders are entered in the order of
        // their names.
        for path in entries(&folder)?.into_iter().rev() {
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => pending.push(path),
                // Pipes and devices would never end.
                Ok(metadata) if !metadata.is_file() => {}
                // A broken link is found unreadable when its turn comes, as any other bad image.
                _ if is_image(&path) => found.push(path),
                _ => {}
            }
        }
    }
    Ok(found)
}
