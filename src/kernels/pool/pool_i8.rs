//! Pooling over windows in integers: see [`Constants`](crate::model::Constants) for the arithmetic
//! and [`Pool::window`] for what a window covers and divides by.
//!
//! Packed int8, NHWC. The largest level is the largest value, so max pooling passes levels on. A
//! mean adds up steps above the zero point; what lies in the padding is real 0, and adds nothing.

use rayon::prelude::*;

use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{
    Check, OutputLevels, check_right_shift, check_zero_point, compare, outcome, packed_pixels, requantize,
};
use crate::model::{Multiplier, Pool, PoolKind, Shape};
use crate::{Error, Result};

/// `pool_i8.wgsl`.
pub(crate) static SHADER: Shader = shader!("pool_i8");

/// Places of a window whose sum of `q − z`, at most 255 each, is below 2^31.
const MOST_PLACES: usize = 1 << 23;

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Images in the batch.
    images: u32,
    /// Channels in fours.
    quads: u32,
    /// Input rows.
    in_height: u32,
    /// Input columns.
    in_width: u32,
    /// Output rows.
    out_height: u32,
    /// Output columns.
    out_width: u32,
    /// Rows of a window.
    kernel_height: u32,
    /// Columns of a window.
    kernel_width: u32,
    /// Vertical stride.
    stride_y: u32,
    /// Horizontal stride.
    stride_x: u32,
    /// Padding above.
    pad_top: u32,
    /// Padding left.
    pad_left: u32,
    /// Input rows and both paddings: what a mean with padding counts.
    counted_height: u32,
    /// The same of columns.
    counted_width: u32,
    /// 0 max, 1 mean, 2 mean with padding.
    kind: u32,
    /// The input's zero point.
    x_zero_point: i32,
    /// The output's zero point.
    zero_point: i32,
    /// Its lowest level.
    low: i32,
    /// Its highest level.
    high: i32,
    /// Fills the struct to 80 bytes.
    unused: u32,
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
    /// Prepares the pooling of activations of shape `x_shape`; `multipliers` has one for each
    /// divisor, none for max.
    ///
    /// # Errors
    /// If a window has no place inside the image, its sum may not fit in 32 bits, a divisor has no
    /// multiplier, or the device has no memory left.
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
            multipliers.iter().try_for_each(|m| check_right_shift(m.right_shift))?;
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

/// The largest level or the mean of each window. A max's levels are the input's, whatever `levels`
/// are.
pub struct PoolI8<'a> {
    /// Images in the batch.
    pub images: usize,
    /// The pooling.
    pub windows: &'a Windows,
    /// The input's level of real 0.
    pub x_zero_point: i32,
    /// The output's levels.
    pub levels: OutputLevels,
    /// Packed int8.
    pub x: &'a Buffer,
    /// Packed int8.
    pub y: &'a Buffer,
}

impl PoolI8<'_> {
    fn words(&self, shape: Shape) -> usize {
        self.images * shape.padded_len() / 4
    }

    fn y_words(&self) -> usize {
        self.words(self.windows.pool.output(self.windows.x_shape))
    }
}

impl Kernel for PoolI8<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn check(&self) -> Result<()> {
        self.levels.check()?;
        check_zero_point(self.x_zero_point)
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        // `Windows::new` has seen to it that every divisor has a factor.
        let Windows { x_shape, factors, .. } = self.windows;
        vec![
            Bound::read("x", self.x, self.words(*x_shape)),
            Bound::read("factors", factors, factors.len()),
            Bound::write("y", self.y, self.y_words()),
        ]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let Windows { pool, x_shape: x, .. } = self.windows;
        let y = pool.output(*x);
        let [top, left, bottom, right] = pool.padding;
        let params = Params {
            images: self.images as u32,
            quads: (x.padded_channels() / 4) as u32,
            in_height: x.height as u32,
            in_width: x.width as u32,
            out_height: y.height as u32,
            out_width: y.width as u32,
            kernel_height: pool.kernel[0] as u32,
            kernel_width: pool.kernel[1] as u32,
            stride_y: pool.stride[0] as u32,
            stride_x: pool.stride[1] as u32,
            pad_top: top as u32,
            pad_left: left as u32,
            counted_height: (top + x.height + bottom) as u32,
            counted_width: (left + x.width + right) as u32,
            kind: match pool.kind {
                PoolKind::Max => 0,
                PoolKind::Average => 1,
                PoolKind::AverageWithPadding => 2,
            },
            x_zero_point: self.x_zero_point,
            zero_point: self.levels.zero_point,
            low: self.levels.low,
            high: self.levels.high,
            unused: 0,
        };
        Dispatch::of(&SHADER, self.y_words(), params).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        let (x, mut y) = (self.x.host(), self.y.host_mut());
        let x = bytemuck::cast_slice(&x[..self.words(self.windows.x_shape)]);
        native(self.windows, self.x_zero_point, &self.levels, x, bytemuck::cast_slice_mut(&mut y[..self.y_words()]));
        Ok(())
    }
}

/// Output rows in parallel, all channels of a place at once.
fn native(windows: &Windows, x_zero_point: i32, output: &OutputLevels, x: &[i8], y: &mut [i8]) {
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

/// The twin: levels of every image and padded channel. It looks at every place of a window, inside
/// or not.
pub(crate) fn reference(
    images: usize,
    pool: &Pool,
    multipliers: &[Multiplier],
    x_shape: Shape,
    x_zero_point: i32,
    output: &OutputLevels,
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
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
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
            let levels = match kind {
                PoolKind::Max => OutputLevels { zero_point: x_zero_point, low: -128, high: 127 },
                _ => [
                    OutputLevels { zero_point: 0, low: -127, high: 127 },
                    OutputLevels { zero_point: -128, low: -128, high: 127 },
                    OutputLevels { zero_point: 5, low: 5, high: 127 },
                ][random.integer(0, 2) as usize],
            };
            let expected = reference(images, &pool, &multipliers, shape, x_zero_point, &levels, &x);
            let windows = Windows::new(device, pool, &multipliers, shape)?;
            let x = device.upload(&bytemuck::pod_collect_to_vec::<i8, u32>(&x), "x")?;
            let got = outcome(device, expected.len() / 4, |rec, y| {
                rec.run(&PoolI8 { images, windows: &windows, x_zero_point, levels, x: &x, y })
            })?;
            let name = format!("{images}×{shape}, {pool:?}, zero point {x_zero_point}");
            checks.push(compare(name, &expected, &got));
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
