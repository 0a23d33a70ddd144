//! The f32 convolutions against their twin: each variant's cases, within the bound of `cases.rs`;
//! and each image of a batch against the same image alone, to the bit.

use super::cases::{Case, case};
use super::tiled::TILES;
use crate::Result;
use crate::device::Device;
use crate::kernels::Random;
use crate::kernels::conv::variants::Tile;
use crate::kernels::core::Check;

/// Compares the direct variant, and the Cpu device.
///
/// # Errors
/// If the device failed.
pub(crate) fn direct(device: &Device) -> Result<Vec<Check>> {
    each(device, 2, None, CASES)
}

/// Compares the first tiled variant; no case where the device cannot run it.
///
/// # Errors
/// If the device failed.
pub(crate) fn tiled(device: &Device) -> Result<Vec<Check>> {
    tile(device, &TILES[0])
}

/// Compares the narrow tiled variant; no case where the device cannot run it.
///
/// # Errors
/// If the device failed.
pub(crate) fn narrow(device: &Device) -> Result<Vec<Check>> {
    tile(device, &TILES[1])
}

/// Compares the depthwise variant.
///
/// # Errors
/// If the device failed.
pub(crate) fn depthwise(device: &Device) -> Result<Vec<Check>> {
    each(device, 3, None, DEPTHWISE)
}

/// The cases of the direct variant, and those at the edges of a tile.
fn tile(device: &Device, tile: &'static Tile) -> Result<Vec<Check>> {
    if !tile.runs_on(device) {
        return Ok(Vec::new());
    }
    let mut checks = each(device, 2, Some(tile), CASES)?;
    checks.extend(each(device, 2, Some(tile), EDGES)?);
    Ok(checks)
}

fn each(device: &Device, seed: u64, tile: Option<&'static Tile>, cases: &[Case]) -> Result<Vec<Check>> {
    let mut random = Random::new(seed);
    let mut checks = Vec::new();
    for case in cases {
        case.check(device, tile, &mut random, &mut checks)?;
    }
    Ok(checks)
}

/// Images, input, output channels, kernel, stride, padding, groups, `ReLU`.
const CASES: &[Case] = &[
    case(1, [1, 1, 1], 1, [1, 1], [1, 1], [0, 0], 1, false),
    case(3, [1, 1, 5], 2, [3, 3], [1, 1], [1, 1], 1, true),
    case(3, [5, 7, 2], 3, [1, 1], [2, 2], [0, 0], 1, false),
    case(1, [9, 6, 3], 4, [3, 3], [2, 2], [1, 1], 1, true),
    case(3, [4, 11, 4], 5, [5, 5], [1, 1], [2, 2], 1, false),
    case(1, [8, 5, 5], 6, [3, 1], [1, 2], [1, 0], 1, true),
    case(3, [3, 6, 6], 7, [1, 5], [2, 1], [0, 2], 1, false),
    case(1, [2, 2, 7], 9, [3, 3], [1, 1], [2, 2], 1, true),
    // A linear layer; K over several depth blocks of the product.
    case(3, [1, 1, 600], 13, [1, 1], [1, 1], [0, 0], 1, false),
    case(3, [7, 7, 12], 20, [1, 1], [1, 1], [0, 0], 1, true),
    // Groups that stay, with one, two and three quads each, and groups that are merged.
    case(3, [6, 5, 8], 8, [3, 3], [1, 1], [1, 1], 2, true),
    case(1, [5, 5, 16], 32, [3, 3], [2, 2], [1, 1], 4, false),
    case(3, [4, 4, 24], 24, [1, 1], [1, 1], [0, 0], 2, false),
    case(1, [5, 4, 6], 4, [3, 3], [1, 1], [1, 1], 2, true),
    case(3, [5, 4, 3], 6, [3, 3], [1, 1], [1, 1], 3, false),
    // More than one workgroup and more than one block of rows; tiles of output channels, whole and
    // cut.
    case(3, [21, 23, 4], 8, [3, 3], [1, 1], [1, 1], 1, true),
    case(2, [37, 31, 5], 44, [3, 3], [1, 1], [1, 1], 1, true),
    case(2, [41, 60, 3], 32, [3, 3], [2, 2], [1, 1], 1, false),
    case(1, [4, 3, 9], 70, [1, 1], [1, 1], [0, 0], 1, true),
    // Weights that go through in slices: 64 output channels, and three vectors of 16.
    case(2, [5, 7, 80], 64, [3, 3], [2, 1], [1, 1], 1, true),
    case(1, [4, 4, 101], 48, [3, 3], [1, 1], [1, 1], 1, false),
    // 3×3 and channels in sixteens: an even and an odd side, one pixel, no and more padding,
    // groups, one and two vectors, several blocks.
    case(3, [6, 8, 32], 16, [3, 3], [1, 1], [1, 1], 1, true),
    case(2, [7, 13, 48], 48, [3, 3], [1, 1], [1, 1], 1, false),
    case(3, [1, 1, 32], 32, [3, 3], [1, 1], [1, 1], 1, true),
    case(1, [5, 4, 32], 16, [3, 3], [1, 1], [0, 0], 1, false),
    case(1, [3, 2, 32], 16, [3, 3], [1, 1], [2, 2], 1, true),
    case(2, [9, 10, 64], 64, [3, 3], [1, 1], [1, 1], 2, true),
    case(2, [50, 61, 32], 16, [3, 3], [1, 1], [1, 1], 1, true),
];

/// Those at the edges of a tile.
const EDGES: &[Case] = &[
    // Whole tiles of 128 and 64 pixels; one pixel and one channel more; one pixel less, the second
    // half of the channels cut.
    case(1, [8, 16, 8], 64, [1, 1], [1, 1], [0, 0], 1, false),
    case(1, [8, 8, 8], 64, [1, 1], [1, 1], [0, 0], 1, false),
    case(1, [3, 43, 5], 65, [1, 1], [1, 1], [0, 0], 1, true),
    case(1, [5, 13, 6], 66, [3, 1], [1, 1], [1, 0], 1, true),
    case(1, [1, 127, 7], 33, [3, 3], [1, 1], [1, 1], 1, false),
    case(1, [7, 9, 1], 34, [1, 3], [1, 1], [0, 1], 1, false),
    // Almost pointwise.
    case(1, [3, 9, 8], 32, [1, 1], [1, 2], [0, 0], 1, false),
    case(1, [9, 3, 8], 32, [1, 1], [2, 1], [0, 0], 1, true),
    case(1, [3, 4, 8], 32, [1, 1], [1, 1], [0, 1], 1, false),
    case(1, [4, 3, 8], 32, [1, 1], [1, 1], [1, 0], 1, true),
    // Several workgroups in both directions, an odd number of input quads; a pixel tile over two
    // images.
    case(3, [11, 9, 12], 132, [3, 3], [1, 1], [1, 1], 1, true),
    case(3, [15, 13, 20], 72, [3, 3], [2, 2], [1, 1], 1, false),
    // One input quad: taps change twice a tile.
    case(3, [12, 13, 3], 48, [3, 3], [2, 2], [1, 1], 1, true),
    case(1, [6, 9, 2], 36, [7, 5], [3, 2], [3, 2], 1, false),
    // Groups: two channel tiles each with a rest, and narrow ones.
    case(3, [5, 6, 24], 136, [3, 3], [1, 1], [1, 1], 2, true),
    case(1, [6, 6, 12], 204, [1, 1], [1, 1], [0, 0], 3, false),
    // Long sums; a linear layer.
    case(1, [3, 3, 300], 40, [3, 3], [1, 1], [1, 1], 1, true),
    case(3, [1, 1, 1280], 100, [1, 1], [1, 1], [0, 0], 1, false),
    // One column of an image, so that every pixel has taps on both sides outside.
    case(1, [140, 1, 4], 32, [1, 3], [1, 1], [0, 1], 1, true),
];

/// Depthwise layers.
const DEPTHWISE: &[Case] = &[
    case(1, [1, 1, 2], 2, [1, 1], [1, 1], [0, 0], 2, false),
    case(3, [1, 1, 3], 3, [3, 3], [1, 1], [1, 1], 3, false),
    case(3, [5, 7, 4], 4, [3, 3], [1, 1], [1, 1], 4, true),
    case(1, [9, 6, 5], 5, [3, 3], [2, 2], [1, 1], 5, false),
    case(3, [6, 11, 6], 6, [5, 5], [1, 1], [2, 2], 6, true),
    case(1, [8, 5, 7], 7, [3, 1], [1, 2], [1, 0], 7, false),
    case(3, [3, 6, 12], 12, [1, 5], [2, 1], [0, 2], 12, false),
    case(1, [2, 2, 9], 9, [3, 3], [1, 1], [2, 2], 9, true),
    case(3, [13, 13, 36], 36, [3, 3], [2, 2], [1, 1], 36, true),
];
