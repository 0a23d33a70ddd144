//! Whether and how a layer is split, and the split as published.

use super::options::SplitMode;
use super::scale::{qmax, scale_for};
use super::search::largest;
use crate::model::{Conv, Support, Weights};

/// The form of a quantized kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SplitForm {
    /// One part.
    Plain,
    /// Coarse and fine part, each on a grid of its own.
    Paper(Support),
    /// Coarse and fine part, the coarse scale being the fine one shifted.
    Aligned(Support),
}

impl SplitForm {
    /// What the coarse part may touch.
    pub(crate) fn support(self) -> Option<Support> {
        match self {
            Self::Plain => None,
            Self::Paper(support) | Self::Aligned(support) => Some(support),
        }
    }

    /// Its name in reports: `none`, `aligned/center`, `paper/full` …
    pub(crate) fn name(self) -> String {
        match self {
            Self::Plain => "none".into(),
            Self::Paper(support) => format!("paper/{support}"),
            Self::Aligned(support) => format!("aligned/{support}"),
        }
    }
}

/// The form of a convolution that is split so, and why where it is not.
///
/// Without an explicit support a kernel with neighbours is split at its centre; a pointwise kernel
/// has none: published, all of it is split, aligned, nothing is. `auto` is decided elsewhere, its
/// layers start plain.
pub(super) fn form(conv: &Conv, split: SplitMode, support: Option<Support>) -> (SplitForm, Option<String>) {
    let pointwise = conv.kernel() == [1, 1];
    let (make, paper): (fn(Support) -> SplitForm, bool) = match split {
        SplitMode::None | SplitMode::Auto => return (SplitForm::Plain, None),
        SplitMode::Paper => (SplitForm::Paper, true),
        SplitMode::Aligned => (SplitForm::Aligned, false),
    };
    match support.unwrap_or(Support::Center) {
        Support::Center if pointwise && paper => (make(Support::Full), None),
        Support::Center if pointwise => (
            SplitForm::Plain,
            Some("not split: a pointwise kernel has no neighbours of the centre (the support `full` splits it)".into()),
        ),
        Support::Diagonal if !has_diagonal(conv) => (
            SplitForm::Plain,
            Some(format!(
                "not split: the diagonal needs as many outputs as inputs and stride 1, this layer has {} and {}, stride {}×{}",
                conv.out_channels(),
                conv.in_channels(),
                conv.stride[0],
                conv.stride[1]
            )),
        ),
        support => (make(support), None),
    }
}

/// Whether an identity branch could have been there: as many outputs as inputs, stride 1.
pub(super) fn has_diagonal(conv: &Conv) -> bool {
    conv.in_channels() == conv.out_channels() && conv.stride == [1, 1]
}

/// `(g, s_f)` of the published split: `g = max|c|/qmax`, at least `least`, `s_f = max|fine|/qmax`
/// (each 1 where its part of the weights is all zero; but a fine part that vanishes beside a coarse
/// one takes g, so that the bias, which is held in steps of `s_f`, keeps its precision).
pub fn published_scales(weights: &[f32], support: &[bool], bits: u8, least: f32) -> (f32, f32) {
    let center = weights.iter().zip(support).filter(|&(_, &on)| on).map(|(w, _)| w.abs());
    let max_center = center.fold(0f32, f32::max);
    let g = scale_for(f64::from(max_center), bits).max(least);
    let fine = weights.iter().zip(support).map(|(&w, &on)| remainder(w, on, g, bits).1.abs());
    let max_fine = fine.fold(0f64, f64::max);
    if max_fine == 0.0 && max_center > 0.0 {
        return (g, g);
    }
    debug_assert!(max_fine > 0.0 || largest(weights) == 0.0);
    (g, scale_for(max_fine, bits))
}

/// `(Q_f, Q_c)` of the published split for its scales; `Q_c` of the weights on the support alone,
/// in their order.
///
/// `Q_c = floor(c/g + 0.5)`, `fine = W − g·Q_c`, `Q_f = clamp(round(fine/s_f))`.
pub fn published(weights: &[f32], support: &[bool], bits: u8, g: f32, s_f: f32) -> (Vec<i8>, Vec<i8>) {
    let limit = f64::from(qmax(bits));
    let mut coarse = Vec::new();
    let fine = weights.iter().zip(support).map(|(&w, &on)| {
        let (q_c, fine) = remainder(w, on, g, bits);
        if on {
            coarse.push(q_c as i8);
        }
        (fine / f64::from(s_f)).round_ties_even().clamp(-limit, limit) as i8
    });
    let fine = fine.collect();
    (fine, coarse)
}

/// `(Q_c, fine)` of one weight, `on` the support or not.
pub(super) fn remainder(w: f32, on: bool, g: f32, bits: u8) -> (f64, f64) {
    let (w, g, limit) = (f64::from(w), f64::from(g), f64::from(qmax(bits)));
    let q_c = if on { (w / g + 0.5).floor().clamp(-limit, limit) } else { 0.0 };
    (q_c, w - q_c * g)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, Array4};

    fn conv(out: usize, per_group: usize, kernel: usize, stride: usize, groups: usize) -> Conv {
        Conv {
            weight: Array4::zeros((out, per_group, kernel, kernel)),
            bias: Array1::zeros(out),
            stride: [stride; 2],
            padding: [kernel / 2; 2],
            groups,
        }
    }

    fn named(conv: &Conv, split: SplitMode, support: Option<Support>) -> (String, bool) {
        let (form, note) = form(conv, split, support);
        (form.name(), note.is_some())
    }

    #[test]
    fn forms_follow_the_design() {
        use SplitMode::{Aligned, Auto, None as Unsplit, Paper};
        let (square, point) = (conv(8, 8, 3, 1, 1), conv(8, 8, 1, 1, 1));
        let is = |name: &str, note: bool| (name.to_string(), note);
        assert_eq!(named(&square, Aligned, None), is("aligned/center", false));
        assert_eq!(named(&square, Paper, None), is("paper/center", false));
        assert_eq!(named(&square, Unsplit, Some(Support::Full)), is("none", false));
        assert_eq!(named(&square, Auto, None), is("none", false));
        assert_eq!(named(&point, Paper, None), is("paper/full", false));
        assert_eq!(named(&point, Aligned, None), is("none", true));
        assert_eq!(named(&point, Aligned, Some(Support::Center)), is("none", true));
        assert_eq!(named(&point, Aligned, Some(Support::Full)), is("aligned/full", false));
        assert_eq!(named(&point, Aligned, Some(Support::Diagonal)), is("aligned/diagonal", false));
        assert_eq!(named(&square, Aligned, Some(Support::Diagonal)), is("aligned/diagonal", false));
        assert_eq!(named(&conv(8, 8, 3, 2, 1), Aligned, Some(Support::Diagonal)), is("none", true));
        assert_eq!(named(&conv(8, 4, 3, 1, 1), Aligned, Some(Support::Diagonal)), is("none", true));
        assert_eq!(named(&conv(8, 4, 3, 1, 2), Aligned, Some(Support::Diagonal)), is("aligned/diagonal", false));
    }

    #[test]
    fn positions_of_grouped_and_even_kernels() {
        let at = |support: Support, o| support.positions(o, 4, [2, 3]).collect::<Vec<_>>();
        // The centre tap of a 2×3 kernel is (1, 1).
        assert_eq!(at(Support::Center, 5), [4, 10, 16, 22]);
        assert_eq!(at(Support::Diagonal, 5), [10]);
        assert_eq!(at(Support::Full, 5), (0..24).collect::<Vec<_>>());
        for support in [Support::Center, Support::Diagonal, Support::Full] {
            assert_eq!(at(support, 5).len(), support.len(4, [2, 3]));
            assert_eq!(support.shape(7, 4, [2, 3]).iter().product::<usize>(), 7 * support.len(4, [2, 3]));
        }
    }

    #[test]
    fn coarse_rounds_halves_up_and_a_vanishing_fine_part_takes_its_scale() {
        // g = 1: −0.5 → 0, 0.5 → 1.
        let (fine, coarse) = published(&[127.0, -0.5, 0.5], &[true; 3], 8, 1.0, 0.5 / 127.0);
        assert_eq!(coarse, [127, 0, 1]);
        assert_eq!(fine, [0, -127, -127]);
        assert_eq!(published_scales(&[127.0, -64.0], &[true; 2], 8, 0.0), (1.0, 1.0));
        assert_eq!(published_scales(&[0.0; 2], &[true; 2], 8, 0.0), (1.0, 1.0));
        assert_eq!(published_scales(&[0.0, 254.0], &[true, false], 8, 0.0), (1.0, 2.0));
    }
}
