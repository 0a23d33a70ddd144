//! The labels file: which class each image of a folder has.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::item::Item;
use crate::{Error, Result};

/// Reads lines `file class` or `file,class`; empty lines and those that begin with `#` are skipped.
///
/// A line is split at its last comma, or else at its last white space, whichever gives a file that
/// exists in `root`, as names may hold both. `classes` are the names in the order of their indices.
///
/// # Errors
/// A file that cannot be read or is not UTF-8; with the line number: no class, an unknown file or
/// class, a file listed before.
pub(super) fn read(root: &Path, file: &Path, classes: Option<&[String]>) -> Result<Vec<Item>> {
    let text = fs::read_to_string(file).map_err(|e| Error::input(file, "cannot read the labels").because(e))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let indices: Option<HashMap<&str, usize>> =
        classes.map(|names| names.iter().enumerate().rev().map(|(i, name)| (name.as_str(), i)).collect());
    let mut line_of: HashMap<PathBuf, usize> = HashMap::new();
    let mut items = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let here = |e: Error| e.at(format!("{}:{number}", file.display()));
        let (path, class) = split(root, line).map_err(here)?;
        let label = class_index(class, indices.as_ref(), classes).map_err(here)?;
        if let Some(earlier) = line_of.insert(path.clone(), number) {
            return Err(here(Error::bad(format!("{} is listed in line {earlier} already", path.display()))));
        }
        items.push(Item { path, label: Some(label) });
    }
    Ok(items)
}

/// The image's path and the text of its class.
fn split<'a>(root: &Path, line: &'a str) -> Result<(PathBuf, &'a str)> {
    let splits = [line.rsplit_once(','), line.rsplit_once(char::is_whitespace)];
    let splits = splits.into_iter().flatten().map(|(name, class)| (name.trim(), class.trim()));
    let mut unknown = None;
    for (name, class) in splits.filter(|(name, class)| !name.is_empty() && !class.is_empty()) {
        let path = root.join(name);
        if path.is_file() {
            return Ok((path, class));
        }
        unknown = unknown.or(Some(name));
    }
    Err(match unknown {
        Some(name) => Error::bad(format!("there is no file `{name}` in {}", root.display()))
            .hint("a class name with spaces needs a comma before it: `file,class`"),
        None => Error::bad(format!("`{line}` is not `file class`")),
    })
}

fn class_index(class: &str, indices: Option<&HashMap<&str, usize>>, classes: Option<&[String]>) -> Result<usize> {
    if let Some(&index) = indices.and_then(|indices| indices.get(class)) {
        return Ok(index);
    }
    match (class.parse::<usize>(), classes) {
        (Ok(index), None) => Ok(index),
        (Ok(index), Some(names)) if index < names.len() => Ok(index),
        (Ok(index), Some(names)) => {
            Err(Error::bad(format!("class {index} does not exist: the model has {} classes, from 0", names.len())))
        }
        (Err(_), Some(names)) => Err(Error::bad(format!("`{class}` is not a class of the model"))
            .hint(format!("its description lists {}", in_words(names)))),
        (Err(_), None) => Err(Error::bad(format!("class `{class}` is no index, and the model has no class names"))
            .hint("number the classes from 0, or add `classes` to the model's description")),
    }
}

/// The first few names, for a message.
pub(super) fn in_words(names: &[String]) -> String {
    const SHOWN: usize = 12;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{} classes: {shown}, …", names.len()) } else { shown }
}
