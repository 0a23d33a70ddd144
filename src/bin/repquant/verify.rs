//! `repquant verify`.

use repquant::options::DeviceChoice;
use repquant::report::{Verified, columns};
use repquant::{Device, Error, Result};
use serde::Serialize;

use super::session::{Session, print, print_json};
use crate::terms;

#[derive(Serialize)]
struct Document {
    devices: Vec<Verified>,
    passed: bool,
}

/// Compares every kernel with its twin, on every adapter or the one asked for.
pub(super) fn run(session: &Session) -> Result<()> {
    let devices = match session.device.device {
        DeviceChoice::Auto => Device::all(&session.device_options()?),
        _ => vec![Device::open(&session.device_options()?)],
    };
    if matches!(session.device.device, DeviceChoice::Auto) && devices.iter().flatten().all(Device::is_native) {
        session.bars.note("no adapter was found; only the Cpu device is verified");
    }
    let mut document = Document { devices: Vec::new(), passed: true };
    let single = devices.len() == 1;
    for device in devices {
        let verified = match device {
            Ok(device) => device.verify(session),
            Err(error) if single => return Err(error),
            Err(error) => Verified { device: None, failure: Some(terms::message(&error)), kernels: Vec::new() },
        };
        document.passed &= verified.passed();
        document.devices.push(verified);
    }
    if session.common.json {
        print_json(&document)?;
    } else {
        print(&text(&document))?;
    }
    if document.passed { Ok(()) } else { Err(Error::check("a kernel does not agree with its twin")) }
}

fn text(document: &Document) -> String {
    let mut parts = Vec::new();
    for verified in &document.devices {
        if let Some(info) = &verified.device {
            parts.push(format!("{} ({})\n", info.name, info.backend));
        }
        let rows: Vec<Vec<String>> = verified
            .kernels
            .iter()
            .map(|k| {
                let result = if k.failed == 0 { "ok".to_owned() } else { format!("{} FAILED", k.failed) };
                vec![format!("  {}", k.name), k.cases.to_string(), format!("{:.3}", k.worst), result]
            })
            .collect();
        parts.push(columns(&["  kernel", "cases", "worst", "result"], &rows));
        let details = verified.kernels.iter().filter_map(|k| Some((k.name, k.detail.as_ref()?)));
        parts.extend(details.map(|(name, detail)| format!("  {name}: {detail}\n")));
        parts.extend(verified.failure.iter().map(|failure| format!("  FAILED: {failure}\n")));
        parts.push("\n".to_owned());
    }
    parts.push(
        "worst: integer kernels, how many words differ; float kernels, the largest error over its bound\n".to_owned(),
    );
    parts.concat()
}
