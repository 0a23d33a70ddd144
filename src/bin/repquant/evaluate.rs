//! `repquant evaluate`.

use super::args::EvaluateArgs;
use super::profiling::Files;
use super::session::{Reading, Session, batches, evaluation_set, note_decoding};
use repquant::evaluate::{Contender, evaluate};
use repquant::exec;
use repquant::export::{self, FileKind};
use repquant::load::onnx::is_onnx;
use repquant::model::{Decode, Graph, Preprocessing, QOp, QuantizedGraph};
use repquant::pipeline::{load_and_fuse, paced, timed};
use repquant::report::{Images, Report, ResultRow, Seconds, Throughput, layer_rows, peak_memory_bytes};
use repquant::{Error, Result};

/// What is measured.
enum Model {
    Float(Box<Graph>),
    Quantized { graph: Box<QuantizedGraph>, baseline: Option<Box<Graph>> },
}

/// Measures one model.
pub(super) fn run(session: &Session, args: &EvaluateArgs) -> Result<()> {
    let read = [&args.baseline, &args.dataset.labels].into_iter().flatten().cloned();
    let inputs = args.model.inputs().into_iter().chain(read).collect();
    session.begin_profile(&args.profile, &Files { inputs, output: None, force: None })?;
    let mut seconds = Seconds::default();
    let mut model = load(args, &mut seconds)?;
    model.decode_images(args.dataset.decode);
    let (input, classes, name, outputs) = model.facts();
    let dataset = evaluation_set(&args.images, args.dataset.labels.as_deref(), classes, outputs, args.limit)?;
    let device = session.device()?;
    let float = model.float();
    let fits = match &model {
        Model::Float(graph) => exec::batch_size(&device, graph)?,
        // The same number with a baseline: both networks have activations of the same shapes.
        Model::Quantized { graph, .. } => exec::int8_batch_size(&device, graph)?,
    };
    let batch_size = args.dataset.batch_size.map_or(fits, usize::from);
    let total = dataset.items.len() as u64;
    let reading = Reading { skip_bad: args.dataset.skip_bad_images, batch_size };
    let mut batches = batches(dataset, input, &reading);
    let contenders: Vec<Contender<'_>> = model
        .quantized()
        .map(|graph| Contender { name: "quantized", graph, layers: float.is_some() })
        .into_iter()
        .collect();
    let (evaluations, pace) = paced("evaluate", &mut seconds.evaluate, &mut batches, |batches| {
        let found = evaluate(&device, float, &contenders, batches, batch_size, Some(total), &session.bars)?;
        Ok((found.first().map_or(0, |e| e.images), found))
    })?;
    let mut throughput = Throughput { calibrate: None, evaluate: Some(pace) };
    note_decoding(&mut throughput.evaluate, &batches);
    session.list_skipped(batches.skipped());
    let own = evaluations.last();
    let (results, layers) = match &model {
        Model::Float(graph) => (vec![ResultRow::float(graph, own)], Vec::new()),
        Model::Quantized { graph, .. } => {
            let row = ResultRow::quantized("quantized", graph, bits(graph), own);
            (vec![row], layer_rows(graph, own))
        }
    };
    seconds.total = session.elapsed();
    session.print_report(&Report {
        model: name.to_owned(),
        device: device.info().clone(),
        images: Images {
            calibration: 0,
            evaluation: own.map_or(0, |e| e.images),
            skipped: batches.skipped().len() as u64,
        },
        results,
        layers,
        seconds,
        throughput,
        second_device: None,
        profile: session.finish_profile(&device)?,
        peak_memory_bytes: peak_memory_bytes(),
    })
}

fn load(args: &EvaluateArgs, seconds: &mut Seconds) -> Result<Model> {
    let path = &args.model.model;
    if path.is_dir() || is_onnx(path) || export::kind(path)? != FileKind::Quantized {
        if args.baseline.is_some() {
            return Err(Error::usage(format!(
                "{}: is a float model, so --baseline has nothing to add",
                path.display()
            ))
            .hint("--baseline compares a quantized model with the float one it was made from"));
        }
        return Ok(Model::Float(Box::new(load_and_fuse(path, &args.model.options(), seconds)?)));
    }
    if args.baseline.is_none() && (args.model.describe.is_some() || args.model.arch.is_some()) {
        return Err(Error::usage(format!("{}: a quantized model describes itself", path.display()))
            .hint("--describe and --arch describe the float model given with --baseline"));
    }
    if args.baseline.is_none() {
        args.model.input.refuse(path)?;
    }
    let graph = Box::new(timed("load", &mut seconds.load, || export::safetensors::read(path))?);
    // `--describe`, `--arch` and the flags for its input describe the float model.
    let options = args.model.options();
    let baseline =
        args.baseline.as_deref().map(|path| load_and_fuse(path, &options, seconds)).transpose()?.map(Box::new);
    Ok(Model::Quantized { graph, baseline })
}

impl Model {
    fn facts(&self) -> (&Preprocessing, Option<&[String]>, &str, Option<usize>) {
        match self {
            Self::Float(g) => (&g.input, g.classes.as_deref(), &g.name, g.class_count()),
            Self::Quantized { graph: g, .. } => (&g.input, g.classes.as_deref(), &g.name, g.class_count()),
        }
    }

    /// Sets how images are decoded: as asked for, else as the quantized model says.
    fn decode_images(&mut self, choice: Option<Decode>) {
        match self {
            Self::Float(graph) => graph.input.decode = choice.unwrap_or_default(),
            Self::Quantized { graph, baseline } => {
                graph.input.decode = choice.unwrap_or(graph.input.decode);
                if let Some(baseline) = baseline {
                    baseline.input.decode = graph.input.decode;
                }
            }
        }
    }

    fn float(&self) -> Option<&Graph> {
        match self {
            Self::Float(graph) => Some(graph),
            Self::Quantized { baseline, .. } => baseline.as_deref(),
        }
    }

    fn quantized(&self) -> Option<&QuantizedGraph> {
        match self {
            Self::Float(_) => None,
            Self::Quantized { graph, .. } => Some(graph),
        }
    }
}

/// Bit widths of the weights and activations, as most layers have them.
fn bits(graph: &QuantizedGraph) -> (u8, u8) {
    let convs: Vec<u8> = graph
        .nodes
        .iter()
        .filter_map(|n| match &n.op {
            QOp::Conv(c) => Some(c.bits),
            _ => None,
        })
        .collect();
    let count = |bits: &[u8], b: u8| bits.iter().map(|&x| usize::from(x == b)).sum::<usize>();
    let most = |bits: &[u8]| (2..=8).max_by_key(|&b| count(bits, b)).unwrap_or(8);
    let activations: Vec<u8> =
        graph.nodes.iter().skip(1).filter_map(|n| n.output).map(|q| (q.qmax + 1).ilog2() as u8 + 1).collect();
    (most(&convs), most(&activations))
}
