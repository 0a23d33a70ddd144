//! Where images come from.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use ndarray::{Array, Dimension};
use rayon::prelude::*;

use super::Classes;
use super::tensors::{self, Tensor};
use crate::error::{Term, text};
use crate::images::{self, BatchOptions, Batches, Dataset, Found, RgbImage, Skipped};
use crate::model::Preprocessing;
use crate::{Error, Result};

/// Where images come from: files, images in memory, or f32 tensors.
///
/// Files are found, and their classes looked up, when this is made; they are decoded batch by batch
/// while the network runs, on all cores, a bounded number ahead.
///
/// ```no_run
/// use repquant::{Images, Model};
///
/// # fn main() -> repquant::Result<()> {
/// let model = Model::load("repvgg.safetensors")?;
/// // 512 images, spread evenly over a folder and those inside it.
/// let calibration = Images::folder("calib/")?.limit(512).skip_bad(true);
/// // A folder for each class.
/// let classes = model.classes().expect("a classifier");
/// let evaluation = Images::labelled("val/", &classes)?.batch_size(32);
/// # Ok(())
/// # }
/// ```
pub struct Images<'a> {
    source: Source<'a>,
    options: BatchOptions,
    batch_size: Option<usize>,
}

enum Source<'a> {
    Files(Dataset),
    Decoded {
        images: Box<dyn Iterator<Item = (RgbImage, Option<usize>)> + 'a>,
        total: Option<u64>,
    },
    /// At most `limit` images of them.
    Tensors {
        tensors: Box<dyn Iterator<Item = Tensor> + 'a>,
        limit: usize,
        total: Option<u64>,
    },
}

impl fmt::Debug for Images<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            Source::Files(_) => "files",
            Source::Decoded { .. } => "decoded",
            Source::Tensors { .. } => "tensors",
        };
        f.debug_struct("Images")
            .field("source", &source)
            .field("count", &self.count())
            .field("batch_size", &self.batch_size)
            .finish_non_exhaustive()
    }
}

impl<'a> Images<'a> {
    /// All images of a folder and the folders inside it (jpg, png, webp, bmp, tif, gif), without classes.
    /// Where there are none, arrays of `NumPy` (npy) are taken in their place: channels × height × width,
    /// floats as the network takes them, or bytes that are pixels.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) for a folder that is missing, cannot be read,
    /// or holds no images.
    pub fn folder(path: impl AsRef<Path>) -> Result<Self> {
        Dataset::unlabelled(path.as_ref()).map(|files| Self::of(Source::Files(files)))
    }

    /// Images in class folders: `path/CLASS/…`, in the order of `classes.names`, or where those are
    /// not known, as the folders' names say that are numbers, or in the order of the sorted names.
    /// [`Images::found`] has the class of each folder.
    ///
    /// # Errors
    /// As [`Images::folder`]; a folder that is no class, an image outside the class folders.
    pub fn labelled(path: impl AsRef<Path>, classes: &Classes) -> Result<Self> {
        Self::with_classes(path.as_ref(), None, classes)
    }

    /// The images that a labels file lists: lines `file class` or `file,class`, CSV with a header or
    /// quotes, or classes alone in the order of the sorted paths of the images. Files lie below the
    /// folder `path`; a class is a name, the synset that a name begins with, or an index.
    /// [`Images::found`] has what was assumed to read it.
    ///
    /// # Errors
    /// As [`Images::folder`]; a line of the labels file that names an unknown file or class, or a
    /// file once more.
    pub fn listed(path: impl AsRef<Path>, labels: impl AsRef<Path>, classes: &Classes) -> Result<Self> {
        Self::with_classes(path.as_ref(), Some(labels.as_ref()), classes)
    }

    /// Whether a folder has folders with images in it, as [`Images::labelled`] expects them.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) for a folder that is missing or cannot be
    /// read.
    pub fn in_class_folders(path: impl AsRef<Path>) -> Result<bool> {
        Dataset::has_class_folders(path.as_ref())
    }

    /// Images that are decoded already, and the class of each where it is known. They are resized,
    /// cropped and normalized as those from files are.
    ///
    /// ```
    /// use repquant::{Images, options::RgbImage};
    ///
    /// let gray = RgbImage { width: 64, height: 64, pixels: vec![128; 64 * 64 * 3] };
    /// let images = Images::decoded([(gray.clone(), Some(0)), (gray, Some(1))]);
    /// assert_eq!(images.count(), Some(2));
    /// ```
    pub fn decoded(images: impl IntoIterator<Item = (RgbImage, Option<usize>), IntoIter: 'a>) -> Self {
        let images = images.into_iter();
        let total = exact(&images);
        Self::of(Source::Decoded { images: Box::new(images), total })
    }

    /// Tensors as the network takes them: f32, images × channels × height × width, normalized; each
    /// may have any number of images. They are split and put together into batches.
    ///
    /// A tensor of another shape, or with a NaN or an infinity in it, is an error that names it
    /// (`tensor 0`, `tensor 1` …) when its turn comes.
    ///
    /// ```no_run
    /// use ndarray::Array4;
    /// use repquant::{Calibration, Device, Images, Model};
    ///
    /// # fn main() -> repquant::Result<()> {
    /// let model = Model::load("network.onnx")?;
    /// let arrays = (0..100).map(|i| Array4::from_elem((8, 3, 224, 224), i as f32 / 100.0));
    /// let calibration = Calibration::collect(&Device::cpu(), &model, Images::tensors(arrays))?;
    /// assert_eq!(calibration.images(), 800);
    /// # Ok(())
    /// # }
    /// ```
    pub fn tensors<D: Dimension>(tensors: impl IntoIterator<Item = Array<f32, D>, IntoIter: 'a>) -> Self {
        Self::labelled_tensors(tensors.into_iter().map(|values| (values, Vec::new())))
    }

    /// As [`Images::tensors`], with the class of each image.
    pub fn labelled_tensors<D: Dimension>(
        tensors: impl IntoIterator<Item = (Array<f32, D>, Vec<usize>), IntoIter: 'a>,
    ) -> Self {
        let named = |(i, (values, labels)): (usize, (Array<f32, D>, _))| Tensor {
            name: format!("tensor {i}"),
            values: values.into_dyn(),
            labels,
        };
        let tensors = Box::new(tensors.into_iter().enumerate().map(named));
        Self::of(Source::Tensors { tensors, limit: usize::MAX, total: None })
    }

    /// As [`Images::tensors`], from a safetensors file: every tensor in it, in the order of their
    /// names. The file is held in memory.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) for a file that cannot be read or holds no
    /// tensors, or a tensor that is not of f32.
    pub fn tensor_file(path: impl AsRef<Path>) -> Result<Self> {
        let tensors = tensors::read(path.as_ref())?;
        let total = tensors.iter().map(|tensor| tensor.images() as u64).sum();
        Ok(Self::of(Source::Tensors { tensors: Box::new(tensors.into_iter()), limit: usize::MAX, total: Some(total) }))
    }

    /// Keeps at most `n` images: of files evenly spread ones, so that classes stay mixed; of others
    /// the first.
    #[must_use]
    pub fn limit(mut self, n: usize) -> Self {
        self.source = match self.source {
            Source::Files(files) => Source::Files(files.limit(n)),
            Source::Decoded { images, total } => {
                Source::Decoded { images: Box::new(images.take(n)), total: total.map(|total| total.min(n as u64)) }
            }
            Source::Tensors { tensors, limit, total } => {
                Source::Tensors { tensors, limit: limit.min(n), total: total.map(|total| total.min(n as u64)) }
            }
        };
        self
    }

    /// Whether files that cannot be read are left out and listed
    /// ([`Run::skipped`](crate::report::Run::skipped)); otherwise, as by default, the first one is
    /// an error.
    #[must_use]
    pub fn skip_bad(mut self, skip: bool) -> Self {
        self.options.skip_bad = skip;
        self
    }

    /// Images in a batch, at least 1; default: what suits the device. It changes no result.
    #[must_use]
    pub fn batch_size(mut self, images: usize) -> Self {
        self.batch_size = Some(images.max(1));
        self
    }

    /// Threads that decode; default: one for each core. It changes no result.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.options.threads = Some(threads.max(1));
        self
    }

    /// How many there are, bad ones included; none where an iterator does not say.
    pub fn count(&self) -> Option<u64> {
        match &self.source {
            Source::Files(files) => Some(files.items.len() as u64),
            Source::Decoded { total, .. } | Source::Tensors { total, .. } => *total,
        }
    }

    /// The files among them, in their order.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let items = match &self.source {
            Source::Files(files) => files.items.as_slice(),
            Source::Decoded { .. } | Source::Tensors { .. } => &[],
        };
        items.iter().map(|item| item.path.as_path())
    }

    /// How files and their classes were found: the class of each folder, what was assumed, what was
    /// left out; none for images that are no files.
    pub fn found(&self) -> Option<&Found> {
        match &self.source {
            Source::Files(files) => Some(&files.found),
            Source::Decoded { .. } | Source::Tensors { .. } => None,
        }
    }

    fn of(source: Source<'a>) -> Self {
        Self { source, options: BatchOptions { batch_size: 1, skip_bad: false, threads: None }, batch_size: None }
    }

    fn with_classes(folder: &Path, labels: Option<&Path>, classes: &Classes) -> Result<Self> {
        let files = Dataset::labelled(folder, labels, classes.names.as_deref())?;
        // Without names of its own the network's classes are those of the folders: then the numbers
        // must agree.
        let folders = files.classes.as_ref().filter(|_| classes.names.is_none()).map(Vec::len);
        if let Some(folders) = folders.filter(|folders| *folders != classes.count) {
            let what = format!("{folders} class folders for a network with {} outputs", classes.count);
            return Err(
                Error::input(folder, what).hint(text!["name the classes in the order of the outputs: ", Term::Classes])
            );
        }
        files.check_labels(classes.count)?;
        Ok(Self::of(Source::Files(files)))
    }

    /// Images in a batch: as asked for, else what fits.
    pub(super) fn batch_size_for(&self, fits: impl FnOnce() -> Result<usize>) -> Result<usize> {
        // What does not fit at all is an error whatever was asked for.
        let fits = fits()?;
        Ok(self.batch_size.unwrap_or(fits).max(1))
    }

    /// Begins to read them, for a network with this input.
    pub(super) fn feed(self, input: &Preprocessing, batch_size: usize) -> Feed<'a> {
        match self.source {
            Source::Files(files) => {
                Feed::Files(Batches::new(files.items, input, BatchOptions { batch_size, ..self.options }))
            }
            Source::Decoded { images, .. } => {
                Feed::Memory(Box::new(Decoded { images, input: input.clone(), batch_size, first: 0 }))
            }
            Source::Tensors { tensors, limit, .. } => Feed::Memory(Box::new(tensors::Batches {
                tensors,
                size: input.size,
                channels: input.channels(),
                batch_size,
                left: limit,
                current: None,
            })),
        }
    }
}

/// How many an iterator gives, where it says so.
fn exact<T>(iterator: &impl Iterator<Item = T>) -> Option<u64> {
    let (least, most) = iterator.size_hint();
    most.filter(|most| *most == least).map(|count| count as u64)
}

/// Batches of images that are being read.
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
pub(super) enum Feed<'a> {
    Files(Batches),
    Memory(Box<dyn Iterator<Item = Result<images::Batch>> + 'a>),
}

impl Feed<'_> {
    /// The files left out so far.
    pub(super) fn skipped(&self) -> &[Skipped] {
        match self {
            Self::Files(files) => files.skipped(),
            Self::Memory(_) => &[],
        }
    }

    /// How long decoding has waited for whoever takes the batches; none where nothing is decoded.
    pub(super) fn decoding_waited(&self) -> Option<Duration> {
        match self {
            Self::Files(files) => Some(files.decoding_waited()),
            Self::Memory(_) => None,
        }
    }
}

impl Iterator for Feed<'_> {
    type Item = Result<images::Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Files(files) => files.next(),
            Self::Memory(batches) => batches.next(),
        }
    }
}

/// Decoded images on their way to batches, those of a batch preprocessed on all cores.
struct Decoded<'a> {
    images: Box<dyn Iterator<Item = (RgbImage, Option<usize>)> + 'a>,
    input: Preprocessing,
    batch_size: usize,
    /// The number of the next image.
    first: usize,
}

impl Iterator for Decoded<'_> {
    type Item = Result<images::Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let taken: Vec<_> = self.images.by_ref().take(self.batch_size).collect();
        if taken.is_empty() {
            return None;
        }
        let pixels: Vec<_> = taken
            .par_iter()
            .map(|(image, _)| check(image).and_then(|()| images::preprocess(image, &self.input)))
            .collect();
        let mut batch = images::Batch::empty(self.input.size);
        for ((_, label), pixels) in taken.iter().zip(pixels) {
            let name = format!("image {}", self.first);
            self.first += 1;
            let pushed = pixels.map_err(|e| e.at(&name)).and_then(|pixels| batch.push(name.as_str(), *label, &pixels));
            if let Err(error) = pushed {
                return Some(Err(error));
            }
        }
        Some(Ok(batch))
    }
}

/// Whether an image that a caller made has the pixels that it says.
fn check(image: &RgbImage) -> Result<()> {
    let expected = image.width.checked_mul(image.height).and_then(|pixels| pixels.checked_mul(3));
    if expected == Some(image.pixels.len()) {
        return Ok(());
    }
    Err(Error::bad(format!("{}×{} pixels of 3 bytes, not {} bytes", image.width, image.height, image.pixels.len())))
}
