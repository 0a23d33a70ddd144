//! The published architectures that a name alone describes, and the check of a checkpoint against
//! one.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use super::{Block, Description, Family, InputDescription};
use crate::model::Interpolation;
use crate::{Error, Result};

/// A published architecture.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Architecture {
    name: &'static str,
    family: Family,
    body: Body,
}

/// What tells architectures of one family apart.
#[derive(Debug, PartialEq, Eq)]
enum Body {
    /// Widths and depths are those of the papers (arXiv 2101.03697, table 2 and 3; 2206.04040, table
    /// 2 and 3) as the original repositories round them.
    Chain {
        /// Layers of each stage after the stem.
        depths: [usize; 4],
        /// Output channels of the stem and of each stage.
        widths: [usize; 5],
        /// Groups of every second layer.
        groups: usize,
        /// How many of each stage's layers, its last ones, have squeeze-and-excitation; the stem has
        /// it where the first stage has.
        squeezed: [usize; 4],
    },
    /// timm's: channels, blocks, and channels within a block, of each stage; of a `RepGhostNet` the
    /// channels of the stem, the number of stages and the channels of the last.
    Modules(&'static [[usize; 3]]),
}

const fn repvgg(name: &'static str, depths: [usize; 4], widths: [usize; 5], groups: usize) -> Architecture {
    Architecture { name, family: Family::RepVgg, body: Body::Chain { depths, widths, groups, squeezed: [0; 4] } }
}

const fn repvgg_a(name: &'static str, widths: [usize; 5]) -> Architecture {
    repvgg(name, [2, 4, 14, 1], widths, 1)
}

const fn repvgg_b(name: &'static str, widths: [usize; 5], groups: usize) -> Architecture {
    repvgg(name, [4, 6, 16, 1], widths, groups)
}

const fn mobileone(name: &'static str, widths: [usize; 5], squeezed: [usize; 4]) -> Architecture {
    let body = Body::Chain { depths: [4, 16, 20, 2], widths, groups: 1, squeezed };
    Architecture { name, family: Family::MobileOne, body }
}

const fn fastvit(name: &'static str, stages: &'static [[usize; 3]]) -> Architecture {
    Architecture { name, family: Family::FastVit, body: Body::Modules(stages) }
}

const fn repvit(name: &'static str, stages: &'static [[usize; 3]]) -> Architecture {
    Architecture { name, family: Family::RepVit, body: Body::Modules(stages) }
}

const fn repghost(name: &'static str, stages: &'static [[usize; 3]]) -> Architecture {
    Architecture { name, family: Family::RepGhost, body: Body::Modules(stages) }
}

const B1: [usize; 5] = [64, 128, 256, 512, 2048];
const B2: [usize; 5] = [64, 160, 320, 640, 2560];
const B3: [usize; 5] = [64, 192, 384, 768, 2560];

const KNOWN: [Architecture; 38] = [
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
    Architecture {
        name: "repvgg-d2se",
        family: Family::RepVgg,
        body: Body::Chain { depths: [8, 14, 24, 1], widths: B2, groups: 1, squeezed: [8, 14, 24, 1] },
    },
    mobileone("mobileone-s0", [48, 48, 128, 256, 1024], [0; 4]),
    mobileone("mobileone-s1", [64, 96, 192, 512, 1280], [0; 4]),
    mobileone("mobileone-s2", [64, 96, 256, 640, 2048], [0; 4]),
    mobileone("mobileone-s3", [64, 128, 320, 768, 2048], [0; 4]),
    mobileone("mobileone-s4", [64, 192, 448, 896, 2048], [0, 0, 10, 2]),
    fastvit("fastvit-t8", &[[48, 2, 144], [96, 2, 288], [192, 4, 576], [384, 2, 1152]]),
    fastvit("fastvit-t12", &[[64, 2, 192], [128, 2, 384], [256, 6, 768], [512, 2, 1536]]),
    fastvit("fastvit-s12", &[[64, 2, 256], [128, 2, 512], [256, 6, 1024], [512, 2, 2048]]),
    repghost("repghostnet-050", &[[8, 10, 480]]),
    repghost("repghostnet-058", &[[12, 10, 556]]),
    repghost("repghostnet-080", &[[12, 10, 768]]),
    repghost("repghostnet-100", &[[16, 10, 960]]),
    repghost("repghostnet-111", &[[16, 10, 1064]]),
    repghost("repghostnet-130", &[[20, 10, 1248]]),
    repghost("repghostnet-150", &[[24, 10, 1440]]),
    repghost("repghostnet-200", &[[32, 10, 1920]]),
    repvit("repvit-m1", &[[48, 2, 96], [96, 2, 192], [192, 14, 384], [384, 2, 768]]),
    repvit("repvit-m2", &[[64, 2, 128], [128, 2, 256], [256, 12, 512], [512, 2, 1024]]),
    repvit("repvit-m3", &[[64, 4, 128], [128, 4, 256], [256, 18, 512], [512, 2, 1024]]),
    repvit("repvit-m0-9", &[[48, 2, 96], [96, 2, 192], [192, 14, 384], [384, 2, 768]]),
    repvit("repvit-m1-0", &[[56, 2, 112], [112, 2, 224], [224, 14, 448], [448, 2, 896]]),
    repvit("repvit-m1-1", &[[64, 2, 128], [128, 2, 256], [256, 12, 512], [512, 2, 1024]]),
    repvit("repvit-m1-5", &[[64, 4, 128], [128, 4, 256], [256, 24, 512], [512, 4, 1024]]),
    repvit("repvit-m2-3", &[[80, 6, 160], [160, 6, 320], [320, 34, 640], [640, 2, 1280]]),
];

/// The names of the published architectures, as [`LoadOptions::arch`](super::LoadOptions::arch)
/// takes them.
pub fn architecture_names() -> Vec<&'static str> {
    KNOWN.iter().map(|a| a.name).collect()
}

/// Finds an architecture by name; upper and lower case, `_` and `-` are the same. `error` makes the
/// error: whether the name comes from a file or a flag is the caller's to say.
pub(super) fn find(name: &str, error: impl Fn(String) -> Error) -> Result<&'static Architecture> {
    let wanted = name.trim().to_ascii_lowercase().replace('_', "-");
    KNOWN.iter().find(|a| a.name == wanted).ok_or_else(|| {
        error(format!("the architecture \"{name}\" is not known"))
            .hint(format!("known: {}; describe any other in a JSON file", architecture_names().join(", ")))
    })
}

impl Architecture {
    /// What the published checkpoints need to be known: strides 2, and the preprocessing that they
    /// were evaluated with.
    pub(super) fn description(&self) -> Description {
        let usual = InputDescription::imagenet();
        let sized = |size, resize, interpolation| InputDescription {
            size: [size; 2],
            resize: Some(resize),
            interpolation,
            ..usual.clone()
        };
        let input = match self.family {
            Family::FastVit => sized(256, 284, Interpolation::Bicubic),
            Family::RepVit => sized(224, 235, Interpolation::Bicubic),
            Family::RepVgg if self.name == "repvgg-d2se" => sized(320, 320, Interpolation::Bilinear),
            Family::RepVgg | Family::MobileOne | Family::RepGhost => usual,
        };
        Description {
            family: self.family,
            strides: if self.family.is_chain() { vec![2; 5] } else { vec![] },
            groups: None,
            bn_eps: super::DEFAULT_BN_EPS,
            input,
            classes: None,
        }
    }

    fn differs(&self, what: &str) -> Error {
        Error::bad(format!("this is not {}: {what}", self.name))
            .hint("name the right architecture, or describe the network in a JSON file")
    }

    /// Holds the stages of a network of modules to this architecture.
    pub(super) fn check_modules(&self, stages: &[[usize; 3]]) -> Result<()> {
        match self.body {
            Body::Modules(expected) if expected == stages => Ok(()),
            Body::Modules(expected) => {
                Err(self.differs(&format!("its stages (channels, blocks, within) are {expected:?}, here {stages:?}")))
            }
            Body::Chain { .. } => Err(self.differs("it is a chain of blocks")),
        }
    }

    /// Holds a checkpoint's blocks to this architecture: number of layers, widths, groups, where
    /// there is squeeze-and-excitation.
    pub(super) fn check(&self, blocks: &[Block]) -> Result<()> {
        let Body::Chain { depths, widths, groups: every_second, squeezed } = self.body else {
            return Err(self.differs("it is no chain of blocks"));
        };
        let layers: usize = 1 + depths.iter().sum::<usize>();
        let differs = |what: String| Err(self.differs(&what));
        if blocks.len() != layers {
            return differs(format!("it has {layers} layers, the checkpoint {}", blocks.len()));
        }
        let stages = std::iter::once(1).chain(depths).enumerate();
        let mut before = widths[0];
        let expected = stages.flat_map(|(stage, depth)| (0..depth).map(move |index| (stage, index)));
        for (layer, (block, (stage, index))) in blocks.iter().zip(expected).enumerate() {
            // A MobileOne block is a depthwise layer, which keeps the width, and a pointwise one.
            let depthwise = self.family == Family::MobileOne && stage > 0 && index % 2 == 0;
            let width = if depthwise { before } else { widths[stage] };
            if block.out_channels != width {
                return differs(format!(
                    "{} has {width} channels there, {} in the checkpoint",
                    block.name, block.out_channels
                ));
            }
            let grouped = every_second > 1 && layer % 2 == 0 && layer > 0;
            let groups = if grouped { every_second } else { 1 };
            if self.family == Family::RepVgg && block.groups != groups {
                return differs(format!(
                    "{} has {groups} groups there, {} in the checkpoint",
                    block.name, block.groups
                ));
            }
            let weighs = match stage.checked_sub(1) {
                None => squeezed[0] > 0,
                Some(stage) => index + squeezed[stage] >= depths[stage],
            };
            if block.squeeze.is_some() != weighs {
                let (there, here) = if weighs { ("", " not") } else { (" not", "") };
                return differs(format!(
                    "{} has{there} squeeze-and-excitation there, and{here} in the checkpoint",
                    block.name
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
        assert_eq!(find("mobileone-S0").unwrap().name, "mobileone-s0");
        assert_eq!(find("repvit_m0_9").unwrap().description().input.resize, Some(235));
        let error = find("repvgg-z9").unwrap_err().to_string();
        assert!(error.contains("repvgg-z9") && error.contains("mobileone-s3"), "{error}");
        for name in ["repvgg_d2se", "mobileone_s4"] {
            assert!(matches!(find(name).unwrap().body, Body::Chain { squeezed: [.., last], .. } if last > 0));
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
            norm: None,
            squeeze: None,
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
