//! A function of one value in integers: each level through a table of 256, `q_y = table[q_x]`; one
//! for all channels, or one for each.
//!
//! Packed int8, NHWC; padded channels of the output are at its zero point.

use rayon::prelude::*;

use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, check_zero_point, compare, outcome, packed_pixels};
use crate::model::{QParams, Shape, Table};
use crate::{Error, Result};

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
    /// Words from one channel's table to the next; 0 where one serves all.
    step: u32,
    /// Fills the struct to 32 bytes.
    unused: [u32; 3],
}

/// Tables on a device: one, or one for each channel.
#[derive(Debug)]
pub struct Entries {
    tables: Vec<Table>,
    words: Buffer,
}

impl Entries {
    /// Uploads a table.
    ///
    /// # Errors
    /// If the device has no memory left.
    pub fn new(device: &Device, table: &Table) -> Result<Self> {
        Self::for_channels(device, std::slice::from_ref(table))
    }

    /// Uploads a table for each channel, or one for all.
    ///
    /// # Errors
    /// If the device has no memory left.
    pub fn for_channels(device: &Device, tables: &[Table]) -> Result<Self> {
        let levels: Vec<i8> = tables.iter().flat_map(|table| table.0.iter().copied()).collect();
        let words = device.upload(&bytemuck::pod_collect_to_vec::<i8, u32>(&levels), "table")?;
        Ok(Self { tables: tables.to_vec(), words })
    }

    /// The table of a channel.
    fn of(&self, channel: usize) -> &Table {
        &self.tables[if self.tables.len() == 1 { 0 } else { channel }]
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
        let (tables, channels) = (self.entries.tables.len(), self.shape.channels);
        if tables != 1 && tables != channels {
            return Err(Error::device(format!("{tables} tables for {channels} channels")));
        }
        check_zero_point(self.zero_point)
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        vec![
            Bound::read("x", self.x, self.words()),
            Bound::read("table", &self.entries.words, TABLE_WORDS * self.entries.tables.len()),
            Bound::write("y", self.y, self.words()),
        ]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let params = Params {
            words: self.words() as u32,
            quads: (self.shape.padded_channels() / 4) as u32,
            channels: self.shape.channels as u32,
            zero_point: self.zero_point,
            step: if self.entries.tables.len() == 1 { 0 } else { TABLE_WORDS as u32 },
            unused: [0; 3],
        };
        Dispatch::of(&SHADER, self.words(), params).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        /// Pixels that one thread takes at a time.
        const PIXELS: usize = 1024;
        let (padded, channels) = (self.shape.padded_channels(), self.shape.channels);
        let (x, mut y, tables) = (self.x.host(), self.y.host_mut(), &self.entries.tables);
        let zero_point = self.zero_point as i8;
        let x: &[i8] = bytemuck::cast_slice(&x[..self.words()]);
        let y: &mut [i8] = bytemuck::cast_slice_mut(&mut y[..self.words()]);
        let chunks = x.par_chunks(PIXELS * padded).zip(y.par_chunks_mut(PIXELS * padded));
        chunks.for_each(|(x, y)| {
            if let [table] = tables.as_slice() {
                x.iter().zip(&mut *y).for_each(|(x, y)| *y = table.get(*x));
            } else {
                for (x, y) in x.chunks_exact(padded).zip(y.chunks_exact_mut(padded)) {
                    x.iter().zip(y).zip(tables).for_each(|((x, y), table)| *y = table.get(*x));
                }
            }
            if padded > channels {
                y.chunks_exact_mut(padded).for_each(|pixel| pixel[channels..].fill(zero_point));
            }
        });
        Ok(())
    }
}

/// The twin: level by level, those of padded channels too.
fn reference(shape: Shape, zero_point: i32, entries: &Entries, x: &[i8]) -> Vec<i8> {
    let padded = shape.padded_channels();
    let level = |(at, q): (usize, &i8)| {
        let channel = at % padded;
        if channel < shape.channels { entries.of(channel).0[(i32::from(*q) + 128) as usize] } else { zero_point as i8 }
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
            let each = |channel: usize| Table::of(&levels, &levels, |x| ((3.0 + channel as f64) * x).sin());
            let each: Vec<Table> = (0..channels).map(each).collect();
            let words = device.upload(&bytemuck::pod_collect_to_vec::<i8, u32>(&x), "x")?;
            for entries in [Entries::new(device, &table)?, Entries::for_channels(device, &each)?] {
                let expected = reference(shape, zero_point, &entries, &x);
                let got = outcome(device, expected.len() / 4, |rec, y| {
                    rec.run(&LookupI8 { images, shape, entries: &entries, zero_point, x: &words, y })
                })?;
                let name = format!("{images}×{shape}, zero point {zero_point}, {} tables", entries.tables.len());
                checks.push(compare(name, &expected, &got));
            }
        }
    }
    Ok(checks)
}
