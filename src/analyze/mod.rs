//! What quantizing each layer alone costs the outputs: which layer is to blame.
//!
//! | what | file |
//! | --- | --- |
//! | what of a network is quantized: weights, and activations as they are read | `parts.rs` |
//! | the float network with one of them quantized, over the images | `bench.rs` |
//! | what an output loses | `effect.rs` |
//! | what is found of each layer | `found.rs` |
//! | all layers | `layers.rs` |
//! | what would help a layer, and what that costs | `cures.rs` |
//!
//! A layer's weights are replaced by the real weights that their levels stand for, and what it reads
//! by the values of its levels, in the float network: what integers would give, but for the rounding
//! of the float network's own sums. Of each change only what comes behind it runs again.

mod bench;
mod cures;
mod effect;
mod found;
mod layers;
mod parts;

pub(crate) use effect::{Effect, least_db, mean_db};
pub(crate) use found::{Analyzed, Cure, Setting, Sources};
pub(crate) use layers::analyze;
