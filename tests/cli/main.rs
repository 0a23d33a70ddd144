//! The command as a user runs it: its output, its exit codes, what it leaves behind.

#[path = "../common/mod.rs"]
mod common;

mod adapter;
mod analyze;
mod bad_input;
mod bad_output;
mod commands;
mod examples;
mod export;
mod labels;
mod onnx_in;
mod overflow;
mod preprocessing;
mod profile;
mod reference_models;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use common::checkpoints::{Checkpoint, description_json};

/// A folder with a small model and images, in which commands are run on the Cpu device.
struct Bench {
    folder: tempfile::TempDir,
}

/// What a command did.
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Bench {
    /// A multi-branch `RepVGG` as `m.safetensors`, 12 images in `calib`, 6 in `val/cat` and 6 in
    /// `val/dog`.
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        bench.model("m", &Checkpoint::repvgg());
        for i in 0..12 {
            bench.image(&format!("calib/{i:02}.png"), 10 + i, 12, i);
            bench.image(&format!("val/{}/{i:02}.png", ["cat", "dog"][i as usize % 2]), 12, 10 + i, 100 + i);
        }
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn model(&self, name: &str, checkpoint: &Checkpoint) {
        self.write(&format!("{name}.safetensors"), &checkpoint.bytes());
        self.write(&format!("{name}.json"), description_json("repvgg", "[1, 2, 1]").as_bytes());
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// A picture of uneven colours.
    fn image(&self, name: &str, width: u32, height: u32, seed: u32) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let pixel = |x: u32, y: u32| {
            let v = (x * 31 + y * 17 + seed * 101).wrapping_mul(2_654_435_761) >> 16;
            image::Rgb([v as u8, (v >> 3) as u8, (x * 20 + seed) as u8])
        };
        image::RgbImage::from_fn(width, height, pixel).save(path).unwrap();
    }

    /// Runs `repquant` with these words (split at blanks) in the folder, a command that runs something
    /// on the Cpu device unless they name another.
    fn run(&self, words: &str) -> Run {
        self.run_with(&[], words)
    }

    /// [`Bench::run`] with these environment variables.
    fn run_with(&self, variables: &[(&str, &str)], words: &str) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_repquant"));
        command.envs(variables.iter().copied());
        command.current_dir(self.folder.path()).args(words.split_whitespace());
        let runs = ["demo", "quantize", "calibrate", "evaluate", "verify"];
        let first = words.split_whitespace().next().unwrap_or_default();
        if runs.contains(&first) && !words.contains("--device") && !words.contains("--help") {
            command.args(["--device", "cpu"]);
        }
        let output = command.output().unwrap();
        Run {
            code: output.status.code().expect("it was not killed"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Every file in the folder and what is in it, for checking that nothing was left behind or
    /// touched.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn walk(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                } else {
                    let bytes = std::fs::read(&path).unwrap();
                    found.insert(path, bytes);
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(self.folder.path(), &mut found);
        found
    }

    /// Fails if a file came, went or changed since `before`.
    #[track_caller]
    fn assert_untouched(&self, before: &BTreeMap<PathBuf, Vec<u8>>, words: &str) {
        let after = self.files();
        let differs = |path: &&PathBuf| before.get(*path) != after.get(*path);
        let touched: Vec<&PathBuf> =
            before.keys().chain(after.keys().filter(|path| !before.contains_key(*path))).filter(differs).collect();
        assert!(touched.is_empty(), "{words}: these came, went or changed: {touched:?}");
    }

    /// Runs a command that must fail: with this exit code, a message that has each of `parts`, no
    /// panic, nothing on stdout, and every file as it was before.
    #[track_caller]
    fn fails(&self, words: &str, code: i32, parts: &[&str]) {
        let before = self.files();
        let run = self.run(words);
        assert_eq!(run.code, code, "{words}\n{}", run.stderr);
        assert!(!run.stderr.contains("panicked"), "{words}\n{}", run.stderr);
        assert!(run.stdout.is_empty(), "{words}\n{}", run.stdout);
        for part in parts {
            assert!(run.stderr.contains(part), "{words}: no `{part}` in\n{}", run.stderr);
        }
        self.assert_untouched(&before, words);
    }
}

impl Run {
    /// The run, which must have succeeded.
    #[track_caller]
    fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self
    }

    /// The one JSON document on stdout.
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }
}
