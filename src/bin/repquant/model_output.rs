//! Where a model goes, and in which form: the file name decides.

use std::path::{Path, PathBuf};

use repquant::files::OutputFile;
use repquant::options::{Format, InputForm};
use repquant::{Error, Images, Model, Quantized, Result};

use super::args::{OnnxArgs, OnnxInputArgs, OutputArgs};
use super::session::{checked_output, has_ending};

/// A file that a model will be written to.
pub(super) struct ModelOutput {
    output: OutputFile,
    form: Form,
}

enum Form {
    Safetensors,
    Onnx { format: Format, input: InputForm },
}

impl ModelOutput {
    /// For a quantized model: `.safetensors`, or `.onnx` in the form that the flags name.
    ///
    /// # Errors
    /// Another ending, ONNX flags without an ONNX file, or those of [`checked_output`].
    pub(super) fn quantized(
        output: &OutputArgs,
        onnx: &OnnxArgs,
        inputs: impl IntoIterator<Item = PathBuf>,
    ) -> Result<Self> {
        let output = checked_output(output, inputs)?;
        Ok(Self { form: form(output.path(), onnx.format, onnx.input.input)?, output })
    }

    /// For a float model: `.safetensors` or `.onnx`.
    ///
    /// # Errors
    /// As [`ModelOutput::quantized`].
    pub(super) fn float(
        output: &OutputArgs,
        onnx: &OnnxInputArgs,
        inputs: impl IntoIterator<Item = PathBuf>,
    ) -> Result<Self> {
        let output = checked_output(output, inputs)?;
        Ok(Self { form: form(output.path(), None, onnx.input)?, output })
    }

    /// Where it will be.
    pub(super) fn path(&self) -> &Path {
        self.output.path()
    }

    /// Checks that it is none of these images.
    ///
    /// # Errors
    /// Where it is one.
    pub(super) fn check_apart_from(&self, images: &Images<'_>) -> Result<()> {
        self.output.check_apart_from(images.files())
    }

    /// Writes a quantized model.
    ///
    /// # Errors
    /// A model that cannot be written in this form, or a file that cannot.
    pub(super) fn write_quantized(&self, network: &Quantized) -> Result<()> {
        let bytes = match self.form {
            Form::Safetensors => network.to_safetensors()?,
            Form::Onnx { format, input } => network.to_onnx(format, input)?.bytes,
        };
        self.output.write(&bytes)
    }

    /// Writes a float model.
    ///
    /// # Errors
    /// As [`ModelOutput::write_quantized`].
    pub(super) fn write_float(&self, model: &Model) -> Result<()> {
        let bytes = match self.form {
            Form::Safetensors => model.to_safetensors()?,
            Form::Onnx { input, .. } => model.to_onnx(input)?.bytes,
        };
        self.output.write(&bytes)
    }
}

/// The form that a file name asks for.
fn form(path: &Path, format: Option<Format>, input: Option<InputForm>) -> Result<Form> {
    if has_ending(path, "onnx") {
        return Ok(Form::Onnx { format: format.unwrap_or_default(), input: input.unwrap_or_default() });
    }
    if !has_ending(path, "safetensors") {
        return Err(Error::usage(format!("{}: a model is written as .safetensors or .onnx", path.display()))
            .hint("end the name after -o in one of the two"));
    }
    let flag = format.map(|_| "--format").or(input.map(|_| "--input"));
    match flag {
        None => Ok(Form::Safetensors),
        Some(flag) => Err(Error::usage(format!("{flag} is for ONNX files, and {} is none", path.display()))
            .hint("name a file that ends in .onnx after -o")),
    }
}
