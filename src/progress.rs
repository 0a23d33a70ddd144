//! Events that the library emits while it works. The library never prints; the command line draws bars from these.

/// A stage of the pipeline, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Collecting histograms on the device.
    Calibrate,
    /// Choosing ranges, splitting and quantizing the weights.
    Quantize,
    /// Running the networks on labelled images.
    Evaluate,
    /// Comparing kernels with their twins.
    Verify,
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

/// Receives [`Event`]s. Called from the thread that runs the pipeline.
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
