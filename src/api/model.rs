//! A float network.

use std::path::{Path, PathBuf};

use super::network::{Network, batch_outputs};
use super::{Classes, Images};
use crate::device::Device;
use crate::exec::{FloatNet, Keep};
use crate::export::float;
use crate::export::onnx::{self, InputForm};
use crate::files::{OnnxFile, OutputFile};
use crate::load::{self, Description, LoadOptions};
use crate::model::{Decode, Graph, Preprocessing};
use crate::report::{FloatLayer, NetworkOutput, NoteRow, float_layers, note_rows};
use crate::{Result, fuse};

/// A float network, its branches fused: plain convolutions and what lies between them.
///
/// It is read from a checkpoint (safetensors, or what `torch.save` writes, with the keys of the
/// original repositories, timm or mmpretrain, in training form or fused) or from an ONNX file. A checkpoint does not say
/// everything; what it leaves open is in a description file beside it, in timm's `config.json`, or
/// follows from the name of a published architecture ([`LoadOptions`]).
///
/// ```no_run
/// use repquant::{Model, options::LoadOptions};
///
/// # fn main() -> repquant::Result<()> {
/// let options = LoadOptions { arch: Some("repvgg-a1".into()), ..LoadOptions::default() };
/// let model = Model::load_with("RepVGG-A1-train.safetensors", &options)?;
/// println!("{}: {} parameters, {} layers", model.name(), model.parameters(), model.layers().len());
/// model.save_onnx("RepVGG-A1.onnx", Default::default())?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Model {
    pub(super) graph: Graph,
}

impl Model {
    /// Reads an ONNX file (`.onnx`), a checkpoint (`.safetensors`, one of `torch.save`, or the index
    /// of shards) or a folder with `model.safetensors` and timm's `config.json`.
    ///
    /// # Errors
    /// As [`Model::load_with`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::load_with(path, &LoadOptions::default())
    }

    /// As [`Model::load`], with what `options` say in place of the file's description.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for options that contradict each other;
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) where a file is missing or broken, a tensor is
    /// missing, left over or of a wrong shape, an operator is not supported, or the description
    /// contradicts the network.
    pub fn load_with(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self> {
        let _span = tracing::info_span!("stage", name = "load").entered();
        Ok(Self { graph: fuse::read(path.as_ref(), options)? })
    }

    /// From a checkpoint in memory: the bytes of a safetensors file, and the JSON of a description
    /// file (none: the checkpoint was written by [`Model::save`] and describes itself).
    ///
    /// # Errors
    /// As [`Model::load_with`], with `name` as the place.
    pub fn from_checkpoint(name: &str, bytes: &[u8], description: Option<&str>) -> Result<Self> {
        let net = match description {
            Some(json) => {
                load::read_checkpoint_bytes(name, bytes, &Description::from_json(json).map_err(|e| e.at(name))?)?
            }
            None => load::from_own_bytes(name, bytes)?,
        };
        fuse::loaded(net).map(|graph| Self { graph }).map_err(|e| e.at(name))
    }

    /// From the bytes of an ONNX file; all its constants must be in it.
    ///
    /// # Errors
    /// As [`Model::load_with`], with `name` as the place.
    pub fn from_onnx(name: &str, bytes: &[u8]) -> Result<Self> {
        let graph = load::onnx::read_bytes(name, bytes)?;
        fuse::merge(graph).map(|graph| Self { graph }).map_err(|e| e.at(name))
    }

    /// The files that [`Model::load_with`] may read for these arguments: an output must not replace
    /// one of them.
    pub fn files(path: impl AsRef<Path>, options: &LoadOptions) -> Vec<PathBuf> {
        load::input_files(path.as_ref(), options)
    }

    /// Its name: the file's stem, the architecture, or what the file says.
    pub fn name(&self) -> &str {
        &self.graph.name
    }

    /// How an image becomes the input.
    pub fn input(&self) -> &Preprocessing {
        &self.graph.input
    }

    /// The same network for images that are decoded in this way. The statistics record it: one way
    /// must serve throughout, from calibration to evaluation.
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

    /// Its layers, with shapes, sizes and what was merged into each.
    pub fn layers(&self) -> Vec<FloatLayer> {
        float_layers(&self.graph)
    }

    /// What was decided about layers beyond merging: branches that stay, operations that others
    /// stand in for, what nothing says.
    pub fn notes(&self) -> Vec<NoteRow> {
        note_rows(&self.graph)
    }

    /// Number of weights and biases, fused.
    pub fn parameters(&self) -> u64 {
        self.graph.parameters()
    }

    /// Multiplications for one image.
    pub fn macs(&self) -> u64 {
        self.graph.macs()
    }

    /// Runs it on a device: for each batch of images, an array for each output, images × the
    /// output's sides.
    ///
    /// # Errors
    /// Where the device has no memory; each batch in turn, where it cannot be read or the device
    /// failed.
    pub fn run<'d>(
        &self,
        device: &'d Device,
        images: Images<'d>,
    ) -> Result<impl Iterator<Item = Result<Vec<ndarray::ArrayD<f64>>>> + use<'d>> {
        let batch_size = images.batch_size_for(|| crate::exec::batch_size(device, &self.graph))?;
        let net = FloatNet::new(device, &self.graph, batch_size, Keep::Last)?;
        Ok(batch_outputs(Network::Float(device, net), images.feed(&self.graph.input, batch_size), self.outputs()))
    }

    /// The bytes of a safetensors file that [`Model::load`] reads with nothing beside it; the same
    /// network gives the same bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) where the network is not a chain of
    /// convolutions with pooling and a classifier at its end: others are written as ONNX.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        float::fused_bytes(&self.graph)
    }

    /// Writes [`Model::to_safetensors`] to a file, which is replaced if it exists.
    ///
    /// # Errors
    /// Those of [`Model::to_safetensors`], or a file that cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        OutputFile::replace(path.as_ref())?.write(&self.to_safetensors()?)
    }

    /// The network as an ONNX file that every runtime reads.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) where names clash or the file would exceed 2
    /// GiB.
    pub fn to_onnx(&self, input: InputForm) -> Result<OnnxFile> {
        onnx::float(&self.graph, input)
    }

    /// Writes [`Model::to_onnx`] to a file, which is replaced if it exists.
    ///
    /// # Errors
    /// Those of [`Model::to_onnx`], or a file that cannot be written.
    pub fn save_onnx(&self, path: impl AsRef<Path>, input: InputForm) -> Result<()> {
        OutputFile::replace(path.as_ref())?.write(&self.to_onnx(input)?.bytes)
    }
}
