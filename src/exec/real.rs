//! Operations in f32, prepared for a device: the steps of a float network, and the float islands of a quantized one.

use crate::device::{Buffer, Device, Recorder};
use crate::kernels::binary::binary_f32::BinaryF32;
use crate::kernels::concat::concat_f32::ConcatF32;
use crate::kernels::conv::float::{ConvF32, Epilogue, Weights};
use crate::kernels::function::activation_f32::ActivationF32;
use crate::kernels::function::softmax_f32::SoftmaxF32;
use crate::kernels::pool::global_pool_f32::GlobalPoolF32;
use crate::kernels::pool::pool_f32::PoolF32;
use crate::kernels::rearrange::gather_f32::{GatherF32, Order};
use crate::kernels::rearrange::resize_f32::{ResizeF32, Taps};
use crate::kernels::statistics::Row;
use crate::model::{Activation, Axis, Binary, Op, Pool, Shape, joined};
use crate::{Error, Result};

/// An operation in f32, prepared for a device.
pub(super) enum RealLayer {
    Conv { weights: Weights, relu: bool },
    GlobalAveragePool,
    Activation(Activation),
    Binary { kind: Binary, relu: bool },
    Pool(Pool),
    Rearrange(Order),
    Concat(Axis),
    Resize(Taps),
    Softmax(Axis),
    Constant { values: Buffer, order: Order },
}

impl RealLayer {
    /// Lays out what `op` needs for inputs of these shapes; `relu` follows.
    ///
    /// # Errors
    /// If the device has no memory left, or the operation is the input.
    ///
    /// # Panics
    /// If inputs are missing: an error of the caller.
    pub(super) fn new(device: &Device, op: &Op, relu: bool, inputs: &[Shape]) -> Result<Self> {
        match op {
            Op::Conv(conv) | Op::Linear(conv) => Ok(Self::Conv { weights: Weights::new(device, conv)?, relu }),
            Op::GlobalAveragePool => Ok(Self::GlobalAveragePool),
            Op::Activation(function) => Ok(Self::Activation(*function)),
            Op::Binary(kind) => Ok(Self::Binary { kind: *kind, relu }),
            Op::Pool(pool) => Ok(Self::Pool(*pool)),
            Op::Rearrange(rearrange) => Order::new(device, rearrange, inputs[0]).map(Self::Rearrange),
            Op::Concat(axis) => Ok(Self::Concat(*axis)),
            Op::Resize(resize) => Taps::new(device, resize, inputs[0]).map(Self::Resize),
            Op::Softmax(axis) => Ok(Self::Softmax(*axis)),
            Op::Constant(values) => {
                let (channels, height, width) = values.dim();
                let shape = Shape::new(channels, height, width);
                let mut words = vec![0; shape.pixels() * shape.padded_channels()];
                for ((c, h, w), value) in values.indexed_iter() {
                    words[(h * width + w) * shape.padded_channels() + c] = value.to_bits();
                }
                let order = Order::repeat(device, shape)?;
                Ok(Self::Constant { values: device.upload(&words, "constant")?, order })
            }
            Op::Input(_) => Err(Error::bad("the input is no layer")),
        }
    }

    /// Records the operation for a batch of `images`: `inputs` hold the shapes that [`RealLayer::new`] was told of, NHWC f32
    /// with padded channels; so does y. A convolution updates `range` too; for another layer
    /// that is left to the caller: the result says whether it was done.
    ///
    /// # Errors
    /// If inputs are missing, or the device failed.
    pub(super) fn record(
        &self,
        rec: &mut Recorder<'_>,
        images: usize,
        inputs: &[(Shape, &Buffer)],
        y: &Buffer,
        range: Option<Row<'_>>,
    ) -> Result<bool> {
        let first = || inputs.first().copied().ok_or_else(|| Error::bad("a layer has no input"));
        match self {
            Self::Conv { weights, relu } => {
                let ((x_shape, x), epilogue) = (first()?, Epilogue { relu: *relu, range });
                // It finds the range while its outputs are in registers.
                rec.run(&ConvF32 { images, x_shape, weights, epilogue, x, y })?;
                return Ok(true);
            }
            Self::GlobalAveragePool => {
                let (x_shape, x) = first()?;
                rec.run(&GlobalPoolF32 { images, x_shape, x, y })?;
            }
            Self::Activation(function) => {
                let (shape, x) = first()?;
                rec.run(&ActivationF32 { images, shape, function: *function, x, y })?;
            }
            Self::Binary { kind, relu } => {
                let &[a, b] = inputs else { return Err(Error::bad("a layer of two inputs has another number")) };
                rec.run(&BinaryF32 { images, kind: *kind, relu: *relu, operands: [a, b], y })?;
            }
            Self::Pool(pool) => {
                let (x_shape, x) = first()?;
                rec.run(&PoolF32 { images, x_shape, pool, x, y })?;
            }
            Self::Rearrange(order) => rec.run(&GatherF32 { images, order, x: first()?.1, y })?,
            Self::Concat(axis) => {
                let shapes: Vec<Shape> = inputs.iter().map(|(shape, _)| *shape).collect();
                let Some(y_shape) = joined(&shapes, *axis) else {
                    return Err(Error::bad("the inputs of a concat do not go together"));
                };
                let mut first = 0;
                for &(x_shape, x) in inputs {
                    rec.run(&ConcatF32 { images, x_shape, axis: *axis, first, y_shape, x, y })?;
                    first += axis.of(x_shape);
                }
            }
            Self::Resize(taps) => rec.run(&ResizeF32 { images, taps, x: first()?.1, y })?,
            Self::Softmax(axis) => {
                let (shape, x) = first()?;
                rec.run(&SoftmaxF32 { images, shape, axis: *axis, x, y })?;
            }
            Self::Constant { values, order } => rec.run(&GatherF32 { images, order, x: values, y })?,
        }
        Ok(false)
    }
}
