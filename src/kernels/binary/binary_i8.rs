//! Sums, differences and products of two activations in integers: see [`QBinary`] for the
//! arithmetic.
//!
//! Packed int8, NHWC. A side of 1 of either operand serves all of the other's (C×1×1 scales of
//! channels, 1×H×W masks); padded channels of the output are at its zero point.

use rayon::prelude::*;

use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, compiled_for_tiers, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, OutputLevels, check_right_shift, check_zero_point, compare, outcome, packed_pixels};
use crate::model::{Multiplier, QBinary, Shape, broadcast};
use crate::{Error, Result};

/// `binary_i8.wgsl`.
pub(crate) static SHADER: Shader = shader!("binary_i8");

/// Where an operand's words lie, and what becomes of its levels.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Operand {
    /// Words from one image to the next.
    image: u32,
    /// Words from one row to the next; 0 where one serves all.
    row: u32,
    /// Words from one column to the next; 0 where one serves all.
    column: u32,
    /// Words from four channels to the next; 0 where one channel serves all.
    quad: u32,
    /// 1 where one channel serves all.
    single: u32,
    /// The level of real 0.
    zero_point: i32,
    /// `M` of a sum; of a product in the first operand alone.
    multiplier: i32,
    /// Fills the struct to 32 bytes.
    unused: u32,
}

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// The first operand.
    a: Operand,
    /// The second.
    b: Operand,
    /// Images in the batch.
    images: u32,
    /// Rows of the output.
    height: u32,
    /// Its columns.
    width: u32,
    /// Its channels, without padding.
    channels: u32,
    /// 1: a product.
    product: u32,
    /// `n`.
    right_shift: u32,
    /// The output's zero point.
    zero_point: i32,
    /// Its lowest level.
    low: i32,
    /// Its highest level.
    high: i32,
    /// Fills the struct to 112 bytes.
    unused: [u32; 3],
}

/// An operand as the caller has it: its shape, zero point and buffer.
#[derive(Debug, Clone, Copy)]
pub struct Levels<'a> {
    /// Shape of one image's activation.
    pub shape: Shape,
    /// The level of real 0.
    pub zero_point: i32,
    /// Packed int8.
    pub buffer: &'a Buffer,
}

impl Operand {
    fn new(shape: Shape, zero_point: i32, multiplier: i32, y: Shape) -> Self {
        let quads = shape.padded_channels() as u32 / 4;
        let step = |side: usize, step: u32| if side == 1 { 0 } else { step };
        let single = shape.channels == 1 && y.channels > 1;
        Self {
            image: shape.pixels() as u32 * quads,
            row: step(shape.height, shape.width as u32 * quads),
            column: step(shape.width, quads),
            quad: u32::from(!single),
            single: u32::from(single),
            zero_point,
            multiplier,
            unused: 0,
        }
    }

    /// Whether a row of the output reads a row of this operand, level by level.
    fn keeps_rows(&self, y: &Params) -> bool {
        self.single == 0 && (self.column > 0 || y.width == 1)
    }
}

/// `y = a ∘ b`, in levels.
pub struct BinaryI8<'a> {
    /// Images in the batch.
    pub images: usize,
    /// The function, with its constants.
    pub binary: QBinary,
    /// The operands.
    pub operands: [Levels<'a>; 2],
    /// The output's levels.
    pub levels: OutputLevels,
    /// Packed int8.
    pub y: &'a Buffer,
}

impl BinaryI8<'_> {
    fn words(&self, shape: Shape) -> usize {
        self.images * shape.padded_len() / 4
    }

    /// Of the result; empty where the operands do not go together, which `check` refuses.
    fn y_shape(&self) -> Shape {
        let [a, b] = self.operands;
        broadcast(a.shape, b.shape).unwrap_or(Shape::new(0, 0, 0))
    }

    /// Whether it is a product, the multipliers, and the right shift.
    fn constants(&self) -> (bool, [i32; 2], u8) {
        match self.binary {
            QBinary::Sum { multipliers, right_shift } => (false, multipliers, right_shift),
            QBinary::Product(m) => (true, [m.multiplier, 0], m.right_shift),
        }
    }

    fn params(&self) -> Params {
        let ([a, b], y) = (self.operands, self.y_shape());
        let (product, [m_a, m_b], right_shift) = self.constants();
        Params {
            a: Operand::new(a.shape, a.zero_point, m_a, y),
            b: Operand::new(b.shape, b.zero_point, m_b, y),
            images: self.images as u32,
            height: y.height as u32,
            width: y.width as u32,
            channels: y.channels as u32,
            product: product.into(),
            right_shift: u32::from(right_shift),
            zero_point: self.levels.zero_point,
            low: self.levels.low,
            high: self.levels.high,
            unused: [0; 3],
        }
    }
}

impl Kernel for BinaryI8<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn check(&self) -> Result<()> {
        let [a, b] = self.operands;
        if broadcast(a.shape, b.shape).is_none() {
            return Err(Error::device(format!("operands of {} and {} do not go together", a.shape, b.shape)));
        }
        self.operands.iter().try_for_each(|x| check_zero_point(x.zero_point))?;
        self.levels.check()?;
        check_right_shift(self.constants().2)
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        let [a, b] = self.operands;
        vec![
            Bound::read("a", a.buffer, self.words(a.shape)),
            Bound::read("b", b.buffer, self.words(b.shape)),
            Bound::write("y", self.y, self.words(self.y_shape())),
        ]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        Dispatch::of(&SHADER, self.words(self.y_shape()), self.params()).into_iter()
    }

    fn native(&self, tier: Tier) -> Result<()> {
        let [a, b] = self.operands;
        let (a, b, mut y) = (a.buffer.host(), b.buffer.host(), self.y.host_mut());
        let y = bytemuck::cast_slice_mut(&mut y[..self.words(self.y_shape())]);
        native(tier, &self.params(), bytemuck::cast_slice(&a), bytemuck::cast_slice(&b), y);
        Ok(())
    }
}

/// Rows in parallel: each at once where both operands have its levels in order, else pixel by
/// pixel.
fn native(tier: Tier, p: &Params, a: &[i8], b: &[i8], y: &mut [i8]) {
    let (width, height) = (p.width as usize, p.height as usize);
    let padded = p.channels.next_multiple_of(4) as usize;
    let at_once = if p.a.keeps_rows(p) && p.b.keeps_rows(p) { width } else { 1 };
    let copies = || [Vec::new(), Vec::new()];
    y.par_chunks_mut(width * padded).enumerate().for_each_init(copies, |[copy_a, copy_b], (row, y)| {
        let (image, row) = (row / height, row % height);
        for (i, y) in y.chunks_exact_mut(at_once * padded).enumerate() {
            let base =
                |o: &Operand| 4 * (image * o.image as usize + row * o.row as usize + i * at_once * o.column as usize);
            let a = served(&p.a, p.channels, &a[base(&p.a)..], y.len(), copy_a);
            let b = served(&p.b, p.channels, &b[base(&p.b)..], y.len(), copy_b);
            compiled_levels(tier, p, a, b, y);
        }
    });
}

/// `count` levels from the first of `x` on; where one channel serves all, it is copied to all of
/// them.
fn served<'a>(operand: &Operand, channels: u32, x: &'a [i8], count: usize, copy: &'a mut Vec<i8>) -> &'a [i8] {
    if operand.single == 0 {
        return &x[..count];
    }
    copy.clear();
    copy.resize(channels as usize, x[0]);
    copy.resize(count, operand.zero_point as i8);
    copy
}

/// Level by level; padded channels of both are at their zero points, and so come out at the
/// output's.
#[inline(always)]
fn levels(p: &Params, a: &[i8], b: &[i8], y: &mut [i8]) {
    let (zero, low, high) = (i64::from(p.zero_point), i64::from(p.low), i64::from(p.high));
    let (m_a, m_b) = (i64::from(p.a.multiplier), i64::from(p.b.multiplier));
    let half = 1i64 << (p.right_shift - 1);
    let level = |scaled: i64| (zero + ((scaled + half) >> p.right_shift)).clamp(low, high) as i8;
    let pairs = a.iter().zip(b).map(|(a, b)| (i32::from(*a) - p.a.zero_point, i32::from(*b) - p.b.zero_point));
    if p.product == 0 {
        for (y, (a, b)) in y.iter_mut().zip(pairs) {
            *y = level(i64::from(a) * m_a + i64::from(b) * m_b);
        }
    } else {
        for (y, (a, b)) in y.iter_mut().zip(pairs) {
            *y = level(i64::from(a * b) * m_a);
        }
    }
}

compiled_for_tiers! {
    fn compiled_levels(p: &Params, a: &[i8], b: &[i8], y: &mut [i8]) = levels;
}

/// The twin: levels of every image and padded channel. An operand is its shape, zero point and
/// levels.
///
/// # Panics
/// If the operands do not go together: an error of the caller.
pub(crate) fn reference(
    images: usize,
    binary: &QBinary,
    operands: [(Shape, i32, &[i8]); 2],
    output: &OutputLevels,
) -> Vec<i8> {
    let shape = broadcast(operands[0].0, operands[1].0).expect("operands that go together");
    let mut y = Vec::new();
    for (image, row, column) in (0..images)
        .flat_map(|i| (0..shape.height).flat_map(move |row| (0..shape.width).map(move |column| (i, row, column))))
    {
        for c in 0..shape.padded_channels() {
            let steps = |(shape, zero_point, x): (Shape, i32, &[i8])| {
                let at = |place: usize, side: usize| if side == 1 { 0 } else { place };
                let pixel = (image * shape.height + at(row, shape.height)) * shape.width + at(column, shape.width);
                i128::from(x[pixel * shape.padded_channels() + at(c, shape.channels)]) - i128::from(zero_point)
            };
            let scaled = |[a, b]: [i128; 2]| match *binary {
                QBinary::Sum { multipliers: [m_a, m_b], right_shift } => {
                    (a * i128::from(m_a) + b * i128::from(m_b), right_shift)
                }
                QBinary::Product(m) => (a * b * i128::from(m.multiplier), m.right_shift),
            };
            // To the nearest, ties upwards: floor(scaled / 2^n + 1/2).
            let rounded = |(scaled, n): (i128, u8)| (2 * scaled + (1 << n)).div_euclid(2 << n);
            let level = i128::from(output.zero_point)
                + if c < shape.channels { rounded(scaled(operands.map(steps))) } else { 0 };
            y.push(level.clamp(i128::from(output.low), i128::from(output.high)) as i8);
        }
    }
    y
}

/// Pairs of operands, channels, rows, columns: the same shape, and every kind of side that serves
/// all.
const SHAPES: [[[usize; 3]; 2]; 14] = [
    [[1, 1, 1], [1, 1, 1]],
    [[2, 3, 5], [2, 3, 5]],
    [[3, 4, 4], [3, 4, 4]],
    [[4, 7, 3], [4, 1, 1]],
    [[5, 1, 1], [5, 6, 2]],
    [[6, 5, 3], [1, 5, 3]],
    [[1, 2, 9], [7, 2, 9]],
    [[7, 3, 4], [7, 3, 1]],
    [[8, 3, 4], [8, 1, 4]],
    [[9, 5, 1], [1, 1, 6]],
    [[1, 1, 1], [11, 3, 3]],
    [[65, 3, 2], [65, 3, 2]],
    [[33, 9, 8], [33, 1, 1]],
    [[16, 1, 5], [16, 4, 1]],
];

/// Compares with the twin, to the bit.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(21);
    let mut checks = Vec::new();
    for (i, shapes) in SHAPES.into_iter().enumerate() {
        let [a_shape, b_shape] = shapes.map(|[channels, height, width]| Shape::new(channels, height, width));
        for mode in 0..6 {
            let images = [1, 3][(i + mode) % 2];
            let [z_a, z_b] = [[0, 0], [-128, 127], [19, -3]][random.integer(0, 2) as usize];
            let mut random_levels = |shape, z| packed_pixels(images, shape, z, || random.integer(-128, 127) as i8);
            let (a, b) = (random_levels(a_shape, z_a), random_levels(b_shape, z_b));
            let binary = case(mode, &mut random);
            let levels = [
                OutputLevels { zero_point: 0, low: -127, high: 127 },
                OutputLevels { zero_point: -128, low: -128, high: 127 },
                OutputLevels { zero_point: 5, low: 5, high: 100 },
            ][random.integer(0, 2) as usize];
            let expected = reference(images, &binary, [(a_shape, z_a, &a), (b_shape, z_b, &b)], &levels);
            let upload = |x: &[i8]| device.upload(&bytemuck::pod_collect_to_vec::<i8, u32>(x), "x");
            let (a, b) = (upload(&a)?, upload(&b)?);
            let operands = [
                Levels { shape: a_shape, zero_point: z_a, buffer: &a },
                Levels { shape: b_shape, zero_point: z_b, buffer: &b },
            ];
            let got = outcome(device, expected.len() / 4, |rec, y| {
                rec.run(&BinaryI8 { images, binary, operands, levels, y })
            })?;
            let name = format!("{images}×({a_shape} and {b_shape}), {binary:?}, zero points {z_a} and {z_b}");
            checks.push(compare(name, &expected, &got));
        }
    }
    Ok(checks)
}

/// Sums, differences and products: such that the results spread over the levels, with ties, and at
/// the ends of what multipliers and shifts can be.
fn case(mode: usize, random: &mut Random) -> QBinary {
    let mut scaled = |bits: i64| random.integer(1 << (bits - 1), (1 << bits) - 1) as i32;
    match mode {
        0 => QBinary::Sum { multipliers: [scaled(30), scaled(29)], right_shift: 30 },
        // A half and a quarter: ties.
        1 => QBinary::Sum { multipliers: [1 << 29, -(1 << 28)], right_shift: 30 },
        2 => QBinary::Sum { multipliers: [-scaled(31), scaled(12)], right_shift: [62, 1, 33][scaled(8) as usize % 3] },
        3 => QBinary::Sum { multipliers: [i32::MAX, i32::MIN], right_shift: 32 },
        4 => QBinary::Product(Multiplier { multiplier: scaled(31), right_shift: 37 }),
        _ => QBinary::Product(Multiplier { multiplier: 1 << 30, right_shift: [38, 62, 1][scaled(8) as usize % 3] }),
    }
}
