//! `repquant fuse`.

use repquant::Result;
use serde::Serialize;

use super::args::FuseArgs;
use super::image_sets::tell_preprocessing;
use super::model_output::ModelOutput;
use super::session::{Session, print, print_json};

#[derive(Serialize)]
struct Document {
    model: String,
    layers: usize,
    parameters: u64,
    macs: u64,
    output: String,
}

/// Writes the plain float network.
pub(super) fn run(session: &Session, args: &FuseArgs) -> Result<()> {
    let output = ModelOutput::float(&args.output, &args.onnx, args.model.inputs())?;
    let model = session.load(&args.model.model, &args.model.options())?;
    tell_preprocessing(session, &model);
    output.write_float(&model)?;
    let document = Document {
        model: model.name().to_owned(),
        // The input counts as one.
        layers: model.layers().len() + 1,
        parameters: model.parameters(),
        macs: model.macs(),
        output: output.path().display().to_string(),
    };
    if session.common.json {
        return print_json(&document);
    }
    print(&format!(
        "{}: {} parameters, {:.1} M multiplications, written to {}\n",
        document.model,
        document.parameters,
        document.macs as f64 / 1e6,
        document.output
    ))
}
