//! `E[x²]` of each channel, from the magnitude classes.

use super::{ActivationStats, POWER_BINS};

/// Lower and upper edge of a magnitude class: `[1, 1.5)` or `[1.5, 2)` times a power of two. Class
/// 0 begins at 0.
pub(crate) fn class_edges(class: usize) -> (f64, f64) {
    let edge = |class: usize| {
        let octave = f64::exp2((class / 2) as f64 - 32.0);
        if class.is_multiple_of(2) { octave } else { 1.5 * octave }
    };
    (if class == 0 { 0.0 } else { edge(class) }, edge(class + 1))
}

impl ActivationStats {
    /// The mean of x² over all values of a channel, zeros included; 0 before the first value.
    ///
    /// Each class `[a, b)` counts with the mean square of a uniform density over it,
    /// `(a² + ab + b²)/3`. That is exact for uniform values and 6.6 to 6.8 % too much for Gaussian
    /// and exponential ones of any width (by quadrature), which falls within their classes; a
    /// factor that layers share does not change how they compare. At worst, all values of a channel
    /// at one edge of a class of ratio b/a = 1.5, the result is 58 % above or 30 % below the truth.
    /// Magnitudes beyond the classes (under 1.5·2^−32, from 2^32 up) count as if they lay within
    /// the first or last one.
    ///
    /// # Panics
    /// Where there is no such channel.
    pub fn mean_square(&self, channel: usize) -> f64 {
        // Zeros are not counted by channel, but every channel has as many values as any other.
        let values = self.count() as f64 / self.channels() as f64;
        if values == 0.0 {
            return 0.0;
        }
        let sum: f64 = (0..POWER_BINS)
            .map(|class| {
                let (a, b) = class_edges(class);
                self.power[[channel, class]] as f64 * ((a * a + a * b + b * b) / 3.0)
            })
            .sum();
        sum / values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_meet_and_hold_what_is_counted_in_them() {
        assert_eq!(class_edges(0), (0.0, 1.5 * 2f64.powi(-32)));
        assert_eq!(class_edges(127), (1.5 * 2f64.powi(31), 2f64.powi(32)));
        for class in 1..POWER_BINS {
            let (a, b) = class_edges(class);
            assert_eq!(class_edges(class - 1).1, a);
            let below = f32::from_bits((b as f32).to_bits() - 1);
            let mut stats = ActivationStats::new("x", 1);
            stats.add(&[a as f32, below], 1).unwrap();
            assert_eq!(stats.power[[0, class]], 2, "class {class}");
        }
    }

    #[test]
    fn uniform_values_give_a_third_and_zeros_count() {
        let n = 3000;
        let ramp: Vec<f32> = (0..n).flat_map(|i| [2.0 * (i as f32 + 0.5) / n as f32, 0.0]).collect();
        let mut stats = ActivationStats::new("x", 2);
        stats.add(&ramp, 2).unwrap();
        assert!((stats.mean_square(0) - 4.0 / 3.0).abs() < 2e-3, "{}", stats.mean_square(0));
        assert_eq!(stats.mean_square(1), 0.0);
        let mut half = ActivationStats::new("x", 1);
        half.add(&ramp, 1).unwrap();
        assert!((half.mean_square(0) * 2.0 - stats.mean_square(0)).abs() < 1e-12);
    }

    #[test]
    fn an_exponential_and_a_point_are_off_by_what_the_doc_says() {
        let n = 200_000;
        let sample: Vec<f32> = (0..n).map(|i| -(1.0 - (f64::from(i) + 0.5) / f64::from(n)).ln() as f32).collect();
        let truth = sample.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / sample.len() as f64;
        let mut stats = ActivationStats::new("x", 1);
        stats.add(&sample, 1).unwrap();
        assert!((stats.mean_square(0) / truth - 1.0670).abs() < 5e-4, "{}", stats.mean_square(0) / truth);
        for (x, worst) in [(1.0f32, 19.0 / 12.0), (1.4999999, 19.0 / 27.0)] {
            let mut point = ActivationStats::new("x", 1);
            point.add(&[x], 1).unwrap();
            assert!((point.mean_square(0) / f64::from(x).powi(2) - worst).abs() < 1e-6);
        }
        assert_eq!(ActivationStats::new("x", 1).mean_square(0), 0.0);
    }
}
