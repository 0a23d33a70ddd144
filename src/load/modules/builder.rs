//! A network put together module by module, as its keys name them.
//!
//! Batch norm becomes part of the convolution before it (in f64, rounded once) or a depthwise 1×1
//! convolution; branches stay apart, and are added.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{Array1, Array4, Axis};

use super::super::layout::KeyErrors;
use super::super::naming::strip_prefixes;
use super::super::tensors::{Tensors, place};
use crate::model::{Activation, Binary, Conv, Expression, Node, NodeId, Op, Operand, Operator, Shape, number};
use crate::{Error, Result};

/// Channels, blocks and channels within a block of each stage; of a `RepGhostNet` channels of the
/// stem, number of stages and channels of the last.
pub(super) type Stages = Vec<[usize; 3]>;

/// What is known of a network while it is read.
pub(super) struct Builder<'t> {
    tensors: &'t Tensors<'t>,
    /// The checkpoint's keys by those without prefixes.
    keys: BTreeMap<&'t str, &'t str>,
    taken: BTreeSet<&'t str>,
    epsilon: f64,
    nodes: Vec<Node>,
    /// Channels of each node.
    channels: Vec<usize>,
}

/// `y = scale·x + shift`, for each channel.
struct Affine {
    scale: Vec<f64>,
    shift: Vec<f64>,
}

/// A matrix and what is added to its products, in f64.
pub(super) struct Matrix {
    /// `O × I`.
    pub(super) weight: ndarray::Array2<f64>,
    /// `O`.
    pub(super) bias: Array1<f64>,
}

impl<'t> Builder<'t> {
    /// A network of nothing but its input.
    ///
    /// # Errors
    /// Two keys that name one tensor.
    pub(super) fn new(tensors: &'t Tensors<'t>, epsilon: f64, input: Shape) -> Result<Self> {
        let mut keys = BTreeMap::new();
        for name in tensors.names().filter(|name| !name.ends_with("num_batches_tracked")) {
            if let Some(other) = keys.insert(strip_prefixes(name), name) {
                return Err(Error::bad(format!("the keys {other} and {name} name the same tensor")));
            }
        }
        let node = Node { name: "input".into(), op: Op::Input(input), inputs: vec![], relu: false };
        Ok(Self { tensors, keys, taken: BTreeSet::new(), epsilon, nodes: vec![node], channels: vec![input.channels] })
    }

    /// The nodes, every tensor read.
    ///
    /// # Errors
    /// Keys that nothing read.
    pub(super) fn finish(self, kind: &str) -> Result<Vec<Node>> {
        let left = self.keys.values().filter(|key| !self.taken.contains(*key));
        let errors = KeyErrors { missing: vec![], left_over: left.map(|key| (*key).to_owned()).collect() };
        errors.check(&format!("{kind} in the style of timm"))?;
        Ok(self.nodes)
    }

    /// Whether a module has any tensor.
    pub(super) fn has(&self, path: &str) -> bool {
        let below = format!("{path}.");
        self.keys.range(below.as_str()..).next().is_some_and(|(key, _)| key.starts_with(&below))
    }

    /// How many modules a list has: `PATH.0`, `PATH.1` …
    pub(super) fn count(&self, path: &str) -> usize {
        (0..self.keys.len()).take_while(|index| self.has(&format!("{path}.{index}"))).count()
    }

    /// First side of a tensor; 0 where it is not there.
    pub(super) fn outputs(&self, name: &str) -> usize {
        self.keys.get(name).and_then(|key| self.tensors.sides(key).first().copied()).unwrap_or(0)
    }

    /// Channels of an activation.
    pub(super) fn channels(&self, node: NodeId) -> usize {
        self.channels[node]
    }

    /// The checkpoint's key, which is read now.
    fn key(&mut self, name: &str) -> Result<&'t str> {
        let Some(&key) = self.keys.get(name) else {
            return Err(Error::bad(format!("the key {name} is missing"))
                .hint("check that \"family\" in the description, or the name of the architecture, is the network's"));
        };
        self.taken.insert(key);
        Ok(key)
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f64>> {
        let key = self.key(name)?;
        Ok(self.tensors.vector(key, len)?.iter().copied().map(f64::from).collect())
    }

    fn optional_vector(&mut self, name: &str, len: usize) -> Result<Vec<f64>> {
        if self.keys.contains_key(name) { self.vector(name, len) } else { Ok(vec![0.0; len]) }
    }

    /// Batch norm in inference form: `scale = γ / sqrt(σ² + ε)`, `shift = β − scale·μ`.
    fn affine(&mut self, path: &str, channels: usize) -> Result<Affine> {
        let variance = self.key(&format!("{path}.running_var"))?;
        let variance = self.tensors.variance(variance, channels)?;
        let weight = self.vector(&format!("{path}.weight"), channels)?;
        let bias = self.vector(&format!("{path}.bias"), channels)?;
        let mean = self.vector(&format!("{path}.running_mean"), channels)?;
        let root = |v: &f32| (f64::from(*v) + self.epsilon).sqrt();
        let scale: Vec<f64> = weight.iter().zip(&variance).map(|(g, v)| g / root(v)).collect();
        let shift = scale.iter().zip(bias.iter().zip(&mean)).map(|(a, (b, m))| b - a * m).collect();
        Ok(Affine { scale, shift })
    }

    /// The factors of a layer scale, C × 1 × 1; ones where the module is not there.
    pub(super) fn layer_scale(&mut self, path: &str, channels: usize) -> Result<Vec<f64>> {
        if !self.has(path) {
            return Ok(vec![1.0; channels]);
        }
        let key = self.key(&format!("{path}.gamma"))?;
        Ok(self.tensors.per_channel(key, channels)?.iter().copied().map(f64::from).collect())
    }

    fn push(&mut self, name: &str, op: Op, inputs: Vec<NodeId>, channels: usize) -> NodeId {
        self.nodes.push(Node { name: name.to_owned(), op, inputs, relu: false });
        self.channels.push(channels);
        self.nodes.len() - 1
    }

    /// A convolution, its own bias if it has one, and the batch norm after it where `norm` names
    /// one; padded by half the kernel, its groups told by its shape. The result is multiplied by
    /// `factors`.
    pub(super) fn conv(
        &mut self,
        x: NodeId,
        path: &str,
        norm: Option<&str>,
        stride: usize,
        factors: Option<&[f64]>,
    ) -> Result<NodeId> {
        let inputs = self.channels[x];
        let key = self.key(&format!("{path}.weight"))?;
        let shape: [usize; 4] = self.tensors.shape(key)?;
        let [outputs, group, kernel, width] = shape;
        let wrong = |what: String| Err(Error::bad(format!("has shape {shape:?}: {what}")).at(place(key)));
        if kernel != width || kernel % 2 == 0 {
            return wrong("a kernel must be square, of odd side".into());
        }
        if !inputs.is_multiple_of(group) || !outputs.is_multiple_of(inputs / group) {
            return wrong(format!("it does not fit {inputs} input channels"));
        }
        let mut weight = self.tensors.kernel(key, shape)?.mapv(f64::from);
        let mut bias = self.optional_vector(&format!("{path}.bias"), outputs)?;
        let mut scaled = |Affine { scale, shift }: Affine| {
            for ((mut filter, bias), (a, b)) in
                weight.axis_iter_mut(Axis(0)).zip(&mut bias).zip(scale.iter().zip(&shift))
            {
                filter.mapv_inplace(|v| v * a);
                *bias = *bias * a + b;
            }
        };
        if let Some(norm) = norm {
            scaled(self.affine(norm, outputs)?);
        }
        if let Some(factors) = factors {
            scaled(Affine { scale: factors.to_vec(), shift: vec![0.0; outputs] });
        }
        let conv = Conv {
            weight: narrow4(&weight),
            bias: bias.iter().copied().map(narrow).collect(),
            stride: [stride; 2],
            padding: [kernel / 2; 2],
            groups: inputs / group,
        };
        Ok(self.push(path, Op::Conv(conv), vec![x], outputs))
    }

    /// A batch norm of an activation, multiplied by `factors`.
    pub(super) fn norm(&mut self, x: NodeId, path: &str, factors: Option<&[f64]>) -> Result<NodeId> {
        let channels = self.channels[x];
        let Affine { scale, shift } = self.affine(path, channels)?;
        let factor = |c: usize| factors.map_or(1.0, |factors| factors[c]);
        let weight = Array4::from_shape_fn((channels, 1, 1, 1), |(c, ..)| narrow(scale[c] * factor(c)));
        let bias = Array1::from_shape_fn(channels, |c| narrow(shift[c] * factor(c)));
        let conv = Conv { weight, bias, stride: [1; 2], padding: [0; 2], groups: channels };
        Ok(self.push(path, Op::Conv(conv), vec![x], channels))
    }

    /// The sum of activations of one shape, named `path`; of one alone it itself.
    ///
    /// # Errors
    /// Where there is none, or their channels differ.
    pub(super) fn sum(&mut self, path: &str, parts: &[NodeId]) -> Result<NodeId> {
        let Some((&first, rest)) = parts.split_first() else {
            return Err(Error::bad(format!("the module {path} has no tensors")));
        };
        let mut sum = first;
        for (index, &part) in rest.iter().enumerate() {
            if self.channels[part] != self.channels[sum] {
                let (one, other) = (self.channels[sum], self.channels[part]);
                return Err(Error::bad(format!("{one} and {other} channels cannot be added")).at(path));
            }
            let name = if index + 1 == rest.len() { path.to_owned() } else { format!("{path}.sum{index}") };
            sum = self.push(&name, Op::Binary(Binary::Add), vec![sum, part], self.channels[part]);
        }
        Ok(sum)
    }

    /// A `ReLU` of a convolution or sum that nothing else reads.
    pub(super) fn relu(&mut self, x: NodeId) -> NodeId {
        self.nodes[x].relu = true;
        x
    }

    /// `x/2 · (1 + erf(x/√2))`.
    pub(super) fn gelu(&mut self, x: NodeId, path: &str) -> Result<NodeId> {
        let mut e = Expression::default();
        let value = Operand::Input(0);
        let scaled = e.push(Operator::Mul, &[value.clone(), number(std::f32::consts::FRAC_1_SQRT_2)]);
        let erf = e.push(Operator::Erf, &[scaled]);
        let raised = e.push(Operator::Add, &[erf, number(1.0)]);
        let product = e.push(Operator::Mul, &[value, raised]);
        let half = e.push(Operator::Mul, &[product, number(0.5)]);
        let function = e.finish(&half).ok_or_else(|| Error::bad("a function without steps"))?;
        Ok(self.push(path, Op::Function(function), vec![x], self.channels[x]))
    }

    /// Squeeze-and-excitation with these two convolutions; `x` itself where it is not there.
    pub(super) fn squeeze(&mut self, x: NodeId, path: &str, names: [&str; 2], gate: Activation) -> Result<NodeId> {
        if !self.has(path) {
            return Ok(x);
        }
        let pooled = self.pool(x, &format!("{path}.pool"));
        let reduced = self.conv(pooled, &format!("{path}.{}", names[0]), None, 1, None)?;
        let reduced = self.relu(reduced);
        let expanded = self.conv(reduced, &format!("{path}.{}", names[1]), None, 1, None)?;
        if self.channels[expanded] != self.channels[x] {
            return Err(Error::bad(format!("has not {} channels", self.channels[x])).at(format!("{path}.{}", names[1])));
        }
        let gated = self.push(&format!("{path}.gate"), Op::Activation(gate), vec![expanded], self.channels[x]);
        Ok(self.push(path, Op::Binary(Binary::Mul), vec![x, gated], self.channels[x]))
    }

    /// The mean over height and width.
    pub(super) fn pool(&mut self, x: NodeId, name: &str) -> NodeId {
        self.push(name, Op::GlobalAveragePool, vec![x], self.channels[x])
    }

    /// A fully connected layer of so many values, after a batch norm where `norm` names one.
    pub(super) fn matrix(&mut self, path: &str, inputs: usize, norm: Option<&str>) -> Result<Matrix> {
        let key = self.key(&format!("{path}.weight"))?;
        let [outputs, has]: [usize; 2] = self.tensors.shape(key)?;
        if has != inputs {
            let what = format!("has shape [{outputs}, {has}]; {inputs} channels come before it");
            return Err(Error::bad(what).at(place(key)));
        }
        let mut weight = self.tensors.matrix(key, [outputs, inputs])?.mapv(f64::from);
        let mut bias = Array1::from_vec(self.optional_vector(&format!("{path}.bias"), outputs)?);
        if let Some(norm) = norm {
            let Affine { scale, shift } = self.affine(norm, inputs)?;
            bias += &weight.dot(&Array1::from_vec(shift));
            weight *= &Array1::from_vec(scale);
        }
        Ok(Matrix { weight, bias })
    }

    /// The classifier.
    pub(super) fn classifier(&mut self, x: NodeId, path: &str, Matrix { weight, bias }: &Matrix) -> NodeId {
        let conv = Conv::linear(weight.mapv(narrow), bias.mapv(narrow));
        self.push(path, Op::Linear(conv), vec![x], bias.len())
    }
}

/// The nearest f32; what is too large for one is found later, as a value that is not finite.
#[allow(clippy::cast_possible_truncation)] // the nearest number
fn narrow(value: f64) -> f32 {
    value as f32
}

fn narrow4(values: &Array4<f64>) -> Array4<f32> {
    values.mapv(narrow)
}
