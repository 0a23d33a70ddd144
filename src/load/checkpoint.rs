//! From tensors and a description to a [`TrainedNet`], checking each against the other.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use super::layout::{self, BlockKeys, KeyErrors, Layout};
use super::naming::{Field, Part, Scheme, Slot, layer_name};
use super::tensors::{Tensors, place};
use super::{BatchNorm, Block, Branch, Description, Family, Squeeze, TrainedNet};
use crate::model::{Conv, Shape};
use crate::{Error, Result};

/// Builds the network.
pub(super) fn build(name: &str, tensors: &Tensors, description: &Description) -> Result<TrainedNet> {
    description.check()?;
    let Layout { scheme, blocks: keys, classifier } = layout::sort(tensors.names(), description.family)?;
    let (strides, channels) = (strides(&keys, description)?, description.input.channels());
    let mut reader = Reader { tensors, scheme, epsilon: description.bn_eps, errors: KeyErrors::default() };
    let mut blocks: Vec<Block> = Vec::with_capacity(keys.len());
    for (keys, stride) in keys.iter().zip(strides) {
        let in_channels = blocks.last().map_or(channels, |block| block.out_channels);
        let name = layer_name(keys.position);
        blocks.push(reader.block(keys, name, in_channels, stride)?);
    }
    reader.errors.check(&scheme.to_string())?;
    check_family(&blocks, &keys, description)?;

    let features = blocks.last().map_or(channels, |block| block.out_channels);
    let (classifier_name, [weight, bias]) = classifier;
    let [classes, inputs] = tensors.shape(&weight)?;
    if inputs != features {
        let what = format!("has shape [{classes}, {inputs}]; the last block has {features} channels");
        return Err(Error::bad(what).at(place(&weight)));
    }
    if let Some(names) = description.classes.as_ref().filter(|names| names.len() != classes) {
        return Err(contradiction(format!("it names {} classes, the classifier has {classes}", names.len())));
    }
    let classifier = Conv::linear(tensors.matrix(&weight, [classes, features])?, tensors.vector(&bias, classes)?);
    let [height, width] = description.input.size;
    Ok(TrainedNet {
        name: name.to_owned(),
        input: description.input.preprocessing(),
        classes: description.classes.clone(),
        input_shape: Shape::new(channels, height, width),
        blocks,
        classifier,
        classifier_name,
        notes: tensors.notes.clone(),
    })
}

fn contradiction(what: impl Into<String>) -> Error {
    Error::bad(format!("the description contradicts the weights: {}", what.into()))
}

/// The stride of each block: a stage's own for its first block, then 1.
fn strides(blocks: &[BlockKeys], description: &Description) -> Result<Vec<usize>> {
    let stages = blocks.last().map_or(0, |block| block.position.0 + 1);
    if description.strides.len() != stages {
        let given = description.strides.len();
        return Err(contradiction(format!("it has {given} strides, the checkpoint {stages} stages, stem included")));
    }
    Ok(blocks.iter().map(|b| if b.position.1 == 0 { description.strides[b.position.0] } else { 1 }).collect())
}

/// Reads blocks; keys that are missing or left over are collected, so that one message names them
/// all.
struct Reader<'a> {
    tensors: &'a Tensors<'a>,
    scheme: &'static Scheme,
    epsilon: f64,
    errors: KeyErrors,
}

impl Reader<'_> {
    fn block(&mut self, keys: &BlockKeys, name: String, in_channels: usize, stride: usize) -> Result<Block> {
        let first = if keys.has(Part::Fused) { Part::Fused } else { Part::Main(0) };
        let weight = self.key(keys, first, Field::Weight)?;
        let shape: [usize; 4] = self.tensors.shape(weight)?;
        let [out_channels, group_inputs, kernel, width] = shape;
        let wrong = |what: String| Err(Error::bad(format!("has shape {shape:?}: {what}")).at(place(weight)));
        if kernel != width || kernel % 2 == 0 {
            return wrong("a kernel must be square, of odd side".into());
        }
        if !in_channels.is_multiple_of(group_inputs) || !out_channels.is_multiple_of(in_channels / group_inputs) {
            return wrong(format!("it does not fit {in_channels} input channels"));
        }
        let groups = in_channels / group_inputs;
        let mut branches = Vec::new();
        if first == Part::Fused {
            branches.push(self.convolution(keys, Part::Fused, shape)?);
        } else {
            for index in 0..keys.mains() {
                branches.push(self.convolution(keys, Part::Main(index), shape)?);
            }
            let pointwise = if keys.has(Part::PlainPointwise) { Part::PlainPointwise } else { Part::Pointwise };
            if self.expect(keys, pointwise, self.scheme.family == Family::RepVgg || kernel > 1) {
                branches.push(self.convolution(keys, pointwise, [out_channels, group_inputs, 1, 1])?);
            }
            let same = in_channels == out_channels && stride == 1;
            if !same && keys.has(Part::Identity) {
                return Err(contradiction(format!(
                    "{name} has an identity branch, which is only possible with stride 1 and as many channels out as in \
                     (here stride {stride}, {in_channels} to {out_channels} channels)"
                ))
                .hint("check \"strides\" in the description"));
            }
            // A QARepVGG's has no batch norm of its own, hence no tensors.
            if keys.has(Part::Sum) && !keys.has(Part::Identity) {
                branches.extend(same.then_some(Branch::Input));
            } else if self.expect(keys, Part::Identity, same) {
                branches.push(Branch::Identity(self.norm(keys, Part::Identity, out_channels)?));
            }
        }
        let norm = keys.has(Part::Sum).then(|| self.norm(keys, Part::Sum, out_channels)).transpose()?;
        let squeeze = keys.has(Part::Reduce).then(|| self.squeeze(keys, out_channels)).transpose()?;
        if norm.is_some() && squeeze.is_some() {
            return Err(Error::bad("squeeze-and-excitation before a batch norm is not supported").at(name));
        }
        let padding = kernel / 2;
        Ok(Block { name, in_channels, out_channels, kernel, stride, padding, groups, branches, norm, squeeze })
    }

    /// The two convolutions of squeeze-and-excitation.
    fn squeeze(&self, keys: &BlockKeys, channels: usize) -> Result<Squeeze> {
        let reduce = self.key(keys, Part::Reduce, Field::Weight)?;
        let [fewer, ..]: [usize; 4] = self.tensors.shape(reduce)?;
        let conv = |part, [out, inputs]: [usize; 2]| {
            let weight = self.tensors.kernel(self.key(keys, part, Field::Weight)?, [out, inputs, 1, 1])?;
            let bias = self.tensors.vector(self.key(keys, part, Field::Bias)?, out)?;
            Ok(Conv { weight, bias, stride: [1, 1], padding: [0, 0], groups: 1 })
        };
        Ok(Squeeze { reduce: conv(Part::Reduce, [fewer, channels])?, expand: conv(Part::Expand, [channels, fewer])? })
    }

    /// Whether a branch is there to be read. One that should be there and is not is missing, the
    /// reverse is left over.
    fn expect(&mut self, keys: &BlockKeys, part: Part, wanted: bool) -> bool {
        let there = keys.has(part);
        let fields = layout::required(part);
        if wanted && !there {
            let slot = |&field| self.scheme.key(Slot { position: keys.position, part, field });
            self.errors.missing.extend(fields.iter().map(slot));
        } else if !wanted && there {
            self.errors.left_over.extend(fields.iter().filter_map(|&field| keys.get(part, field)).map(str::to_owned));
        }
        wanted && there
    }

    /// The key of a tensor that the layout found to be there.
    fn key<'k>(&self, keys: &'k BlockKeys, part: Part, field: Field) -> Result<&'k str> {
        keys.get(part, field).ok_or_else(|| {
            Error::bad(format!("the key {} is missing", self.scheme.key(Slot { position: keys.position, part, field })))
        })
    }

    fn convolution(&self, keys: &BlockKeys, part: Part, shape: [usize; 4]) -> Result<Branch> {
        let weight = self.tensors.kernel(self.key(keys, part, Field::Weight)?, shape)?;
        let bias = keys.get(part, Field::Bias).map(|key| self.tensors.vector(key, shape[0])).transpose()?;
        let normed = !matches!(part, Part::Fused | Part::PlainPointwise);
        let norm = normed.then(|| self.norm(keys, part, shape[0])).transpose()?;
        Ok(Branch::Conv { weight, bias, norm })
    }

    fn norm(&self, keys: &BlockKeys, part: Part, channels: usize) -> Result<BatchNorm> {
        let vector = |field| self.tensors.vector(self.key(keys, part, field)?, channels);
        Ok(BatchNorm {
            weight: vector(Field::NormWeight)?,
            bias: vector(Field::NormBias)?,
            mean: vector(Field::NormMean)?,
            variance: self.tensors.variance(self.key(keys, part, Field::NormVariance)?, channels)?,
            epsilon: self.epsilon,
        })
    }
}

/// Fused checkpoints of both families can have the same keys: the shapes must be those of the
/// family.
fn check_family(blocks: &[Block], keys: &[BlockKeys], description: &Description) -> Result<()> {
    for (block, keys) in blocks.iter().zip(keys) {
        let (stage, index) = keys.position;
        let Block { name, kernel, groups, in_channels, out_channels, .. } = block;
        match description.family {
            Family::RepVgg => {
                if *kernel != 3 {
                    return Err(contradiction(format!("{name} has a {kernel}×{kernel} kernel, a RepVGG only 3×3")));
                }
                if let Some(said) = description.groups.filter(|said| *groups != 1 && groups != said) {
                    return Err(contradiction(format!("it says {said} groups, {name} has {groups}")));
                }
            }
            Family::MobileOne if stage > 0 => {
                let depthwise = index % 2 == 0;
                let fits = if depthwise {
                    groups == in_channels && in_channels == out_channels
                } else {
                    *kernel == 1 && *groups == 1
                };
                if !fits {
                    let kind = if depthwise { "depthwise" } else { "pointwise" };
                    return Err(contradiction(format!(
                        "{name} of a MobileOne is {kind}, but here it has {groups} groups and a {kernel}×{kernel} kernel"
                    )));
                }
            }
            // The others are no chains of blocks.
            Family::MobileOne | Family::FastVit | Family::RepGhost | Family::RepVit => {}
        }
    }
    match (description.family, description.groups) {
        (Family::RepVgg, Some(said)) if said > 1 && blocks.iter().all(|block| block.groups == 1) => {
            Err(contradiction(format!("it says {said} groups, no layer has any")))
        }
        (Family::MobileOne, Some(_)) => Err(contradiction("a MobileOne's groups follow from its channels")
            .hint("set \"groups\" to null in the description")),
        _ => Ok(()),
    }
}
