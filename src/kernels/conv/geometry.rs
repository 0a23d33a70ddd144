//! The shape of a convolution as kernels see it, and why their shaders stay inside of it.
//!
//! Every shader reads the input at `(image·H + row)·W + column` pixels, where row and column were
//! compared with H and W before, and writes the output at a pixel below the dispatch's end; both
//! count quads of channels, of which a pixel has `in_quads` and `out_quads`. [`ConvShape::check`]
//! sees to it that no such number wraps around in 32 bits:
//!
//! - `4·quads` of the whole input and output are below 2^32, so pixels, quads and words are. Past
//!   the end shaders count at most one tile and the workgroups that a folded grid has too many,
//!   65,534 of up to 256 pixels: together below 2^31.
//! - `side + 2·padding + 4·stride + kernel` is below 2^31. A row above the image,
//!   `row·stride + dy − padding < 0`, wraps around to 2^31 or more, which is no row of an image;
//!   those below are `side + padding` at most. The depthwise kernel in f32 looks at up to three
//!   columns past the last output.

use std::ops::Range;

use ndarray::Array4;

use crate::device::Device;
use crate::model::{Shape, conv_output};
use crate::{Error, Result};

/// What a convolution's weights say of its shape.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConvShape {
    in_channels: usize,
    out_channels: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    /// Groups as the weights lie on the device.
    groups: usize,
    /// Most words of an activation, four channels in four words, that can be counted.
    most_words: usize,
}

/// Sizes of a convolution, first member of the parameters of every convolution kernel. Channels are
/// counted in fours: a `vec4<f32>`, or one u32 of packed int8.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Geometry {
    /// Images in the batch.
    pub(super) images: u32,
    /// Input rows.
    pub(super) in_height: u32,
    /// Input columns.
    pub(super) in_width: u32,
    /// Input channels in fours.
    pub(super) in_quads: u32,
    /// Output rows.
    pub(super) out_height: u32,
    /// Output columns.
    pub(super) out_width: u32,
    /// Output channels in fours.
    pub(super) out_quads: u32,
    /// Kernel rows.
    pub(super) kernel_height: u32,
    /// Kernel columns.
    pub(super) kernel_width: u32,
    /// Vertical stride.
    pub(super) stride_y: u32,
    /// Horizontal stride.
    pub(super) stride_x: u32,
    /// Padding above.
    pub(super) pad_y: u32,
    /// Padding left.
    pub(super) pad_x: u32,
    /// Input channels of one group in fours.
    pub(super) group_in_quads: u32,
    /// Output channels of one group in fours.
    pub(super) group_out_quads: u32,
    /// Real channels in the last four of the output: 1 to 4.
    pub(super) out_last: u32,
}

impl ConvShape {
    /// Of weights `O × I/groups × kh × kw` on a device.
    ///
    /// # Errors
    /// If a size is 0 or beyond 2^28, or the output channels cannot be divided into so many groups.
    pub(super) fn new<T>(
        device: &Device,
        weight: &Array4<T>,
        stride: [usize; 2],
        padding: [usize; 2],
        groups: usize,
    ) -> Result<Self> {
        const MOST: usize = 1 << 28;
        let (o, i, kh, kw) = weight.dim();
        let in_channels = i.saturating_mul(groups);
        let sizes = [o, in_channels, kh, kw, stride[0], stride[1], groups];
        if sizes.contains(&0) || sizes.iter().chain(&padding).any(|size| *size >= MOST) {
            return Err(Error::bad(format!(
                "weights {o}×{i}×{kh}×{kw} in {groups} groups, stride {stride:?} and padding {padding:?} are no convolution"
            )));
        }
        if !o.is_multiple_of(groups) {
            return Err(Error::bad(format!("{o} output channels in {groups} groups")));
        }
        let most_words = if device.is_native() { isize::MAX as usize / 4 } else { u32::MAX as usize };
        Ok(Self { in_channels, out_channels: o, kernel: [kh, kw], stride, padding, groups, most_words })
    }

    /// The same with the groups that [`ungrouped`] gave.
    pub(super) fn regrouped(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// Whether `images` inputs of shape `x` can be convolved, and every place in input and output
    /// be counted.
    ///
    /// # Errors
    /// If not: an error of the caller.
    pub(super) fn check(&self, images: usize, x: Shape) -> Result<()> {
        let refuse = |what: &str| Err(Error::device(format!("{images} images of {x}: {what}")));
        if x.channels != self.in_channels {
            return refuse(&format!("the weights are for {} channels", self.in_channels));
        }
        if x.height >= 1 << 28 || x.width >= 1 << 28 || images > u32::MAX as usize {
            return refuse("too large");
        }
        let y = self.output(x);
        let words = |shape: Shape| {
            let pixels = shape.height.checked_mul(shape.width)?.checked_mul(images)?;
            pixels.checked_mul(shape.padded_channels()).filter(|words| *words <= self.most_words)
        };
        match (words(x), words(y)) {
            (None, _) | (_, None) => refuse("too large"),
            (Some(0), Some(1..)) => refuse("an output without input"),
            _ => Ok(()),
        }
    }

    /// The shape of an output.
    pub(super) fn output(&self, x: Shape) -> Shape {
        conv_output(x, self.out_channels, self.kernel, self.stride, self.padding)
    }

    /// The geometry of a convolution of `images` inputs of shape `x` that [`ConvShape::check`] has
    /// nothing against. For a depthwise kernel the group members are not used.
    pub(super) fn geometry(&self, images: usize, x: Shape) -> Geometry {
        let y = self.output(x);
        let quads = |channels: usize| channels.div_ceil(4) as u32;
        Geometry {
            images: images as u32,
            in_height: x.height as u32,
            in_width: x.width as u32,
            in_quads: quads(self.in_channels),
            out_height: y.height as u32,
            out_width: y.width as u32,
            out_quads: quads(self.out_channels),
            kernel_height: self.kernel[0] as u32,
            kernel_width: self.kernel[1] as u32,
            stride_y: self.stride[0] as u32,
            stride_x: self.stride[1] as u32,
            pad_y: self.padding[0] as u32,
            pad_x: self.padding[1] as u32,
            group_in_quads: quads(self.in_channels / self.groups),
            group_out_quads: quads(self.out_channels / self.groups),
            out_last: (self.out_channels + 4 - 4 * self.out_channels.div_ceil(4)) as u32,
        }
    }
}

impl Geometry {
    /// Output pixels of the whole batch.
    pub(super) fn out_pixels(&self) -> usize {
        self.images as usize * self.out_height as usize * self.out_width as usize
    }

    /// Taps of the kernel.
    pub(super) fn taps(&self) -> usize {
        self.kernel_height as usize * self.kernel_width as usize
    }

    /// Multiplications of the whole batch, those with padded channels included.
    pub(super) fn multiplications(&self) -> u64 {
        16 * self.out_pixels() as u64 * u64::from(self.out_quads) * u64::from(self.group_in_quads) * self.taps() as u64
    }

    /// Words of the input buffer for `words_per_quad` (4 for f32, 1 for int8).
    pub(super) fn in_words(&self, words_per_quad: usize) -> usize {
        self.images as usize
            * self.in_height as usize
            * self.in_width as usize
            * self.in_quads as usize
            * words_per_quad
    }

    /// Words of the output buffer for `words_per_quad` (4 for f32 and int32, 1 for int8).
    pub(super) fn out_words(&self, words_per_quad: usize) -> usize {
        self.out_pixels() * self.out_quads as usize * words_per_quad
    }

    /// The output pixels of each dispatch: at most `most` multiplications, `macs` for a pixel, yet
    /// a workgroup's `tile` at least. Systems kill a dispatch of several seconds.
    pub(super) fn steps(&self, macs: usize, most: usize, tile: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let pixels = self.out_pixels();
        let step = (most / macs.max(1) / tile).max(1) * tile;
        (0..pixels).step_by(step).map(move |first| first..pixels.min(first + step))
    }
}

/// Multiplications of one dispatch: 0.2 s on a GPU of 200 GFLOP/s.
pub(super) const MOST_MACS: usize = 20_000_000_000;

/// Weights whose groups kernels can address: groups of a multiple of 4 input and output channels
/// stay as they are, narrower ones are put together, the fewest that give such a multiple (at worst
/// all of them), with zeros between. Returns `O × I/groups × kh × kw` and the groups that remain.
///
/// A zero weight adds exactly nothing, so results are unchanged; such narrow groups, other than
/// depthwise, which has a kernel of its own, are rare enough that their cost does not matter.
///
/// # Errors
/// If the weights would take more than a gigabyte of values that way.
pub(super) fn ungrouped<T: Copy + Default>(weight: &Array4<T>, groups: usize) -> Result<(Array4<T>, usize)> {
    const MOST: usize = 1 << 28;
    let (o, i, kh, kw) = weight.dim();
    let per_group = o / groups;
    let fits = |together: usize| {
        groups.is_multiple_of(together) && (together * i).is_multiple_of(4) && (together * per_group).is_multiple_of(4)
    };
    // One group is addressed whatever its width is: the last channels are padded.
    let together = if groups == 1 { 1 } else { (1..=4).find(|&n| fits(n)).unwrap_or(groups) };
    if together == 1 {
        return Ok((weight.clone(), groups));
    }
    if o.checked_mul(together * i * kh * kw).is_none_or(|values| values > MOST) {
        return Err(Error::bad(format!("{groups} groups of {i} input and {per_group} output channels are too many"))
            .hint("groups of a multiple of 4 channels can be as many as there are"));
    }
    let mut wide = Array4::from_elem((o, i * together, kh, kw), T::default());
    for ((oc, ic, y, x), &value) in weight.indexed_iter() {
        wide[[oc, oc / per_group % together * i + ic, y, x]] = value;
    }
    Ok((wide, groups / together))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(stride: [usize; 2], padding: [usize; 2], groups: usize) -> Result<ConvShape> {
        ConvShape::new(&Device::cpu(), &Array4::from_elem((6, 2, 3, 3), 1.0), stride, padding, groups)
    }

    #[test]
    fn what_is_no_convolution_is_refused() {
        assert!(shape([1, 2], [0, 1], 3).is_ok());
        assert!(shape([0, 1], [0, 0], 1).is_err());
        assert!(shape([1, 1], [0, 1 << 28], 1).is_err());
        assert!(shape([1, usize::MAX], [0, 0], 1).is_err());
        assert!(shape([1, 1], [0, 0], 0).is_err());
        assert!(shape([1, 1], [0, 0], 4).is_err());
        assert!(shape([1, 1], [0, 0], usize::MAX).is_err());
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        let mut shape = shape([1, 1], [1, 1], 1).unwrap();
        let refusal = |shape: &ConvShape, images: usize, [height, width]: [usize; 2]| {
            shape.check(images, Shape::new(2, height, width)).is_err()
        };
        assert!(!refusal(&shape, 1, [4, 5]));
        // Nothing to do; and nothing to do it with, but with so much padding that there is an
        // output.
        assert!(!refusal(&shape, 0, [4, 5]));
        assert!(!refusal(&shape, 1, [0, 0]));
        let padded = ConvShape { padding: [2, 2], ..shape };
        assert!(refusal(&padded, 1, [0, 0]));
        assert!(refusal(&shape, 1, [1 << 28, 1]));
        assert!(refusal(&shape, usize::MAX, [1, 1]));
        // On an adapter in 32 bits: 8 words of output for 4 of input.
        shape.most_words = u32::MAX as usize;
        assert!(!refusal(&shape, 1, [1 << 14, 1 << 14]));
        assert!(refusal(&shape, 2, [1 << 14, 1 << 14]));
    }

    #[test]
    fn steps_cover_all_pixels() {
        let g = shape([1, 1], [1, 1], 1).unwrap().geometry(3, Shape::new(2, 5, 7));
        let steps: Vec<_> = g.steps(10, 350, 16).collect();
        assert_eq!(steps, [0..32, 32..64, 64..96, 96..105]);
        assert_eq!(g.steps(10, 0, 64).collect::<Vec<_>>(), [0..64, 64..105]);
    }

    #[test]
    fn narrow_groups_are_put_together() {
        let weight = Array4::from_shape_fn((8, 1, 1, 1), |(o, ..)| o + 1);
        // 4 groups of 1 → 2: all four together give 4 → 8.
        let (wide, groups) = ungrouped(&weight, 4).unwrap();
        assert_eq!((wide.dim(), groups), ((8, 4, 1, 1), 1));
        for o in 0..8 {
            for i in 0..4 {
                assert_eq!(wide[[o, i, 0, 0]], if i == o / 2 { o + 1 } else { 0 });
            }
        }
        // 4 groups of 2 → 2 in pairs.
        let (wide, groups) = ungrouped(&Array4::from_elem((8, 2, 3, 3), 1.0), 4).unwrap();
        assert_eq!((wide.dim(), groups), ((8, 4, 3, 3), 2));
        // 3 groups of 3 → 3 become one; wide enough ones stay.
        assert_eq!(ungrouped(&Array4::from_elem((9, 3, 1, 1), 1i8), 3).unwrap().1, 1);
        assert_eq!(ungrouped(&Array4::from_elem((8, 4, 1, 1), 1i8), 2).unwrap().1, 2);
        assert!(ungrouped(&Array4::from_elem((20_014, 1, 3, 3), 0i8), 10_007).is_err());
    }
}
