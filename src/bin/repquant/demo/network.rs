//! The small network of `repquant demo`, trained on pictures that the program draws.
//!
//! The checkpoint is a `RepVGG` in training form, written by `scripts/train_demo.py`: the key names
//! of the original repository, convolutions and classifier in f16, batch norms in f32.

/// The embedded checkpoint, a safetensors file.
pub(crate) fn checkpoint() -> &'static [u8] {
    include_bytes!("repvgg-demo.safetensors")
}

/// What the checkpoint does not say, JSON in the format of a description file.
pub(crate) fn description() -> &'static str {
    include_str!("repvgg-demo.json")
}

#[cfg(test)]
mod tests {
    use safetensors::{Dtype, SafeTensors};

    use super::*;
    use crate::drawings::{CLASSES, SIZE};

    #[test]
    fn the_description_fits_the_drawings() {
        let description: serde_json::Value = serde_json::from_str(description()).unwrap();
        assert_eq!(description["classes"], serde_json::json!(CLASSES));
        assert_eq!(description["input"]["size"], serde_json::json!([SIZE, SIZE]));
    }

    #[test]
    fn the_checkpoint_is_a_small_multi_branch_network() {
        assert!(checkpoint().len() < 1_000_000, "{} bytes", checkpoint().len());
        let file = SafeTensors::deserialize(checkpoint()).unwrap();
        let stem = file.tensor("stage0.rbr_dense.conv.weight").unwrap();
        assert_eq!((stem.dtype(), stem.shape()), (Dtype::F16, &[16, 3, 3, 3][..]));
        assert_eq!(file.tensor("linear.weight").unwrap().shape(), [CLASSES.len(), 64]);
        // 1 + 2 + 4 + 6 + 1 blocks; the first of a stage has another width or stride, so no
        // identity branch.
        let count = |part: &str| file.names().iter().filter(|name| name.ends_with(part)).count();
        assert_eq!(count("rbr_dense.conv.weight"), 14);
        assert_eq!(count("rbr_1x1.conv.weight"), 14);
        assert_eq!(count("rbr_identity.running_var"), 9);
        assert_eq!(file.tensor("stage1.1.rbr_identity.running_var").unwrap().dtype(), Dtype::F32);
    }
}
