//! A function of one value in integers: each level through a table of 256, `q_y = table[q_x]`.
//!
//! Packed int8, NHWC; padded channels of the output are at its zero point.

use rayon::prelude::*;

use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, check_zero_point, compare, outcome, packed_pixels};
use crate::model::{QParams, Shape, Table};

/// `lookup_i8.wgsl`.
pub(crate) static SHADER: Shader = shader!("lookup_i8");

/// Words of a table's 256 entries, four to a word, that of level −128 first.
const TABLE_WORDS: usize = 64;

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Words of the batch.
    words: u32,
    /// Words of a pixel.
    quads: u32,
    /// Channels, without padding.
    channels: u32,
    /// The output's level of real 0.
    zero_point: i32,
}

/// A table on a device.
#[derive(Debug)]
pub struct Entries {
    table: Table,
    words: Buffer,
}

impl Entries {
    /// Uploads a table.
    ///
    /// # Errors
    /// If the device has no memory left.
    pub fn new(device: &Device, table: &Table) -> Result<Self> {
        let words = device.upload(&bytemuck::pod_collect_to_vec::<i8, u32>(&table.0[..]), "table")?;
        Ok(Self { table: table.clone(), words })
    }
}

/// `y = table[x]`.
pub struct LookupI8<'a> {
    /// Images in the batch.
    pub images: usize,
    /// Shape of one image's activation.
    pub shape: Shape,
    /// The table.
    pub entries: &'a Entries,
    /// The output's level of real 0.
    pub zero_point: i32,
    /// Packed int8.
    pub x: &'a Buffer,
    /// Packed int8.
    pub y: &'a Buffer,
}

impl LookupI8<'_> {
    fn words(&self) -> usize {
        self.images * self.shape.padded_len() / 4
    }
}

impl Kernel for LookupI8<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn check(&self) -> Result<()> {
        check_zero_point(self.zero_point)
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        vec![
            Bound::read("x", self.x, self.words()),
            Bound::read("table", &self.entries.words, TABLE_WORDS),
            Bound::write("y", self.y, self.words()),
        ]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let params = Params {
            words: self.words() as u32,
            quads: (self.shape.padded_channels() / 4) as u32,
            channels: self.shape.channels as u32,
            zero_point: self.zero_point,
        };
        Dispatch::of(&SHADER, self.words(), params).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        /// Pixels that one thread takes at a time.
        const PIXELS: usize = 1024;
        let (padded, channels) = (self.shape.padded_channels(), self.shape.channels);
        let (x, mut y, table) = (self.x.host(), self.y.host_mut(), &self.entries.table);
        let zero_point = self.zero_point as i8;
        let x: &[i8] = bytemuck::cast_slice(&x[..self.words()]);
        let y: &mut [i8] = bytemuck::cast_slice_mut(&mut y[..self.words()]);
        let chunks = x.par_chunks(PIXELS * padded).zip(y.par_chunks_mut(PIXELS * padded));
        chunks.for_each(|(x, y)| {
            x.iter().zip(&mut *y).for_each(|(x, y)| *y = table.get(*x));
            if padded > channels {
                y.chunks_exact_mut(padded).for_each(|pixel| pixel[channels..].fill(zero_point));
            }
        });
        Ok(())
    }
}

/// The twin: level by level, those of padded channels too.
fn reference(shape: Shape, zero_point: i32, table: &Table, x: &[i8]) -> Vec<i8> {
    let padded = shape.padded_channels();
    let level = |(at, q): (usize, &i8)| {
        if at % padded < shape.channels { table.0[(i32::from(*q) + 128) as usize] } else { zero_point as i8 }
    };
    x.iter().enumerate().map(level).collect()
}

/// Compares with the twin, to the bit.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(28);
    let mut checks = Vec::new();
    let shapes = [[1, 1, 1], [6, 3, 5], [8, 4, 3], [7, 17, 1], [130, 9, 8]];
    for (i, [channels, height, width]) in shapes.into_iter().enumerate() {
        for zero_point in [0, -128, 11] {
            let (images, shape) = ([1, 3][i % 2], Shape::new(channels, height, width));
            // Every level becomes another, in no order.
            let levels = QParams::affine(-1.0 - i as f64, 2.0, 8);
            let table = Table::of(&levels, &QParams::affine(-1.0, 1.0, 8), |x| (7.0 * x).sin());
            let x = packed_pixels(images, shape, 77, || random.integer(-128, 127) as i8);
            let expected = reference(shape, zero_point, &table, &x);
            let entries = Entries::new(device, &table)?;
            let x = device.upload(&bytemuck::pod_collect_to_vec::<i8, u32>(&x), "x")?;
            let got = outcome(device, expected.len() / 4, |rec, y| {
                rec.run(&LookupI8 { images, shape, entries: &entries, zero_point, x: &x, y })
            })?;
            checks.push(compare(format!("{images}×{shape}, zero point {zero_point}"), &expected, &got));
        }
    }
    Ok(checks)
}
