//! Algebra of convolutions: what several of them compute one after the other, or side by side, as
//! one kernel.

use ndarray::{Array1, Array4};

use crate::model::{Conv, Pool, PoolKind, Rearrange, RearrangeKind, Shape, Weights};

/// An affine map of images that commutes with moving them by the stride:
/// `y[o, p] = bias[o] + Σ weight[o, i, k] · x[i, p·stride + offset + k]`, x being 0 outside the
/// image. In f64.
#[derive(Debug, Clone)]
pub(super) struct AffineMap {
    /// `O × I/groups × kh × kw`.
    pub(super) weight: Array4<f64>,
    /// `O`.
    pub(super) bias: Array1<f64>,
    pub(super) groups: usize,
    pub(super) stride: [usize; 2],
    /// Place of the first tap relative to the output pixel's; minus the padding before.
    pub(super) offset: [i64; 2],
    /// Rows and columns that it reads, and that it gives.
    pub(super) from: [usize; 2],
    pub(super) to: [usize; 2],
}

impl AffineMap {
    /// What a convolution computes of images of shape `x`.
    pub(super) fn conv(conv: &Conv, x: Shape) -> Self {
        let y = conv.output(x);
        Self {
            weight: conv.weight.mapv(f64::from),
            bias: conv.bias.mapv(f64::from),
            groups: conv.groups,
            stride: conv.stride,
            offset: conv.padding.map(|p| -(p as i64)),
            from: [x.height, x.width],
            to: [y.height, y.width],
        }
    }

    /// The identity on images of shape `x`.
    pub(super) fn identity(x: Shape) -> Self {
        let sides = [x.height, x.width];
        Self::depthwise(x, [1, 1], 1.0, [1, 1], [0, 0], sides)
    }

    /// A mean over windows, where all of them divide by the same number.
    pub(super) fn pool(pool: &Pool, x: Shape) -> Option<Self> {
        let unpadded = pool.padding == [0; 4];
        let reaches = |axis: usize, side: usize| {
            let last = (pool.side(side, axis).checked_sub(1)? * pool.stride[axis]) + pool.kernel[axis];
            Some(last <= side + pool.padding[axis] + pool.padding[axis + 2])
        };
        let uniform = match pool.kind {
            PoolKind::Max => false,
            PoolKind::Average => unpadded,
            PoolKind::AverageWithPadding => true,
        };
        if !uniform || reaches(0, x.height) != Some(true) || reaches(1, x.width) != Some(true) {
            return None;
        }
        let y = pool.output(x);
        let share = 1.0 / (pool.kernel[0] * pool.kernel[1]) as f64;
        let offset = [-(pool.padding[0] as i64), -(pool.padding[1] as i64)];
        Some(Self::depthwise(x, pool.kernel, share, pool.stride, offset, [y.height, y.width]))
    }

    /// Rows or columns cut off, or every so-many kept.
    pub(super) fn crop(rearrange: &Rearrange, x: Shape) -> Option<Self> {
        let RearrangeKind::Slice { sides, axis, start, step, .. } = &rearrange.kind else { return None };
        let (before, after) = (sides[..*axis].iter().product::<usize>(), sides[axis + 1..].iter().product::<usize>());
        let along = if (before, after) == (x.channels, x.width) {
            0
        } else if (before, after) == (x.channels * x.height, 1) {
            1
        } else {
            return None;
        };
        let (mut stride, mut offset) = ([1, 1], [0, 0]);
        stride[along] = *step;
        offset[along] = i64::try_from(*start).ok()?;
        let to = [rearrange.shape.height, rearrange.shape.width];
        Some(Self::depthwise(x, [1, 1], 1.0, stride, offset, to))
    }

    fn depthwise(
        x: Shape,
        kernel: [usize; 2],
        value: f64,
        stride: [usize; 2],
        offset: [i64; 2],
        to: [usize; 2],
    ) -> Self {
        let weight = Array4::from_elem((x.channels, 1, kernel[0], kernel[1]), value);
        let (bias, from) = (Array1::zeros(x.channels), [x.height, x.width]);
        Self { weight, bias, groups: x.channels, stride, offset, from, to }
    }

    fn out_channels(&self) -> usize {
        self.weight.dim().0
    }

    fn in_channels(&self) -> usize {
        self.weight.dim().1 * self.groups
    }

    fn side(&self, axis: usize) -> usize {
        self.weight.shape()[axis + 2]
    }

    /// Multiplications for one image.
    pub(super) fn macs(&self) -> usize {
        self.weight.len() * self.to[0] * self.to[1]
    }

    /// Its name in notes: `3×3`, `identity` …
    pub(super) fn name(&self) -> String {
        format!("{}×{}", self.side(0), self.side(1))
    }

    /// The same map in fewer groups, of which there are a divisor of its own.
    fn regrouped(&self, groups: usize) -> Self {
        if groups == self.groups {
            return self.clone();
        }
        let (out, per_group, kh, kw) = self.weight.dim();
        let (wide, group_out) = (self.in_channels() / groups, out / self.groups);
        let mut weight = Array4::zeros((out, wide, kh, kw));
        for ((o, i, y, x), value) in self.weight.indexed_iter() {
            let input = o / group_out * per_group + i;
            weight[[o, input % wide, y, x]] = *value;
        }
        Self { weight, groups, ..self.clone() }
    }

    /// Multiplications for one image of `self` applied to what `first` gives, as one kernel. Told
    /// without making it, which can take many times what both kernels have.
    pub(super) fn macs_after(&self, first: &Self) -> usize {
        let side = |axis: usize| (self.side(axis) - 1) * first.stride[axis] + first.side(axis);
        let inputs = first.in_channels() / gcd(self.groups, first.groups);
        let weights = [inputs, side(0), side(1), self.to[0], self.to[1]];
        weights.into_iter().fold(self.out_channels(), usize::saturating_mul)
    }

    /// Whether `self` applied to what `first` gives is one kernel; an error says why not.
    pub(super) fn follows(&self, first: &Self) -> Result<(), &'static str> {
        for axis in 0..2 {
            let (offset, side) = (self.offset[axis], self.side(axis) as i64);
            let last = (self.to[axis] as i64 - 1) * self.stride[axis] as i64 + offset + side;
            let inside = offset >= 0 && last <= first.to[axis] as i64;
            // Padding of the second is zero where the first would give its bias, or what it reads
            // beyond its own border.
            let transparent = first.side(axis) == 1
                && first.stride[axis] == 1
                && first.offset[axis] == 0
                && first.from[axis] == first.to[axis];
            if !inside && !transparent {
                return Err("the second pads what the first gives");
            }
            if !inside && first.bias.iter().any(|&b| b != 0.0) {
                return Err("the second pads with zeros where the first would give its bias");
            }
        }
        Ok(())
    }

    /// `self` applied to what `first` gives, as one kernel; an error says why there is none.
    pub(super) fn after(&self, first: &Self) -> Result<Self, &'static str> {
        self.follows(first)?;
        let groups = gcd(self.groups, first.groups);
        let (second, first) = (self.regrouped(groups), first.regrouped(groups));
        let side = |axis: usize| (second.side(axis) - 1) * first.stride[axis] + first.side(axis);
        let (out, middle, kh, kw) = second.weight.dim();
        let (_, inputs, ..) = first.weight.dim();
        // Most of a regrouped depthwise kernel is zeros.
        let taps: Vec<Vec<_>> = first
            .weight
            .outer_iter()
            .map(|filter| filter.indexed_iter().filter(|(_, v)| **v != 0.0).map(|(at, v)| (at, *v)).collect())
            .collect();
        let mut weight = Array4::<f64>::zeros((out, inputs, side(0), side(1)));
        let mut bias = second.bias.clone();
        let group_out = out / groups;
        for o in 0..out {
            for m in 0..middle {
                let from = o / group_out * middle + m;
                for y in 0..kh {
                    for x in 0..kw {
                        let factor = second.weight[[o, m, y, x]];
                        if factor == 0.0 {
                            continue;
                        }
                        bias[o] += factor * first.bias[from];
                        for &((i, v, u), tap) in &taps[from] {
                            weight[[o, i, y * first.stride[0] + v, x * first.stride[1] + u]] += factor * tap;
                        }
                    }
                }
            }
        }
        let both = |a: usize| first.stride[a] * second.stride[a];
        let offset = |a: usize| second.offset[a] * first.stride[a] as i64 + first.offset[a];
        Ok(Self {
            weight,
            bias,
            groups,
            stride: [both(0), both(1)],
            offset: [offset(0), offset(1)],
            from: first.from,
            to: second.to,
        })
    }

    /// The sum of what two kernels give of the same images; none where they differ in stride or
    /// size.
    pub(super) fn plus(&self, other: &Self) -> Result<Self, &'static str> {
        if self.stride != other.stride {
            return Err("the branches have different strides");
        }
        if self.to != other.to || self.out_channels() != other.out_channels() {
            return Err("the branches give different shapes");
        }
        let groups = gcd(self.groups, other.groups);
        let (a, b) = (self.regrouped(groups), other.regrouped(groups));
        let begin = |axis: usize| a.offset[axis].min(b.offset[axis]);
        let end = |k: &Self, axis: usize| k.offset[axis] + k.side(axis) as i64;
        let side = |axis: usize| (end(&a, axis).max(end(&b, axis)) - begin(axis)) as usize;
        let (out, inputs, ..) = a.weight.dim();
        let mut weight = Array4::zeros((out, inputs, side(0), side(1)));
        for map in [&a, &b] {
            let shift = [0, 1].map(|axis| (map.offset[axis] - begin(axis)) as usize);
            for ((o, i, y, x), value) in map.weight.indexed_iter() {
                weight[[o, i, y + shift[0], x + shift[1]]] += value;
            }
        }
        let bias = &a.bias + &b.bias;
        Ok(Self { weight, bias, groups, offset: [begin(0), begin(1)], ..a })
    }

    /// The kernel as a convolution with the same padding before and after, each weight rounded
    /// once: zeros are put around it where that takes them. None where a weight is too large for
    /// f32.
    pub(super) fn to_conv(&self) -> Option<Conv> {
        let fit = |axis: usize| -> Option<(usize, usize, usize)> {
            let side = self.side(axis) as i64;
            let least = self.offset[axis].min(0).unsigned_abs() as i64;
            (least..least + 3).find_map(|padding| {
                let front = padding + self.offset[axis];
                (0..=side + 2).find_map(|back| {
                    let length = front + side + back;
                    let room = self.from[axis] as i64 + 2 * padding - length;
                    let fits =
                        room >= 0 && room / self.stride[axis] as i64 + 1 == self.to[axis] as i64 && padding < length;
                    fits.then_some((padding as usize, front as usize, length as usize))
                })
            })
        };
        let ((pad_y, front_y, kh), (pad_x, front_x, kw)) = (fit(0)?, fit(1)?);
        let (out, inputs, ..) = self.weight.dim();
        let mut weight = Array4::<f32>::zeros((out, inputs, kh, kw));
        for ((o, i, y, x), value) in self.weight.indexed_iter() {
            weight[[o, i, y + front_y, x + front_x]] = *value as f32;
        }
        let bias = self.bias.mapv(|b| b as f32);
        let finite = weight.iter().chain(&bias).all(|v| v.is_finite());
        let conv = Conv { weight, bias, stride: self.stride, padding: [pad_y, pad_x], groups: self.groups };
        finite.then_some(conv)
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
