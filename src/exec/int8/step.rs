//! One node of a quantized network, prepared for a device.

use super::form::{Form, levels_of};
use crate::device::{Buffer, Device, Recorder};
use crate::exec::real::RealLayer;
use crate::kernels::dequantize_acc::Factors;
use crate::kernels::{
    Geometry, binary_i8, conv_i8, depthwise_i8, dequantize, dequantize_acc, gather_i8, global_pool_i8, move_i8,
    pool_i8, quantize_activation, quantize_input,
};
use crate::model::{Axis, CoarseScale, Multiplier, QBinary, QConv, QNode, QOp, QParams, QuantizedGraph, Shape, Table};
use crate::{Error, Result};

pub(super) enum Step {
    Input {
        table: Buffer,
    },
    Conv {
        conv: IntConv,
        zero_point: i32,
        output: Option<conv_i8::Output>,
    },
    GlobalAveragePool {
        multiplier: Multiplier,
        zero_point: i32,
        output: conv_i8::Output,
    },
    Binary {
        binary: QBinary,
        zero_points: [i32; 2],
        output: conv_i8::Output,
    },
    Window {
        windows: pool_i8::Windows,
        zero_point: i32,
        output: conv_i8::Output,
    },
    Rearrange {
        places: gather_i8::Places,
        zero_point: i32,
    },
    /// The inputs of a Concat, or that of a Table.
    Move {
        mappings: Vec<move_i8::Mapping>,
        axis: Axis,
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

/// An integer convolution or classifier on a device.
pub(super) struct IntConv {
    weights: Weights,
    out_channels: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
}

enum Weights {
    Dense(conv_i8::Weights),
    Depthwise(depthwise_i8::Weights),
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
fn levels(q: &QParams, relu: bool) -> conv_i8::Output {
    let low = if relu { q.qmin.max(q.zero_point) } else { q.qmin };
    conv_i8::Output { zero_point: q.zero_point, low, high: q.qmax }
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
            QOp::Input(_) => Self::Input { table: quantize_input::table(device, &graph.input.levels(), &stored()?)? },
            QOp::Conv(conv) | QOp::Linear(conv) => Self::Conv {
                conv: IntConv::new(device, conv, node.output.is_some())?,
                zero_point: input(0)?.zero_point,
                output: node.output.map(|q| levels(&q, node.relu)),
            },
            QOp::GlobalAveragePool(multiplier) => {
                check_shift(multiplier.right_shift)?;
                Self::GlobalAveragePool { multiplier: *multiplier, zero_point: input(0)?.zero_point, output: output()? }
            }
            QOp::Binary(binary) => {
                check_shift(match binary {
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
                let windows = pool_i8::Windows::new(device, *pool, multipliers, one(inputs)?)?;
                Self::Window { windows, zero_point: input(0)?.zero_point, output: output()? }
            }
            QOp::Rearrange(rearrange) => {
                same_levels(&input(0)?, &stored()?)?;
                let places = gather_i8::Places::new(device, rearrange, one(inputs)?)?;
                if places.is_identity() {
                    return Ok(Self::Same);
                }
                Self::Rearrange { places, zero_point: input(0)?.zero_point }
            }
            QOp::Table { table, .. } => {
                if is_identity(table, &input(0)?, &stored()?) {
                    return Ok(Self::Same);
                }
                let mappings = vec![move_i8::Mapping::new(device, Some(table))?];
                Self::Move { mappings, axis: Axis::Channels, zero_point: stored()?.zero_point }
            }
            QOp::Concat { axis, tables } => {
                for index in 0..tables.len() {
                    input(index)?;
                }
                let mappings = tables.iter().map(|table| move_i8::Mapping::new(device, table.as_ref()));
                Self::Move { mappings: mappings.collect::<Result<_>>()?, axis: *axis, zero_point: stored()?.zero_point }
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
            Self::Conv { conv, zero_point, output } => {
                conv.record(rec, images, first()?, *zero_point, output.as_ref(), y.buffer)
            }
            Self::GlobalAveragePool { multiplier, zero_point, output } => {
                let Operand { shape, buffer } = first()?;
                rec.kernel(global_pool_i8::SPEC.name, 0, |rec| {
                    global_pool_i8::dispatch(rec, images, shape, *zero_point, *multiplier, output, buffer, y.buffer)
                })
            }
            Self::Binary { binary, zero_points: [z_a, z_b], output } => {
                let &[a, b] = inputs else { return Err(Error::bad("a layer of two inputs has another number")) };
                let operands = [(a, *z_a), (b, *z_b)].map(|(x, zero_point)| binary_i8::Levels {
                    shape: x.shape,
                    zero_point,
                    buffer: x.buffer,
                });
                rec.kernel(binary_i8::SPEC.name, 0, |rec| {
                    binary_i8::dispatch(rec, images, binary, operands, output, y.buffer)
                })
            }
            Self::Window { windows, zero_point, output } => {
                let x = first()?.buffer;
                rec.kernel(pool_i8::SPEC.name, 0, |rec| {
                    pool_i8::dispatch(rec, images, windows, *zero_point, output, x, y.buffer)
                })
            }
            Self::Rearrange { places, zero_point } => {
                let x = first()?.buffer;
                rec.kernel(gather_i8::SPEC.name, 0, |rec| {
                    gather_i8::dispatch(rec, images, places, *zero_point, x, y.buffer)
                })
            }
            Self::Move { mappings, axis, zero_point } => {
                let mut begin = 0;
                for (x, mapping) in inputs.iter().zip(mappings) {
                    let at = (*axis, begin);
                    rec.kernel(move_i8::SPEC.name, 0, |rec| {
                        move_i8::dispatch(rec, images, x.shape, mapping, at, y.shape, *zero_point, x.buffer, y.buffer)
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
                let Some(q) = stored else { return layer.record(rec, images, &real, y.buffer) };
                layer.record(rec, images, &real, &scratch[0])?;
                rec.kernel(quantize_activation::SPEC.name, 0, |rec| {
                    let pixels = images * y.shape.pixels();
                    quantize_activation::dispatch(rec, pixels, y.shape.channels, q, &scratch[0], y.buffer)
                })
            }
        }
    }
}

/// The shape of the only input.
fn one(inputs: &[(Shape, &Form)]) -> Result<Shape> {
    inputs.first().map(|(shape, _)| *shape).ok_or_else(|| Error::bad("it has no input"))
}

fn check_shift(n: u8) -> Result<()> {
    if (1..=62).contains(&n) { Ok(()) } else { Err(Error::bad(format!("right_shift is {n}; 1 to 62 are possible"))) }
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

impl IntConv {
    fn new(device: &Device, conv: &QConv, requantizes: bool) -> Result<Self> {
        if requantizes && conv.multiplier.is_empty() {
            return Err(Error::bad("its output is stored as levels, but it has no multipliers"));
        }
        if !requantizes && conv.coarse.as_ref().is_some_and(|c| matches!(c.scale, CoarseScale::Own { .. })) {
            return Err(Error::bad(
                "it stays accumulators, but its two parts have grids of their own and no common total",
            ));
        }
        let weights = if conv.is_depthwise() {
            Weights::Depthwise(depthwise_i8::Weights::new(device, conv)?)
        } else {
            Weights::Dense(conv_i8::Weights::new(device, conv)?)
        };
        Ok(Self {
            weights,
            out_channels: conv.out_channels(),
            kernel: conv.kernel(),
            stride: conv.stride,
            padding: conv.padding,
        })
    }

    fn record(
        &self,
        rec: &mut Recorder<'_>,
        images: usize,
        Operand { shape, buffer: x }: Operand<'_>,
        zero_point: i32,
        output: Option<&conv_i8::Output>,
        y: &Buffer,
    ) -> Result<()> {
        let geometry =
            |groups| Geometry::new(images, shape, self.out_channels, self.kernel, self.stride, self.padding, groups);
        match &self.weights {
            Weights::Dense(w) => {
                let g = geometry(w.groups());
                rec.kernel(conv_i8::SPEC.name, g.multiplications(), |rec| match output {
                    Some(output) => conv_i8::dispatch(rec, &g, zero_point, output, x, w, y),
                    None => conv_i8::dispatch_accumulators(rec, &g, zero_point, x, w, y),
                })
            }
            Weights::Depthwise(w) => {
                let g = geometry(w.groups());
                rec.kernel(depthwise_i8::SPEC.name, g.multiplications(), |rec| match output {
                    Some(output) => depthwise_i8::dispatch(rec, &g, zero_point, output, x, w, y),
                    None => depthwise_i8::dispatch_accumulators(rec, &g, zero_point, x, w, y),
                })
            }
        }
    }
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
            Self::Levels(q) => rec.kernel(dequantize::SPEC.name, 0, |rec| {
                dequantize::dispatch(rec, pixels, x.shape.channels, q.scale, q.zero_point, x.buffer, scratch)
            })?,
            Self::Accumulators { factors, relu } => rec.kernel(dequantize_acc::SPEC.name, 0, |rec| {
                dequantize_acc::dispatch(rec, pixels, factors, *relu, x.buffer, scratch)
            })?,
        }
        Ok(scratch)
    }
}
