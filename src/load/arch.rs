//! The published architectures that a name alone describes, and the check of a checkpoint against
//! one.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use super::{Block, Description, Family, InputDescription};
use crate::{Error, Result};

/// A published architecture. Widths and depths are those of the papers (arXiv 2101.03697, table 2
/// and 3; 2206.04040, table 2 and 3) as the original repositories round them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Architecture {
    name: &'static str,
    family: Family,
    /// Layers of each stage after the stem.
    depths: [usize; 4],
    /// Output channels of the stem and of each stage.
    widths: [usize; 5],
    /// Groups of every second layer.
    groups: usize,
}

const fn repvgg_a(name: &'static str, widths: [usize; 5]) -> Architecture {
    Architecture { name, family: Family::RepVgg, depths: [2, 4, 14, 1], widths, groups: 1 }
}

const fn repvgg_b(name: &'static str, widths: [usize; 5], groups: usize) -> Architecture {
    Architecture { name, family: Family::RepVgg, depths: [4, 6, 16, 1], widths, groups }
}

const fn mobileone(name: &'static str, widths: [usize; 5]) -> Architecture {
    Architecture { name, family: Family::MobileOne, depths: [4, 16, 20, 2], widths, groups: 1 }
}

const B1: [usize; 5] = [64, 128, 256, 512, 2048];
const B2: [usize; 5] = [64, 160, 320, 640, 2560];
const B3: [usize; 5] = [64, 192, 384, 768, 2560];

const KNOWN: [Architecture; 17] = [
    repvgg_a("repvgg-a0", [48, 48, 96, 192, 1280]),
    repvgg_a("repvgg-a1", [64, 64, 128, 256, 1280]),
    repvgg_a("repvgg-a2", [64, 96, 192, 384, 1408]),
    repvgg_b("repvgg-b0", [64, 64, 128, 256, 1280], 1),
    repvgg_b("repvgg-b1", B1, 1),
    repvgg_b("repvgg-b1g2", B1, 2),
    repvgg_b("repvgg-b1g4", B1, 4),
    repvgg_b("repvgg-b2", B2, 1),
    repvgg_b("repvgg-b2g2", B2, 2),
    repvgg_b("repvgg-b2g4", B2, 4),
    repvgg_b("repvgg-b3", B3, 1),
    repvgg_b("repvgg-b3g2", B3, 2),
    repvgg_b("repvgg-b3g4", B3, 4),
    mobileone("mobileone-s0", [48, 48, 128, 256, 1024]),
    mobileone("mobileone-s1", [64, 96, 192, 512, 1280]),
    mobileone("mobileone-s2", [64, 96, 256, 640, 2048]),
    mobileone("mobileone-s3", [64, 128, 320, 768, 2048]),
];

/// The published models with squeeze-and-excitation.
const REFUSED: [&str; 2] = ["repvgg-d2se", "mobileone-s4"];

/// The names of the published architectures, as [`LoadOptions::arch`](super::LoadOptions::arch)
/// takes them.
pub fn architecture_names() -> Vec<&'static str> {
    KNOWN.iter().map(|a| a.name).collect()
}

/// Finds an architecture by name; upper and lower case, `_` and `-` are the same. `error` makes the
/// error: whether the name comes from a file or a flag is the caller's to say.
pub(super) fn find(name: &str, error: impl Fn(String) -> Error) -> Result<&'static Architecture> {
    let wanted = name.trim().to_ascii_lowercase().replace('_', "-");
    if REFUSED.contains(&wanted.as_str()) {
        return Err(error(format!("{name}: squeeze-and-excitation is not supported"))
            .hint(format!("supported: {}", architecture_names().join(", "))));
    }
    KNOWN.iter().find(|a| a.name == wanted).ok_or_else(|| {
        error(format!("the architecture \"{name}\" is not known"))
            .hint(format!("known: {}; describe any other in a JSON file", architecture_names().join(", ")))
    })
}

impl Architecture {
    /// What the published checkpoints need to be known: strides 2, `ImageNet` preprocessing.
    pub(super) fn description(&self) -> Description {
        Description {
            family: self.family,
            strides: vec![2; 5],
            groups: None,
            bn_eps: super::DEFAULT_BN_EPS,
            input: InputDescription::imagenet(),
            classes: None,
        }
    }

    /// Holds a checkpoint's blocks to this architecture: number of layers, widths, groups.
    pub(super) fn check(&self, blocks: &[Block]) -> Result<()> {
        let layers: usize = 1 + self.depths.iter().sum::<usize>();
        let differs = |what: String| {
            Err(Error::bad(format!("this is not {}: {what}", self.name))
                .hint("name the right architecture, or describe the network in a JSON file"))
        };
        if blocks.len() != layers {
            return differs(format!("it has {layers} layers, the checkpoint {}", blocks.len()));
        }
        let stages = std::iter::once(1).chain(self.depths).enumerate();
        let mut before = self.widths[0];
        let expected = stages.flat_map(|(stage, depth)| (0..depth).map(move |index| (stage, index)));
        for (layer, (block, (stage, index))) in blocks.iter().zip(expected).enumerate() {
            // A MobileOne block is a depthwise layer, which keeps the width, and a pointwise one.
            let depthwise = self.family == Family::MobileOne && stage > 0 && index % 2 == 0;
            let width = if depthwise { before } else { self.widths[stage] };
            if block.out_channels != width {
                return differs(format!(
                    "{} has {width} channels there, {} in the checkpoint",
                    block.name, block.out_channels
                ));
            }
            let grouped = self.groups > 1 && layer % 2 == 0 && layer > 0;
            let groups = if grouped { self.groups } else { 1 };
            if self.family == Family::RepVgg && block.groups != groups {
                return differs(format!(
                    "{} has {groups} groups there, {} in the checkpoint",
                    block.name, block.groups
                ));
            }
            before = width;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(name: &str) -> Result<&'static Architecture> {
        super::find(name, Error::usage)
    }

    #[test]
    fn names_are_found_however_they_are_written() {
        assert_eq!(find("RepVGG_B1g4").unwrap().name, "repvgg-b1g4");
        assert_eq!(find("mobileone-S0").unwrap().widths[4], 1024);
        let error = find("repvgg-z9").unwrap_err().to_string();
        assert!(error.contains("repvgg-z9") && error.contains("mobileone-s3"), "{error}");
        for name in ["repvgg_d2se", "mobileone_s4"] {
            let error = find(name).unwrap_err().to_string();
            assert!(error.contains("squeeze-and-excitation is not supported"), "{error}");
        }
    }

    #[test]
    fn every_description_makes_sense() {
        for architecture in &KNOWN {
            architecture.description().check().unwrap();
        }
    }

    /// Blocks as a checkpoint has them: channels out, groups.
    fn blocks(layers: impl IntoIterator<Item = (usize, usize)>) -> Vec<Block> {
        let block = |(index, (out_channels, groups))| Block {
            name: format!("layer {index}"),
            in_channels: out_channels,
            out_channels,
            kernel: 3,
            stride: 1,
            padding: 1,
            groups,
            branches: vec![],
        };
        layers.into_iter().enumerate().map(block).collect()
    }

    #[test]
    fn every_second_layer_of_a_g4_is_grouped() {
        let widths = [(64, 1), (128, 4), (256, 6), (512, 16), (2048, 1)];
        let widths = widths.into_iter().flat_map(|(width, depth)| std::iter::repeat_n(width, depth));
        let g4 = widths.enumerate().map(|(layer, width)| (width, if layer % 2 == 0 && layer > 0 { 4 } else { 1 }));
        let g4: Vec<(usize, usize)> = g4.collect();
        assert_eq!(g4.len(), 28);
        find("repvgg-b1g4").unwrap().check(&blocks(g4.clone())).unwrap();
        for (other, words) in [
            ("repvgg-b1", "layer 2 has 1 groups there, 4 in the checkpoint"),
            ("repvgg-b1g2", "layer 2 has 2 groups there, 4 in the checkpoint"),
            ("repvgg-b2g4", "layer 1 has 160 channels there, 128 in the checkpoint"),
            ("repvgg-a0", "it has 22 layers, the checkpoint 28"),
        ] {
            let error = find(other).unwrap().check(&blocks(g4.clone())).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
