//! The weights of an integer convolution or fully connected layer, in one part or two.

use ndarray::{Array1, Array4, ArrayView3, Axis};
use serde::{Deserialize, Serialize};

use super::{Shape, Weights};

/// An int8 convolution, its weights in one part (fine) or two (fine and coarse).
///
/// With `acc_f = bias + Σ fine·q` and `acc_c = coarse_bias + Σ coarse·q` over the support:
/// - no coarse part: `q_y = clamp(z_y + ((acc_f·M + 2^(n−1)) >> n))`;
/// - aligned: the same with `acc_f + (acc_c << shift)` in place of `acc_f` (`coarse_bias` is 0, its
///   part is in `bias`);
/// - published: `q_y = clamp(z_y + ((acc_c·M_c + acc_f·M_f + 2^(n−1)) >> n))`, one n for both.
#[derive(Debug, Clone, PartialEq)]
pub struct QConv {
    /// Bit width of the weights, 2 to 8.
    pub bits: u8,
    /// `O × I/groups × kh × kw`.
    pub fine: Array4<i8>,
    /// The second part, where the layer is split.
    pub coarse: Option<Coarse>,
    /// Fine scale `s_f` of each output channel.
    pub scale: Array1<f32>,
    /// int32 bias of each output channel, the zero point of the input folded in:
    /// `round(bias/(s_x·s_f)) − z_x·Σ(Q_f + 2^k·Q_c)` (published split: `− z_x·ΣQ_f`).
    pub bias: Array1<i32>,
    /// `M` (published split: `M_f`) of each output channel; empty where the output stays
    /// accumulators.
    pub multiplier: Array1<i32>,
    /// `n` of each output channel; empty where the output stays accumulators.
    pub right_shift: Array1<u8>,
    /// Vertical and horizontal stride.
    pub stride: [usize; 2],
    /// Padding with the input's zero point.
    pub padding: [usize; 2],
    /// Groups.
    pub groups: usize,
}

/// Which weights the coarse part may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Support {
    /// The centre tap, all input channels.
    Center,
    /// The centre tap of the own channel only, where an identity branch lands.
    Diagonal,
    /// Every weight.
    Full,
}

impl Support {
    /// The positions that the support of output channel `out_channel` holds, ascending, in that
    /// channel's kernel of `in_per_group × kh × kw` weights: the order of [`Coarse::weights`].
    ///
    /// The centre tap is `(kh/2, kw/2)`; the own channel of `Diagonal` is counted within its group.
    pub fn positions(self, out_channel: usize, in_per_group: usize, kernel: [usize; 2]) -> impl Iterator<Item = usize> {
        let taps = kernel[0] * kernel[1];
        let center = kernel[0] / 2 * kernel[1] + kernel[1] / 2;
        let (first, count, step) = match self {
            Self::Center => (center, in_per_group, taps),
            Self::Diagonal => (out_channel % in_per_group * taps + center, 1, 1),
            Self::Full => (0, in_per_group * taps, 1),
        };
        (0..count).map(move |i| first + i * step)
    }

    /// How many weights the support of one output channel holds.
    pub fn len(self, in_per_group: usize, kernel: [usize; 2]) -> usize {
        match self {
            Self::Center => in_per_group,
            Self::Diagonal => 1,
            Self::Full => in_per_group * kernel[0] * kernel[1],
        }
    }

    /// Shape of [`Coarse::weights`].
    pub fn shape(self, out_channels: usize, in_per_group: usize, kernel: [usize; 2]) -> [usize; 4] {
        match self {
            Self::Center => [out_channels, in_per_group, 1, 1],
            Self::Diagonal => [out_channels, 1, 1, 1],
            Self::Full => [out_channels, in_per_group, kernel[0], kernel[1]],
        }
    }
}

/// The coarse part of a split kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Coarse {
    /// What `weights` covers.
    pub support: Support,
    /// Only what the support holds: center `O × I/groups × 1 × 1`, diagonal `O × 1 × 1 × 1`, full
    /// `O × I/groups × kh × kw`.
    pub weights: Array4<i8>,
    /// Its scale.
    pub scale: CoarseScale,
}

/// The scale of a coarse part.
#[derive(Debug, Clone, PartialEq)]
pub enum CoarseScale {
    /// Aligned: `s_c = 2^k · s_f`; k of each output channel.
    Shift(Array1<u8>),
    /// Published: a grid of its own.
    Own {
        /// `s_c` of each output channel.
        scale: Array1<f32>,
        /// `M_c` of each output channel; the right shift is that of the fine part.
        multiplier: Array1<i32>,
        /// `−z_x·ΣQ_c` of each output channel.
        bias: Array1<i32>,
    },
}

impl QConv {
    /// The bias of each output channel without the input zero point's share,
    /// `round(bias/(s_x·s_f))`: for arithmetic that subtracts `input_zero_point` from the levels
    /// first.
    pub fn bias_without_zero_point(&self, input_zero_point: i32) -> Vec<i64> {
        let total = |levels: ArrayView3<'_, i8>| levels.iter().map(|&q| i64::from(q)).sum::<i64>();
        let folded = self.fine.outer_iter().enumerate().map(|(o, fine)| {
            let coarse = match &self.coarse {
                Some(Coarse { weights, scale: CoarseScale::Shift(k), .. }) => {
                    total(weights.index_axis(Axis(0), o)) << k[o]
                }
                _ => 0,
            };
            i64::from(self.bias[o]) + i64::from(input_zero_point) * (total(fine) + coarse)
        });
        folded.collect()
    }

    /// Bytes of the weights: both parts at their bit width, scales 4, shifts 1, biases 4 bytes.
    pub fn weight_bytes(&self) -> u64 {
        let (coarse, shifts, scales) = match &self.coarse {
            None => (0, 0, 0),
            Some(c) => match &c.scale {
                CoarseScale::Shift(k) => (c.weights.len(), k.len(), 0),
                CoarseScale::Own { scale, .. } => (c.weights.len(), 0, scale.len()),
            },
        };
        let packed = (self.fine.len() as u64 * u64::from(self.bits)).div_ceil(8)
            + (coarse as u64 * u64::from(self.bits)).div_ceil(8);
        packed + 4 * (self.scale.len() + scales + self.bias.len()) as u64 + shifts as u64
    }

    /// Multiplications that the coarse part adds for one image whose result has shape `y`.
    pub fn added_macs(&self, y: Shape) -> u64 {
        self.coarse.as_ref().map_or(0, |coarse| coarse.weights.len() as u64) * y.pixels() as u64
    }
}

impl Weights for QConv {
    fn dim(&self) -> (usize, usize, usize, usize) {
        self.fine.dim()
    }

    fn stride(&self) -> [usize; 2] {
        self.stride
    }

    fn padding(&self) -> [usize; 2] {
        self.padding
    }

    fn groups(&self) -> usize {
        self.groups
    }
}
