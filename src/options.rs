//! What goes in: plain data that says how a model is read, quantized and written, and where it
//! runs.
//!
//! Each type with a choice is written as the words of the command (`FromStr`, and mostly
//! `Display`).

pub use crate::api::{Classes, Contender};
pub use crate::device::{Backends, DeviceChoice, DeviceOptions, Instructions};
pub use crate::export::onnx::{Format, InputForm};
pub use crate::images::RgbImage;
pub use crate::load::{Crop, InputOverrides, LoadOptions, Preset};
pub use crate::model::{Color, Decode, Fit, Interpolation, MAX_SIDE, Preprocessing, Support};
pub use crate::quantize::{
    ChannelEqualization, Granularity, LayerChoice, LayerChoices, LayerSplit, Rounding, SplitMode,
};
pub use crate::threshold::{ActivationMode, Method};
