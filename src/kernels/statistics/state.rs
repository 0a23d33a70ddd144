//! What `range`, `coarsen` and `histogram` keep of an activation on the device, and how its values
//! lie there.

use std::cell::RefMut;

use crate::device::{Bound, Buffer};
use crate::kernels::Random;
use crate::model::Shape;

/// Bins of a histogram, for each sign.
pub(crate) const BINS: usize = 4096;

/// Words of a histogram: positive values first, then negative ones.
pub const COUNT_WORDS: usize = 2 * BINS;

/// The least exponent of a bin width.
pub(crate) const MIN_EXPONENT: i32 = -100;

/// Bits of infinity: magnitudes from here on are not finite.
pub(super) const INFINITY_BITS: u32 = 0x7F80_0000;

/// The bits of a float without its sign.
pub(super) fn magnitude(bits: u32) -> u32 {
    bits & 0x7FFF_FFFF
}

/// One row of a `states` buffer: the struct of `shared/state.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct State {
    /// e: bins are 2^e wide.
    pub exponent: i32,
    /// `key` of the smallest value; all ones before the first.
    pub min_key: u32,
    /// `key` of the largest value; 0 before the first.
    pub max_key: u32,
    /// Index in its batch of the first image with a value that is not finite; all ones: there is
    /// none.
    pub bad_image: u32,
    /// Exact zeros counted.
    pub zeros: u32,
    /// Fills the row to 32 bytes.
    pub unused: [u32; 3],
}

impl State {
    /// Nothing was seen yet.
    pub const EMPTY: Self =
        Self { exponent: MIN_EXPONENT, min_key: u32::MAX, max_key: 0, bad_image: u32::MAX, zeros: 0, unused: [0; 3] };

    /// Words of a row.
    pub(crate) const WORDS: usize = size_of::<Self>() / 4;

    /// Maps the bits of a finite float to a u32 of the same order. Both zeros have the key of +0.
    pub(crate) fn key(bits: u32) -> u32 {
        if magnitude(bits) == 0 {
            1 << 31
        } else if bits >> 31 == 0 {
            bits | 1 << 31
        } else {
            !bits
        }
    }

    /// The bits that [`State::key`] was given.
    fn bits(key: u32) -> u32 {
        if key >> 31 == 1 { magnitude(key) } else { !key }
    }

    /// Whether no value was seen.
    pub(crate) fn is_empty(&self) -> bool {
        self.min_key > self.max_key
    }

    /// The smallest value seen, +inf before the first.
    pub(crate) fn min(&self) -> f32 {
        if self.is_empty() { f32::INFINITY } else { f32::from_bits(Self::bits(self.min_key)) }
    }

    /// The largest value seen, −inf before the first.
    pub(crate) fn max(&self) -> f32 {
        if self.is_empty() { f32::NEG_INFINITY } else { f32::from_bits(Self::bits(self.max_key)) }
    }

    /// The bits of the largest magnitude seen, 0 before the first. The order of non-negative floats
    /// is that of their bits, so no float is compared.
    pub(crate) fn max_magnitude(&self) -> u32 {
        if self.is_empty() {
            return 0;
        }
        magnitude(Self::bits(self.min_key)).max(magnitude(Self::bits(self.max_key)))
    }
}

/// A row of a `states` buffer.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// One [`State`] after the other.
    pub states: &'a Buffer,
    /// Which of them.
    pub index: usize,
}

impl<'a> Row<'a> {
    /// The rows up to this one, to be updated. Saturated: what cannot be counted is more than any
    /// buffer has.
    pub(crate) fn bound(&self) -> Bound<'a> {
        Bound::write("states", self.states, self.index.saturating_add(1).saturating_mul(State::WORDS))
    }

    /// The row on the Cpu device, to be updated; the buffer has one, as [`Row::bound`] asks for.
    pub(super) fn host_mut(&self) -> RefMut<'a, State> {
        RefMut::map(self.states.host_mut(), |words| {
            bytemuck::from_bytes_mut(bytemuck::cast_slice_mut(&mut words[State::WORDS * self.index..][..State::WORDS]))
        })
    }
}

/// How the values of an activation lie in a buffer: f32, NHWC, channels padded to a multiple of 4.
/// What the padding holds is never looked at.
///
/// Sizes are saturated: an extent that cannot be counted has more words than any buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Images in the batch.
    pub images: usize,
    /// Shape of one image's activation.
    pub shape: Shape,
}

impl Extent {
    /// Pixels of the batch.
    pub(crate) fn pixels(&self) -> usize {
        self.images.saturating_mul(self.shape.height).saturating_mul(self.shape.width)
    }

    /// Values of the batch, padding left out.
    pub fn values(&self) -> usize {
        self.pixels().saturating_mul(self.shape.channels)
    }

    /// Hands the values of whole pixels to `visit` in runs of many, whole pixels each; padding is
    /// left out.
    pub(super) fn runs(&self, words: &[u32], mut visit: impl FnMut(&[u32])) {
        let padded = self.shape.padded_channels();
        if self.shape.channels == padded {
            return visit(words);
        }
        let most = self.chunk(1 << 12);
        let mut packed = vec![0; most];
        for pixels in words.chunks(most) {
            let mut end = 0;
            for pixel in pixels.chunks_exact(padded) {
                // Four at a time; what is too much is overwritten by the next pixel.
                for (to, quad) in packed[end..].as_chunks_mut::<4>().0.iter_mut().zip(pixel.as_chunks().0) {
                    *to = *quad;
                }
                end += self.shape.channels;
            }
            visit(&packed[..end]);
        }
    }

    /// Channels of a pixel in fours.
    pub(crate) fn quads_per_pixel(&self) -> usize {
        self.shape.channels.div_ceil(4)
    }

    /// Fours of channels of the batch: the invocations' unit of work.
    pub(crate) fn quads(&self) -> usize {
        self.pixels().saturating_mul(self.quads_per_pixel())
    }

    /// Words of the batch, padding included.
    pub(crate) fn words(&self) -> usize {
        self.quads().saturating_mul(4)
    }

    /// Real channels in the last four of a pixel: 1 to 4.
    pub(crate) fn last_real(&self) -> usize {
        match self.shape.channels % 4 {
            0 => 4,
            real => real,
        }
    }

    /// The real channels of each pixel in `words`, which begins at a pixel.
    pub(super) fn real<'w>(&self, words: &'w [u32]) -> impl Iterator<Item = &'w [u32]> {
        let channels = self.shape.channels;
        words.chunks_exact(self.shape.padded_channels().max(1)).map(move |pixel| &pixel[..channels])
    }

    /// Words of a whole number of pixels, about `words`, for one parallel task.
    pub(super) fn chunk(&self, words: usize) -> usize {
        let pixel = self.shape.padded_channels().max(1);
        pixel * (words / pixel).max(1)
    }
}

/// Deliberately uneven values for `verify`: both zeros, powers of two and their neighbours,
/// subnormal, tiny and huge numbers within `2^octaves` of 1. The padding is NaN or huge: whoever
/// counts it is found out.
pub(super) fn uneven(random: &mut Random, extent: &Extent, octaves: i64) -> Vec<u32> {
    let mut values = Vec::with_capacity(extent.words());
    for pixel in 0..extent.pixels() {
        for channel in 0..extent.shape.padded_channels() {
            let sign = (random.next_u64() as u32 & 1) << 31;
            let field = (127 + random.integer(-octaves, octaves)) as u32;
            let power = field << 23;
            values.push(if channel >= extent.shape.channels {
                if pixel % 2 == 0 { f32::MAX.to_bits() } else { f32::NAN.to_bits() }
            } else {
                match random.integer(0, 9) {
                    0..=2 => sign,
                    3 => sign | power,
                    4 => sign | (power - 1),
                    5 => sign | random.integer(1, 0x7F_FFFF) as u32,
                    _ => sign | power | random.integer(0, 0x7F_FFFF) as u32,
                }
            });
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_the_order_of_floats_and_come_back() {
        let tiny = f32::from_bits(1);
        let sorted = [f32::MIN, -1.5, -1.0, -f32::MIN_POSITIVE, -tiny, 0.0, tiny, 1.0, 1.5, f32::MAX];
        let keys: Vec<u32> = sorted.iter().map(|v| State::key(v.to_bits())).collect();
        assert!(keys.is_sorted_by(|a, b| a < b));
        assert!(keys.iter().zip(sorted).all(|(k, v)| State::bits(*k) == v.to_bits()));
        assert_eq!(State::key((-0.0f32).to_bits()), State::key(0));
    }

    #[test]
    fn what_cannot_be_counted_is_more_than_any_buffer_has() {
        let huge = Extent { images: usize::MAX / 2, shape: Shape::new(5, 3, 1) };
        assert_eq!((huge.words(), huge.quads(), huge.last_real()), (usize::MAX, usize::MAX, 1));
        let none = Extent { images: usize::MAX, shape: Shape::new(8, 2, 0) };
        assert_eq!((none.words(), none.last_real()), (0, 4));
    }

    #[test]
    fn the_largest_magnitude_is_on_either_side() {
        let mut state = State::EMPTY;
        assert_eq!((state.max_magnitude(), state.min(), state.max()), (0, f32::INFINITY, f32::NEG_INFINITY));
        (state.min_key, state.max_key) = (State::key((-3.0f32).to_bits()), State::key(2.0f32.to_bits()));
        assert_eq!((state.max_magnitude(), state.min(), state.max()), (3.0f32.to_bits(), -3.0, 2.0));
        state.max_key = State::key(4.0f32.to_bits());
        assert_eq!(state.max_magnitude(), 4.0f32.to_bits());
    }
}
