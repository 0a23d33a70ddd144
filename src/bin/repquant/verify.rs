//! `repquant verify`.

use serde::Serialize;

use super::session::{Session, print, print_json};
use repquant::device::{Device, DeviceChoice, DeviceInfo};
use repquant::kernels;
use repquant::progress::{Event, Progress, Stage};
use repquant::report::columns;
use repquant::{Error, Result};

#[derive(Serialize)]
struct Document {
    devices: Vec<Verified>,
    passed: bool,
}

#[derive(Serialize)]
struct Verified {
    device: Option<DeviceInfo>,
    /// Why the device could not be tested.
    failure: Option<String>,
    kernels: Vec<KernelRow>,
}

#[derive(Serialize)]
struct KernelRow {
    name: &'static str,
    cases: usize,
    failed: usize,
    /// Integers: words that differ. Floats: the largest error as a fraction of its bound.
    worst: f64,
    detail: Option<String>,
}

/// Compares every kernel with its twin, on every adapter or the one asked for.
pub(super) fn run(session: &Session) -> Result<()> {
    let devices = match session.common.device {
        DeviceChoice::Auto => Device::all(session.common.backends()),
        _ => vec![Device::open(&session.common.device, session.common.backends())],
    };
    if matches!(session.common.device, DeviceChoice::Auto) && devices.iter().flatten().all(Device::is_native) {
        session.bars.note("no adapter was found; only the Cpu device is verified");
    }
    let mut document = Document { devices: Vec::new(), passed: true };
    let single = devices.len() == 1;
    for device in devices {
        let verified = match device {
            Ok(device) => verify(session, &device),
            Err(error) if single => return Err(error),
            Err(error) => Verified { device: None, failure: Some(error.to_string()), kernels: Vec::new() },
        };
        document.passed &= verified.failure.is_none() && verified.kernels.iter().all(|k| k.failed == 0);
        document.devices.push(verified);
    }
    if session.common.json {
        print_json(&document)?;
    } else {
        print(&text(&document))?;
    }
    if document.passed { Ok(()) } else { Err(Error::check("a kernel does not agree with its twin")) }
}

fn verify(session: &Session, device: &Device) -> Verified {
    session.bars.event(Event::Begin { stage: Stage::Verify, total: Some(kernels::ALL.len() as u64) });
    let mut verified = Verified { device: Some(device.info().clone()), failure: None, kernels: Vec::new() };
    for kernel in kernels::ALL {
        if !kernel.runs_on(device) {
            session.bars.event(Event::Advance { stage: Stage::Verify, items: 1 });
            continue;
        }
        match (kernel.verify)(device) {
            Ok(checks) => verified.kernels.push(KernelRow {
                name: kernel.spec.name,
                cases: checks.len(),
                failed: checks.iter().filter(|c| !c.passed).count(),
                worst: checks.iter().map(|c| c.error).fold(0.0, f64::max),
                detail: checks
                    .into_iter()
                    .find(|c| !c.passed)
                    .map(|c| format!("{}: {}", c.case, c.detail.unwrap_or_default())),
            }),
            Err(error) => {
                verified.failure = Some(error.at(format!("kernel {}", kernel.spec.name)).to_string());
                break;
            }
        }
        session.bars.event(Event::Advance { stage: Stage::Verify, items: 1 });
    }
    session.bars.event(Event::End { stage: Stage::Verify });
    verified
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
