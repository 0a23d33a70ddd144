//! Image sets: finding, decoding, resizing, and batches ready for a device.

/// A batch of preprocessed images, still 8-bit: normalization is a table that the device looks up.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Number of images.
    pub count: usize,
    /// Height and width.
    pub size: [usize; 2],
    /// `count × height × width` pixels, `R | G << 8 | B << 16`.
    pub pixels: Vec<u32>,
    /// The class of each image, where it is known.
    pub labels: Vec<Option<usize>>,
    /// What each image is called in messages (its path).
    pub names: Vec<String>,
}
