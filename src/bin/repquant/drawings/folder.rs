//! Drawings as PNG files, which `examples/draw_images.rs` writes.

use std::path::Path;

use image::RgbImage;
use rayon::prelude::*;
use repquant::{Error, Result};

use super::{CLASSES, SIZE, Split, draw};

/// The split of that name.
///
/// # Errors
/// [`ErrorKind::Usage`](repquant::ErrorKind::Usage) for any other name.
pub(crate) fn split_of(name: &str) -> Result<Split> {
    [Split::Train, Split::Calibration, Split::Evaluation]
        .into_iter()
        .find(|s| s.name() == name)
        .ok_or_else(|| Error::usage(format!("{name}: no such split")).hint("choose train, calibration or evaluation"))
}

/// Writes the first `count` drawings of a split as `DIR/CLASS/INDEX.png`.
///
/// # Errors
/// [`ErrorKind::Usage`](repquant::ErrorKind::Usage) where `dir` already holds anything, so that no
/// older picture is mixed in or replaced; [`ErrorKind::Output`](repquant::ErrorKind::Output) where
/// a file or folder cannot be written.
pub(crate) fn write_folder(dir: &Path, split: Split, count: usize) -> Result<()> {
    if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::usage(format!("{}: is not empty", dir.display())).hint("name a new folder"));
    }
    for class in CLASSES {
        let folder = dir.join(class);
        std::fs::create_dir_all(&folder)
            .map_err(|e| Error::output(&folder, "the folder could not be made").because(e))?;
    }
    (0..count).into_par_iter().try_for_each(|i| {
        let drawing = draw(split, i as u64);
        let mut picture = RgbImage::new(SIZE as u32, SIZE as u32);
        for (target, pixel) in picture.pixels_mut().zip(&drawing.pixels) {
            let [r, g, b, _] = pixel.to_le_bytes();
            target.0 = [r, g, b];
        }
        let path = dir.join(CLASSES[drawing.label]).join(format!("{i:06}.png"));
        picture.save(&path).map_err(|e| Error::output(&path, "could not be written").because(e))
    })
}

#[cfg(test)]
mod tests {
    use repquant::ErrorKind;

    use super::*;

    #[test]
    fn a_folder_holds_the_drawings_to_the_bit_and_is_not_written_twice() {
        let dir = tempfile::tempdir().unwrap();
        write_folder(dir.path(), Split::Calibration, 12).unwrap();
        for i in 0..12 {
            let drawing = draw(Split::Calibration, i);
            let path = dir.path().join(CLASSES[drawing.label]).join(format!("{i:06}.png"));
            let read = image::open(path).unwrap().to_rgb8();
            let pixels: Vec<u32> = read.pixels().map(|p| u32::from_le_bytes([p.0[0], p.0[1], p.0[2], 0])).collect();
            assert_eq!(pixels, drawing.pixels);
        }
        let again = write_folder(dir.path(), Split::Calibration, 12).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Usage);
        let file = dir.path().join("heart/000004.png");
        assert_eq!(write_folder(&file.join("x"), Split::Train, 1).unwrap_err().kind(), ErrorKind::Output);
        assert_eq!(split_of("test").unwrap_err().kind(), ErrorKind::Usage);
    }
}
