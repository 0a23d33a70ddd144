//! Parameters of the operations that compute without weights.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::Shape;

/// A function of one value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Activation {
    /// `min(max(x, low), high)`; either may be infinite. `ReLU` that follows nothing it could be
    /// fused into is `[0, ∞)`.
    Clip {
        /// The smallest value; −∞ is null in JSON.
        #[serde(deserialize_with = "or_lowest")]
        low: f32,
        /// The largest value; ∞ is null in JSON.
        #[serde(deserialize_with = "or_highest")]
        high: f32,
    },
    /// `x` where it is positive, else `slope·x`.
    LeakyRelu {
        /// Factor of negative values.
        slope: f32,
    },
    /// `1 / (1 + e^(−x))`.
    Sigmoid,
    /// `min(max(slope·x + offset, 0), 1)`.
    HardSigmoid {
        /// Factor of x.
        slope: f32,
        /// The value at 0.
        offset: f32,
    },
    /// `x · min(max(x/6 + 1/2, 0), 1)`.
    HardSwish,
    /// `x / (1 + e^(−x))`.
    Silu,
}

fn or_lowest<'de, D: Deserializer<'de>>(low: D) -> Result<f32, D::Error> {
    Ok(Option::deserialize(low)?.unwrap_or(f32::NEG_INFINITY))
}

fn or_highest<'de, D: Deserializer<'de>>(high: D) -> Result<f32, D::Error> {
    Ok(Option::deserialize(high)?.unwrap_or(f32::INFINITY))
}

impl Activation {
    /// The function, in f64.
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Self::Clip { low, high } => x.max(f64::from(low)).min(f64::from(high)),
            Self::LeakyRelu { slope } => {
                if x < 0.0 {
                    f64::from(slope) * x
                } else {
                    x
                }
            }
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::HardSigmoid { slope, offset } => (f64::from(slope) * x + f64::from(offset)).clamp(0.0, 1.0),
            Self::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Self::Silu => x / (1.0 + (-x).exp()),
        }
    }

    /// Whether its parameters are finite; bounds of a clip may be infinite, if they leave
    /// something.
    pub fn is_in_range(self) -> bool {
        match self {
            Self::Clip { low, high } => low < f32::INFINITY && high > f32::NEG_INFINITY,
            Self::LeakyRelu { slope } => slope.is_finite(),
            Self::HardSigmoid { slope, offset } => slope.is_finite() && offset.is_finite(),
            Self::Sigmoid | Self::HardSwish | Self::Silu => true,
        }
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clip { .. } => "clip",
            Self::LeakyRelu { .. } => "leaky relu",
            Self::Sigmoid => "sigmoid",
            Self::HardSigmoid { .. } => "hard sigmoid",
            Self::HardSwish => "hard swish",
            Self::Silu => "silu",
        }
    }
}

/// A function of two values, element by element.
///
/// The operands have the same shape, or a side of either is 1 where the other's is not, and that
/// one value serves all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a − b`.
    Sub,
    /// `a · b`.
    Mul,
}

impl Binary {
    /// The function, in f64.
    pub fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
        }
    }
}

/// The shape of what [`Binary`] gives, none where the operands do not go together.
pub(crate) fn broadcast(a: Shape, b: Shape) -> Option<Shape> {
    let side = |a: usize, b: usize| match (a, b) {
        (a, b) if a == b => Some(a),
        (1, side) | (side, 1) => Some(side),
        _ => None,
    };
    Some(Shape::new(side(a.channels, b.channels)?, side(a.height, b.height)?, side(a.width, b.width)?))
}

/// The shape of a matrix product, channels × rows × depth by channels × depth × columns: channels ×
/// rows × columns, none where the operands do not go together. An operand of one channel serves all.
pub(crate) fn matrix_product(a: Shape, b: Shape) -> Option<Shape> {
    let channels = match (a.channels, b.channels) {
        (a, b) if a == b => a,
        (1, channels) | (channels, 1) => channels,
        _ => return None,
    };
    (a.width == b.height).then(|| Shape::new(channels, a.height, b.width))
}

/// An axis of an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Axis {
    /// Channels.
    Channels,
    /// Rows.
    Height,
    /// Columns.
    Width,
}

impl Axis {
    /// The side of a shape along this axis.
    pub fn of(self, shape: Shape) -> usize {
        match self {
            Self::Channels => shape.channels,
            Self::Height => shape.height,
            Self::Width => shape.width,
        }
    }

    /// `shape` with another side along this axis.
    pub fn with(self, shape: Shape, side: usize) -> Shape {
        match self {
            Self::Channels => Shape { channels: side, ..shape },
            Self::Height => Shape { height: side, ..shape },
            Self::Width => Shape { width: side, ..shape },
        }
    }

    /// Its index in the order batch, channels, rows, columns.
    pub fn index(self) -> usize {
        match self {
            Self::Channels => 1,
            Self::Height => 2,
            Self::Width => 3,
        }
    }
}

/// The shape of activations joined along `axis`, none where their other sides differ.
pub(crate) fn joined(shapes: &[Shape], axis: Axis) -> Option<Shape> {
    let first = *shapes.first()?;
    let side = shapes.iter().try_fold(0usize, |sum, shape| {
        (axis.with(*shape, 0) == axis.with(first, 0)).then(|| sum.checked_add(axis.of(*shape)))?
    });
    Some(axis.with(first, side?))
}

/// Bilinear resizing of rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// Rows and columns of the result.
    pub size: [usize; 2],
    /// Where the pixels of the result lie in the image.
    pub coordinates: Coordinates,
    /// Pixels of the result for each of the image, vertical and horizontal, where that is not the
    /// ratio of their sides: a scale whose result was rounded down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<[f32; 2]>,
}

impl Resize {
    /// The two rows (`axis` 0) or columns (1) of an image of side `from` that number `i` of the
    /// result lies between, and the share of the second.
    pub fn neighbours(&self, axis: usize, i: usize, from: usize) -> (usize, usize, f64) {
        let ratio = match self.scale {
            None => [from as f64, self.size[axis] as f64],
            Some(scale) => [1.0, f64::from(scale[axis])],
        };
        let last = from.saturating_sub(1);
        let position = self.coordinates.position(i, from, self.size[axis], ratio).clamp(0.0, last as f64);
        let low = (position.floor() as usize).min(last);
        (low, (low + 1).min(last), position - low as f64)
    }
}

/// Where pixel `i` of `to` lies among those of a side `from`, with a ratio that is `from/to` or
/// near it; beyond the first and the last these are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coordinates {
    /// `(i + 1/2)·ratio − 1/2`.
    HalfPixel,
    /// As [`Self::HalfPixel`], but 0 where `to` is 1.
    PytorchHalfPixel,
    /// `i·(from − 1)/(to − 1)`, 0 where `to` is 1.
    AlignCorners,
    /// `i·ratio`.
    Asymmetric,
}

impl Coordinates {
    /// The position of pixel `i`, in f64; the ratio as a fraction, so that positions that are
    /// halves come out as halves.
    pub fn position(self, i: usize, from: usize, to: usize, ratio: [f64; 2]) -> f64 {
        let (i, from, to) = (i as f64, from as f64, to as f64);
        match self {
            Self::PytorchHalfPixel | Self::AlignCorners if to <= 1.0 => 0.0,
            Self::HalfPixel | Self::PytorchHalfPixel => (i + 0.5) * ratio[0] / ratio[1] - 0.5,
            Self::AlignCorners => i * (from - 1.0) / (to - 1.0),
            Self::Asymmetric => i * ratio[0] / ratio[1],
        }
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Channels => "channels",
            Self::Height => "height",
            Self::Width => "width",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinite_bounds_are_null_in_json() {
        let relu = Activation::Clip { low: 0.0, high: f32::INFINITY };
        let text = serde_json::to_string(&relu).unwrap();
        assert_eq!(text, r#"{"clip":{"low":0.0,"high":null}}"#);
        assert_eq!(serde_json::from_str::<Activation>(&text).unwrap(), relu);
        let lower = serde_json::from_str::<Activation>(r#"{"clip":{"low":null,"high":1.5}}"#).unwrap();
        assert_eq!(lower, Activation::Clip { low: f32::NEG_INFINITY, high: 1.5 });
        assert!(serde_json::from_str::<Activation>(r#"{"clip":{"low":0.0}}"#).is_err());
    }

    #[test]
    fn operands_and_parts_that_go_together() {
        let (x, scale, mask) = (Shape::new(8, 5, 6), Shape::new(8, 1, 1), Shape::new(1, 5, 6));
        assert_eq!((broadcast(x, scale), broadcast(mask, x), broadcast(scale, mask)), (Some(x), Some(x), Some(x)));
        assert_eq!(broadcast(x, Shape::new(4, 1, 1)), None);
        let (square, one) = (Shape::new(8, 6, 2), Shape::new(1, 6, 2));
        assert_eq!(matrix_product(x, square), Some(Shape::new(8, 5, 2)));
        assert_eq!(matrix_product(x, one), Some(Shape::new(8, 5, 2)));
        assert_eq!((matrix_product(square, x), matrix_product(x, Shape::new(3, 6, 2))), (None, None));
        assert_eq!(joined(&[x, mask], Axis::Channels), Some(Shape::new(9, 5, 6)));
        assert_eq!(joined(&[x, scale], Axis::Channels), None);
    }

    #[test]
    fn coordinates_of_pytorch() {
        let of = |coordinates, i: usize, from: usize, to: usize| {
            Resize { size: [to; 2], coordinates, scale: None }.neighbours(0, i, from)
        };
        // torch.nn.functional.interpolate of 3 to 6, bilinear: align_corners False and True.
        assert_eq!(of(Coordinates::HalfPixel, 0, 3, 6), (0, 1, 0.0));
        assert_eq!(of(Coordinates::HalfPixel, 3, 3, 6), (1, 2, 0.25));
        assert_eq!(of(Coordinates::HalfPixel, 5, 3, 6), (2, 2, 0.0));
        let (low, high, share) = of(Coordinates::AlignCorners, 4, 3, 6);
        assert!((low, high) == (1, 2) && (share - 0.6).abs() < 1e-12);
        assert_eq!(of(Coordinates::AlignCorners, 0, 3, 1), (0, 1, 0.0));
        // 4 columns scaled by 0.625 are 2, and 1.6 apart: the second at 1.5·1.6 − 0.5.
        let scaled = Resize { size: [2; 2], coordinates: Coordinates::HalfPixel, scale: Some([0.625; 2]) };
        let (low, high, share) = scaled.neighbours(1, 1, 4);
        assert!((low, high) == (1, 2) && (share - 0.9).abs() < 1e-12);
        let text = serde_json::to_string(&Resize { scale: None, ..scaled }).unwrap();
        assert_eq!(text, r#"{"size":[2,2],"coordinates":"half_pixel"}"#);
    }

    #[test]
    fn activations_at_known_points() {
        assert_eq!(Activation::Clip { low: 0.0, high: 6.0 }.apply(7.0), 6.0);
        assert_eq!(Activation::LeakyRelu { slope: 0.5 }.apply(-3.0), -1.5);
        assert_eq!(Activation::HardSwish.apply(1.0), 1.0 * (1.0 / 6.0 + 0.5));
        assert_eq!(Activation::HardSwish.apply(-3.5), 0.0);
        assert_eq!((Activation::Sigmoid.apply(0.0), Activation::Silu.apply(0.0)), (0.5, 0.0));
        assert_eq!(Activation::HardSigmoid { slope: 0.5, offset: 0.25 }.apply(0.5), 0.5);
    }
}
