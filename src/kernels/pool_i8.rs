//! Pooling over windows in integers: see [`QOp::Pool`](crate::model::QOp::Pool) for the arithmetic and
//! [`Pool::window`] for what a window covers and divides by.
//!
//! Packed int8, NHWC. The largest level is the largest value, so max pooling passes levels on. A mean adds up steps above
//! the zero point; what lies in the padding is real 0, and adds nothing.

use rayon::prelude::*;

use super::cases::{compare, packed_pixels};
use super::int8::Output;
use super::requantize::requantize;
use super::{Check, Random};
use crate::device::{Binding, Buffer, Device, KernelSpec, Recorder, groups_for};
use crate::model::{Multiplier, Pool, PoolKind, Shape};
use crate::{Error, Result};

/// What the host knows of `pool_i8.wgsl`.
pub static SPEC: KernelSpec = KernelSpec {
    name: "pool_i8",
    source: include_str!("../../shaders/pool_i8.wgsl"),
    bindings: &[Binding::Params, Binding::Read, Binding::Read, Binding::ReadWrite],
    workgroup_size: [64, 1, 1],
    params_bytes: size_of::<Params>(),
};

/// Places of a window whose sum of `q − z`, at most 255 each, is below 2^31.
const MOST_PLACES: usize = 1 << 23;

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    /// Images in the batch.
    pub images: u32,
    /// Channels in fours.
    pub quads: u32,
    /// Input rows.
    pub in_height: u32,
    /// Input columns.
    pub in_width: u32,
    /// Output rows.
    pub out_height: u32,
    /// Output columns.
    pub out_width: u32,
    /// Rows of a window.
    pub kernel_height: u32,
    /// Columns of a window.
    pub kernel_width: u32,
    /// Vertical stride.
    pub stride_y: u32,
    /// Horizontal stride.
    pub stride_x: u32,
    /// Padding above.
    pub pad_top: u32,
    /// Padding left.
    pub pad_left: u32,
    /// Input rows and both paddings: what a mean with padding counts.
    pub counted_height: u32,
    /// The same of columns.
    pub counted_width: u32,
    /// 0 max, 1 mean, 2 mean with padding.
    pub kind: u32,
    /// The input's zero point.
    pub x_zero_point: i32,
    /// The output's zero point.
    pub zero_point: i32,
    /// Its lowest level.
    pub low: i32,
    /// Its highest level.
    pub high: i32,
    /// Fills the struct to 80 bytes.
    pub unused: u32,
}

/// A pooling whose multipliers are on a device.
#[derive(Debug)]
pub struct Windows {
    pool: Pool,
    x_shape: Shape,
    multipliers: Vec<Multiplier>,
    /// `M` and `n` of each divisor in turn.
    factors: Buffer,
}

impl Windows {
    /// Prepares the pooling of activations of shape `x_shape`; `multipliers` has one for each divisor, none for max.
    ///
    /// # Errors
    /// If a window has no place inside the image, its sum may not fit in 32 bits, a divisor has no multiplier, or the
    /// device has no memory left.
    pub fn new(device: &Device, pool: Pool, multipliers: &[Multiplier], x_shape: Shape) -> Result<Self> {
        let y = pool.output(x_shape);
        let spans = |side: usize, axis: usize, count: usize| (0..count).map(move |at| pool.window(side, axis, at));
        let (mut least, mut most) = ([usize::MAX; 2], [0; 2]);
        for (axis, side, count) in [(0, x_shape.height, y.height), (1, x_shape.width, y.width)] {
            for (inside, divisor) in spans(side, axis, count) {
                least[axis] = least[axis].min(inside.len());
                most[axis] = most[axis].max(divisor);
            }
        }
        if least.contains(&0) {
            return Err(Error::bad("a window lies in the padding alone"));
        }
        if pool.kind != PoolKind::Max {
            let places = most[0] * most[1];
            if places > MOST_PLACES {
                let text = format!("windows of {places} places; the 32-bit sum of {MOST_PLACES} at most fits");
                return Err(Error::bad(text));
            }
            if multipliers.len() < places {
                return Err(Error::bad(format!("{} multipliers for divisors of up to {places}", multipliers.len())));
            }
            if let Some(m) = multipliers.iter().find(|m| !(1..=62).contains(&m.right_shift)) {
                return Err(Error::bad(format!("right_shift is {}; 1 to 62 are possible", m.right_shift)));
            }
        }
        let mut words: Vec<u32> =
            multipliers.iter().flat_map(|m| [m.multiplier.cast_unsigned(), u32::from(m.right_shift)]).collect();
        if words.is_empty() {
            // A binding cannot be empty.
            words = vec![0; 2];
        }
        let factors = device.upload(&words, "multipliers")?;
        Ok(Self { pool, x_shape, multipliers: multipliers.to_vec(), factors })
    }
}

/// Records the pooling of `images` activations. A max's levels are the input's, whatever `output` is.
///
/// # Errors
/// If the device failed.
///
/// # Panics
/// If a buffer is too short or a level out of range: errors of the caller.
pub fn dispatch(
    rec: &mut Recorder<'_>,
    images: usize,
    windows: &Windows,
    x_zero_point: i32,
    output: &Output,
    x: &Buffer,
    y: &Buffer,
) -> Result<()> {
    let Windows { pool, x_shape, .. } = windows;
    let y_shape = pool.output(*x_shape);
    let words = |shape: &Shape| images * shape.pixels() * shape.padded_channels() / 4;
    let (x_words, y_words) = (words(x_shape), words(&y_shape));
    output.check("pool_i8");
    assert!((-128..=127).contains(&x_zero_point), "pool_i8: zero point {x_zero_point}");
    assert!(x.len() >= x_words && y.len() >= y_words, "pool_i8: buffer sizes");
    if y_words == 0 {
        return Ok(());
    }
    let [top, left, bottom, right] = pool.padding;
    let params = Params {
        images: images as u32,
        quads: (x_shape.padded_channels() / 4) as u32,
        in_height: x_shape.height as u32,
        in_width: x_shape.width as u32,
        out_height: y_shape.height as u32,
        out_width: y_shape.width as u32,
        kernel_height: pool.kernel[0] as u32,
        kernel_width: pool.kernel[1] as u32,
        stride_y: pool.stride[0] as u32,
        stride_x: pool.stride[1] as u32,
        pad_top: top as u32,
        pad_left: left as u32,
        counted_height: (top + x_shape.height + bottom) as u32,
        counted_width: (left + x_shape.width + right) as u32,
        kind: match pool.kind {
            PoolKind::Max => 0,
            PoolKind::Average => 1,
            PoolKind::AverageWithPadding => 2,
        },
        x_zero_point,
        zero_point: output.zero_point,
        low: output.low,
        high: output.high,
        unused: 0,
    };
    if rec.is_native() {
        let x = x.host();
        let y = &mut y.host_mut()[..y_words];
        native(windows, x_zero_point, output, bytemuck::cast_slice(&x[..x_words]), bytemuck::cast_slice_mut(y));
        return Ok(());
    }
    rec.run(&SPEC, &params, &[x, &windows.factors, y], groups_for(y_words, SPEC.workgroup_size[0]))
}

/// Output rows in parallel, all channels of a place at once.
fn native(windows: &Windows, x_zero_point: i32, output: &Output, x: &[i8], y: &mut [i8]) {
    let Windows { pool, x_shape, multipliers, .. } = windows;
    let (channels, y_shape) = (x_shape.padded_channels(), pool.output(*x_shape));
    let sums = || vec![0i32; channels];
    y.par_chunks_mut(y_shape.width * channels).enumerate().for_each_init(sums, |sums, (row, y)| {
        let (image, row) = (row / y_shape.height, row % y_shape.height);
        let (rows, row_divisor) = pool.window(x_shape.height, 0, row);
        for (column, y) in y.chunks_exact_mut(channels).enumerate() {
            let (columns, divisor) = pool.window(x_shape.width, 1, column);
            let places = rows.clone().flat_map(|iy| {
                let row = &x[(image * x_shape.height + iy) * x_shape.width * channels..];
                row[columns.start * channels..columns.end * channels].chunks_exact(channels)
            });
            if pool.kind == PoolKind::Max {
                y.fill(i8::MIN);
                for place in places {
                    for (y, q) in y.iter_mut().zip(place) {
                        *y = (*y).max(*q);
                    }
                }
                continue;
            }
            sums.fill(-x_zero_point * (rows.len() * columns.len()) as i32);
            for place in places {
                for (sum, q) in sums.iter_mut().zip(place) {
                    *sum += i32::from(*q);
                }
            }
            let m = multipliers[row_divisor * divisor - 1];
            for (y, sum) in y.iter_mut().zip(&*sums) {
                *y = output.level(requantize(*sum, m.multiplier, u32::from(m.right_shift)));
            }
        }
    });
}

/// The twin: levels of every image and padded channel. It looks at every place of a window, inside or not.
pub fn reference(
    images: usize,
    pool: &Pool,
    multipliers: &[Multiplier],
    x_shape: Shape,
    x_zero_point: i32,
    output: &Output,
    x: &[i8],
) -> Vec<i8> {
    let (channels, y_shape) = (x_shape.padded_channels(), pool.output(x_shape));
    let [top, left, bottom, right] = pool.padding.map(|p| p as isize);
    let (height, width) = (x_shape.height as isize, x_shape.width as isize);
    let mut y = Vec::new();
    for (image, row, column) in (0..images)
        .flat_map(|i| (0..y_shape.height).flat_map(move |row| (0..y_shape.width).map(move |column| (i, row, column))))
    {
        for c in 0..channels {
            let (mut inside, mut counted) = (Vec::new(), 0);
            for (dy, dx) in (0..pool.kernel[0]).flat_map(|dy| (0..pool.kernel[1]).map(move |dx| (dy, dx))) {
                let iy = (row * pool.stride[0] + dy) as isize - top;
                let ix = (column * pool.stride[1] + dx) as isize - left;
                counted += usize::from(iy < height + bottom && ix < width + right);
                if (0..height).contains(&iy) && (0..width).contains(&ix) {
                    let pixel = (image * x_shape.height + iy as usize) * x_shape.width + ix as usize;
                    inside.push(i128::from(x[pixel * channels + c]));
                }
            }
            let divisor = match pool.kind {
                PoolKind::Max => {
                    y.push(inside.iter().copied().max().map_or(i8::MIN, |q| q as i8));
                    continue;
                }
                PoolKind::Average => inside.len(),
                PoolKind::AverageWithPadding => counted,
            };
            let Multiplier { multiplier, right_shift: n } = multipliers[divisor - 1];
            let acc: i128 = inside.iter().map(|q| q - i128::from(x_zero_point)).sum();
            // To the nearest, ties upwards: floor(acc·M / 2^n + 1/2).
            let steps = (2 * acc * i128::from(multiplier) + (1 << n)).div_euclid(2 << n);
            let level = i128::from(output.zero_point) + steps;
            y.push(level.clamp(i128::from(output.low), i128::from(output.high)) as i8);
        }
    }
    y
}

/// Channels, rows, columns; kernel, stride, padding, ceil.
type Case = ([usize; 3], [usize; 2], [usize; 2], [usize; 4], bool);

const CASES: [Case; 9] = [
    ([1, 1, 1], [1, 1], [1, 1], [0; 4], false),
    ([2, 5, 5], [3, 3], [2, 2], [1; 4], false),
    ([3, 6, 7], [2, 2], [2, 2], [0; 4], true),
    ([4, 9, 4], [3, 2], [2, 1], [1, 0, 2, 1], true),
    ([5, 7, 7], [5, 5], [1, 1], [2; 4], false),
    ([6, 8, 3], [3, 3], [3, 2], [0, 2, 1, 0], true),
    ([7, 4, 10], [4, 10], [1, 1], [0; 4], false),
    ([40, 11, 13], [3, 3], [2, 2], [1; 4], true),
    ([9, 2, 2], [5, 5], [1, 3], [4; 4], false),
];

/// Compares with the twin, to the bit.
///
/// # Errors
/// If the device failed.
pub fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(22);
    let mut checks = Vec::new();
    for (i, ([channels, height, width], kernel, stride, padding, ceil)) in CASES.into_iter().enumerate() {
        for kind in [PoolKind::Max, PoolKind::Average, PoolKind::AverageWithPadding] {
            let pool = Pool { kind, kernel, stride, padding, ceil };
            let (images, shape) = ([1, 3][i % 2], Shape::new(channels, height, width));
            let x_zero_point = [0, -128, 19][random.integer(0, 2) as usize];
            let x = packed_pixels(images, shape, x_zero_point, || random.integer(-128, 127) as i8);
            // One step of the input is a half (ties) or up to four of the output's.
            let factor = if i % 2 == 0 { 0.5 } else { random.integer(3, 40) as f64 / 10.0 };
            let divisors = 1..=kernel[0] * kernel[1];
            let multipliers: Vec<Multiplier> = match kind {
                PoolKind::Max => Vec::new(),
                _ => divisors.map(|d| Multiplier::new(factor / d as f64)).collect::<Result<_>>()?,
            };
            let output = match kind {
                PoolKind::Max => Output { zero_point: x_zero_point, low: -128, high: 127 },
                _ => [
                    Output { zero_point: 0, low: -127, high: 127 },
                    Output { zero_point: -128, low: -128, high: 127 },
                    Output { zero_point: 5, low: 5, high: 127 },
                ][random.integer(0, 2) as usize],
            };
            let expected = reference(images, &pool, &multipliers, shape, x_zero_point, &output, &x);
            let windows = Windows::new(device, pool, &multipliers, shape)?;
            let y = device.upload(&vec![0x5a5a_5a5a; expected.len() / 4], "y")?;
            let x = device.upload(&bytemuck::pod_collect_to_vec::<i8, u32>(&x), "x")?;
            let mut rec = device.recorder();
            dispatch(&mut rec, images, &windows, x_zero_point, &output, &x, &y)?;
            rec.submit()?;
            let name = format!("{images}×{shape}, {pool:?}, zero point {x_zero_point}");
            checks.push(compare(name, &expected, &device.read(&y, y.len())?));
        }
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_that_cannot_be_pooled_are_refused() {
        let mean = Pool { kind: PoolKind::Average, kernel: [2; 2], stride: [2; 2], padding: [0; 4], ceil: false };
        let m = Multiplier { multiplier: 1 << 30, right_shift: 30 };
        let refusal = |pool, multipliers: &[Multiplier], side: usize| {
            Windows::new(&Device::cpu(), pool, multipliers, Shape::new(3, side, side)).unwrap_err().to_string()
        };
        assert!(refusal(mean, &[m; 3], 4).contains("3 multipliers for divisors of up to 4"));
        let unshifted = Multiplier { right_shift: 0, ..m };
        assert!(refusal(mean, &[m, m, m, unshifted], 4).contains("right_shift is 0"));
        let outside = Pool { kind: PoolKind::Max, padding: [2; 4], ..mean };
        assert!(refusal(outside, &[], 4).contains("in the padding alone"));
        let huge = Pool { kernel: [4096; 2], stride: [1; 2], ..mean };
        assert!(refusal(huge, &[], 4096).contains("16777216 places"));
    }
}
