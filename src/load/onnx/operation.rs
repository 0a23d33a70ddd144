//! One operation of a file: its attributes and inputs, asked for by what they must be.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use super::program;
use super::tensors::Tensor;
use super::values::{Active, Value};
use crate::onnx_proto::{AttributeProto, NodeProto};
use crate::{Error, Result};

/// The largest side, stride, padding or window that is taken for one.
pub(super) const MOST: usize = 1 << 24;

/// An operation and what its inputs are.
pub(super) struct Operation<'a> {
    /// Its name, or else its result's.
    pub name: &'a str,
    /// The operator.
    pub kind: &'a str,
    /// Version of the standard operators.
    pub opset: i64,
    /// Its inputs; none where one is left out.
    pub inputs: Vec<Option<Value>>,
    /// How many results it has.
    pub outputs: usize,
    /// Whether all axes that the file names are behind a batch that it does not have.
    pub lifted: bool,
    attributes: &'a [AttributeProto],
    asked: RefCell<HashSet<&'a str>>,
}

impl<'a> Operation<'a> {
    /// An operation of the file.
    pub(super) fn new(node: &'a NodeProto, opset: i64, inputs: Vec<Option<Value>>) -> Result<Self> {
        let mut names = HashSet::new();
        for attribute in &node.attribute {
            let called = attribute.name().escape_debug();
            if !names.insert(attribute.name()) {
                return Err(Error::bad(format!("has two attributes `{called}`")));
            }
            if attribute.ref_attr_name.as_ref().is_some_and(|name| !name.is_empty()) {
                return Err(Error::bad(format!("its attribute `{called}` refers to one of a function")));
            }
        }
        Ok(Self {
            name: program::name(node),
            kind: node.op_type(),
            opset,
            inputs,
            outputs: node.output.len(),
            lifted: false,
            attributes: &node.attribute,
            asked: RefCell::default(),
        })
    }

    fn find(&self, name: &str, kind: i32, expected: &str) -> Result<Option<&'a AttributeProto>> {
        let Some(found) = self.attributes.iter().find(|attribute| attribute.name() == name) else { return Ok(None) };
        self.asked.borrow_mut().insert(found.name());
        // Old files leave the type out.
        match found.r#type {
            Some(said) if said != kind && said != 0 => {
                Err(Error::bad(format!("its attribute `{name}` is of type number {said}; {expected} is expected")))
            }
            _ => Ok(Some(found)),
        }
    }

    /// An attribute of one integer.
    pub(super) fn int(&self, name: &str) -> Result<Option<i64>> {
        Ok(self.find(name, AttributeProto::INT, "an integer")?.map(AttributeProto::i))
    }

    /// An attribute that is 0 or 1.
    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.int(name)? {
            None => Ok(default),
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            Some(other) => Err(Error::bad(format!("its attribute `{name}` is {other}; 0 or 1 is expected"))),
        }
    }

    /// An attribute of several integers.
    pub(super) fn ints(&self, name: &str) -> Result<Option<&'a [i64]>> {
        Ok(self.find(name, AttributeProto::INTS, "a list of integers")?.map(|a| a.ints.as_slice()))
    }

    /// An attribute of `N` sizes from `least` to [`MOST`].
    pub(super) fn sizes<const N: usize>(&self, name: &str, least: usize) -> Result<Option<[usize; N]>> {
        let Some(values) = self.ints(name)? else { return Ok(None) };
        let sizes: Option<Vec<usize>> = values.iter().map(|&value| size(value, least)).collect();
        let sizes: Option<[usize; N]> = sizes.and_then(|sizes| sizes.try_into().ok());
        sizes.map(Some).ok_or_else(|| {
            Error::bad(format!("its attribute `{name}` is {values:?}; {N} numbers from {least} to {MOST} are expected"))
        })
    }

    /// An attribute of one number, finite.
    pub(super) fn float(&self, name: &str, default: f32) -> Result<f32> {
        match self.find(name, AttributeProto::FLOAT, "a number")?.map(AttributeProto::f) {
            Some(value) if !value.is_finite() => Err(Error::bad(format!("its attribute `{name}` is {value}"))),
            value => Ok(value.unwrap_or(default)),
        }
    }

    /// An attribute of several numbers.
    pub(super) fn floats(&self, name: &str) -> Result<Option<&'a [f32]>> {
        Ok(self.find(name, AttributeProto::FLOATS, "a list of numbers")?.map(|a| a.floats.as_slice()))
    }

    /// An attribute that is one of a few words; the first is the default.
    pub(super) fn word(&self, name: &str, words: &[&'static str]) -> Result<&'static str> {
        let Some(found) = self.find(name, AttributeProto::STRING, "a text")? else {
            return Ok(words.first().copied().unwrap_or_default());
        };
        let said = String::from_utf8_lossy(found.s()).into_owned();
        words.iter().find(|word| **word == said).copied().ok_or_else(|| {
            let expected = words.join(", ");
            Error::bad(format!("its attribute `{name}` is `{}`; supported: {expected}", said.escape_debug()))
        })
    }

    /// An attribute of several texts.
    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<String>>> {
        let found = self.find(name, AttributeProto::STRINGS, "a list of texts")?;
        let text = |text: &Vec<u8>| String::from_utf8_lossy(text).into_owned();
        Ok(found.map(|found| found.strings.iter().map(text).collect()))
    }

    /// An attribute that is a constant, as the file holds it.
    pub(super) fn tensor(&self, name: &str) -> Result<Option<&'a crate::onnx_proto::TensorProto>> {
        Ok(self.find(name, AttributeProto::TENSOR, "a tensor")?.and_then(|a| a.t.as_ref()))
    }

    /// Whether an attribute is there, whatever it is.
    pub(super) fn has(&self, name: &str) -> bool {
        let found = self.attributes.iter().find(|attribute| attribute.name() == name);
        if let Some(found) = found {
            self.asked.borrow_mut().insert(found.name());
        }
        found.is_some()
    }

    /// Refuses attributes that nothing asked for.
    pub(super) fn check_attributes(&self) -> Result<()> {
        let asked = self.asked.borrow();
        match self.attributes.iter().find(|attribute| !asked.contains(attribute.name())) {
            None => Ok(()),
            Some(left) => Err(Error::bad(format!(
                "its attribute `{}` is not supported in opset {}",
                left.name().escape_debug(),
                self.opset
            ))),
        }
    }

    /// Input `index`, none where it is left out.
    pub(super) fn input(&self, index: usize) -> Option<&Value> {
        self.inputs.get(index).and_then(Option::as_ref)
    }

    /// Input `index`, which must be an activation.
    pub(super) fn active(&self, index: usize) -> Result<&Active> {
        match self.input(index) {
            Some(Value::Active(active)) => Ok(active),
            Some(Value::Constant(_)) => {
                Err(Error::bad(format!("its input {index} is a constant; an activation is expected")))
            }
            None => Err(Error::bad(format!("its input {index} is missing"))),
        }
    }

    /// Input `index`, which must be a constant, or none where it is left out.
    pub(super) fn constant(&self, index: usize) -> Result<Option<&Rc<Tensor>>> {
        match self.input(index) {
            Some(Value::Constant(tensor)) => Ok(Some(tensor)),
            Some(Value::Active(_)) => {
                Err(Error::bad(format!("its input {index} is an activation; a constant is expected")))
            }
            None => Ok(None),
        }
    }

    /// Input `index`, which must be a constant.
    pub(super) fn needed(&self, index: usize) -> Result<&Rc<Tensor>> {
        self.constant(index)?.ok_or_else(|| Error::bad(format!("its input {index} is missing")))
    }

    /// Integers from an attribute, or, where there is none, from input `index`: where they are
    /// depends on the opset.
    pub(super) fn list(&self, name: &str, index: usize) -> Result<Option<Vec<i64>>> {
        if let Some(values) = self.ints(name)? {
            return Ok(Some(values.to_vec()));
        }
        self.constant(index)?.map(|tensor| tensor.as_ints().map(<[i64]>::to_vec)).transpose()
    }

    /// An axis that may be counted from the end, of `rank` with the batch.
    pub(super) fn axis(&self, value: i64, rank: usize) -> Result<usize> {
        let ours = usize::from(self.lifted);
        axis(value, rank - ours).map(|axis| axis + ours)
    }

    /// Axes that may be counted from the end, each once, ascending.
    pub(super) fn axes(&self, values: &[i64], rank: usize) -> Result<Vec<usize>> {
        let ours = usize::from(self.lifted);
        Ok(axes(values, rank - ours)?.into_iter().map(|axis| axis + ours).collect())
    }

    /// Refuses more than `most` inputs.
    pub(super) fn at_most(&self, most: usize) -> Result<()> {
        match self.inputs.len() {
            given if given > most => Err(Error::bad(format!("has {given} inputs; at most {most} are expected"))),
            _ => Ok(()),
        }
    }
}

/// A number from a file as a size from `least` to [`MOST`].
pub(super) fn size(value: i64, least: usize) -> Option<usize> {
    usize::try_from(value).ok().filter(|size| (least..=MOST).contains(size))
}

/// An axis that may be counted from the end, of `rank` axes.
pub(super) fn axis(value: i64, rank: usize) -> Result<usize> {
    let from_end = |value: i64| i64::try_from(rank).ok().and_then(|rank| value.checked_add(rank));
    let counted = if value < 0 { from_end(value) } else { Some(value) };
    let found = counted.and_then(|value| usize::try_from(value).ok()).filter(|&axis| axis < rank);
    found.ok_or_else(|| Error::bad(format!("axis {value} of {rank}")))
}

/// Axes that may be counted from the end, each once, ascending.
pub(super) fn axes(values: &[i64], rank: usize) -> Result<Vec<usize>> {
    let mut found = values.iter().map(|&value| axis(value, rank)).collect::<Result<Vec<_>>>()?;
    found.sort_unstable();
    if found.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Error::bad(format!("the axes {values:?} name one twice")));
    }
    Ok(found)
}
