//! timm's models with known weights: makes again, bit for bit, what `tests/data/timm_models.py`
//! loaded into timm.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use repquant::internals::Random;
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};
use serde::Deserialize;

/// A fixture of `tests/data`.
#[derive(Deserialize)]
pub(crate) struct Fixture {
    /// timm's `config.json`, or a description.
    pub(crate) config: serde_json::Value,
    /// Least scale of a batch norm.
    gamma: f32,
    /// Side of the images.
    pub(crate) size: usize,
    /// Multiplications of the fused network.
    pub(crate) macs: u64,
    /// timm's logits of the two images.
    pub(crate) logits: [Vec<f32>; 2],
    /// Names and shapes.
    pub(crate) tensors: BTreeMap<String, Vec<usize>>,
}

/// Reads `tests/data/NAME.json`.
pub(crate) fn fixture(name: &str) -> Fixture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(format!("{name}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Pseudo-random words for a name: `SplitMix64`, seeded with the FNV-1a hash of the name.
fn words(name: &str) -> impl Iterator<Item = u64> {
    let seed = name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3));
    let mut random = Random::new(seed);
    std::iter::repeat_with(move || random.next_u64())
}

impl Fixture {
    /// The values of a tensor.
    fn tensor(&self, name: &str, shape: &[usize]) -> Vec<f32> {
        let unit = words(name).map(|word| (word >> 40) as f32 / 16_777_216.0);
        let count = shape.iter().product();
        let fan_in: usize = shape.iter().skip(1).product();
        let scale = (3.0 / fan_in as f64).sqrt() as f32;
        let signed = |u: f32| u * 2.0 - 1.0;
        let value = |u: f32| match name {
            _ if shape.len() > 1 => signed(u) * scale,
            _ if name.ends_with("running_var") => u + 0.5,
            _ if name.ends_with("running_mean") || name.ends_with("bias") => signed(u) * 0.125,
            _ => u * 0.5 + self.gamma,
        };
        unit.map(value).take(count).collect()
    }

    /// Writes `model.safetensors` and `config.json` into a folder, as on Hugging Face.
    pub(crate) fn write(&self, folder: &Path) {
        let tensors: Vec<(&str, &[usize], Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, shape)| {
                let bytes = self.tensor(name, shape).into_iter().flat_map(f32::to_le_bytes).collect();
                (name.as_str(), shape.as_slice(), bytes)
            })
            .collect();
        let counters = self.tensors.keys().filter_map(|name| name.strip_suffix("running_var"));
        let counters: Vec<String> = counters.map(|norm| format!("{norm}num_batches_tracked")).collect();
        let views = tensors.iter().map(|(name, shape, bytes)| (*name, Dtype::F32, *shape, bytes.as_slice()));
        let counters = counters.iter().map(|name| (name.as_str(), Dtype::I64, [].as_slice(), [0; 8].as_slice()));
        let views = views.chain(counters).map(|(n, d, s, b)| (n, TensorView::new(d, s.to_vec(), b).unwrap()));
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        std::fs::write(folder.join("model.safetensors"), serialize(views, Some(metadata)).unwrap()).unwrap();
        std::fs::write(folder.join("config.json"), self.config.to_string()).unwrap();
    }
}

/// One of the two images: square, 8-bit, colour by row by column.
pub(crate) fn image(index: usize, side: usize) -> Vec<u8> {
    let cell = [32, side][index];
    let noise: Vec<u8> =
        words(&format!("image {index}")).map(|word| (word >> 56) as u8).take(3 * side * side).collect();
    let pixel = |i: usize| {
        let (colour, y, x) = (i / (side * side), i / side % side, i % side);
        noise[(colour * side + y / cell) * side + x / cell]
    };
    (0..3 * side * side).map(pixel).collect()
}
