//! Post-training quantization for re-parameterized CNNs (RepVGG, MobileOne, YOLOv6 and their kin),
//! on any GPU.
//!
//! A network trained with parallel 3×3, 1×1 and identity branches is deployed as one 3×3
//! convolution, whose centre weights are many times wider than their neighbours; in int8 it
//! collapses. repquant splits each kernel into a coarse and a fine part, picks activation ranges
//! with a metric that suits these networks, and runs the result in true integer arithmetic, with
//! the same bits on every device.
//!
//! # From a file to an exported network
//!
//! ```
//! # fn setup() -> Result<tempfile::TempDir, Box<dyn std::error::Error>> {
//! #     // The demo's network, and pictures of one colour each.
//! #     let folder = tempfile::tempdir()?;
//! #     let demo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/repquant/demo/repvgg-demo");
//! #     for ending in ["safetensors", "json"] {
//! #         std::fs::copy(demo.with_extension(ending), folder.path().join("repvgg").with_extension(ending))?;
//! #     }
//! #     for i in 0..8u8 {
//! #         let picture = image::RgbImage::from_pixel(32, 32, image::Rgb([20 * i, 99, 255 - 20 * i]));
//! #         for place in ["calib", ["val/circle", "val/star"][usize::from(i % 2)]] {
//! #             std::fs::create_dir_all(folder.path().join(place))?;
//! #             picture.save(folder.path().join(place).join(format!("{i}.png")))?;
//! #         }
//! #     }
//! #     std::env::set_current_dir(folder.path())?;
//! #     Ok(folder)
//! # }
//! use repquant::options::{Format, InputForm};
//! use repquant::progress::Silent;
//! use repquant::{Calibration, Device, Evaluation, Images, Model, Quantizer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = setup()?;
//! // A checkpoint in training form; `repvgg.json` beside it says what it does not. Its branches are fused.
//! let model = Model::load("repvgg.safetensors")?;
//!
//! // A histogram of every activation. Native code here; `Device::open` takes a GPU where there is one.
//! let device = Device::cpu();
//! let calibration = Calibration::collect(&device, &model, Images::folder("calib")?)?;
//!
//! // Ranges, splits, integer weights. What is left open is measured on the images.
//! let quantizer = Quantizer::new().weight_bits(4);
//! let quantized = quantizer.quantize_on(&device, &model, &calibration, Images::folder("calib")?, &Silent)?;
//!
//! // Both side by side over images in class folders.
//! let classes = model.classes().expect("a classifier");
//! let evaluation = Evaluation::compare(&device, &model, &quantized, Images::labelled("val", &classes)?)?;
//! println!("{}", evaluation.report());
//! assert_eq!(evaluation.run().images, 8);
//!
//! // For this crate, and for TensorRT, OpenVINO or ONNX Runtime.
//! quantized.save("repvgg-w4.safetensors")?;
//! quantized.save_onnx("repvgg-w4.onnx", Format::Qdq, InputForm::Normalized)?;
//! # Ok(())
//! # }
//! ```
//!
//! # The stages
//!
//! Data flows one way. Each stage takes the one before it by reference and gives a type of its own.
//!
//! | stage | takes | gives |
//! | --- | --- | --- |
//! | load, fuse | a checkpoint or an ONNX file | [`Model`]: plain convolutions and what lies between them |
//! | calibrate | [`Model`], [`Images`], [`Device`] | [`Calibration`]: a histogram for each activation |
//! | choose ranges, split, quantize | [`Model`], [`Calibration`], [`Quantizer`] | [`Quantized`]: int8 weights, integer multipliers |
//! | run | [`Model`] or [`Quantized`], [`Images`], [`Device`] | arrays, a batch at a time |
//! | evaluate | [`Model`], [`Quantized`], [`Images`], [`Device`] | [`Evaluation`], and its [`Report`] |
//! | analyze | [`Model`], [`Quantized`] and what it was made with, [`Images`], [`Device`] | [`Analysis`]: what each layer costs |
//! | export | [`Model`] or [`Quantized`] | safetensors, ONNX |
//!
//! [`Images`] are files, images in memory, or f32 tensors. [`Progress`] is told how far a stage is.
//! Plain data that goes in is in [`options`], what comes out in [`report`]; [`profile`] takes the
//! time of every kernel, [`files`] tells what a file holds and writes whole files or none.
//!
//! The folder `examples` has programs to start from: `quantize_checkpoint`,
//! `quantize_onnx_tensors`, `evaluate` and `merge_statistics`. The command `repquant` is made of
//! these public names alone.
//!
//! # What holds throughout
//!
//! - The same input gives the same bytes: statistics, quantized networks and the integers of their
//!   layers do not depend on the device, the number of threads, the order of images or the size of
//!   a batch. Floats of networks that run in f32 differ between devices by the rounding of sums.
//! - Nothing is printed, no environment variable is read, and there is no global state: devices
//!   work side by side, and what is dropped is freed. [`Device`], [`Model`], [`Calibration`] and
//!   [`Quantized`] can be sent to other threads.
//! - What is not supported is an [`Error`] that names the file, the layer and what to do; a layer
//!   that is not split, or an image that is left out, is a value with its reason in the [`Report`].
//! - Memory does not grow with the number of images.
//! - Bad input gives no panic. Bad calls may: a wrong index, say; each such function says so.
//!
//! # Features
//!
//! `binary` (on by default) builds the command `repquant`. A library turns it off, with
//! `repquant = { version = "0.1", default-features = false }`, and gets no clap, no progress bars
//! and no network for a demo.

#[cfg(not(target_endian = "little"))]
compile_error!("int8 data is packed lowest byte first; a big-endian host is not supported");

// What others see: a dozen names, and plain data.
mod api;
pub mod error;
pub mod files;
pub mod options;
pub mod profile;
pub mod progress;
pub mod report;

pub use api::{Analysis, Calibration, Evaluation, Images, Model, Quantized, Quantizer};
pub use device::Device;
pub use error::{Error, ErrorKind, Result};
pub use progress::Progress;
pub use report::Report;

#[doc(hidden)]
pub mod internals;

// What is behind them: the stages of the table above.
mod analyze;
mod calibrate;
mod device;
mod evaluate;
mod exec;
mod export;
mod fuse;
mod images;
mod kernels;
mod load;
mod model;
mod quantize;
mod threshold;

// What they share.
mod onnx_proto;
mod output;
mod random;
mod tensor_file;
#[cfg(test)]
mod testing;
