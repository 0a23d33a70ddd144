//! Levels one behind the other along an axis: each input goes into its box of the output, in their
//! order, its levels through a table where they are stored otherwise than the output's.
//!
//! Packed int8, NHWC. A word of the output may hold channels of two inputs: an invocation reads it,
//! changes the bytes of its input and writes it back, and the next input's dispatch comes after.
//! Padded channels are at the output's zero point.

use rayon::prelude::*;

use super::place::{self, Place};
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, check_zero_point, compare, packed_pixels, words_of};
use crate::model::{Axis, QParams, Shape, Table, joined};
use crate::{Error, Result};

/// `concat_i8.wgsl`.
pub(crate) static SHADER: Shader = shader!("concat_i8");

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    place: Place,
    /// The output's zero point.
    zero_point: i32,
    /// 1 where levels go through the table.
    tabled: u32,
}

/// What becomes of the levels of an input, on a device.
#[derive(Debug)]
pub struct Mapping {
    table: Option<Table>,
    /// 256 entries; where there is no table all of them are bound, and none is used.
    entries: Buffer,
}

impl Mapping {
    /// Words of the entries: four to a word.
    const WORDS: usize = 64;

    /// Uploads a table; without one, levels stay as they are.
    ///
    /// # Errors
    /// If the device has no memory left.
    pub fn new(device: &Device, table: Option<&Table>) -> Result<Self> {
        let entries = table.map_or(vec![0; Self::WORDS], |table| bytemuck::pod_collect_to_vec::<i8, u32>(&table.0[..]));
        Ok(Self { table: table.cloned(), entries: device.upload(&entries, "table")? })
    }
}

/// One input into its box of the output, through a table where there is one. Inputs are run in
/// their order.
pub struct ConcatI8<'a> {
    /// Images in the batch.
    pub images: usize,
    /// Shape of one image's input.
    pub x_shape: Shape,
    /// What becomes of its levels.
    pub mapping: &'a Mapping,
    /// The axis along which inputs are joined.
    pub axis: Axis,
    /// Where along it the box begins.
    pub first: usize,
    /// Shape of one image's output.
    pub y_shape: Shape,
    /// The output's level of real 0.
    pub zero_point: i32,
    /// Packed int8.
    pub x: &'a Buffer,
    /// Packed int8.
    pub y: &'a Buffer,
}

impl ConcatI8<'_> {
    fn words(&self, shape: Shape) -> usize {
        self.images * shape.padded_len() / 4
    }

    fn params(&self) -> Params {
        Params {
            place: Place::new(self.images, self.x_shape, self.axis, self.first, self.y_shape),
            zero_point: self.zero_point,
            tabled: u32::from(self.mapping.table.is_some()),
        }
    }
}

impl Kernel for ConcatI8<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn check(&self) -> Result<()> {
        place::check(self.x_shape, self.axis, self.first, self.y_shape)?;
        check_zero_point(self.zero_point)
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        vec![
            Bound::read("x", self.x, self.words(self.x_shape)),
            Bound::read("table", &self.mapping.entries, Mapping::WORDS),
            Bound::write("y", self.y, self.words(self.y_shape)),
        ]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let params = self.params();
        Dispatch::of(&SHADER, params.place.items(), params).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        let (x, mut y) = (self.x.host(), self.y.host_mut());
        let x = bytemuck::cast_slice(&x[..self.words(self.x_shape)]);
        let y = bytemuck::cast_slice_mut(&mut y[..self.words(self.y_shape)]);
        native(&self.params(), self.mapping.table.as_ref(), x, y);
        Ok(())
    }
}

/// Output rows in parallel, pixel by pixel.
fn native(params: &Params, table: Option<&Table>, x: &[i8], y: &mut [i8]) {
    let (p, zero_point) = (&params.place, params.zero_point as i8);
    let padded = |channels: u32| channels.next_multiple_of(4) as usize;
    let (x_padded, y_padded) = (padded(p.x_channels), padded(p.y_channels));
    let (x_row, y_row) = (p.x_width as usize * x_padded, p.y_width as usize * y_padded);
    let (first, count) = (p.first_channel as usize, p.x_channels as usize);
    y.par_chunks_mut(y_row).enumerate().for_each(|(row, y)| {
        let (image, row) = (row / p.y_height as usize, row % p.y_height as usize);
        let Some(row) = row.checked_sub(p.first_row as usize).filter(|row| *row < p.x_height as usize) else { return };
        let x = &x[(image * p.x_height as usize + row) * x_row..][..x_row];
        let y = &mut y[p.first_column as usize * y_padded..];
        for (x, y) in x.chunks_exact(x_padded).zip(y.chunks_exact_mut(y_padded)) {
            let moved = x[..count].iter().zip(&mut y[first..first + count]);
            match table {
                Some(table) => moved.for_each(|(x, y)| *y = table.get(*x)),
                None => moved.for_each(|(x, y)| *y = *x),
            }
            y[p.y_channels as usize..].fill(zero_point);
        }
    });
}

/// The twin: levels of every image and padded channel after all inputs, each with its shape, levels
/// and table.
///
/// # Panics
/// If the inputs do not go together: an error of the caller.
pub(crate) fn reference(
    images: usize,
    axis: Axis,
    zero_point: i32,
    inputs: &[(Shape, &[i8], Option<&Table>)],
) -> Vec<i8> {
    let shapes: Vec<Shape> = inputs.iter().map(|(shape, ..)| *shape).collect();
    let shape = joined(&shapes, axis).expect("inputs that go together");
    let mut y = Vec::new();
    for (image, row, column) in (0..images)
        .flat_map(|i| (0..shape.height).flat_map(move |row| (0..shape.width).map(move |column| (i, row, column))))
    {
        for c in 0..shape.padded_channels() {
            if c >= shape.channels {
                y.push(zero_point as i8);
                continue;
            }
            // The input that holds this place, and the place within it.
            let mut place = Shape::new(c, row, column);
            let mut holder = inputs.iter();
            let (x_shape, x, table) = loop {
                let input = holder.next().expect("a place within the inputs");
                let side = axis.of(input.0);
                if axis.of(place) < side {
                    break input;
                }
                place = axis.with(place, axis.of(place) - side);
            };
            let pixel = (image * x_shape.height + place.height) * x_shape.width + place.width;
            let level = x[pixel * x_shape.padded_channels() + place.channels];
            y.push(table.map_or(level, |table| table.0[(i32::from(level) + 128) as usize]));
        }
    }
    y
}

/// Compares with the twin, to the bit: one input alone, and two or three along each axis.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(23);
    let mut checks = Vec::new();
    let (channels, height, width) = (Axis::Channels, Axis::Height, Axis::Width);
    let cases: [(Axis, [usize; 3], &[usize]); 14] = [
        (channels, [1, 1, 1], &[1]),
        (channels, [6, 3, 5], &[6]),
        (channels, [8, 4, 3], &[8]),
        (channels, [0, 2, 3], &[1, 2]),
        (channels, [0, 4, 2], &[3, 1, 2]),
        (channels, [0, 1, 7], &[4, 8]),
        (channels, [0, 5, 3], &[4, 7, 5]),
        (channels, [0, 3, 3], &[5, 6]),
        (channels, [0, 2, 2], &[2, 1, 1, 1, 7]),
        (channels, [0, 6, 6], &[7, 17, 1]),
        (height, [5, 0, 3], &[2, 1, 4]),
        (height, [8, 0, 7], &[3, 3]),
        (width, [3, 4, 0], &[1, 5]),
        (width, [12, 2, 0], &[4, 2, 3]),
    ];
    for (i, (axis, [c, h, w], sides)) in cases.into_iter().enumerate() {
        for tables in [false, true] {
            let (images, zero_point) = ([1, 3][i % 2], [0, -128, 11][i % 3]);
            let shapes: Vec<Shape> = sides.iter().map(|&side| axis.with(Shape::new(c, h, w), side)).collect();
            // Every level of the input is another of the output; the last input's stay as they are.
            let affine = |k: usize| QParams::affine(-1.0 - k as f64, 2.0, 8);
            let table_of = |k: usize| Table::of(&affine(k), &affine(1), |x| 0.9 - x);
            let tables: Vec<Option<Table>> =
                (0..sides.len()).map(|k| (tables && (k == 0 || k + 1 < sides.len())).then(|| table_of(k))).collect();
            let levels: Vec<Vec<i8>> =
                shapes.iter().map(|s| packed_pixels(images, *s, 77, || random.integer(-128, 127) as i8)).collect();
            let inputs: Vec<_> =
                shapes.iter().zip(&levels).zip(&tables).map(|((s, x), t)| (*s, x.as_slice(), t.as_ref())).collect();
            let expected = reference(images, axis, zero_point, &inputs);
            let y = device.upload(&vec![0x5a5a_5a5a; expected.len() / 4], "y")?;
            let y_shape = joined(&shapes, axis).ok_or_else(|| Error::bad(format!("{shapes:?} do not go together")))?;
            let mut rec = device.recorder();
            let mut first = 0;
            let mut kept = Vec::new();
            for (shape, x, table) in inputs {
                let mapping = Mapping::new(device, table)?;
                let x = device.upload(&bytemuck::pod_collect_to_vec::<i8, u32>(x), "x")?;
                rec.run(&ConcatI8 {
                    images,
                    x_shape: shape,
                    mapping: &mapping,
                    axis,
                    first,
                    y_shape,
                    zero_point,
                    x: &x,
                    y: &y,
                })?;
                first += axis.of(shape);
                kept.push((mapping, x));
            }
            rec.submit()?;
            let tabled = tables.iter().flatten().count();
            let name = format!("{images}×{y_shape} from {sides:?} along {axis}, {tabled} tables");
            checks.push(compare(name, &expected, &words_of(device, &y)?));
        }
    }
    Ok(checks)
}
