//! What the tests, benches and fuzz targets need from inside: the stages behind the front door,
//! name by name, and single kernels with memory for them. It is no part of the interface and
//! changes without notice.
//!
//! Nothing here goes around a check: a kernel is run as this crate runs it, after its arguments and
//! buffers were looked at, and a network is checked when it is made ready for a device.

pub use crate::device::{Buffer, Recorder};
pub use crate::kernels::OutputLevels;
pub use crate::kernels::binary::binary_i8::{BinaryI8, Levels};
pub use crate::kernels::concat::concat_i8::{ConcatI8, Mapping};
pub use crate::kernels::conv::float::{ConvF32, Epilogue, Weights as WeightsF32};
pub use crate::kernels::conv::int8::{ConvI8, Weights as WeightsI8};
pub use crate::kernels::convert::dequantize::Dequantize;
pub use crate::kernels::convert::dequantize_acc::{DequantizeAcc, Factors};
pub use crate::kernels::convert::normalize::{Normalize, table as float_table};
pub use crate::kernels::convert::quantize_activation::QuantizeActivation;
pub use crate::kernels::convert::quantize_input::{QuantizeInput, table as int8_table};
pub use crate::kernels::function::lookup_i8::{Entries, LookupI8};
pub use crate::kernels::patches::gather_patches::GatherPatches;
pub use crate::kernels::patches::second_moments::SecondMoments;
pub use crate::kernels::patches::{Matrix, Patches};
pub use crate::kernels::peaks::copy::CopyQuads;
pub use crate::kernels::peaks::dot::Dot;
pub use crate::kernels::peaks::multiply_add::MultiplyAdd;
pub use crate::kernels::pool::global_pool_f32::{GlobalPoolF32, Of as FloatOf};
pub use crate::kernels::pool::global_pool_i8::{GlobalPoolI8, Of as LevelOf};
pub use crate::kernels::pool::pool_i8::{PoolI8, Windows};
pub use crate::kernels::rearrange::gather_i8::{GatherI8, Order};
pub use crate::kernels::statistics::coarsen::Coarsen;
pub use crate::kernels::statistics::error_sums::{ErrorSums, SUM_WORDS};
pub use crate::kernels::statistics::histogram::Histogram;
pub use crate::kernels::statistics::magnitudes::{CLASSES, Magnitudes};
pub use crate::kernels::statistics::range::Range;
pub use crate::kernels::statistics::{COUNT_WORDS, Extent, Row, State};
pub use crate::random::Random;

use crate::Result;
use crate::device::{Device, Kernel};

/// A kernel that can be run on its own.
pub trait Run {
    /// Checks the kernel and runs it, or records it where `rec` is an adapter's.
    ///
    /// # Errors
    /// As the crate's own runs: arguments or buffers that do not suit, naming the kernel, or a
    /// device that failed.
    fn run(&self, rec: &mut Recorder<'_>) -> Result<()>;
}

impl<K: Kernel> Run for K {
    fn run(&self, rec: &mut Recorder<'_>) -> Result<()> {
        rec.run(self)
    }
}

/// The name of every shader, as profiles have it.
pub fn kernel_names() -> impl Iterator<Item = &'static str> {
    crate::kernels::ALL.iter().map(|entry| entry.shader.name())
}

/// A zeroed buffer of `words` 32-bit words.
///
/// # Errors
/// If it is larger than the adapter's limit, or memory ran out.
pub fn alloc(device: &Device, words: usize) -> Result<Buffer> {
    device.alloc(words, "bench")
}

/// A buffer that holds `words`.
///
/// # Errors
/// As [`alloc`].
pub fn upload(device: &Device, words: &[u32]) -> Result<Buffer> {
    device.upload(words, "bench")
}

/// Overwrites the first words of a buffer, before any work submitted later.
///
/// # Errors
/// If `words` is longer than the buffer, or the buffer is one of another device.
pub fn write(device: &Device, buffer: &Buffer, words: &[u32]) -> Result<()> {
    device.write(buffer, words)
}

/// Networks as graphs.
pub mod model {
    pub use crate::model::{
        Activation, Along, Axis, Binary, Cell, Coarse, CoarseScale, Color, Computed, Constants, Conv, Coordinates,
        Decode, Direction, Fit, Function, Graph, GraphOutput, Interpolation, Multiplier, Node, NodeId, NoteKind, Op,
        Operand, Operator, Pool, PoolKind, Preprocessing, QBinary, QConv, QNode, QParams, QuantizedGraph, Rearrange,
        RearrangeKind, Recurrent, Reduce, ReduceKind, Resize, Shape, SplitReport, Standardize, Step, Support, Table,
        Weights, conv_output,
    };
}

/// Reading checkpoints and ONNX files.
pub mod load {
    pub use crate::load::{
        Branch, Description, Family, InputDescription, InputOverrides, LoadOptions, TrainedNet, architecture_names,
        from_bytes, load,
    };

    /// ONNX files.
    pub mod onnx {
        pub use crate::load::onnx::{read, read_bytes};
    }
}

/// Fusing branches.
pub mod fuse {
    pub use crate::fuse::{fuse, merge, read};
}

/// Reading images.
pub mod images {
    pub use crate::images::{
        Batch, BatchOptions, Batches, Content, Dataset, Decoded, Found, Item, RgbImage, decode, preprocess,
        preprocess_decoded,
    };
}

/// Running networks.
pub mod exec {
    pub use crate::exec::{FloatNet, Int8Net, Keep, batch_size};
}

/// Statistics of activations.
pub mod calibrate {
    pub use crate::calibrate::{ActivationStats, BINS, Calibration, POWER_BINS, calibrate};

    /// Their file.
    pub mod stats_file {
        pub use crate::calibrate::stats_file::{read, to_bytes};
    }
}

/// Ranges of activations.
pub mod threshold {
    pub use crate::threshold::{ActivationMode, ActivationRange, ActivationRanges, Method, RangeOptions, choose};
}

/// Splits and integer weights.
pub mod quantize {
    pub use crate::quantize::{
        ACTIVATION_MEMORY, Aligned, CalibrationImages, ChannelEqualization, Equalized, Granularity, LANES, LayerChoice,
        LayerSplit, QuantizeOptions, RATIOS, Rounding, SplitMode, dequantize, equalize, published, published_scales,
        qmax, quantize, quantize_on, ratio, search,
    };
}

/// Accuracy and fidelity.
pub mod evaluate {
    pub use crate::evaluate::{Contender, Fidelity, evaluate};
}

/// What quantizing each layer alone costs.
pub mod analyze {
    use crate::Result;
    use crate::analyze::{Sources, analyze};
    use crate::calibrate::Calibration;
    use crate::device::Device;
    use crate::images::Batch;
    use crate::model::{Graph, QuantizedGraph};
    use crate::progress::Progress;
    use crate::quantize::QuantizeOptions;
    use crate::report::{LayerCost, layer_costs};
    use crate::threshold::RangeOptions;

    /// One row for each layer, the one that costs most first; `made` is what `quantized` was made of
    /// and with.
    ///
    /// # Errors
    /// As [`Analysis::of`](crate::Analysis::of).
    pub fn costs(
        device: &Device,
        graph: &Graph,
        quantized: &QuantizedGraph,
        (options, ranges, calibration): (&QuantizeOptions, &RangeOptions, &Calibration),
        batches: &[Batch],
        progress: &dyn Progress,
    ) -> Result<Vec<LayerCost>> {
        let sources = Sources::new(graph, quantized, calibration, options, ranges, &calibration.model_digest)?;
        let most = batches.iter().map(|batch| batch.count).max().unwrap_or(0);
        let layers = analyze(device, &sources, batches, most, progress)?;
        Ok(layer_costs(graph, quantized, ranges, &layers))
    }
}

/// Files that are written.
pub mod export {
    pub use crate::export::{FileKind, kind};

    /// Fused float networks.
    pub mod float {
        pub use crate::export::float::fused_bytes;
    }

    /// ONNX files.
    pub mod onnx {
        pub use crate::export::onnx::{Format, InputForm, OnnxFile, float, quantized};
    }

    /// Quantized networks.
    pub mod safetensors {
        pub use crate::export::safetensors::{from_bytes, read, to_bytes};
    }
}
