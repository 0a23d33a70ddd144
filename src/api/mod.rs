//! The front door: the types that whoever uses the library meets, over the stages behind them.

mod analysis;
mod calibration;
mod classes;
mod device;
mod evaluation;
mod images;
mod model;
mod network;
mod quantized;
mod quantizer;
mod report;
mod run;
mod settle;
mod tensors;

pub use analysis::Analysis;
pub use calibration::Calibration;
pub use classes::Classes;
pub use evaluation::{Contender, Evaluation};
pub use images::Images;
pub use model::Model;
pub use quantized::Quantized;
pub use quantizer::Quantizer;
