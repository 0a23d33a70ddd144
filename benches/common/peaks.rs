//! What a device can do at most, measured: multiplications and additions of f32, dot products of
//! int8, memory.
//!
//! GPU: kernels of 16 independent chains of `fma`, or of `dot4I8Packed`, and a copy. Cpu device:
//! products of 1024×1024 matrices by the crate that its convolutions use, and a copy by all
//! threads.

use std::collections::HashMap;
use std::time::Instant;

use rayon::prelude::*;
use repquant::Device;
use repquant::internals::{CopyQuads, Dot, MultiplyAdd, Random, Run, alloc};
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_tensor::NdTensorView;

use super::table::{Table, number, percent};
use super::{Speed, repeat, speed};

/// Side of the matrices.
const SIDE: usize = 1024;

/// Something to time.
pub(crate) struct Load<'d> {
    /// What it does.
    pub(crate) name: &'static str,
    /// Operations, or bytes read and written, of one run. A multiplication and an addition are two.
    pub(crate) work: f64,
    /// Whether `work` is bytes.
    pub(crate) is_memory: bool,
    /// Runs it so many times.
    pub(crate) run: Box<dyn Fn(u64) + 'd>,
}

/// The three loads: f32, int8, memory.
pub(crate) fn loads(device: &Device) -> [Load<'_>; 3] {
    match speed(device) {
        Speed::Native => native_loads(),
        speed => gpu_loads(device, speed),
    }
}

fn native_loads<'d>() -> [Load<'d>; 3] {
    const FITS: &str = "the matrices fit";
    let mut random = Random::new(1);
    let products = 2.0 * (SIDE * SIDE * SIDE) as f64;
    let (a, b) = (random.floats(SIDE * SIDE), random.floats(SIDE * SIDE));
    let gemm = GemmExecutor::<f32>::default();
    let b = gemm.prepack_b(NdTensorView::from_data([SIDE, SIDE], b.as_slice()));
    let f32_product = move |times| {
        let mut y = vec![0.0; SIDE * SIDE];
        for _ in 0..times {
            let a = GemmInputA::Unpacked(NdTensorView::from_data([SIDE, SIDE], a.as_slice()));
            gemm.gemm(&mut y, a, GemmInputB::Packed(&b), GemmOptions::default()).expect(FITS);
        }
    };
    let a: Vec<u8> = (0..SIDE * SIDE).map(|_| random.integer(0, 255) as u8).collect();
    let b: Vec<i8> = (0..SIDE * SIDE).map(|_| random.integer(-127, 127) as i8).collect();
    let gemm = GemmExecutor::<u8, i8, i32>::new();
    let b = gemm.prepack_b(NdTensorView::from_data([SIDE, SIDE], b.as_slice()));
    let int8_product = move |times| {
        let mut y = vec![0; SIDE * SIDE];
        for _ in 0..times {
            let a = GemmInputA::Unpacked(NdTensorView::from_data([SIDE, SIDE], a.as_slice()));
            gemm.gemm(&mut y, a, GemmInputB::Packed(&b), GemmOptions::default()).expect(FITS);
        }
    };
    // Beyond any cache.
    let words = 64 << 20;
    let (from, to) = (vec![1u32; words], std::cell::RefCell::new(vec![0u32; words]));
    let copy = move |times| {
        for _ in 0..times {
            let mut to = to.borrow_mut();
            let chunks = from.par_chunks(1 << 18).zip(to.par_chunks_mut(1 << 18));
            chunks.for_each(|(from, to)| to.copy_from_slice(from));
        }
    };
    [
        Load { name: "f32, a product of 1024³", work: products, is_memory: false, run: Box::new(f32_product) },
        Load { name: "int8, a product of 1024³", work: products, is_memory: false, run: Box::new(int8_product) },
        Load { name: "memory, a copy of 256 MiB", work: 8.0 * words as f64, is_memory: true, run: Box::new(copy) },
    ]
}

fn gpu_loads(device: &Device, speed: Speed) -> [Load<'_>; 3] {
    let (results, rounds, quads): (usize, u32, usize) = match speed {
        Speed::Gpu => (2 << 20, 512, 32 << 20),
        _ => (32 << 10, 256, 2 << 20),
    };
    // 16 chains of `fma` on vec4, or of dot products of 4 pairs.
    let operations = 16.0 * 8.0 * f64::from(rounds) * results as f64;
    let memory = "the device has memory";
    let (chains, sums) = (alloc(device, results).expect(memory), alloc(device, results).expect(memory));
    let seed = 0x7F03_8105;
    let multiply_add = move |times| {
        repeat(device, times, |rec| MultiplyAdd { results, rounds, seed, y: &chains }.run(rec));
    };
    let dot = move |times| repeat(device, times, |rec| Dot { results, rounds, seed, y: &sums }.run(rec));
    let most = device.adapter().map_or(u64::MAX, |adapter| adapter.max_binding_bytes.min(adapter.max_buffer_bytes));
    let quads = quads.min((most / 16) as usize);
    let (from, to) = (alloc(device, 4 * quads).expect(memory), alloc(device, 4 * quads).expect(memory));
    let copy = move |times| repeat(device, times, |rec| CopyQuads { quads, x: &from, y: &to }.run(rec));
    let load = |name, work, is_memory, run| Load { name, work, is_memory, run };
    [
        load("f32, chains of fma", operations, false, Box::new(multiply_add)),
        load("int8, chains of dot4I8Packed", operations, false, Box::new(dot)),
        load("memory, a copy", 32.0 * quads as f64, true, Box::new(copy)),
    ]
}

/// What bounds a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Operations of f32.
    F32,
    /// Operations of int8.
    Int8,
    /// Bytes read and written.
    Memory,
}

/// Operations and bytes a second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peaks([f64; 3]);

impl Peaks {
    /// The best of several short runs: whatever disturbs one makes it slower, never faster.
    pub(crate) fn measure(device: &Device) -> Self {
        const RUNS: usize = 12;
        Self(loads(device).map(|load| {
            (load.run)(1);
            let best = (0..RUNS).map(|_| {
                let start = Instant::now();
                (load.run)(2);
                start.elapsed().as_secs_f64() / 2.0
            });
            load.work / best.fold(f64::INFINITY, f64::min)
        }))
    }

    /// The fraction of the peak that `rate` is.
    fn fraction(&self, bound: Bound, rate: f64) -> f64 {
        rate / self.0[bound as usize]
    }
}

/// Rows of a table whose last column is the fraction of a peak. The peaks are measured before the
/// first row and after the last one, and the better ones count: the machine may be busy with
/// something else at either time.
pub(crate) struct PeakTable<'d> {
    device: &'d Device,
    before: Peaks,
    rows: Vec<(Vec<String>, Bound, f64)>,
}

impl<'d> PeakTable<'d> {
    /// No rows yet.
    pub(crate) fn new(device: &'d Device) -> Self {
        Self { device, before: Peaks::measure(device), rows: Vec::new() }
    }

    /// Adds a row; `rate` is in operations or bytes a second.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>, bound: Bound, rate: f64) {
        self.rows.push((cells.into_iter().collect(), bound, rate));
    }

    /// Writes the rows bound by operations to the first table, the others to the second. Gives the
    /// fractions of all rows by the names in their first cells.
    pub(crate) fn finish(self, mut operations: Table, mut memory: Table) -> HashMap<String, f64> {
        let mut fractions = HashMap::new();
        if self.rows.is_empty() {
            return fractions;
        }
        let after = Peaks::measure(self.device);
        let best = Peaks(std::array::from_fn(|i| self.before.0[i].max(after.0[i])));
        for (mut cells, bound, rate) in self.rows {
            let fraction = best.fraction(bound, rate);
            fractions.insert(cells[0].clone(), fraction);
            cells.push(percent(fraction));
            if bound == Bound::Memory { memory.row(cells) } else { operations.row(cells) }
        }
        let [f32, int8, bytes] = best.0.map(|peak| number(peak / 1e9));
        operations.note(format!("Peaks: f32 {f32} GOP/s, int8 {int8} GOP/s."));
        memory.note(format!("Peak: {bytes} GB/s."));
        operations.finish();
        memory.finish();
        fractions
    }
}
