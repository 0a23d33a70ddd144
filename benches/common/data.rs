//! Photographs to decode: those of the reference data, else drawn ones of the usual size.

use std::path::{Path, PathBuf};

use image::RgbImage;
use repquant::internals::Random;
use repquant::internals::images::{Dataset, Item};

/// Files to decode, and what keeps them on disk.
pub(crate) struct Photos {
    /// The files.
    pub(crate) items: Vec<Item>,
    /// What they are, for a table's title.
    pub(crate) what: &'static str,
    _folder: Option<tempfile::TempDir>,
}

impl Photos {
    /// `photos` of the reference data where `REPQUANT_TEST_DATA` names it, else 64 drawn JPEG files
    /// of 500×375 pixels.
    pub(crate) fn new() -> Self {
        if let Some(data) = std::env::var_os("REPQUANT_TEST_DATA") {
            let folder = PathBuf::from(data).join("data/photos");
            let set = Dataset::unlabelled(&folder).unwrap_or_else(|e| panic!("REPQUANT_TEST_DATA: {e}"));
            return Self { items: set.items, what: "full-size photographs", _folder: None };
        }
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        (0..64).for_each(|number| draw(number, [500, 375], 20, &folder.path().join(format!("{number:02}.jpg"))));
        let set = Dataset::unlabelled(folder.path()).expect("files were written");
        Self { items: set.items, what: "drawn JPEG files of 500×375", _folder: Some(folder) }
    }

    /// 4 drawn JPEG files of 4000×3000 pixels.
    pub(crate) fn big() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        (0..4).for_each(|number| draw(number, [4000, 3000], 4, &folder.path().join(format!("{number}.jpg"))));
        let set = Dataset::unlabelled(folder.path()).expect("files were written");
        Self { items: set.items, what: "drawn JPEG files of 4000×3000", _folder: Some(folder) }
    }

    /// The first `count` files, again from the beginning where there are fewer.
    pub(crate) fn take(&self, count: usize) -> Vec<Item> {
        self.items.iter().cycle().take(count).cloned().collect()
    }
}

/// A gradient under noise: about as many bytes as a photograph of that size.
fn draw(number: u64, [width, height]: [u32; 2], noise: i64, path: &Path) {
    let mut random = Random::new(number);
    let image = RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = (x * 500 / width, y * 375 / height);
        let noise = random.integer(-noise, noise);
        image::Rgb([x / 2, y / 2, (x + y) / 4].map(|v| (i64::from(v) + noise).clamp(0, 255) as u8))
    });
    image.save(path).expect("the file can be written");
}
