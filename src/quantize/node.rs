//! One node of the quantized network, with what is reported about it.

use super::plan::{Choice, Made, Plan};
use super::split::SplitForm;
use super::strategy::Strategy;
use super::weights::quantize_layer;
use crate::Result;
use crate::model::{CoarseScale, Computed, Constants, NodeId, Op, QConv, QNode, SplitReport};

/// Quantizes one node, the weights of a layer by `strategy`.
///
/// # Errors
/// Where a weight is not finite or a multiplier is out of range, naming the layer.
pub(super) fn quantize_node(plan: &Plan<'_>, id: NodeId, choice: Choice, strategy: &dyn Strategy) -> Result<QNode> {
    node(plan, id, choice, strategy).map_err(|e| e.at(&plan.graph.nodes[id].name))
}

fn node(plan: &Plan<'_>, id: NodeId, (form, note): Choice, strategy: &dyn Strategy) -> Result<QNode> {
    let node = &plan.graph.nodes[id];
    let mut split = SplitReport { split: SplitForm::Plain.name(), shift_max: 0, notes: note.into_iter().collect() };
    let computed = match (&plan.made[id], plan.layer(id)) {
        (Some(Made { computed, why }), _) => {
            split.notes.extend(why.clone());
            computed.clone()
        }
        (None, Some(layer)) => {
            let (conv, raised) = quantize_layer(&layer, form, plan.options.granularity, strategy)?;
            split = report(&conv, form, raised, split.notes);
            let op = if matches!(node.op, Op::Linear(_)) { Op::Linear(conv) } else { Op::Conv(conv) };
            Computed::integer(op, Constants::None)?
        }
        (None, None) => unreachable!("a layer reads levels"),
    };
    Ok(QNode {
        name: node.name.clone(),
        computed,
        inputs: node.inputs.clone(),
        relu: plan.relu[id],
        output: plan.stored[id].map(|stored| stored.params),
        exponents: Vec::new(),
        split,
    })
}

/// What was decided about a layer.
fn report(conv: &QConv, form: SplitForm, raised: usize, mut notes: Vec<String>) -> SplitReport {
    let shift_max = conv.coarse.as_ref().map_or(0, |coarse| match &coarse.scale {
        CoarseScale::Shift(shift) => shift.iter().copied().max().unwrap_or(0),
        CoarseScale::Own { .. } => 0,
    });
    let split = if conv.coarse.is_some() { form.name() } else { SplitForm::Plain.name() };
    if conv.coarse.is_none() && form.support().is_some() {
        notes.push("not split: no channel gains from it".into());
    }
    if raised > 0 {
        let scales = if raised == 1 { "scale was" } else { "scales were" };
        notes.push(format!("{raised} {scales} raised so that 32-bit sums cannot overflow"));
    }
    SplitReport { split, shift_max, notes }
}
