//! Which tensors a checkpoint has, sorted into blocks: finds the key scheme, and lists what is
//! missing or left over.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::collections::{BTreeMap, BTreeSet};

use super::Family;
use super::naming::{self, Field, Part, Position, Scheme, Slot};
use crate::{Error, Result};

/// The checkpoint's keys by what they name.
pub(super) struct Layout {
    pub(super) scheme: &'static Scheme,
    pub(super) blocks: Vec<BlockKeys>,
    /// Name of the classifier without prefixes, and its keys of weight and bias.
    pub(super) classifier: (String, [String; 2]),
}

/// The keys of one block.
pub(super) struct BlockKeys {
    pub(super) position: Position,
    keys: BTreeMap<(Part, Field), String>,
}

impl BlockKeys {
    /// The checkpoint's key of a tensor.
    pub(super) fn get(&self, part: Part, field: Field) -> Option<&str> {
        self.keys.get(&(part, field)).map(String::as_str)
    }

    /// Whether the block has any tensor of this branch.
    pub(super) fn has(&self, part: Part) -> bool {
        self.keys.keys().any(|(p, _)| *p == part)
    }

    /// Number of k×k convolutions.
    pub(super) fn mains(&self) -> usize {
        let numbers: BTreeSet<Part> =
            self.keys.keys().map(|(p, _)| *p).filter(|p| matches!(p, Part::Main(_))).collect();
        numbers.len()
    }
}

/// What is not as it should be; one message for all of it.
#[derive(Default)]
pub(super) struct KeyErrors {
    pub(super) missing: Vec<String>,
    pub(super) left_over: Vec<String>,
}

impl KeyErrors {
    /// An error where anything is missing or left over.
    pub(super) fn check(mut self, read_as: &str) -> Result<()> {
        let mut parts = Vec::new();
        for (what, keys) in [("missing", &mut self.missing), ("left over", &mut self.left_over)] {
            keys.sort();
            if !keys.is_empty() {
                parts.push(format!("{what}: {}", listed(keys)));
            }
        }
        if parts.is_empty() {
            return Ok(());
        }
        Err(Error::bad(format!("keys are {}", parts.join("; keys are ")))
            .hint(format!("the keys were read as those of a {read_as}")))
    }
}

/// The first ten, and how many more.
fn listed(keys: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = keys.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match keys.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The five tensors of a convolution with batch norm, its bias left out: it is not always there.
const CONV_NORM: [Field; 5] = [Field::Weight, Field::NormWeight, Field::NormBias, Field::NormMean, Field::NormVariance];

/// The tensors that a branch must have.
pub(super) fn required(part: Part) -> &'static [Field] {
    match part {
        Part::Fused | Part::Reduce | Part::Expand => &[Field::Weight, Field::Bias],
        Part::PlainPointwise => &[Field::Weight],
        Part::Main(_) | Part::Pointwise => &CONV_NORM,
        Part::Identity | Part::Sum => &[Field::NormWeight, Field::NormBias, Field::NormMean, Field::NormVariance],
    }
}

/// Sorts the keys. What can be told without the shapes is checked: every branch is whole, every
/// block has its branches, no block is skipped, nothing is left over.
pub(super) fn sort<'k>(names: impl Iterator<Item = &'k str>, family: Family) -> Result<Layout> {
    let mut keys: BTreeMap<&str, &str> = BTreeMap::new();
    let mut names: Vec<&str> = names.filter(|name| !name.ends_with("num_batches_tracked")).collect();
    // A file's tensors come in no fixed order; messages should.
    names.sort_unstable();
    for name in names {
        if let Some(other) = keys.insert(naming::strip_prefixes(name), name) {
            return Err(Error::bad(format!("the keys {other} and {name} name the same tensor")));
        }
    }
    if keys.is_empty() {
        return Err(Error::bad("holds no weights"));
    }
    let Some(scheme) = naming::detect(&keys.keys().copied(), family) else {
        let some: Vec<String> = keys.values().map(|&key| key.to_owned()).collect();
        return Err(Error::bad(format!("its keys are of no known scheme: {}", listed(&some)))
            .hint("known are RepVGG and MobileOne as named by their own repositories, timm and mmpretrain"));
    };
    if scheme.family != family {
        return Err(Error::bad(format!("the description says {family}, but the keys are those of a {scheme}")));
    }
    let mut errors = KeyErrors::default();
    let mut blocks: BTreeMap<Position, BTreeMap<(Part, Field), String>> = BTreeMap::new();
    let mut rest: BTreeMap<&str, &str> = BTreeMap::new();
    for (stripped, key) in keys {
        match scheme.parse(stripped) {
            Some(Slot { position, part, field }) => {
                blocks.entry(position).or_default().insert((part, field), key.to_owned());
            }
            None => _ = rest.insert(stripped, key),
        }
    }
    let classifier = take_classifier(&mut rest, scheme, &mut errors);
    errors.left_over.extend(rest.into_values().map(str::to_owned));
    let blocks: Vec<_> =
        blocks.into_iter().map(|(position, keys)| whole_block(position, keys, scheme, &mut errors)).collect();
    check_order(&blocks, scheme, &mut errors);
    errors.check(&scheme.to_string())?;
    Ok(Layout { scheme, blocks, classifier })
}

/// Takes the classifier's keys out of `rest`.
fn take_classifier(rest: &mut BTreeMap<&str, &str>, scheme: &Scheme, errors: &mut KeyErrors) -> (String, [String; 2]) {
    let present = |name: &&str| rest.contains_key(format!("{name}.weight").as_str());
    let name = naming::CLASSIFIERS.into_iter().find(present).unwrap_or(scheme.classifier);
    let keys = ["weight", "bias"].map(|field| {
        let key = format!("{name}.{field}");
        if let Some(present) = rest.remove(key.as_str()) {
            return present.to_owned();
        }
        errors.missing.push(key.clone());
        key
    });
    (name.to_owned(), keys)
}

/// Checks that the branches of a block are whole; keys that have no business there are left over.
fn whole_block(
    position: Position,
    mut keys: BTreeMap<(Part, Field), String>,
    scheme: &Scheme,
    errors: &mut KeyErrors,
) -> BlockKeys {
    let present: BTreeSet<Part> = keys.keys().map(|(part, _)| *part).collect();
    let there = |part: Part| present.contains(&part);
    let mut parts: Vec<Part> = if there(Part::Fused) {
        vec![Part::Fused]
    } else {
        let mains = present.iter().filter(|part| matches!(part, Part::Main(_))).count().max(1);
        // Whether a MobileOne block has a 1×1 branch, and any block an identity branch, follows
        // from its shapes.
        let plain = there(Part::PlainPointwise) && !there(Part::Pointwise);
        let pointwise = !plain && (scheme.family == Family::RepVgg || there(Part::Pointwise));
        let optional =
            [(Part::Pointwise, pointwise), (Part::PlainPointwise, plain), (Part::Identity, there(Part::Identity))];
        let optional = optional.into_iter().filter(|(_, there)| *there).map(|(part, _)| part);
        (0..mains).map(Part::Main).chain(optional).collect()
    };
    if there(Part::Sum) {
        parts.push(Part::Sum);
    }
    if there(Part::Reduce) || there(Part::Expand) {
        parts.extend([Part::Reduce, Part::Expand]);
    }
    for &part in &parts {
        for &field in required(part) {
            if !keys.contains_key(&(part, field)) {
                errors.missing.push(scheme.key(Slot { position, part, field }));
            }
        }
    }
    errors.left_over.extend(keys.extract_if(.., |(part, _), _| !parts.contains(part)).map(|(_, key)| key));
    BlockKeys { position, keys }
}

/// Reports the blocks that are skipped: the stem comes first, then stages and indices without a
/// gap.
fn check_order(blocks: &[BlockKeys], scheme: &Scheme, errors: &mut KeyErrors) {
    let mut next: [Position; 2] = [(0, 0), (0, 0)];
    for block in blocks {
        let (stage, index) = block.position;
        if !next.contains(&block.position) {
            let position = if stage == next[0].0 { next[0] } else { next[1] };
            let part = if block.has(Part::Fused) { Part::Fused } else { Part::Main(0) };
            errors.missing.push(scheme.key(Slot { position, part, field: Field::Weight }));
        }
        // The stem is a stage of one block.
        next = if stage == 0 { [(1, 0), (1, 0)] } else { [(stage, index + 1), (stage + 1, 0)] };
    }
}
