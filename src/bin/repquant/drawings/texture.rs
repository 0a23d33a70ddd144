//! Paint: a colour at each point of a picture, plain or with a pattern.

use super::random::{Random, mix, unit};

/// Red, green, blue, 0 … 1.
pub(super) type Colour = [f64; 3];

/// How the two colours of a paint are mixed at a point.
#[derive(Debug, Clone)]
enum Pattern {
    /// The first colour alone.
    Plain,
    /// From one to the other along a line: `dot(point, step) + start`, clamped.
    Gradient { step: [f64; 2], start: f64 },
    /// Stripes across `step`, whose length is the stripes' frequency in 1/pixel.
    Stripes { step: [f64; 2], start: f64 },
    /// A chequerboard of the same two stripes at right angles.
    Checks { step: [f64; 2], start: f64 },
    /// Value noise in two octaves; `step` is the coarse lattice's frequency in 1/pixel.
    Clouds { step: f64, seed: u64 },
}

/// Two colours and a pattern.
#[derive(Debug, Clone)]
pub(super) struct Paint {
    colours: [Colour; 2],
    pattern: Pattern,
}

/// `a` at t = 0, `b` at t = 1.
fn lerp(a: f64, b: f64, t: f64) -> f64 {
    a + (b - a) * t
}

/// A wave of period 1 that goes from 0 up to 1 and back, flattened at both ends.
fn wave(x: f64) -> f64 {
    let phase = x - x.floor();
    let triangle = if phase < 0.5 { 2.0 * phase } else { 2.0 - 2.0 * phase };
    (3.0 * triangle - 1.0).clamp(0.0, 1.0)
}

fn lattice(seed: u64, x: f64, y: f64) -> f64 {
    // Lattice points are small whole numbers; the offset keeps them positive.
    let key = ((x + 1024.0) as u64) << 32 | (y + 1024.0) as u64;
    unit(mix(seed ^ mix(key)))
}

/// Value noise: random values at whole points, blended smoothly between them.
fn noise(seed: u64, x: f64, y: f64) -> f64 {
    let (x0, y0) = (x.floor(), y.floor());
    let smooth = |t: f64| t * t * (3.0 - 2.0 * t);
    let (u, v) = (smooth(x - x0), smooth(y - y0));
    let row = |y: f64| lerp(lattice(seed, x0, y), lattice(seed, x0 + 1.0, y), u);
    lerp(row(y0), row(y0 + 1.0), v)
}

impl Paint {
    /// `base`, with a second colour up to `strength` away in each channel and a random pattern.
    pub(super) fn new(base: Colour, strength: f64, random: &mut Random) -> Self {
        let other = base.map(|v| (v + random.between(-strength, strength)).clamp(0.0, 1.0));
        let [dx, dy] = random.direction();
        let start = random.between(0.0, 1.0);
        let scaled = |f: f64| [dx * f, dy * f];
        let pattern = match random.below(6) {
            0 => Pattern::Plain,
            1 | 2 => Pattern::Gradient {
                step: scaled(random.between(0.02, 0.06)),
                // 0.5 in the middle of the picture, give or take.
                start: 0.5 + random.between(-0.3, 0.3),
            },
            3 => Pattern::Stripes { step: scaled(random.between(0.08, 0.25)), start },
            4 => Pattern::Checks { step: scaled(random.between(0.06, 0.18)), start },
            _ => Pattern::Clouds { step: random.between(0.08, 0.3), seed: random.bits() },
        };
        Self { colours: [base, other], pattern }
    }

    /// The least distance of the paint's two colours from `colour`.
    pub(super) fn distance(&self, colour: Colour) -> f64 {
        let to = |own: &Colour| (0..3).map(|c| (own[c] - colour[c]) * (own[c] - colour[c])).sum::<f64>().sqrt();
        to(&self.colours[0]).min(to(&self.colours[1]))
    }

    /// The colour at a point (pixels from the middle of the picture).
    pub(super) fn at(&self, x: f64, y: f64) -> Colour {
        let along = |step: &[f64; 2]| x * step[0] + y * step[1];
        let across = |step: &[f64; 2]| y * step[0] - x * step[1];
        let t = match &self.pattern {
            Pattern::Plain => 0.0,
            Pattern::Gradient { step, start } => (along(step) + start).clamp(0.0, 1.0),
            Pattern::Stripes { step, start } => wave(along(step) + start),
            Pattern::Checks { step, start } => {
                let (a, b) = (wave(along(step) + start), wave(across(step) + start));
                a + b - 2.0 * a * b
            }
            Pattern::Clouds { step, seed } => {
                let (x, y) = (x * step, y * step);
                let sum = 2.0 * noise(*seed, x, y) + noise(!*seed, 2.0 * x, 2.0 * y);
                (sum - 0.75).clamp(0.0, 1.5) / 1.5
            }
        };
        std::array::from_fn(|c| lerp(self.colours[0][c], self.colours[1][c], t))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paint_stays_between_its_two_colours() {
        for index in 0..60 {
            let mut random = Random::new(1, index);
            let paint = Paint::new([0.2, 0.5, 0.9], 0.4, &mut random);
            let [a, b] = paint.colours;
            for i in 0..100 {
                let colour = paint.at(f64::from(i % 10) * 3.0 - 16.0, f64::from(i / 10) * 3.0 - 16.0);
                for c in 0..3 {
                    let (low, high) = (a[c].min(b[c]), a[c].max(b[c]));
                    assert!((low - 1e-12..=high + 1e-12).contains(&colour[c]), "{paint:?} {colour:?}");
                }
            }
        }
    }

    #[test]
    fn noise_takes_the_lattice_values_at_whole_points_and_is_continuous() {
        assert_eq!(noise(5, 3.0, -2.0), lattice(5, 3.0, -2.0));
        let (before, after) = (noise(5, 3.0 - 1e-9, 0.3), noise(5, 3.0 + 1e-9, 0.3));
        assert!((before - after).abs() < 1e-8);
    }
}
