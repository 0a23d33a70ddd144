//! Random numbers that are the same on every platform: positions of one `SplitMix64` sequence.
//!
//! Source: G. L. Steele, D. Lea, C. H. Flood, *Fast Splittable Pseudorandom Number Generators*,
//! OOPSLA 2014. The number at position n is `mix(n·γ)`. Both steps are bijections of 64 bits, so
//! drawings that own disjoint ranges of positions never share a number.

/// The sequence's step γ, odd and near 2^64 divided by the golden ratio.
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// Positions that one drawing owns: 2^20, hundreds of times what it takes.
const OWNED_BITS: u32 = 20;

/// Drawings in one stream: 2^40; a larger index wraps around.
const INDEX_BITS: u32 = 40;

/// The finalizer of `SplitMix64`: a bijection that turns a counter into a number that looks random.
pub(super) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The top 53 bits of `bits` as a number in [0, 1): exact in f64.
pub(super) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// The numbers of one drawing.
#[derive(Debug, Clone)]
pub(super) struct Random {
    position: u64,
}

impl Random {
    /// The numbers of drawing `index` of `stream` (below 16).
    pub(super) fn new(stream: u8, index: u64) -> Self {
        let index = index & ((1 << INDEX_BITS) - 1);
        Self { position: ((u64::from(stream) << INDEX_BITS) | index) << OWNED_BITS }
    }

    /// 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        let bits = mix(self.position.wrapping_mul(GAMMA));
        self.position += 1;
        bits
    }

    /// Uniform in [low, high).
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * unit(self.bits())
    }

    /// True with probability `p`.
    pub(super) fn chance(&mut self, p: f64) -> bool {
        unit(self.bits()) < p
    }

    /// Uniform in 0 … n − 1.
    pub(super) fn below(&mut self, n: u32) -> u32 {
        (((self.bits() >> 32) * u64::from(n)) >> 32) as u32
    }

    /// A unit vector of uniform direction, by rejection from the square: libm's sine and cosine
    /// differ between platforms, a square root does not.
    pub(super) fn direction(&mut self) -> [f64; 2] {
        loop {
            let (x, y) = (self.between(-1.0, 1.0), self.between(-1.0, 1.0));
            let square = x * x + y * y;
            if (0.01..=1.0).contains(&square) {
                let length = square.sqrt();
                return [x / length, y / length];
            }
        }
    }

    /// Nearly normal, mean 0 and variance 1: the sum of four uniform 16-bit numbers.
    pub(super) fn normal(&mut self) -> f64 {
        let bits = self.bits();
        let sum: u64 = (0..4).map(|i| (bits >> (16 * i)) & 0xFFFF).sum();
        // Four uniforms on [0, 1) have mean 2 and variance 1/3.
        ((sum as f64 + 2.0) / 65536.0 - 2.0) * 3.0_f64.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawings_own_disjoint_positions() {
        // The last position of one drawing comes right before the first of the next; streams do not
        // meet either.
        let start = |stream, index| Random::new(stream, index).position;
        assert_eq!(start(1, 7) + (1 << 20), start(1, 8));
        assert_eq!(start(1, (1 << 40) - 1) + (1 << 20), start(2, 0));
        assert_eq!(start(1, 1 << 40), start(1, 0));
    }

    #[test]
    fn normal_has_mean_0_and_variance_1() {
        let mut random = Random::new(1, 0);
        let draws: Vec<f64> = (0..100_000).map(|_| random.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 1e5;
        let variance = draws.iter().map(|x| x * x).sum::<f64>() / 1e5;
        // Five standard errors: 5/√1e5, and 5·√((kurtosis − 1)/1e5) with a kurtosis of 2.7.
        assert!(mean.abs() < 0.016, "{mean}");
        assert!((variance - 1.0).abs() < 0.021, "{variance}");
    }

    #[test]
    fn directions_have_length_1() {
        let mut random = Random::new(2, 3);
        for _ in 0..100 {
            let [x, y] = random.direction();
            assert!((x * x + y * y - 1.0).abs() < 1e-15);
        }
    }
}
