//! `repquant devices`.

use repquant::options::{DeviceChoice, DeviceOptions};
use repquant::report::{AdapterInfo, DeviceInfo, columns};
use repquant::{Device, Result};
use serde::Serialize;

use super::session::{Session, print, print_json};

#[derive(Serialize)]
struct Document {
    adapters: Vec<AdapterInfo>,
    cpu: DeviceInfo,
}

/// Lists the adapters and the Cpu device.
pub(super) fn run(session: &Session) -> Result<()> {
    let backends = session.device.adapters.backends();
    let cpu = Device::open(&DeviceOptions { choice: DeviceChoice::Cpu, ..session.device_options()? })?.info().clone();
    let document = Document { adapters: Device::adapters(backends), cpu };
    if session.common.json {
        return print_json(&document);
    }
    let header =
        ["device", "name", "backend", "type", "binding", "workgroup memory", "subgroup", "f16", "timestamps", "driver"];
    let yes = |flag: bool| if flag { "yes".to_owned() } else { "no".to_owned() };
    let mut rows: Vec<Vec<String>> = document
        .adapters
        .iter()
        .map(|a| {
            vec![
                a.index.to_string(),
                a.name.clone(),
                a.backend.clone(),
                a.kind.clone(),
                format!("{} MiB", a.max_binding_bytes >> 20),
                format!("{} KiB", a.workgroup_memory_bytes >> 10),
                a.subgroup_size.map_or_else(|| "-".into(), |[low, high]| format!("{low}-{high}")),
                yes(a.f16),
                yes(a.timestamps),
                a.driver.clone(),
            ]
        })
        .collect();
    let mut cpu = vec!["-".to_owned(); header.len()];
    cpu[0] = "cpu".into();
    cpu[1].clone_from(&document.cpu.name);
    cpu[2].clone_from(&document.cpu.backend);
    cpu[3] = "cpu".into();
    rows.push(cpu);
    print(&columns(&header, &rows))?;
    if document.adapters.is_empty() {
        session
            .bars
            .note("no adapter was found; for software Vulkan on Debian or Ubuntu: apt-get install mesa-vulkan-drivers");
    }
    Ok(())
}
