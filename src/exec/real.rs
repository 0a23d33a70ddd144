//! Operations in f32, prepared for a device: the steps of a float network, and the float islands of a quantized one.

use crate::gpu::{Buffer, Device, Recorder};
use crate::kernels::{Geometry, conv_f32, depthwise_f32, pool_f32};
use crate::model::{Conv, Linear, Op, Shape};
use crate::{Error, Result};

/// An operation in f32, prepared for a device.
pub(super) enum RealLayer {
    Conv(Convolution),
    GlobalAveragePool,
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
    /// Lays out what `op` needs for inputs of these shapes and batches of up to `max_images`; `relu` follows.
    ///
    /// # Errors
    /// If the device has no memory left, or the operation is the input.
    pub(super) fn new(device: &Device, op: &Op, relu: bool, inputs: &[Shape], max_images: usize) -> Result<Self> {
        let _ = (inputs, max_images);
        match op {
            Op::Conv(conv) => Convolution::new(device, conv, relu).map(Self::Conv),
            Op::Linear(linear) => Convolution::from_linear(device, linear).map(Self::Conv),
            Op::GlobalAveragePool => Ok(Self::GlobalAveragePool),
            op => Err(Error::bad(format!("{} cannot be run", op.kind()))),
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
            Self::Conv(conv) => conv.record(rec, images, inputs[0].0, inputs[0].1, y),
            Self::GlobalAveragePool => {
                let (shape, x) = inputs[0];
                rec.kernel(pool_f32::SPEC.name, 0, |rec| pool_f32::dispatch(rec, images, shape, x, y))
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

    fn record(&self, rec: &mut Recorder<'_>, images: usize, shape: Shape, x: &Buffer, y: &Buffer) -> Result<()> {
        let geometry =
            |groups| Geometry::new(images, shape, self.out_channels, self.kernel, self.stride, self.padding, groups);
        match &self.weights {
            Weights::Dense(w) => {
                let g = geometry(w.groups());
                let work = |rec: &mut Recorder<'_>| conv_f32::dispatch(rec, &g, self.relu, x, w, y);
                rec.kernel(conv_f32::SPEC.name, g.multiplications(), work)
            }
            Weights::Depthwise(w) => {
                let g = geometry(w.groups());
                let work = |rec: &mut Recorder<'_>| depthwise_f32::dispatch(rec, &g, self.relu, x, w, y);
                rec.kernel(depthwise_f32::SPEC.name, g.multiplications(), work)
            }
        }
    }
}
