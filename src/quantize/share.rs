//! Whether the weights are what a network loses by.

use rayon::prelude::*;

use super::auto::{objective, rounded};
use super::plan::{Choice, Plan};
use crate::Result;
use crate::calibrate::Calibration;

/// The error of the weights, rounded to nearest, as a multiple of that of rounding activations to
/// levels: over the convolutions and linear layers whose outputs are stored,
/// `Σ E[x²]·(W − W')²/s_y²` by `Σ 1/12`. 0 where no output is stored.
///
/// # Errors
/// Where a weight is not finite or a multiplier is out of range, naming the layer.
pub(super) fn weight_share(plan: &Plan<'_>, choices: &[Choice], calibration: &Calibration) -> Result<f64> {
    let nodes = &plan.graph.nodes;
    let found = (0..nodes.len()).into_par_iter().map(|id| {
        let (Some(layer), Some(stored)) = (plan.layer(id), plan.stored[id]) else { return Ok([0.0; 2]) };
        let input = nodes[id].inputs.first().map(|&from| nodes[from].name.as_str());
        let statistics = calibration.activations.iter().find(|stats| Some(stats.name.as_str()) == input);
        let Some(statistics) = statistics else { return Ok([0.0; 2]) };
        let found = objective(plan, &layer, choices[id].0, stored.params, statistics);
        let (error, _) = found.map_err(|e| e.at(&nodes[id].name))?;
        Ok([error, rounded(layer.bias.len())])
    });
    // Added in the nodes' order, whatever threads they were computed on.
    let found: Vec<[f64; 2]> = found.collect::<Vec<_>>().into_iter().collect::<Result<_>>()?;
    let [error, levels] = found.into_iter().fold([0.0; 2], |sum, e| [sum[0] + e[0], sum[1] + e[1]]);
    Ok(if levels > 0.0 { error / levels } else { 0.0 })
}
