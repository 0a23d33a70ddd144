//! Damages ONNX files at random and reads them: each must be read or refused, without a panic and
//! without delay.
//!
//!     cargo run --release --example fuzz_onnx -- SECONDS [SEED]
//!
//! It starts from the small files of `tests/main/load/onnx_cases.safetensors`. A file that makes it
//! fail is written to `fuzz_onnx.onnx`, and the exit code is 1.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use repquant::internals::Random;
use repquant::internals::load::onnx::read_bytes;
use safetensors::SafeTensors;

/// Longer than that for a file of some kilobytes is a failure.
const SLOW: Duration = Duration::from_secs(5);

/// Numbers at the ends of what protobuf and shapes can hold.
const ENDS: [&[u8]; 6] = [&[0], &[1], &[0x7f], &[0xff; 9], &[0xff, 0xff, 0xff, 0xff, 7], &[0x80, 0x80, 4]];

fn damaged(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len());
    let end = (at + 1 + random.below(16)).min(bytes.len());
    match random.below(8) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.below(256) as u8,
        // One more or less: a length, an operator's letter, an axis.
        2 => bytes[at] = bytes[at].wrapping_add(if random.below(2) == 0 { 1 } else { 255 }),
        3 => drop(bytes.drain(at..end)),
        4 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
        5 => drop(bytes.splice(at..=at, ENDS[random.below(ENDS.len())].iter().copied())),
        6 => {
            let other = &others[random.below(others.len())];
            let from = random.below(other.len());
            let part = &other[from..(from + 1 + random.below(64)).min(other.len())];
            drop(bytes.splice(at..(at + part.len()).min(bytes.len()), part.iter().copied()));
        }
        _ => bytes.truncate(at.max(1)),
    }
    if bytes.is_empty() {
        bytes.push(0);
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let (Some(Ok(seconds)), Ok(seed)) = (arguments.next(), arguments.next().unwrap_or(Ok(1))) else {
        eprintln!("usage: fuzz_onnx SECONDS [SEED]");
        return ExitCode::from(2);
    };
    let cases =
        SafeTensors::deserialize(include_bytes!("../tests/main/load/onnx_cases.safetensors")).expect("whole cases");
    let files: Vec<Vec<u8>> = cases
        .tensors()
        .iter()
        .filter(|(n, _)| n.strip_suffix(".model").is_some())
        .map(|(_, t)| t.data().to_vec())
        .collect();
    let mut random = Random::new(seed);
    let (start, mut tried, mut read, mut slowest) = (Instant::now(), 0u64, 0u64, Duration::ZERO);
    while start.elapsed().as_secs() < seconds {
        let mut bytes = files[random.below(files.len())].clone();
        for _ in 0..=random.below(4) {
            damaged(&mut bytes, &files, &mut random);
        }
        let begin = Instant::now();
        let result =
            std::panic::catch_unwind(|| read_bytes("fuzz", &bytes).map(|graph| (graph.check(), graph.digest())));
        let took = begin.elapsed();
        slowest = slowest.max(took);
        tried += 1;
        let fine = match &result {
            Ok(Ok((check, _))) => {
                read += 1;
                check.is_ok()
            }
            Ok(Err(_)) => true,
            Err(_) => false,
        };
        if !fine || took > SLOW {
            eprintln!("file {tried} of seed {seed} failed after {took:?}; it is fuzz_onnx.onnx");
            if let Err(error) = std::fs::write("fuzz_onnx.onnx", &bytes) {
                eprintln!("which could not be written: {error}");
            }
            return ExitCode::FAILURE;
        }
    }
    println!("{tried} files, {read} of them read, the others refused; the slowest took {slowest:?}");
    ExitCode::SUCCESS
}
