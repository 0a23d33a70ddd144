//! Every kernel against its plain twin, on the Cpu device and on every adapter.

use repquant::gpu::{Backends, Device};
use repquant::kernels;

#[test]
fn kernels_agree_with_their_twins() {
    let devices = Device::all(Backends::All);
    if devices.len() == 1 {
        eprintln!("SKIPPED on GPU: no adapter was found; only the Cpu device is tested");
    }
    for device in devices {
        let device = device.expect("an adapter that is listed opens");
        for kernel in kernels::ALL {
            let checks = (kernel.verify)(&device).expect("the device works");
            assert!(!checks.is_empty(), "{} has no cases", kernel.spec.name);
            for check in checks {
                let place = format!("{} on {}: {}", kernel.spec.name, device.info().name, check.case);
                assert!(check.passed, "{place}: error {}: {}", check.error, check.detail.unwrap_or_default());
            }
        }
    }
}
