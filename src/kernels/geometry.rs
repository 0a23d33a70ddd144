//! The shape of a convolution as kernels see it.

use ndarray::Array4;

use crate::model::{Shape, conv_output};
use crate::{Error, Result};

/// Sizes of a convolution, first member of the parameters of every convolution kernel. Channels are counted in fours:
/// a `vec4<f32>`, or one u32 of packed int8.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Geometry {
    /// Images in the batch.
    pub images: u32,
    /// Input rows.
    pub in_height: u32,
    /// Input columns.
    pub in_width: u32,
    /// Input channels in fours.
    pub in_quads: u32,
    /// Output rows.
    pub out_height: u32,
    /// Output columns.
    pub out_width: u32,
    /// Output channels in fours.
    pub out_quads: u32,
    /// Kernel rows.
    pub kernel_height: u32,
    /// Kernel columns.
    pub kernel_width: u32,
    /// Vertical stride.
    pub stride_y: u32,
    /// Horizontal stride.
    pub stride_x: u32,
    /// Padding above.
    pub pad_y: u32,
    /// Padding left.
    pub pad_x: u32,
    /// Input channels of one group in fours.
    pub group_in_quads: u32,
    /// Output channels of one group in fours.
    pub group_out_quads: u32,
    /// Real channels in the last four of the output: 1 to 4.
    pub out_last: u32,
}

impl Geometry {
    /// The geometry of a convolution of `images` inputs of shape `x`. `groups` is that of the weights on the device,
    /// after [`ungrouped`]; for a depthwise kernel the group members are not used.
    pub fn new(
        images: usize,
        x: Shape,
        out_channels: usize,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        groups: usize,
    ) -> Self {
        let y = conv_output(x, out_channels, kernel, stride, padding);
        let quads = |channels: usize| channels.div_ceil(4) as u32;
        Self {
            images: images as u32,
            in_height: x.height as u32,
            in_width: x.width as u32,
            in_quads: quads(x.channels),
            out_height: y.height as u32,
            out_width: y.width as u32,
            out_quads: quads(out_channels),
            kernel_height: kernel[0] as u32,
            kernel_width: kernel[1] as u32,
            stride_y: stride[0] as u32,
            stride_x: stride[1] as u32,
            pad_y: padding[0] as u32,
            pad_x: padding[1] as u32,
            group_in_quads: quads(x.channels / groups),
            group_out_quads: quads(out_channels / groups),
            out_last: (out_channels + 4 - 4 * out_channels.div_ceil(4)) as u32,
        }
    }

    /// Output pixels of the whole batch.
    pub fn out_pixels(&self) -> usize {
        self.images as usize * self.out_height as usize * self.out_width as usize
    }

    /// Multiplications of the whole batch, those with padded channels included.
    pub fn multiplications(&self) -> u64 {
        let taps = u64::from(self.kernel_height) * u64::from(self.kernel_width);
        16 * self.out_pixels() as u64 * u64::from(self.out_quads) * u64::from(self.group_in_quads) * taps
    }

    /// Words of the input buffer for `words_per_quad` (4 for f32, 1 for int8).
    pub fn in_words(&self, words_per_quad: usize) -> usize {
        self.images as usize
            * self.in_height as usize
            * self.in_width as usize
            * self.in_quads as usize
            * words_per_quad
    }

    /// Words of the output buffer for `words_per_quad` (4 for f32, 1 for int8).
    pub fn out_words(&self, words_per_quad: usize) -> usize {
        self.out_pixels() * self.out_quads as usize * words_per_quad
    }
}

/// Weights whose groups kernels can address: groups of a multiple of 4 input and output channels stay as they are, narrower
/// ones are put together, the fewest that give such a multiple (at worst all of them), with zeros between. Returns
/// `O × I/groups × kh × kw` and the groups that remain.
///
/// A zero weight adds exactly nothing, so results are unchanged; such narrow groups, other than depthwise, which has a
/// kernel of its own, are rare enough that their cost does not matter.
///
/// # Errors
/// If the weights would take more than a gigabyte of values that way.
pub fn ungrouped<T: Copy + Default>(weight: &Array4<T>, groups: usize) -> Result<(Array4<T>, usize)> {
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
