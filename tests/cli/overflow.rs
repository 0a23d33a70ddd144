//! Networks whose numbers grow beyond f32: the run stops and says where.

use super::Bench;
use super::common::checkpoints::Checkpoint;

/// A `RepVGG` in which channel 0 of `stage2.0`, a sum of 54 products and positive, exceeds the
/// largest f32.
pub(super) fn infinite_activation() -> Checkpoint {
    let mut checkpoint = Checkpoint::repvgg();
    for i in 0..6 * 9 {
        checkpoint.set("stage2.0.rbr_dense.conv.weight", i, 3e38);
    }
    checkpoint.set("stage2.0.rbr_dense.bn.weight", 0, 1.0);
    checkpoint.set("stage2.0.rbr_dense.bn.running_var", 0, 1.0);
    // What comes in is not all zero.
    for c in 0..6 {
        checkpoint.set("stage1.1.rbr_dense.bn.bias", c, 4.0);
    }
    checkpoint
}

/// A `RepVGG` whose activations are small, and whose classifier subtracts infinity from infinity.
pub(super) fn infinite_logits() -> Checkpoint {
    let mut checkpoint = Checkpoint::repvgg();
    for c in 0..8 {
        checkpoint.set("stage2.0.rbr_dense.bn.bias", c, 4.0);
        checkpoint.set("linear.weight", c, if c < 4 { 3e38 } else { -3e38 });
    }
    checkpoint
}

#[test]
fn an_activation_that_is_not_finite_is_named_with_its_image() {
    let bench = Bench::new();
    bench.model("huge", &infinite_activation());
    bench.fails(
        "calibrate huge.safetensors --images calib -o stats.safetensors",
        3,
        &["layer stage2.0", "calib/00.png", "infinite"],
    );
    bench.fails("quantize huge.safetensors --images calib -o out.safetensors", 3, &["layer stage2.0", "calib/00.png"]);
    bench.fails("evaluate huge.safetensors --images val", 3, &["val/cat/00.png"]);
}

#[test]
fn logits_that_are_not_finite_are_named_with_their_image() {
    let bench = Bench::new();
    bench.model("huge", &infinite_logits());
    bench.run("calibrate huge.safetensors --images calib -o stats.safetensors").ok();
    bench.fails("evaluate huge.safetensors --images val", 3, &["val/cat/00.png"]);
    // The first image that goes wrong, in whatever batch it is.
    bench.fails("evaluate huge.safetensors --images val --batch-size 1", 3, &["val/cat/00.png"]);
}
