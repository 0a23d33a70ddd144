//! Every kernel against its plain twin, on the Cpu device and on every adapter.

use repquant::kernels;

use crate::common::devices;

#[test]
fn kernels_agree_with_their_twins() {
    for device in devices() {
        for kernel in kernels::ALL {
            let checks = (kernel.verify)(&device).expect("the device works");
            let (name, place) = (kernel.spec.name, &device.info().name);
            assert_eq!(checks.is_empty(), !kernel.runs_on(&device), "cases of {name} on {place}");
            for check in checks {
                let place = format!("{} on {}: {}", kernel.spec.name, device.info().name, check.case);
                assert!(check.passed, "{place}: error {}: {}", check.error, check.detail.unwrap_or_default());
            }
        }
    }
}
