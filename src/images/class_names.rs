//! What people write for a class: its name, its synset, its number.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::collections::HashMap;
use std::path::Path;

use crate::error::{Term, text};
use crate::{Error, Result};

/// A longer file is no list of labels: room for 50 million lines.
const MAX_BYTES: u64 = 1 << 30;

/// The text of a regular file of a sane size, without a byte order mark.
///
/// # Errors
/// A device or a pipe, a file that is too large, cannot be read or is not UTF-8; `what` it is.
pub(super) fn read_text(file: &Path, what: &str) -> Result<String> {
    let failed = |e: std::io::Error| Error::input(file, format!("cannot read the {what}")).because(e);
    let metadata = std::fs::metadata(file).map_err(failed)?;
    if !metadata.is_file() {
        return Err(Error::input(file, format!("cannot read the {what}: it is not a file")));
    }
    if metadata.len() > MAX_BYTES {
        return Err(Error::input(file, format!("cannot read the {what}: it is larger than 1 GiB")));
    }
    let text = std::fs::read_to_string(file).map_err(failed)?;
    let text = text.strip_prefix('\u{feff}').map_or(text.as_str(), |text| text);
    match text.trim_start().chars().next() {
        Some('{' | '[') => Err(Error::input(file, format!("is JSON; {what} are read as text, one line each"))),
        _ => Ok(text.to_owned()),
    }
}

/// Class names from a file, one a line in the order of the outputs; empty lines are skipped.
///
/// # Errors
/// [`ErrorKind::Input`](crate::ErrorKind::Input) where it cannot be read, is no text, or names no
/// class.
pub fn class_names(file: impl AsRef<Path>) -> Result<Vec<String>> {
    let file = file.as_ref();
    let text = read_text(file, "class names")?;
    let names: Vec<String> = text.lines().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if names.is_empty() { Err(Error::input(file, "names no class")) } else { Ok(names) }
}

/// A class as somebody wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class {
    /// Index into the network's outputs.
    pub index: usize,
    /// Whether it was written as a number, so that it may be counted otherwise.
    pub number: bool,
}

/// Finds classes.
pub(super) struct Names<'a> {
    names: Option<&'a [String]>,
    indices: HashMap<&'a str, usize>,
}

impl<'a> Names<'a> {
    /// For the names in the order of their indices, where they are known. A name like `n01440764
    /// tench, Tinca tinca` is found by its synset too.
    pub(super) fn new(names: Option<&'a [String]>) -> Self {
        let all = || names.unwrap_or_default().iter().enumerate().rev();
        let synset = |name: &'a str| name.split_whitespace().next().filter(|word| is_synset(word));
        let mut indices: HashMap<&str, usize> = all().filter_map(|(i, name)| Some((synset(name)?, i))).collect();
        indices.extend(all().map(|(i, name)| (name.as_str(), i)));
        Self { names, indices }
    }

    /// The class that a name, a synset or a number stands for. A number is not compared with how
    /// many classes there are.
    ///
    /// # Errors
    /// What is none of these.
    pub(super) fn class(&self, text: &str) -> Result<Class> {
        if let Some(&index) = self.indices.get(text) {
            return Ok(Class { index, number: false });
        }
        // Spreadsheets write whole numbers as `2.0`.
        if let Ok(index) = text.strip_suffix(".0").unwrap_or(text).parse() {
            return Ok(Class { index, number: true });
        }
        Err(match self.names {
            Some(names) => Error::bad(format!("`{}` is not a class of the model", shortened(text)))
                .hint(format!("its description lists {}", in_words(names))),
            None => Error::bad(format!("class `{}` is no index, and the model has no class names", shortened(text)))
                .hint(text!["number the classes from 0, or name them: ", Term::Classes]),
        })
    }

    /// As [`Names::class`], also for the field of a table that has boxes behind each class, as
    /// Kaggle's: `class x1 y1 x2 y2`, once or more often.
    ///
    /// # Errors
    /// As [`Names::class`], and boxes of several classes.
    pub(super) fn class_in_field(&self, text: &str) -> Result<Class> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let numbers = |group: &[&str]| group[1..].iter().all(|word| word.parse::<f64>().is_ok());
        let boxed = !words.is_empty() && words.len().is_multiple_of(5) && words.chunks(5).all(numbers);
        if !boxed || self.indices.contains_key(text) {
            return self.class(text);
        }
        match words.first() {
            Some(first) if words.chunks(5).all(|group| group[0] == *first) => self.class(first),
            _ => Err(Error::bad(format!("`{}` has boxes of several classes", shortened(text)))),
        }
    }

    /// Whether every number is the index of a class; `numbers` are those that were written as
    /// numbers, and where.
    ///
    /// # Errors
    /// The first that is none, with a hint where all look as if they were counted from 1.
    pub(super) fn check(&self, numbers: impl Iterator<Item = (usize, String)> + Clone) -> Result<()> {
        match self.names {
            Some(names) => check_numbers(names.len(), numbers),
            None => Ok(()),
        }
    }
}

/// Whether every number is below `count`, the number of classes.
///
/// # Errors
/// The first that is not, with a hint where all look as if they were counted from 1.
pub(crate) fn check_numbers(count: usize, numbers: impl Iterator<Item = (usize, String)> + Clone) -> Result<()> {
    let Some((number, place)) = numbers.clone().find(|(number, _)| *number >= count) else { return Ok(()) };
    let what = format!("class {number} does not exist: the model has {count} classes, from 0");
    let error = Error::bad(what).at(place);
    let mut all = numbers.map(|(number, _)| number);
    if all.all(|number| (1..=count).contains(&number)) {
        return Err(error.hint("the classes seem to be counted from 1: take 1 from each, or write their names"));
    }
    Err(error)
}

/// Whether a word is an id of `WordNet`, as `ImageNet`'s classes are called.
fn is_synset(word: &str) -> bool {
    word.strip_prefix('n').is_some_and(|digits| digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// The beginning of what somebody wrote, for a message.
pub(super) fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    let start: String = text.chars().take(SHOWN).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    format!("{}{more}", start.escape_debug())
}

/// The first few names, for a message.
pub(super) fn in_words(names: &[String]) -> String {
    const SHOWN: usize = 12;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{} classes: {shown}, …", names.len()) } else { shown }
}
