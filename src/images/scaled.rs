//! Which JPEGs are decoded at 1/4 or 1/8 of their width and height, by an inverse transform of 2×2 or
//! 1×1 for each block of 8×8.
//!
//! At 1/2 it takes as long as decoding the whole image and then resizing it, so that is not done.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

/// By how much the decoder may shrink an image of `size` that is to be resized to `full`: the most
/// that leaves both sides at least that long, as Pillow's `Image.draft` chooses; none where that is
/// less than four times.
pub(super) fn reduction(size: [usize; 2], full: [usize; 2]) -> Option<usize> {
    [8, 4].into_iter().find(|reduction| (0..2).all(|axis| size[axis] / reduction >= full[axis].max(1)))
}

/// Whether a JPEG is one that is scaled: sequential, gray or of three components that are certainly Y,
/// Cb and Cr. Of others, a damaged one might be read at one scale and not at another.
pub(super) fn can_be_scaled(bytes: &[u8]) -> bool {
    is_plain(bytes).unwrap_or(false)
}

/// None where a segment is not whole.
fn is_plain(bytes: &[u8]) -> Option<bool> {
    // Segments from behind the start of image: marker, length of what follows, content (ITU-T T.81,
    // annex B).
    let mut rest = bytes.get(2..)?;
    loop {
        let (&[0xFF, marker, high, low], _) = rest.split_first_chunk::<4>()? else { return Some(false) };
        let end = usize::from(u16::from_be_bytes([high, low])) + 2;
        let content = rest.get(4..end)?;
        rest = &rest[end..];
        match marker {
            // Sequential, Huffman: precision, height, width, the number of components, and three
            // bytes for each.
            0xC0 | 0xC1 => {
                return Some(matches!(
                    (content.get(5)?, content.get(6..)?),
                    (1, _) | (3, [1, _, _, 2, _, _, 3, ..] | [0, _, _, 1, _, _, 2, ..])
                ));
            }
            // Adobe's marker, unless it says YCbCr.
            0xEE if content.starts_with(b"Adobe") && content.get(11) != Some(&1) => return Some(false),
            // Tables, applications' data and comments.
            0xC4 | 0xDB | 0xDD | 0xE0..=0xEF | 0xFE => {}
            _ => return Some(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_scale_that_still_covers_the_resized_image() {
        for (size, expected) in [
            ([5000, 1023], None),
            ([1024, 5000], Some(4)),
            ([2047, 2047], Some(4)),
            ([2048, 3000], Some(8)),
            ([9000, 9000], Some(8)),
        ] {
            // With the shorter side resized to 256.
            let full = size.map(|side: usize| 256 * side / size[0].min(size[1]));
            assert_eq!(reduction(size, full), expected, "{size:?}");
        }
        assert_eq!(reduction([1000, 1000], [200, 50]), Some(4));
        assert_eq!(reduction([1000, 1000], [251, 50]), None);
        assert_eq!(reduction([3, 3], [0, 0]), None);
    }
}
