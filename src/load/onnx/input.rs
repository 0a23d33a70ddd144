//! The image that a network takes.

use super::describe::Described;
use super::draft::{Draft, DraftOp};
use super::simplify::{readers, take_name};
use super::values::Active;
use crate::error::{Term, text};
use crate::model::{MAX_SIDE, NoteKind, Op, Preprocessing, Shape};
use crate::onnx_proto::ValueInfoProto;
use crate::{Error, Result};

/// Colours of an image.
const COLOURS: usize = 3;

/// How far the normalization of a file may be from what it says of itself: it is in f32.
const CLOSE: f64 = 1e-5;

/// The input that a file declares.
#[derive(Debug)]
pub(super) struct Input {
    name: String,
    /// Rows and columns.
    size: [usize; 2],
    /// Whether the colours come last.
    last: bool,
    /// Whether it takes the pixels' 8-bit values.
    pixels: bool,
    /// The number of images that the file is made for, where it says one.
    pub batch: Option<usize>,
}

impl Input {
    /// From the declaration; sides that it leaves open are those that the description says.
    ///
    /// # Errors
    /// An input that is no image of three colours, or whose size nothing says.
    pub(super) fn of(declared: &ValueInfoProto, said: Option<[usize; 2]>) -> Result<Self> {
        let name = declared.name();
        let at = |e: Error| e.at(format!("input {}", name.escape_debug()));
        let tensor = declared.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
        let tensor = tensor.ok_or_else(|| at(Error::bad("is no tensor; an image is expected")))?;
        let pixels = match tensor.elem_type() {
            1 | 10 | 11 | 16 => false,
            2 => true,
            other => {
                return Err(at(Error::bad(format!(
                    "is of the data type number {other}; floats or uint8 are expected"
                ))));
            }
        };
        let sides: Option<Vec<Option<usize>>> = tensor.shape.as_ref().map(|shape| {
            // A side of 0 or less stands for an open one in some files.
            shape.dim.iter().map(|dim| usize::try_from(dim.dim_value()).ok().filter(|&side| side > 0)).collect()
        });
        let sides = sides.unwrap_or_else(|| vec![None, Some(COLOURS), None, None]);
        let &[batch, a, b, c] = sides.as_slice() else {
            return Err(at(Error::bad(format!(
                "has {} axes; 4 are expected (batch × 3 × height × width)",
                sides.len()
            ))));
        };
        let (last, rows, columns) = match (a, b, c) {
            (Some(COLOURS), rows, columns) => (false, rows, columns),
            (rows, columns, Some(COLOURS)) => (true, rows, columns),
            _ => {
                let what = "has no axis of 3 colours, neither after the batch nor last; images are RGB";
                return Err(at(Error::bad(what)));
            }
        };
        let side = |given: Option<usize>, axis: usize| given.or(said.map(|size| size[axis]));
        let (Some(rows), Some(columns)) = (side(rows, 0), side(columns, 1)) else {
            return Err(at(Error::bad("leaves height or width open").hint(text![
                "say the size: ",
                Term::InputSize,
                " 224x224, or {\"input\": {\"size\": [224, 224], …}} as MODEL.json or ",
                Term::Describe,
            ])));
        };
        if rows.max(columns) > MAX_SIDE {
            return Err(at(Error::bad(format!("is of {rows}×{columns}; sides up to {MAX_SIDE} are supported"))));
        }
        Ok(Self { name: name.to_owned(), size: [rows, columns], last, pixels, batch })
    }

    /// Adds it as the draft's first node, channels first.
    pub(super) fn add(&self, draft: &mut Draft) -> Result<Active> {
        let [height, width] = self.size;
        let node = draft.operation(&self.name, Op::Input(Shape::new(COLOURS, height, width)), vec![])?;
        let image = Active::new(node, vec![COLOURS, height, width], &self.name);
        Ok(if self.last { image.permuted(&[1, 2, 0], &self.name) } else { image })
    }

    /// How an image becomes the input. Where the network takes pixels, the normalization that it
    /// begins with is left to the preprocessing.
    ///
    /// # Errors
    /// A description that contradicts the network.
    pub(super) fn preprocessing(
        &self,
        draft: &mut Draft,
        outputs: &mut [usize],
        described: &Described,
    ) -> Result<Preprocessing> {
        let mut input = described.preprocessing(self.size)?;
        let asked = &described.overrides;
        if self.pixels && (asked.mean.is_some() || asked.std.is_some()) {
            return Err(Error::usage(text![
                Term::Mean,
                " and ",
                Term::Std,
                ": the network takes pixels and normalizes them itself",
            ]));
        }
        let open = [
            ("mean", !self.pixels && asked.mean.is_none()),
            ("deviation", !self.pixels && asked.std.is_none()),
            ("size and crop", asked.resize.is_none()),
        ];
        let assumed: Vec<&str> = open.iter().filter(|(_, open)| *open).map(|(what, _)| *what).collect();
        if described.input.is_none() && !assumed.is_empty() {
            draft.note(
                &self.name,
                NoteKind::Assumed,
                format!("nothing says how images become the input: {} are as for ImageNet", assumed.join(", ")),
            );
        }
        if !self.pixels {
            return Ok(input);
        }
        // Without a normalization: the pixels' values.
        let (mut mean, mut std) = ([0.0; 3], [1.0 / 255.0; 3]);
        if let Some(node) = normalization(draft, outputs)
            && let DraftOp::Affine { scale, shift } = &draft.nodes[node].op
        {
            let at = |values: &[f64], c: usize| if values.len() == 1 { values[0] } else { values[c] };
            std = std::array::from_fn(|c| 1.0 / (255.0 * at(scale, c)));
            mean = std::array::from_fn(|c| -at(shift, c) * std[c]);
            if draft.nodes[node].relu {
                draft.nodes[node].op = DraftOp::Affine { scale: vec![1.0], shift: vec![0.0] };
            } else {
                for other in &mut draft.nodes {
                    other.inputs.iter_mut().filter(|input| **input == node).for_each(|input| *input = 0);
                }
                outputs.iter_mut().filter(|output| **output == node).for_each(|output| *output = 0);
                take_name(&mut draft.nodes, 0, node);
            }
        }
        // A file of this program says what it computes: then that, which was not rounded.
        let near = |a: f64, b: f64| (a - b).abs() <= CLOSE * b.abs().max(CLOSE);
        let same = (0..3).all(|c| near(std[c], input.std[c]) && near(mean[c], input.mean[c]));
        if !same {
            (input.mean, input.std) = (mean, std);
        }
        Ok(input)
    }
}

/// The factors and offsets that alone read the input, where they make a normalization.
fn normalization(draft: &Draft, outputs: &[usize]) -> Option<usize> {
    let readers = readers(&draft.nodes, outputs);
    if readers.first() != Some(&1) {
        return None;
    }
    let node = (0..draft.nodes.len()).find(|&id| readers[id] > 0 && draft.nodes[id].inputs.contains(&0))?;
    match &draft.nodes[node].op {
        DraftOp::Affine { scale, shift } => {
            let usual = scale.iter().all(|a| a.is_finite() && *a > 0.0 && (1.0 / (255.0 * a)).is_finite());
            (usual && shift.iter().all(|b| b.is_finite())).then_some(node)
        }
        _ => None,
    }
}
