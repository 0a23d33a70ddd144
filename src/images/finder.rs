//! Finding the file that a line of a labels file means.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

use super::class_names::shortened;
use super::folders::walk;
use crate::Error;

/// Finds files below a folder by what a list calls them.
pub(super) struct Finder<'a> {
    root: &'a Path,
    /// Where the folder really lies, found out when first needed; none where it cannot be read.
    real_root: OnceCell<Option<PathBuf>>,
    /// The images below it by name and by name without ending, made when first needed; none: two
    /// have it.
    by_name: OnceCell<HashMap<String, Option<PathBuf>>>,
    /// Folders that were left off in front of a name.
    left_off: RefCell<Option<PathBuf>>,
}

impl<'a> Finder<'a> {
    /// For the files below `root`.
    pub(super) fn new(root: &'a Path) -> Self {
        Self { root, real_root: OnceCell::new(), by_name: OnceCell::new(), left_off: RefCell::new(None) }
    }

    /// The file of just this path, in the folder or an absolute one.
    pub(super) fn exactly(&self, name: &str) -> Option<PathBuf> {
        let path = self.root.join(name);
        (!name.is_empty() && path.is_file()).then_some(path)
    }

    /// The file that a name means, which may have folders in front that lead to the folder (or one
    /// and the same for all), lack its ending, or lie deeper where no other is called so.
    pub(super) fn find(&self, name: &str) -> Option<PathBuf> {
        self.exactly(name).or_else(|| self.below_other_folders(name)).or_else(|| self.named(name))
    }

    /// The folders that were left off in front of the names.
    pub(super) fn left_off(&self) -> Option<String> {
        self.left_off.borrow().as_ref().map(|folder| format!("`{}/`", folder.display()))
    }

    /// That there is no such file.
    pub(super) fn unknown(&self, name: &str) -> Error {
        Error::bad(format!("there is no file `{}` in {}", shortened(name), self.root.display()))
    }

    fn below_other_folders(&self, name: &str) -> Option<PathBuf> {
        let parts: Vec<Component<'_>> =
            Path::new(name).components().filter(|part| matches!(part, Component::Normal(_))).collect();
        let (cut, path) = (1..parts.len()).find_map(|cut| {
            let path = self.root.join(parts[cut..].iter().collect::<PathBuf>());
            path.is_file().then_some((cut, path))
        })?;
        let folders: PathBuf = parts[..cut].iter().collect();
        let real_root = self.real_root.get_or_init(|| self.root.canonicalize().ok());
        if real_root.as_ref().is_some_and(|root| root.ends_with(&folders)) {
            return Some(path);
        }
        // Of several folders only one can be this one.
        let mut left_off = self.left_off.borrow_mut();
        (*left_off.get_or_insert_with(|| folders.clone()) == folders).then_some(path)
    }

    fn named(&self, name: &str) -> Option<PathBuf> {
        let name = Path::new(name);
        let folder = name.parent().unwrap_or(Path::new(""));
        let found = self.by_name().get(name.file_name()?.to_str()?)?.clone()?;
        found.parent().is_some_and(|parent| parent.ends_with(folder)).then_some(found)
    }

    fn by_name(&self) -> &HashMap<String, Option<PathBuf>> {
        self.by_name.get_or_init(|| {
            let mut all: HashMap<String, Option<PathBuf>> = HashMap::new();
            // A folder that cannot be read is told of when the images are.
            for path in walk(self.root, HashSet::new()).unwrap_or_default().settled().0 {
                let names: HashSet<_> = [path.file_name(), path.file_stem()].into_iter().flatten().collect();
                for name in names {
                    let entry = all.entry(name.to_string_lossy().into_owned());
                    entry.and_modify(|found| *found = None).or_insert_with(|| Some(path.clone()));
                }
            }
            all
        })
    }
}
