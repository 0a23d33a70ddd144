//! Convolution in integers, its weights in one part (fine) or two (fine and coarse): see
//! [`QConv`](crate::model::QConv) for the arithmetic.
//!
//! Both parts are summed in one pass over the input, in int32 modulo 2^32 (a quantized layer's
//! totals fit). A tap outside the image reads the input's zero point: `−z·ΣQ` is folded into the
//! bias, so that it adds nothing in real numbers. Activations are packed int8 in NHWC. Every
//! variant gives the same bits.
//!
//! Adapters have shaders for depthwise layers (`depthwise.rs`), and for the others a direct one
//! (`direct.rs`) and tiled ones (`tiled.rs`). The Cpu device has depthwise code, and for other
//! layers `vectors.rs` where the processor has AVX-512 with VNNI or AVX2; else `native.rs`.

mod cases;
mod constants;
mod depthwise;
mod direct;
mod finish;
mod kernel;
mod native;
mod reference;
mod tiled;
mod vectors;
pub(crate) mod verify;
mod weights;

pub(crate) use constants::Params;
pub(crate) use depthwise::SHADER as DEPTHWISE;
pub(crate) use direct::SHADER as DIRECT;
pub use kernel::ConvI8;
pub(crate) use tiled::TILES;
pub use weights::Weights;
