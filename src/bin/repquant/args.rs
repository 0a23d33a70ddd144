//! The command line, as clap sees it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use repquant::Model;
use repquant::options::{Backends, Decode, DeviceChoice, Format, InputForm, LoadOptions};

use super::input_args::InputArgs;
use super::method_args::MethodArgs;
use super::values::parse;

/// Post-training quantization for re-parameterized CNNs (RepVGG, MobileOne) on any GPU.
#[derive(Debug, Parser)]
#[command(
    name = "repquant",
    version,
    max_term_width = 110,
    after_help = "Example:\n  repquant quantize repvgg.safetensors --images calib/ --eval val/ -o repvgg-int8.safetensors\n\nExit codes: 0 done; 1 the check failed; 2 wrong use; 3 bad input file; 4 no usable device; 5 could not write."
)]
pub(super) struct Cli {
    /// Flags of every command.
    #[command(flatten, next_help_heading = "Printing")]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct Common {
    /// Print one JSON document on stdout and nothing else there
    #[arg(long, global = true)]
    pub json: bool,
    /// Print errors alone on stderr
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print the table of layers too
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Draw no progress bars
    #[arg(long, global = true)]
    pub no_progress: bool,
}

/// Flags of the commands that run something.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct DeviceArgs {
    /// Where to run: auto (a hardware GPU, else native code), cpu (native code), software (WGSL on
    /// lavapipe or the like), or an adapter's name or index
    #[arg(long, default_value = "auto", value_name = "DEVICE", value_parser = parse::<DeviceChoice>, help_heading = "Device")]
    pub device: DeviceChoice,
    /// The interface.
    #[command(flatten)]
    pub adapters: BackendArgs,
}

/// Which adapters there are.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct BackendArgs {
    /// Look only at adapters of this interface
    #[arg(long, value_enum, help_heading = "Device")]
    pub backend: Option<Backend>,
}

/// Graphics interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Backend {
    /// Vulkan
    Vulkan,
    /// Metal
    Metal,
    /// Direct3D 12
    Dx12,
    /// OpenGL (ES)
    Gl,
}

impl BackendArgs {
    /// The interfaces to look at.
    pub(super) fn backends(&self) -> Backends {
        match self.backend {
            None => Backends::All,
            Some(Backend::Vulkan) => Backends::Vulkan,
            Some(Backend::Metal) => Backends::Metal,
            Some(Backend::Dx12) => Backends::Dx12,
            Some(Backend::Gl) => Backends::Gl,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// The whole pipeline on an embedded network and images that the program draws
    #[command(after_help = "Example:\n  repquant demo")]
    Demo(DemoArgs),
    /// Calibrate, choose ranges, split and quantize; with --eval also compare float, unsplit and
    /// chosen
    #[command(
        override_usage = "repquant quantize [OPTIONS] <MODEL> <--images <DIR>|--stats <FILE>> --output <FILE>",
        after_help = "Example:\n  repquant quantize repvgg.safetensors --images calib/ --eval val/ -o repvgg-int8.safetensors"
    )]
    Quantize(QuantizeArgs),
    /// Collect histograms of the activations
    #[command(after_help = "Example:\n  repquant calibrate repvgg.safetensors --images calib/ -o stats.safetensors")]
    Calibrate(CalibrateArgs),
    /// Add histograms of several runs, exactly
    #[command(after_help = "Example:\n  repquant merge a.safetensors b.safetensors -o all.safetensors")]
    Merge(MergeArgs),
    /// Accuracy of a float or a quantized model
    #[command(
        after_help = "Example:\n  repquant evaluate repvgg-int8.safetensors --images val/ --baseline repvgg.safetensors"
    )]
    Evaluate(EvaluateArgs),
    /// What quantizing each layer alone costs, the worst first, and what would help
    #[command(after_help = "Example:\n  repquant analyze repvgg.safetensors --images calib/ --weight-bits 4")]
    Analyze(AnalyzeArgs),
    /// Fuse the branches and write the plain float network, as safetensors or ONNX
    #[command(
        after_help = "Examples:\n  repquant fuse repvgg.safetensors -o repvgg-fused.safetensors\n  repquant fuse repvgg.safetensors -o repvgg.onnx"
    )]
    Fuse(FuseArgs),
    /// Write a quantized model as ONNX
    #[command(
        after_help = "Examples:\n  repquant export repvgg-int8.safetensors -o repvgg-int8.onnx\n  repquant export repvgg-int8.safetensors -o repvgg-exact.onnx --format integer --input pixels"
    )]
    Export(ExportArgs),
    /// Blocks, shapes, cost, and how much wider each kernel's centre is than its neighbours
    #[command(after_help = "Example:\n  repquant inspect repvgg.safetensors")]
    Inspect(InspectArgs),
    /// The adapters of this machine, with the limits that matter here
    #[command(after_help = "Example:\n  repquant devices")]
    Devices(BackendArgs),
    /// Compare every kernel with its plain twin on each adapter
    #[command(after_help = "Example:\n  repquant verify")]
    Verify(DeviceArgs),
    /// Print shell completions
    #[command(
        after_help = "Example:\n  repquant completions bash > ~/.local/share/bash-completion/completions/repquant"
    )]
    Completions {
        /// The shell
        shell: Shell,
    },
}

impl Command {
    /// Where to run, of a command that does.
    pub(super) fn device(&self) -> DeviceArgs {
        match self {
            Self::Demo(args) => args.device.clone(),
            Self::Quantize(args) => args.device.clone(),
            Self::Calibrate(args) => args.device.clone(),
            Self::Evaluate(args) => args.device.clone(),
            Self::Analyze(args) => args.device.clone(),
            Self::Verify(args) => args.clone(),
            Self::Devices(adapters) => DeviceArgs { adapters: adapters.clone(), ..DeviceArgs::default() },
            Self::Merge(_) | Self::Fuse(_) | Self::Export(_) | Self::Inspect(_) | Self::Completions { .. } => {
                DeviceArgs::default()
            }
        }
    }
}

/// A checkpoint and what it does not say itself.
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    /// Checkpoint (.safetensors, .pth), an index of shards, a folder with model.safetensors and
    /// config.json, or an ONNX file
    /// (.onnx)
    pub model: PathBuf,
    /// Description file (default: MODEL.json beside MODEL.safetensors)
    #[arg(long, value_name = "FILE", help_heading = "Input and output")]
    pub describe: Option<PathBuf>,
    /// A published architecture, e.g. repvgg-a1, mobileone-s0
    #[arg(long, value_name = "NAME", conflicts_with = "describe", help_heading = "Input and output")]
    pub arch: Option<String>,
    /// How an image becomes the input.
    #[command(flatten, next_help_heading = "Preprocessing (default: as described)")]
    pub input: InputArgs,
}

impl ModelArgs {
    /// The files that they may read.
    pub(super) fn inputs(&self) -> Vec<PathBuf> {
        Model::files(&self.model, &self.options())
    }

    /// As the loader takes them.
    pub(super) fn options(&self) -> LoadOptions {
        LoadOptions { describe: self.describe.clone(), arch: self.arch.clone(), input: self.input.overrides() }
    }
}

/// How images are read.
#[derive(Debug, Args)]
pub(super) struct DatasetArgs {
    /// Classes of the evaluation images: lines `file class` or `file,class`, CSV with a header, or
    /// classes alone in the order of the sorted files; none: images without classes
    #[arg(long, value_name = "FILE|none")]
    pub labels: Option<PathBuf>,
    /// Names of the classes, one a line in the order of the outputs
    #[arg(long, value_name = "FILE")]
    pub classes: Option<PathBuf>,
    /// Count and list bad images instead of stopping at the first
    #[arg(long, help_heading = "Reading images")]
    pub skip_bad_images: bool,
    /// Images in a batch (default: what suits the device)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096), help_heading = "Reading images")]
    pub batch_size: Option<u16>,
    /// How much of a JPEG is decoded: full, or scaled (big ones at 1/4 or 1/8 before the resize:
    /// faster, and pixels move by a level or so) [default: full; a quantized model: as it was
    /// calibrated]
    #[arg(long, value_name = "HOW", value_parser = parse::<Decode>, help_heading = "Reading images")]
    pub decode: Option<Decode>,
}

/// Where an output goes.
#[derive(Debug, Args)]
pub(super) struct OutputArgs {
    /// File to write (a model: its ending says the form, .safetensors or .onnx)
    #[arg(short, long, value_name = "FILE", help_heading = "Input and output")]
    pub output: PathBuf,
    /// Replace it if it exists
    #[arg(long, help_heading = "Input and output")]
    pub force: bool,
}

/// Whether time is taken.
#[derive(Debug, Args)]
pub(super) struct ProfileArgs {
    /// Time every kernel: a table of the totals, and the events as a Chrome trace (open it in
    /// ui.perfetto.dev)
    #[arg(long, value_name = "FILE.json", help_heading = "Device")]
    pub profile: Option<PathBuf>,
}

/// What the input of an ONNX file is.
#[derive(Debug, Args)]
pub(super) struct OnnxInputArgs {
    /// What the ONNX file's input takes: normalized (float32) or pixels (uint8; it normalizes them
    /// itself) [default: normalized]
    #[arg(long, value_name = "WHAT", value_parser = parse::<InputForm>)]
    pub input: Option<InputForm>,
}

/// How a quantized model becomes an ONNX file.
#[derive(Debug, Args)]
pub(super) struct OnnxArgs {
    /// qdq (float operators between QuantizeLinear and DequantizeLinear: TensorRT, OpenVINO, ONNX
    /// Runtime), or integer (the very integers of repquant's kernels, in ONNX Runtime on a CPU)
    /// [default: qdq]
    #[arg(long, value_name = "FORM", value_parser = parse::<Format>)]
    pub format: Option<Format>,
    /// Its input.
    #[command(flatten)]
    pub input: OnnxInputArgs,
}

/// `demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Images to calibrate on
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Images to evaluate on
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub eval_limit: u32,
    /// Where to run.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Whether time is taken.
    #[command(flatten)]
    pub profile: ProfileArgs,
}

/// `quantize`.
#[derive(Debug, Args)]
pub(super) struct QuantizeArgs {
    /// The float model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Folder of images to calibrate on
    #[arg(
        long,
        visible_alias = "calib",
        value_name = "DIR",
        required_unless_present = "stats",
        help_heading = "Input and output"
    )]
    pub images: Option<PathBuf>,
    /// Saved histograms instead of images
    #[arg(long, value_name = "FILE", conflicts_with = "images", help_heading = "Input and output")]
    pub stats: Option<PathBuf>,
    /// Images to compare float, unsplit and chosen on, side by side; with classes also top-1
    #[arg(long, value_name = "DIR", help_heading = "Input and output")]
    pub eval: Option<PathBuf>,
    /// Where the quantized model goes.
    #[command(flatten)]
    pub output: OutputArgs,
    /// How an ONNX file is written.
    #[command(flatten, next_help_heading = "ONNX output (-o NAME.onnx)")]
    pub onnx: OnnxArgs,
    /// How to quantize.
    #[command(flatten, next_help_heading = "Quantization")]
    pub method: MethodArgs,
    /// How images are read.
    #[command(flatten, next_help_heading = "Reading images")]
    pub dataset: DatasetArgs,
    /// Calibrate on at most N images, spread evenly
    #[arg(long, value_name = "N", conflicts_with = "stats", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Reading images")]
    pub limit: Option<u32>,
    /// Evaluate on at most N images, spread evenly
    #[arg(long, value_name = "N", requires = "eval", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Reading images")]
    pub eval_limit: Option<u32>,
    /// Where to run.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Whether time is taken.
    #[command(flatten)]
    pub profile: ProfileArgs,
}

/// `calibrate`.
#[derive(Debug, Args)]
pub(super) struct CalibrateArgs {
    /// The float model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Folder of images
    #[arg(long, visible_alias = "calib", value_name = "DIR", help_heading = "Input and output")]
    pub images: PathBuf,
    /// Where the statistics go.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Count and list bad images instead of stopping at the first
    #[arg(long, help_heading = "Reading images")]
    pub skip_bad_images: bool,
    /// Images in a batch (default: what suits the device)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096), help_heading = "Reading images")]
    pub batch_size: Option<u16>,
    /// How much of a JPEG is decoded: full, or scaled (big ones at 1/4 or 1/8 before the resize:
    /// faster, and pixels move by a level or so) [default: full]
    #[arg(long, value_name = "HOW", value_parser = parse::<Decode>, help_heading = "Reading images")]
    pub decode: Option<Decode>,
    /// At most N images, spread evenly
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Reading images")]
    pub limit: Option<u32>,
    /// Where to run.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Whether time is taken.
    #[command(flatten)]
    pub profile: ProfileArgs,
}

/// `merge`.
#[derive(Debug, Args)]
pub(super) struct MergeArgs {
    /// Statistics files of the same model and preprocessing
    #[arg(required = true, value_name = "STATS")]
    pub inputs: Vec<PathBuf>,
    /// Where the sum goes.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `evaluate`.
#[derive(Debug, Args)]
pub(super) struct EvaluateArgs {
    /// The model, float or quantized.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Images, in class folders or with --labels where top-1 is to be measured
    #[arg(long, value_name = "DIR", help_heading = "Input and output")]
    pub images: PathBuf,
    /// The float model that a quantized one was made from: adds agreement and SQNR
    #[arg(long, value_name = "FLOAT_MODEL", help_heading = "Input and output")]
    pub baseline: Option<PathBuf>,
    /// How images are read.
    #[command(flatten, next_help_heading = "Reading images")]
    pub dataset: DatasetArgs,
    /// At most N images, spread evenly
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Reading images")]
    pub limit: Option<u32>,
    /// Where to run.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Whether time is taken.
    #[command(flatten)]
    pub profile: ProfileArgs,
}

/// `analyze`.
#[derive(Debug, Args)]
pub(super) struct AnalyzeArgs {
    /// The float model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Folder of images to calibrate and to measure on
    #[arg(long, visible_alias = "calib", value_name = "DIR", help_heading = "Input and output")]
    pub images: PathBuf,
    /// Saved histograms: the images are then measured on alone
    #[arg(long, value_name = "FILE", help_heading = "Input and output")]
    pub stats: Option<PathBuf>,
    /// How to quantize.
    #[command(flatten, next_help_heading = "Quantization")]
    pub method: MethodArgs,
    /// Calibrate on at most N images, spread evenly
    #[arg(long, value_name = "N", conflicts_with = "stats", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Reading images")]
    pub limit: Option<u32>,
    /// Measure on at most N images, spread evenly
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Reading images")]
    pub eval_limit: u32,
    /// Count and list bad images instead of stopping at the first
    #[arg(long, help_heading = "Reading images")]
    pub skip_bad_images: bool,
    /// Images in a batch (default: what suits the device)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096), help_heading = "Reading images")]
    pub batch_size: Option<u16>,
    /// How much of a JPEG is decoded: full, or scaled (big ones at 1/4 or 1/8 before the resize:
    /// faster, and pixels move by a level or so) [default: full]
    #[arg(long, value_name = "HOW", value_parser = parse::<Decode>, help_heading = "Reading images")]
    pub decode: Option<Decode>,
    /// Where to run.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Whether time is taken.
    #[command(flatten)]
    pub profile: ProfileArgs,
}

/// `fuse`.
#[derive(Debug, Args)]
pub(super) struct FuseArgs {
    /// The multi-branch model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Where the plain network goes.
    #[command(flatten)]
    pub output: OutputArgs,
    /// How an ONNX file is written.
    #[command(flatten, next_help_heading = "ONNX output (-o NAME.onnx)")]
    pub onnx: OnnxInputArgs,
}

/// `export`.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Quantized model (.safetensors)
    #[arg(value_name = "QUANTIZED")]
    pub model: PathBuf,
    /// Where the ONNX file goes.
    #[command(flatten)]
    pub output: OutputArgs,
    /// How it is written.
    #[command(flatten)]
    pub onnx: OnnxArgs,
}

/// `inspect`.
#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// The model, float or quantized.
    #[command(flatten)]
    pub model: ModelArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
