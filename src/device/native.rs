//! The Cpu device: native code on all threads.

use std::sync::Arc;

use super::info::{DeviceInfo, DeviceKind};
use super::tier::Tier;
use crate::profile::Profile;

/// The Cpu device, with the instruction set that its kernels use.
#[derive(Debug)]
pub(super) struct NativeDevice {
    pub(super) info: DeviceInfo,
    pub(super) tier: Tier,
    /// Where kernels are timed, if they are.
    pub(super) profile: Option<Arc<Profile>>,
}

impl NativeDevice {
    /// With the instructions of `tier`; `reason` says why it was chosen.
    pub(super) fn new(tier: Tier, reason: String, profile: Option<Arc<Profile>>) -> Self {
        let name = format!("{} on {} threads", tier.code(), rayon::current_num_threads());
        Self { info: DeviceInfo { name, backend: "native".into(), kind: DeviceKind::Cpu, reason }, tier, profile }
    }
}
