//! Batches in the order of the images, decoded on all cores ahead of whoever takes them.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::budget::Budget;
use super::{Batch, Content, Item, decode, npy, preprocess_decoded};
use crate::error::{Term, text};
use crate::model::Preprocessing;
use crate::{Error, Result};

/// How many batches are decoded ahead of the one being taken.
const BATCHES_AHEAD: usize = 2;

/// What all threads together may decode into, for the first; and for each thread, so that usual
/// images do not wait for each other. A larger image is decoded alone.
const MEMORY: u64 = 2 << 30;
const MEMORY_FOR_EACH: u64 = 48 << 20;

/// How to read a set of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOptions {
    /// Images in a batch, at least 1; the last batch may have fewer.
    pub batch_size: usize,
    /// Leave out images that cannot be read, and list them; otherwise the first one is an error.
    pub skip_bad: bool,
    /// Decoding threads; none: one for each core.
    pub threads: Option<usize>,
}

/// An image that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// The number of an image in the set, and its words as a batch has them: pixels, or values.
type Decoded = (usize, Result<Vec<u32>>);

/// Reads images batch by batch: an iterator over `Result<Batch>`.
///
/// Batches hold the images in the order of the set, whatever the number of threads. At any time at
/// most two batches and one image for each thread are decoded or waiting, and large images are
/// decoded one after the other, so memory does not grow with the number of images. After an error the
/// iterator ends; dropping it stops its threads.
#[derive(Debug)]
pub struct Batches {
    items: VecDeque<Item>,
    size: [usize; 2],
    /// Whether the set is arrays, which are values and no pixels.
    arrays: bool,
    options: BatchOptions,
    /// Numbers of the next image to hand out and to request.
    next: usize,
    requested: usize,
    total: usize,
    /// Decoded out of turn.
    early: HashMap<usize, Result<Vec<u32>>>,
    jobs: Option<Sender<(usize, PathBuf)>>,
    /// The other end of `jobs`, to take back what no thread has begun.
    pending: Receiver<(usize, PathBuf)>,
    results: Receiver<Decoded>,
    workers: Vec<JoinHandle<()>>,
    threads: usize,
    /// Nanoseconds that all threads together waited for work while there still was some.
    waited: Arc<AtomicU64>,
    skipped: Vec<Skipped>,
    done: bool,
}

impl Batches {
    /// Starts reading `items`.
    pub fn new(items: Vec<Item>, preprocessing: &Preprocessing, options: BatchOptions) -> Self {
        let options = BatchOptions { batch_size: options.batch_size.max(1), ..options };
        let wanted = options.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
        let threads = wanted.clamp(1, items.len().max(1));
        let (jobs, pending) = unbounded();
        let (decoded, results) = unbounded();
        let preprocessing = Arc::new(preprocessing.clone());
        let waited = Arc::new(AtomicU64::new(0));
        let memory = MEMORY.saturating_add(MEMORY_FOR_EACH.saturating_mul(u64::try_from(threads).unwrap_or(u64::MAX)));
        let memory = Arc::new(Budget::new(memory));
        let workers: Vec<JoinHandle<()>> = (0..threads)
            .map_while(|i| {
                let (jobs, decoded, preprocessing) = (pending.clone(), decoded.clone(), Arc::clone(&preprocessing));
                let (waited, memory) = (Arc::clone(&waited), Arc::clone(&memory));
                // With fewer threads than wanted it is slower, and without any `take` says so.
                let thread = thread::Builder::new().name(format!("decode {i}"));
                thread.spawn(move || work(&jobs, &decoded, &preprocessing, &memory, &waited)).ok()
            })
            .collect();
        let total = items.len();
        let arrays = items.first().is_some_and(|item| npy::is_array(&item.path));
        let mut batches = Self {
            arrays,
            items: items.into(),
            size: preprocessing.size,
            options,
            next: 0,
            requested: 0,
            total,
            early: HashMap::new(),
            jobs: Some(jobs),
            pending,
            results,
            threads: workers.len(),
            workers,
            waited,
            skipped: Vec::new(),
            done: false,
        };
        let ahead = batches.options.batch_size.saturating_mul(BATCHES_AHEAD).saturating_add(threads);
        (0..ahead.min(total)).for_each(|_| batches.request());
        batches
    }

    /// The images left out so far, in the order of the set.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// How long a decoding thread has waited so far, on the average, because enough batches were
    /// decoded ahead: the time in which whoever takes them was the slower one. A wait counts once
    /// it is over.
    pub fn decoding_waited(&self) -> Duration {
        let all = Duration::from_nanos(self.waited.load(Ordering::Relaxed));
        all / u32::try_from(self.threads).unwrap_or(u32::MAX).max(1)
    }

    /// Asks for one more image, if there is one.
    fn request(&mut self) {
        // `items` holds those not yet handed out: the first is number `next`.
        let (Some(item), Some(jobs)) = (self.items.get(self.requested - self.next), &self.jobs) else { return };
        // `pending` keeps the channel open, so this cannot fail.
        if jobs.send((self.requested, item.path.clone())).is_ok() {
            self.requested += 1;
        }
    }

    /// The next image of the set; requests another one in its place.
    fn take(&mut self) -> Result<Option<(Item, Result<Vec<u32>>)>> {
        if self.next == self.total {
            return Ok(None);
        }
        let image = loop {
            if let Some(image) = self.early.remove(&self.next) {
                break image;
            }
            let (number, image) =
                self.results.recv().map_err(|e| Error::device("no thread decodes images").because(e))?;
            self.early.insert(number, image);
        };
        self.request();
        self.next += 1;
        Ok(self.items.pop_front().map(|item| (item, image)))
    }

    fn fill(&mut self) -> Result<Option<Batch>> {
        let mut batch = Batch::empty(self.size);
        if self.arrays {
            batch.content = Content::Values(Vec::new());
        }
        while batch.count < self.options.batch_size {
            let Some((Item { path, label }, image)) = self.take()? else { break };
            match image {
                Ok(words) if self.arrays => batch.push_values(path.display().to_string(), label, &words)?,
                Ok(pixels) => batch.push(path.display().to_string(), label, &pixels)?,
                Err(reason) if self.options.skip_bad => {
                    self.skipped.push(Skipped { path, reason: reason.to_string() });
                }
                Err(error) => {
                    return Err(error
                        .at(path.display())
                        .hint(text![Term::SkipBad, " leaves out the images that cannot be read"]));
                }
            }
        }
        if self.skipped.len() == self.total
            && let Some(first) = self.skipped.first()
        {
            let what = format!("none of the {} images can be read; the first: {}", self.total, first.reason);
            return Err(Error::input(&first.path, what));
        }
        Ok((batch.count > 0).then_some(batch))
    }

    fn stop(&mut self) {
        self.done = true;
        self.jobs = None;
        while self.pending.try_recv().is_ok() {}
        for worker in self.workers.drain(..) {
            // A worker catches what panics in it; there is nothing to learn from how it ended.
            drop(worker.join());
        }
        self.early.clear();
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let batch = self.fill().transpose();
        if !matches!(batch, Some(Ok(_))) {
            self.stop();
        }
        batch
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Decodes what is asked for until nobody asks any more.
fn work(
    jobs: &Receiver<(usize, PathBuf)>,
    decoded: &Sender<Decoded>,
    preprocessing: &Preprocessing,
    memory: &Budget,
    waited: &AtomicU64,
) {
    loop {
        let start = Instant::now();
        let Ok((number, path)) = jobs.recv() else { break };
        waited.fetch_add(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let _span = tracing::info_span!("decode").entered();
        let image = catch_unwind(AssertUnwindSafe(|| {
            if npy::is_array(&path) {
                return npy::read(&path, preprocessing);
            }
            let (decoded, _claim) = decode::read_within(&path, preprocessing, memory)?;
            preprocess_decoded(&decoded, preprocessing)
        }))
        // A decoder's bug must cost one image, not the run: nobody would answer for its number.
        .unwrap_or_else(|_| Err(Error::bad("the image cannot be decoded")));
        if decoded.send((number, image)).is_err() {
            break;
        }
    }
}
