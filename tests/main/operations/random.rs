//! Random graphs of every operation.

use repquant::internals::model::{
    Activation, Axis, Binary, Coordinates, NodeId, Op, Pool, PoolKind, Rearrange, RearrangeKind, Resize, Shape,
};

use super::build::Builder;

const AXES: [Axis; 3] = [Axis::Channels, Axis::Height, Axis::Width];

impl Builder {
    fn choose<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.random.integer(0, list.len() as i64 - 1) as usize]
    }

    fn within(&mut self, low: usize, high: usize) -> usize {
        self.random.integer(low as i64, high as i64) as usize
    }

    /// Adds an operation on any of the last nodes.
    pub(crate) fn grow(&mut self) {
        let last = self.nodes() - 1;
        let mut x = last - self.within(0, last.min(2));
        if self.shape(x).len() > 1500 {
            x = self.push(Op::Resize(Resize { size: [4, 3], coordinates: Coordinates::HalfPixel, scale: None }), &[x]);
        }
        match self.within(0, 8) {
            0 | 1 => {
                let channels = self.shape(x).channels;
                let (out, groups) =
                    if self.random.integer(0, 3) == 0 { (channels, channels) } else { (self.within(1, 9), 1) };
                let (side, stride) = (self.choose(&[1, 3]), self.within(1, 2));
                self.conv(x, out, side, stride, groups);
                if self.random.integer(0, 1) == 0 {
                    self.relu();
                }
            }
            2 => {
                let function = self.function();
                self.push(Op::Activation(function), &[x]);
            }
            3 => self.binary(x),
            4 => self.pool(x),
            5 => self.rearrange(x),
            6 => {
                let axis = self.choose(&AXES);
                let other = if axis == Axis::Channels {
                    let out = self.within(1, 6);
                    self.conv(x, out, 1, 1, 1)
                } else {
                    self.push(Op::Activation(Activation::Silu), &[x])
                };
                let inputs = self.choose(&[[x, other, x], [other, x, other]]);
                self.push(Op::Concat(axis), &inputs);
            }
            7 => {
                let size = [self.within(1, 9), self.within(1, 9)];
                let coordinates = self.choose(&[
                    Coordinates::HalfPixel,
                    Coordinates::PytorchHalfPixel,
                    Coordinates::AlignCorners,
                    Coordinates::Asymmetric,
                ]);
                self.push(Op::Resize(Resize { size, coordinates, scale: None }), &[x]);
            }
            _ => {
                let (x, axis) = (self.limited(x), self.choose(&AXES));
                self.push(Op::Softmax(axis), &[x]);
            }
        }
    }

    /// Products and powers of large values would be larger still, and their errors with them.
    fn limited(&mut self, x: NodeId) -> NodeId {
        self.push(Op::Activation(Activation::Clip { low: -4.0, high: 4.0 }), &[x])
    }

    fn function(&mut self) -> Activation {
        self.choose(&[
            Activation::Clip { low: 0.0, high: f32::INFINITY },
            Activation::Clip { low: -0.5, high: 1.5 },
            Activation::LeakyRelu { slope: 0.125 },
            Activation::Sigmoid,
            Activation::HardSigmoid { slope: 0.2, offset: 0.5 },
            Activation::HardSwish,
            Activation::Silu,
        ])
    }

    fn binary(&mut self, x: NodeId) {
        let kind = self.choose(&[Binary::Add, Binary::Sub, Binary::Mul]);
        let x = if kind == Binary::Mul { self.limited(x) } else { x };
        let shape = self.shape(x);
        let other = match self.within(0, 3) {
            0 => self.push(Op::GlobalAveragePool, &[x]),
            1 => self.conv(x, 1, 3, 1, 1),
            2 => {
                let shapes = AXES.map(|axis| axis.with(shape, 1));
                let shape = self.choose(&shapes);
                self.constant(shape)
            }
            _ => self.conv(x, shape.channels, 3, 1, 1),
        };
        let inputs = self.choose(&[[x, other], [other, x]]);
        self.push(Op::Binary(kind), &inputs);
        if self.random.integer(0, 1) == 0 {
            self.relu();
        }
    }

    fn pool(&mut self, x: NodeId) {
        let shape = self.shape(x);
        let kernel = [shape.height, shape.width].map(|side| self.within(1, side.min(3)));
        let padding = [kernel[0], kernel[1], kernel[0], kernel[1]].map(|side| self.within(0, side - 1));
        let stride = [self.within(1, 3), self.within(1, 3)];
        let kind = self.choose(&[PoolKind::Max, PoolKind::Average, PoolKind::AverageWithPadding]);
        let ceil = self.random.integer(0, 1) == 0;
        self.push(Op::Pool(Pool { kind, kernel, stride, padding, ceil }), &[x]);
    }

    fn rearrange(&mut self, x: NodeId) {
        let x_shape = self.shape(x);
        let sides = vec![x_shape.channels, x_shape.height, x_shape.width];
        let of = |sides: &[usize]| Shape::new(sides[0], sides[1], sides[2]);
        let (kind, shape) = match self.within(0, 5) {
            0 => (RearrangeKind::Reshape, Shape::new(sides[0] * sides[1], 1, sides[2])),
            1 => {
                let order = self.choose(&[[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]);
                let shape = of(&order.map(|axis| sides[axis]));
                (RearrangeKind::Transpose { sides, order: order.to_vec() }, shape)
            }
            2 => {
                let (axis, step) = (self.within(0, 2), self.within(1, 3));
                let start = self.within(0, sides[axis] - 1);
                let count = self.within(1, (sides[axis] - 1 - start) / step + 1);
                let mut kept = sides.clone();
                kept[axis] = count;
                (RearrangeKind::Slice { sides, axis, start, step, count }, of(&kept))
            }
            3 => {
                let axis = self.within(0, 2);
                let entries: Vec<usize> = (0..self.within(1, 6)).map(|_| self.within(0, sides[axis] - 1)).collect();
                let mut picked = sides.clone();
                picked[axis] = entries.len();
                (RearrangeKind::Pick { sides, axis, entries }, of(&picked))
            }
            4 => {
                let factor = [self.within(1, 3), self.within(1, 3)];
                (RearrangeKind::Upsample { factor }, Shape::new(sides[0], sides[1] * factor[0], sides[2] * factor[1]))
            }
            _ => {
                // Pairs of rows to channels: space to depth along one axis, where rows are even.
                let pair = if sides[1] % 2 == 0 { 2 } else { 1 };
                let shape = Shape::new(pair * sides[0], sides[1] / pair, sides[2]);
                let sides = vec![sides[0], sides[1] / pair, pair, sides[2]];
                (RearrangeKind::Transpose { sides, order: vec![2, 0, 1, 3] }, shape)
            }
        };
        self.push(Op::Rearrange(Rearrange { kind, shape }), &[x]);
    }
}
