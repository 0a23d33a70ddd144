//! Operations over lines, in float32: reductions and standardization.

use super::builder::{Builder, integer, integers};
use super::moves::sides;
use crate::model::{Along, Reduce, ReduceKind, Shape, Standardize};

/// One value for each line; places become float32, as this program has them.
pub(super) fn reduce(builder: &mut Builder, name: &str, x: &str, shape: Shape, how: Reduce) -> String {
    let (operator, last) = match how.kind {
        ReduceKind::Sum => {
            // Its axes are an input.
            let axes: Vec<i64> = how.along.axes().iter().map(|&axis| axis as i64).collect();
            let axes = builder.constant(format!("{name}.axes"), &[axes.len()], axes);
            return builder.node("ReduceSum", name, &[x, &axes], vec![integer("keepdims", 1)]);
        }
        ReduceKind::Mean => ("ReduceMean", None),
        ReduceKind::SumOfMagnitudes => ("ReduceL1", None),
        ReduceKind::SumOfSquares => ("ReduceSumSquare", None),
        ReduceKind::Norm => ("ReduceL2", None),
        ReduceKind::LogOfSum => ("ReduceLogSum", None),
        ReduceKind::LogOfSumOfExponentials => ("ReduceLogSumExp", None),
        ReduceKind::Product => ("ReduceProd", None),
        ReduceKind::Min => ("ReduceMin", None),
        ReduceKind::Max => ("ReduceMax", None),
        ReduceKind::ArgMax => ("ArgMax", Some(0)),
        ReduceKind::ArgMaxLast => ("ArgMax", Some(1)),
        ReduceKind::ArgMin => ("ArgMin", Some(0)),
        ReduceKind::ArgMinLast => ("ArgMin", Some(1)),
    };
    let Some(last) = last else {
        return builder.node(operator, name, &[x], vec![integers("axes", how.along.axes()), integer("keepdims", 1)]);
    };
    let mut x = x.to_owned();
    if how.along == Along::Pixels {
        // A place is one number: rows and columns become one axis first.
        let [channels, height, width] = sides(shape);
        let flat = [0, channels as i64, (height * width) as i64, 1];
        let flat = builder.constant(format!("{name}.sides"), &[4], flat);
        x = builder.node("Reshape", format!("{name}/pixels"), &[&x, &flat], vec![]);
    }
    let axis = how.along.axes()[0];
    let how = vec![integer("axis", axis), integer("keepdims", 1), integer("select_last_index", last)];
    let place = builder.node(operator, format!("{name}/place"), &[&x], how);
    builder.cast::<f32>(name, &place)
}

/// Spelled out: the operator that does it is of a later version.
pub(super) fn standardize(builder: &mut Builder, name: &str, x: &str, how: Standardize) -> String {
    let axes = || vec![integers("axes", how.along.axes()), integer("keepdims", 1)];
    let mean = builder.node("ReduceMean", format!("{name}/mean"), &[x], axes());
    let centred = builder.node("Sub", format!("{name}/centred"), &[x, &mean], vec![]);
    let squares = builder.node("Mul", format!("{name}/squares"), &[&centred, &centred], vec![]);
    let variance = builder.node("ReduceMean", format!("{name}/variance"), &[&squares], axes());
    let epsilon = builder.scalar(format!("{name}.epsilon"), how.epsilon);
    let raised = builder.node("Add", format!("{name}/raised"), &[&variance, &epsilon], vec![]);
    let deviation = builder.node("Sqrt", format!("{name}/deviation"), &[&raised], vec![]);
    builder.node("Div", name, &[&centred, &deviation], vec![])
}
