//! What the integer convolutions share: their parameters, and the constants of each output channel.

use std::ops::Range;

use crate::kernels::conv::geometry::Geometry;
use crate::kernels::core::{OutputLevels, check_right_shift, requantize, requantize_two};
use crate::model::{CoarseScale, QConv, Support, Weights};
use crate::{Error, Result};

/// The constants of an output channel, as shaders read them. All 0 and `right_shift` 1 is a padded
/// channel: its output is the zero point.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Channel {
    /// Added to the fine total.
    pub(super) bias: i32,
    /// `M`, of the fine part where there are two.
    pub(super) multiplier: i32,
    /// `n`.
    pub(super) right_shift: u32,
    /// `k`: an aligned coarse total is shifted left by it.
    pub(super) shift: u32,
    /// Added to the coarse total (published split).
    pub(super) coarse_bias: i32,
    /// `M_c` (published split).
    pub(super) coarse_multiplier: i32,
    /// Coarse weight of the own channel's centre tap (support diagonal).
    pub(super) diagonal: i32,
    /// Fills the struct to 32 bytes.
    pub(super) unused: i32,
}

impl Channel {
    /// A channel that is not there: its output is the zero point.
    pub(super) const PADDING: Self = Self {
        bias: 0,
        multiplier: 0,
        right_shift: 1,
        shift: 0,
        coarse_bias: 0,
        coarse_multiplier: 0,
        diagonal: 0,
        unused: 0,
    };

    /// The total of an aligned split, or of no split (`coarse` 0), modulo 2^32: the true total
    /// fits.
    #[inline]
    pub(super) fn total(&self, fine: i32, coarse: i32) -> i32 {
        fine.wrapping_add(self.bias).wrapping_add(coarse.wrapping_shl(self.shift))
    }

    /// The level of an aligned split's output, or of one without.
    #[inline]
    pub(super) fn level(&self, fine: i32, coarse: i32, output: &OutputLevels) -> i8 {
        output.level(requantize(self.total(fine, coarse), self.multiplier, self.right_shift))
    }

    /// The level of a published split's output.
    #[inline]
    pub(super) fn level_of_two(&self, fine: i32, coarse: i32, output: &OutputLevels) -> i8 {
        let (fine, coarse) = (fine.wrapping_add(self.bias), coarse.wrapping_add(self.coarse_bias));
        output.level(requantize_two(coarse, self.coarse_multiplier, fine, self.multiplier, self.right_shift))
    }
}

/// How the coarse part enters, as the shaders number it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CoarseMode {
    None = 0,
    Center = 1,
    Diagonal = 2,
    Full = 3,
}

/// Parameters of the integer convolutions.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Sizes.
    geometry: Geometry,
    /// The input's zero point in all four bytes.
    zero_word: u32,
    /// The output's zero point.
    zero_point: i32,
    /// Its lowest level.
    low: i32,
    /// Its highest level.
    high: i32,
    /// What the coarse part covers: 0 nothing, 1 center, 2 diagonal, 3 full.
    coarse: u32,
    /// What becomes of the totals: 0 one total, requantized; 1 two with a factor each; 2 written as
    /// they are.
    finish: u32,
    /// The first output pixel of this dispatch.
    first_pixel: u32,
    /// The end of its output pixels.
    end_pixel: u32,
}

impl Params {
    /// Those of a layer for these output pixels. No `output`: totals are written.
    pub(super) fn new(
        g: &Geometry,
        x_zero_point: i32,
        output: Option<&OutputLevels>,
        constants: &Constants,
        pixels: Range<usize>,
    ) -> Self {
        let levels = output.copied().unwrap_or(OutputLevels { zero_point: 0, low: 0, high: 0 });
        Self {
            geometry: *g,
            zero_word: u32::from(x_zero_point as i8 as u8) * 0x0101_0101,
            zero_point: levels.zero_point,
            low: levels.low,
            high: levels.high,
            coarse: constants.coarse as u32,
            finish: if output.is_none() { 2 } else { u32::from(constants.own_grid) },
            first_pixel: pixels.start as u32,
            end_pixel: pixels.end as u32,
        }
    }
}

/// The checked constants of a layer.
#[derive(Debug)]
pub(super) struct Constants {
    /// One for each output channel, padded to a multiple of 4.
    pub(super) channels: Vec<Channel>,
    /// What the coarse part covers.
    pub(super) coarse: CoarseMode,
    /// Whether it has a grid of its own (published split).
    pub(super) own_grid: bool,
    /// Whether there are multipliers; the classifier has none.
    pub(super) requantizes: bool,
}

impl Constants {
    /// Takes them from a layer.
    ///
    /// # Errors
    /// If its parts contradict each other, or a shift is out of range.
    pub(super) fn new(conv: &QConv) -> Result<Self> {
        let (o, i, kh, kw) = conv.fine.dim();
        let expect = |name: &str, length: usize| {
            if length == o {
                Ok(())
            } else {
                Err(Error::bad(format!("{name} has {length} values for {o} output channels")))
            }
        };
        let requantizes = !conv.multiplier.is_empty();
        if conv.groups == 0 || o % conv.groups != 0 {
            return Err(Error::bad(format!("{o} output channels in {} groups", conv.groups)));
        }
        expect("bias", conv.bias.len())?;
        if requantizes || !conv.right_shift.is_empty() {
            expect("multiplier", conv.multiplier.len())?;
            expect("right_shift", conv.right_shift.len())?;
        }
        conv.right_shift.iter().try_for_each(|n| check_right_shift(*n))?;
        let mut channels = vec![Channel::PADDING; o.next_multiple_of(4)];
        for (c, channel) in channels.iter_mut().enumerate().take(o) {
            channel.bias = conv.bias[c];
            if requantizes {
                channel.multiplier = conv.multiplier[c];
                channel.right_shift = u32::from(conv.right_shift[c]);
            }
        }
        let Some(part) = &conv.coarse else {
            return Ok(Self { channels, coarse: CoarseMode::None, own_grid: false, requantizes });
        };
        let (coarse, shape) = match part.support {
            Support::Center => (CoarseMode::Center, (o, i, 1, 1)),
            Support::Diagonal => (CoarseMode::Diagonal, (o, 1, 1, 1)),
            Support::Full => (CoarseMode::Full, (o, i, kh, kw)),
        };
        if part.weights.dim() != shape {
            return Err(Error::bad(format!("coarse weights are {:?}; expected {shape:?}", part.weights.dim())));
        }
        if coarse == CoarseMode::Diagonal {
            if conv.in_channels() != o {
                return Err(Error::bad(format!(
                    "a diagonal coarse part needs as many input as output channels, not {} and {o}",
                    conv.in_channels()
                )));
            }
            for (channel, weight) in channels.iter_mut().zip(&part.weights) {
                channel.diagonal = i32::from(*weight);
            }
        }
        match &part.scale {
            CoarseScale::Shift(shifts) => {
                expect("shift", shifts.len())?;
                if let Some(k) = shifts.iter().find(|k| **k > 30) {
                    return Err(Error::bad(format!("shift is {k}; 0 to 30 are possible")));
                }
                for (channel, shift) in channels.iter_mut().zip(shifts) {
                    channel.shift = u32::from(*shift);
                }
            }
            CoarseScale::Own { multiplier, bias, .. } => {
                if !requantizes {
                    return Err(Error::bad("a coarse part on a grid of its own needs multipliers"));
                }
                expect("coarse multiplier", multiplier.len())?;
                expect("coarse bias", bias.len())?;
                for (channel, (m, b)) in channels.iter_mut().zip(multiplier.iter().zip(bias)) {
                    (channel.coarse_multiplier, channel.coarse_bias) = (*m, *b);
                }
            }
        }
        let own_grid = matches!(part.scale, CoarseScale::Own { .. });
        Ok(Self { channels, coarse, own_grid, requantizes })
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array4};

    use super::*;
    use crate::model::Coarse;

    fn layer() -> QConv {
        QConv {
            bits: 8,
            fine: Array4::ones((3, 2, 3, 3)),
            coarse: None,
            scale: Array1::ones(3),
            bias: Array1::from(vec![5, 6, 7]),
            multiplier: Array1::from(vec![1 << 30; 3]),
            right_shift: Array1::from(vec![40; 3]),
            stride: [1, 1],
            padding: [1, 1],
            groups: 1,
        }
    }

    fn refusal(change: impl FnOnce(&mut QConv)) -> String {
        let mut conv = layer();
        change(&mut conv);
        Constants::new(&conv).unwrap_err().to_string()
    }

    #[test]
    fn a_padded_channel_gives_the_zero_point() {
        let constants = Constants::new(&layer()).unwrap();
        assert_eq!(constants.channels.len(), 4);
        let output = OutputLevels { zero_point: 9, low: -128, high: 127 };
        assert_eq!(constants.channels[3].level(0, 0, &output), 9);
        assert_eq!(constants.channels[3].level_of_two(0, 0, &output), 9);
        assert_eq!(constants.channels[2].bias, 7);
    }

    #[test]
    fn layers_that_contradict_themselves_are_refused() {
        let part = |shape, scale| Some(Coarse { support: Support::Center, weights: Array4::zeros(shape), scale });
        let shifts = |k: u8, n: usize| CoarseScale::Shift(Array1::from_elem(n, k));
        assert!(refusal(|c| c.bias = Array1::zeros(2)).contains("bias has 2 values for 3"));
        assert!(refusal(|c| c.groups = 2).contains("3 output channels in 2 groups"));
        assert!(refusal(|c| c.multiplier = Array1::zeros(0)).contains("multiplier has 0 values"));
        assert!(refusal(|c| c.right_shift[1] = 0).contains("right_shift is 0"));
        assert!(refusal(|c| c.right_shift[1] = 63).contains("right_shift is 63"));
        assert!(refusal(|c| c.coarse = part((3, 1, 1, 1), shifts(1, 3))).contains("expected (3, 2, 1, 1)"));
        assert!(refusal(|c| c.coarse = part((3, 2, 1, 1), shifts(1, 2))).contains("shift has 2 values"));
        assert!(refusal(|c| c.coarse = part((3, 2, 1, 1), shifts(31, 3))).contains("shift is 31"));
        let own = |n| CoarseScale::Own { scale: Array1::ones(3), multiplier: Array1::zeros(n), bias: Array1::zeros(3) };
        assert!(refusal(|c| c.coarse = part((3, 2, 1, 1), own(1))).contains("coarse multiplier has 1 values"));
        assert!(
            refusal(|c| {
                c.coarse = part((3, 2, 1, 1), own(3));
                c.multiplier = Array1::zeros(0);
                c.right_shift = Array1::zeros(0);
            })
            .contains("needs multipliers")
        );
        let diagonal = Coarse { support: Support::Diagonal, weights: Array4::zeros((3, 1, 1, 1)), scale: shifts(1, 3) };
        assert!(refusal(|c| c.coarse = Some(diagonal)).contains("not 2 and 3"));
    }
}
