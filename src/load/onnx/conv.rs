//! Convolutions and transposed convolutions.

use ndarray::{Array4, s};

use super::draft::{Draft, DraftConv, DraftOp};
use super::operation::Operation;
use super::shape_ops::{Cut, kept};
use super::tensors::Tensor;
use super::values::Active;
use crate::model::Shape;
use crate::{Error, Result};

/// How a window moves over rows and columns.
pub(super) struct Windows {
    /// Rows and columns of the window, without dilation.
    pub kernel: [usize; 2],
    /// Vertical and horizontal.
    pub stride: [usize; 2],
    /// Above, left, below, right.
    pub pads: [usize; 4],
    /// Distance of the window's rows and columns.
    pub dilation: [usize; 2],
}

impl Windows {
    /// From the attributes, for a window of `kernel` over an image of shape `x`.
    pub(super) fn of(op: &Operation<'_>, kernel: [usize; 2], x: Shape) -> Result<Self> {
        let stride = op.sizes("strides", 1)?.unwrap_or([1; 2]);
        let dilation = op.sizes("dilations", 1)?.unwrap_or([1; 2]);
        let given = op.sizes("pads", 0)?;
        let auto = op.word("auto_pad", &["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"])?;
        let mut pads = [0; 4];
        match auto {
            "NOTSET" => pads = given.unwrap_or_default(),
            "VALID" => {}
            _ => {
                for (axis, side) in [x.height, x.width].into_iter().enumerate() {
                    // As many windows as there are strides in the image, the last ones beginning
                    // within it.
                    let reach = (side.div_ceil(stride[axis]) - 1) * stride[axis] + extent(kernel[axis], dilation[axis]);
                    let total = reach.saturating_sub(side);
                    let (less, more) = (total / 2, total - total / 2);
                    (pads[axis], pads[axis + 2]) = if auto == "SAME_UPPER" { (less, more) } else { (more, less) };
                }
            }
        }
        if auto != "NOTSET" && given.is_some_and(|given| given != [0; 4]) {
            return Err(Error::bad(format!("has `pads` beside `auto_pad` {auto}")));
        }
        Ok(Self { kernel, stride, pads, dilation })
    }

    /// Number of windows along each axis, for an image of shape `x`.
    fn count(&self, x: Shape) -> Option<[usize; 2]> {
        let along = |axis: usize, side: usize| {
            let room = (side + self.pads[axis] + self.pads[axis + 2])
                .checked_sub(extent(self.kernel[axis], self.dilation[axis]))?;
            Some(room / self.stride[axis] + 1)
        };
        Some([along(0, x.height)?, along(1, x.width)?])
    }
}

/// Rows or columns from the first to the last of a dilated kernel.
pub(super) fn extent(kernel: usize, dilation: usize) -> usize {
    (kernel - 1) * dilation + 1
}

/// An activation as channels, rows and columns: a node of three sides, and the axes in their order.
pub(super) fn image(draft: &mut Draft, x: &Active) -> Result<usize> {
    if x.sides.len() != 3 {
        let rank = x.sides.len() + 1;
        return Err(Error::bad(format!(
            "reads an activation of {rank} axes; 4 are expected (batch × channels × height × width)"
        )));
    }
    draft.realize(x)
}

/// The activation before zeros were put around it, and these zeros; itself where there are none.
pub(super) fn before_padding(draft: &Draft, node: usize) -> (usize, [usize; 4]) {
    match draft.nodes[node].op {
        DraftOp::Pad(pads) => (draft.nodes[node].inputs[0], pads),
        _ => (node, [0; 4]),
    }
}

/// A kernel from the file, checked against `group` and `kernel_shape`.
struct Kernel {
    weight: Array4<f32>,
    groups: usize,
}

fn kernel(op: &Operation<'_>) -> Result<Kernel> {
    op.at_most(3)?;
    let tensor = op.needed(1)?;
    let groups = match op.int("group")? {
        None => 1,
        Some(groups) => {
            super::operation::size(groups, 1).ok_or_else(|| Error::bad(format!("its attribute `group` is {groups}")))?
        }
    };
    let dims: Option<[usize; 4]> =
        tensor.dims.as_slice().try_into().ok().filter(|dims: &[usize; 4]| !dims.contains(&0));
    let dims = dims.ok_or_else(|| {
        Error::bad(format!("its kernel has shape {:?}; 4 sides, none 0, are expected (2-D convolutions)", tensor.dims))
    })?;
    if let Some(said) = op.sizes::<2>("kernel_shape", 1)?.filter(|said| *said != [dims[2], dims[3]]) {
        return Err(Error::bad(format!("its attribute `kernel_shape` is {said:?}, its kernel {dims:?}")));
    }
    let weight = Array4::from_shape_vec(dims, tensor.as_floats()?.to_vec());
    let weight = weight.map_err(|e| Error::bad("its kernel cannot be read").because(e))?;
    Ok(Kernel { weight, groups })
}

fn bias(op: &Operation<'_>, channels: usize) -> Result<Vec<f64>> {
    let widened =
        |tensor: &std::rc::Rc<Tensor>| tensor.vector(channels).map(|v| v.iter().map(|&b| f64::from(b)).collect());
    match op.constant(2)? {
        Some(tensor) => widened(tensor).map_err(|e| e.at("bias")),
        None => Ok(vec![0.0; channels]),
    }
}

/// `Conv`.
pub(super) fn conv(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    let node = image(draft, op.active(0)?)?;
    let Kernel { weight, groups } = kernel(op)?;
    let (out, per_group, kh, kw) = weight.dim();
    let x = draft.shape(node);
    if per_group.checked_mul(groups) != Some(x.channels) || out % groups != 0 {
        return Err(Error::bad(format!(
            "a kernel of {:?} in {groups} groups does not fit {} channels",
            weight.shape(),
            x.channels
        )));
    }
    let mut windows = Windows::of(op, [kh, kw], x)?;
    let (node, around) = before_padding(draft, node);
    for (pad, more) in windows.pads.iter_mut().zip(around) {
        *pad += more;
    }
    let x = draft.shape(node);
    let [height, width] = windows.count(x).ok_or_else(|| {
        Error::bad(format!("a kernel of {kh}×{kw} does not fit an image of {}×{}", x.height, x.width))
    })?;
    let shift = bias(op, out)?;
    let Windows { stride, pads, dilation, .. } = windows;
    let conv = DraftConv { weight, scale: vec![1.0; out], shift, stride, pads, dilation, groups, dense: false };
    let node = draft.push(op.name, DraftOp::Conv(conv), vec![node], Shape::new(out, height, width))?;
    Ok(Active::new(node, vec![out, height, width], op.name))
}

/// One axis of a transposed convolution as a convolution of the same image, whose results for each
/// phase of the stride are interleaved, and of which a part is kept.
///
/// The value at u = i·s + j·d of the whole result, before cropping, is the sum of `x[i]·w[j]`. With
/// u = a·s + r and the dilated kernel's tap j·d = m·s + r, it is `Σ_m x[a − m]·w[m·s + r]`: for
/// each r a convolution with `taps` taps, turned round.
struct Phases {
    taps: usize,
    /// Zeros before and after the image.
    pads: [usize; 2],
    /// First position of the interleaved results that is kept, and how many are.
    start: usize,
    count: usize,
}

impl Phases {
    fn of(side: usize, kernel: usize, stride: usize, dilation: usize, before: usize, count: usize) -> Option<Self> {
        let taps = extent(kernel, dilation).div_ceil(stride);
        let first = before / stride;
        let last = (before + count).checked_sub(1)? / stride;
        // Further pads than the kernel reaches would leave out rows of the image.
        let left = (taps - 1).checked_sub(first)?;
        let right = (last - first + taps).saturating_sub(side + left);
        Some(Self { taps, pads: [left, right], start: before - first * stride, count })
    }
}

/// `ConvTranspose`: a convolution to `O·s²` channels, depth to space, and a crop.
pub(super) fn conv_transpose(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    let node = image(draft, op.active(0)?)?;
    let Kernel { weight, groups } = kernel(op)?;
    let x = draft.shape(node);
    let (inputs, per_group, kh, kw) = weight.dim();
    if inputs != x.channels || inputs % groups != 0 {
        return Err(Error::bad(format!(
            "a kernel of {:?} in {groups} groups does not fit {} channels",
            weight.shape(),
            x.channels
        )));
    }
    let stride = op.sizes("strides", 1)?.unwrap_or([1; 2]);
    let dilation = op.sizes("dilations", 1)?.unwrap_or([1; 2]);
    let mut pads = op.sizes::<4>("pads", 0)?.unwrap_or_default();
    let extra = op.sizes::<2>("output_padding", 0)?.unwrap_or_default();
    let auto = op.word("auto_pad", &["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"])?;
    let wanted = op.ints("output_shape")?.map(|shape| {
        let sides: Option<Vec<usize>> = shape.iter().map(|&side| super::operation::size(side, 1)).collect();
        let sides = sides.and_then(|sides| sides.get(sides.len().checked_sub(2)?..).map(<[usize]>::to_vec));
        sides.ok_or_else(|| Error::bad(format!("its attribute `output_shape` is {shape:?}")))
    });
    let wanted = wanted.transpose()?;
    let (sides, kernel) = ([x.height, x.width], [kh, kw]);
    let mut phases = Vec::with_capacity(2);
    for axis in 0..2 {
        let reach = extent(kernel[axis], dilation[axis]);
        let whole = stride[axis] * (sides[axis] - 1) + extra[axis] + reach;
        let wanted = match (&wanted, auto) {
            (Some(wanted), _) => Some(wanted[axis]),
            (None, "SAME_UPPER" | "SAME_LOWER") => Some(sides[axis] * stride[axis]),
            _ => None,
        };
        if let Some(wanted) = wanted {
            let total = whole.saturating_sub(wanted);
            let (less, more) = (total / 2, total - total / 2);
            // As ONNX Runtime has it: the larger half comes last for SAME_UPPER, else first.
            (pads[axis], pads[axis + 2]) = if auto == "SAME_UPPER" { (less, more) } else { (more, less) };
        }
        let count = whole.checked_sub(pads[axis] + pads[axis + 2]).filter(|&count| count > 0);
        let count = if wanted.is_some() { wanted } else { count };
        let made = count
            .and_then(|count| Phases::of(sides[axis], kernel[axis], stride[axis], dilation[axis], pads[axis], count));
        phases.push(made.ok_or_else(|| Error::bad(format!("its pads {pads:?} are larger than its kernel reaches")))?);
    }
    let [rows, columns] = phases.as_slice() else { return Err(Error::bad("has no rows and columns")) };
    let out = per_group * groups;
    let parts = stride[0] * stride[1];
    let sizes = [out, parts, inputs / groups, rows.taps, columns.taps];
    draft.allocate(super::tensors::product(&sizes).ok_or_else(|| Error::bad("its kernel is too large"))?)?;
    let shift = bias(op, out)?.into_iter().flat_map(|b| std::iter::repeat_n(b, parts)).collect();
    let mut turned = Array4::zeros((out * parts, inputs / groups, rows.taps, columns.taps));
    for ((i, o, ky, kx), &w) in weight.indexed_iter() {
        let (group, i) = (i / (inputs / groups), i % (inputs / groups));
        let (y, x) = (ky * dilation[0], kx * dilation[1]);
        let channel = (group * per_group + o) * parts + y % stride[0] * stride[1] + x % stride[1];
        turned[[channel, i, rows.taps - 1 - y / stride[0], columns.taps - 1 - x / stride[1]]] = w;
    }
    let conv = DraftConv {
        weight: turned,
        scale: vec![1.0; out * parts],
        shift,
        stride: [1; 2],
        pads: [rows.pads[0], columns.pads[0], rows.pads[1], columns.pads[1]],
        dilation: [1; 2],
        groups,
        dense: false,
    };
    let made = |side: usize, phase: &Phases| side + phase.pads[0] + phase.pads[1] + 1 - phase.taps;
    let (height, width) = (made(x.height, rows), made(x.width, columns));
    let source = draft.push(op.name, DraftOp::Conv(conv), vec![node], Shape::new(out * parts, height, width))?;
    let first = source + 1;
    let spread = Active::new(source, vec![out, stride[0], stride[1], height, width], op.name);
    let spread = spread.permuted(&[0, 3, 1, 4, 2], &format!("{}/depth_to_space", op.name));
    let node = if parts == 1 { source } else { draft.realize(&spread)? };
    let mut y = Active::new(node, vec![out, height * stride[0], width * stride[1]], op.name);
    let node = draft.realize(&y)?;
    y = y.with_node(node);
    for (axis, phase) in [rows, columns].into_iter().enumerate() {
        let cut = Cut::forwards(axis + 1, phase.start, 1, phase.count);
        y = kept(draft, &y, cut, &format!("{}/crop", op.name))?;
    }
    for node in &mut draft.nodes[first..] {
        node.source = Some((source, parts));
    }
    Ok(y)
}

/// The kernel with zeros between its taps and around them, for padding that is the same on both
/// sides.
///
/// A window of k taps that begins `before` rows above the image is one of `k + e` taps, the first e
/// of them zero, that begins `before + e` above it. What lies below the last window does not count,
/// so that `after` may be anything that gives the same number of windows. Padding that is not
/// smaller than the kernel makes it larger, too.
pub(super) fn symmetric(conv: &DraftConv, x: Shape, y: Shape) -> (Vec<[usize; 3]>, [usize; 2]) {
    let mut padding = [0; 2];
    let mut kernels = Vec::with_capacity(2);
    for (axis, (side, count)) in [(x.height, y.height), (x.width, y.width)].into_iter().enumerate() {
        let taps = [conv.weight.dim().2, conv.weight.dim().3][axis];
        let (reach, before) = (extent(taps, conv.dilation[axis]), conv.pads[axis]);
        // The fewest rows below that give the last window, and how many more give no other.
        let least = ((count - 1) * conv.stride[axis] + reach).saturating_sub(side + before);
        let end = (count * conv.stride[axis] + reach).saturating_sub(side + before);
        let (first, last) = if before < least {
            (least - before, 0)
        } else if before >= end {
            (0, before + 1 - end)
        } else {
            (0, 0)
        };
        // Padding is smaller than the kernel: where it is not, zeros on both sides make the kernel
        // larger.
        let more = (before + first + 1).saturating_sub(first + reach + last);
        padding[axis] = before + first + more;
        kernels.push([first + more, reach, last + more]);
    }
    (kernels, padding)
}

/// Puts the taps of a kernel `dilation` apart and zeros around them.
pub(super) fn enlarged(weight: &Array4<f32>, dilation: [usize; 2], kernels: &[[usize; 3]]) -> Array4<f32> {
    let (out, inputs, ..) = weight.dim();
    let side = |axis: usize| kernels[axis].iter().sum::<usize>();
    let mut large = Array4::zeros((out, inputs, side(0), side(1)));
    let [[top, rows, _], [left, columns, _]] = [kernels[0], kernels[1]];
    large.slice_mut(s![.., .., top..top + rows; dilation[0], left..left + columns; dilation[1]]).assign(weight);
    large
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_becomes_the_same_on_both_sides() {
        let case = |side: usize, kernel: usize, stride: usize, before: usize, after: usize| {
            let conv = DraftConv {
                weight: Array4::ones((1, 1, kernel, kernel)),
                scale: vec![1.0],
                shift: vec![0.0],
                stride: [stride; 2],
                pads: [before, before, after, after],
                dilation: [1; 2],
                groups: 1,
                dense: false,
            };
            let count = (side + before + after - kernel) / stride + 1;
            let (kernels, padding) = symmetric(&conv, Shape::new(1, side, side), Shape::new(1, count, count));
            let size: usize = kernels[0].iter().sum();
            assert_eq!((side + 2 * padding[0] - size) / stride + 1, count, "{side} {kernel} {stride} {before} {after}");
            assert_eq!(padding[0] - kernels[0][0], before);
            assert!(padding[0] < size, "{side} {kernel} {stride} {before} {after}");
            (kernels[0], padding[0])
        };
        assert_eq!(case(8, 3, 1, 1, 1), ([0, 3, 0], 1));
        // The row above counts, the one below is never reached.
        assert_eq!(case(8, 3, 2, 1, 0), ([0, 3, 0], 1));
        // TensorFlow's: only the row below counts.
        assert_eq!(case(8, 3, 2, 0, 1), ([1, 3, 0], 1));
        assert_eq!(case(8, 3, 1, 2, 0), ([0, 3, 2], 2));
        // Padding as large as the kernel.
        assert_eq!(case(8, 1, 1, 1, 1), ([1, 1, 1], 2));
        for side in 3..9 {
            for (kernel, stride) in [(1, 1), (1, 2), (2, 1), (2, 3), (3, 1), (3, 2), (3, 4)] {
                for before in 0..4 {
                    for after in 0..4 {
                        case(side, kernel, stride, before, after);
                    }
                }
            }
        }
    }

    #[test]
    fn taps_are_put_apart() {
        let weight = Array4::from_shape_fn((1, 1, 2, 1), |(_, _, y, _)| [1.0, 2.0][y]);
        let large = enlarged(&weight, [3, 1], &[[1, 4, 0], [0, 1, 2]]);
        assert_eq!(large.shape(), [1, 1, 5, 3]);
        let found: Vec<_> =
            large.indexed_iter().filter(|(_, v)| **v != 0.0).map(|((_, _, y, x), &v)| (y, x, v)).collect();
        assert_eq!(found, [(1, 0, 1.0), (4, 0, 2.0)]);
    }
}
