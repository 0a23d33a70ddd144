//! How much memory all threads together may decode into.

use std::sync::{Condvar, Mutex, PoisonError};

/// Bytes that are shared out among threads.
#[derive(Debug)]
pub(super) struct Budget {
    whole: u64,
    free: Mutex<u64>,
    returned: Condvar,
}

/// A part of a [`Budget`], given back when it is dropped.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    /// A budget of `whole` bytes.
    pub(super) fn new(whole: u64) -> Self {
        Self { whole, free: Mutex::new(whole), returned: Condvar::new() }
    }

    /// Waits until so many bytes are free and takes them; what is more than the whole gets the
    /// whole, and so is alone. A thread must not claim a second time while it has a claim.
    pub(super) fn claim(&self, bytes: u64) -> Claim<'_> {
        let bytes = bytes.min(self.whole);
        // A number is whole whatever a thread panicked in.
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.returned.wait_while(free, |free| *free < bytes).unwrap_or_else(PoisonError::into_inner);
        *free -= bytes;
        Claim { budget: self, bytes }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        *self.budget.free.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.budget.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn threads_never_hold_more_than_the_whole() {
        let (budget, held, most) = (Budget::new(100), AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for thread in 0..8 {
                let (budget, held, most) = (&budget, &held, &most);
                scope.spawn(move || {
                    for round in 0..200 {
                        // More than the whole now and then.
                        let bytes = (thread * 31 + round * 17) % 140;
                        let claim = budget.claim(bytes);
                        let now = held.fetch_add(bytes.min(100), Ordering::SeqCst) + bytes.min(100);
                        most.fetch_max(now, Ordering::SeqCst);
                        thread::yield_now();
                        held.fetch_sub(bytes.min(100), Ordering::SeqCst);
                        drop(claim);
                    }
                });
            }
        });
        assert!((90..=100).contains(&most.into_inner()));
        assert_eq!(budget.free.into_inner().unwrap(), 100);
    }
}
