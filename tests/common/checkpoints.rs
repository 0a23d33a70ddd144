//! Small synthetic checkpoints that a test can rename and damage.

use std::collections::{BTreeMap, HashMap};

use repquant::internals::Random;
use repquant::internals::load::Description;
use safetensors::tensor::{TensorView, serialize};
use safetensors::{Dtype, SafeTensors};

/// Tensors by name: type, shape, bytes.
#[derive(Clone, Default)]
pub(crate) struct Checkpoint {
    pub(crate) tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
}

impl Checkpoint {
    /// A `RepVGG` of 3 stages and 4 blocks, the third in 2 groups: 3 → 4, 4 → 6 (stride 2), 6 → 6,
    /// 6 → 8 channels.
    pub(crate) fn repvgg() -> Self {
        let mut checkpoint = Self::default();
        for (name, o, i, identity) in
            [("stage0", 4, 3, false), ("stage1.0", 6, 4, false), ("stage1.1", 6, 3, true), ("stage2.0", 8, 6, false)]
        {
            checkpoint.conv_norm(&format!("{name}.rbr_dense"), [o, i, 3, 3]);
            checkpoint.conv_norm(&format!("{name}.rbr_1x1"), [o, i, 1, 1]);
            if identity {
                checkpoint.norm(&format!("{name}.rbr_identity"), o);
            }
        }
        checkpoint.classifier(8)
    }

    /// A `MobileOne` of 2 stages, two branches a block: 3 → 4, then depthwise and pointwise twice,
    /// 4 → 6 (stride 2) → 6.
    pub(crate) fn mobileone() -> Self {
        let mut checkpoint = Self::default();
        for (name, shape, identity) in [
            ("stage0", [4, 3, 3, 3], false),
            ("stage1.0", [4, 1, 3, 3], false),
            ("stage1.1", [6, 4, 1, 1], false),
            ("stage1.2", [6, 1, 3, 3], true),
            ("stage1.3", [6, 6, 1, 1], true),
        ] {
            for branch in 0..2 {
                checkpoint.conv_norm(&format!("{name}.rbr_conv.{branch}"), shape);
            }
            if shape[2] > 1 {
                checkpoint.conv_norm(&format!("{name}.rbr_scale"), [shape[0], shape[1], 1, 1]);
            }
            if identity {
                checkpoint.norm(&format!("{name}.rbr_skip"), shape[0]);
            }
        }
        checkpoint.classifier(6)
    }

    /// The tensors of a file.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let file = SafeTensors::deserialize(bytes).unwrap();
        let tensors = file.iter().map(|(n, v)| (n.to_owned(), (v.dtype(), v.shape().to_vec(), v.data().to_vec())));
        Self { tensors: tensors.collect() }
    }

    fn classifier(mut self, features: usize) -> Self {
        self.values("linear.weight", &[2, features], 0.0);
        self.values("linear.bias", &[2], 0.0);
        self
    }

    fn conv_norm(&mut self, name: &str, shape: [usize; 4]) {
        self.values(&format!("{name}.conv.weight"), &shape, 0.0);
        self.norm(&format!("{name}.bn"), shape[0]);
    }

    fn norm(&mut self, name: &str, channels: usize) {
        for field in ["weight", "bias", "running_mean"] {
            self.values(&format!("{name}.{field}"), &[channels], 0.0);
        }
        self.values(&format!("{name}.running_var"), &[channels], 1.5);
        self.tensors.insert(format!("{name}.num_batches_tracked"), (Dtype::I64, vec![], vec![0; 8]));
    }

    /// Adds a tensor of small numbers, each exact in every float type, `offset` added.
    pub(crate) fn values(&mut self, name: &str, shape: &[usize], offset: f32) {
        let mut random = Random::new(self.tensors.len() as u64);
        let mut value = || (random.below(64) as f32 - 32.0) / 32.0 + offset;
        let bytes = (0..shape.iter().product()).flat_map(|_| value().to_le_bytes()).collect();
        self.tensors.insert(name.to_owned(), (Dtype::F32, shape.to_vec(), bytes));
    }

    /// The same tensors under other names: every `(from, to)` that occurs is replaced.
    pub(crate) fn renamed(&self, changes: &[(&str, &str)]) -> Self {
        let rename = |name: &String| changes.iter().fold(name.clone(), |name, (from, to)| name.replace(from, to));
        let tensors = self.tensors.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect();
        Self { tensors }
    }

    /// The same in a 16-bit type.
    pub(crate) fn narrowed(&self, to: Dtype) -> Self {
        let mut narrowed = self.clone();
        for (dtype, _, bytes) in narrowed.tensors.values_mut().filter(|(dtype, ..)| *dtype == Dtype::F32) {
            let values = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
            *bytes = match to {
                Dtype::F16 => values.flat_map(|v| half::f16::from_f32(v).to_le_bytes()).collect(),
                _ => values.flat_map(|v| half::bf16::from_f32(v).to_le_bytes()).collect(),
            };
            *dtype = to;
        }
        narrowed
    }

    /// Sets one value of an f32 tensor.
    pub(crate) fn set(&mut self, name: &str, index: usize, value: f32) {
        self.tensors.get_mut(name).unwrap().2[4 * index..][..4].copy_from_slice(&value.to_le_bytes());
    }

    /// Gives a tensor another shape, its values cut or filled up with zeros.
    pub(crate) fn reshape(&mut self, name: &str, shape: &[usize]) {
        let tensor = self.tensors.get_mut(name).unwrap();
        tensor.1 = shape.to_vec();
        tensor.2.resize(4 * shape.iter().product::<usize>(), 0);
    }

    /// The file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bytes_with(HashMap::new())
    }

    /// The file, with metadata.
    pub(crate) fn bytes_with(&self, metadata: HashMap<String, String>) -> Vec<u8> {
        let views = self.tensors.iter().map(|(n, (d, s, b))| (n, TensorView::new(*d, s.clone(), b).unwrap()));
        serialize(views, Some(metadata)).unwrap()
    }
}

/// What describes [`Checkpoint::repvgg`].
pub(crate) fn repvgg_description() -> Description {
    Description::from_json(&description_json("repvgg", "[1, 2, 1]")).unwrap()
}

/// What describes [`Checkpoint::mobileone`].
pub(crate) fn mobileone_description() -> Description {
    Description::from_json(&description_json("mobileone", "[1, 2]")).unwrap()
}

/// A description for 8×8 images.
pub(crate) fn description_json(family: &str, strides: &str) -> String {
    format!(
        r#"{{"family": "{family}", "strides": {strides}, "groups": null, "bn_eps": 1e-3,
            "input": {{"size": [8, 8], "resize": 10, "crop": "center", "interpolation": "bicubic",
                       "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}},
            "classes": ["cat", "dog"]}}"#
    )
}
