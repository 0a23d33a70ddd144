//! Functions of one to three values in f32, as expressions: every [`Function`], step by step as it
//! stands.
//!
//! NHWC with channels in fours, padded channels 0. A side of an input may be 1 where the result's
//! is not: that one value serves all.

use bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Recorder, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, Operand as Place, outcome, random_activation};
use crate::kernels::cpu::exp::exp;
use crate::model::{Expression, Function, Operand, Operator, Shape, Step, broadcast, number};
use crate::{Error, Result};

/// `function_f32.wgsl`.
pub(crate) static SHADER: Shader = shader!("function_f32", "operand", "sigmoid", "tanh");

/// Values that the native function computes at a time, step by step.
const BLOCK: usize = 1024;

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// The inputs; those that are not there are as the first.
    inputs: [Place; Function::MOST_INPUTS],
    /// Images in the batch.
    images: u32,
    /// Rows of the result.
    height: u32,
    /// Its columns.
    width: u32,
    /// Its channels, without padding.
    channels: u32,
    /// How many steps there are.
    steps: u32,
    /// Fills the struct to 80 bytes.
    unused: [u32; 3],
}

/// A function on a device. Whatever its words lead to is there: it was checked.
#[derive(Debug)]
pub(crate) struct Program {
    function: Function,
    /// For each step the operator and its operands: from bit 24 up 0 an input, 1 a step, 2 a
    /// constant, 3 one for each channel; below, which.
    steps: Buffer,
    step_words: usize,
    /// Four channels at a time, padded ones 0; one number four times.
    constants: Buffer,
    constant_words: usize,
}

impl Program {
    /// Uploads a function.
    ///
    /// # Errors
    /// If it contradicts itself, or the device has no memory left.
    pub(crate) fn new(device: &Device, function: &Function) -> Result<Self> {
        function.check()?;
        let (mut steps, mut constants) = (Vec::new(), Vec::<f32>::new());
        for step in &function.steps {
            steps.push(step.operator as u32);
            for slot in 0..3 {
                steps.push(match step.operands.get(slot) {
                    None => 0,
                    Some(Operand::Input(index)) => *index as u32,
                    Some(Operand::Step(index)) => 1 << 24 | *index as u32,
                    Some(Operand::Constant(values)) => {
                        let quad = constants.len() / 4;
                        if quad >= 1 << 24 {
                            return Err(Error::bad("a function has too many constants"));
                        }
                        match values.as_slice() {
                            [value] => constants.extend([*value; 4]),
                            values => {
                                constants.extend(values);
                                constants.resize(constants.len().next_multiple_of(4), 0.0);
                            }
                        }
                        (if values.len() == 1 { 2 << 24 } else { 3 << 24 }) | quad as u32
                    }
                });
            }
        }
        // A buffer is never empty.
        constants.resize(constants.len().max(4), 0.0);
        Ok(Self {
            function: function.clone(),
            step_words: steps.len(),
            steps: device.upload(&steps, "function")?,
            constant_words: constants.len(),
            constants: device.upload(cast_slice(&constants), "function's constants")?,
        })
    }
}

/// `y = f(x, …)`.
pub(crate) struct FunctionF32<'a> {
    /// Images in the batch.
    pub(crate) images: usize,
    /// f.
    pub(crate) program: &'a Program,
    /// Its inputs, f32, with the shape of one image's activation.
    pub(crate) inputs: &'a [(Shape, &'a Buffer)],
    /// f32.
    pub(crate) y: &'a Buffer,
}

impl FunctionF32<'_> {
    /// Of the result; empty where the inputs do not go together, which `check` refuses.
    fn y_shape(&self) -> Shape {
        let mut shapes = self.inputs.iter().map(|(shape, _)| *shape);
        let first = shapes.next();
        let all = first.and_then(|first| shapes.try_fold(first, broadcast));
        all.unwrap_or(Shape::new(0, 0, 0))
    }

    fn words(&self, shape: Shape) -> usize {
        self.images * shape.padded_len()
    }

    /// The input at a place, the first where there is none.
    fn input(&self, index: usize) -> (Shape, &Buffer) {
        self.inputs[if index < self.inputs.len() { index } else { 0 }]
    }

    fn params(&self) -> Params {
        let y = self.y_shape();
        Params {
            inputs: std::array::from_fn(|index| Place::new(self.input(index).0, y)),
            images: self.images as u32,
            height: y.height as u32,
            width: y.width as u32,
            channels: y.channels as u32,
            steps: self.program.function.steps.len() as u32,
            unused: [0; 3],
        }
    }
}

impl Kernel for FunctionF32<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn check(&self) -> Result<()> {
        let function = &self.program.function;
        if self.inputs.len() != function.inputs() {
            return Err(Error::device(format!("a function of {} has {} inputs", function.inputs(), self.inputs.len())));
        }
        let y = self.y_shape();
        if y.is_empty() {
            return Err(Error::device("inputs of a function do not go together"));
        }
        match function.channels() {
            Some(channels) if channels != y.channels => {
                Err(Error::device(format!("a function of {channels} channels of {y}")))
            }
            _ => Ok(()),
        }
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        let input = |name, index: usize| {
            let (shape, buffer) = self.input(index);
            Bound::read(name, buffer, self.words(shape))
        };
        vec![
            input("a", 0),
            input("b", 1),
            input("c", 2),
            Bound::read("steps", &self.program.steps, self.program.step_words),
            Bound::read("constants", &self.program.constants, self.program.constant_words),
            Bound::write("y", self.y, self.words(self.y_shape())),
        ]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        Dispatch::of(&SHADER, self.words(self.y_shape()) / 4, self.params()).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        let hosts: Vec<_> = self.inputs.iter().map(|(_, buffer)| buffer.host()).collect();
        let inputs: Vec<&[f32]> = hosts.iter().map(|host| cast_slice(host)).collect();
        let mut y = self.y.host_mut();
        let y = cast_slice_mut(&mut y[..self.words(self.y_shape())]);
        native(&self.params(), &self.program.function, &inputs, y);
        Ok(())
    }
}

/// Row by row, in parallel; a part of a row step by step.
fn native(p: &Params, function: &Function, inputs: &[&[f32]], y: &mut [f32]) {
    let (height, width, channels) = (p.height as usize, p.width as usize, p.channels as usize);
    let padded = channels.next_multiple_of(4);
    let columns = (BLOCK / padded).max(1);
    y.par_chunks_exact_mut(width * padded).enumerate().for_each(|(row, y)| {
        let (image, row) = (row / height, row % height);
        let block = columns.min(width) * padded;
        let mut gathered = vec![vec![0.0f32; block]; inputs.len()];
        let mut results = vec![vec![0.0f32; block]; function.steps.len()];
        for (part, y) in y.chunks_mut(columns * padded).enumerate() {
            for (k, values) in gathered.iter_mut().enumerate() {
                for (at, values) in values[..y.len()].chunks_exact_mut(padded).enumerate() {
                    let from = p.inputs[k].place(image, row, part * columns + at);
                    if p.inputs[k].quad == 0 {
                        values.fill(inputs[k][from]);
                    } else {
                        values.copy_from_slice(&inputs[k][from..from + padded]);
                    }
                }
            }
            for (index, step) in function.steps.iter().enumerate() {
                let (before, result) = results.split_at_mut(index);
                compute(step, &gathered, before, padded, &mut result[0][..y.len()]);
            }
            if let Some(last) = results.last() {
                y.copy_from_slice(&last[..y.len()]);
            }
            if padded != channels {
                y.chunks_exact_mut(padded).for_each(|y| y[channels..].fill(0.0));
            }
        }
    });
}

/// What a step reads, for a block of pixels.
enum Values<'a> {
    Each(&'a [f32]),
    One(f32),
    Channel(&'a [f32], usize),
}

impl Values<'_> {
    fn get(&self, at: usize) -> f32 {
        match self {
            Self::Each(values) => values[at],
            Self::One(value) => *value,
            // A padded channel's result is not used.
            Self::Channel(values, padded) => values.get(at % padded).copied().unwrap_or(0.0),
        }
    }
}

fn compute(step: &Step, inputs: &[Vec<f32>], before: &[Vec<f32>], padded: usize, y: &mut [f32]) {
    let read = |slot: usize| match &step.operands[slot] {
        Operand::Input(index) => Values::Each(&inputs[*index]),
        Operand::Step(index) => Values::Each(&before[*index]),
        Operand::Constant(values) if values.len() == 1 => Values::One(values[0]),
        Operand::Constant(values) => Values::Channel(values, padded),
    };
    let a = read(0);
    let mut one = |f: fn(f32) -> f32| y.iter_mut().enumerate().for_each(|(at, y)| *y = f(a.get(at)));
    match step.operator {
        Operator::Abs => one(f32::abs),
        Operator::Neg => one(|a| -a),
        Operator::Sign => one(|a| if a == 0.0 || a.is_nan() { a } else { a.signum() }),
        Operator::Floor => one(f32::floor),
        Operator::Ceil => one(f32::ceil),
        Operator::Round => one(f32::round_ties_even),
        Operator::Reciprocal => one(|a| 1.0 / a),
        Operator::Sqrt => one(f32::sqrt),
        Operator::Exp => one(exp),
        Operator::Log => one(f32::ln),
        Operator::Erf => one(libm::erff),
        Operator::Sigmoid => one(|a| 1.0 / (1.0 + exp(-a))),
        Operator::Tanh => one(f32::tanh),
        Operator::Sin => one(f32::sin),
        Operator::Cos => one(f32::cos),
        Operator::Tan => one(f32::tan),
        Operator::Asin => one(f32::asin),
        Operator::Acos => one(f32::acos),
        Operator::Atan => one(f32::atan),
        Operator::Sinh => one(f32::sinh),
        Operator::Cosh => one(f32::cosh),
        Operator::Asinh => one(f32::asinh),
        Operator::Acosh => one(f32::acosh),
        Operator::Atanh => one(f32::atanh),
        Operator::Select => {
            let (b, c) = (read(1), read(2));
            y.iter_mut().enumerate().for_each(|(at, y)| *y = if a.get(at) == 0.0 { c.get(at) } else { b.get(at) });
        }
        two => {
            let b = read(1);
            let mut each = |f: fn(f32, f32) -> f32| {
                y.iter_mut().enumerate().for_each(|(at, y)| *y = f(a.get(at), b.get(at)));
            };
            match two {
                Operator::Add => each(|a, b| a + b),
                Operator::Sub => each(|a, b| a - b),
                Operator::Mul => each(|a, b| a * b),
                Operator::Div => each(|a, b| a / b),
                Operator::Pow => each(f32::powf),
                // Comparisons and not `min` and `max`: NaN stays.
                Operator::Min => each(|a, b| if a < b || a.is_nan() { a } else { b }),
                Operator::Max => each(|a, b| if a > b || a.is_nan() { a } else { b }),
                Operator::Less => each(|a, b| truth(a < b)),
                Operator::LessOrEqual => each(|a, b| truth(a <= b)),
                _ => each(|a, b| truth(a == b)),
            }
        }
    }
}

/// 1 for what is true, 0 for what is not.
fn truth(is: bool) -> f32 {
    f32::from(u8::from(is))
}

/// The twin, in f64.
pub(crate) fn reference(images: usize, function: &Function, inputs: &[(Shape, &[f32])], shape: Shape) -> Vec<f64> {
    let padded = shape.padded_channels();
    let value = |at: usize| {
        let (c, pixel) = (at % padded, at / padded);
        if c >= shape.channels {
            return 0.0;
        }
        let (image, row, column) = (pixel / shape.pixels(), pixel / shape.width % shape.height, pixel % shape.width);
        let read = |(of, values): &(Shape, &[f32])| {
            let (c, h, w) = (c.min(of.channels - 1), row.min(of.height - 1), column.min(of.width - 1));
            f64::from(values[((image * of.height + h) * of.width + w) * of.padded_channels() + c])
        };
        function.apply(&inputs.iter().map(read).collect::<Vec<_>>(), c)
    };
    (0..images * shape.padded_len()).map(value).collect()
}

/// Compares with the twin: each operator alone, within what WGSL allows it (the accuracy of its
/// built-in functions) on arguments where it is continuous; then expressions of several steps,
/// inputs of which sides are 1, and constants for each channel.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(31);
    let mut checks = Vec::new();
    for operator in Operator::ALL {
        let operands = (0..operator.arity()).map(Operand::Input).collect();
        let function = Function { steps: vec![Step { operator, operands }] };
        let shape = [Shape::new(5, 3, 7), Shape::new(8, 4, 4)][operator as usize % 2];
        let inputs: Vec<Vec<f32>> = (0..operator.arity())
            .map(|slot| {
                let mut x = random_activation(&mut random, 2, shape);
                for x in &mut x {
                    *x = argument(operator, slot, *x);
                }
                x
            })
            .collect();
        let inputs: Vec<(Shape, &[f32])> = inputs.iter().map(|x| (shape, x.as_slice())).collect();
        let bound = |x: &[f64], y: f64| error(operator, x, y);
        checks.push(compared(device, &format!("{operator}"), &function, &inputs, &bound)?);
    }
    let values = |random: &mut Random, shape: Shape| random_activation(random, 2, shape);
    for (name, function, bound) in expressions() {
        let full = Shape::new(6, 4, 5);
        let mut shapes = vec![full];
        if function.inputs() == 3 {
            shapes = vec![Shape::new(6, 1, 5), Shape::new(1, 4, 5), Shape::new(6, 4, 1)];
        }
        let inputs: Vec<Vec<f32>> = shapes.iter().map(|shape| values(&mut random, *shape)).collect();
        let inputs: Vec<(Shape, &[f32])> = shapes.iter().zip(&inputs).map(|(s, x)| (*s, x.as_slice())).collect();
        checks.push(compared(device, name, &function, &inputs, &|_, y: f64| bound * (1.0 + y.abs()))?);
    }
    Ok(checks)
}

/// Runs a function and compares it with the twin; `bound` is the error that is allowed for
/// arguments and a result.
fn compared(
    device: &Device,
    name: &str,
    function: &Function,
    inputs: &[(Shape, &[f32])],
    bound: &dyn Fn(&[f64], f64) -> f64,
) -> Result<Check> {
    let shape = inputs[1..].iter().try_fold(inputs[0].0, |all, (shape, _)| broadcast(all, *shape));
    let shape = shape.unwrap_or(inputs[0].0);
    let expected = reference(2, function, inputs, shape);
    let alike = inputs.iter().all(|(of, _)| *of == shape);
    let arguments = |at: usize| -> Vec<f64> {
        if alike { inputs.iter().map(|(_, x)| f64::from(x[at])).collect() } else { vec![0.0; inputs.len()] }
    };
    let small = f64::from(f32::MIN_POSITIVE);
    let bounds: Vec<f64> = expected.iter().enumerate().map(|(at, y)| bound(&arguments(at), *y) + small).collect();
    let buffers = inputs.iter().map(|(_, x)| device.upload(cast_slice(x), "x")).collect::<Result<Vec<_>>>()?;
    let operands: Vec<(Shape, &Buffer)> = inputs.iter().zip(&buffers).map(|((shape, _), x)| (*shape, x)).collect();
    let program = Program::new(device, function)?;
    let got = outcome(device, expected.len(), |rec: &mut Recorder<'_>, y| {
        rec.run(&FunctionF32 { images: 2, program: &program, inputs: &operands, y })
    })?;
    Ok(Check::close(name.to_owned(), &expected, &bounds, cast_slice(&got)))
}

/// An argument where the operator is defined and continuous.
fn argument(operator: Operator, slot: usize, x: f32) -> f32 {
    let away = |x: f32| x.signum() * (x.abs() + 0.25);
    match operator {
        Operator::Sign | Operator::Reciprocal => away(x),
        Operator::Floor | Operator::Ceil | Operator::Round => (8.0 * x).round() + 0.25,
        Operator::Sqrt | Operator::Log => x.abs() + 0.1,
        Operator::Acosh => x.abs() + 1.1,
        Operator::Tan | Operator::Asin | Operator::Acos | Operator::Atanh => 0.9 * x.clamp(-1.0, 1.0),
        Operator::Div if slot == 1 => away(x),
        Operator::Pow if slot == 0 => x.abs() + 0.1,
        // Halves: some are equal.
        Operator::Less | Operator::LessOrEqual | Operator::Equal => (2.0 * x).round() / 2.0,
        Operator::Select if slot == 0 => f32::from(u8::from(x > 0.0)),
        _ => x,
    }
}

/// What an operator may be off, after WGSL's table of accuracies and those of this shader's own
/// functions.
fn error(operator: Operator, x: &[f64], y: f64) -> f64 {
    let unit = f64::from(f32::EPSILON);
    match operator {
        Operator::Abs
        | Operator::Neg
        | Operator::Sign
        | Operator::Floor
        | Operator::Ceil
        | Operator::Round
        | Operator::Min
        | Operator::Max
        | Operator::Less
        | Operator::LessOrEqual
        | Operator::Equal
        | Operator::Select => 0.0,
        Operator::Add | Operator::Sub | Operator::Mul => unit * y.abs(),
        Operator::Reciprocal | Operator::Div | Operator::Sqrt => 4.0 * unit * y.abs(),
        Operator::Exp | Operator::Sigmoid => (2.0 * x[0].abs() + 8.0) * unit * y.abs(),
        Operator::Pow => (16.0 + 8.0 * (x[1] * x[0].ln()).abs()) * unit * (y.abs() + 1.0) + 1e-6 * y.abs(),
        Operator::Log => 3.0 * unit * y.abs() + 2f64.powi(-21),
        // Abramowitz and Stegun's 7.1.26 is within 1.5e-7, and sums and a power are rounded.
        Operator::Erf => 1e-6,
        Operator::Tanh => 8.0 * unit,
        // Absolute errors of 2^−11 are allowed within ±π, and more outside; software is far better.
        Operator::Sin | Operator::Cos => 2f64.powi(-11),
        Operator::Tan => 2f64.powi(-9) * (1.0 + y * y),
        Operator::Asin | Operator::Acos | Operator::Atan => 4096.0 * unit * y.abs() + 6.77e-5,
        Operator::Sinh | Operator::Cosh => (8.0 + 4.0 * x[0].abs()) * unit * (y.abs() + 1.0),
        Operator::Asinh | Operator::Acosh | Operator::Atanh => 2f64.powi(-19) * (1.0 + y.abs()) + 2f64.powi(-20),
    }
}

/// Expressions, and the relative error that is allowed them: that of their steps, added up by hand.
fn expressions() -> Vec<(&'static str, Function, f64)> {
    let x = || Operand::Input(0);
    let made = |build: &dyn Fn(&mut Expression) -> Operand| {
        let mut expression = Expression::default();
        let result = build(&mut expression);
        expression.finish(&result)
    };
    let gelu = made(&|e| {
        let scaled = e.push(Operator::Mul, &[x(), number(std::f32::consts::FRAC_1_SQRT_2)]);
        let erf = e.push(Operator::Erf, &[scaled]);
        let raised = e.push(Operator::Add, &[erf, number(1.0)]);
        let product = e.push(Operator::Mul, &[x(), raised]);
        e.push(Operator::Mul, &[product, number(0.5)])
    });
    let prelu = made(&|e| {
        let slopes = Operand::Constant((0..6).map(|c| 0.05 * c as f32).collect());
        let below = e.push(Operator::Mul, &[x(), slopes]);
        let negative = e.push(Operator::Less, &[x(), number(0.0)]);
        e.push(Operator::Select, &[negative, below, x()])
    });
    let three = made(&|e| {
        let product = e.push(Operator::Mul, &[x(), Operand::Input(1)]);
        let magnitude = e.push(Operator::Abs, &[Operand::Input(2)]);
        let divisor = e.push(Operator::Add, &[magnitude, number(1.0)]);
        e.push(Operator::Div, &[product, divisor])
    });
    let of = [("gelu", gelu, 4e-6), ("prelu", prelu, 1e-7), ("a·b/(1 + |c|)", three, 1e-6)];
    of.into_iter().filter_map(|(name, function, bound)| Some((name, function?, bound))).collect()
}
