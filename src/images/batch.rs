//! A batch of images.

use crate::{Error, Result};

/// What a batch holds of its images.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Preprocessed images, still 8-bit: normalization is a table that the device looks up.
    /// `count × height × width` pixels, the first channel in the lowest byte:
    /// `R | G << 8 | B << 16`, BGR, or the gray value alone.
    Pixels(Vec<u32>),
    /// The very values of the network's input: bits of f32, `count × height × width × channels`,
    /// the channels padded to a multiple of 4 with zeros.
    Values(Vec<u32>),
}

/// A batch of inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Number of images.
    pub count: usize,
    /// Height and width.
    pub size: [usize; 2],
    /// The images.
    pub content: Content,
    /// The class of each image, where it is known.
    pub labels: Vec<Option<usize>>,
    /// What each image is called in messages (its path).
    pub names: Vec<String>,
}

impl Batch {
    /// No images yet.
    pub fn empty(size: [usize; 2]) -> Self {
        Self { count: 0, size, content: Content::Pixels(Vec::new()), labels: Vec::new(), names: Vec::new() }
    }

    /// Its pixels; empty where it holds values.
    pub fn pixels(&self) -> &[u32] {
        match &self.content {
            Content::Pixels(pixels) => pixels,
            Content::Values(_) => &[],
        }
    }

    /// Appends an image to a batch of pixels: `height × width` pixels, as in [`Content::Pixels`].
    ///
    /// # Errors
    /// Another number of pixels than the size has, or a batch of values.
    pub fn push(&mut self, name: impl Into<String>, label: Option<usize>, pixels: &[u32]) -> Result<()> {
        let [height, width] = self.size;
        if pixels.len() != height * width {
            let what = format!("the image has {} pixels, not {width}×{height}", pixels.len());
            return Err(Error::bad(what).at(name.into()));
        }
        let Content::Pixels(all) = &mut self.content else {
            return Err(Error::bad("the batch holds values, not pixels").at(name.into()));
        };
        all.extend_from_slice(pixels);
        self.labels.push(label);
        self.names.push(name.into());
        self.count += 1;
        Ok(())
    }

    /// Appends an image to a batch of values: words as in [`Content::Values`].
    ///
    /// # Errors
    /// Another number of words than the images before it have, or a batch of pixels.
    pub fn push_values(&mut self, name: impl Into<String>, label: Option<usize>, values: &[u32]) -> Result<()> {
        let Content::Values(all) = &mut self.content else {
            return Err(Error::bad("the batch holds pixels, not values").at(name.into()));
        };
        if all.len() != self.count * values.len() {
            return Err(Error::bad(format!("another size than the {} images before", self.count)).at(name.into()));
        }
        all.extend_from_slice(values);
        self.labels.push(label);
        self.names.push(name.into());
        self.count += 1;
        Ok(())
    }

    /// The images of this batch that have these numbers, in their order.
    ///
    /// # Panics
    /// If there is no such image: an error of the caller.
    pub(crate) fn pick(&self, images: &[usize]) -> Batch {
        let part = |words: &[u32]| {
            let image = words.len() / self.count.max(1);
            images.iter().flat_map(|&i| &words[i * image..(i + 1) * image]).copied().collect()
        };
        Batch {
            count: images.len(),
            size: self.size,
            content: match &self.content {
                Content::Pixels(pixels) => Content::Pixels(part(pixels)),
                Content::Values(values) => Content::Values(part(values)),
            },
            labels: images.iter().map(|&i| self.labels[i]).collect(),
            names: images.iter().map(|&i| self.names[i].clone()).collect(),
        }
    }

    /// The images of this batch in batches of at most `batch_size` (at least 1): a set that lies in
    /// memory whole is fed to the same code as one that is read from disk.
    pub fn split(&self, batch_size: usize) -> impl Iterator<Item = Batch> + '_ {
        let batch_size = batch_size.max(1);
        (0..self.count).step_by(batch_size).map(move |start| {
            let images: Vec<usize> = (start..self.count.min(start + batch_size)).collect();
            self.pick(&images)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_keeps_the_order_and_every_image() {
        let mut all = Batch::empty([1, 2]);
        for i in 0..5 {
            all.push(format!("image {i}"), Some(i as usize), &[i, i + 100]).expect("2 pixels");
        }
        let parts: Vec<Batch> = all.split(2).collect();
        assert_eq!(parts.iter().map(|b| b.count).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(parts[2].pixels(), [4, 104]);
        assert_eq!(parts[1].labels, [Some(2), Some(3)]);
        assert_eq!(parts.iter().flat_map(|b| b.names.clone()).collect::<Vec<_>>(), all.names);
        assert_eq!(all.split(0).count(), 5);
        let values = Batch { content: Content::Values((0..40).collect()), ..all };
        let parts: Vec<Batch> = values.split(3).collect();
        assert_eq!(parts[1].content, Content::Values((24..40).collect()));
        assert!(parts[1].pixels().is_empty());
    }

    #[test]
    fn an_image_of_another_size_is_refused() {
        let mut batch = Batch::empty([2, 2]);
        assert_eq!(
            batch.push("a", None, &[0; 3]).expect_err("3 pixels").to_string(),
            "a: the image has 3 pixels, not 2×2"
        );
        assert_eq!(batch, Batch::empty([2, 2]));
        assert!(batch.push_values("a", None, &[0; 16]).is_err());
        let mut values = Batch { content: Content::Values(Vec::new()), ..batch };
        assert!(values.push("a", None, &[0; 4]).is_err());
        values.push_values("a", Some(1), &[7; 16]).expect("the first");
        assert!(values.push_values("b", None, &[7; 15]).is_err());
        assert_eq!((values.count, values.labels), (1, vec![Some(1)]));
    }
}
