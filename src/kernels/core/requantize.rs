//! From int32 totals to levels of the next activation, in integers alone: the native side of
//! `wide_product` and `wide_rounding_shift` in `shared/common.wgsl`. An arithmetic shift rounds
//! down, so half a step is added first: to the nearest, ties upwards.

/// `(acc · multiplier + 2^(n−1)) >> n` for n = `right_shift` in 1..=62. The product is below 2^62:
/// nothing overflows.
pub(crate) fn requantize(acc: i32, multiplier: i32, right_shift: u32) -> i64 {
    (i64::from(acc) * i64::from(multiplier) + (1 << (right_shift - 1))) >> right_shift
}

/// `(acc_c · m_c + acc_f · m_f + 2^(n−1)) >> n` for n = `right_shift` in 1..=62.
pub(crate) fn requantize_two(acc_c: i32, m_c: i32, acc_f: i32, m_f: i32, right_shift: u32) -> i64 {
    let coarse = i64::from(acc_c) * i64::from(m_c);
    let fine = i64::from(acc_f) * i64::from(m_f);
    let half = 1i64 << (right_shift - 1);
    match coarse.checked_add(fine).and_then(|sum| sum.checked_add(half)) {
        Some(sum) => sum >> right_shift,
        // Beyond 2^63; the quotient is below 2^63 again.
        None => ((i128::from(coarse) + i128::from(fine) + i128::from(half)) >> right_shift) as i64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_nearest_and_ties_upwards() {
        let halves: Vec<i64> = (-4..=4).map(|acc| requantize(acc, 1 << 30, 31)).collect();
        assert_eq!(halves, [-2, -1, -1, 0, 0, 1, 1, 2, 2]);
        assert_eq!(requantize(i32::MIN, i32::MAX, 62), -1);
        assert_eq!(requantize(i32::MAX, i32::MAX, 1), ((1i64 << 31) - 1).pow(2).div_euclid(2) + 1);
        let top = requantize_two(i32::MIN, i32::MAX, i32::MIN, i32::MAX, 62);
        assert_eq!(top, -2);
        assert_eq!(requantize_two(i32::MAX, i32::MAX, i32::MAX, i32::MAX, 62), 2);
        assert_eq!(requantize_two(3, 1 << 30, -2, 1 << 30, 31), 1);
    }
}
