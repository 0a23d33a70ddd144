//! Image sets on disk: which files there are, and the class of each.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::class_names::{Class, Names, check_numbers, in_words};
use super::folders::{EXTENSIONS_IN_WORDS, Walk, check_folder, entries, identity, images_or_arrays, is_image, walk};
use super::item::Item;
use super::labels;
use super::npy::is_array;
use crate::error::{Term, text};
use crate::{Error, Result};

/// Image files in the order of their paths (compared folder by folder, then by name).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// The images; never empty when a constructor returns it.
    pub items: Vec<Item>,
    /// The class names in the order of their indices: those given, else the sorted names of the
    /// class folders. None in a set without labels, and where folders or a labels file number the
    /// classes.
    pub classes: Option<Vec<String>>,
    /// How they were found.
    pub found: Found,
}

/// How the images of a set were found, for whoever wants to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The class of each class folder, in the order of the classes; empty without class folders.
    pub folders: Vec<(String, usize)>,
    /// What was assumed to tell the classes, a sentence each.
    pub assumed: Vec<String>,
    /// How many files were left out that are not called as images are, by their ending in small
    /// letters (empty: those without one); hidden ones are not counted.
    pub left_out: BTreeMap<String, usize>,
}

impl Dataset {
    /// All images of a folder and the folders inside it, without labels.
    ///
    /// Where there are no images, arrays of `NumPy` (`.npy`) are taken in their place. Hidden files
    /// and folders are skipped, links are followed, and a folder that several paths lead to is read
    /// once.
    ///
    /// # Errors
    /// A folder that is missing, is a file, cannot be read, or holds no images.
    pub fn unlabelled(root: &Path) -> Result<Self> {
        check_folder(root)?;
        let (images, others) = walk(root, HashSet::new())?.settled();
        let items = images.into_iter().map(|path| Item { path, label: None }).collect();
        Self::new(root, items, None, Found { left_out: others, ..Found::default() })
    }

    /// Whether a folder has folders with images in it, whose names can be classes.
    ///
    /// # Errors
    /// A folder that is missing, is a file or cannot be read.
    pub fn has_class_folders(root: &Path) -> Result<bool> {
        check_folder(root)?;
        for path in entries(root)?.into_iter().filter(|path| path.is_dir()) {
            if !walk(&path, HashSet::from([identity(root)?]))?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Images with a class each.
    ///
    /// With `labels`, the images and their classes are those that this file lists: lines
    /// `file class` or `file,class`, CSV with a header or quotes, or classes alone in the order of
    /// the sorted paths; files below `root`, a class being one of the names `classes`, the synset
    /// that a name begins with, or an index. Without it, each folder in `root` is a class and holds
    /// (at any depth) its images; `classes` says the order of the classes. Without them folders
    /// whose names are all numbers are those indices, others are classes in the order of their
    /// sorted names. Classes without a folder are fine.
    ///
    /// # Errors
    /// As [`Dataset::unlabelled`]; a folder that is not among `classes`; an image beside the class
    /// folders; a line of the labels file that names an unknown file or class, or a file once more.
    pub fn labelled(root: &Path, labels: Option<&Path>, classes: Option<&[String]>) -> Result<Self> {
        check_folder(root)?;
        match labels {
            Some(file) => {
                let labels::Listed { items, assumed } = labels::read(root, file, classes)?;
                if items.is_empty() {
                    return Err(Error::input(file, "lists no images"));
                }
                Self::new(root, items, classes.map(<[String]>::to_vec), Found { assumed, ..Found::default() })
            }
            None => Self::class_folders(root, classes),
        }
    }

    fn class_folders(root: &Path, classes: Option<&[String]>) -> Result<Self> {
        let mut folders = Vec::new();
        let mut all = Walk::default();
        for path in entries(root)? {
            if path.is_dir() {
                folders.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path));
            } else if is_image(&path) {
                return Err(Error::input(path, "this image lies in no class folder, so its class is unknown").hint(
                    text!["put it into a folder named after its class, or list the classes with ", Term::Labels],
                ));
            } else {
                all.count_other(&path);
            }
        }
        let mut found = Found::default();
        let numbered = !folders.is_empty() && folders.iter().all(|(name, _)| name.parse::<usize>().is_ok());
        let sorted: Option<Vec<String>> = (classes.is_none() && !numbered).then(|| {
            let mut names: Vec<String> = folders.iter().map(|(name, _)| name.clone()).collect();
            names.sort();
            names
        });
        if let Some(names) = &sorted {
            found.assumed.push(format!(
                "nothing names the classes: the {} folders of {} are taken for them in the order of their names",
                names.len(),
                root.display()
            ));
        }
        let known = sorted.as_deref().or(classes);
        let names = Names::new(known);
        let (mut images, mut arrays) = (Vec::new(), Vec::new());
        let mut numbers = Vec::new();
        for (name, folder) in folders {
            let Ok(Class { index, number }) = names.class(&name) else {
                return Err(Error::input(&folder, format!("`{name}` is not a class of the model"))
                    .hint(format!("its description lists {}", in_words(known.unwrap_or_default()))));
            };
            if number {
                numbers.push((index, folder.display().to_string()));
            }
            if let Some((other, _)) = found.folders.iter().find(|(_, label)| *label == index) {
                return Err(Error::input(&folder, format!("the folders `{other}` and `{name}` are the same class")));
            }
            found.folders.push((name, index));
            let mut below = walk(&folder, HashSet::from([identity(root)?]))?;
            let item = |path| Item { path, label: Some(index) };
            images.extend(below.images.drain(..).map(item));
            arrays.extend(below.arrays.drain(..).map(item));
            all.add(below);
        }
        if let Some(names) = known {
            check_numbers(names.len(), numbers.into_iter())?;
        }
        found.folders.sort_by_key(|(_, index)| *index);
        let items = images_or_arrays(images, arrays, &mut all.others);
        found.left_out = all.others;
        Self::new(root, items, sorted.or_else(|| classes.map(<[String]>::to_vec)), found)
    }

    fn new(root: &Path, mut items: Vec<Item>, classes: Option<Vec<String>>, mut found: Found) -> Result<Self> {
        if items.is_empty() {
            return Err(
                Error::input(root, "holds no images").hint(format!("images are files ending in {EXTENSIONS_IN_WORDS}"))
            );
        }
        items.sort();
        let array = items.iter().find(|item| is_array(&item.path));
        if let (Some(array), Some(image)) = (array, items.iter().find(|item| !is_array(&item.path))) {
            let what = format!("{} is an array, {} an image", array.path.display(), image.path.display());
            return Err(Error::input(root, what).hint("a set holds images, or arrays of NumPy (.npy), not both"));
        }
        if array.is_some() {
            found.assumed.push(
                "arrays of floats are the network's input as they are, without mean and std; uint8 and uint16 are \
                 pixels, and normalized"
                    .into(),
            );
        }
        Ok(Self { items, classes, found })
    }

    /// Whether every label is a class of a network with `count` of them.
    ///
    /// # Errors
    /// The first image whose is not, with a hint where all look as if they were counted from 1.
    pub(crate) fn check_labels(&self, count: usize) -> Result<()> {
        let labels = self.items.iter().filter_map(|item| Some((item.label?, item)));
        check_numbers(count, labels.map(|(label, item)| (label, item.path.display().to_string())))
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
