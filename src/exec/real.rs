//! Operations in f32, prepared for a device: the steps of a float network, and the float islands of a quantized one.

use crate::device::{Buffer, Device, Recorder};
use crate::kernels::{
    Epilogue, Geometry, Row, activation_f32, binary_f32, concat_f32, conv_f32, depthwise_f32, gather_f32,
    global_pool_f32, pool_f32, resize_f32, softmax_f32,
};
use crate::model::{Activation, Axis, Binary, Conv, Linear, Op, Pool, Shape, joined};
use crate::{Error, Result};

/// An operation in f32, prepared for a device.
pub(super) enum RealLayer {
    Conv(Convolution),
    GlobalAveragePool,
    Activation(Activation),
    Binary { kind: Binary, relu: bool },
    Pool(Pool),
    Rearrange(gather_f32::Places),
    Concat(Axis),
    Resize(resize_f32::Taps),
    Softmax(Axis),
    Constant { values: Buffer, places: gather_f32::Places },
}

/// A convolution, its weights laid out for a device.
pub(super) struct Convolution {
    weights: Weights,
    out_channels: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    relu: bool,
}

enum Weights {
    Dense(conv_f32::Weights),
    Depthwise(depthwise_f32::Weights),
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
            Op::Conv(conv) => Convolution::new(device, conv, relu).map(Self::Conv),
            Op::Linear(linear) => Convolution::from_linear(device, linear).map(Self::Conv),
            Op::GlobalAveragePool => Ok(Self::GlobalAveragePool),
            Op::Activation(function) => Ok(Self::Activation(*function)),
            Op::Binary(kind) => Ok(Self::Binary { kind: *kind, relu }),
            Op::Pool(pool) => Ok(Self::Pool(*pool)),
            Op::Rearrange(rearrange) => gather_f32::Places::new(device, rearrange, inputs[0]).map(Self::Rearrange),
            Op::Concat(axis) => Ok(Self::Concat(*axis)),
            Op::Resize(resize) => resize_f32::Taps::new(device, resize, inputs[0]).map(Self::Resize),
            Op::Softmax(axis) => Ok(Self::Softmax(*axis)),
            Op::Constant(values) => {
                let (channels, height, width) = values.dim();
                let shape = Shape::new(channels, height, width);
                let mut words = vec![0; shape.pixels() * shape.padded_channels()];
                for ((c, h, w), value) in values.indexed_iter() {
                    words[(h * width + w) * shape.padded_channels() + c] = value.to_bits();
                }
                let places = gather_f32::Places::repeat(device, shape)?;
                Ok(Self::Constant { values: device.upload(&words, "constant")?, places })
            }
            Op::Input(_) => Err(Error::bad("the input is no layer")),
        }
    }

    /// Records the operation for a batch of `images`: `inputs` hold the shapes that [`RealLayer::new`] was told of, NHWC f32
    /// with padded channels; so does y.
    ///
    /// # Errors
    /// If the device failed.
    ///
    /// # Panics
    /// If inputs are missing: an error of the caller.
    pub(super) fn record(
        &self,
        rec: &mut Recorder<'_>,
        images: usize,
        inputs: &[(Shape, &Buffer)],
        y: &Buffer,
    ) -> Result<()> {
        match self {
            Self::Conv(conv) => conv.record(rec, images, inputs[0], y, None),
            Self::GlobalAveragePool => {
                let (shape, x) = inputs[0];
                rec.kernel(global_pool_f32::SPEC.name, 0, |rec| global_pool_f32::dispatch(rec, images, shape, x, y))
            }
            Self::Activation(function) => {
                let (shape, x) = inputs[0];
                let work = |rec: &mut Recorder<'_>| activation_f32::dispatch(rec, images, shape, *function, x, y);
                rec.kernel(activation_f32::SPEC.name, 0, work)
            }
            Self::Binary { kind, relu } => {
                let work =
                    |rec: &mut Recorder<'_>| binary_f32::dispatch(rec, images, *kind, *relu, inputs[0], inputs[1], y);
                rec.kernel(binary_f32::SPEC.name, 0, work)
            }
            Self::Pool(pool) => {
                let (shape, x) = inputs[0];
                let work = |rec: &mut Recorder<'_>| pool_f32::dispatch(rec, images, shape, pool, x, y);
                rec.kernel(pool_f32::SPEC.name, 0, work)
            }
            Self::Rearrange(places) => {
                let work = |rec: &mut Recorder<'_>| gather_f32::dispatch(rec, images, places, inputs[0].1, y);
                rec.kernel(gather_f32::SPEC.name, 0, work)
            }
            Self::Concat(axis) => {
                let shapes: Vec<Shape> = inputs.iter().map(|(shape, _)| *shape).collect();
                let Some(whole) = joined(&shapes, *axis) else {
                    return Err(Error::bad("the inputs of a concat do not go together"));
                };
                let mut first = 0;
                for &(shape, x) in inputs {
                    let place = (*axis, first);
                    let work = |rec: &mut Recorder<'_>| concat_f32::dispatch(rec, images, shape, place, whole, x, y);
                    rec.kernel(concat_f32::SPEC.name, 0, work)?;
                    first += axis.of(shape);
                }
                Ok(())
            }
            Self::Resize(taps) => {
                let work = |rec: &mut Recorder<'_>| resize_f32::dispatch(rec, images, taps, inputs[0].1, y);
                rec.kernel(resize_f32::SPEC.name, 0, work)
            }
            Self::Softmax(axis) => {
                let (shape, x) = inputs[0];
                let work = |rec: &mut Recorder<'_>| softmax_f32::dispatch(rec, images, shape, *axis, x, y);
                rec.kernel(softmax_f32::SPEC.name, 0, work)
            }
            Self::Constant { values, places } => {
                let work = |rec: &mut Recorder<'_>| gather_f32::dispatch(rec, images, places, values, y);
                rec.kernel(gather_f32::SPEC.name, 0, work)
            }
        }
    }
}

impl Convolution {
    fn new(device: &Device, conv: &Conv, relu: bool) -> Result<Self> {
        let weights = if conv.is_depthwise() {
            Weights::Depthwise(depthwise_f32::Weights::new(device, conv)?)
        } else {
            Weights::Dense(conv_f32::Weights::new(device, conv)?)
        };
        Ok(Self {
            weights,
            out_channels: conv.out_channels(),
            kernel: conv.kernel(),
            stride: conv.stride,
            padding: conv.padding,
            relu,
        })
    }

    /// A fully connected layer is a 1×1 convolution of a 1×1 image.
    fn from_linear(device: &Device, linear: &Linear) -> Result<Self> {
        let (o, i) = linear.weight.dim();
        let weight = linear
            .weight
            .clone()
            .into_shape_with_order((o, i, 1, 1))
            .map_err(|e| Error::bad("the classifier's weights are not stored in order").because(e))?;
        let conv = Conv { weight, bias: linear.bias.clone(), stride: [1, 1], padding: [0, 0], groups: 1 };
        Self::new(device, &conv, false)
    }

    /// Records the convolution, and the update of a row of states with the range of y.
    pub(super) fn record(
        &self,
        rec: &mut Recorder<'_>,
        images: usize,
        (shape, x): (Shape, &Buffer),
        y: &Buffer,
        range: Option<Row<'_>>,
    ) -> Result<()> {
        let epilogue = Epilogue { relu: self.relu, range };
        let geometry =
            |groups| Geometry::new(images, shape, self.out_channels, self.kernel, self.stride, self.padding, groups);
        match &self.weights {
            Weights::Dense(w) => {
                let g = geometry(w.groups());
                let work = |rec: &mut Recorder<'_>| conv_f32::dispatch(rec, &g, epilogue, x, w, y);
                rec.kernel(conv_f32::SPEC.name, g.multiplications(), work)
            }
            Weights::Depthwise(w) => {
                let g = geometry(w.groups());
                let work = |rec: &mut Recorder<'_>| depthwise_f32::dispatch(rec, &g, epilogue, x, w, y);
                rec.kernel(depthwise_f32::SPEC.name, g.multiplications(), work)
            }
        }
    }
}
