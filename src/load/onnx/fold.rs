//! Operations on constants, computed while reading: what exporters leave of shapes and of weights
//! in another layout.

use std::rc::Rc;

use half::{bf16, f16};

use super::draft::Draft;
use super::functions;
use super::operation::{self, Operation};
use super::range;
use super::shape_ops::{cuts, permutation, unsqueezed};
use super::tensors::{MOST_INT, Source, Tensor, Values, narrowed, product};
use crate::model::{Expression, Operand, View};
use crate::{Error, Result};

/// The result of an operation whose inputs are all constants; none where it is not one of those
/// that are computed here.
///
/// # Errors
/// Inputs that do not go together; more values than `draft` allows.
pub(super) fn fold(op: &Operation<'_>, draft: &mut Draft, source: &Source) -> Result<Option<Rc<Tensor>>> {
    let shared = |tensor: &Rc<Tensor>| Ok(Some(Rc::clone(tensor)));
    let made = match op.kind {
        "Constant" => constant(op, source)?,
        "Identity" => return shared(op.needed(0)?),
        "Cast" => cast(op, draft)?,
        "Shape" => shape(op, &op.needed(0)?.dims)?,
        "Gather" => gather(op, draft)?,
        "Concat" => concat(op, draft)?,
        "Slice" => slice(op, draft)?,
        "Transpose" => {
            let x = op.needed(0)?;
            let order = permutation(op, x.dims.len())?;
            let strides = row_major(&x.dims);
            let dims: Vec<usize> = order.iter().map(|&axis| x.dims[axis]).collect();
            let strides = order.iter().map(|&axis| strides[axis]).collect();
            viewed(x, View { sides: dims, strides, ..View::default() }, draft)?
        }
        "Unsqueeze" => {
            let x = op.needed(0)?;
            let given = op.list("axes", 1)?.ok_or_else(|| Error::bad("its axes are missing"))?;
            reshaped(x, unsqueezed(&x.dims, &given)?, draft)?
        }
        "Squeeze" => {
            let x = op.needed(0)?;
            let gone = match op.list("axes", 1)? {
                Some(given) => operation::axes(&given, x.dims.len())?,
                None => (0..x.dims.len()).filter(|&axis| x.dims[axis] == 1).collect(),
            };
            if gone.iter().any(|&axis| x.dims[axis] != 1) {
                return Err(Error::bad(format!("leaves out axes {gone:?} of {:?}, which are not all 1", x.dims)));
            }
            let dims = (0..x.dims.len()).filter(|axis| !gone.contains(axis)).map(|axis| x.dims[axis]).collect();
            reshaped(x, dims, draft)?
        }
        "Reshape" => reshape(op, draft)?,
        "Expand" => {
            let x = op.needed(0)?;
            let target = sizes(op.needed(1)?.as_ints()?)?;
            let dims = together(&x.dims, &target)?;
            spread(x, &dims, draft)?
        }
        "ConstantOfShape" => {
            let dims = sizes(op.needed(0)?.as_ints()?)?;
            let value = match op.tensor("value")? {
                Some(proto) => source.tensor(proto)?,
                None => Tensor { dims: vec![1], values: Values::Float(vec![0.0]) },
            };
            if value.values.len() != 1 {
                return Err(Error::bad("its value is not one number"));
            }
            spread(&Tensor { dims: vec![], ..value }, &dims, draft)?
        }
        "Range" => range::range(op, draft)?,
        "DequantizeLinear" => dequantized(op, draft)?,
        "Add" | "Sub" | "Mul" | "Div" | "Equal" => binary(op, draft)?,
        "Where" => choose(op, draft)?,
        "Floor" => rounded(op, draft, f32::floor)?,
        "Ceil" => rounded(op, draft, f32::ceil)?,
        "Sqrt" => rounded(op, draft, f32::sqrt)?,
        kind if functions::is_function(kind) => function(op, draft)?,
        _ => return Ok(None),
    };
    Ok(Some(Rc::new(made)))
}

/// The shape of a value as integers; `dims` has the batch.
pub(super) fn shape(op: &Operation<'_>, dims: &[usize]) -> Result<Tensor> {
    let sides: Vec<i64> = dims.iter().map(|&side| i64::try_from(side).unwrap_or(i64::MAX)).collect();
    let rank = i64::try_from(sides.len()).unwrap_or(i64::MAX);
    let bound = |name, default| -> Result<usize> {
        let given = op.int(name)?.unwrap_or(default);
        let counted = if given < 0 { given.saturating_add(rank) } else { given };
        Ok(usize::try_from(counted.clamp(0, rank)).unwrap_or(0))
    };
    let (start, end) = (bound("start", 0)?, bound("end", rank)?);
    Ok(Tensor::ints(sides.get(start..end.max(start)).unwrap_or_default().to_vec()))
}

fn row_major(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis];
    }
    strides
}

/// Values picked out of a tensor; its sides are those of the view.
fn viewed(x: &Tensor, view: View, draft: &mut Draft) -> Result<Tensor> {
    let count = product(&view.sides).ok_or_else(|| Error::bad("is too large"))?;
    draft.allocate(count)?;
    let values = match &x.values {
        Values::Float(values) => Values::Float(view.positions().map(|at| values[at]).collect()),
        Values::Int(values) => Values::Int(view.positions().map(|at| values[at]).collect()),
    };
    Ok(Tensor { dims: view.sides, values })
}

fn reshaped(x: &Tensor, dims: Vec<usize>, draft: &mut Draft) -> Result<Tensor> {
    if product(&dims) != Some(x.values.len()) {
        return Err(Error::bad(format!("values of {:?} do not fit the shape {dims:?}", x.dims)));
    }
    draft.allocate(x.values.len())?;
    Ok(Tensor { dims, values: x.values.clone() })
}

/// Repeats sides of 1; `dims` must be what broadcasting gives.
fn spread(x: &Tensor, dims: &[usize], draft: &mut Draft) -> Result<Tensor> {
    viewed(x, spread_view(x, dims), draft)
}

fn spread_view(x: &Tensor, dims: &[usize]) -> View {
    let missing = dims.len() - x.dims.len();
    let own = row_major(&x.dims);
    let stride = |axis: usize| axis.checked_sub(missing).filter(|&a| x.dims[a] != 1).map_or(0, |a| own[a]);
    View { sides: dims.to_vec(), strides: (0..dims.len()).map(stride).collect(), ..View::default() }
}

/// The sides that broadcasting gives.
pub(super) fn together(a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let side = |dims: &[usize], axis: usize| axis.checked_sub(rank - dims.len()).map_or(1, |axis| dims[axis]);
    let both = (0..rank).map(|axis| match (side(a, axis), side(b, axis)) {
        (a, b) if a == b => Some(a),
        (1, side) | (side, 1) => Some(side),
        _ => None,
    });
    both.collect::<Option<_>>().ok_or_else(|| Error::bad(format!("the shapes {a:?} and {b:?} do not go together")))
}

/// Integers as the sides of a shape.
pub(super) fn sizes(values: &[i64]) -> Result<Vec<usize>> {
    let sizes = values.iter().map(|&value| usize::try_from(value).ok());
    let sizes: Option<Vec<usize>> = if values.len() > super::tensors::MOST_AXES { None } else { sizes.collect() };
    sizes.ok_or_else(|| Error::bad(format!("{values:?} is no shape")))
}

fn constant(op: &Operation<'_>, source: &Source) -> Result<Tensor> {
    let made = if let Some(proto) = op.tensor("value")? {
        source.tensor(proto)?
    } else if op.has("value_float") {
        Tensor { dims: vec![], values: Values::Float(vec![op.float("value_float", 0.0)?]) }
    } else if let Some(values) = op.floats("value_floats")? {
        Tensor { dims: vec![values.len()], values: Values::Float(values.to_vec()) }
    } else if let Some(value) = op.int("value_int")? {
        Tensor { dims: vec![], values: Values::Int(vec![value]) }
    } else if let Some(values) = op.ints("value_ints")? {
        Tensor::ints(values.to_vec())
    } else {
        return Err(Error::bad("has no value that is supported: a dense tensor, numbers or integers"));
    };
    Ok(made)
}

/// A number as a float type that `TensorProto.DataType` counts as `to` has it.
fn float(value: f32, to: i64) -> f32 {
    match to {
        10 => f16::from_f32(value).to_f32(),
        16 => bf16::from_f32(value).to_f32(),
        _ => value,
    }
}

fn cast(op: &Operation<'_>, draft: &mut Draft) -> Result<Tensor> {
    let x = op.needed(0)?;
    let to = op.int("to")?.unwrap_or(0);
    op.flag("saturate", true)?;
    // Of opset 24, for a type that is not read.
    op.word("round_mode", &["up", "down", "nearest"])?;
    draft.allocate(x.values.len())?;
    let whole = |v: f32| {
        #[allow(clippy::cast_possible_truncation, reason = "the bound was checked")]
        (v.abs() < MOST_INT).then(|| v.trunc() as i64).ok_or_else(|| Error::bad(format!("{v} is no integer")))
    };
    #[allow(clippy::cast_precision_loss, reason = "a cast rounds")]
    let values = match (&x.values, to) {
        (Values::Float(values), 1 | 10 | 11 | 16) => Values::Float(values.iter().map(|&v| float(v, to)).collect()),
        (Values::Int(_), 6 | 7) => x.values.clone(),
        (Values::Int(values), 1 | 10 | 11 | 16) => Values::Float(values.iter().map(|&v| float(v as f32, to)).collect()),
        (Values::Float(values), 9) => Values::Int(values.iter().map(|&v| i64::from(v != 0.0)).collect()),
        (Values::Int(values), 9) => Values::Int(values.iter().map(|&v| i64::from(v != 0)).collect()),
        (Values::Float(values), 6 | 7) => Values::Int(values.iter().map(|&v| whole(v)).collect::<Result<_>>()?),
        _ => return Err(Error::bad(format!("to the data type number {to} is not supported"))),
    };
    Ok(Tensor { dims: x.dims.clone(), values })
}

/// `(q − zero point)·scale`, with one scale for all, for each entry of an axis, or for each so many
/// of them.
fn dequantized(op: &Operation<'_>, draft: &mut Draft) -> Result<Tensor> {
    op.at_most(3)?;
    let (x, scale) = (op.needed(0)?, op.needed(1)?);
    let (levels, scales) = (x.as_ints()?, scale.as_floats()?);
    let given = op.int("axis")?.unwrap_or(1);
    let block = op.int("block_size")?.unwrap_or(0);
    op.int("output_dtype")?;
    // Where the scale of each value is found.
    let mut view = View { sides: x.dims.clone(), strides: vec![0; x.dims.len()], ..View::default() };
    let wrong = || Error::bad(format!("scales of {:?} do not fit values of {:?}", scale.dims, x.dims));
    let zeros = match op.constant(2)? {
        Some(zero) if zero.dims != scale.dims => {
            return Err(Error::bad(format!("has scales of {:?}, zero points of {:?}", scale.dims, zero.dims)));
        }
        zero => zero.map(|zero| zero.as_ints()).transpose()?,
    };
    if block > 0 || scale.values.len() != 1 {
        let axis = operation::axis(given, x.dims.len())?;
        let strides = row_major(&scale.dims);
        if block == 0 {
            if scale.dims != [x.dims[axis]] {
                return Err(wrong());
            }
            view.strides[axis] = 1;
        } else {
            let shared = operation::size(block, 1).ok_or_else(wrong)?;
            let fits = |a: usize| {
                let side = if a == axis { x.dims[a].div_ceil(shared) } else { x.dims[a] };
                scale.dims.get(a) == Some(&side)
            };
            if scale.dims.len() != x.dims.len() || !(0..x.dims.len()).all(fits) {
                return Err(wrong());
            }
            view.strides = strides;
            draft.allocate(x.dims[axis])?;
            let entries = (0..x.dims[axis]).map(|at| at / shared).collect();
            view.list = Some((axis, entries));
        }
    }
    draft.allocate(levels.len())?;
    let at = view.positions();
    #[allow(clippy::cast_precision_loss, reason = "levels are of a few bits")]
    let values = levels.iter().zip(at).map(|(&q, at)| {
        let zero = zeros.map_or(0, |zeros| zeros[at]);
        q.saturating_sub(zero) as f32 * scales[at]
    });
    Ok(Tensor { dims: x.dims.clone(), values: Values::Float(values.collect()) })
}

fn gather(op: &Operation<'_>, draft: &mut Draft) -> Result<Tensor> {
    let (x, indices) = (op.needed(0)?, op.needed(1)?);
    let axis = operation::axis(op.int("axis")?.unwrap_or(0), x.dims.len())?;
    let side = x.dims[axis];
    let found = indices.as_ints()?.iter().map(|&index| operation::axis(index, side));
    let found: Vec<usize> = found.collect::<Result<_>>().map_err(|e| Error::bad("an index is outside").because(e))?;
    let dims = [&x.dims[..axis], &indices.dims[..], &x.dims[axis + 1..]].concat();
    if dims.len() > super::tensors::MOST_AXES {
        return Err(Error::bad("its result has too many axes"));
    }
    let count = product(&dims).ok_or_else(|| Error::bad("is too large"))?;
    draft.allocate(count)?;
    let inner: usize = x.dims[axis + 1..].iter().product();
    let outer: usize = x.dims[..axis].iter().product();
    let at = (0..outer).flat_map(|o| found.iter().map(move |&i| (o * side + i) * inner)).flat_map(|at| at..at + inner);
    let values = match &x.values {
        Values::Float(values) => Values::Float(at.map(|at| values[at]).collect()),
        Values::Int(values) => Values::Int(at.map(|at| values[at]).collect()),
    };
    Ok(Tensor { dims, values })
}

fn concat(op: &Operation<'_>, draft: &mut Draft) -> Result<Tensor> {
    let parts = (0..op.inputs.len()).map(|index| op.needed(index)).collect::<Result<Vec<_>>>()?;
    let first = parts.first().ok_or_else(|| Error::bad("has no inputs"))?;
    let given = op.int("axis")?.ok_or_else(|| Error::bad("its axis is missing"))?;
    let axis = operation::axis(given, first.dims.len())?;
    let mut dims = first.dims.clone();
    dims[axis] = 0;
    for part in &parts {
        let fits = part.dims.len() == dims.len() && (0..dims.len()).all(|a| a == axis || part.dims[a] == dims[a]);
        if !fits {
            return Err(Error::bad(format!("shapes {:?} and {:?} cannot be joined", first.dims, part.dims)));
        }
        dims[axis] = dims[axis].checked_add(part.dims[axis]).ok_or_else(|| Error::bad("is too large"))?;
    }
    draft.allocate(product(&dims).ok_or_else(|| Error::bad("is too large"))?)?;
    let outer: usize = dims[..axis].iter().product();
    let block = |part: &Tensor| part.dims[axis..].iter().product::<usize>();
    let values = match &first.values {
        Values::Float(_) => {
            let lists = parts.iter().map(|part| part.as_floats()).collect::<Result<Vec<_>>>()?;
            let rows = (0..outer).flat_map(|o| {
                parts.iter().zip(&lists).flat_map(move |(part, list)| &list[o * block(part)..(o + 1) * block(part)])
            });
            Values::Float(rows.copied().collect())
        }
        Values::Int(_) => {
            let lists = parts.iter().map(|part| part.as_ints()).collect::<Result<Vec<_>>>()?;
            let rows = (0..outer).flat_map(|o| {
                parts.iter().zip(&lists).flat_map(move |(part, list)| &list[o * block(part)..(o + 1) * block(part)])
            });
            Values::Int(rows.copied().collect())
        }
    };
    Ok(Tensor { dims, values })
}

fn slice(op: &Operation<'_>, draft: &mut Draft) -> Result<Tensor> {
    let x = op.needed(0)?;
    let mut made = Tensor::clone(x);
    for cut in cuts(op, &x.dims)? {
        let strides = row_major(&made.dims);
        let mut sides = made.dims.clone();
        sides[cut.axis] = cut.count;
        draft.allocate(cut.count)?;
        let list = Some((cut.axis, cut.entries().collect()));
        made = viewed(&made, View { sides, strides, offset: 0, list }, draft)?;
    }
    Ok(made)
}

fn reshape(op: &Operation<'_>, draft: &mut Draft) -> Result<Tensor> {
    let (x, target) = (op.needed(0)?, op.needed(1)?.as_ints()?);
    let allow_zero = op.flag("allowzero", false)?;
    let wrong = || Error::bad(format!("values of {:?} do not fit the shape {target:?}", x.dims));
    let (mut dims, mut open) = (Vec::with_capacity(target.len()), None);
    for (axis, &side) in target.iter().enumerate() {
        dims.push(match side {
            0 if !allow_zero => *x.dims.get(axis).ok_or_else(wrong)?,
            -1 if open.is_none() => {
                open = Some(axis);
                1
            }
            side => usize::try_from(side).map_err(|_| wrong())?,
        });
    }
    if let Some(open) = open {
        let known = product(&dims).filter(|&known| known > 0).ok_or_else(wrong)?;
        dims[open] = x.values.len() / known;
    }
    reshaped(x, sizes(&dims.iter().map(|&d| i64::try_from(d).unwrap_or(-1)).collect::<Vec<_>>())?, draft)
}

fn binary(op: &Operation<'_>, draft: &mut Draft) -> Result<Tensor> {
    let (a, b) = (op.needed(0)?, op.needed(1)?);
    let dims = together(&a.dims, &b.dims)?;
    draft.allocate(product(&dims).ok_or_else(|| Error::bad("is too large"))?)?;
    let (at_a, at_b) = (spread_view(a, &dims), spread_view(b, &dims));
    let pairs = at_a.positions().zip(at_b.positions());
    let values = match (&a.values, &b.values) {
        (Values::Float(a), Values::Float(b)) => {
            let pairs = pairs.map(|(i, j)| (a[i], b[j]));
            match op.kind {
                "Add" => Values::Float(pairs.map(|(a, b)| a + b).collect()),
                "Sub" => Values::Float(pairs.map(|(a, b)| a - b).collect()),
                "Mul" => Values::Float(pairs.map(|(a, b)| a * b).collect()),
                "Div" => Values::Float(pairs.map(|(a, b)| a / b).collect()),
                _ => Values::Int(pairs.map(|(a, b)| i64::from(a == b)).collect()),
            }
        }
        (Values::Int(a), Values::Int(b)) => {
            let compute = |a: i64, b: i64| match op.kind {
                "Add" => a.checked_add(b),
                "Sub" => a.checked_sub(b),
                "Mul" => a.checked_mul(b),
                "Div" => a.checked_div(b),
                _ => Some(i64::from(a == b)),
            };
            let values: Option<Vec<i64>> = pairs.map(|(i, j)| compute(a[i], b[j])).collect();
            Values::Int(values.ok_or_else(|| Error::bad("its integers overflow, or are divided by 0"))?)
        }
        _ => return Err(Error::bad("one of its inputs is of integers, the other of floats")),
    };
    Ok(Tensor { dims, values })
}

fn choose(op: &Operation<'_>, draft: &mut Draft) -> Result<Tensor> {
    let (condition, a, b) = (op.needed(0)?, op.needed(1)?, op.needed(2)?);
    let dims = together(&together(&condition.dims, &a.dims)?, &b.dims)?;
    draft.allocate(product(&dims).ok_or_else(|| Error::bad("is too large"))?)?;
    let views = [condition, a, b].map(|x| spread_view(x, &dims));
    let condition = condition.as_ints()?;
    let places = views[0].positions().zip(views[1].positions().zip(views[2].positions()));
    let values = match (&a.values, &b.values) {
        (Values::Float(a), Values::Float(b)) => {
            Values::Float(places.map(|(c, (i, j))| if condition[c] != 0 { a[i] } else { b[j] }).collect())
        }
        (Values::Int(a), Values::Int(b)) => {
            Values::Int(places.map(|(c, (i, j))| if condition[c] != 0 { a[i] } else { b[j] }).collect())
        }
        _ => return Err(Error::bad("one of its inputs is of integers, the other of floats")),
    };
    Ok(Tensor { dims, values })
}

/// An element-wise operator, in f64.
fn function(op: &Operation<'_>, draft: &mut Draft) -> Result<Tensor> {
    let inputs = (0..op.inputs.len()).map(|index| op.needed(index).cloned()).collect::<Result<Vec<_>>>()?;
    let dims = inputs.iter().try_fold(vec![], |dims, input| together(&dims, &input.dims))?;
    let read: Vec<Operand> = (0..inputs.len()).map(Operand::Input).collect();
    let mut expression = Expression::default();
    let result = functions::built(op, &mut expression, &read)?;
    let result = expression.finish(&result);
    let mut values = Vec::with_capacity(inputs.len());
    for input in &inputs {
        values.push(spread(input, &dims, draft)?.numbers());
    }
    let count = product(&dims).ok_or_else(|| Error::bad("is too large"))?;
    draft.allocate(count)?;
    let at = |place: usize| -> f64 {
        let read: Vec<f64> = values.iter().map(|values| f64::from(values[place])).collect();
        result.as_ref().map_or(read[0], |function| function.apply(&read, 0))
    };
    let truth = matches!(op.kind, "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "And" | "Or" | "Xor" | "Not");
    let whole = matches!(op.kind, "Abs" | "Neg" | "Sign" | "Min" | "Max" | "Sum" | "Pow");
    let ints = inputs.iter().all(|input| matches!(input.values, Values::Int(_)));
    let values = if truth || (whole && ints) {
        Values::Int((0..count).map(|place| whole_number(at(place))).collect::<Result<_>>()?)
    } else {
        Values::Float((0..count).map(|place| narrowed(at(place))).collect())
    };
    Ok(Tensor { dims, values })
}

/// A value of a function of integers.
fn whole_number(value: f64) -> Result<i64> {
    // Above 2^24 an f32 that it came through would not be exact.
    if value.fract() != 0.0 || value.abs() > 16_777_216.0 {
        return Err(Error::bad(format!("gives {value} of integers")));
    }
    #[allow(clippy::cast_possible_truncation, reason = "it is a whole number below 2^25")]
    Ok(value as i64)
}

fn rounded(op: &Operation<'_>, draft: &mut Draft, function: fn(f32) -> f32) -> Result<Tensor> {
    let x = op.needed(0)?;
    draft.allocate(x.values.len())?;
    let values = x.as_floats()?.iter().map(|&v| function(v)).collect();
    Ok(Tensor { dims: x.dims.clone(), values: Values::Float(values) })
}
