//! Key schemes: which tensor of which block a checkpoint key names. This table is all that a new
//! scheme needs.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::fmt;

use super::Family;

/// Which branch of a block a tensor belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The one convolution of a block that is fused already.
    Fused,
    /// The k×k convolution with this number (`RepVGG` has one, number 0).
    Main(usize),
    /// The 1×1 convolution with its batch norm.
    Pointwise,
    /// A 1×1 convolution without one (`QARepVGG`).
    PlainPointwise,
    /// The batch norm of the input.
    Identity,
    /// The batch norm of the sum of the branches (`QARepVGG`).
    Sum,
    /// Squeeze-and-excitation: the convolution to fewer channels.
    Reduce,
    /// And the one back.
    Expand,
}

/// Which tensor of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    Weight,
    Bias,
    NormWeight,
    NormBias,
    NormMean,
    NormVariance,
}

impl Field {
    const NORM: [(Self, &'static str); 4] = [
        (Self::NormWeight, "weight"),
        (Self::NormBias, "bias"),
        (Self::NormMean, "running_mean"),
        (Self::NormVariance, "running_var"),
    ];
    const CONV: [(Self, &'static str); 2] = [(Self::Weight, "weight"), (Self::Bias, "bias")];
}

/// Stage (0: the stem) and index within it.
pub(super) type Position = (usize, usize);

/// The layer's name, the same for every scheme: that of the original repositories.
pub(super) fn layer_name((stage, index): Position) -> String {
    if stage == 0 { "stage0".into() } else { format!("stage{stage}.{index}") }
}

/// What a key names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) position: Position,
    pub(super) part: Part,
    pub(super) field: Field,
}

/// One way to name the tensors of one family.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scheme {
    /// Whose it is.
    pub(super) source: &'static str,
    pub(super) family: Family,
    /// Module of the stem.
    stem: &'static str,
    /// What precedes the number of a stage.
    stage: &'static str,
    /// The number of the first stage after the stem.
    first_stage: usize,
    main: &'static str,
    pointwise: &'static str,
    identity: &'static str,
    fused: &'static str,
    norm: &'static str,
    /// The batch norm of the sum, where there can be one; a 1×1 convolution without one then too.
    sum: Option<&'static str>,
    /// Squeeze-and-excitation: its two 1×1 convolutions.
    squeeze: [&'static str; 2],
    /// The classifier's usual name.
    pub(super) classifier: &'static str,
}

/// The classifier's name in any scheme: a fused file keeps that of the checkpoint it was made from.
pub(super) const CLASSIFIERS: [&str; 2] = ["linear", "head.fc"];

/// Wrappers whose names come before a key: `DataParallel`, training scripts, mmpretrain.
const PREFIXES: [&str; 3] = ["module.", "backbone.", "model."];

const SCHEMES: [Scheme; 6] = [
    Scheme {
        source: "the RepVGG repository",
        family: Family::RepVgg,
        stem: "stage0",
        stage: "stage",
        first_stage: 1,
        main: "rbr_dense",
        pointwise: "rbr_1x1",
        identity: "rbr_identity",
        fused: "rbr_reparam",
        norm: "bn",
        sum: Some("bn"),
        squeeze: ["se.down", "se.up"],
        classifier: "linear",
    },
    Scheme {
        source: "the MobileOne repository",
        family: Family::MobileOne,
        stem: "stage0",
        stage: "stage",
        first_stage: 1,
        main: "rbr_conv",
        pointwise: "rbr_scale",
        identity: "rbr_skip",
        fused: "reparam_conv",
        norm: "bn",
        sum: None,
        squeeze: ["se.reduce", "se.expand"],
        classifier: "linear",
    },
    Scheme {
        source: "timm",
        family: Family::RepVgg,
        stem: "stem",
        stage: "stages.",
        first_stage: 0,
        main: "conv_kxk",
        pointwise: "conv_1x1",
        identity: "identity",
        fused: "reparam_conv",
        norm: "bn",
        sum: None,
        squeeze: ["attn.fc1", "attn.fc2"],
        classifier: "head.fc",
    },
    Scheme {
        source: "timm",
        family: Family::MobileOne,
        stem: "stem",
        stage: "stages.",
        first_stage: 0,
        main: "conv_kxk",
        pointwise: "conv_scale",
        identity: "identity",
        fused: "reparam_conv",
        norm: "bn",
        sum: None,
        squeeze: ["attn.fc1", "attn.fc2"],
        classifier: "head.fc",
    },
    Scheme {
        source: "mmpretrain",
        family: Family::RepVgg,
        stem: "stem",
        stage: "stage_",
        first_stage: 1,
        main: "branch_3x3",
        pointwise: "branch_1x1",
        identity: "branch_norm",
        fused: "branch_reparam",
        norm: "norm",
        sum: None,
        squeeze: ["se_layer.conv1.conv", "se_layer.conv2.conv"],
        classifier: "head.fc",
    },
    Scheme {
        source: "mmpretrain",
        family: Family::MobileOne,
        stem: "stage0",
        stage: "stage",
        first_stage: 1,
        main: "branch_conv_list",
        pointwise: "branch_scale",
        identity: "branch_norm",
        fused: "branch_reparam",
        norm: "norm",
        sum: None,
        squeeze: ["se.conv1.conv", "se.conv2.conv"],
        classifier: "head.fc",
    },
];

/// The key without the wrappers' names.
pub(super) fn strip_prefixes(mut key: &str) -> &str {
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| key.strip_prefix(prefix)) {
        key = rest;
    }
    key
}

/// The scheme that understands the most keys; between equals the one of `family`. None: no key is
/// understood.
pub(super) fn detect<'k>(keys: &(impl Iterator<Item = &'k str> + Clone), family: Family) -> Option<&'static Scheme> {
    let score = |scheme: &Scheme| keys.clone().filter(|key| scheme.parse(key).is_some()).count();
    let scored = SCHEMES.iter().map(|scheme| (score(scheme), scheme.family == family, scheme));
    scored.filter(|(count, ..)| *count > 0).max_by_key(|&(count, wanted, _)| (count, wanted)).map(|(.., scheme)| scheme)
}

/// A number and what follows the point after it. `01` is no number: two keys must not name one
/// tensor.
fn number(text: &str) -> Option<(usize, &str)> {
    let (digits, rest) = text.split_once('.')?;
    let canonical = !digits.is_empty()
        && digits.len() <= 4
        && digits.bytes().all(|b| b.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    canonical.then(|| digits.parse().ok()).flatten().map(|n| (n, rest))
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in the style of {}", self.family, self.source)
    }
}

impl Scheme {
    /// The main branches are numbered.
    fn numbered(&self) -> bool {
        self.family == Family::MobileOne
    }

    /// What a key (without prefixes) names; none: it is not of this scheme.
    pub(super) fn parse(&self, key: &str) -> Option<Slot> {
        let (position, rest) = self.position(key)?;
        let module = |name: &str| rest.strip_prefix(name)?.strip_prefix('.');
        let field = |fields: &[(Field, &str)], name: &str| fields.iter().find(|(_, n)| *n == name).map(|(f, _)| *f);
        let conv_norm = |rest: &str| match rest.split_once('.')? {
            ("conv", name) => field(&Field::CONV, name),
            (norm, name) if norm == self.norm => field(&Field::NORM, name),
            _ => None,
        };
        let (part, field) = if let Some(rest) = module(self.fused) {
            (Part::Fused, field(&Field::CONV, rest)?)
        } else if let Some(rest) = module(self.pointwise) {
            match self.sum.and_then(|_| field(&Field::CONV, rest)) {
                Some(field) => (Part::PlainPointwise, field),
                None => (Part::Pointwise, conv_norm(rest)?),
            }
        } else if let Some(rest) = self.sum.and_then(module) {
            (Part::Sum, field(&Field::NORM, rest)?)
        } else if let Some(rest) = module(self.squeeze[0]) {
            (Part::Reduce, field(&Field::CONV, rest)?)
        } else if let Some(rest) = module(self.squeeze[1]) {
            (Part::Expand, field(&Field::CONV, rest)?)
        } else if let Some(rest) = module(self.identity) {
            (Part::Identity, field(&Field::NORM, rest)?)
        } else {
            let rest = module(self.main)?;
            let (index, rest) = if self.numbered() { number(rest)? } else { (0, rest) };
            (Part::Main(index), conv_norm(rest)?)
        };
        Some(Slot { position, part, field })
    }

    fn position<'k>(&self, key: &'k str) -> Option<(Position, &'k str)> {
        if let Some(rest) = key.strip_prefix(self.stem).and_then(|rest| rest.strip_prefix('.')) {
            return Some(((0, 0), rest));
        }
        let (stage, rest) = number(key.strip_prefix(self.stage)?)?;
        let (index, rest) = number(rest)?;
        // In the original scheme the stem is stage 0, so `stage0.0.…` names nothing.
        let stage = (stage + 1).checked_sub(self.first_stage).filter(|&stage| stage > 0)?;
        Some(((stage, index), rest))
    }

    /// The key of a slot, for messages.
    pub(super) fn key(&self, slot: Slot) -> String {
        let Slot { position: (stage, index), part, field } = slot;
        let block = match stage {
            0 => self.stem.to_owned(),
            _ => format!("{}{}.{index}", self.stage, stage + self.first_stage - 1),
        };
        let branch = match part {
            Part::Fused => self.fused.to_owned(),
            Part::Main(index) if self.numbered() => format!("{}.{index}", self.main),
            Part::Main(_) => self.main.to_owned(),
            Part::Pointwise | Part::PlainPointwise => self.pointwise.to_owned(),
            Part::Identity => self.identity.to_owned(),
            Part::Sum => self.sum.unwrap_or(self.norm).to_owned(),
            Part::Reduce => self.squeeze[0].to_owned(),
            Part::Expand => self.squeeze[1].to_owned(),
        };
        let name = |fields: &[(Field, &'static str)]| fields.iter().find(|(f, _)| *f == field).map(|(_, name)| *name);
        match (part, name(&Field::CONV), name(&Field::NORM)) {
            (Part::Fused | Part::PlainPointwise | Part::Reduce | Part::Expand, Some(name), _)
            | (Part::Identity | Part::Sum, _, Some(name)) => format!("{block}.{branch}.{name}"),
            (_, Some(name), _) => format!("{block}.{branch}.conv.{name}"),
            (_, _, Some(name)) => format!("{block}.{branch}.{}.{name}", self.norm),
            (_, None, None) => unreachable!("every field is a convolution's or a norm's"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_each_scheme() {
        use Field::{Bias, NormMean, NormVariance, NormWeight, Weight};
        use Part::{Expand, Fused, Identity, Main, PlainPointwise, Pointwise, Reduce, Sum};
        let cases = [
            (0, "stage0.rbr_dense.conv.weight", (0, 0), Main(0), Weight),
            (0, "stage3.13.rbr_identity.running_var", (3, 13), Identity, NormVariance),
            (0, "stage4.0.rbr_reparam.bias", (4, 0), Fused, Bias),
            (0, "stage4.0.rbr_1x1.weight", (4, 0), PlainPointwise, Weight),
            (0, "stage4.0.bn.running_mean", (4, 0), Sum, NormMean),
            (0, "stage0.se.down.weight", (0, 0), Reduce, Weight),
            (1, "stage4.1.se.expand.bias", (4, 1), Expand, Bias),
            (2, "stages.0.1.attn.fc1.bias", (1, 1), Reduce, Bias),
            (3, "stages.3.1.attn.fc2.weight", (4, 1), Expand, Weight),
            (4, "stage_1.0.se_layer.conv1.conv.weight", (1, 0), Reduce, Weight),
            (5, "stage1.0.se.conv2.conv.bias", (1, 0), Expand, Bias),
            (1, "stage2.5.rbr_conv.3.bn.running_mean", (2, 5), Main(3), NormMean),
            (1, "stage2.5.rbr_scale.conv.weight", (2, 5), Pointwise, Weight),
            (2, "stem.conv_kxk.conv.weight", (0, 0), Main(0), Weight),
            (2, "stages.0.1.identity.weight", (1, 1), Identity, NormWeight),
            (3, "stages.3.1.conv_kxk.3.conv.weight", (4, 1), Main(3), Weight),
            (3, "stages.3.1.reparam_conv.weight", (4, 1), Fused, Weight),
            (4, "stage_1.0.branch_3x3.norm.weight", (1, 0), Main(0), NormWeight),
            (4, "stem.branch_1x1.conv.weight", (0, 0), Pointwise, Weight),
            (5, "stage1.0.branch_conv_list.0.norm.running_var", (1, 0), Main(0), NormVariance),
            (5, "stage0.branch_scale.conv.weight", (0, 0), Pointwise, Weight),
        ];
        for (scheme, key, position, part, field) in cases {
            let slot = Slot { position, part, field };
            assert_eq!(SCHEMES[scheme].parse(key), Some(slot), "{key}");
            assert_eq!(SCHEMES[scheme].key(slot), key);
            let found = detect(&[key].into_iter(), SCHEMES[scheme].family).unwrap();
            assert_eq!(found, &SCHEMES[scheme], "{key}");
        }
    }

    #[test]
    fn no_two_spellings_name_one_tensor() {
        let scheme = &SCHEMES[0];
        for key in [
            "stage0.0.rbr_dense.conv.weight",
            "stage01.0.rbr_dense.conv.weight",
            "stage1.00.rbr_dense.conv.weight",
            "stage1.+1.rbr_dense.conv.weight",
            "stage1.99999999999999999999.rbr_dense.conv.weight",
            "stage1.0.rbr_dense.conv.weight.x",
            "stage1.0.rbr_dense.weight",
            "stage1.0.rbr_identity.conv.weight",
        ] {
            assert_eq!(scheme.parse(key), None, "{key}");
        }
    }

    #[test]
    fn prefixes_are_taken_off() {
        assert_eq!(strip_prefixes("module.backbone.stem.x"), "stem.x");
        assert_eq!(strip_prefixes("head.fc.weight"), "head.fc.weight");
    }
}
