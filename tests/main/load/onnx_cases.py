"""Writes onnx_cases.safetensors: small ONNX files, an input for each, and what ONNX Runtime makes of it.

    python3 tests/main/load/onnx_cases.py      (needs onnx, onnxruntime, safetensors and numpy)

A file `NAME.model` is an ONNX file of one input x; `NAME.x` an input, `NAME.y0` … the outputs. The metadata has, for each
name, the kinds of nodes that the network is expected to be read as, and the outputs that do not begin with the batch.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

rng = np.random.default_rng(7)
tensors, expected, fixed_outputs = {}, {}, []


def weights(*shape, low=-1.0, high=1.0):
    return rng.uniform(low, high, shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def case(name, kinds, nodes, constants=None, shape=("n", 3, 6, 8), opset=17, outputs=("y",), kind=TensorProto.FLOAT, fixed=False):
    """nodes: (operator, inputs, outputs, attributes); a name in inputs is x, a result or one of constants.

    fixed: the outputs do not begin with the batch.
    """
    made = []
    for index, (operator, inputs, results, attributes) in enumerate(nodes):
        made.append(helper.make_node(operator, inputs.split(), results.split(), name=f"{operator}{index}", **attributes))
        for position, given in enumerate(inputs.split()):
            if given == "_":
                made[-1].input[position] = ""
    graph = helper.make_graph(
        made,
        name,
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None) for output in outputs],
        [numpy_helper.from_array(value, key) for key, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    sides = [side if isinstance(side, int) and side > 0 else 1 for side in shape]
    if kind == TensorProto.UINT8:
        x = rng.integers(0, 256, sides).astype(np.uint8)
    else:
        x = rng.uniform(-2, 2, sides).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    tensors[f"{name}.x"] = x.astype(np.float32)
    for index, y in enumerate(session.run(list(outputs), {"x": x})):
        tensors[f"{name}.y{index}"] = y.astype(np.float32)
        if fixed and y.shape[0] != 1:
            fixed_outputs.append(f"{name}.y{index}")
        sides = list(y.shape) if fixed else ["n", *y.shape[1:]]
        model.graph.output[index].CopyFrom(helper.make_tensor_value_info(outputs[index], TensorProto.FLOAT, sides))
    onnx.checker.check_model(model)
    tensors[f"{name}.model"] = np.frombuffer(model.SerializeToString(), np.uint8)
    expected[name] = f"input {kinds}".strip()


def conv(name, weight, bias=True, kinds="conv", shape=("n", 3, 6, 8), **attributes):
    constants = {"w": weights(*weight), "b": weights(weight[0])}
    case(name, kinds, [("Conv", "x w b" if bias else "x w", "y", attributes)], constants, shape=shape)


# Convolutions.
conv("conv", (4, 3, 3, 3), pads=[1, 1, 1, 1], strides=[2, 1])
conv("conv_groups", (6, 1, 3, 2), bias=False, group=3)
conv("conv_dilated", (4, 3, 3, 2), dilations=[2, 3], pads=[2, 1, 2, 1])
conv("conv_asymmetric", (4, 3, 3, 3), pads=[0, 2, 1, 0], strides=[2, 2])
conv("conv_odd", (2, 3, 2, 3), pads=[1, 0, 0, 2], strides=[1, 3])
conv("conv_valid", (4, 3, 3, 3), auto_pad="VALID", strides=[2, 2])
for auto in ("SAME_UPPER", "SAME_LOWER"):
    conv(f"conv_{auto.lower()}", (4, 3, 3, 4), auto_pad=auto, strides=[2, 3], shape=("n", 3, 7, 8))


def transposed(name, weight, kinds, **attributes):
    out = weight[1] * attributes.get("group", 1)
    constants = {"w": weights(*weight), "b": weights(out)}
    case(name, kinds, [("ConvTranspose", "x w b", "y", attributes)], constants, shape=("n", 3, 4, 5))


transposed("deconv", (3, 4, 2, 2), "conv transpose", strides=[2, 2])
transposed("deconv_crop", (3, 4, 4, 4), "conv transpose slice slice", strides=[2, 2], pads=[1, 1, 1, 1])
transposed("deconv_plain", (3, 4, 3, 3), "conv", pads=[0, 0, 0, 0])
transposed("deconv_groups", (3, 2, 3, 3), "conv transpose slice slice", group=3, strides=[2, 3], pads=[1, 0, 1, 1],
           output_padding=[1, 2])
transposed("deconv_dilated", (3, 2, 3, 2), "conv transpose slice", strides=[2, 2], dilations=[2, 3])
transposed("deconv_shape", (3, 2, 3, 3), "conv transpose slice slice", strides=[2, 2], output_shape=[8, 10])
transposed("deconv_same", (3, 2, 3, 3), "conv transpose", strides=[2, 2], auto_pad="SAME_UPPER")
transposed("deconv_far", (3, 1, 1, 1), "conv transpose", strides=[3, 2], output_padding=[2, 1])
norm = {"s": weights(4), "o": weights(4), "m": weights(4), "v": weights(4, low=0.5)}
case("deconv_norm", "conv transpose", [
    ("ConvTranspose", "x w", "a", dict(strides=[2, 2])),
    ("BatchNormalization", "a s o m v", "b", dict(epsilon=1e-3)),
    ("Relu", "b", "y", {}),
], {"w": weights(3, 4, 2, 2), **norm}, shape=("n", 3, 4, 5))

# Batch norm, factors and offsets.
w = {"w": weights(4, 3, 1, 1), "b": weights(4)}
case("norm_folds", "conv", [
    ("Conv", "x w b", "a", {}), ("BatchNormalization", "a s o m v", "c", {}), ("Relu", "c", "y", {}),
], {**w, **norm})
case("norm_stays", "conv conv add", [
    ("Conv", "x w b", "a", {}), ("BatchNormalization", "a s o m v", "c", {}), ("Add", "a c", "y", {}),
], {**w, **norm}, outputs=("c", "y"))
case("norm_first", "conv conv", [
    ("BatchNormalization", "x s o m v", "a", {}), ("Relu", "a", "c", {}), ("Conv", "c w", "y", {}),
], {"w": weights(4, 3, 3, 3), **{key: value[:3] for key, value in norm.items()}})
case("constants_fold", "conv", [
    ("Conv", "x w b", "a", {}), ("Mul", "a per", "c", {}), ("Add", "c one", "d", {}), ("Sub", "ten d", "e", {}),
    ("Div", "e per", "f", {}), ("Sub", "f row", "y", {}),
], {**w, "per": weights(4, 1, 1, low=0.5), "one": np.float32(0.5), "ten": weights(1, 4, 1, 1), "row": weights(1, 1, 1, 1)})
case("constants_other", "constant subtract constant multiply constant add", [
    ("Sub", "image x", "a", {}), ("Div", "a columns", "b", {}), ("Add", "b rows", "y", {}),
], {"image": weights(1, 3, 6, 8), "columns": weights(8, low=0.5), "rows": weights(6, 1)})
case("constant_widens", "global average pool constant add", [
    ("GlobalAveragePool", "x", "a", {}), ("Add", "a image", "y", {}),
], {"image": weights(3, 2, 2)})

# Functions.
case("functions", "conv clip leaky relu sigmoid hard sigmoid hard swish clip", [
    ("Conv", "x w b", "a", {}), ("Relu", "a", "c", {}), ("Clip", "c low high", "d", {}), ("Clip", "d _ _", "d2", {}),
    ("LeakyRelu", "d2", "e", dict(alpha=0.2)), ("Sigmoid", "e", "f", {}), ("HardSigmoid", "f", "g", dict(alpha=0.3)),
    ("HardSwish", "g", "h", {}), ("Clip", "h _ high", "y", {}),
], {**w, "low": np.float32(0.1), "high": np.float32(0.8)}, outputs=("d", "e", "f", "g", "h", "y"))
case("silu", "silu silu", [
    ("Sigmoid", "x", "a", {}), ("Mul", "x a", "b", {}), ("Sigmoid", "b", "c", {}), ("Mul", "c b", "y", {}),
], outputs=("b", "y"))
six = {"three": np.float32(3), "zero": np.float32(0), "six": np.float32(6), "sixth": np.float32(1 / 6)}
case("hard_swish", "hard swish hard swish hard swish hard swish", [
    ("Add", "x three", "a", {}), ("Clip", "a zero six", "b", {}), ("Mul", "x b", "c", {}), ("Div", "c six", "d", {}),
    ("Add", "three d", "e", {}), ("Clip", "e zero six", "f", {}), ("Mul", "f d", "g", {}), ("Mul", "g sixth", "h", {}),
    ("Add", "h three", "i", {}), ("Clip", "i zero six", "j", {}), ("Div", "j six", "k", {}), ("Mul", "h k", "l", {}),
    ("HardSigmoid", "l", "m", dict(alpha=1 / 6, beta=0.5)), ("Mul", "m l", "y", {}),
], six, outputs=("d", "h", "l", "y"))
case("relu_fuses", "conv conv add clip add", [
    ("Conv", "x w b", "a", {}), ("Conv", "x v", "c", {}), ("Add", "a c", "d", {}), ("Relu", "d", "e", {}),
    ("Relu", "a", "f", {}), ("Add", "e f", "y", {}),
], {**w, "v": weights(4, 3, 1, 1)})

# Two activations.
case("broadcast", "conv global average pool sigmoid multiply subtract multiply", [
    ("Conv", "x w b", "a", {}), ("GlobalAveragePool", "a", "g", {}), ("Sigmoid", "g", "s", {}), ("Mul", "a s", "c", {}),
    ("Sub", "g c", "d", {}), ("Mul", "d d", "y", {}),
], w)

# Pooling.
case("max_pool", "max pool", [("MaxPool", "x", "y", dict(kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]))])
case("max_ceil", "max pool", [("MaxPool", "x", "y", dict(kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1))],
     shape=("n", 3, 8, 6))
case("average", "average pool average pool", [
    ("AveragePool", "x", "a", dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1])),
    ("AveragePool", "a", "y", dict(kernel_shape=[2, 3], strides=[2, 2], pads=[1, 0, 0, 1], count_include_pad=1)),
])
case("average_ceil", "average pool", [
    ("AveragePool", "x", "y", dict(kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, count_include_pad=1, pads=[1, 1, 1, 1])),
], shape=("n", 3, 7, 8), opset=19)
case("average_same", "average pool", [
    ("AveragePool", "x", "y", dict(kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")),
])
case("average_whole", "global average pool", [("AveragePool", "x", "y", dict(kernel_shape=[6, 8], strides=[6, 8]))])
case("global_pools", "global average pool global max pool concat", [
    ("GlobalAveragePool", "x", "a", {}), ("GlobalMaxPool", "x", "b", {}), ("Concat", "a b", "y", dict(axis=1)),
])
case("means", "global average pool transpose global average pool reshape global average pool global max pool", [
    ("ReduceMean", "x", "y", dict(axes=[2, 3], keepdims=0)),
    ("ReduceMean", "x", "z", dict(axes=[1])),
    ("ReduceMean", "x", "u", dict(axes=[-1], keepdims=0)),
    ("ReduceMax", "x", "v", dict(axes=[-2, -1])),
], outputs=("y", "z", "u", "v"))
case("mean_of_18", "global average pool", [("ReduceMean", "x axes", "y", dict(keepdims=1))], {"axes": ints(2, 3)}, opset=18)

# Padding.
case("pad_conv", "conv", [("Pad", "x pads", "a", {}), ("Conv", "a w", "y", dict(strides=[2, 2], pads=[1, 0, 0, 0]))],
     {"pads": ints(0, 0, 0, 0, 0, 0, 1, 1), "w": weights(4, 3, 3, 3)})
case("pad_pools", "clip max pool average pool", [
    ("Relu", "x", "a", {}), ("Pad", "a pads", "b", {}), ("MaxPool", "b", "c", dict(kernel_shape=[3, 3], strides=[2, 2])),
    ("Pad", "c pads", "d", {}), ("AveragePool", "d", "y", dict(kernel_shape=[3, 3])),
], {"pads": ints(0, 0, 1, 1, 0, 0, 1, 1)})
case("pad_max_of_negative", "conv max pool", [
    ("Pad", "x pads", "a", {}), ("MaxPool", "a", "y", dict(kernel_shape=[3, 3], strides=[2, 2])),
], {"pads": ints(0, 0, 1, 0, 0, 0, 1, 2)})
case("pad_of_18", "conv sigmoid", [("Pad", "x pads _ axes", "a", {}), ("Sigmoid", "a", "y", {})],
     {"pads": ints(1, 0, 2, 3), "axes": ints(3, 2)}, opset=18)

# Matrix products.
case("classifier", "global average pool linear", [
    ("GlobalAveragePool", "x", "a", {}), ("Flatten", "a", "c", {}),
    ("Gemm", "c w b", "y", dict(transB=1, alpha=0.5, beta=2.0)),
], {"w": weights(5, 3), "b": weights(5)})
case("gemms", "conv linear", [
    ("Flatten", "x", "a", {}), ("Gemm", "a w b", "c", {}), ("Relu", "c", "d", {}), ("Gemm", "d v", "y", dict(transB=1)),
], {"w": weights(144, 4), "b": weights(1, 4), "v": weights(5, 4)})
case("matmul", "global average pool linear", [
    ("ReduceMean", "x", "a", dict(axes=[2, 3], keepdims=0)), ("MatMul", "a w", "c", {}), ("Add", "c b", "y", {}),
], {"w": weights(3, 5), "b": weights(5)})
case("matmul_last", "transpose conv transpose", [("MatMul", "x w", "y", {})], {"w": weights(8, 5)})
case("matmul_nhwc", "conv", [
    ("Transpose", "x", "a", dict(perm=[0, 2, 3, 1])), ("MatMul", "a w", "b", {}), ("Add", "b o", "c", {}),
    ("Relu", "c", "d", {}), ("Transpose", "d", "y", dict(perm=[0, 3, 1, 2])),
], {"w": weights(3, 5), "o": weights(5)})

# Shapes.
case("shuffle", "conv transpose conv", [
    ("Conv", "x w b", "a", {}), ("Reshape", "a groups", "c", {}), ("Transpose", "c", "d", dict(perm=[0, 2, 1, 3, 4])),
    ("Reshape", "d back", "e", {}), ("Conv", "e v", "y", {}),
], {**w, "groups": ints(0, 2, 2, 6, -1), "back": ints(0, -1, 6, 8), "v": weights(2, 4, 1, 1)})
case("view", "global average pool conv linear", [
    ("GlobalAveragePool", "x", "g", {}), ("Conv", "g w b", "a", {}), ("Shape", "a", "s", {}), ("Gather", "s zero", "n", {}),
    ("Unsqueeze", "n axis", "u", {}), ("Concat", "u rest", "t", dict(axis=0)), ("Reshape", "a t", "c", {}),
    ("Gemm", "c v", "y", {}),
], {**w, "zero": np.array(0), "axis": ints(0), "rest": ints(-1), "v": weights(4, 2)})
case("nhwc", "conv conv transpose", [
    ("Transpose", "x", "a", dict(perm=[0, 3, 1, 2])), ("Conv", "a w", "c", {}), ("Transpose", "c", "d", dict(perm=[0, 2, 3, 1])),
    ("Relu", "d", "e", {}), ("Mul", "e per", "f", {}), ("Transpose", "f", "y", dict(perm=[0, 3, 2, 1])),
], {"w": weights(4, 3, 3, 3), "per": weights(4)}, shape=("n", 6, 8, 3))
case("nhwc_ends", "conv transpose", [
    ("Transpose", "x", "a", dict(perm=[0, 3, 1, 2])), ("Conv", "a w", "c", {}), ("Transpose", "c", "y", dict(perm=[0, 2, 3, 1])),
], {"w": weights(4, 3, 3, 3)}, shape=("n", 6, 8, 3))
case("split_concat", "slice slice slice concat", [
    ("Split", "x", "a b c", dict(axis=1)), ("Concat", "c a b", "y", dict(axis=1)),
], opset=11)
case("split_sizes", "slice slice max pool add concat", [
    ("Split", "x sizes", "a b", dict(axis=-1)), ("MaxPool", "b", "c", dict(kernel_shape=[1, 3])), ("Add", "a c", "d", {}),
    ("Concat", "d b", "y", dict(axis=3)),
], {"sizes": ints(3, 5)})
case("split_uneven", "slice slice slice concat", [
    ("Split", "x", "a b c", dict(axis=3, num_outputs=3)), ("Concat", "b c a", "y", dict(axis=-1)),
], opset=18)
case("slices", "slice slice slice", [("Slice", "x starts ends axes steps", "y", {})],
     {"starts": ints(-2, 1, 0), "ends": ints(9, -1, 2**62), "axes": ints(1, 2, -1), "steps": ints(1, 2, 3)})
case("gather", "slice add", [("Gather", "x one", "a", dict(axis=1)), ("Unsqueeze", "a axes", "b", {}), ("Add", "b x", "y", {})],
     {"one": np.array(-2), "axes": ints(1)})
case("squeeze", "global average pool sigmoid", [
    ("GlobalAveragePool", "x", "a", {}), ("Squeeze", "a axes", "b", {}), ("Sigmoid", "b", "c", {}),
    ("Unsqueeze", "c back", "y", {}),
], {"axes": ints(3, -2), "back": ints(1, -1)})
for mode in ("DCR", "CRD"):
    case(f"depth_to_space_{mode.lower()}", "conv transpose", [
        ("Conv", "x w", "a", {}), ("DepthToSpace", "a", "y", dict(blocksize=2, mode=mode)),
    ], {"w": weights(8, 3, 1, 1)})
case("space_to_depth", "transpose conv", [("SpaceToDepth", "x", "a", dict(blocksize=2)), ("Conv", "a w", "y", {})],
     {"w": weights(2, 12, 1, 1)})
case("reshapes", "sigmoid reshape max pool", [
    ("Reshape", "x flat", "a", {}), ("Sigmoid", "a", "b", {}), ("Reshape", "b back", "c", {}),
    ("MaxPool", "c", "y", dict(kernel_shape=[2, 2])),
], {"flat": ints(0, 12, -1), "back": ints(-1, 4, 6, 6)})
case("transposed_matrix", "global average pool linear", [
    ("GlobalAveragePool", "x", "a", {}), ("Flatten", "a", "b", {}), ("Transpose", "w", "v", {}), ("MatMul", "b v", "y", {}),
], {"w": weights(5, 3)})

# Resizing and softmax.
for mode in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
    case(f"linear_{mode}", "resize resize", [
        ("Resize", "x _ _ sizes", "a", dict(mode="linear", coordinate_transformation_mode=mode)),
        ("Resize", "a _ scales", "y", dict(mode="linear", coordinate_transformation_mode=mode)),
    ], {"sizes": ints(1, 3, 9, 5), "scales": np.array([1, 1, 2, 3], np.float32)})
case("nearest", "upsample slice upsample", [
    ("Resize", "x _ scales", "a", dict(coordinate_transformation_mode="asymmetric", nearest_mode="floor")),
    ("Resize", "a _ _ sizes", "y", dict(coordinate_transformation_mode="half_pixel")),
], {"scales": np.array([1, 1, 2, 3], np.float32), "sizes": ints(1, 3, 4, 48)})
case("nearest_of_18", "upsample", [
    ("Resize", "x _ scales", "y", dict(axes=[3, 2], nearest_mode="floor", coordinate_transformation_mode="asymmetric")),
], {"scales": np.array([2, 3], np.float32)}, opset=18)
case("upsample_of_shapes", "upsample", [
    ("Shape", "x", "s", dict(start=2)), ("Cast", "s", "f", dict(to=1)), ("Mul", "f two", "g", {}), ("Floor", "g", "h", {}),
    ("Cast", "h", "i", dict(to=7)), ("Shape", "x", "t", dict(end=2)), ("Concat", "t i", "sizes", dict(axis=0)),
    ("Resize", "x _ _ sizes", "y", dict(coordinate_transformation_mode="asymmetric", nearest_mode="floor")),
], {"two": np.array([2, 2], np.float32)})
case("softmax", "softmax softmax softmax", [
    ("Softmax", "x", "a", dict(axis=1)), ("Softmax", "a", "b", {}), ("Softmax", "b", "y", dict(axis=-2)),
])
case("softmax_of_11", "reshape softmax reshape global average pool softmax", [
    ("Softmax", "x", "a", dict(axis=2)), ("GlobalAveragePool", "a", "b", {}), ("Softmax", "b", "y", {}),
], opset=11)

# Constants and what is left out.
case("constants", "conv", [
    ("Constant", "", "one", dict(value_float=1.5)), ("Constant", "", "axes", dict(value_ints=[0])),
    ("Constant", "", "per", dict(value_floats=[1.0, 2.0, 3.0, 4.0])),
    ("Constant", "", "tail", dict(value=numpy_helper.from_array(ints(1, 2)))), ("Unsqueeze", "per tail", "p", {}),
    ("Constant", "", "i", dict(value_int=2)), ("Cast", "i", "j", dict(to=1)), ("Conv", "x w b", "a", {}),
    ("Mul", "a p", "c", {}), ("Add", "c one", "d", {}), ("Mul", "d j", "y", {}),
], w)
case("folded_shapes", "", [
    ("Shape", "x", "s", {}), ("Slice", "s from to", "a", {}), ("ConstantOfShape", "one", "b", dict(value=numpy_helper.from_array(ints(-1)))),
    ("Equal", "b minus", "c", {}), ("Range", "zero two step", "r", {}), ("Expand", "r one", "r2", {}), ("Add", "r2 a", "d", {}),
    ("Sub", "d r", "e", {}), ("Mul", "e e", "f", {}), ("Div", "f e", "g", {}), ("Where", "yes g e", "h", {}),
    ("Squeeze", "b axis", "k", {}), ("Reshape", "k one", "l", {}), ("Concat", "h l", "m", dict(axis=0)), ("Identity", "m", "m2", {}),
    ("Reshape", "x m2", "y", {}),
], {"from": ints(0), "to": ints(2), "one": ints(1), "minus": ints(-1), "zero": np.array(0), "two": np.array(2),
    "step": np.array(1), "yes": np.array([True, False]), "axis": ints(0)})
case("left_out", "conv", [
    ("Identity", "x", "a", {}), ("Dropout", "a", "b mask", {}), ("Conv", "b w b_", "c", {}), ("Cast", "c", "d", dict(to=1)),
    ("Exp", "d", "unused", {}), ("Identity", "d", "y", {}),
], {"w": weights(4, 3, 1, 1), "b_": weights(4)})
case("half", "conv", [
    ("Cast", "w16", "w", dict(to=1)), ("Conv", "x w", "y", {}),
], {"w16": weights(4, 3, 1, 1).astype(np.float16)})
case("fixed_batch", "global average pool linear", [
    ("GlobalAveragePool", "x", "a", {}), ("Reshape", "a t", "b", {}), ("Gemm", "b w", "y", {}),
], {"t": ints(1, 3), "w": weights(3, 2)}, shape=(1, 3, 6, 8))

# Pixels.
case("pixels", "conv", [
    ("Cast", "x", "a", dict(to=1)), ("Div", "a full", "b", {}), ("Sub", "b mean", "c", {}), ("Div", "c std", "d", {}),
    ("Conv", "d w", "y", {}),
], {"full": np.float32(255), "mean": weights(1, 3, 1, 1), "std": weights(1, 3, 1, 1, low=0.2), "w": weights(2, 3, 1, 1)},
    kind=TensorProto.UINT8)
case("pixels_nhwc", "conv", [
    ("Cast", "x", "a", dict(to=1)), ("Sub", "a mean", "b", {}), ("Mul", "b scale", "c", {}),
    ("Transpose", "c", "d", dict(perm=[0, 3, 1, 2])), ("Conv", "d w", "y", {}),
], {"mean": weights(3), "scale": weights(3, low=0.01, high=0.02), "w": weights(2, 3, 1, 1)},
    kind=TensorProto.UINT8, shape=("n", 6, 8, 3))
case("pixels_plain", "conv", [("Cast", "x", "a", dict(to=1)), ("Conv", "a w", "y", {})],
     {"w": weights(2, 3, 1, 1)}, kind=TensorProto.UINT8)

# Entries in any order, and windows and matrices that are taken apart.
case("picked", "pick pick slice pick concat", [
    ("Slice", "x from to axes steps", "a", {}), ("Gather", "a some", "b", dict(axis=2)), ("Gather", "b row", "c", dict(axis=2)),
    ("Gather", "b pairs", "d", dict(axis=2)), ("Reshape", "d sides", "e", {}), ("Unsqueeze", "c two", "f", {}),
    ("Concat", "e f", "y", dict(axis=2)),
], {"from": ints(-1), "to": ints(-9), "axes": ints(3), "steps": ints(-3), "some": ints(4, 0, 0, 5, 2), "row": np.array(-1),
    "pairs": np.array([[3, 1], [1, 0]]), "sides": ints(0, 3, 4, 3), "two": ints(2)})
case("pads_repeat", "pick pick pick pick pick pick", [
    ("Pad", "x one", "a", dict(mode="reflect")), ("Pad", "a two", "b", dict(mode="edge")), ("Pad", "b three", "y", dict(mode="wrap")),
], {"one": ints(0, 0, 2, 0, 0, 0, 1, 3), "two": ints(0, 0, 1, 2, 0, 0, 0, 0), "three": ints(0, 1, 0, 0, 0, 0, 0, 2)}, opset=19)
case("pools_dilated", "pick pick max pool pick pick average pool", [
    ("MaxPool", "x", "a", dict(kernel_shape=[3, 2], dilations=[2, 3], strides=[1, 2], pads=[2, 1, 1, 1], ceil_mode=1)),
    ("AveragePool", "x", "b", dict(kernel_shape=[2, 3], dilations=[3, 2], strides=[2, 1])),
], outputs=("a", "b"), opset=19)
case("resize_nearest_any", "pick pick pick pick", [
    ("Resize", "x _ _ odd", "a", dict(mode="nearest", nearest_mode="ceil", coordinate_transformation_mode="align_corners")),
    ("Resize", "x _ scales", "b", dict(mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")),
], {"odd": ints(1, 3, 8, 5), "scales": np.array([1, 1, 0.7, 1.3], np.float32)}, outputs=("a", "b"))
case("resize_scaled", "resize", [
    ("Resize", "x _ scales", "y", dict(mode="linear", coordinate_transformation_mode="half_pixel")),
], {"scales": np.array([1, 1, 0.7, 1.3], np.float32)})
case("matmul_sides", "transpose conv transpose conv transpose conv", [
    ("MatMul", "x right", "a", {}), ("MatMul", "left a", "b", {}), ("MatMul", "b vector", "y", {}),
], {"right": weights(3, 8, 5), "left": weights(1, 4, 6), "vector": weights(5)})

# Functions of one value, whatever they are spelled as.
CONV = ("Conv", "x w", "c", dict(pads=[1, 1, 1, 1]))
case("gelu_erf", "conv function", [
    CONV, ("Div", "c root", "d", {}), ("Erf", "d", "e", {}), ("Add", "e one", "f", {}), ("Mul", "c f", "g", {}),
    ("Mul", "g half", "y", {}),
], {"w": weights(5, 3, 3, 3), "root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}, opset=13)
case("gelus", "conv function function concat", [
    CONV, ("Gelu", "c", "a", {}), ("Gelu", "c", "b", dict(approximate="tanh")), ("Concat", "a b", "y", dict(axis=1)),
], {"w": weights(5, 3, 3, 3)}, opset=20)
case("more_functions", "function function function function function function function function concat", [
    ("Mish", "x", "a", {}), ("Elu", "x", "b", dict(alpha=0.7)), ("Selu", "x", "c", {}), ("Celu", "x", "d", dict(alpha=0.6)),
    ("Softplus", "x", "e", {}), ("Softsign", "x", "f", {}), ("ThresholdedRelu", "x", "g", dict(alpha=0.3)),
    ("Tanh", "x", "h", {}), ("Concat", "a b c d e f g h", "y", dict(axis=1)),
], opset=18)
case("slopes", "function function concat", [
    ("PRelu", "x each", "a", {}), ("PRelu", "x one", "b", {}), ("Concat", "a b", "y", dict(axis=1)),
], {"each": weights(3, 1, 1), "one": weights(1)})
case("relu6_as_min_max", "conv clip", [CONV, ("Max", "c zero", "a", {}), ("Min", "a six", "y", {})],
     {"w": weights(5, 3, 3, 3, low=-6, high=6), "zero": np.float32(0), "six": np.float32(6)})
case("powers", "function function function concat", [
    ("Pow", "x two", "a", {}), ("Exp", "x", "b", {}), ("Mul", "b each", "c", {}), ("Abs", "x", "d", {}),
    ("Pow", "d odd", "e", {}), ("Concat", "a c e", "y", dict(axis=1)),
], {"two": np.float32(2), "odd": np.float32(1.7), "each": weights(3, 1, 1)})
case("choices", "function function concat", [
    ("Greater", "x limit", "a", {}), ("Where", "a x low", "b", {}), ("Less", "x limit", "c", {}), ("Not", "c", "d", {}),
    ("Cast", "d", "e", dict(to=1)), ("Mul", "e x", "f", {}), ("Concat", "b f", "y", dict(axis=1)),
], {"limit": np.float32(0.2), "low": np.float32(-3)})
case("quotients", "conv conv function function function concat", [
    CONV, ("Conv", "x v", "d", dict(pads=[1, 1, 1, 1])), ("Abs", "d", "e", {}), ("Add", "e one", "f", {}), ("Div", "c f", "g", {}),
    ("Div", "one f", "h", {}), ("Concat", "g h", "y", dict(axis=1)),
], {"w": weights(5, 3, 3, 3), "v": weights(5, 3, 3, 3), "one": np.float32(1)})
case("decode", "conv slice function slice function concat", [
    CONV, ("Slice", "c zero two axis", "a", {}), ("Sigmoid", "a", "b", {}), ("Mul", "b double", "d", {}), ("Pow", "d double", "e", {}),
    ("Mul", "e anchors", "f", {}), ("Slice", "c two five axis", "g", {}), ("Exp", "g", "h", {}), ("Mul", "h double", "i", {}),
    ("Concat", "f i", "y", dict(axis=1)),
], {"w": weights(5, 3, 3, 3), "zero": ints(0), "two": ints(2), "five": ints(5), "axis": ints(1), "double": np.float32(2),
    "anchors": weights(2, 1, 1, low=1, high=9)})

# Operators of old opsets, whose attributes are inputs now.
case("opset_9", "slice clip conv max pool", [
    ("Slice", "x", "a", dict(starts=[1], ends=[-1], axes=[3])), ("Clip", "a", "b", dict(min=-1.0, max=1.5)),
    ("Pad", "b", "c", dict(pads=[0, 0, 1, 1, 0, 0, 1, 1])), ("Conv", "c w", "d", {}), ("Dropout", "d", "e", dict(ratio=0.3)),
    ("BatchNormalization", "e s o m v", "f", {}), ("MaxPool", "f", "y", dict(kernel_shape=[2, 2])),
], {"w": weights(4, 3, 3, 3), **norm}, opset=9)
case("upsample_9", "upsample resize", [
    ("Upsample", "x twice", "a", dict(mode="nearest")), ("Upsample", "a more", "y", dict(mode="linear")),
], {"twice": np.array([1, 1, 2, 2], np.float32), "more": np.array([1, 1, 2, 3], np.float32)}, opset=9)
case("resize_10", "upsample pick pick resize", [
    ("Resize", "x twice", "a", dict(mode="nearest")), ("Resize", "a less", "b", dict(mode="nearest")),
    ("Resize", "b more", "y", dict(mode="linear")),
], {"twice": np.array([1, 1, 2, 1], np.float32), "less": np.array([1, 1, 0.75, 0.625], np.float32),
    "more": np.array([1, 1, 2, 3], np.float32)}, opset=10)
case("clip_open_9", "clip clip", [("Clip", "x", "a", dict(max=1.0)), ("Clip", "a", "y", dict(min=-0.5))], opset=9, outputs=("a", "y"))
case("softmax_of_9", "global average pool softmax softmax", [
    ("GlobalAveragePool", "x", "a", {}), ("Softmax", "a", "b", {}), ("Softmax", "x", "c", dict(axis=3)),
], opset=9, outputs=("b", "c"))
case("axes_9", "global average pool global max pool", [
    ("ReduceMean", "x", "a", dict(axes=[2, 3], keepdims=1)), ("Squeeze", "a", "b", dict(axes=[2, 3])),
    ("Unsqueeze", "b", "y", dict(axes=[1])), ("ReduceMax", "x", "z", dict(axes=[-2, -1], keepdims=0)),
], opset=9, outputs=("y", "z"))

# A batch of 1 that does not stay the first axis.
case("batch_shuffle", "conv transpose slice slice concat", [
    ("Conv", "x w b", "a", {}), ("Reshape", "a pairs", "c", {}), ("Transpose", "c", "d", dict(perm=[1, 0, 2])),
    ("Reshape", "d back", "e", {}), ("Gather", "e zero", "f", dict(axis=0)), ("Gather", "e one", "g", dict(axis=0)),
    ("Concat", "g f", "y", dict(axis=1)),
], {**w, "pairs": ints(2, 2, 48), "back": ints(2, -1, 2, 6, 8), "zero": np.array(0), "one": np.array(1)},
    shape=(1, 3, 6, 8))
case("batch_second", "reshape conv transpose", [
    ("Reshape", "x flat", "a", {}), ("Transpose", "a", "b", dict(perm=[2, 0, 1])), ("MatMul", "b w", "c", {}),
    ("Add", "c b_", "d", {}), ("Relu", "d", "y", {}),
], {"flat": ints(0, 3, -1), "w": weights(3, 5), "b_": weights(5)}, fixed=True)
case("batch_gone", "sigmoid softmax slice", [
    ("Squeeze", "x first", "a", {}), ("Sigmoid", "a", "b", {}), ("Softmax", "b", "y", dict(axis=0)),
    ("Slice", "y from to axes", "z", {}),
], {"first": ints(0), "from": ints(1), "to": ints(3), "axes": ints(0)}, shape=(1, 3, 6, 8), outputs=("y", "z"), fixed=True)
case("batch_flat", "reshape softmax global average pool", [
    ("Flatten", "x", "a", dict(axis=2)), ("Softmax", "a", "b", {}), ("Reshape", "b back", "y", {}),
    ("ReduceMean", "a", "z", dict(axes=[1], keepdims=0)),
], {"back": ints(1, 3, 6, 8)}, shape=(1, 3, 6, 8), outputs=("y", "z"), fixed=True)
case("batch_and_shape", "", [
    ("Squeeze", "x", "a", {}), ("Shape", "a", "s", {}), ("Slice", "s zero one", "t", {}), ("Concat", "t rest", "u", dict(axis=0)),
    ("Reshape", "a u", "y", {}),
], {"zero": ints(0), "one": ints(1), "rest": ints(-1)}, shape=(1, 3, 6, 8), fixed=True)

# Weights that are stored as levels.
case("dequantized", "conv", [
    ("DequantizeLinear", "q s z", "w", dict(axis=0)), ("DequantizeLinear", "p t", "b", {}), ("Conv", "x w b", "y", {}),
], {"q": rng.integers(-128, 128, (4, 3, 3, 3)).astype(np.int8), "s": weights(4, low=0.01, high=0.02),
    "z": rng.integers(-9, 9, 4).astype(np.int8), "p": rng.integers(-9999, 9999, 4).astype(np.int32), "t": np.float32(1e-4)})
case("dequantized_blocks", "conv linear", [
    ("DequantizeLinear", "q s z", "w", dict(axis=1, block_size=36)), ("Flatten", "x", "a", {}),
    ("Gemm", "a w", "c", dict(transB=1)), ("Gemm", "c v", "y", {}),
], {"q": rng.integers(0, 256, (5, 144)).astype(np.uint8), "s": weights(5, 4, low=0.01, high=0.02),
    "z": rng.integers(100, 150, (5, 4)).astype(np.uint8), "v": weights(5, 2)}, opset=21)

# Pads of any value, and below 0.
case("pad_value", "constant concat constant constant concat conv", [
    ("Pad", "x pads v", "a", {}), ("Conv", "a w", "y", {}),
], {"pads": ints(0, 1, 2, 0, 0, 0, 1, 0), "v": np.float32(1.5), "w": weights(2, 4, 3, 3)})
case("pad_negative", "slice slice conv", [("Pad", "x pads", "a", {}), ("Conv", "a w", "y", {})],
     {"pads": ints(0, 0, -2, 1, 0, 0, 1, -3), "w": weights(2, 3, 2, 2)})

# Reductions, over any axes, as they lie or moved.
case("reductions", "sum sum of magnitudes norm log of sum of exponentials", [
    ("ReduceSum", "x rows", "a", {}), ("ReduceL1", "x", "b", dict(axes=[1], keepdims=0)),
    ("ReduceL2", "x", "c", dict(axes=[3])), ("ReduceLogSumExp", "x", "d", dict(axes=[2, 3], keepdims=0)),
], {"rows": ints(2)}, outputs=("a", "b", "c", "d"))
case("reductions_18", "reshape sum of squares product minimum function log of sum transpose sum", [
    ("ReduceSumSquare", "x all", "a", dict(keepdims=0)), ("ReduceProd", "x one", "b", {}), ("ReduceMin", "x two", "c", {}),
    ("Abs", "x", "m", {}), ("ReduceLogSum", "m one", "d", {}), ("ReduceSum", "x ends", "e", {}),
], {"all": ints(1, 2, 3), "one": ints(1), "two": ints(-1, -2), "ends": ints(1, 3)}, opset=18, outputs=("a", "b", "c", "d", "e"))
case("places", "argmax argmin argmax", [
    ("ArgMax", "x", "i", dict(axis=1)), ("Cast", "i", "a", dict(to=1)), ("ArgMin", "x", "j", dict(axis=-1, keepdims=0)),
    ("Cast", "j", "b", dict(to=1)), ("ArgMax", "x", "k", dict(axis=2, select_last_index=1)), ("Cast", "k", "c", dict(to=1)),
], outputs=("a", "b", "c"))
case("reductions_of_all", "reshape sum function", [
    ("ReduceSum", "x", "a", dict(keepdims=0)), ("Mul", "a two", "b", {}), ("Reshape", "b back", "y", {}),
], {"two": np.float32(2), "back": ints(1, 1)}, shape=(1, 3, 6, 8))

# Normalizations.
ln = {"g": weights(3, low=0.5, high=1.5), "o": weights(3)}
case("layer_norm_last", "standardization function conv", [
    ("Transpose", "x", "a", dict(perm=[0, 2, 3, 1])), ("LayerNormalization", "a g o", "b", dict(epsilon=1e-6)),
    ("Transpose", "b", "c", dict(perm=[0, 3, 1, 2])), ("Relu", "c", "d", {}), ("Conv", "d w b_", "y", {}),
], {**ln, "w": w["w"], "b_": w["b"]})
case("layer_norm_spelled", "standardization function transpose", [
    ("Transpose", "x", "a", dict(perm=[0, 2, 3, 1])), ("ReduceMean", "a", "m", dict(axes=[-1])), ("Sub", "a m", "d", {}),
    ("Pow", "d two", "s", {}), ("ReduceMean", "s", "v", dict(axes=[-1])), ("Add", "v eps", "e", {}), ("Sqrt", "e", "r", {}),
    ("Div", "d r", "n", {}), ("Mul", "n g", "p", {}), ("Add", "p o", "y", {}),
], {**ln, "two": np.float32(2), "eps": np.float32(1e-5)})
case("layer_norm_many", "reshape standardization constant reshape multiply", [
    ("LayerNormalization", "x g", "y", dict(axis=1)),
], {"g": weights(3, 6, 8)})
case("instance_norm", "standardization function", [("InstanceNormalization", "x g o", "y", {})], ln)
case("group_norm", "conv reshape standardization reshape function", [
    ("Conv", "x w b", "a", {}), ("GroupNormalization", "a g o", "y", dict(num_groups=2)),
], {**w, "g": weights(4), "o": weights(4)}, opset=21)
case("lp_norm", "norm function norm function", [
    ("LpNormalization", "x", "y", dict(axis=1)), ("LpNormalization", "y", "z", dict(axis=-1, p=2)),
], outputs=("y", "z"), opset=22)

# Products of two activations: attention, with two heads of rows.
case("attention", "conv transpose reshape matrix product softmax matrix product", [
    ("Conv", "x w b", "c", {}), ("Reshape", "c heads", "q", {}), ("Transpose", "q", "k", dict(perm=[0, 1, 3, 2])),
    ("MatMul", "k q", "s", {}), ("Softmax", "s", "p", dict(axis=-1)), ("MatMul", "q p", "y", {}),
], {**w, "heads": ints(0, 2, 2, -1)})

# Recurrent layers. Columns are steps, with a batch that moves and comes back; then all results; rows as sequences; states to
# begin with that exporters make of the batch; rows of one image through Gemm.
def cells(gates, directions=1, features=18, hidden=5, **more):
    names = {"W": (gates * hidden, features), "R": (gates * hidden, hidden), "B": (2 * gates * hidden,)}
    return {name: weights(directions, *sides, low=-0.6, high=0.6) for name, sides in names.items()} | more


columns = [("Reshape", "x lines", "l", {}), ("Transpose", "l", "t", dict(perm=[2, 0, 1]))]
back = [("Squeeze", "r one", "q", {}), ("Transpose", "q", "y", dict(perm=[1, 0, 2]))]
lines = {"lines": ints(0, 18, 8), "one": ints(1)}
case("lstm", "reshape lstm transpose", columns + [("LSTM", "t W R B", "r", dict(hidden_size=5))] + back, {**cells(4), **lines})
case("gru", "reshape gru transpose", columns + [("GRU", "t W R B", "r", dict(hidden_size=5))] + back, {**cells(3), **lines})
case("gru_reset_after", "reshape gru transpose", columns + [
    ("GRU", "t W R B", "r", dict(hidden_size=5, linear_before_reset=1, direction="reverse")),
] + back, {**cells(3), **lines})
case("rnn", "reshape rnn transpose", columns + [("RNN", "t W R", "r", dict(hidden_size=5))] + back, {**cells(1), **lines})
case("rnn_relu", "reshape rnn transpose", columns + [
    ("RNN", "t W R B", "r", dict(hidden_size=5, activations=["Relu"], direction="reverse")),
] + back, {**cells(1), **lines})
case("lstm_results", "reshape lstm slice slice slice slice concat lstm transpose", columns + [
    ("LSTM", "t W R B lengths", "y h c", dict(hidden_size=5, direction="bidirectional", activations=2 * ["Sigmoid", "Tanh", "Tanh"])),
], {**cells(4, 2), **lines, "lengths": np.array([8], np.int32)}, outputs=("y", "h", "c"), fixed=True)
case("gru_last", "reshape gru slice", columns + [
    ("GRU", "t W R B", "_ h", dict(hidden_size=5, direction="reverse")), ("Squeeze", "h zero", "y", {}),
], {**cells(3), **lines, "zero": ints(0)})
case("lstm_rows", "transpose lstm slice slice slice slice concat transpose transpose", [
    ("Squeeze", "x zero", "a", {}), ("LSTM", "a W R B _ h c P", "r z", dict(hidden_size=5, direction="bidirectional")),
    ("Transpose", "r", "y", dict(perm=[2, 0, 1, 3])),
], {**cells(4, 2, 8), "zero": ints(0), "h": weights(2, 6, 5), "c": weights(2, 6, 5), "P": weights(2, 15)}, outputs=("y", "z"),
    fixed=True)
case("crnn", "conv reshape lstm transpose transpose gru transpose transpose conv transpose", [
    ("Conv", "x w b", "a", {}), ("Reshape", "a lines", "l", {}), ("Transpose", "l", "t", dict(perm=[2, 0, 1])),
    ("Shape", "t", "s", {}), ("Gather", "s one", "n", {}), ("Concat", "two n five", "d", dict(axis=0)),
    ("ConstantOfShape", "d", "zeros", {}), ("Expand", "ones d", "h", {}),
    ("LSTM", "t W R B _ h zeros", "r", dict(hidden_size=5, direction="bidirectional")),
    ("Transpose", "r", "u", dict(perm=[0, 2, 1, 3])), ("Reshape", "u joined", "v", {}),
    ("GRU", "v W2 R2 B2", "g", dict(hidden_size=5)), ("Squeeze", "g one", "q", {}),
    ("Reshape", "q rows", "f", {}), ("Gemm", "f m o", "e", dict(alpha=0.5, transB=1)), ("Reshape", "e steps", "y", {}),
], {**w, **cells(4, 2, 24), **{f"{name}2": value for name, value in cells(3, 1, 10).items()}, "lines": ints(0, 24, 8),
    "one": ints(1), "two": ints(2), "five": ints(5), "ones": np.ones(5, np.float32), "joined": ints(0, 0, -1), "rows": ints(-1, 5),
    "m": weights(7, 5), "o": weights(7), "steps": ints(8, 1, 7)}, fixed=True)

# Branches with a constant condition; they read what is around them, and have constants of their own.
def branch(name, nodes, result, constants=None):
    return helper.make_graph(
        [helper.make_node(operator, inputs.split(), [output], name=output) for operator, inputs, output in nodes],
        name, [], [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, key) for key, value in (constants or {}).items()],
    )


case("if", "conv constant add", [
    ("Conv", "x w b", "a", {}), ("Shape", "a", "s", {}), ("Gather", "s one", "c", {}), ("Equal", "c four", "is", {}),
    ("If", "is", "r", dict(then_branch=branch("then", [("Relu", "a", "t")], "t"),
                           else_branch=branch("else", [("Sigmoid", "a", "e")], "e"))),
    ("Not", "is", "isnt", {}),
    ("If", "isnt", "y", dict(then_branch=branch("then2", [("Identity", "r", "t2")], "t2"),
                             else_branch=branch("else2", [("Add", "r shift", "e2")], "e2", {"shift": weights(1, 4, 6, 8)}))),
], {**w, "one": np.array(1), "four": np.array(4)})

# Repeated values, and the logarithm of a softmax where the exponential alone would be 0.
case("log_softmax", "conv maximum subtract log of sum of exponentials subtract maximum subtract log of sum of exponentials subtract", [
    ("Mul", "x wide", "a", {}), ("LogSoftmax", "a", "y", dict(axis=1)), ("LogSoftmax", "a", "z", {}),
], {"wide": np.float32(100)}, outputs=("y", "z"))
case("log_softmax_of_11", "reshape maximum subtract log of sum of exponentials subtract", [
    ("LogSoftmax", "x", "y", dict(axis=1)),
], opset=11)
case("expand", "global average pool pick pick add", [
    ("GlobalAveragePool", "x", "a", {}), ("Shape", "x", "s", {}), ("Expand", "a s", "b", {}), ("Add", "x b", "y", {}),
])
case("expand_in_front", "pick pick pick", [
    ("Expand", "x more", "y", {}), ("Expand", "x both", "z", {}),
], {"more": ints(4, 3, 1, 8), "both": ints(2, 1, 3, 6, 8)}, shape=(1, 3, 1, 8), outputs=("y", "z"), fixed=True)
case("tile", "pick pick", [("Tile", "x times", "y", {})], {"times": ints(1, 1, 2, 3)})

save_file(tensors, Path(__file__).with_name("onnx_cases.safetensors"), {"kinds": json.dumps(expected), "fixed": json.dumps(fixed_outputs)})
print(len(expected), "cases")
