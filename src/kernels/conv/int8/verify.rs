//! The kernel against its twin: every kind of split on uneven shapes, the ends of every range,
//! requantization on its own.

use super::cases::{Case, Plan, SPLITS};
use super::kernel::ConvI8;
use super::native::Kind;
use super::reference::{reference, reference_totals};
use super::tiled::TILES;
use super::weights::Weights;
use crate::Result;
use crate::device::{Device, Tier};
use crate::kernels::Random;
use crate::kernels::conv::variants::Tile;
use crate::kernels::core::{Check, compare, outcome};
use crate::model::{CoarseScale, Support};

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
    // Three spans a tap, so that a tile has two taps; a pixel tile over two images; several channel
    // tiles.
    ([48, 6, 7, 132], [3, 3], [1, 1], [1, 1], 1),
    ([48, 7, 7, 48], [3, 3], [2, 2], [1, 1], 1),
    ([80, 4, 5, 80], [3, 3], [1, 1], [1, 1], 1),
    // A last span that is cut; an odd tap count of one span.
    ([52, 5, 5, 52], [3, 3], [1, 1], [1, 1], 1),
    ([70, 5, 5, 70], [1, 1], [1, 1], [0, 0], 1),
    ([9, 6, 6, 36], [5, 5], [1, 1], [2, 2], 1),
    // Groups: aligned spans; two channel tiles each with a rest; spans that cross words of another
    // group.
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
pub(crate) fn direct(device: &Device) -> Result<Vec<Check>> {
    dense(device, None)
}

/// Compares the first tiled variant with the twin, to the bit; no case where the device cannot run
/// it.
///
/// # Errors
/// If the device failed.
pub(crate) fn tiled(device: &Device) -> Result<Vec<Check>> {
    tile(device, &TILES[0])
}

/// Compares the narrow tiled variant with the twin, to the bit; no case where the device cannot run
/// it.
///
/// # Errors
/// If the device failed.
pub(crate) fn narrow(device: &Device) -> Result<Vec<Check>> {
    tile(device, &TILES[1])
}

/// The cases of the direct variant, and those at the edges of a tile.
fn tile(device: &Device, tile: &'static Tile) -> Result<Vec<Check>> {
    if !tile.runs_on(device) {
        return Ok(Vec::new());
    }
    let tile = Some(tile);
    let mut checks = dense(device, tile)?;
    let mut random = Random::new(18);
    for (i, shapes) in EDGES.into_iter().enumerate() {
        let [channels, _, _, out_channels] = shapes.0;
        for split in SPLITS {
            if channels == out_channels || !matches!(split, Some((Support::Diagonal, _))) {
                let case = Case::random(&plan(shapes, [3, 1][i % 2], split), &mut random);
                levels(device, tile, &case, &mut checks)?;
            }
        }
    }
    Ok(checks)
}

fn dense(device: &Device, tile: Option<&'static Tile>) -> Result<Vec<Check>> {
    let mut random = Random::new(8);
    let mut checks = Vec::new();
    for (i, shapes) in SQUARE.into_iter().enumerate() {
        for split in SPLITS {
            let case = Case::random(&plan(shapes, [1, 3][i % 2], split), &mut random);
            levels(device, tile, &case, &mut checks)?;
        }
    }
    let other_splits = SPLITS.into_iter().filter(|s| !matches!(s, Some((Support::Diagonal, _)))).cycle();
    for (i, (shapes, split)) in OTHERS.into_iter().zip(other_splits).enumerate() {
        levels(device, tile, &Case::random(&plan(shapes, [3, 1][i % 2], split), &mut random), &mut checks)?;
        levels(device, tile, &Case::random(&plan(shapes, 2, None), &mut random), &mut checks)?;
    }
    // Long sums of the largest terms: longer than one exact f32 slice, and more than one tile of
    // channels.
    for split in [None, Some((Support::Center, false)), Some((Support::Full, true))] {
        let shapes = ([512, 3, 2, 20], [3, 3], [1, 1], [1, 1], 1);
        let case = Case::random(&Plan { extreme: true, ..plan(shapes, 1, split) }, &mut random);
        levels(device, tile, &case, &mut checks)?;
        if !matches!(split, Some((_, true))) {
            totals(device, tile, &case, &mut checks)?;
        }
    }
    for own in [false, true] {
        levels(device, tile, &Case::requantization(own, &mut random), &mut checks)?;
    }
    levels(device, tile, &wrapping(&mut random), &mut checks)?;
    for split in [None, Some((Support::Center, false)), Some((Support::Diagonal, false))] {
        let case = Case::random(&plan(([21, 3, 4, 21], [3, 3], [1, 1], [1, 1], 1), 2, split), &mut random);
        totals(device, tile, &case, &mut checks)?;
    }
    let mut classifier = Case::random(&plan(([70, 1, 1, 10], [1, 1], [1, 1], [0, 0], 1), 5, None), &mut random);
    (classifier.conv.multiplier, classifier.conv.right_shift) = Default::default();
    totals(device, tile, &classifier, &mut checks)?;
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
        coarse.scale = CoarseScale::Shift(ndarray::Array1::from_elem(64, 9));
    }
    case.conv.multiplier.fill(1 << 30);
    case.conv.right_shift.fill(54);
    case
}

/// The ways products can be made on this device: the chosen one, and where that is a matrix
/// product, the one of processors that have no other.
fn kinds(device: &Device) -> Vec<Option<Kind>> {
    if device.is_native() && matches!(device.tier(), Tier::Plain) { vec![None, Some(Kind::Float)] } else { vec![None] }
}

fn named(case: &Case, kind: Option<Kind>) -> String {
    kind.map_or_else(|| case.name.clone(), |kind| format!("{}, {kind:?}", case.name))
}

/// The weights of a layer. Two images are done in steps, as a huge layer would be.
fn weights(device: &Device, tile: Option<&'static Tile>, case: &Case, kind: Option<Kind>) -> Result<Weights> {
    let weights = Weights::with_products(device, &case.conv, kind)?.with_tile(tile);
    Ok(if case.images == 2 { weights.with_most_macs(1) } else { weights })
}

/// Compares the levels of a layer.
fn levels(device: &Device, tile: Option<&'static Tile>, case: &Case, checks: &mut Vec<Check>) -> Result<()> {
    let expected = reference(&case.conv, case.images, case.x_shape, case.x_zero_point, &case.output, &case.x);
    for kind in kinds(device) {
        let weights = weights(device, tile, case, kind)?;
        let got = run(device, case, &weights, false, expected.len() / 4)?;
        checks.push(compare(named(case, kind), &expected, &got));
    }
    Ok(())
}

/// Compares the totals of a layer.
fn totals(device: &Device, tile: Option<&'static Tile>, case: &Case, checks: &mut Vec<Check>) -> Result<()> {
    let expected = reference_totals(&case.conv, case.images, case.x_shape, case.x_zero_point, &case.x);
    for kind in kinds(device) {
        let weights = weights(device, tile, case, kind)?;
        let got = run(device, case, &weights, true, expected.len())?;
        let got: Vec<i64> = got.into_iter().map(|word| i64::from(word.cast_signed())).collect();
        checks.push(Check::exact(format!("{}, totals", named(case, kind)), &expected, &got));
    }
    Ok(())
}

/// The output words of a layer, of which there are so many.
fn run(device: &Device, case: &Case, weights: &Weights, totals: bool, words: usize) -> Result<Vec<u32>> {
    let &Case { images, x_shape, x_zero_point, .. } = case;
    let output = (!totals).then_some(case.output);
    let x = device.upload(&case.words(), "x")?;
    outcome(device, words, |rec, y| rec.run(&ConvI8 { images, x_shape, x_zero_point, weights, output, x: &x, y }))
}

/// Compares the depthwise variant with the twin, to the bit.
///
/// # Errors
/// If the device failed.
pub(crate) fn depthwise(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(9);
    let mut checks = Vec::new();
    let shapes = [
        ([2, 1, 1], [3, 3], [1, 1], [1, 1]),
        ([3, 5, 6], [3, 3], [1, 1], [1, 1]),
        ([5, 7, 4], [3, 3], [2, 2], [1, 1]),
        ([6, 4, 9], [1, 1], [1, 1], [0, 0]),
        ([7, 6, 6], [5, 5], [2, 1], [2, 2]),
        ([20, 8, 5], [3, 3], [1, 1], [0, 0]),
        ([64, 3, 3], [3, 5], [1, 1], [1, 2]),
    ];
    for (i, (x, kernel, stride, padding)) in shapes.into_iter().enumerate() {
        for split in SPLITS {
            let plan = Plan {
                images: [1, 3][i % 2],
                x,
                out_channels: x[0],
                kernel,
                stride,
                padding,
                groups: x[0],
                split,
                extreme: i == 4,
            };
            let mut case = Case::random(&plan, &mut random);
            levels(device, None, &case, &mut checks)?;
            if !matches!(split, Some((_, true))) {
                (case.conv.multiplier, case.conv.right_shift) = Default::default();
                totals(device, None, &case, &mut checks)?;
            }
        }
    }
    Ok(checks)
}
