//! Image sets as the flags name them, and what is said about how they were read.

use std::path::Path;

use repquant::files::class_names;
use repquant::options::Classes;
use repquant::{Error, Images, Model, Result};

use super::session::Session;

/// How a command reads its images.
pub(super) struct Reading {
    /// Count and list bad images instead of stopping.
    pub skip_bad: bool,
    /// Images in a batch; none: what suits the device.
    pub batch_size: Option<u16>,
}

impl Reading {
    /// The images, read like this.
    pub(super) fn of(&self, images: Images<'static>) -> Images<'static> {
        let images = images.skip_bad(self.skip_bad);
        match self.batch_size {
            Some(size) => images.batch_size(size.into()),
            None => images,
        }
    }
}

/// All images of a folder, at most `limit`.
///
/// # Errors
/// If the folder is missing or has no images.
pub(super) fn plain_images(session: &Session, folder: &Path, limit: Option<u32>) -> Result<Images<'static>> {
    let images = Images::folder(folder)?;
    tell(session, folder, &images);
    Ok(limited(images, limit))
}

/// The images to evaluate on. They have no classes where the network is no classifier, where they
/// lie in no class folders, or where `--labels none` says so.
///
/// # Errors
/// If the folder is missing or has no images, or classes do not match.
pub(super) fn evaluation_images(
    session: &Session,
    folder: &Path,
    labels: Option<&Path>,
    classes: Option<&Classes>,
    limit: Option<u32>,
) -> Result<Images<'static>> {
    let none = labels.is_some_and(|labels| labels.as_os_str() == "none");
    let images = match (classes, labels) {
        (None, None) => Images::folder(folder)?,
        _ if none => Images::folder(folder)?,
        (Some(classes), Some(labels)) => Images::listed(folder, labels, classes)?,
        (Some(classes), None) if Images::in_class_folders(folder)? => Images::labelled(folder, classes)?,
        (Some(_), None) => {
            session
                .bars
                .note(&format!("{}: no class folders and no --labels, so top-1 is not measured", folder.display()));
            Images::folder(folder)?
        }
        (None, Some(labels)) => {
            return Err(Error::usage(format!("--labels {}: the network is no classifier", labels.display()))
                .hint("without labels its outputs are compared with the float network's"));
        }
    };
    tell(session, folder, &images);
    Ok(limited(images, limit))
}

/// The model, its classes called as a file says.
///
/// # Errors
/// A file that cannot be read, or has not one name for each class.
pub(super) fn named(model: Model, classes: Option<&Path>) -> Result<Model> {
    match classes {
        Some(file) => model.with_classes(class_names(file)?).map_err(|e| e.at(file.display())),
        None => Ok(model),
    }
}

/// Says what was assumed of how an image becomes the input.
pub(super) fn tell_preprocessing(session: &Session, model: &Model) {
    let instead = match model.input().channels() {
        3 => {
            "--preprocess yolo is for YOLO's networks, --mean 0,0,0 --std 1,1,1 for others that take values from \
             0 to 1, --preprocess none for 0 to 255"
        }
        _ => "--preprocess none is for networks that take values from 0 to 255, --mean 0.5 --std 0.5 for -1 to 1",
    };
    for note in model.notes().into_iter().filter(|note| note.kind == "assumed") {
        session.bars.note(&format!("assumed: {}\n  {instead}; a description or flags say the rest", note.text));
    }
}

/// At most `limit` images.
pub(super) fn limited(images: Images<'static>, limit: Option<u32>) -> Images<'static> {
    match limit {
        Some(n) => images.limit(n as usize),
        None => images,
    }
}

/// Says how images and their classes were found: what was assumed, what was left out, with -v the
/// class of each folder.
fn tell(session: &Session, folder: &Path, images: &Images<'static>) {
    let Some(found) = images.found() else { return };
    if session.common.verbose {
        for (name, class) in &found.folders {
            session.bars.note(&format!("folder {name}: class {class}"));
        }
    }
    for assumed in &found.assumed {
        session.bars.note(&format!("assumed: {assumed}"));
    }
    if !found.left_out.is_empty() {
        let all: usize = found.left_out.values().sum();
        let of = |(ending, count): (&String, &usize)| match ending.as_str() {
            "" => format!("{count} without ending"),
            ending => format!("{count} .{ending}"),
        };
        let list: Vec<String> = found.left_out.iter().map(of).collect();
        let files = if all == 1 { "file that is no image was" } else { "files that are no images were" };
        session.bars.note(&format!("{}: {all} {files} left out: {}", folder.display(), list.join(", ")));
    }
}
