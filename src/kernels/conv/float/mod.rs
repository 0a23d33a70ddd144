//! Convolution in f32:
//! `y[n, p, o] = act(bias[o] + Σ w[o, ky, kx, i] · x[n, p·stride + k − padding, i])`, zero padding,
//! act the identity or `ReLU`.
//!
//! Activations are NHWC with channels in fours. A result does not depend on the batch.
//!
//! Adapters have shaders for depthwise layers (`depthwise.rs`), and for the others a direct one
//! (`direct.rs`) and tiled ones (`tiled.rs`). The Cpu device has depthwise code, and for other
//! layers `winograd.rs` for most 3×3 layers where the processor has AVX-512; else `vectors.rs`
//! where it has AVX-512 or AVX2; else `native.rs`.

mod cases;
mod depthwise;
mod direct;
mod epilogue;
mod kernel;
mod matrices;
mod native;
mod reference;
mod tiled;
mod vectors;
pub(crate) mod verify;
mod weights;
mod winograd;

pub(crate) use depthwise::SHADER as DEPTHWISE;
pub(crate) use direct::SHADER as DIRECT;
pub use epilogue::Epilogue;
pub(crate) use epilogue::Params;
pub use kernel::ConvF32;
pub(crate) use tiled::TILES;
pub use weights::Weights;
