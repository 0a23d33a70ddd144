//! One node of a quantized network, prepared for a device.

use super::form::{Form, levels_of};
use crate::device::{Buffer, Device, Recorder};
use crate::exec::real::RealLayer;
use crate::kernels::OutputLevels;
use crate::kernels::binary::binary_i8::{BinaryI8, Levels};
use crate::kernels::concat::concat_i8::{ConcatI8, Mapping};
use crate::kernels::conv::int8::{ConvI8, Weights};
use crate::kernels::convert::dequantize::Dequantize;
use crate::kernels::convert::dequantize_acc::{DequantizeAcc, Factors};
use crate::kernels::convert::quantize_activation::QuantizeActivation;
use crate::kernels::convert::quantize_input;
use crate::kernels::core::check_right_shift;
use crate::kernels::function::lookup_i8::{Entries, LookupI8};
use crate::kernels::pool::global_pool_i8::GlobalPoolI8;
use crate::kernels::pool::pool_i8::{PoolI8, Windows};
use crate::kernels::rearrange::gather_i8::{GatherI8, Order};
use crate::model::{Axis, CoarseScale, Multiplier, QBinary, QConv, QNode, QOp, QParams, QuantizedGraph, Shape, Table};
use crate::{Error, Result};

pub(super) enum Step {
    Input {
        /// What becomes of each 8-bit level of each colour.
        table: Buffer,
        stored: QParams,
    },
    Conv {
        weights: Weights,
        zero_point: i32,
        output: Option<OutputLevels>,
    },
    GlobalAveragePool {
        multiplier: Multiplier,
        zero_point: i32,
        output: OutputLevels,
    },
    Binary {
        binary: QBinary,
        zero_points: [i32; 2],
        output: OutputLevels,
    },
    Window {
        windows: Windows,
        zero_point: i32,
        output: OutputLevels,
    },
    Rearrange {
        order: Order,
        zero_point: i32,
    },
    Concat {
        mappings: Vec<Mapping>,
        axis: Axis,
        zero_point: i32,
    },
    Lookup {
        entries: Entries,
        zero_point: i32,
    },
    Float {
        layer: RealLayer,
        inputs: Vec<ToReal>,
        stored: Option<QParams>,
    },
    /// The levels are the input's, and lie in its buffer.
    Same,
}

/// How an input becomes real.
pub(super) enum ToReal {
    Levels(QParams),
    Accumulators { factors: Factors, relu: bool },
    AsItIs,
}

/// An activation that a step reads.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a> {
    pub(super) shape: Shape,
    pub(super) buffer: &'a Buffer,
}

/// The levels a node may store; a fused `ReLU` lifts the lowest to the zero point.
fn levels(q: &QParams, relu: bool) -> OutputLevels {
    let low = if relu { q.qmin.max(q.zero_point) } else { q.qmin };
    OutputLevels { zero_point: q.zero_point, low, high: q.qmax }
}

impl Step {
    /// Prepares a node whose inputs have these shapes and forms.
    ///
    /// # Errors
    /// If the node contradicts itself or its inputs, or the device has no memory left.
    pub(super) fn new(
        device: &Device,
        graph: &QuantizedGraph,
        node: &QNode,
        inputs: &[(Shape, &Form)],
    ) -> Result<Self> {
        let stored = || node.output.ok_or_else(|| Error::bad("its output has no quantization parameters"));
        let output = || stored().map(|q| levels(&q, node.relu));
        let input = |index: usize| levels_of(graph, node, index);
        Ok(match &node.op {
            QOp::Input(_) => {
                let stored = stored()?;
                Self::Input { table: quantize_input::table(device, &graph.input.levels(), &stored)?, stored }
            }
            QOp::Conv(conv) | QOp::Linear(conv) => Self::Conv {
                weights: weights(device, conv, node.output.is_some())?,
                zero_point: input(0)?.zero_point,
                output: node.output.map(|q| levels(&q, node.relu)),
            },
            QOp::GlobalAveragePool(multiplier) => {
                check_right_shift(multiplier.right_shift)?;
                Self::GlobalAveragePool { multiplier: *multiplier, zero_point: input(0)?.zero_point, output: output()? }
            }
            QOp::Binary(binary) => {
                check_right_shift(match binary {
                    QBinary::Sum { right_shift, .. } => *right_shift,
                    QBinary::Product(multiplier) => multiplier.right_shift,
                })?;
                let zero_points = [input(0)?.zero_point, input(1)?.zero_point];
                Self::Binary { binary: *binary, zero_points, output: output()? }
            }
            QOp::Pool { pool, multipliers } => {
                if node.op.passes_levels() {
                    same_levels(&input(0)?, &stored()?)?;
                }
                let windows = Windows::new(device, *pool, multipliers, one(inputs)?)?;
                Self::Window { windows, zero_point: input(0)?.zero_point, output: output()? }
            }
            QOp::Rearrange(rearrange) => {
                same_levels(&input(0)?, &stored()?)?;
                let order = Order::new(device, rearrange, one(inputs)?)?;
                if order.is_identity() {
                    return Ok(Self::Same);
                }
                Self::Rearrange { order, zero_point: input(0)?.zero_point }
            }
            QOp::Table { table, .. } => {
                if is_identity(table, &input(0)?, &stored()?) {
                    return Ok(Self::Same);
                }
                Self::Lookup { entries: Entries::new(device, table)?, zero_point: stored()?.zero_point }
            }
            QOp::Concat { axis, tables } => {
                for index in 0..tables.len() {
                    input(index)?;
                }
                let mappings = tables.iter().map(|table| Mapping::new(device, table.as_ref()));
                Self::Concat {
                    mappings: mappings.collect::<Result<_>>()?,
                    axis: *axis,
                    zero_point: stored()?.zero_point,
                }
            }
            QOp::Float(op) => {
                let shapes: Vec<Shape> = inputs.iter().map(|(shape, _)| *shape).collect();
                Self::Float {
                    layer: RealLayer::new(device, op, node.relu, &shapes)?,
                    inputs: inputs.iter().map(|(_, form)| ToReal::new(device, form)).collect::<Result<_>>()?,
                    stored: node.output,
                }
            }
        })
    }

    /// Records it for a batch of `images`; `scratch` is that of [`scratch_words`](crate::exec::plan::scratch_words).
    ///
    /// # Errors
    /// If the device failed.
    pub(super) fn record(
        &self,
        rec: &mut Recorder<'_>,
        images: usize,
        inputs: &[Operand<'_>],
        y: Operand<'_>,
        scratch: &[Buffer],
    ) -> Result<()> {
        let first = || inputs.first().copied().ok_or_else(|| Error::bad("a layer has no input"));
        match self {
            Self::Input { .. } | Self::Same => Ok(()),
            Self::Conv { weights, zero_point, output } => {
                let x = first()?;
                rec.run(&ConvI8 {
                    images,
                    x_shape: x.shape,
                    x_zero_point: *zero_point,
                    output: *output,
                    weights,
                    x: x.buffer,
                    y: y.buffer,
                })
            }
            Self::GlobalAveragePool { multiplier, zero_point, output } => {
                let x = first()?;
                rec.run(&GlobalPoolI8 {
                    images,
                    x_shape: x.shape,
                    x_zero_point: *zero_point,
                    multiplier: *multiplier,
                    levels: *output,
                    x: x.buffer,
                    y: y.buffer,
                })
            }
            Self::Binary { binary, zero_points: [z_a, z_b], output } => {
                let &[a, b] = inputs else { return Err(Error::bad("a layer of two inputs has another number")) };
                let operands = [(a, *z_a), (b, *z_b)].map(|(x, zero_point)| Levels {
                    shape: x.shape,
                    zero_point,
                    buffer: x.buffer,
                });
                rec.run(&BinaryI8 { images, binary: *binary, operands, levels: *output, y: y.buffer })
            }
            Self::Window { windows, zero_point, output } => {
                let x = first()?.buffer;
                rec.run(&PoolI8 { images, windows, x_zero_point: *zero_point, levels: *output, x, y: y.buffer })
            }
            Self::Rearrange { order, zero_point } => {
                rec.run(&GatherI8 { images, order, zero_point: *zero_point, x: first()?.buffer, y: y.buffer })
            }
            Self::Lookup { entries, zero_point } => {
                let Operand { shape, buffer: x } = first()?;
                rec.run(&LookupI8 { images, shape, entries, zero_point: *zero_point, x, y: y.buffer })
            }
            Self::Concat { mappings, axis, zero_point } => {
                let mut begin = 0;
                for (x, mapping) in inputs.iter().zip(mappings) {
                    rec.run(&ConcatI8 {
                        images,
                        x_shape: x.shape,
                        mapping,
                        axis: *axis,
                        first: begin,
                        y_shape: y.shape,
                        zero_point: *zero_point,
                        x: x.buffer,
                        y: y.buffer,
                    })?;
                    begin += axis.of(x.shape);
                }
                Ok(())
            }
            Self::Float { layer, inputs: to_real, stored } => {
                let mut real = Vec::with_capacity(inputs.len());
                for ((x, how), scratch) in inputs.iter().zip(to_real).zip(&scratch[1..]) {
                    real.push((x.shape, how.record(rec, images, *x, scratch)?));
                }
                let result = if stored.is_some() { &scratch[0] } else { y.buffer };
                layer.record(rec, images, &real, result, None)?;
                let Some(q) = stored else { return Ok(()) };
                let (pixels, channels) = (images * y.shape.pixels(), y.shape.channels);
                rec.run(&QuantizeActivation { pixels, channels, q, x: result, y: y.buffer })
            }
        }
    }
}

/// The shape of the only input.
fn one(inputs: &[(Shape, &Form)]) -> Result<Shape> {
    inputs.first().map(|(shape, _)| *shape).ok_or_else(|| Error::bad("it has no input"))
}

/// What passes levels on must be stored as its input is.
fn same_levels(x: &QParams, y: &QParams) -> Result<()> {
    if (x.scale, x.zero_point) == (y.scale, y.zero_point) {
        return Ok(());
    }
    Err(Error::bad(format!(
        "its levels are its input's, but it is stored with scale {} and zero point {}, the input with {} and {}",
        y.scale, y.zero_point, x.scale, x.zero_point
    )))
}

/// Whether a table leaves every level that occurs as it is, that of padded channels too.
fn is_identity(table: &Table, x: &QParams, y: &QParams) -> bool {
    x.zero_point == y.zero_point && (x.qmin..=x.qmax).all(|q| i8::try_from(q).is_ok_and(|q| table.get(q) == q))
}

/// The weights of a convolution or classifier whose output is stored as levels, or stays accumulators.
fn weights(device: &Device, conv: &QConv, stored: bool) -> Result<Weights> {
    if stored && conv.multiplier.is_empty() {
        return Err(Error::bad("its output is stored as levels, but it has no multipliers"));
    }
    if !stored && conv.coarse.as_ref().is_some_and(|c| matches!(c.scale, CoarseScale::Own { .. })) {
        return Err(Error::bad("it stays accumulators, but its two parts have grids of their own and no common total"));
    }
    Weights::new(device, conv)
}

impl ToReal {
    fn new(device: &Device, form: &Form) -> Result<Self> {
        Ok(match form {
            Form::Levels(q) => Self::Levels(*q),
            Form::Accumulators { factors, relu } => {
                Self::Accumulators { factors: Factors::new(device, factors)?, relu: *relu }
            }
            Form::Real => Self::AsItIs,
        })
    }

    /// Makes an input real, in `scratch` where it is not; gives the buffer that has it.
    fn record<'a>(
        &self,
        rec: &mut Recorder<'_>,
        images: usize,
        x: Operand<'a>,
        scratch: &'a Buffer,
    ) -> Result<&'a Buffer> {
        let pixels = images * x.shape.pixels();
        match self {
            Self::AsItIs => return Ok(x.buffer),
            Self::Levels(QParams { scale, zero_point, .. }) => {
                let (channels, scale, zero_point) = (x.shape.channels, *scale, *zero_point);
                rec.run(&Dequantize { pixels, channels, scale, zero_point, x: x.buffer, y: scratch })?;
            }
            Self::Accumulators { factors, relu } => {
                rec.run(&DequantizeAcc { pixels, factors, relu: *relu, x: x.buffer, y: scratch })?;
            }
        }
        Ok(scratch)
    }
}
