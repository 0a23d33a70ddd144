//! An operation prepared for a device, in f32 or in integers: the only file of `exec` that tells
//! operations apart.

use crate::device::{Buffer, Device, Recorder};
use crate::kernels::OutputLevels;
use crate::kernels::binary::binary_f32::BinaryF32;
use crate::kernels::binary::binary_i8::{BinaryI8, Levels};
use crate::kernels::binary::matmul_f32::MatMulF32;
use crate::kernels::concat::concat_f32::ConcatF32;
use crate::kernels::concat::concat_i8::{ConcatI8, Mapping};
use crate::kernels::conv::{float, int8};
use crate::kernels::convert::normalize::{self, Normalize};
use crate::kernels::convert::quantize_input::{self, QuantizeInput};
use crate::kernels::core::check_right_shift;
use crate::kernels::function::activation_f32::ActivationF32;
use crate::kernels::function::function_f32::{FunctionF32, Program};
use crate::kernels::function::lookup_i8::{Entries, LookupI8};
use crate::kernels::lines::reduce_f32::ReduceF32;
use crate::kernels::lines::softmax_f32::SoftmaxF32;
use crate::kernels::lines::standardize_f32::StandardizeF32;
use crate::kernels::pool::global_pool_f32::{self, GlobalPoolF32};
use crate::kernels::pool::global_pool_i8::{self, GlobalPoolI8};
use crate::kernels::pool::pool_f32::PoolF32;
use crate::kernels::pool::pool_i8::{PoolI8, Windows};
use crate::kernels::rearrange::gather_f32::{self, GatherF32};
use crate::kernels::rearrange::gather_i8::{self, GatherI8};
use crate::kernels::rearrange::resize_f32::{ResizeF32, Taps};
use crate::kernels::recurrent::{self, RecurrentF32};
use crate::kernels::statistics::range::Range;
use crate::kernels::statistics::{Extent, Row};
use crate::model::{
    Activation, Axis, Binary, CoarseScale, Constants, Integer, Op, Pool, Preprocessing, QBinary, QConv, QParams,
    Reduce, Shape, Standardize, Table,
};
use crate::{Error, Result};

/// An operation with the shapes that it was prepared for. It reads buffers in the order of its
/// inputs, the network's input that with the images' pixels.
pub(super) struct Layer {
    work: Work,
    inputs: Vec<Shape>,
    y: Shape,
}

/// What runs, the kernel by its name, and what it is given besides shapes and buffers.
enum Work {
    Normalize {
        table: Buffer,
    },
    QuantizeInput {
        table: Buffer,
    },
    ConvF32 {
        weights: float::Weights,
        relu: bool,
    },
    /// Accumulators where there is no output.
    ConvI8 {
        weights: int8::Weights,
        zero_point: i32,
        output: Option<OutputLevels>,
    },
    GlobalPoolF32(global_pool_f32::Of),
    GlobalPoolI8 {
        of: global_pool_i8::Of,
        zero_point: i32,
        output: OutputLevels,
    },
    ActivationF32(Activation),
    FunctionF32(Program),
    LookupI8 {
        entries: Entries,
        zero_point: i32,
    },
    BinaryF32 {
        kind: Binary,
        relu: bool,
    },
    BinaryI8 {
        binary: QBinary,
        zero_points: [i32; 2],
        output: OutputLevels,
    },
    PoolF32(Pool),
    PoolI8 {
        windows: Windows,
        zero_point: i32,
        output: OutputLevels,
    },
    GatherF32(gather_f32::Order),
    GatherI8 {
        order: gather_i8::Order,
        zero_point: i32,
    },
    ConcatF32(Axis),
    ConcatI8 {
        mappings: Vec<Mapping>,
        axis: Axis,
        zero_point: i32,
    },
    ResizeF32(Taps),
    SoftmaxF32(Axis),
    ReduceF32(Reduce),
    StandardizeF32(Standardize),
    MatMulF32,
    RecurrentF32(recurrent::Weights),
    ConstantF32 {
        values: Buffer,
        order: gather_f32::Order,
    },
    /// Nothing: the result is the input, word by word, and lies in its buffer.
    Same,
}

impl Layer {
    /// An operation in f32, for inputs of these shapes; `relu` follows. `images` says how pixels
    /// become the network's input.
    ///
    /// # Errors
    /// If the operation does not fit its inputs, or the device has no memory left.
    pub(super) fn float(
        device: &Device,
        images: &Preprocessing,
        op: &Op,
        relu: bool,
        inputs: &[Shape],
    ) -> Result<Self> {
        let y = op.output(inputs).ok_or_else(|| Error::bad(format!("{} does not fit its inputs", op.kind())))?;
        let work = match op {
            Op::Input(_) => Work::Normalize { table: normalize::table(device, &images.levels())? },
            Op::Conv(conv) | Op::Linear(conv) => Work::ConvF32 { weights: float::Weights::new(device, conv)?, relu },
            Op::GlobalAveragePool => Work::GlobalPoolF32(global_pool_f32::Of::Mean),
            Op::GlobalMaxPool => Work::GlobalPoolF32(global_pool_f32::Of::Largest),
            Op::Activation(function) => Work::ActivationF32(*function),
            Op::Binary(kind) => Work::BinaryF32 { kind: *kind, relu },
            Op::Function(function) => Work::FunctionF32(Program::new(device, function)?),
            Op::Pool(pool) => Work::PoolF32(*pool),
            Op::Rearrange(rearrange) => Work::GatherF32(gather_f32::Order::new(device, rearrange, inputs[0])?),
            Op::Concat(axis) => Work::ConcatF32(*axis),
            Op::Resize(resize) => Work::ResizeF32(Taps::new(device, resize, inputs[0])?),
            Op::Softmax(axis) => Work::SoftmaxF32(*axis),
            Op::Reduce(reduce) => Work::ReduceF32(*reduce),
            Op::Standardize(standardize) => Work::StandardizeF32(*standardize),
            Op::MatMul => Work::MatMulF32,
            Op::Recurrent(cells) => Work::RecurrentF32(recurrent::Weights::new(device, cells, inputs[0])?),
            Op::Constant(values) => {
                let mut words = vec![0; y.padded_len()];
                for ((c, h, w), value) in values.indexed_iter() {
                    words[(h * y.width + w) * y.padded_channels() + c] = value.to_bits();
                }
                let order = gather_f32::Order::repeat(device, y)?;
                Work::ConstantF32 { values: device.upload(&words, "constant")?, order }
            }
        };
        Ok(Self { work, inputs: inputs.to_vec(), y })
    }

    /// An operation in integers, for inputs of these shapes that are stored so; `relu` follows.
    /// Where there is no `output`, accumulators of a convolution are the result.
    ///
    /// # Errors
    /// If the operation contradicts itself or its inputs, or the device has no memory left.
    pub(super) fn integer(
        device: &Device,
        images: &Preprocessing,
        integer: &Integer,
        relu: bool,
        inputs: &[(Shape, QParams)],
        output: Option<QParams>,
    ) -> Result<Self> {
        let (op, shapes) = (integer.op(), inputs.iter().map(|(shape, _)| *shape).collect::<Vec<_>>());
        let y = op.output(&shapes).ok_or_else(|| Error::bad(format!("{} does not fit its inputs", op.kind())))?;
        let zero_point = |index: usize| inputs[index].1.zero_point;
        let stored = || output.ok_or_else(|| Error::bad("its output has no quantization parameters"));
        let levels = || stored().map(|q| levels(&q, relu));
        if op.passes_values() {
            check_same_levels(&inputs[0].1, &stored()?)?;
        }
        let work = match (op, integer.constants()) {
            (Op::Input(_), _) => {
                Work::QuantizeInput { table: quantize_input::table(device, &images.levels(), &stored()?)? }
            }
            (Op::Conv(conv) | Op::Linear(conv), _) => {
                check_sums(conv, output.is_some())?;
                let (weights, output) = (int8::Weights::new(device, conv)?, output.map(|_| levels()).transpose()?);
                Work::ConvI8 { weights, zero_point: zero_point(0), output }
            }
            (Op::GlobalAveragePool, Constants::Multiplier(multiplier)) => {
                check_right_shift(multiplier.right_shift)?;
                let of = global_pool_i8::Of::Mean(*multiplier);
                Work::GlobalPoolI8 { of, zero_point: zero_point(0), output: levels()? }
            }
            (Op::GlobalMaxPool, _) => {
                let of = global_pool_i8::Of::Largest;
                Work::GlobalPoolI8 { of, zero_point: zero_point(0), output: levels()? }
            }
            (Op::Activation(_) | Op::Function(_), Constants::Table(table)) => {
                let q = stored()?;
                if is_identity(table, &inputs[0].1, &q) {
                    Work::Same
                } else {
                    Work::LookupI8 { entries: Entries::new(device, table)?, zero_point: q.zero_point }
                }
            }
            (Op::Function(_), Constants::ChannelTables(tables)) => {
                let entries = Entries::for_channels(device, tables)?;
                Work::LookupI8 { entries, zero_point: stored()?.zero_point }
            }
            (Op::Binary(_), Constants::Binary(binary)) => {
                check_right_shift(match binary {
                    QBinary::Sum { right_shift, .. } => *right_shift,
                    QBinary::Product(multiplier) => multiplier.right_shift,
                })?;
                let zero_points = [zero_point(0), zero_point(1)];
                Work::BinaryI8 { binary: *binary, zero_points, output: levels()? }
            }
            (Op::Pool(pool), constants) => {
                let multipliers = if let Constants::Multipliers(each) = constants { each.as_slice() } else { &[] };
                let windows = Windows::new(device, *pool, multipliers, shapes[0])?;
                Work::PoolI8 { windows, zero_point: zero_point(0), output: levels()? }
            }
            (Op::Rearrange(rearrange), _) => {
                let order = gather_i8::Order::new(device, rearrange, shapes[0])?;
                let same = order.is_identity();
                if same { Work::Same } else { Work::GatherI8 { order, zero_point: zero_point(0) } }
            }
            (Op::Concat(axis), Constants::Tables(tables)) => {
                if tables.len() != inputs.len() {
                    return Err(Error::bad(format!("{} tables for {} inputs", tables.len(), inputs.len())));
                }
                let mappings = tables.iter().map(|table| Mapping::new(device, table.as_ref()));
                let mappings = mappings.collect::<Result<_>>()?;
                Work::ConcatI8 { mappings, axis: *axis, zero_point: stored()?.zero_point }
            }
            (op, _) => return Err(Error::bad(format!("{} has no integer form", op.kind()))),
        };
        Ok(Self { work, inputs: shapes, y })
    }

    /// Shape of the result.
    pub(super) fn shape(&self) -> Shape {
        self.y
    }

    /// Shapes of what it reads.
    pub(super) fn inputs(&self) -> &[Shape] {
        &self.inputs
    }

    /// Whether the result is the input, word by word, and must lie in its buffer.
    pub(super) fn is_same(&self) -> bool {
        matches!(self.work, Work::Same)
    }

    /// Records it for a batch of `images`, and in f32 the update of a row of states with the range
    /// of y.
    ///
    /// # Errors
    /// If the device failed.
    ///
    /// # Panics
    /// If there are fewer buffers than inputs: an error of the caller.
    pub(super) fn record(
        &self,
        rec: &mut Recorder<'_>,
        images: usize,
        inputs: &[&Buffer],
        y: &Buffer,
        range: Option<Row<'_>>,
    ) -> Result<()> {
        let (shape, x) = (|index: usize| self.inputs[index], |index: usize| inputs[index]);
        match &self.work {
            Work::Normalize { table } => rec.run(&Normalize { pixels: images * self.y.pixels(), x: x(0), table, y }),
            Work::QuantizeInput { table } => {
                rec.run(&QuantizeInput { pixels: images * self.y.pixels(), x: x(0), table, y })
            }
            Work::ConvF32 { weights, relu } => {
                // It finds the range while its outputs are in registers.
                let epilogue = float::Epilogue { relu: *relu, range };
                return rec.run(&float::ConvF32 { images, x_shape: shape(0), weights, epilogue, x: x(0), y });
            }
            Work::ConvI8 { weights, zero_point, output } => rec.run(&int8::ConvI8 {
                images,
                x_shape: shape(0),
                x_zero_point: *zero_point,
                output: *output,
                weights,
                x: x(0),
                y,
            }),
            Work::GlobalPoolF32(of) => rec.run(&GlobalPoolF32 { images, x_shape: shape(0), of: *of, x: x(0), y }),
            Work::GlobalPoolI8 { of, zero_point, output } => rec.run(&GlobalPoolI8 {
                images,
                x_shape: shape(0),
                x_zero_point: *zero_point,
                of: *of,
                levels: *output,
                x: x(0),
                y,
            }),
            Work::ActivationF32(function) => {
                rec.run(&ActivationF32 { images, shape: shape(0), function: *function, x: x(0), y })
            }
            Work::FunctionF32(program) => {
                let inputs: Vec<(Shape, &Buffer)> = self.inputs.iter().copied().zip(inputs.iter().copied()).collect();
                rec.run(&FunctionF32 { images, program, inputs: &inputs, y })
            }
            Work::LookupI8 { entries, zero_point } => {
                rec.run(&LookupI8 { images, shape: shape(0), entries, zero_point: *zero_point, x: x(0), y })
            }
            Work::BinaryF32 { kind, relu } => {
                let operands = [(shape(0), x(0)), (shape(1), x(1))];
                rec.run(&BinaryF32 { images, kind: *kind, relu: *relu, operands, y })
            }
            Work::BinaryI8 { binary, zero_points, output } => {
                let operand = |i: usize| Levels { shape: shape(i), zero_point: zero_points[i], buffer: x(i) };
                rec.run(&BinaryI8 { images, binary: *binary, operands: [operand(0), operand(1)], levels: *output, y })
            }
            Work::PoolF32(pool) => rec.run(&PoolF32 { images, x_shape: shape(0), pool, x: x(0), y }),
            Work::PoolI8 { windows, zero_point, output } => {
                rec.run(&PoolI8 { images, windows, x_zero_point: *zero_point, levels: *output, x: x(0), y })
            }
            Work::GatherF32(order) => rec.run(&GatherF32 { images, order, x: x(0), y }),
            Work::GatherI8 { order, zero_point } => {
                rec.run(&GatherI8 { images, order, zero_point: *zero_point, x: x(0), y })
            }
            Work::ConcatF32(axis) => self.begins(*axis).enumerate().try_for_each(|(i, first)| {
                rec.run(&ConcatF32 { images, x_shape: shape(i), axis: *axis, first, y_shape: self.y, x: x(i), y })
            }),
            Work::ConcatI8 { mappings, axis, zero_point } => {
                self.begins(*axis).enumerate().try_for_each(|(i, first)| {
                    rec.run(&ConcatI8 {
                        images,
                        x_shape: shape(i),
                        mapping: &mappings[i],
                        axis: *axis,
                        first,
                        y_shape: self.y,
                        zero_point: *zero_point,
                        x: x(i),
                        y,
                    })
                })
            }
            Work::ResizeF32(taps) => rec.run(&ResizeF32 { images, taps, x: x(0), y }),
            Work::SoftmaxF32(axis) => rec.run(&SoftmaxF32 { images, shape: shape(0), axis: *axis, x: x(0), y }),
            Work::ReduceF32(reduce) => rec.run(&ReduceF32 { images, x_shape: shape(0), reduce: *reduce, x: x(0), y }),
            Work::StandardizeF32(standardize) => {
                rec.run(&StandardizeF32 { images, shape: shape(0), standardize: *standardize, x: x(0), y })
            }
            Work::MatMulF32 => rec.run(&MatMulF32 { images, a: (shape(0), x(0)), b: (shape(1), x(1)), y }),
            Work::RecurrentF32(weights) => rec.run(&RecurrentF32 { images, weights, x: x(0), y }),
            Work::ConstantF32 { values, order } => rec.run(&GatherF32 { images, order, x: values, y }),
            Work::Same => Ok(()),
        }?;
        let Some(row) = range else { return Ok(()) };
        rec.run(&Range { extent: Extent { images, shape: self.y }, x: y, row })
    }

    /// Where each input begins along an axis of the result.
    fn begins(&self, axis: Axis) -> impl Iterator<Item = usize> {
        self.inputs.iter().scan(0, move |end, shape| {
            let begin = *end;
            *end += axis.of(*shape);
            Some(begin)
        })
    }
}

/// The levels a layer may store; a `ReLU` that follows lifts the lowest to the zero point.
fn levels(q: &QParams, relu: bool) -> OutputLevels {
    let low = if relu { q.qmin.max(q.zero_point) } else { q.qmin };
    OutputLevels { zero_point: q.zero_point, low, high: q.qmax }
}

/// What passes levels on must be stored as its input is.
fn check_same_levels(x: &QParams, y: &QParams) -> Result<()> {
    if (x.scale, x.zero_point) == (y.scale, y.zero_point) {
        return Ok(());
    }
    Err(Error::bad(format!(
        "its levels are its input's, but it is stored with scale {} and zero point {}, the input with {} and {}",
        y.scale, y.zero_point, x.scale, x.zero_point
    )))
}

/// A convolution's sums become levels, or stay accumulators that have one scale.
fn check_sums(conv: &QConv, stored: bool) -> Result<()> {
    if stored && conv.multiplier.is_empty() {
        return Err(Error::bad("its output is stored as levels, but it has no multipliers"));
    }
    if !stored && conv.coarse.as_ref().is_some_and(|c| matches!(c.scale, CoarseScale::Own { .. })) {
        return Err(Error::bad("it stays accumulators, but its two parts have grids of their own and no common total"));
    }
    Ok(())
}

/// Whether a table leaves every level that occurs as it is, that of padded channels too.
fn is_identity(table: &Table, x: &QParams, y: &QParams) -> bool {
    x.zero_point == y.zero_point && (x.qmin..=x.qmax).all(|q| i8::try_from(q).is_ok_and(|q| table.get(q) == q))
}
