//! A run over images: how long it took, who waited for whom, what was left out.

use std::time::Instant;

use super::Images;
use crate::Result;
use crate::images::{Batch, Waited};
use crate::model::Preprocessing;
use crate::report::{Pace, Run};

/// Batches of images, in order.
pub(super) type Batches<'b> = &'b mut dyn Iterator<Item = Result<Batch>>;

/// Gives the images to `work`, which returns how many it took and what it found.
pub(super) fn over<T>(
    stage: &'static str,
    images: Images<'_>,
    input: &Preprocessing,
    batch_size: usize,
    work: impl FnOnce(Batches<'_>) -> Result<(u64, T)>,
) -> Result<(Run, T)> {
    let _span = tracing::info_span!("stage", name = stage).entered();
    let mut feed = images.feed(input, batch_size);
    let start = Instant::now();
    let mut waited = Waited::new(&mut feed);
    let (count, found) = work(&mut waited)?;
    let seconds = start.elapsed().as_secs_f64();
    let waited = waited.waited();
    let decoding_waited = feed.decoding_waited().map(|waited| waited.as_secs_f64());
    let pace = Pace { decoding_waited, ..Pace::new(count, seconds, waited) };
    Ok((Run { images: count, skipped: feed.skipped().to_vec(), seconds, pace }, found))
}
