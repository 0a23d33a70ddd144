//! How close a quantized activation is to the float one.

/// Sums over pairs of a float value y and its quantized counterpart ŷ.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Fidelity {
    /// Σy².
    pub signal: f64,
    /// Σ(y − ŷ)².
    pub noise: f64,
    /// Σyŷ.
    pub product: f64,
    /// Σŷ².
    pub quantized: f64,
}

impl Fidelity {
    /// Adds pairs of values.
    pub fn add(&mut self, y: &[f64], quantized: &[f64]) {
        for (y, q) in y.iter().zip(quantized) {
            self.signal += y * y;
            self.noise += (y - q) * (y - q);
            self.product += y * q;
            self.quantized += q * q;
        }
    }

    /// Adds sums that a device formed: Σy², Σ(y − ŷ)², Σyŷ, Σŷ².
    pub fn add_sums(&mut self, sums: [f64; 4]) {
        self.signal += sums[0];
        self.noise += sums[1];
        self.product += sums[2];
        self.quantized += sums[3];
    }

    /// `10·log10(Σy² / Σ(y−ŷ)²)` in decibels; none where there is no signal or no noise.
    pub fn sqnr_db(&self) -> Option<f64> {
        (self.signal > 0.0 && self.noise > 0.0).then(|| 10.0 * (self.signal / self.noise).log10())
    }

    /// `Σyŷ / sqrt(Σy²·Σŷ²)`; none where either is all zero.
    pub fn cosine(&self) -> Option<f64> {
        let norm = (self.signal * self.quantized).sqrt();
        (norm > 0.0).then(|| self.product / norm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_amplitude_is_twenty_decibels() {
        let mut f = Fidelity::default();
        f.add(&[1.0, -2.0], &[1.1, -2.2]);
        assert!((f.sqnr_db().unwrap() - 20.0).abs() < 1e-9);
        assert!((f.cosine().unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(Fidelity::default().sqnr_db(), None);
    }
}
