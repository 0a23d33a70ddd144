//! ONNX Runtime, in a Python process.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use repquant::internals::export::onnx::{InputForm, OnnxFile};
use serde_json::{Value, json};

use crate::common::skipped;

/// A process that runs ONNX files (`run.py`).
pub(crate) struct Runtime {
    child: Child,
    jobs: ChildStdin,
    answers: BufReader<ChildStdout>,
    folder: tempfile::TempDir,
}

/// What a file gave.
pub(crate) struct Answer {
    /// Bytes of the tensors asked for.
    pub(crate) tensors: BTreeMap<String, Vec<u8>>,
    /// Their numbers' types.
    pub(crate) types: BTreeMap<String, String>,
    /// The file's metadata.
    pub(crate) metadata: BTreeMap<String, String>,
    /// Its operators.
    pub(crate) operators: Vec<String>,
    /// Its operations' names.
    pub(crate) names: Vec<String>,
    /// The operators after ONNX Runtime's optimizations.
    pub(crate) optimized: Vec<String>,
}

impl Runtime {
    /// Starts Python; None (and a word about it) where `REPQUANT_PYTHON` names none.
    pub(crate) fn start() -> Option<Self> {
        let Some(python) = std::env::var_os("REPQUANT_PYTHON") else {
            skipped("REPQUANT_PYTHON is not set; `make test` makes one with ONNX Runtime");
            return None;
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/run.py");
        let mut child = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the Python of REPQUANT_PYTHON starts");
        let (jobs, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Some(Self { child, jobs, answers, folder: tempfile::tempdir().unwrap() })
    }

    /// Checks a file, runs it on `pixels` (images of 3 × height × width bytes), and gives
    /// `tensors`.
    pub(crate) fn run(
        &mut self,
        file: &OnnxFile,
        input: InputForm,
        pixels: &[u8],
        count: usize,
        tensors: &[String],
    ) -> Answer {
        std::fs::write(self.folder.path().join("model.onnx"), &file.bytes).unwrap();
        let input = if input == InputForm::Pixels { "pixels" } else { "normalized" };
        self.answer(&self.folder.path().join("model.onnx"), input, pixels, count, 50, tensors)
    }

    /// Runs a file of another program, image by image, on `values` (3 × height × width for each
    /// image).
    pub(crate) fn run_floats(&mut self, file: &Path, values: &[f32], count: usize, tensors: &[String]) -> Answer {
        self.answer(file, "floats", bytemuck::cast_slice(values), count, 1, tensors)
    }

    fn answer(
        &mut self,
        file: &Path,
        input: &str,
        bytes: &[u8],
        count: usize,
        batch: usize,
        tensors: &[String],
    ) -> Answer {
        let path = |name: &str| self.folder.path().join(name);
        std::fs::write(path("pixels"), bytes).unwrap();
        let paths: BTreeMap<&String, PathBuf> =
            tensors.iter().enumerate().map(|(i, name)| (name, path(&format!("tensor-{i}")))).collect();
        let job = json!({"model": file, "input": input, "pixels": path("pixels"), "count": count, "batch": batch,
            "tensors": paths});
        writeln!(self.jobs, "{job}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).expect("an answer");
        assert!(answer.get("error").is_none(), "{}", answer["error"]);
        let words = |key: &str| serde_json::from_value(answer[key].clone()).unwrap();
        let of = |name: &String| answer["tensors"][name]["type"].as_str().unwrap().to_owned();
        Answer {
            tensors: paths.iter().map(|(name, path)| ((*name).clone(), std::fs::read(path).unwrap())).collect(),
            types: tensors.iter().map(|name| (name.clone(), of(name))).collect(),
            metadata: serde_json::from_value(answer["metadata"].clone()).unwrap(),
            operators: words("operators"),
            names: words("names"),
            optimized: words("optimized"),
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    /// The values of a tensor of floats.
    pub(crate) fn floats(&self, name: &str) -> Vec<f32> {
        assert_eq!(self.types[name], "float32", "{name}");
        self.tensors[name].as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    /// The values of a tensor of any type that a network gives.
    pub(crate) fn numbers(&self, name: &str) -> Vec<f64> {
        match self.types[name].as_str() {
            "int64" => self.tensors[name].as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
            _ => self.floats(name).into_iter().map(f64::from).collect(),
        }
    }

    /// The values of a tensor of whole numbers, int32 or float64.
    pub(crate) fn integers(&self, name: &str) -> Vec<i64> {
        let bytes = &self.tensors[name];
        match self.types[name].as_str() {
            "int32" => bytes.as_chunks().0.iter().map(|b| i64::from(i32::from_le_bytes(*b))).collect(),
            "float64" => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as i64).collect(),
            other => panic!("{name} is {other}"),
        }
    }

    /// The logits of each image.
    pub(crate) fn logits(&self, classes: usize) -> Vec<Vec<f32>> {
        self.floats("logits").chunks_exact(classes).map(<[f32]>::to_vec).collect()
    }
}
