//! The labels file: which class each image of a folder has.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::class_names::{Class, Names, read_text, shortened};
use super::finder::Finder;
use super::folders::{is_image, walk};
use super::item::Item;
use super::npy::is_array;
use crate::{Error, Result};

/// What a column with the classes is called in tables, in small letters.
const CLASS_COLUMNS: [&str; 14] = [
    "class",
    "classes",
    "label",
    "labels",
    "category",
    "target",
    "predictionstring",
    "class_id",
    "classid",
    "label_id",
    "category_id",
    "class_name",
    "synset",
    "wnid",
];

/// The images that a labels file lists, and what was assumed to read it.
pub(super) struct Listed {
    pub(super) items: Vec<Item>,
    pub(super) assumed: Vec<String>,
}

/// A line: its number, the file, the class.
type Row = (u64, PathBuf, Class);

/// Reads a labels file in any of these forms; empty lines and those that begin with `#` are
/// skipped:
///
/// - lines `file class` or `file,class`. A line is split at its last comma, or else at its last
///   white space, whichever gives a file that exists in `root`, as names may hold both;
/// - CSV (commas, tabs or semicolons) with a header or with quoted fields; the column of the
///   classes is found by its name, or is the other of two;
/// - classes alone, one a line, in the order of the sorted paths of the images in `root`.
///
/// `classes` are the names in the order of their indices.
///
/// # Errors
/// A file that cannot be read or is not UTF-8; with the line number: no class, an unknown file or
/// class, a file listed before.
pub(super) fn read(root: &Path, file: &Path, classes: Option<&[String]>) -> Result<Listed> {
    let text = read_text(file, "labels")?;
    let lines: Vec<(u64, &str)> =
        (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect();
    let names = Names::new(classes);
    let finder = Finder::new(root);
    let place = |number: u64| format!("{}:{number}", file.display());
    let mut assumed = Vec::new();
    let header = header(&finder, &names, &lines);
    let rows = if let Some(delimiter) = header.or_else(|| text.contains('"').then(|| delimiter(&lines)).flatten()) {
        if header.is_some() {
            assumed.push(format!("{} is a header", lines.first().map_or_else(String::new, |(n, _)| place(*n))));
        }
        table(&text, delimiter, header.is_some(), &finder, &names, &place)?
    } else if is_list_of_classes(&finder, &names, &lines) {
        let (mut images, _) = walk(root, HashSet::new())?.settled();
        images.sort();
        if images.len() != lines.len() {
            let what = format!(
                "lists {} classes without files, {} holds {} images",
                lines.len(),
                root.display(),
                images.len()
            );
            return Err(Error::input(file, what)
                .hint("with as many lines as images they go by the sorted paths; else write `file,class`"));
        }
        if let (Some(first), Some(last)) = (images.first(), images.last()) {
            assumed.push(format!(
                "{} names no files: its lines are the images in the order of their paths, from {} to {}",
                file.display(),
                first.display(),
                last.display()
            ));
        }
        let rows = lines.iter().zip(images).map(|(&(number, line), path)| Ok((number, path, names.class(line)?)));
        rows.collect::<Result<_>>()?
    } else {
        let row = |&(number, line): &(u64, &str)| {
            let (path, class) = split(&finder, line).map_err(|e| e.at(place(number)))?;
            Ok((number, path, names.class_in_field(class).map_err(|e| e.at(place(number)))?))
        };
        lines.iter().map(row).collect::<Result<Vec<Row>>>()?
    };
    let numbers = rows.iter().filter(|(_, _, class)| class.number).map(|(n, _, class)| (class.index, place(*n)));
    names.check(numbers)?;
    let mut line_of: HashMap<PathBuf, u64> = HashMap::new();
    let mut items = Vec::with_capacity(rows.len());
    for (number, path, class) in rows {
        if let Some(earlier) = line_of.insert(path.clone(), number) {
            let what = format!("{} is listed in line {earlier} already", path.display());
            return Err(Error::bad(what).at(place(number)));
        }
        items.push(Item { path, label: Some(class.index) });
    }
    assumed.extend(finder.left_off().map(|folder| {
        format!("{}: the files are found in {} without {folder} before their names", file.display(), root.display())
    }));
    Ok(Listed { items, assumed })
}

/// What stands between the fields of the first line.
fn delimiter(lines: &[(u64, &str)]) -> Option<u8> {
    let (_, first) = lines.first()?;
    [b'\t', b',', b';'].into_iter().find(|mark| first.as_bytes().contains(mark))
}

/// What stands between the fields, where the first line is a header: it names neither an image nor
/// a class, and the second one has a field that is an image.
fn header(finder: &Finder<'_>, names: &Names<'_>, lines: &[(u64, &str)]) -> Option<u8> {
    let mark = delimiter(lines)?;
    let fields = |line: &str| fields(line, mark);
    let (_, first) = lines.first()?;
    let (_, second) = lines.get(1)?;
    let says_something = |field: &String| {
        is_image(Path::new(field))
            || is_array(Path::new(field))
            || names.class(field).is_ok()
            || finder.find(field).is_some()
    };
    let named = !fields(first).iter().any(says_something) && fields(first).iter().any(|field| !field.is_empty());
    (named && fields(second).iter().any(|field| finder.find(field).is_some())).then_some(mark)
}

/// A reader of tables.
fn csv_reader(text: &str, delimiter: u8) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .comment(Some(b'#'))
        .trim(csv::Trim::All)
        .delimiter(delimiter)
        .from_reader(text.as_bytes())
}

/// The fields of one line.
fn fields(line: &str, delimiter: u8) -> Vec<String> {
    let record = csv_reader(line, delimiter).records().next().and_then(std::result::Result::ok);
    record.map(|record| record.iter().map(str::to_owned).collect()).unwrap_or_default()
}

/// The rows of a table.
fn table(
    text: &str,
    delimiter: u8,
    header: bool,
    finder: &Finder<'_>,
    names: &Names<'_>,
    place: &dyn Fn(u64) -> String,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut titles: Option<Vec<String>> = None;
    let mut columns = None;
    for record in csv_reader(text, delimiter).records() {
        let record = record.map_err(|e| {
            let at = e.position().map_or_else(|| place(1), |position| place(position.line()));
            Error::bad("is not CSV").because(e).at(at)
        })?;
        let number = record.position().map_or(0, csv::Position::line);
        if header && titles.is_none() {
            titles = Some(record.iter().map(str::to_lowercase).collect());
            continue;
        }
        let here = |e: Error| e.at(place(number));
        let [file, class] = match columns {
            Some(columns) => columns,
            None => *columns.insert(self::columns(&record, titles.as_deref(), finder).map_err(here)?),
        };
        let (Some(name), Some(class)) = (record.get(file), record.get(class)) else {
            return Err(here(Error::bad(format!("has {} fields; the file and its class are expected", record.len()))));
        };
        let path = finder.find(name).ok_or_else(|| here(finder.unknown(name)))?;
        rows.push((number, path, names.class_in_field(class).map_err(here)?));
    }
    Ok(rows)
}

/// The columns of the files and of the classes, told from the first row and the titles.
fn columns(row: &csv::StringRecord, titles: Option<&[String]>, finder: &Finder<'_>) -> Result<[usize; 2]> {
    let Some(file) = row.iter().position(|field| finder.find(field).is_some()) else {
        return Err(finder.unknown(row.get(0).unwrap_or_default()));
    };
    let titled = |titles: &[String]| {
        let known = |title: &String| CLASS_COLUMNS.contains(&title.as_str());
        (0..titles.len()).find(|&c| c != file && known(&titles[c]))
    };
    let class = titles.and_then(titled).or_else(|| (row.len() == 2).then_some(1 - file));
    class.map(|class| [file, class]).ok_or_else(|| {
        Error::bad(format!("has {} fields, and none is certainly the class", row.len()))
            .hint("keep two columns, the file and its class, or call the column `label`")
    })
}

/// Whether the lines are classes alone.
fn is_list_of_classes(finder: &Finder<'_>, names: &Names<'_>, lines: &[(u64, &str)]) -> bool {
    let is_class = |line: &str| names.class(line).is_ok();
    lines.first().is_some_and(|(_, line)| is_class(line) && split(finder, line).is_err())
        && lines.iter().all(|(_, line)| is_class(line))
}

/// The image's path and the text of its class.
fn split<'a>(finder: &Finder<'_>, line: &'a str) -> Result<(PathBuf, &'a str)> {
    let splits = [line.rsplit_once(','), line.rsplit_once(char::is_whitespace)];
    let splits = splits.into_iter().flatten().map(|(name, class)| (name.trim(), class.trim()));
    let splits: Vec<_> = splits.filter(|(name, class)| !name.is_empty() && !class.is_empty()).collect();
    let found = splits.iter().find_map(|(name, class)| Some((finder.exactly(name)?, *class)));
    if let Some(found) = found.or_else(|| splits.iter().find_map(|(name, class)| Some((finder.find(name)?, *class)))) {
        return Ok(found);
    }
    Err(match splits.first() {
        Some((name, _)) if line.contains(',') => finder.unknown(name),
        Some((name, _)) => finder.unknown(name).hint("a class name with spaces needs a comma before it: `file,class`"),
        None => Error::bad(format!("`{}` is not `file class`", shortened(line))),
    })
}
