//! `repquant export`.

use repquant::files::{self, FileKind};
use repquant::{Error, Quantized, Result};
use serde::Serialize;

use super::args::ExportArgs;
use super::session::{Session, checked_output, has_ending, print, print_json};

#[derive(Serialize)]
struct Document {
    model: String,
    format: String,
    operations: usize,
    bytes: usize,
    output: String,
}

/// Writes a quantized model as ONNX.
pub(super) fn run(session: &Session, args: &ExportArgs) -> Result<()> {
    let output = checked_output(&args.output, [args.model.clone()])?;
    if !has_ending(output.path(), "onnx") {
        return Err(Error::usage(format!("{}: export writes ONNX", output.path().display()))
            .hint("end the name after -o in .onnx"));
    }
    let (model, shown) = (&args.model, args.model.display());
    if has_ending(model, "onnx") && model.is_file() {
        return Err(Error::input(model, "is an ONNX file already")
            .hint("export takes the quantized network as .safetensors: repquant quantize -o NAME.safetensors"));
    }
    if model.is_dir() || files::kind(model)? != FileKind::Quantized {
        return Err(Error::input(model, "is not a quantized model")
            .hint(format!("quantize it first, or write its float network: repquant fuse {shown} -o NAME.onnx")));
    }
    let network = Quantized::load(model)?;
    let (format, input) = (args.onnx.format.unwrap_or_default(), args.onnx.input.input.unwrap_or_default());
    let file = network.to_onnx(format, input).map_err(|e| e.at(shown))?;
    output.write(&file.bytes)?;
    let document = Document {
        model: network.name().to_owned(),
        format: format.to_string(),
        operations: file.operations,
        bytes: file.bytes.len(),
        output: output.path().display().to_string(),
    };
    if session.common.json {
        return print_json(&document);
    }
    print(&format!(
        "{}: {} operations in the {} form, {:.1} kB, written to {}\n",
        document.model,
        document.operations,
        document.format,
        document.bytes as f64 / 1e3,
        document.output
    ))
}
