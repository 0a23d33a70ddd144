//! Levels and scales of weights.

/// `2^(bits−1) − 1`.
pub fn qmax(bits: u8) -> i32 {
    (1 << (bits - 1)) - 1
}

/// `max/qmax` rounded to f32; 1 where that is 0.
pub(super) fn scale_for(max: f64, bits: u8) -> f32 {
    let scale = (max / f64::from(qmax(bits))) as f32;
    if scale > 0.0 { scale } else { 1.0 }
}
