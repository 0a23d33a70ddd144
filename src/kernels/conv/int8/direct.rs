//! The direct variant of the integer convolution, for adapters: an invocation computes 4 pixels × 4
//! channels.
//!
//! Weights are `kh, kw, I/4, O/4` vectors of four output channels, each a word of four input
//! channels, so that neighbouring invocations read neighbouring vectors.
//!
//! What is read lies inside:
//! - x at `base + k`: `base` is a pixel inside the image, or pixel 0, and k one of the group's
//!   quads; the diagonal reads the output's own quad, which the input has too, as such a layer has
//!   as many input as output channels;
//! - fine weights from the output quad on, by `O/4` for each quad of each tap; coarse ones the
//!   same, or of one tap alone (center); without coarse weights none are read, and the buffer is a
//!   vector that fills the binding;
//! - channels at the output quad's four, y at a pixel below the end and that quad.

use ndarray::Array4;

use super::constants::{Channel, CoarseMode, Constants, Params};
use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Shader, shader};
use crate::kernels::conv::geometry::Geometry;

/// `conv_i8.wgsl`.
pub(crate) static SHADER: Shader = shader!("conv_i8", "geometry", "conv_i8", "conv_i8_direct");

/// Output pixels of one invocation.
pub(super) const PIXELS: usize = 4;

/// Weights and constants on an adapter.
pub(super) struct Operands {
    pub(super) fine: Buffer,
    pub(super) coarse: Buffer,
    pub(super) channels: Buffer,
}

impl Operands {
    /// Lays out a dense layer's, for the direct and the tiled variants.
    ///
    /// # Errors
    /// If the device has no memory left.
    pub(super) fn new(
        device: &Device,
        fine: &Array4<i8>,
        coarse: Option<&Array4<i8>>,
        constants: &Constants,
    ) -> Result<Self> {
        Self::upload(device, &pack(fine), coarse.map(pack), constants)
    }

    /// Uploads weights that are laid out.
    ///
    /// # Errors
    /// If the device has no memory left.
    pub(super) fn upload(
        device: &Device,
        fine: &[u32],
        coarse: Option<Vec<u32>>,
        constants: &Constants,
    ) -> Result<Self> {
        Ok(Self {
            fine: device.upload(fine, "fine weights")?,
            // A binding cannot be empty.
            coarse: device.upload(&coarse.unwrap_or(vec![0; 4]), "coarse weights")?,
            channels: device.upload(bytemuck::cast_slice(&constants.channels), "channels")?,
        })
    }

    /// What is touched of them where a tap's weights are `tap_words`.
    pub(super) fn bound(&self, g: &Geometry, coarse: CoarseMode, tap_words: usize) -> [Bound<'_>; 3] {
        let coarse_taps = match coarse {
            CoarseMode::None | CoarseMode::Diagonal => 0,
            CoarseMode::Center => 1,
            CoarseMode::Full => g.taps(),
        };
        [
            Bound::read("fine weights", &self.fine, g.taps() * tap_words),
            Bound::read("coarse weights", &self.coarse, coarse_taps * tap_words),
            Bound::read("channels", &self.channels, CHANNEL_WORDS * 4 * g.out_quads as usize),
        ]
    }
}

/// Words of a [`Channel`].
const CHANNEL_WORDS: usize = size_of::<Channel>() / 4;

/// Words of a tap's weights in a dense layer.
pub(super) fn tap_words(g: &Geometry) -> usize {
    4 * g.group_in_quads as usize * g.out_quads as usize
}

/// Weights as the shaders read them.
fn pack(weight: &Array4<i8>) -> Vec<u32> {
    let (o, i, kh, kw) = weight.dim();
    let (in_quads, out_quads) = (i.div_ceil(4), o.div_ceil(4));
    let mut bytes = vec![0u8; kh * kw * in_quads * out_quads * 16];
    for ((oc, ic, dy, dx), &value) in weight.indexed_iter() {
        let vector = ((dy * kw + dx) * in_quads + ic / 4) * out_quads + oc / 4;
        bytes[16 * vector + 4 * (oc % 4) + ic % 4] = value as u8;
    }
    bytemuck::pod_collect_to_vec(&bytes)
}

/// The dispatch of `shader`, this one or the depthwise one, for so many output pixels.
pub(super) fn dispatch(shader: &'static Shader, g: &Geometry, pixels: usize, params: Params) -> Dispatch<Params> {
    let items = pixels.div_ceil(PIXELS) * g.out_quads as usize;
    Dispatch { shader, params, groups: shader.groups_for(items) }
}
