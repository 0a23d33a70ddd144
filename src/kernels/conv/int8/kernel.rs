//! The kernel of every integer convolution.

use super::constants::Params;
use super::weights::{Store, Weights};
use super::{depthwise, direct, native, tiled, vectors};
use crate::device::{Bound, Buffer, Dispatch, Kernel, Tier};
use crate::kernels::conv::geometry::Geometry;
use crate::kernels::core::{OutputLevels, check_zero_point};
use crate::model::Shape;
use crate::{Error, Result};

/// The convolution of `x`, packed int8, to `y`: packed int8 where there are output levels, else
/// int32 totals.
pub struct ConvI8<'a> {
    /// Images in the batch.
    pub images: usize,
    /// Shape of an input.
    pub x_shape: Shape,
    /// The level of real 0 in x.
    pub x_zero_point: i32,
    /// The layer.
    pub weights: &'a Weights,
    /// The levels of y; none: its totals are written as they are.
    pub output: Option<OutputLevels>,
    /// One word for each four channels, NHWC.
    pub x: &'a Buffer,
    /// One word for each four channels, NHWC; four for totals.
    pub y: &'a Buffer,
}

impl ConvI8<'_> {
    fn geometry(&self) -> Geometry {
        self.weights.shape.geometry(self.images, self.x_shape)
    }

    fn out_words(&self, g: &Geometry) -> usize {
        g.out_words(if self.output.is_some() { 1 } else { 4 })
    }
}

impl Kernel for ConvI8<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        match self.weights.store {
            Store::Depthwise(_) | Store::Taps(_) => depthwise::SHADER.name(),
            _ => direct::SHADER.name(),
        }
    }

    fn check(&self) -> Result<()> {
        self.weights.shape.check(self.images, self.x_shape)?;
        check_zero_point(self.x_zero_point)?;
        match &self.output {
            Some(_) if !self.weights.constants.requantizes => Err(Error::device("the layer has no multipliers")),
            Some(output) => output.check(),
            None if self.weights.constants.own_grid => Err(Error::device("two grids have no common total")),
            None => Ok(()),
        }
    }

    /// Each shader says of its own expressions why they stay inside.
    fn buffers(&self) -> Vec<Bound<'_>> {
        let g = self.geometry();
        let mode = self.weights.constants.coarse;
        let x = Bound::read("x", self.x, g.in_words(1));
        let mut buffers = vec![x];
        match &self.weights.store {
            Store::Shader { operands, tile } => {
                let operands = operands.bound(&g, mode, direct::tap_words(&g));
                if tile.is_some() {
                    buffers.push(if tiled::is_aligned(&g) { x } else { operands[0] });
                }
                buffers.extend(operands);
            }
            Store::Depthwise(operands) => buffers.extend(operands.bound(&g, mode, depthwise::tap_words(&g))),
            Store::Taps(_) | Store::Vectors(_) | Store::Native(_) => {
                buffers.push(Bound::read("weights", &self.weights.home, 0));
            }
        }
        buffers.push(Bound::write("y", self.y, self.out_words(&g)));
        buffers
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let g = self.geometry();
        let Weights { constants, store, most_macs, .. } = self.weights;
        let (shader, tile) = match store {
            Store::Shader { tile, .. } => (&direct::SHADER, *tile),
            Store::Depthwise(_) | Store::Taps(_) => (&depthwise::SHADER, None),
            Store::Vectors(_) | Store::Native(_) => (&direct::SHADER, None),
        };
        let macs = 16 * g.out_quads as usize * g.group_in_quads as usize * g.taps();
        g.steps(macs, *most_macs, tile.map_or(direct::PIXELS, |tile| tile.pixels)).map(move |pixels| {
            let count = pixels.len();
            let params = Params::new(&g, self.x_zero_point, self.output.as_ref(), constants, pixels);
            match tile {
                Some(tile) => tiled::dispatch(tile, &g, count, params),
                None => direct::dispatch(shader, &g, count, params),
            }
        })
    }

    fn native(&self, tier: Tier) -> Result<()> {
        let g = &self.geometry();
        let (x, mut y) = (self.x.host(), self.y.host_mut());
        let (x, y) = (&x[..g.in_words(1)], &mut y[..self.out_words(g)]);
        let Self { x_zero_point, .. } = *self;
        let (constants, output) = (&self.weights.constants, self.output.as_ref());
        match &self.weights.store {
            Store::Taps(taps) => depthwise::Layer { g, x_zero_point, output, constants, taps }.run(tier, x, y),
            Store::Vectors(weights) => weights.run(&vectors::Layer { g, x_zero_point, output, constants }, x, y),
            Store::Native(products) => native::Layer { g, x_zero_point, products, constants }.run(output, x, y),
            Store::Shader { .. } | Store::Depthwise(_) => {
                unreachable!("these weights are buffers of an adapter, and were refused")
            }
        }
        Ok(())
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
    use crate::model::{Coarse, CoarseScale, QConv, Support};

    fn conv() -> QConv {
        QConv {
            bits: 8,
            fine: Array4::ones((4, 4, 1, 1)),
            coarse: None,
            scale: Array1::ones(4),
            bias: Array1::zeros(4),
            multiplier: Array1::from_elem(4, 1 << 30),
            right_shift: Array1::from_elem(4, 30),
            stride: [1, 1],
            padding: [0, 0],
            groups: 1,
        }
    }

    const LEVELS: OutputLevels = OutputLevels { zero_point: 0, low: -128, high: 127 };

    /// The message for 2 images of 1×1; x has 4 words, y 8.
    fn refusal(conv: &QConv, channels: usize, x_zero_point: i32, output: Option<OutputLevels>) -> String {
        let device = Device::cpu();
        let weights = Weights::new(&device, conv).unwrap();
        let (x, y) = (device.alloc(4, "x").unwrap(), device.alloc(8, "y").unwrap());
        let x_shape = Shape::new(channels, 1, 1);
        let kernel = ConvI8 { images: 2, x_shape, x_zero_point, weights: &weights, output, x: &x, y: &y };
        device.recorder().run(&kernel).err().map_or(String::new(), |e| e.to_string())
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        assert_eq!(refusal(&conv(), 4, 0, Some(LEVELS)), "");
        assert_eq!(refusal(&conv(), 4, 0, None), "");
        assert!(
            refusal(&conv(), 5, 0, None).contains("kernel conv_i8: 2 images of 5×1×1: the weights are for 4 channels")
        );
        assert!(refusal(&conv(), 4, 128, None).contains("zero point 128"));
        assert!(refusal(&conv(), 4, 0, Some(OutputLevels { low: 1, ..LEVELS })).contains("levels 1 to 127"));
        let mut classifier = conv();
        (classifier.multiplier, classifier.right_shift) = Default::default();
        assert_eq!(refusal(&classifier, 4, 0, None), "");
        assert!(refusal(&classifier, 4, 0, Some(LEVELS)).contains("no multipliers"));
        let scale = CoarseScale::Own { scale: Array1::ones(4), multiplier: Array1::ones(4), bias: Array1::zeros(4) };
        let coarse = Some(Coarse { support: Support::Full, weights: Array4::zeros((4, 4, 1, 1)), scale });
        let own = QConv { coarse, ..conv() };
        assert_eq!(refusal(&own, 4, 0, Some(LEVELS)), "");
        assert!(refusal(&own, 4, 0, None).contains("two grids"));
    }

    #[test]
    fn buffers_that_are_too_short_are_refused() {
        let device = Device::cpu();
        let weights = Weights::new(&device, &conv()).unwrap();
        let (x, y) = (device.alloc(4, "x").unwrap(), device.alloc(4, "y").unwrap());
        let run = |images: usize, output: Option<OutputLevels>| {
            let x_shape = Shape::new(4, 1, 1);
            let kernel = ConvI8 { images, x_shape, x_zero_point: 0, weights: &weights, output, x: &x, y: &y };
            device.recorder().run(&kernel).err().map_or(String::new(), |e| e.to_string())
        };
        assert_eq!(run(4, Some(LEVELS)), "");
        assert!(run(5, Some(LEVELS)).contains("x has 4 words; 5 are needed"));
        assert!(run(2, None).contains("y has 4 words; 8 are needed"));
    }
}
