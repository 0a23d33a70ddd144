//! Kernels are timed, however many there are.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::device::{Device, DeviceChoice, DeviceOptions};
use crate::kernels::convert::normalize::{self, Normalize};
use crate::kernels::core::words_of;
use crate::profile::Profile;
use crate::testing::adapters;

/// One query set holds the timestamps of 2,048 dispatches; a submission may have more.
#[test]
fn every_dispatch_of_a_long_submission_is_timed() {
    let adapter = adapters().first().map(|adapter| DeviceChoice::Named(adapter.index.to_string()));
    for choice in [Some(DeviceChoice::Cpu), adapter].into_iter().flatten() {
        let profile = Arc::new(Profile::new());
        let options =
            DeviceOptions { choice: choice.clone(), profile: Some(Arc::clone(&profile)), ..DeviceOptions::default() };
        let device = match Device::open(&options) {
            Err(error) if error.to_string().contains("no timestamp queries") => continue,
            opened => opened.unwrap(),
        };
        let table = normalize::table(&device, &[[0.5; 256]; 3]).unwrap();
        let (x, y) = (device.upload(&[7], "x").unwrap(), device.alloc(4, "y").unwrap());
        let mut rec = device.recorder();
        for layer in ["a", "b"] {
            rec.layer(&layer.into());
            for _ in 0..2050 {
                rec.run(&Normalize { pixels: 1, x: &x, table: &table, y: &y }).unwrap();
            }
        }
        rec.submit().unwrap();
        device.wait().unwrap();
        let summary = profile.summary();
        assert_eq!(
            summary.kernels.iter().map(|row| (row.kernel, row.calls)).collect::<Vec<_>>(),
            [("normalize", 4100)]
        );
        let layers: BTreeSet<_> = summary.layers.iter().map(|row| (row.layer.as_deref(), row.calls)).collect();
        assert_eq!(layers, BTreeSet::from([(Some("a"), 2050), (Some("b"), 2050)]), "{choice}");
        assert!(summary.milliseconds > 0.0, "{choice}");
        assert_eq!(words_of(&device, &y).unwrap(), [0.5f32, 0.5, 0.5, 0.0].map(f32::to_bits));
    }
}
