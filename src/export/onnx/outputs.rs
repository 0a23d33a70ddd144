//! The network's outputs: their names and sides.

use super::builder::Builder;
use super::moves::{reshape, reshape_one};
use super::tensors::FloatTensor;
use crate::model::{GraphOutput, Shape};
use crate::{Error, Result};

/// Declares the outputs; `tensors` are those of their nodes, floats, and `shapes` their shapes. A
/// tensor that has the sides of its output takes its name; another is given them first.
///
/// # Errors
/// Where two tensors would have one name.
pub(super) fn declare(
    builder: &mut Builder,
    outputs: &[GraphOutput],
    tensors: &[FloatTensor],
    shapes: &[Shape],
) -> Result<()> {
    let mut named: Vec<(String, String)> = Vec::new();
    for ((output, made), shape) in outputs.iter().zip(tensors).zip(shapes) {
        let has = if made.flat { vec![shape.channels] } else { vec![shape.channels, shape.height, shape.width] };
        // A tensor that took the name of an output before goes on under it.
        let tensor = named.iter().find(|(from, _)| *from == made.tensor).map_or(&made.tensor, |(_, to)| to).clone();
        let is_output = named.iter().any(|(_, to)| *to == tensor);
        let (same_sides, same_name) = (has == output.sides && !output.one_image, tensor == output.name);
        if same_sides && builder.gives(&tensor) && !is_output {
            if !same_name {
                make_room(builder, &output.name)?;
                builder.rename(&tensor, &output.name);
            }
        } else {
            let from = if same_name { format!("{tensor}/values") } else { tensor.clone() };
            if same_name {
                builder.rename(&tensor, &from);
            } else {
                make_room(builder, &output.name)?;
            }
            let shaped = if output.one_image { reshape_one } else { reshape };
            shaped(builder, &format!("{}/output", output.name), &from, &output.sides, &output.name);
        }
        named.push((made.tensor.clone(), output.name.clone()));
        if output.one_image {
            builder.output_of_one::<f32>(&output.name, &output.sides);
        } else {
            builder.output::<f32>(&output.name, &output.sides);
        }
    }
    Ok(())
}

/// A layer may be called as an output is: its tensor is then called otherwise.
fn make_room(builder: &mut Builder, name: &str) -> Result<()> {
    if !builder.gives(name) {
        return Ok(());
    }
    let other = format!("{name}/layer");
    if builder.gives(&other) {
        return Err(Error::bad(format!("an output and two tensors would be called `{}`", name.escape_debug())));
    }
    builder.rename(name, &other);
    Ok(())
}
