//! From a checkpoint and its description to a [`TrainedNet`]; [`onnx`] reads any network, straight
//! to a graph.
//!
//! The checkpoint is safetensors, in one file or shards, or what `torch.save` writes, in f32, f16,
//! bf16 or f64, with the keys of the original repositories, timm or mmpretrain, multi-branch or fused
//! already. Layers are named as in the original
//! repositories whatever the keys are.

mod arch;
mod checkpoint;
mod description;
mod input;
mod input_file;
mod layout;
mod located;
mod modules;
mod naming;
pub(crate) mod onnx;
mod overrides;
mod preset;
mod source;
mod tensors;
mod timm_config;
mod torch;

use std::path::PathBuf;

use ndarray::{Array1, Array4};

use crate::model::{Conv, Graph, Preprocessing, Shape};
use crate::{Error, Result};

pub use arch::architecture_names;
pub(crate) use description::{DEFAULT_BN_EPS, check_classes};
pub use description::{Description, Family};
pub use input::{Crop, InputDescription};
pub(crate) use located::is_other_checkpoint;
pub use overrides::InputOverrides;
pub use preset::Preset;
pub(crate) use source::{FLOAT_VERSION, FloatMetadata};
pub use source::{from_bytes, load};
pub(crate) use source::{from_own_bytes, input_files, read_checkpoint, read_checkpoint_bytes};
pub(crate) use torch::HEAD;

/// What a checkpoint was read to.
#[derive(Debug, Clone)]
pub(crate) enum Loaded {
    /// A chain of blocks, to be fused.
    Blocks(TrainedNet),
    /// Any other network; its branches are to be merged.
    Modules {
        graph: Graph,
        /// What tells it from others of its family.
        stages: Vec<[usize; 3]>,
    },
}

impl Loaded {
    /// The chain of blocks.
    ///
    /// # Errors
    /// Any other network.
    fn into_blocks(self) -> Result<TrainedNet> {
        match self {
            Self::Blocks(net) => Ok(net),
            Self::Modules { .. } => Err(Error::bad("is no chain of blocks")),
        }
    }
}

/// A network as it was trained: multi-branch blocks with batch norm, then global average pooling
/// and a classifier.
#[derive(Debug, Clone)]
pub struct TrainedNet {
    /// Name of the model: the file's stem, or the architecture.
    pub name: String,
    /// How an image becomes the input.
    pub input: Preprocessing,
    /// Class names in the order of the logits, where the description has them.
    pub classes: Option<Vec<String>>,
    /// Shape of the network input.
    pub input_shape: Shape,
    /// The blocks, in order; each ends in a `ReLU`.
    pub blocks: Vec<Block>,
    /// The classifier after global average pooling, a 1×1 kernel.
    pub classifier: Conv,
    /// Name of the classifier in the checkpoint (`linear`, `head.fc` …).
    pub classifier_name: String,
    /// What was assumed of the checkpoint.
    pub notes: Vec<String>,
}

/// One block: branches that are added, a batch norm of the sum or squeeze-and-excitation where it has
/// them, then a `ReLU`.
#[derive(Debug, Clone)]
pub struct Block {
    /// Name of the layer, scheme-independent where possible, e.g. `stage1.0`.
    pub name: String,
    /// Input channels.
    pub in_channels: usize,
    /// Output channels.
    pub out_channels: usize,
    /// Side of the fused (largest) kernel.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Zero padding of the fused kernel, `kernel / 2`.
    pub padding: usize,
    /// Groups.
    pub groups: usize,
    /// The parallel branches; at least one.
    pub branches: Vec<Branch>,
    /// The batch norm of their sum (`QARepVGG`, arXiv 2212.01593).
    pub norm: Option<BatchNorm>,
    /// What weighs the channels of the sum (`RepVGG`-D2se, `MobileOne`-S4).
    pub squeeze: Option<Squeeze>,
}

/// Squeeze-and-excitation (arXiv 1709.01507): the channels' means through two 1×1 convolutions, with
/// a `ReLU` between and a sigmoid at the end, are a factor for each channel.
#[derive(Debug, Clone)]
pub struct Squeeze {
    /// From C channels to fewer.
    pub reduce: Conv,
    /// And back to C.
    pub expand: Conv,
}

/// One branch of a block.
#[derive(Debug, Clone)]
pub enum Branch {
    /// A convolution, its own bias if it has one, and the batch norm after it (none in a fused
    /// checkpoint).
    Conv {
        /// `O × I/groups × k × k`, k odd and at most the block's.
        weight: Array4<f32>,
        /// `O`.
        bias: Option<Array1<f32>>,
        /// The batch norm that follows.
        norm: Option<BatchNorm>,
    },
    /// Batch norm of the input alone (the identity branch).
    Identity(BatchNorm),
    /// The input as it is.
    Input,
}

/// Batch norm in inference form: `y = γ·(x − μ)/sqrt(σ² + ε) + β`. All of length C.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    /// γ.
    pub weight: Array1<f32>,
    /// β.
    pub bias: Array1<f32>,
    /// μ.
    pub mean: Array1<f32>,
    /// σ².
    pub variance: Array1<f32>,
    /// ε.
    pub epsilon: f64,
}

/// Where the description comes from.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// A description file; default: `MODEL.json` beside `MODEL.safetensors` or `MODEL.onnx`, or
    /// `config.json` in the folder.
    pub describe: Option<PathBuf>,
    /// The name of a published architecture, e.g. `repvgg-a1`.
    pub arch: Option<String>,
    /// What takes the place of the description's preprocessing, field by field.
    pub input: InputOverrides,
}
