//! Which output pixels' patches are summed.

/// At most so many patches of an image are summed.
pub(super) const PATCHES: usize = 64;

/// The output pixels (row, column) of an image whose patches are summed: all of them, or [`PATCHES`]
/// that are spread evenly, in ascending order.
///
/// They follow from the sides alone, not from the number of images, so sums over parts of a set add
/// up to those over all of it. Row i of n is that of a raster, its column the fraction of i times
/// the golden ratio: no row or column is left out for long, and borders have their share.
pub(super) fn places(height: usize, width: usize) -> Vec<[usize; 2]> {
    /// 2^64 divided by the golden ratio.
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    if height * width <= PATCHES {
        return (0..height).flat_map(|y| (0..width).map(move |x| [y, x])).collect();
    }
    let place = |i: usize| {
        let fraction = (i as u64).wrapping_mul(GOLDEN);
        let column = (u128::from(fraction) * width as u128) >> 64;
        [(2 * i + 1) * height / (2 * PATCHES), column as usize]
    };
    let mut found: Vec<[usize; 2]> = (0..PATCHES).map(place).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_pixels_are_all_taken_and_many_evenly() {
        assert_eq!(places(2, 3), [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]);
        assert_eq!(places(8, 8).len(), PATCHES);
        for (height, width) in [(32, 32), (9, 8), (1, 500), (500, 1), (112, 7)] {
            let found = places(height, width);
            assert!(found.iter().all(|&[y, x]| y < height && x < width));
            assert!(found.len() > PATCHES * 3 / 4, "{height}×{width}: {}", found.len());
            // Each quarter has about its share.
            let early = found.iter().filter(|place| 2 * place[0] < height).count();
            assert!(height < 4 || early.abs_diff(found.len() / 2) <= 8, "{height}×{width}: {early}");
            let left = found.iter().filter(|place| 2 * place[1] < width).count();
            assert!(width < 4 || left.abs_diff(found.len() / 2) <= 8, "{height}×{width}: {left}");
        }
    }
}
