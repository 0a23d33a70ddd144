//! What an operation is, whatever numbers it is computed in: its shapes, names and counts are
//! stated here and nowhere else.

use ndarray::Array3;
use serde::{Deserialize, Serialize};

use super::{
    Activation, Axis, Binary, Conv, Function, MAX_SIDE, Pool, PoolKind, Rearrange, Recurrent, Reduce, Resize, Shape,
    Standardize, Weights, broadcast, joined, matrix_product,
};
use crate::{Error, Result};

/// What a node computes, with weights `W`: [`Conv`] in floats, [`QConv`](super::QConv) in integers.
///
/// In JSON (`"global_average_pool"`, `{"binary": "add"}`) it is an operation without tensors:
/// convolutions, fully connected layers and constants cannot be written so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op<W = Conv> {
    /// The network input, channels × height × width.
    Input(Shape),
    /// A convolution with bias.
    #[serde(skip)]
    Conv(W),
    /// The classifier, a fully connected layer over C × 1 × 1 whose result is the only output.
    #[serde(skip)]
    Linear(W),
    /// The mean over height and width; gives C × 1 × 1.
    GlobalAveragePool,
    /// The largest over height and width; gives C × 1 × 1.
    GlobalMaxPool,
    /// A function of each value.
    Activation(Activation),
    /// A function of two activations, value by value.
    Binary(Binary),
    /// A function of one activation or several as an expression, value by value; the shapes are
    /// those of [`Binary`].
    Function(Function),
    /// Pooling over windows.
    Pool(Pool),
    /// The same values in another order or shape.
    Rearrange(Rearrange),
    /// Its inputs, two or more, one behind the other along an axis.
    Concat(Axis),
    /// Bilinear resizing.
    Resize(Resize),
    /// `e^x / Σ e^x` along an axis.
    Softmax(Axis),
    /// One value for each line.
    Reduce(Reduce),
    /// Lines with mean 0 and variance 1.
    Standardize(Standardize),
    /// Matrix products of two activations, channel by channel: channels × rows × depth by channels
    /// × depth × columns; one channel serves all.
    MatMul,
    /// States of cells that go through sequences step by step.
    #[serde(skip)]
    Recurrent(Box<Recurrent>),
    /// The same values for every image, channels × rows × columns; it has no inputs.
    #[serde(skip)]
    Constant(Array3<f32>),
}

/// Which integers an operation computes with, beside its weights; see
/// [`Constants`](super::Constants).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConstantsKind {
    /// None: levels are moved, or come from a table or from weights of their own.
    None,
    /// One multiplier.
    Multiplier,
    /// A multiplier for each divisor.
    Multipliers,
    /// Two multipliers, neither negative, and one shift.
    Sum,
    /// Two multipliers, the second not positive, and one shift.
    Difference,
    /// The multiplier of a product.
    Product,
    /// What becomes of each level.
    Table,
    /// What becomes of each level of each channel.
    ChannelTables,
    /// What becomes of each level of each input.
    Tables,
}

impl<W: Weights> Op<W> {
    /// Its name in reports.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Input(_) => "input",
            Self::Conv(_) => "conv",
            Self::Linear(_) => "linear",
            Self::GlobalAveragePool => "global average pool",
            Self::GlobalMaxPool => "global max pool",
            Self::Activation(activation) => activation.name(),
            Self::Binary(Binary::Add) => "add",
            Self::Binary(Binary::Sub) => "subtract",
            Self::Binary(Binary::Mul) => "multiply",
            Self::Function(_) => "function",
            Self::Pool(Pool { kind: PoolKind::Max, .. }) => "max pool",
            Self::Pool(_) => "average pool",
            Self::Rearrange(rearrange) => rearrange.name(),
            Self::Concat(_) => "concat",
            Self::Resize(_) => "resize",
            Self::Softmax(_) => "softmax",
            Self::Reduce(reduce) => reduce.kind.name(),
            Self::Standardize(_) => "standardization",
            Self::MatMul => "matrix product",
            Self::Recurrent(recurrent) => recurrent.cell.name(),
            Self::Constant(_) => "constant",
        }
    }

    /// How many activations it reads; none where that depends on the node.
    pub fn arity(&self) -> Option<usize> {
        match self {
            Self::Input(_) | Self::Constant(_) => Some(0),
            Self::Binary(_) | Self::MatMul => Some(2),
            Self::Function(function) => Some(function.inputs()),
            Self::Concat(_) => None,
            _ => Some(1),
        }
    }

    /// Shape of the result for inputs of these shapes; none where they do not fit it. Of a
    /// convolution the sizes alone are looked at. Parameters must be in range ([`Op::check`]).
    pub fn output(&self, inputs: &[Shape]) -> Option<Shape> {
        let fits = match self.arity() {
            Some(arity) => inputs.len() == arity,
            None => inputs.len() >= 2,
        };
        if !fits {
            return None;
        }
        Some(match self {
            Self::Input(shape) => *shape,
            Self::Constant(values) => {
                let (channels, height, width) = values.dim();
                Shape::new(channels, height, width)
            }
            Self::Conv(weights) => weights.output(inputs[0]),
            Self::Linear(weights) => weights.is_matrix().then_some(Shape::new(weights.out_channels(), 1, 1))?,
            Self::GlobalAveragePool | Self::GlobalMaxPool => Shape::new(inputs[0].channels, 1, 1),
            Self::Activation(_) | Self::Softmax(_) | Self::Standardize(_) => inputs[0],
            Self::Reduce(reduce) => reduce.along.reduced(inputs[0]),
            Self::MatMul => matrix_product(inputs[0], inputs[1])?,
            Self::Recurrent(recurrent) => recurrent.output(inputs[0])?,
            Self::Binary(_) => broadcast(inputs[0], inputs[1])?,
            Self::Function(function) => {
                let shape = inputs[1..].iter().try_fold(inputs[0], |shape, other| broadcast(shape, *other))?;
                function.channels().is_none_or(|channels| channels == shape.channels).then_some(shape)?
            }
            Self::Pool(pool) => pool.output(inputs[0]),
            Self::Rearrange(rearrange) => rearrange.fits(inputs[0]).then_some(rearrange.shape)?,
            Self::Concat(axis) => joined(inputs, *axis)?,
            Self::Resize(resize) => Shape::new(inputs[0].channels, resize.size[0], resize.size[1]),
        })
    }

    /// Checks the parameters that do not depend on the inputs, so that computing a shape cannot
    /// fail. Weights are not looked at.
    ///
    /// # Errors
    /// A parameter that is out of range, or a constant that is not finite.
    pub fn check(&self) -> Result<()> {
        let fits = |fits: bool, message: &dyn Fn() -> String| if fits { Ok(()) } else { Err(Error::bad(message())) };
        match self {
            Self::Pool(pool) => fits(pool.is_in_range(), &|| "its kernel, stride or padding is out of range".into()),
            Self::Rearrange(rearrange) => fits(rearrange.shape.checked_len().is_some(), &|| {
                format!("its output {} is too large", rearrange.shape)
            }),
            Self::Resize(resize) => {
                let sizes = resize.size.iter().all(|side| (1..=MAX_SIDE).contains(side));
                let scales = resize.scale.iter().flatten().all(|scale| scale.is_finite() && *scale > 0.0);
                fits(sizes && scales, &|| format!("it resizes to {:?}", resize.size))
            }
            Self::Activation(activation) => {
                fits(activation.is_in_range(), &|| format!("a parameter of {} is out of range", activation.name()))
            }
            Self::Function(function) => function.check(),
            Self::Recurrent(recurrent) => recurrent.check(),
            Self::Standardize(Standardize { epsilon, .. }) => {
                fits(epsilon.is_finite() && *epsilon >= 0.0, &|| format!("its epsilon is {epsilon}"))
            }
            Self::Constant(values) => {
                fits(values.iter().all(|v| v.is_finite()), &|| "a constant is not a finite number".into())
            }
            Self::Input(_)
            | Self::Conv(_)
            | Self::Linear(_)
            | Self::GlobalAveragePool
            | Self::GlobalMaxPool
            | Self::Binary(_)
            | Self::Concat(_)
            | Self::Softmax(_)
            | Self::Reduce(_)
            | Self::MatMul => Ok(()),
        }
    }

    /// Whether the values pass unchanged, all, some or several times: the result is stored as the
    /// input is.
    pub fn passes_values(&self) -> bool {
        matches!(self, Self::Rearrange(_) | Self::GlobalMaxPool | Self::Pool(Pool { kind: PoolKind::Max, .. }))
    }

    /// Whether no value of the result lies beyond those of the one input, and 0: it pools them or
    /// passes them.
    pub fn stays_within_input(&self) -> bool {
        self.passes_values() || matches!(self, Self::Pool(_) | Self::GlobalAveragePool)
    }

    /// Whether a `ReLU` that follows can be part of it.
    pub fn holds_relu(&self) -> bool {
        matches!(self, Self::Conv(_) | Self::Binary(_))
    }

    /// Which constants it computes with in integers; none where it has no integer form.
    pub fn constants(&self) -> Option<ConstantsKind> {
        match self {
            Self::Input(_)
            | Self::Conv(_)
            | Self::Linear(_)
            | Self::Rearrange(_)
            | Self::GlobalMaxPool
            | Self::Pool(Pool { kind: PoolKind::Max, .. }) => Some(ConstantsKind::None),
            Self::Pool(_) => Some(ConstantsKind::Multipliers),
            Self::GlobalAveragePool => Some(ConstantsKind::Multiplier),
            Self::Binary(Binary::Add) => Some(ConstantsKind::Sum),
            Self::Binary(Binary::Sub) => Some(ConstantsKind::Difference),
            Self::Binary(Binary::Mul) => Some(ConstantsKind::Product),
            Self::Function(function) if function.inputs() != 1 => None,
            Self::Function(function) if function.channels().is_some() => Some(ConstantsKind::ChannelTables),
            Self::Activation(_) | Self::Function(_) => Some(ConstantsKind::Table),
            Self::Concat(_) => Some(ConstantsKind::Tables),
            Self::Resize(_)
            | Self::Softmax(_)
            | Self::Reduce(_)
            | Self::Standardize(_)
            | Self::MatMul
            | Self::Recurrent(_)
            | Self::Constant(_) => None,
        }
    }

    /// The weights of a convolution or a fully connected layer.
    pub fn weights(&self) -> Option<&W> {
        match self {
            Self::Conv(weights) | Self::Linear(weights) => Some(weights),
            _ => None,
        }
    }

    /// The same operation for weights of another kind; none where it has weights.
    pub fn without_weights<V>(&self) -> Option<Op<V>> {
        Some(match self {
            Self::Conv(_) | Self::Linear(_) => return None,
            Self::Input(shape) => Op::Input(*shape),
            Self::GlobalAveragePool => Op::GlobalAveragePool,
            Self::GlobalMaxPool => Op::GlobalMaxPool,
            Self::Activation(activation) => Op::Activation(*activation),
            Self::Binary(binary) => Op::Binary(*binary),
            Self::Function(function) => Op::Function(function.clone()),
            Self::Pool(pool) => Op::Pool(*pool),
            Self::Rearrange(rearrange) => Op::Rearrange(rearrange.clone()),
            Self::Concat(axis) => Op::Concat(*axis),
            Self::Resize(resize) => Op::Resize(*resize),
            Self::Softmax(axis) => Op::Softmax(*axis),
            Self::Reduce(reduce) => Op::Reduce(*reduce),
            Self::Standardize(standardize) => Op::Standardize(*standardize),
            Self::MatMul => Op::MatMul,
            Self::Recurrent(recurrent) => Op::Recurrent(recurrent.clone()),
            Self::Constant(values) => Op::Constant(values.clone()),
        })
    }

    /// Number of parameters: weights and biases, or the values of a constant.
    pub fn parameters(&self) -> u64 {
        let count = match self {
            Self::Conv(weights) | Self::Linear(weights) => weights.weight_count() + weights.out_channels(),
            Self::Recurrent(recurrent) => recurrent.parameters(),
            Self::Constant(values) => values.len(),
            _ => 0,
        };
        count as u64
    }

    /// Multiplications by weights for one image, where the result has shape `y`.
    pub fn macs(&self, y: Shape) -> u64 {
        match self {
            Self::Recurrent(recurrent) => recurrent.macs(y),
            _ => self.weights().map_or(0, |weights| weights.macs(y)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(kind: PoolKind) -> Op {
        Op::Pool(Pool { kind, kernel: [2; 2], stride: [2; 2], padding: [0; 4], ceil: false })
    }

    #[test]
    fn shapes_follow_the_inputs() {
        let x = Shape::new(4, 6, 8);
        assert_eq!(pool(PoolKind::Max).output(&[x]), Some(Shape::new(4, 3, 4)));
        assert_eq!(Op::<Conv>::GlobalAveragePool.output(&[x]), Some(Shape::new(4, 1, 1)));
        assert_eq!(Op::<Conv>::GlobalMaxPool.output(&[x]), Some(Shape::new(4, 1, 1)));
        assert_eq!(Op::<Conv>::Binary(Binary::Add).output(&[x, Shape::new(4, 1, 1)]), Some(x));
        assert_eq!(Op::<Conv>::Concat(Axis::Width).output(&[x, x]), Some(Shape::new(4, 6, 16)));
        // Another number of inputs than it takes.
        assert_eq!(Op::<Conv>::Concat(Axis::Width).output(&[x]), None);
        assert_eq!(Op::<Conv>::GlobalAveragePool.output(&[x, x]), None);
        assert_eq!(Op::<Conv>::Input(x).output(&[x]), None);
    }

    #[test]
    fn a_fully_connected_layer_is_a_matrix() {
        let linear = Conv::linear(ndarray::Array2::zeros((5, 4)), ndarray::Array1::zeros(5));
        let op = Op::Linear(linear.clone());
        assert_eq!(op.output(&[Shape::new(4, 1, 1)]), Some(Shape::new(5, 1, 1)));
        assert_eq!((op.parameters(), op.macs(Shape::new(5, 1, 1))), (25, 20));
        assert_eq!(Op::Linear(Conv { padding: [1, 0], ..linear }).output(&[Shape::new(4, 1, 1)]), None);
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        let window = |padding| {
            Op::<Conv>::Pool(Pool { kind: PoolKind::Max, kernel: [1; 2], stride: [1; 2], padding, ceil: false })
        };
        assert!(window([0; 4]).check().is_ok() && window([1, 0, 0, 0]).check().is_err());
        assert!(Op::<Conv>::Activation(Activation::LeakyRelu { slope: f32::NAN }).check().is_err());
        let constant = |value| Op::<Conv>::Constant(Array3::from_elem((1, 1, 2), value));
        assert!(constant(1.0).check().is_ok() && constant(f32::INFINITY).check().is_err());
    }

    #[test]
    fn an_operation_without_tensors_is_json() {
        for (op, text) in [
            (Op::<Conv>::GlobalAveragePool, r#""global_average_pool""#),
            (Op::GlobalMaxPool, r#""global_max_pool""#),
            (Op::Binary(Binary::Sub), r#"{"binary":"sub"}"#),
            (Op::Softmax(Axis::Height), r#"{"softmax":"height"}"#),
        ] {
            assert_eq!(serde_json::to_string(&op).unwrap(), text);
            assert_eq!(serde_json::from_str::<Op>(text).unwrap(), op);
        }
        let linear = Conv::linear(ndarray::Array2::zeros((1, 1)), ndarray::Array1::zeros(1));
        assert!(serde_json::to_string(&Op::Linear(linear)).is_err());
        assert!(serde_json::from_str::<Op>(r#""constant""#).is_err());
    }
}
