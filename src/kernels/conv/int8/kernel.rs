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
