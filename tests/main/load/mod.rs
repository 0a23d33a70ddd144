//! Checkpoints of every key scheme load to the same network; bad ones are refused with a message
//! that says why.

mod bad;
mod files;
mod golden;
mod onnx;
mod schemes;
mod shards;
mod torch;

use repquant::internals::load::{Description, TrainedNet, from_bytes};

use crate::common::checkpoints::Checkpoint;

pub(crate) const TIMM: [(&str, &str); 10] = [
    ("stage0", "stem"),
    ("stage1", "stages.0"),
    ("stage2", "stages.1"),
    ("rbr_dense", "conv_kxk"),
    ("rbr_1x1", "conv_1x1"),
    ("rbr_identity", "identity"),
    ("rbr_conv", "conv_kxk"),
    ("rbr_scale", "conv_scale"),
    ("rbr_skip", "identity"),
    ("linear", "head.fc"),
];
pub(crate) const MMPRETRAIN_REPVGG: [(&str, &str); 8] = [
    ("stage0", "backbone.stem"),
    ("stage1", "backbone.stage_1"),
    ("stage2", "backbone.stage_2"),
    ("rbr_dense", "branch_3x3"),
    ("rbr_1x1", "branch_1x1"),
    ("rbr_identity", "branch_norm"),
    (".bn.", ".norm."),
    ("linear", "head.fc"),
];
pub(crate) const MMPRETRAIN_MOBILEONE: [(&str, &str); 6] = [
    ("stage", "backbone.stage"),
    ("rbr_conv", "branch_conv_list"),
    ("rbr_scale", "branch_scale"),
    ("rbr_skip", "branch_norm"),
    (".bn.", ".norm."),
    ("linear", "head.fc"),
];

/// The network of a checkpoint in memory.
pub(crate) fn load_ok(checkpoint: &Checkpoint, description: &Description) -> TrainedNet {
    from_bytes("net", &checkpoint.bytes(), description).unwrap()
}
