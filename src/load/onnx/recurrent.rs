//! Recurrent layers: `LSTM`, `GRU` and `RNN`.

use ndarray::{Array2, Array3};

use super::draft::Draft;
use super::operation::Operation;
use super::shape_ops::{Cut, flat, kept};
use super::tensors::Tensor;
use super::values::{Active, Value};
use crate::model::{Axis, Cell, Direction, Op, Recurrent};
use crate::{Error, Result};

/// The operators that are read here.
pub(super) const OPERATORS: [&str; 3] = ["GRU", "LSTM", "RNN"];

/// One of [`OPERATORS`]: the states after each step, those after the last, the memory after the
/// last. What nothing reads is dropped later.
pub(super) fn recurrent(op: &Operation<'_>, draft: &mut Draft) -> Result<Vec<Value>> {
    op.at_most(if op.kind == "LSTM" { 8 } else { 6 })?;
    let batch_first = op.flag("layout", false)?;
    if !op.lifted && !batch_first {
        return Err(Error::bad("goes along its first axis, which is the batch of the network's input")
            .hint("export the network for one image, or with an open batch"));
    }
    let x = op.active(0)?;
    // Features, steps, sequences; of a batch that stays the first axis each image is one.
    let order: &[usize] = match (op.lifted, batch_first) {
        (true, false) => &[2, 0, 1],
        (true, true) => &[2, 1, 0],
        (false, _) => &[1, 0],
    };
    let dims = x.dims();
    if dims.len() != order.len() {
        let axes = dims.len() + usize::from(!op.lifted);
        return Err(Error::bad(format!("reads an activation of {axes} axes; 3 are expected")));
    }
    let (steps, sequences) = (dims[order[1]], order.get(2).map_or(1, |&axis| dims[axis]));
    let recurrent = weights(op, dims[order[0]], [steps, sequences], batch_first)?;
    recurrent.check()?;
    let (directions, hidden) = (recurrent.direction.count(), recurrent.hidden());
    let x = draft.realize(&x.permuted(order, &format!("{}/turned", op.name)))?;
    let way = recurrent.direction;
    let memory =
        (recurrent.cell == Cell::Lstm && op.outputs > 2).then(|| Recurrent { gives_memory: true, ..recurrent.clone() });
    let node = draft.operation(op.name, Op::Recurrent(Box::new(recurrent)), vec![x])?;
    let all = Active::new(node, vec![directions, hidden, steps, sequences], op.name);
    let last = last_step(op, draft, &all, way)?;
    // Steps, directions, sequences, hidden, or the sequences first.
    let all = match (op.lifted, batch_first) {
        (true, false) => all.permuted(&[2, 0, 3, 1], op.name),
        (true, true) => all.permuted(&[3, 2, 0, 1], op.name),
        (false, _) => Active::new(node, vec![directions, hidden, steps], op.name).permuted(&[2, 0, 1], op.name),
    };
    let mut results = vec![Value::Active(all), Value::Active(seen(op, draft, &last, batch_first)?)];
    if let Some(memory) = memory {
        let name = format!("{}/memory", op.name);
        let node = draft.operation(&name, Op::Recurrent(Box::new(memory)), vec![x])?;
        let memory = Active::new(node, vec![directions, hidden, 1, sequences], op.name);
        results.push(Value::Active(seen(op, draft, &memory, batch_first)?));
    }
    Ok(results)
}

/// What each direction gives after the step that is its last.
fn last_step(op: &Operation<'_>, draft: &mut Draft, all: &Active, way: Direction) -> Result<Active> {
    let steps = all.sides[2];
    let last = |index: usize| if way.is_backwards(index) { 0 } else { steps - 1 };
    let cut = |axis: usize, entry: usize| Cut::forwards(axis, entry, 1, 1);
    if steps == 1 || way.count() == 1 {
        return kept(draft, all, cut(2, last(0)), &format!("{}/last", op.name));
    }
    // Of each direction another step: one behind the other again.
    let mut parts = Vec::with_capacity(way.count());
    let sides = vec![way.count(), all.sides[1], 1, all.sides[3]];
    for index in 0..way.count() {
        let name = format!("{}/last/{index}", op.name);
        let part = kept(draft, all, cut(0, index), &name)?;
        let part = kept(draft, &part, cut(2, last(index)), &name)?;
        parts.push(draft.realize(&Active::new(part.node, sides[1..].to_vec(), &name))?);
    }
    let node = draft.operation(&format!("{}/last", op.name), Op::Concat(Axis::Channels), parts)?;
    Ok(Active::new(node, sides, op.name))
}

/// One step, directions × hidden × 1 × sequences, as the file has it: directions × sequences ×
/// hidden, or the sequences first.
fn seen(op: &Operation<'_>, draft: &mut Draft, x: &Active, batch_first: bool) -> Result<Active> {
    let sides = vec![x.sides[0], x.sides[1], x.sides[3]];
    let x = flat(draft, x, sides.clone(), op.name)?;
    Ok(match (op.lifted, batch_first) {
        (true, false) => x.permuted(&[0, 2, 1], op.name),
        (true, true) => x.permuted(&[2, 0, 1], op.name),
        (false, _) => Active::new(x.node, sides[..2].to_vec(), op.name),
    })
}

/// What it computes: attributes and constants; `sides` are those of steps and sequences.
fn weights(op: &Operation<'_>, features: usize, sides: [usize; 2], batch_first: bool) -> Result<Recurrent> {
    let direction = match op.word("direction", &["forward", "reverse", "bidirectional"])? {
        "reverse" => Direction::Reverse,
        "bidirectional" => Direction::Bidirectional,
        _ => Direction::Forward,
    };
    let directions = direction.count();
    let cell = cell(op, directions)?;
    let state = op.needed(2)?;
    let &[_, _, hidden] = state.dims.as_slice() else {
        return Err(Error::bad(format!("its recurrent weights have shape {:?}; three sides are expected", state.dims)));
    };
    if let Some(said) = op.int("hidden_size")?.filter(|&said| usize::try_from(said) != Ok(hidden)) {
        return Err(Error::bad(format!("its attribute `hidden_size` is {said}; its weights are for {hidden}")));
    }
    let [steps, sequences] = sides;
    if let Some(lengths) = op.constant(4)? {
        let steps = i64::try_from(steps).unwrap_or(i64::MAX);
        if lengths.as_ints()?.iter().any(|&length| length != steps) {
            return Err(Error::bad(format!("its sequences are of different lengths; all must have {steps} steps")));
        }
    }
    let gates = cell.gates().checked_mul(hidden).ok_or_else(|| Error::bad("is too large"))?;
    let bias = match op.constant(3)? {
        Some(bias) => two(bias, [directions, 2 * gates], "biases")?,
        None => Array2::zeros((directions, 2 * gates)),
    };
    let initial = |index: usize| -> Result<Option<Array3<f32>>> {
        let Some(values) = op.constant(index)?.filter(|_| index < 6 || cell == Cell::Lstm) else { return Ok(None) };
        if values.numbers().iter().all(|&v| v == 0.0) {
            return Ok(None);
        }
        Ok(Some(if batch_first {
            let moved = three(values, [sequences, directions, hidden], "initial states")?;
            moved.permuted_axes([1, 0, 2]).as_standard_layout().into_owned()
        } else {
            three(values, [directions, sequences, hidden], "initial states")?
        }))
    };
    let peepholes = op.constant(7)?.map(|values| two(values, [directions, 3 * hidden], "peepholes")).transpose()?;
    Ok(Recurrent {
        cell,
        direction,
        gives_memory: false,
        input: three(op.needed(1)?, [directions, gates, features], "weights")?,
        state: three(state, [directions, gates, hidden], "recurrent weights")?,
        bias,
        peepholes: peepholes.filter(|p| p.iter().any(|&v| v != 0.0)),
        initial_state: initial(5)?,
        initial_memory: initial(6)?,
    })
}

/// The kind of cell; functions other than its own are refused.
fn cell(op: &Operation<'_>, directions: usize) -> Result<Cell> {
    let said = op.texts("activations")?;
    let own: &[&str] = match op.kind {
        "LSTM" => &["sigmoid", "tanh", "tanh"],
        "GRU" => &["sigmoid", "tanh"],
        _ => &["tanh"],
    };
    let are = |own: &[&str]| {
        said.as_ref().is_none_or(|said| {
            said.len() == own.len() * directions
                && said.iter().zip(own.iter().cycle()).all(|(said, own)| said.eq_ignore_ascii_case(own))
        })
    };
    if op.kind == "RNN" && said.is_some() && are(&["relu"]) {
        return Ok(Cell::Relu);
    }
    if !are(own) {
        let said = said.unwrap_or_default().join(", ");
        return Err(Error::bad(format!(
            "its activations are {}; {} are expected for each direction",
            said.escape_debug(),
            own.join(", ")
        )));
    }
    if op.has("clip") {
        return Err(Error::bad("its attribute `clip` is not supported: gates are not cut off"));
    }
    Ok(match op.kind {
        "LSTM" if op.flag("input_forget", false)? => {
            return Err(Error::bad("its attribute `input_forget` is 1; gates of their own are expected"));
        }
        "LSTM" => Cell::Lstm,
        "GRU" => Cell::Gru { reset_after: op.flag("linear_before_reset", false)? },
        _ => Cell::Tanh,
    })
}

fn misfit(tensor: &Tensor, sides: &[usize], what: &str) -> Error {
    Error::bad(format!("its {what} have shape {:?}; {sides:?} is expected", tensor.dims))
}

fn two(tensor: &Tensor, sides: [usize; 2], what: &str) -> Result<Array2<f32>> {
    let values = tensor.as_floats()?.to_vec();
    let fits = Some(sides.as_slice()).filter(|sides| tensor.dims == **sides);
    fits.and_then(|_| Array2::from_shape_vec(sides, values).ok()).ok_or_else(|| misfit(tensor, &sides, what))
}

fn three(tensor: &Tensor, sides: [usize; 3], what: &str) -> Result<Array3<f32>> {
    let values = tensor.as_floats()?.to_vec();
    let fits = Some(sides.as_slice()).filter(|sides| tensor.dims == **sides);
    fits.and_then(|_| Array3::from_shape_vec(sides, values).ok()).ok_or_else(|| misfit(tensor, &sides, what))
}
