//! What an unchecked shader must never be given is refused before anything runs.

use crate::ErrorKind;
use crate::device::{Device, Kernel, short};
use crate::kernels::ALL;
use crate::kernels::binary::binary_f32::BinaryF32;
use crate::kernels::convert::normalize::{self, Normalize};
use crate::kernels::rearrange::{gather_f32, gather_i8};
use crate::kernels::statistics::error_sums::{ErrorSums, SUM_WORDS};
use crate::kernels::statistics::range::Range;
use crate::kernels::statistics::{Extent, Row};
use crate::model::{Binary, Rearrange, RearrangeKind, Shape};
use crate::testing::devices;

/// The message with which a kernel is refused on a device.
fn refusal(device: &Device, kernel: &impl Kernel) -> String {
    let error = device.recorder().run(kernel).expect_err("it must be refused");
    assert_eq!(error.kind(), ErrorKind::Device);
    error.to_string()
}

/// Every kernel's own cases, with its input, its output, its operands and what it counts into one
/// word too short in turn.
#[test]
fn no_kernel_runs_on_buffers_that_are_too_short() {
    for device in devices() {
        for entry in ALL.iter().filter(|entry| entry.runs_on(&device)) {
            let name = entry.shader.name();
            let mut refused = Vec::new();
            let (checks, seen) = short::labels(|| (entry.verify)(&device));
            checks.unwrap();
            let labels = ["x", "y", "a", "b", "other", "states", "counts", "sums"];
            for label in labels.into_iter().filter(|label| seen.contains(*label)) {
                let Err(error) = short::uploads(label, || (entry.verify)(&device)) else { continue };
                assert!(error.to_string().contains(" are needed"), "{name}: {error}");
                refused.push(label);
            }
            assert!(!refused.is_empty(), "{name} on {}: nothing was refused", device.info().name);
        }
    }
}

#[test]
fn no_list_leads_past_the_end_of_a_buffer() {
    let x_shape = Shape::new(4, 2, 3);
    let last = Rearrange {
        kind: RearrangeKind::Pick { sides: vec![4, 2, 3], axis: 2, entries: vec![2] },
        shape: Shape::new(4, 2, 1),
    };
    for device in devices() {
        let buffer = |words| device.alloc(words, "memory").unwrap();
        // The last place that the list names of two images is word 47.
        let order = gather_f32::Order::new(&device, &last, x_shape).unwrap();
        let run = |x_words: usize| {
            let (x, y) = (buffer(x_words), buffer(16));
            device.recorder().run(&gather_f32::GatherF32 { images: 2, order: &order, x: &x, y: &y })
        };
        run(48).unwrap();
        let error = run(47).unwrap_err().to_string();
        assert_eq!(error, "kernel gather_f32: x has 47 words; 48 are needed");
        let order = gather_i8::Order::new(&device, &last, x_shape).unwrap();
        let (x, y) = (buffer(11), buffer(4));
        let kernel = gather_i8::GatherI8 { images: 2, order: &order, zero_point: 0, x: &x, y: &y };
        assert_eq!(refusal(&device, &kernel), "kernel gather_i8: x has 11 words; 12 are needed");
    }
}

#[test]
fn statistics_beyond_all_counting_are_refused() {
    for device in devices() {
        let (x, states) = (device.alloc(64, "x").unwrap(), device.alloc(16, "states").unwrap());
        let range = |images, index| Range {
            extent: Extent { images, shape: Shape::new(4, 2, 2) },
            x: &x,
            row: Row { states: &states, index },
        };
        device.recorder().run(&range(4, 1)).unwrap();
        assert_eq!(refusal(&device, &range(4, 2)), "kernel range: states has 16 words; 24 are needed");
        assert_eq!(refusal(&device, &range(5, 1)), "kernel range: x has 64 words; 80 are needed");
        // Products that would be small again after an overflow.
        for (images, index) in [(1 << 60, 1), (4, usize::MAX), (4, 1 << 61)] {
            assert!(refusal(&device, &range(images, index)).ends_with(" are needed"));
        }
    }
}

#[test]
fn buffers_of_another_device_and_shared_ones_are_refused() {
    for device in devices() {
        let other = if device.is_native() { devices().pop() } else { Some(Device::cpu()) };
        let table = normalize::table(&device, &[[0.5; 256]; 3]).unwrap();
        let (x, y) = (device.alloc(8, "x").unwrap(), device.alloc(8, "y").unwrap());
        let same = Normalize { pixels: 2, x: &y, table: &table, y: &y };
        assert_eq!(refusal(&device, &same), "kernel normalize: x and y are one buffer");
        device.recorder().run(&Normalize { pixels: 2, x: &x, table: &table, y: &y }).unwrap();
        let Some(other) = other.filter(|other| other.is_native() != device.is_native()) else { continue };
        let foreign = other.alloc(8, "x").unwrap();
        let mixed = Normalize { pixels: 2, x: &foreign, table: &table, y: &y };
        assert_eq!(refusal(&device, &mixed), "kernel normalize: x is a buffer of another device");
        assert!(device.write(&foreign, &[0]).is_err() && device.recorder().clear(&foreign).is_err());
        assert!(device.begin_read(&[(&foreign, 1)]).is_err());
    }
}

#[test]
fn arguments_that_contradict_each_other_are_refused() {
    let device = Device::cpu();
    let (a, b, y) = (device.alloc(64, "a"), device.alloc(64, "b"), device.alloc(64, "y"));
    let (a, b, y) = (a.unwrap(), b.unwrap(), y.unwrap());
    let operands = [(Shape::new(4, 2, 2), &a), (Shape::new(3, 2, 2), &b)];
    let kernel = BinaryF32 { images: 1, kind: Binary::Add, relu: false, operands, y: &y };
    assert_eq!(refusal(&device, &kernel), "kernel binary_f32: operands of 4×2×2 and 3×2×2 do not go together");

    let sums = device.alloc(SUM_WORDS, "sums").unwrap();
    let extent = Extent { images: 1, shape: Shape::new(4, 2, 2) };
    let kernel = ErrorSums { extent, qparams: Some((1.0, 200)), y: &a, other: &b, sums: &sums };
    assert_eq!(refusal(&device, &kernel), "kernel error_sums: zero point 200 is no level of int8");
}
