//! The kernel of every f32 convolution.

use bytemuck::{cast_slice, cast_slice_mut};

use super::epilogue::{Epilogue, Params};
use super::weights::{Store, Weights};
use super::{depthwise, direct, tiled};
use crate::Result;
use crate::device::{Bound, Buffer, Dispatch, Kernel, Tier};
use crate::kernels::conv::geometry::Geometry;
use crate::model::Shape;

/// `y = act(conv(x, w))`, and the update of the range where the epilogue asks for it. Every channel
/// of y is written, padded ones with 0.
pub struct ConvF32<'a> {
    /// Images in the batch.
    pub images: usize,
    /// Shape of an input.
    pub x_shape: Shape,
    /// The layer.
    pub weights: &'a Weights,
    /// What follows the sums.
    pub epilogue: Epilogue<'a>,
    /// Four words for each four channels, NHWC.
    pub x: &'a Buffer,
    /// Four words for each four channels, NHWC.
    pub y: &'a Buffer,
}

impl ConvF32<'_> {
    fn geometry(&self) -> Geometry {
        self.weights.shape.geometry(self.images, self.x_shape)
    }
}

impl Kernel for ConvF32<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        match self.weights.store {
            Store::Depthwise(_) => depthwise::SHADER.name(),
            _ => direct::SHADER.name(),
        }
    }

    fn check(&self) -> Result<()> {
        self.weights.shape.check(self.images, self.x_shape)
    }

    /// Each shader says of its own expressions why they stay inside.
    fn buffers(&self) -> Vec<Bound<'_>> {
        let g = self.geometry();
        let none = &self.weights.no_states;
        let mut buffers = vec![Bound::read("x", self.x, g.in_words(4))];
        let range = self.epilogue.range.map(|row| row.bound());
        let states = match &self.weights.store {
            Store::Shader { operands, .. } => {
                buffers.extend(operands.bound(&g));
                Some(range.unwrap_or(Bound::write("states", none, 0)))
            }
            Store::Depthwise(taps) => {
                buffers.extend(taps.bound(&g));
                Some(range.unwrap_or(Bound::write("states", none, 0)))
            }
            // The weights are no buffers; this one tells that they were laid out for the Cpu
            // device.
            Store::Winograd(_) | Store::Vectors(_) | Store::Native(_) => {
                buffers.push(Bound::read("weights", none, 0));
                range
            }
        };
        buffers.push(Bound::write("y", self.y, g.out_words(4)));
        buffers.extend(states);
        buffers
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let g = self.geometry();
        let most = self.weights.most_macs;
        let dispatches: Vec<_> = match &self.weights.store {
            Store::Depthwise(_) => depthwise::dispatch(&g, &self.epilogue).into_iter().collect(),
            Store::Shader { tile: Some(tile), .. } => tiled::dispatches(tile, &g, &self.epilogue, most).collect(),
            _ => direct::dispatches(&g, &self.epilogue, most).collect(),
        };
        dispatches.into_iter()
    }

    fn native(&self, tier: Tier) -> Result<()> {
        let g = self.geometry();
        let relu = self.epilogue.relu;
        {
            let (x, mut y) = (self.x.host(), self.y.host_mut());
            let x: &[f32] = cast_slice(&x[..g.in_words(4)]);
            let y: &mut [f32] = cast_slice_mut(&mut y[..g.out_words(4)]);
            match &self.weights.store {
                Store::Depthwise(taps) => taps.run(tier, &g, relu, x, y),
                Store::Winograd(weights) => weights.run(&g, relu, x, y),
                Store::Vectors(weights) => weights.run(&g, relu, x, y),
                Store::Native(weights) => weights.run(&g, relu, x, y)?,
                Store::Shader { .. } => unreachable!("these weights are buffers of an adapter, and were refused"),
            }
        }
        let y_shape = self.weights.shape.output(self.x_shape);
        self.epilogue.observe(tier, self.images, y_shape, self.y)
    }

    fn multiplications(&self) -> u64 {
        self.geometry().multiplications()
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array4};

    use super::*;
    use crate::device::Device;
    use crate::kernels::statistics::Row;
    use crate::model::Conv;

    fn conv() -> Conv {
        Conv {
            weight: Array4::from_elem((4, 4, 1, 1), 1.0),
            bias: Array1::zeros(4),
            stride: [1, 1],
            padding: [0, 0],
            groups: 1,
        }
    }

    #[test]
    fn a_nan_survives_the_relu() {
        let device = Device::cpu();
        let weights = Weights::new(&device, &conv()).unwrap();
        let x = device.upload(&[f32::NAN.to_bits(); 4], "x").unwrap();
        let y = device.alloc(4, "y").unwrap();
        let (epilogue, x_shape) = (Epilogue::plain(true), Shape::new(4, 1, 1));
        let kernel = ConvF32 { images: 1, x_shape, weights: &weights, epilogue, x: &x, y: &y };
        device.recorder().run(&kernel).unwrap();
        assert!(y.host().iter().all(|v| f32::from_bits(*v).is_nan()));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let device = Device::cpu();
        let weights = Weights::new(&device, &conv()).unwrap();
        let (x, y) = (device.alloc(16, "x").unwrap(), device.alloc(16, "y").unwrap());
        let states = device.alloc(8, "states").unwrap();
        let refusal = |images: usize, [c, h, w]: [usize; 3], index: Option<usize>| {
            let range = index.map(|index| Row { states: &states, index });
            let epilogue = Epilogue { relu: false, range };
            let x_shape = Shape::new(c, h, w);
            let kernel = ConvF32 { images, x_shape, weights: &weights, epilogue, x: &x, y: &y };
            device.recorder().run(&kernel).err().map_or(String::new(), |e| e.to_string())
        };
        assert_eq!(refusal(2, [4, 1, 2], Some(0)), "");
        assert!(
            refusal(1, [3, 2, 2], None).contains("kernel conv_f32: 1 images of 3×2×2: the weights are for 4 channels")
        );
        assert!(refusal(5, [4, 1, 1], None).contains("x has 16 words; 20 are needed"));
        assert!(refusal(1, [4, 1, 1], Some(1)).contains("states has 8 words; 16 are needed"));
        assert!(refusal(1, [4, 1, 1], Some(usize::MAX)).contains("states has 8 words"));
        assert!(refusal(usize::MAX, [4, 1, 1], None).contains("too large"));
        assert!(refusal(1, [4, usize::MAX, 2], None).contains("too large"));
    }
}
