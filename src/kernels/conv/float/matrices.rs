//! A dense layer's weights as matrices, from which every variant lays out its own.

use ndarray::{Array1, Array4};

/// The weights of a convolution as a matrix for each group, and its biases. The rows, K, count
/// kernel rows, kernel columns and input channels padded to a multiple of 4; the columns are output
/// channels. Past the real channels everything is 0.
pub(super) struct Matrices<'a> {
    /// `O × I/groups × kh × kw`.
    pub(super) weight: &'a Array4<f32>,
    pub(super) bias: &'a Array1<f32>,
    pub(super) groups: usize,
}

impl Matrices<'_> {
    /// Output channels of a group, padded to a multiple of 4.
    pub(super) fn outputs(&self) -> usize {
        self.group_out().next_multiple_of(4)
    }

    /// Length of K.
    pub(super) fn depth(&self) -> usize {
        let (_, i, kh, kw) = self.weight.dim();
        i.next_multiple_of(4) * kh * kw
    }

    /// The weight of row k and column o of a group.
    pub(super) fn weight(&self, group: usize, k: usize, o: usize) -> f32 {
        let (_, i, _, kw) = self.weight.dim();
        let inputs = i.next_multiple_of(4);
        let (tap, input) = (k / inputs, k % inputs);
        self.channel(group, o).and_then(|o| self.weight.get([o, input, tap / kw, tap % kw])).copied().unwrap_or(0.0)
    }

    /// The bias of column o of a group.
    pub(super) fn bias(&self, group: usize, o: usize) -> f32 {
        self.channel(group, o).and_then(|o| self.bias.get(o)).copied().unwrap_or(0.0)
    }

    fn group_out(&self) -> usize {
        self.weight.dim().0 / self.groups
    }

    /// The output channel of a column; none past the group's.
    fn channel(&self, group: usize, o: usize) -> Option<usize> {
        (o < self.group_out()).then(|| group * self.group_out() + o)
    }
}
