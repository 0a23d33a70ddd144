//! Operations that move values, on tensors of any type.

use super::builder::{Builder, integer, integers, text};
use crate::model::{Pool, Rearrange, RearrangeKind, Shape};

/// Batch × `sides`; the batch stays what it is.
pub(super) fn reshape(builder: &mut Builder, name: &str, x: &str, sides: &[usize], output: &str) -> String {
    let shape = [0].into_iter().chain(sides.iter().map(|&side| side as i64));
    let shape = builder.constant(format!("{name}.shape"), &[sides.len() + 1], shape);
    builder.node_to("Reshape", name, &[x, &shape], vec![], output)
}

/// `sides` and no batch: the values of one image.
pub(super) fn reshape_one(builder: &mut Builder, name: &str, x: &str, sides: &[usize], output: &str) -> String {
    let shape = builder.constant(format!("{name}.shape"), &[sides.len()], sides.iter().map(|&side| side as i64));
    builder.node_to("Reshape", name, &[x, &shape], vec![], output)
}

/// A rearranged activation of shape `shape`; the tensor is called `output`.
pub(super) fn rearrange(
    builder: &mut Builder,
    name: &str,
    x: &str,
    shape: Shape,
    rearrange: &Rearrange,
    output: &str,
) -> String {
    let to = sides(rearrange.shape);
    // Seen as an array of other sides first, where they are others.
    let seen = |builder: &mut Builder, array: &[usize]| {
        if array == sides(shape) {
            x.to_owned()
        } else {
            reshape(builder, &format!("{name}/array"), x, array, &format!("{name}/array"))
        }
    };
    let moved = format!("{name}/moved");
    let (moved, array) = match &rearrange.kind {
        RearrangeKind::Reshape => (x.to_owned(), None),
        RearrangeKind::Transpose { sides, order } => {
            let x = seen(builder, sides);
            let order_with_batch: Vec<usize> = [0].into_iter().chain(order.iter().map(|axis| axis + 1)).collect();
            let array: Vec<usize> = order.iter().map(|&axis| sides[axis]).collect();
            let tensor = if array == to { output } else { moved.as_str() };
            let order = vec![integers("perm", &order_with_batch)];
            (builder.node_to("Transpose", &moved, &[&x], order, tensor), Some(array))
        }
        RearrangeKind::Slice { sides, axis, start, step, count } => {
            let x = seen(builder, sides);
            let mut array = sides.clone();
            array[*axis] = *count;
            let tensor = if array == to { output } else { moved.as_str() };
            // The end is that after the last entry.
            let numbers =
                [("starts", *start), ("ends", start + (count - 1) * step + 1), ("axes", axis + 1), ("steps", *step)];
            let constants = numbers.map(|(what, n)| builder.constant(format!("{name}.{what}"), &[1], [n as i64]));
            let [starts, ends, axes, steps] = &constants;
            (builder.node_to("Slice", &moved, &[&x, starts, ends, axes, steps], vec![], tensor), Some(array))
        }
        RearrangeKind::Pick { sides, axis, entries } => {
            let x = seen(builder, sides);
            let mut array = sides.clone();
            array[*axis] = entries.len();
            let tensor = if array == to { output } else { moved.as_str() };
            let list = entries.iter().map(|&entry| entry as i64);
            let list = builder.constant(format!("{name}.entries"), &[entries.len()], list);
            (builder.node_to("Gather", &moved, &[&x, &list], vec![integer("axis", axis + 1)], tensor), Some(array))
        }
        RearrangeKind::Upsample { factor } => {
            let scales =
                builder.constant(format!("{name}.scales"), &[4], [1.0, 1.0, factor[0] as f32, factor[1] as f32]);
            let nearest = vec![
                text("mode", "nearest"),
                text("coordinate_transformation_mode", "asymmetric"),
                text("nearest_mode", "floor"),
            ];
            (builder.node_to("Resize", &moved, &[x, "", &scales], nearest, output), Some(to.to_vec()))
        }
    };
    if array.is_some_and(|array| array == to) {
        return moved;
    }
    reshape(builder, &format!("{name}/shaped"), &moved, &to, output)
}

/// Channels, rows, columns.
pub(super) fn sides(shape: Shape) -> [usize; 3] {
    [shape.channels, shape.height, shape.width]
}

/// Padding above, left, below and right with which windows that are counted by rounding down are
/// those of `pool`.
///
/// ONNX before opset 19 counts a last window that begins behind the image, where rounding up finds
/// one; here none is.
pub(super) fn padding(pool: &Pool, x: Shape) -> [usize; 4] {
    let mut padding = pool.padding;
    for (axis, side) in [x.height, x.width].into_iter().enumerate() {
        let end = (pool.side(side, axis) - 1) * pool.stride[axis] + pool.kernel[axis];
        padding[axis + 2] = end.saturating_sub(side + pool.padding[axis]);
    }
    padding
}

/// The largest of each window.
pub(super) fn max_pool(builder: &mut Builder, name: &str, x: &str, shape: Shape, pool: &Pool, output: &str) -> String {
    let window = vec![
        integers("kernel_shape", &pool.kernel),
        integers("strides", &pool.stride),
        integers("pads", &padding(pool, shape)),
    ];
    builder.node_to("MaxPool", name, &[x], window, output)
}

/// One behind the other along an axis.
pub(super) fn concat(builder: &mut Builder, name: &str, parts: &[&str], axis: usize, output: &str) -> String {
    builder.node_to("Concat", name, parts, vec![integer("axis", axis)], output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PoolKind;

    #[test]
    fn padding_makes_rounding_down_find_the_same_windows() {
        for (side, kernel, stride) in (1..9).flat_map(|n| (1..5).flat_map(move |k| (1..4).map(move |s| (n, k, s)))) {
            for (before, after, ceil) in
                (0..kernel).flat_map(|b| (0..kernel).flat_map(move |a| [(b, a, false), (b, a, true)]))
            {
                let padding_of_pool = [before, before, after, after];
                let (kernel_of_pool, stride_of_pool) = ([kernel; 2], [stride; 2]);
                let kind = PoolKind::Max;
                let pool =
                    Pool { kind, kernel: kernel_of_pool, stride: stride_of_pool, padding: padding_of_pool, ceil };
                let windows = pool.side(side, 0);
                if windows == 0 {
                    continue;
                }
                let padding = padding(&pool, Shape::new(1, side, side));
                let down = (side + padding[0] + padding[2] - kernel) / stride + 1;
                assert_eq!(down, windows, "{pool:?} of {side}");
                assert!(padding[2] < kernel, "{pool:?} of {side}");
            }
        }
    }
}
