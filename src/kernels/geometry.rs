//! The shape of a convolution as kernels see it.

use ndarray::Array4;

use crate::model::{Shape, conv_output};

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
    /// Fills the struct to 64 bytes.
    pub unused: u32,
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
            unused: 0,
        }
    }

    /// Output pixels of the whole batch.
    pub fn out_pixels(&self) -> usize {
        self.images as usize * self.out_height as usize * self.out_width as usize
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

/// Weights whose groups kernels can address: groups of a multiple of 4 input and output channels stay as they are, others
/// become one group with zeros between. Returns `O × I/groups × kh × kw` and the groups that remain.
///
/// A zero weight adds exactly nothing, so results are unchanged; such narrow groups, other than depthwise, which has a
/// kernel of its own, are rare enough that their cost does not matter.
pub fn ungrouped<T: Copy + Default>(weight: &Array4<T>, groups: usize) -> (Array4<T>, usize) {
    let (o, i, kh, kw) = weight.dim();
    if groups == 1 || (i % 4 == 0 && (o / groups) % 4 == 0) {
        return (weight.clone(), groups);
    }
    let mut dense = Array4::from_elem((o, i * groups, kh, kw), T::default());
    for ((oc, ic, y, x), &value) in weight.indexed_iter() {
        dense[[oc, oc / (o / groups) * i + ic, y, x]] = value;
    }
    (dense, 1)
}
