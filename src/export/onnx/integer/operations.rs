//! Operations without weights on levels.
//!
//! **Sums and products** in doubles: `t = (q_a − z_a)·M_a + (q_b − z_b)·M_b` is an integer below 2·2^8·2^31 = 2^40, a
//! product `(q_a − z_a)·(q_b − z_b)·M` below 2^47: exact, and so is scaling by 2^−n, before or after the addition. What is
//! wanted is `floor(t·2^−n + 1/2)`. For n ≤ 53 the sum is `(t + 2^(n−1))·2^−n` with an integer of at most 2^53: exact. For
//! larger n, `|t·2^−n|` is below 2^−6: the sum, rounded or not, lies between 0 and 1, and its floor is 0.

use super::{Activation, Levels, Requantization, Window, byte, levels};
use crate::export::onnx::builder::Builder;
use crate::export::onnx::moves::{concat, max_pool, padding, rearrange};
use crate::model::{Constants, Integer, Op, Pool, PoolKind, QBinary, QNode, QParams, Shape, Table};
use crate::{Error, Result};

/// One operation; the tensor is `NAME/quantized`.
///
/// # Errors
/// An operation that has no place here.
pub(super) fn operation(
    builder: &mut Builder,
    node: &QNode,
    integer: &Integer,
    inputs: &[(&Activation, Shape)],
    shape: Shape,
    output: &QParams,
) -> Result<String> {
    let name = &node.name;
    let quantized = format!("{name}/quantized");
    match (integer.op(), integer.constants(), inputs) {
        (Op::Activation(_), Constants::Table(table), [(x, _)]) => {
            Ok(look_up(builder, name, "", &x.tensor, table, &quantized))
        }
        (Op::Binary(_), Constants::Binary(binary), [(a, _), (b, _)]) => {
            Ok(combined(builder, name, *binary, [a, b], levels(output, node.relu)))
        }
        (Op::Pool(pool), _, [(x, x_shape)]) if pool.kind == PoolKind::Max => {
            Ok(max_pool(builder, name, &x.tensor, *x_shape, pool, &quantized))
        }
        (Op::Pool(pool), Constants::Multipliers(multipliers), [(x, x_shape)]) => {
            let acc = window_sums(builder, name, x, *x_shape, pool);
            let at = |row: usize, column: usize| {
                let (_, rows) = pool.window(x_shape.height, 0, row);
                let (_, columns) = pool.window(x_shape.width, 1, column);
                multipliers.get((rows * columns).wrapping_sub(1)).copied()
            };
            let places = (0..shape.height).flat_map(|row| (0..shape.width).map(move |column| at(row, column)));
            let places: Option<Vec<_>> = places.collect();
            let places = places.ok_or_else(|| Error::bad("a window divides by what has no multiplier"))?;
            let sides = [1, 1, shape.height, shape.width];
            Ok(Requantization::new(&places).record(builder, name, &sides, &[&acc], levels(output, false)))
        }
        (Op::Rearrange(how), _, [(x, x_shape)]) => Ok(rearrange(builder, name, &x.tensor, *x_shape, how, &quantized)),
        (Op::Concat(axis), Constants::Tables(tables), inputs) => {
            let parts: Vec<String> = inputs
                .iter()
                .zip(tables)
                .enumerate()
                .map(|(index, ((x, _), table))| match table {
                    None => x.tensor.clone(),
                    Some(table) => {
                        let part = format!("{name}/part_{index}");
                        look_up(builder, name, &format!("_{index}"), &x.tensor, table, &part)
                    }
                })
                .collect();
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            Ok(concat(builder, name, &parts, axis.index(), &quantized))
        }
        _ => Err(Error::bad("this operation cannot be written in integers")),
    }
}

/// The byte that becomes of each byte.
fn look_up(builder: &mut Builder, name: &str, suffix: &str, x: &str, table: &Table, output: &str) -> String {
    // Entry q + 128 is that of the byte of level q.
    let entries = table.0.iter().map(|&q| byte(i32::from(q)));
    let table = builder.constant(format!("{name}.table{suffix}"), &[256], entries);
    let index = builder.cast::<i32>(format!("{name}/index{suffix}"), x);
    builder.node_to("Gather", &format!("{name}/looked_up{suffix}"), &[&table, &index], vec![], output)
}

fn combined(builder: &mut Builder, name: &str, binary: QBinary, [a, b]: [&Activation; 2], levels: Levels) -> String {
    let steps = |builder: &mut Builder, part: &str, x: &Activation| {
        let wide = builder.cast::<f64>(format!("{name}/{part}_bytes"), &x.tensor);
        let zero = builder.scalar(format!("{name}.{part}_zero_point"), f64::from(byte(x.params.zero_point)));
        builder.node("Sub", format!("{name}/{part}_steps"), &[&wide, &zero], vec![])
    };
    let (left, right) = (steps(builder, "a", a), steps(builder, "b", b));
    let factor = |builder: &mut Builder, part: &str, multiplier: i32, shift: u8| {
        builder.scalar(format!("{name}.{part}_factor"), f64::from(multiplier) * 2f64.powi(-i32::from(shift)))
    };
    let total = match binary {
        QBinary::Sum { multipliers, right_shift } => {
            let m =
                [factor(builder, "a", multipliers[0], right_shift), factor(builder, "b", multipliers[1], right_shift)];
            let left = builder.node("Mul", format!("{name}/a_scaled"), &[&left, &m[0]], vec![]);
            let right = builder.node("Mul", format!("{name}/b_scaled"), &[&right, &m[1]], vec![]);
            builder.node("Add", format!("{name}/scaled"), &[&left, &right], vec![])
        }
        QBinary::Product(multiplier) => {
            let product = builder.node("Mul", format!("{name}/product"), &[&left, &right], vec![]);
            let m = factor(builder, "product", multiplier.multiplier, multiplier.right_shift);
            builder.node("Mul", format!("{name}/scaled"), &[&product, &m], vec![])
        }
    };
    let half = builder.scalar(format!("{name}.half"), 0.5);
    let raised = builder.node("Add", format!("{name}/raised"), &[&total, &half], vec![]);
    let steps = builder.node("Floor", format!("{name}/steps"), &[&raised], vec![]);
    let zero = builder.scalar(format!("{name}.zero_point"), levels.zero_point);
    let shifted = builder.node("Add", format!("{name}/shifted"), &[&steps, &zero], vec![]);
    let (low, high) =
        (builder.scalar(format!("{name}.lowest"), levels.low), builder.scalar(format!("{name}.highest"), levels.high));
    let clipped = builder.node("Clip", format!("{name}/clipped"), &[&shifted, &low, &high], vec![]);
    builder.cast::<u8>(format!("{name}/quantized"), &clipped)
}

/// `Σ(q − z)` over each window, in doubles: a convolution with ones, padded with the zero point.
fn window_sums(builder: &mut Builder, name: &str, x: &Activation, shape: Shape, pool: &Pool) -> String {
    let [kh, kw] = pool.kernel;
    let ones = vec![byte(1); shape.channels * kh * kw];
    let ones = builder.constant(format!("{name}.ones"), &[shape.channels, 1, kh, kw], ones);
    let x_zero = builder.scalar(format!("{name}.input_zero_point"), byte(x.params.zero_point));
    let w_zero = builder.scalar(format!("{name}.ones_zero_point"), byte(0));
    let window =
        Window { kernel: pool.kernel, strides: pool.stride, pads: padding(pool, shape), groups: shape.channels };
    let inputs = [x.tensor.as_str(), &ones, &x_zero, &w_zero];
    let acc = builder.node("ConvInteger", format!("{name}/window_sums"), &inputs, window.attributes());
    builder.cast::<f64>(format!("{name}/sums"), &acc)
}
