//! A quantized network.

use std::path::Path;

use super::network::{Network, batch_outputs};
use super::{Classes, Images};
use crate::Result;
use crate::device::Device;
use crate::exec::{self, Int8Net, Keep};
use crate::export::onnx::{self, Format, InputForm};
use crate::export::safetensors;
use crate::files::{OnnxFile, OutputFile};
use crate::model::{Decode, Op, Preprocessing, QuantizedGraph};
use crate::report::{LayerRow, NetworkOutput, layer_rows};

/// A quantized network: int8 weights, integer multipliers and tables. On every device it gives the
/// same bits.
///
/// ```no_run
/// use repquant::{Device, Images, Quantized, options::Format};
///
/// # fn main() -> repquant::Result<()> {
/// let network = Quantized::load("repvgg-int8.safetensors")?;
/// network.save_onnx("repvgg-int8.onnx", Format::Qdq, Default::default())?;
/// for batch in network.run(&Device::cpu(), Images::folder("pictures/")?)? {
///     // The logits: images × classes.
///     println!("{}", batch?[0]);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Quantized {
    pub(super) graph: QuantizedGraph,
    /// The bits of weights and activations that were asked for, where that is known.
    pub(super) asked: Option<[u8; 2]>,
    pub(super) decisions: Vec<String>,
}

impl Quantized {
    /// Reads a file of [`Quantized::save`] and checks everything that its integer arithmetic relies
    /// on.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) where it cannot be read, is of another kind or
    /// contradicts itself.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let _span = tracing::info_span!("stage", name = "load").entered();
        Ok(Self { graph: safetensors::read(path.as_ref())?, asked: None, decisions: Vec::new() })
    }

    /// As [`Quantized::load`], from memory.
    ///
    /// # Errors
    /// As [`Quantized::load`]; the place is the caller's to add.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Ok(Self { graph: safetensors::from_bytes(bytes)?, asked: None, decisions: Vec::new() })
    }

    /// The bytes of a safetensors file; the same network gives the same bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) where names clash.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        safetensors::to_bytes(&self.graph)
    }

    /// Writes [`Quantized::to_safetensors`] to a file, which is replaced if it exists.
    ///
    /// # Errors
    /// Those of [`Quantized::to_safetensors`], or a file that cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        OutputFile::replace(path.as_ref())?.write(&self.to_safetensors()?)
    }

    /// The network as an ONNX file: between `QuantizeLinear` and `DequantizeLinear`, as runtimes
    /// expect it, or in the very integers of this crate's kernels.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) where names clash, sums do not fit what ONNX
    /// has, or the file would exceed 2 GiB.
    pub fn to_onnx(&self, format: Format, input: InputForm) -> Result<OnnxFile> {
        onnx::quantized(&self.graph, format, input)
    }

    /// Writes [`Quantized::to_onnx`] to a file, which is replaced if it exists.
    ///
    /// # Errors
    /// Those of [`Quantized::to_onnx`], or a file that cannot be written.
    pub fn save_onnx(&self, path: impl AsRef<Path>, format: Format, input: InputForm) -> Result<()> {
        OutputFile::replace(path.as_ref())?.write(&self.to_onnx(format, input)?.bytes)
    }

    /// Its name, that of the float network.
    pub fn name(&self) -> &str {
        &self.graph.name
    }

    /// How an image becomes the input.
    pub fn input(&self) -> &Preprocessing {
        &self.graph.input
    }

    /// The same network for images that are decoded in this way.
    #[must_use]
    pub fn with_decode(mut self, decode: Decode) -> Self {
        self.graph.input.decode = decode;
        self
    }

    /// The same network with these names for its classes, in the order of the logits.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) where it is no classifier or has another number
    /// of classes, or two names are the same.
    pub fn with_classes(mut self, names: Vec<String>) -> Result<Self> {
        Classes::check(&self.graph.outputs, &names)?;
        self.graph.classes = Some(names);
        Ok(self)
    }

    /// The classes that it tells apart; none where it is no classifier.
    pub fn classes(&self) -> Option<Classes> {
        Classes::of(&self.graph.outputs, self.graph.classes.as_deref())
    }

    /// What it gives.
    pub fn outputs(&self) -> Vec<NetworkOutput> {
        self.graph.outputs.iter().map(NetworkOutput::of).collect()
    }

    /// Its layers, with what was done to each and why.
    pub fn layers(&self) -> Vec<LayerRow> {
        layer_rows(&self.graph, None)
    }

    /// Bits of the weights and of the activations: those asked for, or where that is not known, as
    /// most layers have them.
    pub fn bits(&self) -> [u8; 2] {
        self.asked.unwrap_or_else(|| usual_bits(&self.graph))
    }

    /// What was left open and how it was decided, a sentence each; empty for a network from a file.
    pub fn decisions(&self) -> &[String] {
        &self.decisions
    }

    /// Bytes of all weights, scales and biases, each at its width in bits.
    pub fn weight_bytes(&self) -> u64 {
        self.graph.weight_bytes()
    }

    /// Multiplications for one image: those of the unsplit network, and those that the split adds.
    pub fn macs(&self) -> (u64, u64) {
        self.graph.macs()
    }

    /// The options it was made with, for the record.
    pub fn options(&self) -> &serde_json::Value {
        &self.graph.options
    }

    /// A summary of the calibration (images, method), for the record.
    pub fn calibration(&self) -> &serde_json::Value {
        &self.graph.calibration
    }

    /// Runs it on a device, in integers: for each batch of images, an array for each output, images
    /// × the output's sides. Levels and sums become real values at the end, in f64.
    ///
    /// # Errors
    /// Where the device has no memory; each batch in turn, where it cannot be read or the device
    /// failed.
    pub fn run<'d>(
        &self,
        device: &'d Device,
        images: Images<'d>,
    ) -> Result<impl Iterator<Item = Result<Vec<ndarray::ArrayD<f64>>>> + use<'d>> {
        let batch_size = images.batch_size_for(|| exec::int8_batch_size(device, &self.graph))?;
        let net = Int8Net::new(device, &self.graph, batch_size, Keep::Last)?;
        Ok(batch_outputs(Network::Int8(device, net), images.feed(&self.graph.input, batch_size), self.outputs()))
    }
}

/// Bit widths of the weights and activations, as most layers have them.
fn usual_bits(graph: &QuantizedGraph) -> [u8; 2] {
    let convs = graph.nodes.iter().filter_map(|n| match n.computed.as_integer()?.op() {
        Op::Conv(c) => Some(c.bits),
        _ => None,
    });
    let count = |bits: &[u8], b: u8| bits.iter().map(|&x| usize::from(x == b)).sum::<usize>();
    let most = |bits: Vec<u8>| (2..=8).max_by_key(|&b| count(&bits, b)).unwrap_or(8);
    let activations = graph.nodes.iter().skip(1).filter_map(|n| n.output).map(|q| (q.qmax + 1).ilog2() as u8 + 1);
    [most(convs.collect()), most(activations.collect())]
}
