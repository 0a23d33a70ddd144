//! A file of an image set.

use std::path::PathBuf;

/// One image file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// The file.
    pub path: PathBuf,
    /// Its class, an index into the network's outputs; none in a set without labels.
    pub label: Option<usize>,
}
