//! Operators of old opsets as those of today: what was an attribute is an input.

use std::rc::Rc;

use super::operation::Operation;
use super::tensors::{Tensor, Values};
use super::values::Value;
use crate::Result;

/// Puts the attributes of an operation that are inputs now where these are, and calls `Upsample`
/// by the name of what replaced it. Which way positions are rounded is left to `Resize`.
///
/// # Errors
/// Attributes of another type.
pub(super) fn today(op: &mut Operation<'_>) -> Result<()> {
    let ints = |values: &[i64]| Some(Value::Constant(Rc::new(Tensor::ints(values.to_vec()))));
    match (op.kind, op.opset) {
        ("Clip", ..11) => {
            for (index, name, open) in [(1, "min", f32::MIN), (2, "max", f32::MAX)] {
                if op.has(name) {
                    let bound = op.float(name, open)?;
                    // The largest number of f32 stands for no bound there.
                    put(op, index, (bound != open).then(|| number(bound)));
                }
            }
        }
        ("Pad", ..11) => {
            let (pads, value) = (op.ints("pads")?, op.float("value", 0.0)?);
            put(op, 1, pads.and_then(ints));
            put(op, 2, Some(number(value)));
        }
        ("Slice", ..10) => {
            for (index, name) in [(1, "starts"), (2, "ends"), (3, "axes")] {
                let values = op.ints(name)?;
                put(op, index, values.and_then(ints));
            }
        }
        ("Upsample" | "Resize", ..11) => {
            op.kind = "Resize";
            // The image and its scales.
            if op.inputs.len() == 2 {
                op.inputs.insert(1, None);
            }
        }
        _ => {}
    }
    Ok(())
}

fn number(value: f32) -> Value {
    Value::Constant(Rc::new(Tensor { dims: vec![], values: Values::Float(vec![value]) }))
}

/// Sets an input that is not there.
fn put(op: &mut Operation<'_>, index: usize, value: Option<Value>) {
    if value.is_some() && op.input(index).is_none() {
        if op.inputs.len() <= index {
            op.inputs.resize(index + 1, None);
        }
        op.inputs[index] = value;
    }
}
