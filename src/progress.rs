//! Events that the library emits while it works. The library never prints; a program can draw bars
//! from these.

/// A stage of the pipeline, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Collecting histograms on the device.
    Calibrate,
    /// Choosing the ranges of activations.
    Threshold,
    /// Splitting and quantizing the weights.
    Quantize,
    /// Running the networks on labelled images.
    Evaluate,
    /// Quantizing each layer alone: a layer counts once for each batch.
    Analyze,
    /// Comparing kernels with their twins.
    Verify,
}

impl Stage {
    /// Its name in traces.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Calibrate => "calibrate",
            Self::Threshold => "threshold",
            Self::Quantize => "quantize",
            Self::Evaluate => "evaluate",
            Self::Analyze => "analyze",
            Self::Verify => "verify",
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A stage begins; `total` counts images (or layers, kernels) where that is known.
    Begin {
        /// The stage.
        stage: Stage,
        /// How many items it will handle.
        total: Option<u64>,
    },
    /// `items` more are done.
    Advance {
        /// The stage.
        stage: Stage,
        /// How many since the last event.
        items: u64,
    },
    /// The stage is over.
    End {
        /// The stage.
        stage: Stage,
    },
}

/// Receives [`Event`]s, on the thread that called the library.
///
/// ```
/// use repquant::{Progress, progress::Event};
///
/// struct Dots;
///
/// impl Progress for Dots {
///     fn event(&self, event: Event) {
///         if let Event::Advance { items, .. } = event {
///             print!("{}", ".".repeat(items as usize));
///         }
///     }
/// }
/// ```
pub trait Progress {
    /// Takes one event.
    fn event(&self, event: Event);
}

/// Drops every event.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event) {}
}
