//! The demo's pictures: one of ten shapes, 32×32 in colour, under random pose, paint, clutter, blur
//! and noise.
//!
//! A drawing is a pure function of its split and index. It uses f64 sums, products, quotients and
//! square roots alone, which IEEE 754 defines to the bit, so every platform draws the same pixels.

#[cfg_attr(not(test), allow(dead_code, reason = "an example writes folders"))]
pub(crate) mod folder;
mod random;
mod shapes;
mod texture;

use std::collections::VecDeque;

use rayon::prelude::*;
use repquant::options::RgbImage;

use self::random::Random;
pub(crate) use self::shapes::CLASSES;
use self::shapes::{Shape, Stencil};
use self::texture::{Colour, Paint};

/// Width and height of a drawing.
pub(crate) const SIZE: usize = 32;

/// Each pixel is the mean of `SAMPLES` × `SAMPLES` points.
const SAMPLES: usize = 4;

/// A disjoint, endless set of drawings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    /// What the embedded network was trained on.
    Train,
    /// For collecting activation ranges.
    Calibration,
    /// For measuring accuracy.
    Evaluation,
}

impl Split {
    /// `train`, `calibration` or `evaluation`.
    #[cfg_attr(not(test), allow(dead_code, reason = "an example names them"))]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Calibration => "calibration",
            Self::Evaluation => "evaluation",
        }
    }

    fn stream(self) -> u8 {
        match self {
            Self::Train => 1,
            Self::Calibration => 2,
            Self::Evaluation => 3,
        }
    }
}

/// One picture and what it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Drawing {
    /// [`SIZE`] rows of [`SIZE`] pixels, `R | G << 8 | B << 16`.
    pub(crate) pixels: Vec<u32>,
    /// Index into [`CLASSES`].
    pub(crate) label: usize,
}

/// One coat of paint through one stencil.
struct Layer {
    stencil: Stencil,
    paint: Paint,
}

/// What is drawn: a ground and the layers on it, the last on top.
struct Scene {
    ground: Paint,
    layers: Vec<Layer>,
}

impl Scene {
    /// The colour at a point (pixels from the picture's corner).
    fn at(&self, x: f64, y: f64) -> Colour {
        let top = self.layers.iter().rev().find(|layer| layer.stencil.covers(x, y));
        let middle = SIZE as f64 / 2.0;
        top.map_or(&self.ground, |layer| &layer.paint).at(x - middle, y - middle)
    }
}

fn colour(random: &mut Random) -> Colour {
    std::array::from_fn(|_| random.between(0.0, 1.0))
}

/// A colour at least `contrast` from both colours of `ground`.
fn contrasting(ground: &Paint, contrast: f64, random: &mut Random) -> Colour {
    // Some colour always is that far off: two balls of this radius do not fill the cube. The bound
    // is for safety.
    let mut best = colour(random);
    for _ in 0..64 {
        if ground.distance(best) >= contrast {
            break;
        }
        let next = colour(random);
        if ground.distance(next) > ground.distance(best) {
            best = next;
        }
    }
    best
}

/// A thin bar or a dot, anywhere.
fn clutter(paint: Paint, random: &mut Random) -> Layer {
    let centre = [random.between(0.0, 32.0), random.between(0.0, 32.0)];
    let stencil = if random.chance(0.5) {
        let radii = [random.between(3.0, 14.0), random.between(0.5, 1.3)];
        Stencil::new(Shape::bar(), centre, random.direction(), radii, 0.0)
    } else {
        let radius = random.between(1.0, 2.8);
        Stencil::new(Shape::Circle, centre, random.direction(), [radius, radius], 0.0)
    };
    Layer { stencil, paint }
}

fn scene(label: usize, random: &mut Random) -> Scene {
    let strength = random.between(0.1, 0.55);
    let base = colour(random);
    let ground = Paint::new(base, strength, random);

    // Low contrast is commoner than high: the square of a uniform number.
    let c = random.between(0.0, 1.0);
    let base = contrasting(&ground, 0.22 + 0.33 * c * c, random);
    let strength = random.between(0.0, 0.3);
    let paint = Paint::new(base, strength, random);

    let radius = random.between(6.0, 12.5);
    // The shape's middle stays far enough inside for most of it to be seen.
    let room = (17.0 - radius).max(3.5);
    let centre = [16.0 + random.between(-room, room), 16.0 + random.between(-room, room)];
    let stretch = random.between(0.82, 1.0);
    let radii = if random.chance(0.5) { [radius, radius * stretch] } else { [radius * stretch, radius] };
    let shear = random.between(-0.18, 0.18);
    let shape = Shape::of_class(label, random);
    let main = Layer { stencil: Stencil::new(shape, centre, random.direction(), radii, shear), paint };

    let mut layers = Vec::new();
    for _ in 0..random.below(4) {
        let (base, strength) = (colour(random), random.between(0.0, 0.3));
        let paint = Paint::new(base, strength, random);
        layers.push(clutter(paint, random));
    }
    layers.push(main);
    for _ in 0..random.below(3) {
        // What lies on top is painted as the ground is, half of the time: it then bites into the
        // shape.
        let base = colour(random);
        let paint = if random.chance(0.5) { ground.clone() } else { Paint::new(base, 0.2, random) };
        layers.push(clutter(paint, random));
    }
    Scene { ground, layers }
}

/// Blends each pixel with the 3×3 binomial mean around it (edges repeated): `weight` 0 leaves it, 1
/// is that mean.
fn blur(pixels: &[Colour], weight: f64) -> Vec<Colour> {
    let at = |x: usize, y: usize| pixels[y * SIZE + x];
    let around = |i: usize| [i.saturating_sub(1), i, (i + 1).min(SIZE - 1)];
    let taps = [0.25, 0.5, 0.25];
    (0..SIZE * SIZE)
        .map(|i| {
            let (x, y) = (i % SIZE, i / SIZE);
            std::array::from_fn(|c| {
                let mut mean = 0.0;
                for (row, tap_y) in around(y).into_iter().zip(taps) {
                    for (column, tap_x) in around(x).into_iter().zip(taps) {
                        mean += tap_x * tap_y * at(column, row)[c];
                    }
                }
                pixels[i][c] + weight * (mean - pixels[i][c])
            })
        })
        .collect()
}

/// Draws picture `index` of a split. Labels go round: picture i shows class i mod 10. Indices wrap
/// around at 2^40.
pub(crate) fn draw(split: Split, index: u64) -> Drawing {
    let label = (index % CLASSES.len() as u64) as usize;
    let mut random = Random::new(split.stream(), index);
    let scene = scene(label, &mut random);
    let offset = |i: usize| (i as f64 + 0.5) / SAMPLES as f64;
    let samples = (SAMPLES * SAMPLES) as f64;
    let mut pixels: Vec<Colour> = (0..SIZE * SIZE)
        .map(|i| {
            let (x, y) = ((i % SIZE) as f64, (i / SIZE) as f64);
            let mut sum = [0.0; 3];
            for j in 0..SAMPLES {
                for k in 0..SAMPLES {
                    let point = scene.at(x + offset(k), y + offset(j));
                    for (sum, value) in sum.iter_mut().zip(point) {
                        *sum += value;
                    }
                }
            }
            sum.map(|v| v / samples)
        })
        .collect();
    for _ in 0..random.below(3) {
        let weight = random.between(0.2, 1.0);
        pixels = blur(&pixels, weight);
    }
    let sigma = random.between(0.0, 0.09);
    let bytes = |colour: Colour| {
        // Truncation after the clamp is the rounding to the nearest level.
        let level = colour.map(|v| ((v + sigma * random.normal()).clamp(0.0, 1.0) * 255.0 + 0.5) as u32);
        level[0] | level[1] << 8 | level[2] << 16
    };
    Drawing { pixels: pixels.into_iter().map(bytes).collect(), label }
}

/// The first `count` drawings of a split and their classes, drawn on all cores a few hundred at a
/// time.
pub(crate) fn images(split: Split, count: usize) -> Drawings {
    Drawings { split, next: 0, count, ahead: 256, ready: VecDeque::new() }
}

/// Drawings in order; see [`images`].
pub(crate) struct Drawings {
    split: Split,
    next: usize,
    count: usize,
    ahead: usize,
    ready: VecDeque<Drawing>,
}

impl Iterator for Drawings {
    type Item = (RgbImage, Option<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() {
            let end = self.count.min(self.next + self.ahead.max(1));
            let drawings: Vec<Drawing> = (self.next..end).into_par_iter().map(|i| draw(self.split, i as u64)).collect();
            self.ready = drawings.into();
            self.next = end;
        }
        let Drawing { pixels, label } = self.ready.pop_front()?;
        let bytes = pixels.iter().flat_map(|pixel| pixel.to_le_bytes().into_iter().take(3)).collect();
        Some((RgbImage { width: SIZE, height: SIZE, pixels: bytes }, Some(label)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.count - self.next + self.ready.len();
        (left, Some(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FNV-1a, 64 bits, over the pixels' bytes.
    fn checksum(drawings: impl Iterator<Item = Drawing>) -> u64 {
        drawings
            .flat_map(|d| d.pixels)
            .flat_map(u32::to_le_bytes)
            .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3))
    }

    #[test]
    fn drawings_are_the_same_everywhere() {
        // Written down on x86-64 Linux. Another value means that a platform, or a change, draws
        // other pictures than those the embedded network was trained on.
        let of = |split| checksum((0..200).map(|i| draw(split, i)));
        let found = [of(Split::Train), of(Split::Calibration), of(Split::Evaluation)];
        assert_eq!(found, [0xde19_ffd3_c0ac_cc09, 0x5019_ecf0_a99c_6221, 0x074f_3c22_6236_0a0d], "{found:#018x?}");
    }

    #[test]
    fn splits_and_indices_draw_different_pictures() {
        let mut seen: Vec<Vec<u32>> = [Split::Train, Split::Calibration, Split::Evaluation]
            .into_iter()
            .flat_map(|split| (0..100).map(move |i| draw(split, i).pixels))
            .collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 300);
    }

    #[test]
    fn the_drawings_come_in_order_however_many_are_drawn_at_a_time() {
        let all: Vec<_> = images(Split::Evaluation, 23).collect();
        assert_eq!((all.len(), all[0].0.width, all[0].0.height), (23, 32, 32));
        let bytes: Vec<u8> =
            draw(Split::Evaluation, 5).pixels.iter().flat_map(|p| p.to_le_bytes()[..3].to_vec()).collect();
        assert_eq!(all[5].0.pixels, bytes);
        assert_eq!(all[13].1, Some(3));
        for ahead in [0, 1, 7, 23] {
            let mut some = Drawings { ahead, ..images(Split::Evaluation, 23) };
            assert_eq!(some.size_hint(), (23, Some(23)));
            let first = some.next();
            assert_eq!(some.size_hint(), (22, Some(22)));
            assert_eq!(first.into_iter().chain(some).collect::<Vec<_>>(), all);
        }
        assert_eq!(images(Split::Train, 0).count(), 0);
    }
}
