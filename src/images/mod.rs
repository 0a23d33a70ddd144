//! Image sets: finding, decoding, resizing, and batches ready for a device.
//!
//! [`Dataset`] finds the files and their classes, [`decode`] reads one, [`preprocess()`] makes it
//! the network's input, and [`Batches`] does both on all cores ahead of the device. `NumPy`'s arrays
//! (`.npy`) serve in place of images, for inputs of any number of channels.

mod batch;
mod batches;
mod budget;
mod class_names;
mod dataset;
pub mod decode;
mod finder;
mod folders;
mod item;
mod jpeg;
mod labels;
mod npy;
mod preprocess;
mod resize;
mod scaled;
mod waited;

pub use batch::{Batch, Content};
pub use batches::{BatchOptions, Batches, Skipped};
pub use class_names::class_names;
pub use dataset::{Dataset, Found};
pub use item::Item;
pub use preprocess::{preprocess, preprocess_decoded};
pub(crate) use waited::Waited;

/// A decoded image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height × width × 3` bytes: R, G, B.
    pub pixels: Vec<u8>,
}

/// An image that was read for a preprocessing: whole, or a big JPEG at a reduced scale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// Its pixels: `⌈width / reduction⌉` of `⌈height / reduction⌉`.
    pub image: RgbImage,
    /// Width and height of the whole image.
    pub size: [usize; 2],
    /// How many pixels of the whole image are one here, each way: 1, 4 or 8.
    pub reduction: usize,
}
