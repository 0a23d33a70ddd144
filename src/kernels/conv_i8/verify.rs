//! The kernel against its twin: every kind of split on uneven shapes, the ends of every range, requantization on its own.

use super::native::Kind;
use super::{Geometry, Weights, dispatch, dispatch_accumulators, reference, reference_totals};
use crate::Result;
use crate::device::{Device, Tier};
use crate::kernels::cases::{Case, Plan, SPLITS, compare};
use crate::kernels::variants::Variant;
use crate::kernels::{Check, Random};
use crate::model::Support;

/// Channels, rows, columns, output channels; kernel; stride; padding; groups.
type Shapes = ([usize; 4], [usize; 2], [usize; 2], [usize; 2], usize);

/// Run with every kind of split; equal input and output channels, for the diagonal.
const SQUARE: [Shapes; 9] = [
    ([1, 1, 1, 1], [1, 1], [1, 1], [0, 0], 1),
    ([3, 5, 7, 3], [3, 3], [1, 1], [1, 1], 1),
    ([4, 1, 1, 4], [3, 3], [1, 1], [1, 1], 1),
    ([5, 6, 4, 5], [3, 3], [2, 2], [1, 1], 1),
    ([7, 4, 5, 7], [5, 5], [1, 1], [2, 2], 1),
    ([8, 5, 5, 8], [3, 3], [1, 1], [1, 1], 2),
    ([6, 5, 3, 6], [3, 3], [1, 1], [1, 1], 3),
    ([20, 9, 6, 20], [3, 3], [1, 1], [1, 1], 1),
    ([6, 3, 3, 6], [1, 1], [1, 1], [0, 0], 1),
];

/// Other shapes, with splits in turn.
const OTHERS: [Shapes; 14] = [
    ([3, 9, 11, 20], [3, 3], [2, 2], [1, 1], 1),
    ([2, 6, 6, 7], [1, 1], [2, 2], [0, 0], 1),
    ([6, 7, 5, 2], [3, 3], [1, 1], [0, 0], 1),
    ([5, 8, 3, 6], [3, 1], [1, 2], [1, 0], 1),
    ([4, 3, 9, 9], [1, 5], [1, 1], [0, 2], 1),
    ([20, 5, 5, 12], [5, 3], [2, 1], [2, 1], 4),
    ([16, 6, 6, 32], [3, 3], [1, 1], [1, 1], 4),
    ([10, 4, 4, 15], [3, 3], [1, 1], [1, 1], 5),
    ([4, 2, 2, 4], [5, 5], [1, 1], [2, 2], 1),
    ([7, 4, 4, 33], [2, 2], [2, 2], [1, 1], 1),
    ([64, 7, 7, 64], [3, 3], [1, 1], [1, 1], 1),
    ([36, 1, 1, 10], [1, 1], [1, 1], [0, 0], 1),
    // More than one block of rows; tiles of output channels, whole and cut.
    ([5, 37, 31, 44], [3, 3], [1, 1], [1, 1], 1),
    ([3, 41, 60, 32], [3, 3], [2, 2], [1, 1], 1),
];

/// The edges of the tiled variants: 64 pixels, 64 output channels, two spans of 16 input channels.
const EDGES: [Shapes; 17] = [
    // Whole tiles; one pixel and one channel more; one pixel less.
    ([32, 8, 8, 64], [1, 1], [1, 1], [0, 0], 1),
    ([33, 5, 13, 65], [1, 1], [1, 1], [0, 0], 1),
    ([16, 7, 9, 60], [3, 3], [1, 1], [1, 1], 1),
    // Three spans a tap, so that a tile has two taps; a pixel tile over two images; several channel tiles.
    ([48, 6, 7, 132], [3, 3], [1, 1], [1, 1], 1),
    ([48, 7, 7, 48], [3, 3], [2, 2], [1, 1], 1),
    ([80, 4, 5, 80], [3, 3], [1, 1], [1, 1], 1),
    // A last span that is cut; an odd tap count of one span.
    ([52, 5, 5, 52], [3, 3], [1, 1], [1, 1], 1),
    ([70, 5, 5, 70], [1, 1], [1, 1], [0, 0], 1),
    ([9, 6, 6, 36], [5, 5], [1, 1], [2, 2], 1),
    // Groups: aligned spans; two channel tiles each with a rest; spans that cross words of another group.
    ([64, 5, 4, 64], [3, 3], [1, 1], [1, 1], 2),
    ([24, 4, 5, 136], [3, 3], [1, 1], [1, 1], 2),
    ([36, 3, 5, 36], [3, 3], [1, 1], [1, 1], 3),
    // Almost pointwise.
    ([32, 3, 9, 36], [1, 1], [1, 2], [0, 0], 1),
    ([32, 9, 3, 36], [1, 1], [2, 1], [0, 0], 1),
    ([32, 3, 4, 36], [1, 1], [1, 1], [0, 1], 1),
    ([32, 4, 3, 36], [1, 1], [1, 1], [1, 0], 1),
    // A kernel without a middle.
    ([32, 5, 6, 40], [2, 4], [1, 3], [1, 2], 1),
];

fn plan(shapes: Shapes, images: usize, split: Option<(Support, bool)>) -> Plan {
    let ([channels, height, width, out_channels], kernel, stride, padding, groups) = shapes;
    Plan { images, x: [channels, height, width], out_channels, kernel, stride, padding, groups, split, extreme: false }
}

/// Compares the direct variant, and the Cpu device, with the twin, to the bit.
///
/// # Errors
/// If the device failed.
pub fn verify(device: &Device) -> Result<Vec<Check>> {
    verify_variant(device, Variant::Direct)
}

/// Compares a tiled variant with the twin, to the bit.
pub(super) fn verify_tiled(device: &Device, variant: Variant) -> Result<Vec<Check>> {
    let mut checks = verify_variant(device, variant)?;
    let mut random = Random::new(18);
    for (i, shapes) in EDGES.into_iter().enumerate() {
        let [channels, _, _, out_channels] = shapes.0;
        for split in SPLITS {
            if channels == out_channels || !matches!(split, Some((Support::Diagonal, _))) {
                let case = Case::random(&plan(shapes, [3, 1][i % 2], split), &mut random);
                levels(device, variant, &case, &mut checks)?;
            }
        }
    }
    Ok(checks)
}

fn verify_variant(device: &Device, variant: Variant) -> Result<Vec<Check>> {
    let mut random = Random::new(8);
    let mut checks = Vec::new();
    for (i, shapes) in SQUARE.into_iter().enumerate() {
        for split in SPLITS {
            let case = Case::random(&plan(shapes, [1, 3][i % 2], split), &mut random);
            levels(device, variant, &case, &mut checks)?;
        }
    }
    let other_splits = SPLITS.into_iter().filter(|s| !matches!(s, Some((Support::Diagonal, _)))).cycle();
    for (i, (shapes, split)) in OTHERS.into_iter().zip(other_splits).enumerate() {
        levels(device, variant, &Case::random(&plan(shapes, [3, 1][i % 2], split), &mut random), &mut checks)?;
        levels(device, variant, &Case::random(&plan(shapes, 2, None), &mut random), &mut checks)?;
    }
    // Long sums of the largest terms: longer than one exact f32 slice, and more than one tile of channels.
    for split in [None, Some((Support::Center, false)), Some((Support::Full, true))] {
        let shapes = ([512, 3, 2, 20], [3, 3], [1, 1], [1, 1], 1);
        let case = Case::random(&Plan { extreme: true, ..plan(shapes, 1, split) }, &mut random);
        levels(device, variant, &case, &mut checks)?;
        if !matches!(split, Some((_, true))) {
            totals(device, variant, &case, &mut checks)?;
        }
    }
    for own in [false, true] {
        levels(device, variant, &Case::requantization(own, &mut random), &mut checks)?;
    }
    levels(device, variant, &wrapping(&mut random), &mut checks)?;
    for split in [None, Some((Support::Center, false)), Some((Support::Diagonal, false))] {
        let case = Case::random(&plan(([21, 3, 4, 21], [3, 3], [1, 1], [1, 1], 1), 2, split), &mut random);
        totals(device, variant, &case, &mut checks)?;
    }
    let mut classifier = Case::random(&plan(([70, 1, 1, 10], [1, 1], [1, 1], [0, 0], 1), 5, None), &mut random);
    (classifier.conv.multiplier, classifier.conv.right_shift) = Default::default();
    totals(device, variant, &classifier, &mut checks)?;
    Ok(checks)
}

/// A layer whose totals fit, though `fine + bias` alone does not.
fn wrapping(random: &mut Random) -> Case {
    let shapes = ([64, 2, 2, 64], [1, 1], [1, 1], [0, 0], 1);
    let mut case = Case::random(&plan(shapes, 1, Some((Support::Full, false))), random);
    case.name += ", wrapping";
    case.x_zero_point = 0;
    case.x.fill(127);
    case.conv.fine.fill(127);
    case.conv.bias.fill(i32::MAX - 500_000);
    if let Some(coarse) = &mut case.conv.coarse {
        coarse.weights.fill(-127);
        coarse.scale = crate::model::CoarseScale::Shift(ndarray::Array1::from_elem(64, 9));
    }
    case.conv.multiplier.fill(1 << 30);
    case.conv.right_shift.fill(54);
    case
}

/// The ways products can be made on this device: the chosen one, and where that is a matrix product, the one of processors
/// that have no other.
fn kinds(device: &Device) -> Vec<Option<Kind>> {
    if device.is_native() && matches!(device.tier(), Tier::Plain) { vec![None, Some(Kind::Float)] } else { vec![None] }
}

fn named(case: &Case, kind: Option<Kind>) -> String {
    kind.map_or_else(|| case.name.clone(), |kind| format!("{}, {kind:?}", case.name))
}

fn geometry(case: &Case, weights: &Weights) -> Geometry {
    let conv = &case.conv;
    let (o, kernel) = (conv.out_channels(), conv.kernel());
    Geometry::new(case.images, case.x_shape, o, kernel, conv.stride, conv.padding, weights.groups())
}

fn levels(device: &Device, variant: Variant, case: &Case, checks: &mut Vec<Check>) -> Result<()> {
    let expected = reference(&case.conv, case.images, case.x_shape, case.x_zero_point, &case.output, &case.x);
    let x = device.upload(&case.words(), "x")?;
    for kind in kinds(device) {
        let weights = Weights::with_products(device, &case.conv, kind)?.with_variant(variant);
        let g = geometry(case, &weights);
        let y = device.alloc(g.out_words(1), "y")?;
        let mut rec = device.recorder();
        dispatch(&mut rec, &g, case.x_zero_point, &case.output, &x, &weights, &y)?;
        rec.submit()?;
        checks.push(compare(named(case, kind), &expected, &device.read(&y, g.out_words(1))?));
    }
    Ok(())
}

fn totals(device: &Device, variant: Variant, case: &Case, checks: &mut Vec<Check>) -> Result<()> {
    let expected = reference_totals(&case.conv, case.images, case.x_shape, case.x_zero_point, &case.x);
    let x = device.upload(&case.words(), "x")?;
    for kind in kinds(device) {
        let weights = Weights::with_products(device, &case.conv, kind)?.with_variant(variant);
        let g = geometry(case, &weights);
        let y = device.alloc(g.out_words(4), "y")?;
        let mut rec = device.recorder();
        dispatch_accumulators(&mut rec, &g, case.x_zero_point, &x, &weights, &y)?;
        rec.submit()?;
        let got: Vec<i64> = device.read(&y, g.out_words(4))?.into_iter().map(|word| i64::from(word as i32)).collect();
        checks.push(Check::exact(format!("{}, totals", named(case, kind)), &expected, &got));
    }
    Ok(())
}
