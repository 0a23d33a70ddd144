//! An operation of the float network, or one that a quantized network computes in f32.

use super::float::FloatConv;
use crate::gpu::{Buffer, Device, Recorder};
use crate::kernels::pool_f32;
use crate::model::{Op, Shape};
use crate::{Error, Result};

/// An operation in f32, prepared for a device.
pub(super) enum RealLayer {
    Conv(FloatConv),
    GlobalAveragePool,
}

impl RealLayer {
    /// Uploads what it needs. The sizes are for operations whose preparation depends on them.
    pub(super) fn new(device: &Device, op: &Op, relu: bool, _inputs: &[Shape], _max_images: usize) -> Result<Self> {
        match op {
            Op::Conv(conv) => FloatConv::new(device, conv, relu).map(Self::Conv),
            Op::Linear(linear) => FloatConv::from_linear(device, linear).map(Self::Conv),
            Op::GlobalAveragePool => Ok(Self::GlobalAveragePool),
            op => Err(Error::bad(format!("{} cannot be kept in float", op.kind()))),
        }
    }

    /// Records it for a batch of `images`.
    pub(super) fn record(
        &self,
        rec: &mut Recorder<'_>,
        images: usize,
        inputs: &[(Shape, &Buffer)],
        y: &Buffer,
    ) -> Result<()> {
        let &[(shape, x)] = inputs else { return Err(Error::bad("an operation of one input has another number")) };
        match self {
            Self::Conv(conv) => conv.record(rec, images, shape, x, y),
            Self::GlobalAveragePool => {
                rec.kernel(pool_f32::SPEC.name, 0, |rec| pool_f32::dispatch(rec, images, shape, x, y))
            }
        }
    }
}
