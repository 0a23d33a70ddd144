//! What the words of an activation mean.

use crate::model::{Computed, QNode, QParams, QuantizedGraph, Shape};
use crate::{Error, Result};

/// What an activation's words are, NHWC with channels padded to fours.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Encoding {
    /// int8 levels, four to a word.
    Levels(QParams),
    /// int32 accumulators of a convolution or classifier.
    Accumulators {
        /// The real value of one step of each channel's, `s_x·scale[o]`.
        factors: Vec<f64>,
        /// Whether negative ones are 0: a `ReLU` follows.
        relu: bool,
    },
    /// f32.
    Float,
}

impl Encoding {
    /// What a node of a quantized network gives.
    ///
    /// # Errors
    /// If the node cannot be left without levels, or a convolution's input is not levels.
    pub(super) fn of(graph: &QuantizedGraph, node: &QNode) -> Result<Self> {
        match (&node.computed, node.output) {
            (_, Some(q)) => Ok(Self::Levels(q)),
            (Computed::Float(_), None) => Ok(Self::Float),
            (Computed::Integer(integer), None) => {
                let conv = integer.op().weights();
                let conv = conv.ok_or_else(|| Error::bad("its output has no quantization parameters"))?;
                let x = levels_of(graph, node, 0)?;
                let factors = conv.scale.iter().map(|scale| f64::from(x.scale) * f64::from(*scale)).collect();
                Ok(Self::Accumulators { factors, relu: node.relu })
            }
        }
    }

    /// Real values in the order channels, rows, columns, one row for each image, from the words of
    /// an activation.
    pub(super) fn values(&self, shape: Shape, words: &[u32]) -> Vec<Vec<f64>> {
        match self {
            Self::Levels(q) => {
                let levels: &[i8] = bytemuck::cast_slice(words);
                rows(levels, shape, |level, _| q.dequantize(i32::from(level)))
            }
            Self::Accumulators { factors, relu } => {
                let least = if *relu { 0 } else { i32::MIN };
                rows(words, shape, |word, c| f64::from(word.cast_signed().max(least)) * factors[c])
            }
            Self::Float => rows(words, shape, |word, _| f64::from(f32::from_bits(word))),
        }
    }
}

/// How input `index` of a node, which must be levels, is stored.
///
/// # Errors
/// If it has no such input, or the input is not stored as levels.
pub(super) fn levels_of(graph: &QuantizedGraph, node: &QNode, index: usize) -> Result<QParams> {
    let Some(input) = node.inputs.get(index).map(|&input| &graph.nodes[input]) else {
        return Err(Error::bad(format!("it has no input {index}")));
    };
    input.output.ok_or_else(|| Error::bad(format!("its input {} is not stored as levels", input.name)))
}

/// Rows of values in the order channels, rows, columns, from words or levels in NHWC with padded
/// channels; `value` gets one and its channel.
fn rows<T: Copy>(words: &[T], shape: Shape, value: impl Fn(T, usize) -> f64) -> Vec<Vec<f64>> {
    let (padded, pixels) = (shape.padded_channels(), shape.pixels());
    let row = |image: &[T]| {
        let channel = |c: usize| (0..pixels).map(move |pixel| (pixel * padded + c, c));
        (0..shape.channels).flat_map(channel).map(|(at, c)| value(image[at], c)).collect()
    };
    words.chunks_exact(padded * pixels).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_real_values_in_the_order_of_the_host() {
        let shape = Shape::new(3, 1, 2);
        let word = |bytes: [i8; 4]| u32::from_le_bytes(bytes.map(|b| b as u8));
        let q = QParams { scale: 0.5, zero_point: 1, qmin: -128, qmax: 127 };
        let levels = [word([1, 2, 3, 1]), word([-1, 5, -128, 1]), word([4, 4, 4, 1]), word([6, 6, 6, 1])];
        let expected = [vec![0.0, -1.0, 0.5, 2.0, 1.0, -64.5], vec![1.5, 2.5, 1.5, 2.5, 1.5, 2.5]];
        assert_eq!(Encoding::Levels(q).values(shape, &levels), expected);
        let totals = [1, -2, 3, 0, 4, 5, -6, 0].map(i32::cast_unsigned);
        let of = |relu| Encoding::Accumulators { factors: vec![1.0, 10.0, 100.0], relu }.values(shape, &totals);
        assert_eq!(of(false), [[1.0, 4.0, -20.0, 50.0, 300.0, -600.0]]);
        assert_eq!(of(true), [[1.0, 4.0, 0.0, 50.0, 300.0, 0.0]]);
        let floats = [1.5f32, 2.0, -3.0, 0.0, 4.0, 5.0, 6.0, 0.0].map(f32::to_bits);
        assert_eq!(Encoding::Float.values(shape, &floats), [[1.5, 4.0, 2.0, 5.0, -3.0, 6.0]]);
    }
}
