//! Every kernel against its plain twin, on the Cpu device and on every adapter.

use crate::kernels::ALL;
use crate::testing::devices;

#[test]
fn kernels_agree_with_their_twins() {
    for device in devices() {
        for entry in ALL {
            let checks = (entry.verify)(&device).expect("the device works");
            let (name, place) = (entry.shader.name(), &device.info().name);
            assert_eq!(checks.is_empty(), !entry.runs_on(&device), "cases of {name} on {place}");
            for check in checks {
                let place = format!("{name} on {place}: {}", check.case);
                assert!(check.passed, "{place}: error {}: {}", check.error, check.detail.unwrap_or_default());
            }
        }
    }
}
