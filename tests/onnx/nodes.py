"""Makes networks of the node cases of the onnx package, for nodes.rs.

    python3 tests/onnx/nodes.py FOLDER      (needs the packages of requirements.txt)

A case is one operator with its inputs and outputs; a network here takes images. So each case becomes one network or
several, its forms, that compute the same:
  activation              the first input comes from the image, the others are constants
  activations             all come from the image
  activation, constant    the first of two does
  constant, activation    the second of two does
  constants               none does: the result is added to an image of zeros
  first result            as activation, without results that are not needed

Inputs that come from the image are cut out of its values, row by row, in their order; nothing is computed on the way. Their
first axis is the batch. Where the operator needs that axis itself, a batch of 1 is put in front instead, and the axes that
the operator names move on by one. A case of an old opset is declared as of 13 where the operator is the same there, and
one of a newer opset than any that is read as of the newest.

Of a Cast the finite values are kept; whole numbers that are only chosen among are floats. Each network is run in ONNX
Runtime, or where that lacks something by onnx.reference, and must give the case's outputs; where these are written with few
digits, those of the run are expected.

FOLDER gets NUMBER.onnx for each network, `values`, float32, and index.json: for each form of each case the file, the numbers
of images and of values of each input and output and where they begin, or why there is no network.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.reference import ReferenceEvaluator

OLDEST, NEWEST, COLUMNS = 13, 28, 1024
BINARY = {
    "Add", "Sub", "Mul", "Div", "MatMul", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Pow", "PRelu",
}  # fmt: skip
MANY = {"Max", "Mean", "Min", "Sum"}
UNARY = {
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Clip", "Cos", "Cosh", "Elu", "Erf", "Exp",
    "Floor", "Gelu", "HardSigmoid", "HardSwish", "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu",
    "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh",
    "ThresholdedRelu",
}  # fmt: skip
REDUCTIONS = {
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
}  # fmt: skip
# Those that have an axis as an attribute, and its default.
AXIS = {
    "ArgMax": 0, "ArgMin": 0, "Concat": 0, "Gather": 0, "LayerNormalization": -1, "LogSoftmax": -1,
    "LpNormalization": -1, "RMSNormalization": -1, "Softmax": -1, "Split": 0,
}  # fmt: skip
ONE = UNARY | REDUCTIONS | (set(AXIS) - {"Concat"}) | {
    "AveragePool", "BatchNormalization", "Cast", "Conv", "ConvTranspose", "DepthToSpace", "Dropout", "Expand", "Flatten", "Gemm",
    "GlobalAveragePool", "GlobalMaxPool", "GroupNormalization", "Identity", "InstanceNormalization", "MaxPool", "Pad",
    "Reshape", "Resize", "Slice", "SpaceToDepth", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Upsample",
}  # fmt: skip
FOLDED = {
    "Add", "And", "Cast", "Ceil", "Concat", "Constant", "ConstantOfShape", "DequantizeLinear", "Div", "Equal", "Expand",
    "Floor", "Gather", "Identity", "If", "Mul", "Not", "Or", "Range", "Reshape", "Shape", "Slice", "Sqrt", "Squeeze", "Sub",
    "Transpose", "Unsqueeze", "Where", "Xor",
}  # fmt: skip
# Their batch is an axis of one image.
RECURRENT = {"GRU", "LSTM", "RNN"}
OPERATORS = BINARY | MANY | ONE | FOLDED | RECURRENT
# Of these the operands have as many axes as the result, where there is a batch.
WIDE = BINARY | MANY | {"Where"}
CHOOSING = {
    "Abs", "ArgMax", "ArgMin", "Clip", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "MaxPool", "Min",
    "Neg", "Pad", "Relu", "Sign", "Where",
}  # fmt: skip
INTEGERS = {
    TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16, TensorProto.INT32, TensorProto.UINT32,
    TensorProto.INT64, TensorProto.UINT64,
}  # fmt: skip
FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}


class Cannot(Exception):
    """Why a form of a case is no network of images."""


def array(value):
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def proto(value, name):
    made = onnx.TensorProto()
    made.CopyFrom(value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(np.asarray(value)))
    made.name = name
    return made


class Case:
    def __init__(self, test):
        graph, (inputs, outputs) = test.model.graph, test.data_sets[0]
        self.name, self.node = test.name.removeprefix("test_"), graph.node[0]
        self.opset = self.declared(min(next(o.version for o in test.model.opset_import if o.domain == ""), NEWEST))
        kinds = [v.type.WhichOneof("value") for v in (*graph.input, *graph.output)]
        self.tensors = all(kind == "tensor_type" for kind in kinds)
        self.inputs = {v.name: value for v, value in zip(graph.input, inputs)}
        self.kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)}
        self.outputs = {v.name: value for v, value in zip(graph.output, outputs)}
        self.tolerance = {"rtol": test.rtol, "atol": test.atol}
        # As a part of the largest: what is further off is the case's few digits, where it is within their tolerance.
        self.exact = 1e-5
        if self.node.op_type == "Cast":
            self.keep_finite()
        if self.node.op_type in CHOOSING:
            self.as_floats()
        if self.node.op_type in UNARY:
            self.widened()

    def declared(self, opset):
        """The opset of the network: a newer one for an old case, where the operator is the same in it."""
        since = [onnx.defs.get_schema(self.node.op_type, version).since_version for version in (opset, max(opset, OLDEST))]
        return max(opset, OLDEST) if since[0] == since[1] else opset

    def as_floats(self):
        """Whole numbers as floats, for operators that only choose among them."""
        whole = self.kinds[self.node.input[self.node.op_type == "Where"]]
        if whole not in INTEGERS or (whole == TensorProto.INT64 and self.node.op_type in ("ArgMax", "ArgMin", "Pad")):
            return
        for tensors in (self.inputs, self.outputs):
            for name in [name for name in tensors if self.kinds[name] == whole]:
                tensors[name], self.kinds[name] = array(tensors[name]).astype(np.float32), TensorProto.FLOAT

    def widened(self):
        """Functions of 16-bit floats as of 32: the network computes with those, and the case rounds."""
        short = {TensorProto.FLOAT16: 1e-3, TensorProto.BFLOAT16: 1e-2}
        if self.kinds[self.node.input[0]] not in short:
            return
        self.tolerance = dict.fromkeys(("rtol", "atol"), short[self.kinds[self.node.input[0]]])
        self.exact = 0
        for tensors in (self.inputs, self.outputs):
            for name in [name for name in tensors if self.kinds[name] in short]:
                tensors[name], self.kinds[name] = array(tensors[name]).astype(np.float32), TensorProto.FLOAT

    def keep_finite(self):
        """A network has finite values alone."""
        (x, before), (y, after) = *list(self.inputs.items())[:1], *self.outputs.items()
        finite = [np.isfinite(array(value).astype(np.float64)) for value in (before, after)]
        kept = np.flatnonzero(finite[0] & finite[1])
        if not all(all_finite.all() for all_finite in finite):
            self.inputs[x], self.outputs[y] = (array(value).reshape(-1)[kept] for value in (before, after))

    def attribute(self, name, default=None):
        found = [helper.get_attribute_value(a) for a in self.node.attribute if a.name == name]
        return found[0] if found else default

    def ints(self, position):
        names = self.node.input
        return array(self.inputs[names[position]]).tolist() if len(names) > position and names[position] else None

    def forms(self):
        kind, made = self.node.op_type, {}
        names = [name for name in self.node.input if name]
        to = self.attribute("to")
        if kind in BINARY:
            made |= {"activations": names, "activation, constant": names[:1], "constant, activation": names[1:]}
            # A vector for each image is a matrix, which is another product.
            ranks = [array(self.inputs[name]).ndim for name in names]
            if kind == "MatMul" and ranks[0] == 1 < ranks[1]:
                del made["activation, constant"]
            if kind == "MatMul" and ranks[1] == 1:
                del made["constant, activation"]
            if kind == "MatMul" and 1 in ranks:
                del made["activations"]
        elif kind == "Concat" or kind in MANY:
            made["activations"] = names
            if kind in MANY and len(names) > 1:
                made["activation, constant"] = names[:1]
        elif kind in RECURRENT:
            made["activation"] = names[:1]
        elif kind == "Where":
            made |= {"activations": names[1:], "activation, constant": names[1:2], "constant, activation": names[2:]}
        elif kind != "Cast" and kind in ONE or to in (TensorProto.FLOAT, TensorProto.DOUBLE):
            made["activation"] = names[:1]
            if len(self.outputs) > 1 and kind in ("MaxPool", "Dropout", "LayerNormalization"):
                made["first result"] = names[:1]
        if kind in FOLDED:
            # Integers are only ever computed while reading.
            if made and any(self.kinds[name] not in FLOATS for active in made.values() for name in active):
                made = {}
            made["constants"] = []
        return made


def shape(value):
    return list(array(value).shape)


def lift_axes(axes, rank):
    return [axis + 1 if axis >= 0 else axis for axis in (range(rank) if axes is None else axes)]


def keeps_batch(case, actives):
    """Whether the first axis of the inputs can be the batch."""
    node, kind = case.node, case.node.op_type
    dims = [shape(case.inputs[name]) for name in actives]
    rank = len(dims[0])
    if not all(dims):
        return False
    out = shape(next(iter(case.outputs.values())))
    if kind == "MatMul":
        others = [shape(v) for name, v in case.inputs.items() if name not in actives]
        if len(actives) == 2:
            return False
        if node.input[0] not in actives:
            return len(others[0]) == 1
        return rank >= 2 and all(len(other) <= 2 for other in others)
    if kind in WIDE:
        same = all(d[0] == out[0] and len(d) == len(out) for d in dims)
        others = [shape(v) for name, v in case.inputs.items() if name not in actives]
        return same and all(len(other) < len(out) or other[0] == 1 for other in others)
    if kind in AXIS:
        return case.attribute("axis", AXIS[kind]) % rank != 0
    if kind == "Transpose":
        return (case.attribute("perm") or list(range(rank))[::-1])[0] == 0
    if kind == "Squeeze":
        return all(axis % rank for axis in case.ints(1) or [0])
    if kind == "Unsqueeze":
        return all(axis % len(out) for axis in case.ints(1))
    if kind in REDUCTIONS:
        return all(axis % rank for axis in case.ints(1) or [0]) or bool(case.attribute("noop_with_empty_axes") and not case.ints(1))
    if kind == "Tile":
        return case.ints(1)[0] == 1
    if kind == "Expand":
        return len(out) == rank and out[0] == dims[0][0]
    if kind in ("Reshape", "Slice", "Pad"):
        return out[:1] == dims[0][:1]
    return True


def lifted(case, node, constants, actives):
    """Moves the operator's axes on by one, behind a batch of 1; gives the outputs' sides."""
    kind = node.op_type
    rank = len(shape(case.inputs[actives[0]]))

    def attribute(name, value):
        for old in [a for a in node.attribute if a.name == name]:
            node.attribute.remove(old)
        node.attribute.append(helper.make_attribute(name, value))

    def constant(position, values):
        while len(node.input) <= position:
            node.input.append("")
        node.input[position] = node.input[position] or f"moved{position}~"
        constants[node.input[position]] = np.array(values, np.int64)

    if kind in AXIS:
        axis = case.attribute("axis", AXIS[kind])
        attribute("axis", axis + (axis >= 0))
    elif kind == "Transpose":
        attribute("perm", [0] + [axis + 1 for axis in case.attribute("perm") or range(rank)[::-1]])
    elif kind == "Squeeze":
        constant(1, lift_axes(case.ints(1) or [i for i, s in enumerate(shape(case.inputs[actives[0]])) if s == 1], rank))
    elif kind in REDUCTIONS | {"Unsqueeze"}:
        constant(1, lift_axes(case.ints(1) or None, rank))
    elif kind == "Slice":
        constant(3, lift_axes(case.ints(3) or range(len(case.ints(1))), rank))
    elif kind in ("Expand", "Reshape", "Tile"):
        constant(1, [1] + case.ints(1))
    elif kind == "Pad":
        if case.ints(3) is None:
            pads = case.ints(1)
            constant(1, [0, *pads[:rank], 0, *pads[rank:]])
        else:
            constant(3, lift_axes(case.ints(3), rank))
    elif kind not in WIDE | UNARY:
        raise Cannot("the batch is no axis that it can keep")


def network(case, form, actives):
    """The model, the images, and the expected outputs."""
    if not case.tensors:
        raise Cannot("no tensors")
    node = onnx.NodeProto()
    node.CopyFrom(case.node)
    node.name = case.node.op_type
    whole_image = case.node.op_type in RECURRENT
    outputs = {name: array(value) for name, value in case.outputs.items()}
    if form == "first result":
        first = next(iter(outputs))
        outputs = {first: outputs[first]}
        del node.output[1:]
    if any(value.size == 0 for value in outputs.values()):
        raise Cannot("an empty result")
    constants = {name: value for name, value in case.inputs.items() if name not in actives}
    nodes = []

    def constant(name, values):
        constants[f"{name}~"] = np.array(values, np.int64)
        return f"{name}~"

    if form == "constants":
        (result, value), *more = outputs.items()
        if more or value.dtype == object:
            raise Cannot("several results, or texts")
        sides, images = list(value.shape), 1
        parts = {"zeros~": (sides, np.zeros([1, *sides], np.float32))}
        kind = TensorProto.FLOAT
        nodes.append(node)
        if case.kinds[result] != TensorProto.FLOAT:
            nodes.append(helper.make_node("Cast", [result], ["floats~"], to=TensorProto.FLOAT))
            result = "floats~"
        nodes.append(helper.make_node("Reshape", [result, constant("with_batch", [1, *sides])], ["batched~"]))
        outputs = {"sum~": value.astype(np.float32)[None]}
        last = [helper.make_node("Add", ["zeros~", "batched~"], ["sum~"])]
    else:
        kinds = {case.kinds[name] for name in actives}
        if not kinds <= FLOATS or len(kinds) != 1:
            raise Cannot("an image that is no floats")
        kind = kinds.pop()
        plain = whole_image or keeps_batch(case, actives)
        parts, last = {}, [node]
        if not plain:
            lifted(case, node, constants, actives)
            outputs = {name: value[None] for name, value in outputs.items()}
        # Both operands have the batch, and so the same number of axes.
        wide = case.node.op_type in WIDE and (len(actives) == 2 or case.node.op_type != "MatMul")
        rank = max(len(shape(value)) for value in case.inputs.values())
        for name in actives:
            value = array(case.inputs[name]).astype(np.float32)
            if not plain:
                value = value.reshape([1] + [1] * ((rank - value.ndim) if wide else 0) + list(value.shape))
            if whole_image:
                value = value[None]
            if value.size == 0:
                raise Cannot("an empty input")
            parts[name] = (list(value.shape[1:]), value)
        images = next(iter(parts.values()))[1].shape[0]
        if any(value.shape[0] != images for _, value in parts.values()):
            raise Cannot("inputs of several batches")
    flat = np.concatenate([value.reshape(images, -1) for _, value in parts.values()], axis=1)
    whole = [sides for sides, _ in parts.values()]
    if not whole_image and len(parts) == 1 and len(whole[0]) == 3 and whole[0][0] == 3:
        image, x = whole[0], next(iter(parts))
    else:
        width = min(-(-flat.shape[1] // 3), COLUMNS)
        image, x = [3, -(-flat.shape[1] // (3 * width)), width], "image~"
        rest = np.zeros([images, np.prod(image, dtype=int) - flat.shape[1]], np.float32)
        flat = np.concatenate([flat, rest], axis=1)
        nodes.append(helper.make_node("Reshape", [x, constant("vector", [0, -1])], ["values~"]))
        begin = 0
        for name, (sides, value) in parts.items():
            end = begin + value[0].size
            cut = [constant(f"{name}_{what}", [at]) for what, at in (("begin", begin), ("end", end), ("axis", 1))]
            nodes.append(helper.make_node("Slice", ["values~", *cut], [f"{name}_values~"]))
            sides = sides if whole_image else [0, *sides]
            nodes.append(helper.make_node("Reshape", [f"{name}_values~", constant(f"{name}_sides", sides)], [name]))
            begin = end
    graph = helper.make_graph(
        nodes + last,
        case.name,
        [helper.make_tensor_value_info(x, kind, [images, *image])],
        [
            helper.make_tensor_value_info(name, case.kinds.get(name, TensorProto.FLOAT), value.shape)
            for name, value in outputs.items()
        ],
        [proto(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)], ir_version=10)
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        raise Cannot(f"not of opset {case.opset}: {str(error).splitlines()[0]}") from error
    return model, flat.reshape([images, *image]), outputs


def differs(found, outputs, exact, tolerance):
    """How results differ from the expected ones; those take their place where the case has them with fewer digits."""
    for name, value in zip(list(outputs), found):
        value, expected = np.asarray(value).astype(np.float64), outputs[name].astype(np.float64)
        if value.shape != expected.shape:
            return f"sides {value.shape} for {expected.shape}"
        most = max(np.abs(expected).max(), 1e-3)
        if not np.abs(value - expected).max() <= exact * most:
            if np.allclose(value, expected, **tolerance):
                outputs[name] = value
                continue
            return f"off by {np.abs(value - expected).max() / most} of the largest"
    return None


def checked(model, x, outputs, case):
    """What gives the case's outputs for the network; else why nothing does."""
    info = model.graph.input[0]
    feed = {info.name: x.astype(helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type))}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL

    def runtime():
        return onnxruntime.InferenceSession(model.SerializeToString(), options).run(list(outputs), feed)

    def reference():
        return ReferenceEvaluator(model).run(list(outputs), feed)

    why = []
    for name, run in (("ONNX Runtime", runtime), ("onnx.reference", reference)):
        try:
            wrong = differs(run(), outputs, case.exact, case.tolerance)
        except Exception as error:
            wrong = str(error).splitlines()[0]
        if wrong is None:
            return name, None
        why.append(f"{name}: {wrong}")
    return None, "; ".join(why)


def main(folder):
    index = []
    with open(folder / "values", "wb") as values:
        at = 0

        def write(array):
            nonlocal at
            begin, at = at, at + array.size
            values.write(np.ascontiguousarray(array, "<f4").tobytes())
            return begin

        for test in collect_testcases(None):
            if [node.op_type in OPERATORS for node in test.model.graph.node] != [True]:
                continue
            case = Case(test)
            for form, actives in case.forms().items():
                entry = {"case": case.name, "operator": case.node.op_type, "form": form}
                index.append(entry)
                try:
                    model, x, outputs = network(case, form, actives)
                except Cannot as error:
                    entry["cannot"] = str(error)
                    continue
                entry["file"], entry["images"] = f"{len(index)}.onnx", len(x)
                (folder / entry["file"]).write_bytes(model.SerializeToString())
                entry["checked"], entry["unchecked"] = checked(model, x, outputs, case)
                entry["image"] = {"begin": write(x.astype(np.float32)), "sides": x.shape[1:]}
                # What does not begin with the images is of one.
                entry["outputs"] = [
                    {"begin": write(value.astype(np.float32)), "sides": value.shape[len(value) == len(x) :]}
                    for value in outputs.values()
                ]
    (folder / "index.json").write_text(json.dumps(index))


warnings.filterwarnings("ignore")
main(Path(sys.argv[1]))
