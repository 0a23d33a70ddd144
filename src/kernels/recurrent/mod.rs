//! Recurrent cells over sequences, f32.
//!
//! | what | file |
//! | --- | --- |
//! | the shader's host side: arguments, checks, dispatch | `kernel.rs` |
//! | the native function | `native.rs` |
//! | weights on a device | `weights.rs` |
//! | the twin, with a bound for the error of each value | `reference.rs` |
//! | comparison | `verify.rs` |

pub(crate) mod kernel;
mod native;
mod reference;
pub(crate) mod verify;
mod weights;

pub(crate) use kernel::RecurrentF32;
pub(crate) use weights::Weights;
