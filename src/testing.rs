//! For unit tests: the devices of this machine.

use std::io::Write;

use crate::device::{AdapterInfo, Backends, Device, DeviceOptions};

/// Every device, the Cpu device with each of its instruction sets first. Without an adapter it
/// fails where `REPQUANT_REQUIRE_ADAPTER` asks for one, and else says so. With
/// `REPQUANT_SHADER_CHECKS` shaders keep their checks.
pub(crate) fn devices() -> Vec<Device> {
    let instructions = std::env::var("REPQUANT_CPU").ok().map(|set| set.parse().expect("an instruction set"));
    let options = DeviceOptions { checks: is_set("REPQUANT_SHADER_CHECKS"), instructions, ..DeviceOptions::default() };
    let devices: Vec<Device> =
        Device::all(&options).into_iter().map(|d| d.expect("an adapter that is listed opens")).collect();
    if devices.iter().all(Device::is_native) {
        no_adapter();
    }
    devices
}

/// Every adapter, under the same conditions.
pub(crate) fn adapters() -> Vec<AdapterInfo> {
    let adapters = Device::adapters(Backends::All);
    if adapters.is_empty() {
        no_adapter();
    }
    adapters
}

fn no_adapter() {
    assert!(!is_set("REPQUANT_REQUIRE_ADAPTER"), "no adapter was found, and REPQUANT_REQUIRE_ADAPTER asks for one");
    // The harness hides what a passing test prints with `eprintln!`; this it does not.
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: no adapter was found; only the Cpu device is tested");
}

fn is_set(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| value == "1")
}
