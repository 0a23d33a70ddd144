//! What several tests need.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod checkpoints;
pub(crate) mod network;
pub(crate) mod recurrent;
pub(crate) mod reference;
pub(crate) mod timm;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use repquant::Device;
use repquant::options::{Backends, DeviceOptions};
use repquant::report::AdapterInfo;
use serde_json::Value;

/// Says that the test at hand leaves something out. The harness hides what a passing test prints
/// with `eprintln!`; this it does not.
pub(crate) fn skipped(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Where stderr is closed, nobody wants to know.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {reason}");
}

/// The folder with reference models and images, where `REPQUANT_TEST_DATA` names one; else says
/// that the test is skipped.
pub(crate) fn test_data() -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("REPQUANT_TEST_DATA") else {
        skipped("REPQUANT_TEST_DATA is not set");
        return None;
    };
    // Commands are run in folders of their own.
    Some(std::path::absolute(folder).unwrap())
}

/// Whether every combination is to be tried, which takes minutes: `make test-reference`. Else some
/// of them.
pub(crate) fn thorough() -> bool {
    std::env::var_os("REPQUANT_THOROUGH").is_some()
}

/// A JSON file.
pub(crate) fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Whether tests must find an adapter, or else may skip what needs one.
pub(crate) fn adapter_required() -> bool {
    std::env::var("REPQUANT_REQUIRE_ADAPTER").is_ok_and(|v| v == "1")
}

/// Opens every device anew, for a test that gives them away.
pub(crate) fn open_devices() -> Vec<Device> {
    let checks = std::env::var("REPQUANT_SHADER_CHECKS").is_ok_and(|value| value == "1");
    let instructions = std::env::var("REPQUANT_CPU").ok().map(|set| set.parse().expect("an instruction set"));
    let options = DeviceOptions { checks, instructions, ..DeviceOptions::default() };
    Device::all(&options).into_iter().map(|d| d.expect("an adapter that is listed opens")).collect()
}

/// Every device, the Cpu device with each of its instruction sets first. They are opened once for
/// all tests of a program, so that a kernel is compiled once. Without an adapter it fails where one
/// is required, and else says so.
pub(crate) fn devices() -> &'static [Device] {
    static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();
    let devices = DEVICES.get_or_init(open_devices);
    if devices.iter().all(Device::is_native) {
        no_adapter("only the Cpu device is tested");
    }
    devices
}

/// What `--device` takes for an adapter: `software` where there is one, since every system can have
/// it, else the first one's index. Without an adapter it fails where one is required, and else says
/// so.
pub(crate) fn adapter() -> Option<String> {
    let found = Device::adapters(Backends::All);
    if found.is_empty() {
        no_adapter("nothing is tested");
        return None;
    }
    Some(if found.iter().any(AdapterInfo::is_software) { "software".into() } else { found[0].index.to_string() })
}

fn no_adapter(consequence: &str) {
    assert!(!adapter_required(), "no adapter was found, and REPQUANT_REQUIRE_ADAPTER asks for one");
    skipped(&format!("no adapter was found; {consequence}"));
}
