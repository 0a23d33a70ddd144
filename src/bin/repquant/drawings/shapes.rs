//! The ten shapes, each in a frame of its own of about radius 1, and how a shape is placed in a
//! picture.

use super::random::Random;

/// Names of the classes, sorted, so that folders named after them are in the order of the labels.
pub(crate) const CLASSES: [&str; 10] =
    ["arrow", "circle", "crescent", "cross", "heart", "pentagon", "ring", "square", "star", "triangle"];

/// Corners of the regular pentagon of radius 1, clockwise from the top (y points down).
const PENTAGON: [[f64; 2]; 5] = [
    [0.0, -1.0],
    [0.951_056_516_295, -0.309_016_994_375],
    [0.587_785_252_292, 0.809_016_994_375],
    [-0.587_785_252_292, 0.809_016_994_375],
    [-0.951_056_516_295, -0.309_016_994_375],
];

/// A figure in its own frame.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// Everything within radius 0.9.
    Circle,
    /// Radius `inner` to 0.95.
    Ring { inner: f64 },
    /// Radius 0.95 without a circle of radius `bite` around (`offset`, 0).
    Crescent { offset: f64, bite: f64 },
    /// `(x² + y² − 1)³ ≤ x²·y³`, with y up.
    Heart,
    /// The inside of a closed polygon, by the even-odd rule.
    Polygon(Vec<[f64; 2]>),
}

impl Shape {
    /// The figure of class `label`, its proportions varied.
    pub(super) fn of_class(label: usize, random: &mut Random) -> Self {
        match CLASSES[label] {
            "arrow" => {
                let (head, shaft, neck) =
                    (random.between(0.62, 0.85), random.between(0.16, 0.28), random.between(-0.2, 0.05));
                Self::Polygon(vec![
                    [0.0, -1.0],
                    [head, neck],
                    [shaft, neck],
                    [shaft, 1.0],
                    [-shaft, 1.0],
                    [-shaft, neck],
                    [-head, neck],
                ])
            }
            "circle" => Self::Circle,
            "crescent" => Self::Crescent { offset: random.between(0.38, 0.56), bite: random.between(0.66, 0.78) },
            "cross" => {
                let a = random.between(0.2, 0.36);
                let corner = |x: f64, y: f64| [[x * a, y], [x * a, y * a], [x, y * a]];
                let mut points = Vec::with_capacity(12);
                points.extend(corner(1.0, -1.0));
                points.extend(corner(1.0, 1.0).iter().rev());
                points.extend(corner(-1.0, 1.0));
                points.extend(corner(-1.0, -1.0).iter().rev());
                Self::Polygon(points)
            }
            "heart" => Self::Heart,
            "pentagon" => Self::Polygon(PENTAGON.to_vec()),
            "ring" => Self::Ring { inner: random.between(0.42, 0.66) },
            "square" => Self::Polygon(vec![[-0.8, -0.8], [0.8, -0.8], [0.8, 0.8], [-0.8, 0.8]]),
            "star" => {
                // An inner corner lies opposite an outer one.
                let depth = random.between(0.34, 0.5);
                let inner = |i: usize| PENTAGON[(i + 3) % 5].map(|v| -depth * v);
                Self::Polygon((0..5).flat_map(|i| [PENTAGON[i], inner(i)]).collect())
            }
            _ => Self::Polygon(vec![[0.0, -1.0], [0.92, 0.62], [-0.92, 0.62]]),
        }
    }

    /// The square from −1 to 1: a bar, once it is stretched.
    pub(super) fn bar() -> Self {
        Self::Polygon(vec![[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    }

    fn covers(&self, x: f64, y: f64) -> bool {
        let square = x * x + y * y;
        match self {
            Self::Circle => square <= 0.81,
            Self::Ring { inner } => square <= 0.9025 && square >= inner * inner,
            Self::Crescent { offset, bite } => {
                let dx = x - offset;
                square <= 0.9025 && dx * dx + y * y >= bite * bite
            }
            Self::Heart => {
                // The curve spans −1.14 … 1.14 by −1 … 1.24: scaled and moved into the frame.
                let (x, y) = (1.2 * x, 0.1 - 1.2 * y);
                let a = x * x + y * y - 1.0;
                a * a * a <= x * x * y * y * y
            }
            Self::Polygon(points) => {
                let mut inside = false;
                let mut from = points[points.len() - 1];
                for &to in points {
                    if (from[1] > y) != (to[1] > y)
                        && x < from[0] + (y - from[1]) / (to[1] - from[1]) * (to[0] - from[0])
                    {
                        inside = !inside;
                    }
                    from = to;
                }
                inside
            }
        }
    }
}

/// A shape placed in a picture.
#[derive(Debug, Clone)]
pub(super) struct Stencil {
    shape: Shape,
    centre: [f64; 2],
    /// From an offset in pixels to the shape's frame.
    inverse: [[f64; 2]; 2],
}

impl Stencil {
    /// Places `shape` at `centre` (pixels), its x axis along the unit vector `axis`, its half width
    /// and half height `radii` (pixels), sheared by `shear`.
    pub(super) fn new(shape: Shape, centre: [f64; 2], axis: [f64; 2], radii: [f64; 2], shear: f64) -> Self {
        let [c, s] = axis;
        let along = [c / radii[0], s / radii[0]];
        let across = [-s / radii[1], c / radii[1]];
        let inverse = [[along[0] + shear * across[0], along[1] + shear * across[1]], across];
        Self { shape, centre, inverse }
    }

    /// Whether the shape covers the point (pixels).
    pub(super) fn covers(&self, x: f64, y: f64) -> bool {
        let (dx, dy) = (x - self.centre[0], y - self.centre[1]);
        let [u, v] = self.inverse.map(|row| row[0] * dx + row[1] * dy);
        // Every shape keeps within ±1.3 of its centre; most points of a picture are outside and
        // need no more.
        u.abs() <= 1.3 && v.abs() <= 1.3 && self.shape.covers(u, v)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(shape: &Shape) -> f64 {
        let grid = |i: i32| f64::from(i) / 100.0 + 0.005;
        let hits = (-130..130).flat_map(|j| (-130..130).map(move |i| (grid(i), grid(j))));
        hits.filter(|&(x, y)| shape.covers(x, y)).count() as f64 / 10_000.0
    }

    #[test]
    fn areas_are_those_of_the_figures() {
        let pi = std::f64::consts::PI;
        assert!((area(&Shape::Circle) - 0.81 * pi).abs() < 0.01);
        assert!((area(&Shape::Ring { inner: 0.5 }) - (0.9025 - 0.25) * pi).abs() < 0.01);
        // 5/2 · sin 72°.
        assert!((area(&Shape::Polygon(PENTAGON.to_vec())) - 2.377_641).abs() < 0.01);
        assert!((area(&Shape::bar()) - 4.0).abs() < 1e-9);
        // The area inside the heart curve is 3.661972 (numerical), here scaled by 1/1.2 in both
        // directions.
        assert!((area(&Shape::Heart) - 3.661_972 / 1.44).abs() < 0.01);
    }

    #[test]
    fn every_class_has_its_own_figure_within_the_frame() {
        for (label, class) in CLASSES.iter().enumerate() {
            let shape = Shape::of_class(label, &mut Random::new(1, 0));
            let size = area(&shape);
            assert!((0.5..3.0).contains(&size), "{class}: {size}");
        }
        assert!(CLASSES.is_sorted());
    }

    #[test]
    fn a_stencil_is_placed_turned_and_stretched() {
        let bar = Stencil::new(Shape::bar(), [10.0, 20.0], [0.0, 1.0], [5.0, 2.0], 0.0);
        assert!(bar.covers(10.0, 24.9) && bar.covers(11.9, 20.0));
        assert!(!bar.covers(10.0, 25.1) && !bar.covers(12.1, 20.0));
    }
}
