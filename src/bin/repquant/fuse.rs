//! `repquant fuse`.

use serde::Serialize;

use super::args::FuseArgs;
use super::model_output::ModelOutput;
use super::session::{Session, print, print_json};
use repquant::Result;
use repquant::pipeline::load_and_fuse;
use repquant::report::Seconds;

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
    let graph = load_and_fuse(&args.model.model, &args.model.options(), &mut Seconds::default())?;
    output.write_float(&graph)?;
    let document = Document {
        model: graph.name.clone(),
        layers: graph.nodes.len(),
        parameters: graph.parameters(),
        macs: graph.macs(),
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
