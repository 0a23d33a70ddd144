//! Progress bars and notes on stderr.

use std::cell::RefCell;
use std::io::Write;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use repquant::Progress;
use repquant::progress::{Event, Stage};

/// Draws a bar for each stage that counts images, and prints notes above it.
pub(super) struct Bars {
    draw: bool,
    quiet: bool,
    bar: RefCell<Option<ProgressBar>>,
}

impl Bars {
    /// `draw`: bars, on a terminal; `quiet`: no notes either.
    pub(super) fn new(draw: bool, quiet: bool) -> Self {
        Self { draw: draw && !quiet, quiet, bar: RefCell::new(None) }
    }

    /// Prints a line on stderr, above a bar that is being drawn.
    pub(super) fn note(&self, text: &str) {
        if self.quiet {
            return;
        }
        match &*self.bar.borrow() {
            Some(bar) if !bar.is_hidden() => bar.println(text),
            _ => {
                // Whoever read stderr may have gone away.
                let _ = writeln!(std::io::stderr(), "{text}");
            }
        }
    }
}

impl Progress for Bars {
    fn event(&self, event: Event) {
        match event {
            Event::Begin { stage, total: Some(total) } if self.draw => {
                let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
                let unit = match stage {
                    Stage::Verify => "kernels",
                    Stage::Quantize | Stage::Analyze => "layers",
                    _ => "images",
                };
                let rate = move |state: &ProgressState, text: &mut dyn std::fmt::Write| {
                    // A bar that cannot be written is not worth an error.
                    let _ = write!(text, "{:.0} {unit}/s", state.per_sec());
                };
                let style = ProgressStyle::with_template("{msg:<12} {wide_bar} {pos}/{len}  {rate}  {eta} left")
                    .map(|style| style.with_key("rate", rate));
                if let Ok(style) = style {
                    bar.set_style(style);
                }
                bar.set_message(label(stage));
                *self.bar.borrow_mut() = Some(bar);
            }
            Event::Begin { .. } => {}
            Event::Advance { items, .. } => {
                if let Some(bar) = &*self.bar.borrow() {
                    bar.inc(items);
                }
            }
            Event::End { .. } => {
                if let Some(bar) = self.bar.borrow_mut().take() {
                    bar.finish_and_clear();
                }
            }
        }
    }
}

fn label(stage: Stage) -> &'static str {
    match stage {
        Stage::Calibrate => "calibrating",
        Stage::Threshold => "choosing ranges",
        Stage::Quantize => "quantizing",
        Stage::Evaluate => "evaluating",
        Stage::Analyze => "analyzing",
        Stage::Verify => "verifying",
    }
}
