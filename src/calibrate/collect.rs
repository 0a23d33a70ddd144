//! Keeps the statistics of every activation on the device while a network runs, and brings them
//! back exactly.
//!
//! Everything kept is an integer (counts, ordered keys of the extremes), and bins only ever grow by
//! adding neighbours, so the result does not depend on the batch size, the order of the images or
//! the device.

use std::collections::VecDeque;

use super::{ActivationStats, POWER_BINS};
use crate::device::{Buffer, Device, Readback, Recorder};
use crate::error::{Term, text};
use crate::exec;
use crate::kernels::statistics::coarsen::Coarsen;
use crate::kernels::statistics::histogram::Histogram;
use crate::kernels::statistics::magnitudes::{CLASSES, Magnitudes};
use crate::kernels::statistics::{BINS, COUNT_WORDS, Extent, MIN_EXPONENT, Row, State};
use crate::model::Shape;
use crate::{Error, Result};

// The kernels come before this module and so have constants of their own.
const _: () = assert!(BINS == super::BINS && CLASSES == POWER_BINS && MIN_EXPONENT == super::MIN_EXPONENT);

/// The counters of the device have 32 bits: beyond so many values they are brought back and set to
/// zero.
const FLUSH_AFTER: u64 = 1 << 31;

/// Collects statistics of the activations of a network, batch by batch.
///
/// For each batch: [`record`](Self::record) every activation, submit, then
/// [`end_batch`](Self::end_batch).
#[derive(Debug)]
pub(crate) struct Collector {
    /// One [`State`] for each activation.
    states: Buffer,
    activations: Vec<Activation>,
    flush_after: u64,
    /// The states after each batch that was not looked at yet, and the names of its images.
    unchecked: VecDeque<(Readback, Vec<String>)>,
}

/// What is kept of one activation beside its [`State`].
#[derive(Debug)]
struct Activation {
    shape: Shape,
    /// What was brought back so far.
    stats: ActivationStats,
    counts: Buffer,
    power: Buffer,
    /// Values that the device has counted since.
    pending: u64,
}

impl Collector {
    /// Allocates the counters of the activations with these names and shapes.
    ///
    /// # Errors
    /// If the device has no memory left.
    pub(crate) fn new(device: &Device, activations: &[(String, Shape)]) -> Result<Self> {
        let empty = vec![State::EMPTY; activations.len()];
        let states = device.upload(bytemuck::cast_slice(&empty), "calibration states")?;
        let activations = activations.iter().map(|(name, shape)| {
            Ok(Activation {
                shape: *shape,
                stats: ActivationStats::new(name.as_str(), shape.channels),
                counts: device.alloc(COUNT_WORDS, "histogram")?,
                power: device.alloc(POWER_BINS * shape.channels, "channel power")?,
                pending: 0,
            })
        });
        let activations = activations.collect::<Result<_>>()?;
        Ok(Self { states, activations, flush_after: FLUSH_AFTER, unchecked: VecDeque::new() })
    }

    /// Where the range of activation `index` is kept.
    pub(crate) fn row(&self, index: usize) -> Row<'_> {
        Row { states: &self.states, index }
    }

    /// Records the counting of activation `index` of a batch, with whose range [`Collector::row`]
    /// is up to date: x is f32, NHWC, channels padded to a multiple of 4. Nothing is read back.
    ///
    /// # Errors
    /// If the device failed, or the batch holds more values than its counters can.
    ///
    /// # Panics
    /// If there is no such activation, or x is too short for it.
    pub(crate) fn record(&mut self, rec: &mut Recorder<'_>, index: usize, images: usize, x: &Buffer) -> Result<()> {
        let activation = &mut self.activations[index];
        let extent = Extent { images, shape: activation.shape };
        let pending = activation.pending + extent.values() as u64;
        if pending > u64::from(u32::MAX) {
            return Err(Error::device(format!("a batch of {images} images has too many values for 32-bit counters"))
                .at(&activation.stats.name)
                .hint(text!["use a smaller ", Term::BatchSize]));
        }
        activation.pending = pending;
        self.dispatch(rec, index, images, x)
    }

    /// Records the kernels of [`Collector::record`] for [`Device::prepare`]: nothing is counted.
    ///
    /// # Errors
    /// If the device failed.
    pub(super) fn rehearse(&self, rec: &mut Recorder<'_>, index: usize, images: usize, x: &Buffer) -> Result<()> {
        self.dispatch(rec, index, images, x)
    }

    fn dispatch(&self, rec: &mut Recorder<'_>, index: usize, images: usize, x: &Buffer) -> Result<()> {
        let activation = &self.activations[index];
        let extent = Extent { images, shape: activation.shape };
        let (row, counts) = (self.row(index), &activation.counts);
        rec.run(&Coarsen { row, counts })?;
        rec.run(&Histogram { extent, x, row, counts })?;
        rec.run(&Magnitudes { extent, x, counts: &activation.power })
    }

    /// Ends a batch whose work was submitted; `images` are the names of its images. On an adapter
    /// it waits for the batch before alone, so that there is always work; counts are brought back
    /// where they could overflow in the next batch.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) where an activation of this batch or of the
    /// one before holds NaN or infinity, naming the first such activation and its image; or if the
    /// device failed.
    pub(crate) async fn end_batch(&mut self, device: &Device, images: &[String]) -> Result<()> {
        let states = device.begin_read(&[(&self.states, State::WORDS * self.activations.len())])?;
        self.unchecked.push_back((states, images.to_vec()));
        if self.activations.iter().any(|a| a.pending >= self.flush_after) {
            self.settle(device).await?;
            return self.flush(device).await;
        }
        self.check(device, exec::batches_in_flight(device) - 1).await
    }

    /// Waits for every batch that was ended.
    ///
    /// # Errors
    /// As [`Collector::end_batch`].
    pub(crate) async fn settle(&mut self, device: &Device) -> Result<()> {
        self.check(device, 0).await
    }

    /// Looks for values that are not finite in all batches that were ended but the last `leave`.
    async fn check(&mut self, device: &Device, leave: usize) -> Result<()> {
        while self.unchecked.len() > leave {
            let Some((readback, images)) = self.unchecked.pop_front() else { break };
            let words = device.finish_read(readback).await?.concat();
            let states: Vec<State> = bytemuck::pod_collect_to_vec(&words);
            for (state, activation) in states.iter().zip(&self.activations) {
                if state.bad_image != u32::MAX {
                    let index = state.bad_image as usize;
                    let image = images.get(index).cloned().unwrap_or_else(|| format!("image {index} of the batch"));
                    return Err(Error::bad("an activation is NaN or infinite")
                        .at(format!("layer {}", activation.stats.name))
                        .at(image)
                        .hint("check the checkpoint, and the mean and std of the input"));
                }
            }
        }
        Ok(())
    }

    /// Brings everything back: one entry for each activation, in the order given to
    /// [`Collector::new`].
    ///
    /// # Errors
    /// As [`Collector::end_batch`].
    pub(crate) async fn finish(mut self, device: &Device) -> Result<Vec<ActivationStats>> {
        self.end_batch(device, &[]).await?;
        self.settle(device).await?;
        self.flush(device).await?;
        Ok(self.activations.into_iter().map(|a| a.stats).collect())
    }

    /// Adds all counts of the device to those of the host and sets them to zero. Exponents and
    /// extremes stay.
    async fn flush(&mut self, device: &Device) -> Result<()> {
        let mut parts = vec![(&self.states, State::WORDS * self.activations.len())];
        for a in &self.activations {
            parts.extend([(&a.counts, a.counts.len()), (&a.power, a.power.len())]);
        }
        let readback = device.begin_read(&parts)?;
        let mut words = device.finish_read(readback).await?.into_iter();
        let mut next = || words.next().unwrap_or_default();
        let mut states: Vec<State> = bytemuck::pod_collect_to_vec(&next());
        let mut rec = device.recorder();
        for (activation, state) in self.activations.iter_mut().zip(&mut states) {
            activation.bring_back(device, state, next(), next())?;
            rec.clear(&activation.counts)?;
            rec.clear(&activation.power)?;
            state.zeros = 0;
        }
        device.write(&self.states, bytemuck::cast_slice(&states))?;
        rec.submit()
    }
}

impl Activation {
    /// Adds the device's counts to `stats`.
    fn bring_back(&mut self, device: &Device, state: &State, counts: Vec<u32>, power: Vec<u32>) -> Result<()> {
        let wide = |words: Vec<u32>| words.into_iter().map(u64::from).collect::<Vec<u64>>();
        let mut positive = wide(counts);
        let negative = positive.split_off(BINS);
        let mut found = ActivationStats::new(self.stats.name.as_str(), self.shape.channels);
        for (to, count) in found.power.iter_mut().zip(wide(power)) {
            *to = count;
        }
        let found = ActivationStats {
            exponent: state.exponent,
            zeros: state.zeros.into(),
            min: state.min(),
            max: state.max(),
            positive,
            negative,
            ..found
        };
        // Cheap, and the one thing that shows a driver that loses atomics.
        let nonzero = found.power.sum();
        if found.count() != self.pending || nonzero + found.zeros != self.pending {
            return Err(Error::device(format!(
                "{} counted {} and {} of {} values",
                device.info().name,
                found.count(),
                nonzero + found.zeros,
                self.pending
            ))
            .at(format!("layer {}", self.stats.name))
            .hint(text!["its driver may be broken: see ", Term::Verify, ", or use ", Term::CpuDevice]));
        }
        self.pending = 0;
        self.stats.merge(&found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_brought_back_in_between_add_up() {
        let device = Device::cpu();
        let activations = [("a".to_owned(), Shape::new(3, 2, 2)), ("b".to_owned(), Shape::new(4, 1, 1))];
        let collect = |flush_after| {
            let mut collector = Collector::new(&device, &activations).unwrap();
            collector.flush_after = flush_after;
            for batch in 0..6 {
                let mut rec = device.recorder();
                for (index, words) in [(0, 16), (1, 4)] {
                    // Grows past 2^12 times its first range.
                    let values = (0..words).map(|i| (i as f32 - 5.0) * 16f32.powi(batch));
                    let x = device.upload(&values.map(f32::to_bits).collect::<Vec<_>>(), "x").unwrap();
                    collector.record(&mut rec, index, 1, &x).unwrap();
                }
                rec.submit().unwrap();
                pollster::block_on(collector.end_batch(&device, &[])).unwrap();
            }
            pollster::block_on(collector.finish(&device)).unwrap()
        };
        let once = collect(u64::MAX);
        assert_eq!((once[0].count(), once[1].count()), (72, 24));
        for flush_after in [1, 13, 24, 25] {
            assert_eq!(collect(flush_after), once);
        }
    }

    #[test]
    fn refuses_more_values_than_fit_the_counters() {
        let device = Device::cpu();
        let activations = [("a".to_owned(), Shape::new(1, 1, 1))];
        let mut collector = Collector::new(&device, &activations).unwrap();
        collector.activations[0].pending = u64::from(u32::MAX);
        let x = device.alloc(4, "x").unwrap();
        let error = collector.record(&mut device.recorder(), 0, 1, &x).unwrap_err();
        assert!(error.to_string().contains("`batch_size`"), "{error}");
    }
}
