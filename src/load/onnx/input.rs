//! The image that a network takes.

use super::describe::Described;
use super::draft::{Draft, DraftOp};
use super::simplify::{readers, take_name};
use super::values::Active;
use crate::error::{Term, text};
use crate::load::input_file::InputFile;
use crate::model::{Fit, MAX_SIDE, NoteKind, Op, Preprocessing, Shape};
use crate::onnx_proto::ValueInfoProto;
use crate::{Error, Result};

/// Channels of an RGB image, and of one whose shape a file leaves open.
const COLOURS: usize = 3;

/// How far the normalization of a file may be from what it says of itself: it is in f32.
const CLOSE: f64 = 1e-5;

/// The input that a file declares.
#[derive(Debug)]
pub(super) struct Input {
    name: String,
    channels: usize,
    /// Rows and columns.
    size: [usize; 2],
    /// Whether the channels come last.
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
    /// An input that is no image, or whose channels or size nothing says.
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
                "has {} axes; 4 are expected (batch × channels × height × width)",
                sides.len()
            ))));
        };
        let last = channels_last([a, b, c]);
        let (channels, rows, columns) = if last { (c, a, b) } else { (a, b, c) };
        let Some(channels) = channels else {
            let what = "leaves its channels open: neither the axis after the batch nor the last one has a fixed length";
            return Err(at(Error::bad(what).hint("export the network with a fixed number of channels")));
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
        if rows.max(columns).max(channels) > MAX_SIDE {
            let what = format!("is of {channels}×{rows}×{columns}; sides up to {MAX_SIDE} are supported");
            return Err(at(Error::bad(what)));
        }
        Ok(Self { name: name.to_owned(), channels, size: [rows, columns], last, pixels, batch })
    }

    /// Adds it as the draft's first node, channels first.
    pub(super) fn add(&self, draft: &mut Draft) -> Result<Active> {
        let (channels, [height, width]) = (self.channels, self.size);
        let node = draft.operation(&self.name, Op::Input(Shape::new(channels, height, width)), vec![])?;
        let image = Active::new(node, vec![channels, height, width], &self.name);
        Ok(if self.last { image.permuted(&[1, 2, 0], &self.name) } else { image })
    }

    /// What is assumed where nothing says how images become the input; empty: nothing.
    fn assumed(&self, described: &Described, input: &Preprocessing) -> String {
        let [mean, std, fit] = described.open();
        let (mean, std) = (mean && !self.pixels, std && !self.pixels);
        if self.channels == COLOURS {
            let open = [("mean", mean), ("deviation", std), ("size and crop", fit)];
            let open: Vec<&str> = open.iter().filter(|(_, open)| *open).map(|(what, _)| *what).collect();
            return if open.is_empty() { String::new() } else { format!("{} are as for ImageNet", open.join(", ")) };
        }
        let axis = if self.last { "last axis" } else { "axis after the batch" };
        let channels =
            (self.channels != 1).then(|| format!("the {axis} is {} channels, read from .npy files", self.channels));
        let values = match (mean, std) {
            (true, true) => Some("values go from 0 to 1 (mean 0, deviation 1)"),
            (true, false) => Some("mean 0"),
            (false, true) => Some("deviation 1"),
            (false, false) => None,
        };
        let [height, width] = input.size;
        let stretched = fit && input.fit == Fit::Stretch;
        let size = stretched.then(|| format!("images are stretched to {height}×{width}"));
        channels.into_iter().chain(values.map(str::to_owned)).chain(size).collect::<Vec<_>>().join(", ")
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
        let mut input = described.preprocessing(self.channels, self.size)?;
        let asked = &described.overrides;
        if self.pixels && (asked.mean.is_some() || asked.std.is_some()) {
            return Err(Error::usage(text![
                Term::Mean,
                " and ",
                Term::Std,
                ": the network takes pixels and normalizes them itself",
            ]));
        }
        let assumed = self.assumed(described, &input);
        let whole = described.input.as_ref().is_some_and(InputFile::is_whole);
        if !whole && !assumed.is_empty() {
            let what = format!("nothing says how images become the input: {assumed}");
            draft.note(&self.name, NoteKind::Assumed, what);
        }
        if !self.pixels {
            return Ok(input);
        }
        // Without a normalization: the pixels' values.
        let channels = self.channels;
        let (mut mean, mut std) = (vec![0.0; channels], vec![1.0 / 255.0; channels]);
        if let Some(node) = normalization(draft, outputs)
            && let DraftOp::Affine { scale, shift } = &draft.nodes[node].op
        {
            let at = |values: &[f64], c: usize| if values.len() == 1 { values[0] } else { values[c] };
            std = (0..channels).map(|c| 1.0 / (255.0 * at(scale, c))).collect();
            mean = (0..channels).map(|c| -at(shift, c) * std[c]).collect();
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
        let same = (0..channels).all(|c| near(std[c], input.std[c]) && near(mean[c], input.mean[c]));
        if !same {
            (input.mean, input.std) = (mean, std);
        }
        Ok(input)
    }
}

/// Whether the channels of an input come last, behind the batch, rows and columns: three of them, or
/// one, or else the shortest of three sides that are all known.
fn channels_last([a, b, c]: [Option<usize>; 3]) -> bool {
    for count in [COLOURS, 1] {
        if a == Some(count) || c == Some(count) {
            return a != Some(count);
        }
    }
    match (a, b, c) {
        (Some(a), Some(b), Some(c)) => c < a.min(b),
        (a, b, _) => a.is_none() && b.is_none(),
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
