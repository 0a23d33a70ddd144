//! A node of a network prepared for a device: its layer, and in a quantized network what makes its
//! inputs real before an operation in f32, and its result levels after it.

use super::encoding::Encoding;
use super::layer::Layer;
use crate::Result;
use crate::device::{Buffer, Device, Recorder};
use crate::kernels::convert::dequantize::Dequantize;
use crate::kernels::convert::dequantize_acc::{DequantizeAcc, Factors};
use crate::kernels::convert::quantize_activation::QuantizeActivation;
use crate::kernels::statistics::Row;
use crate::model::{QParams, Shape};

/// A layer, alone or between conversions.
pub(super) struct Step {
    layer: Layer,
    conversions: Option<Conversions>,
}

/// What stands around an operation in f32 of a quantized network.
struct Conversions {
    inputs: Vec<ToFloat>,
    /// None: the result stays f32.
    output: Option<QParams>,
}

/// How an input becomes f32.
enum ToFloat {
    Levels(QParams),
    Accumulators { factors: Factors, relu: bool },
    AsItIs,
}

impl Step {
    /// A layer that reads and gives what lies in the network's buffers.
    pub(super) fn plain(layer: Layer) -> Self {
        Self { layer, conversions: None }
    }

    /// A layer in f32 whose inputs are stored so, and whose result is stored as levels where there
    /// is an `output`.
    ///
    /// # Errors
    /// If the device has no memory left.
    pub(super) fn converting(
        device: &Device,
        layer: Layer,
        inputs: &[&Encoding],
        output: Option<QParams>,
    ) -> Result<Self> {
        let inputs = inputs.iter().map(|encoding| ToFloat::new(device, encoding)).collect::<Result<_>>()?;
        Ok(Self { layer, conversions: Some(Conversions { inputs, output }) })
    }

    /// Shape of the result.
    pub(super) fn shape(&self) -> Shape {
        self.layer.shape()
    }

    /// Whether the result is the input, word by word, and must lie in its buffer.
    pub(super) fn is_same(&self) -> bool {
        self.layer.is_same()
    }

    /// Records it for a batch of `images`; `scratch` is that of
    /// [`scratch_words`](super::plan::scratch_words), and a row of states is updated with the range
    /// of a result in f32.
    ///
    /// # Errors
    /// If the device failed.
    pub(super) fn record(
        &self,
        rec: &mut Recorder<'_>,
        images: usize,
        x: &[&Buffer],
        y: &Buffer,
        scratch: &[Buffer],
        range: Option<Row<'_>>,
    ) -> Result<()> {
        let Some(Conversions { inputs, output }) = &self.conversions else {
            return self.layer.record(rec, images, x, y, range);
        };
        let mut floats = Vec::with_capacity(inputs.len());
        for (((how, shape), &x), scratch) in inputs.iter().zip(self.layer.inputs()).zip(x).zip(&scratch[1..]) {
            floats.push(how.record(rec, images, *shape, x, scratch)?);
        }
        // The network's input reads pixels.
        let floats = if inputs.is_empty() { x } else { &floats };
        let result = if output.is_some() { &scratch[0] } else { y };
        self.layer.record(rec, images, floats, result, range)?;
        let Some(q) = output else { return Ok(()) };
        let Shape { channels, .. } = self.shape();
        rec.run(&QuantizeActivation { pixels: images * self.shape().pixels(), channels, q, x: result, y })
    }
}

impl ToFloat {
    fn new(device: &Device, encoding: &Encoding) -> Result<Self> {
        Ok(match encoding {
            Encoding::Levels(q) => Self::Levels(*q),
            Encoding::Accumulators { factors, relu } => {
                Self::Accumulators { factors: Factors::new(device, factors)?, relu: *relu }
            }
            Encoding::Float => Self::AsItIs,
        })
    }

    /// Makes an input f32, in `scratch` where it is not; gives the buffer that has it.
    fn record<'a>(
        &self,
        rec: &mut Recorder<'_>,
        images: usize,
        shape: Shape,
        x: &'a Buffer,
        scratch: &'a Buffer,
    ) -> Result<&'a Buffer> {
        let pixels = images * shape.pixels();
        match self {
            Self::AsItIs => return Ok(x),
            Self::Levels(QParams { scale, zero_point, .. }) => {
                let (channels, scale, zero_point) = (shape.channels, *scale, *zero_point);
                rec.run(&Dequantize { pixels, channels, scale, zero_point, x, y: scratch })?;
            }
            Self::Accumulators { factors, relu } => {
                rec.run(&DequantizeAcc { pixels, factors, relu: *relu, x, y: scratch })?;
            }
        }
        Ok(scratch)
    }
}
