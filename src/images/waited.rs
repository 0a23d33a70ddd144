//! How long whoever takes batches waits for them.

use std::time::{Duration, Instant};

use super::Batch;
use crate::Result;

/// Passes batches on, and adds up the time until each was there.
pub(crate) struct Waited<'a> {
    batches: &'a mut dyn Iterator<Item = Result<Batch>>,
    waited: Duration,
}

impl<'a> Waited<'a> {
    /// Nothing was waited for yet.
    pub(crate) fn new(batches: &'a mut dyn Iterator<Item = Result<Batch>>) -> Self {
        Self { batches, waited: Duration::ZERO }
    }

    /// The time so far.
    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }
}

impl Iterator for Waited<'_> {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let _span = tracing::info_span!("wait for images").entered();
        let start = Instant::now();
        let batch = self.batches.next();
        self.waited += start.elapsed();
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_pass_unchanged_and_the_wait_is_counted() {
        let pause = Duration::from_millis(3);
        let mut slow = (0..2).map(|_| {
            std::thread::sleep(pause);
            Ok(Batch::empty([1, 1]))
        });
        let mut waited = Waited::new(&mut slow);
        assert_eq!(waited.waited(), Duration::ZERO);
        assert_eq!(waited.by_ref().count(), 2);
        assert!(waited.waited() >= 2 * pause);
    }
}
