//! What is counted of activations: their range, histograms, magnitudes, and what tells two of them
//! apart.

pub(crate) mod coarsen;
pub(crate) mod error_sums;
pub(crate) mod histogram;
pub(crate) mod magnitudes;
pub(crate) mod range;
mod state;
mod tally;

pub(crate) use state::{BINS, MIN_EXPONENT};
pub use state::{COUNT_WORDS, Extent, Row, State};
