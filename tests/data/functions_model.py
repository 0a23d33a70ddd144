"""Makes tests/data/onnx/functions.onnx: convolutions with functions of one value between them, spelled as exporters do,
and a detector's tail behind the last ones. Random weights; needs onnx and numpy:

    python tests/data/functions_model.py tests/data/onnx
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(3)
nodes, constants = [], []


def constant(name, value):
    constants.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def node(operator, inputs, output, **attributes):
    nodes.append(helper.make_node(operator, inputs.split(), output.split(), name=output.split()[0], **attributes))
    return output


def conv(x, output, inputs, outputs, kernel=3, groups=1, bias=0.4):
    scale = 1.6 / np.sqrt(inputs // groups * kernel * kernel)
    weight = rng.normal(0, scale, (outputs, inputs // groups, kernel, kernel)).astype(np.float32)
    bias = rng.normal(0, bias, outputs).astype(np.float32)
    names = constant(f"{output}.weight", weight) + " " + constant(f"{output}.bias", bias)
    return node("Conv", f"{x} {names}", output, pads=[kernel // 2] * 4, group=groups)


def number(name, value):
    return constant(name, np.float32(value))


def main(folder):
    half, one, root = number("half", 0.5), number("one", 1), number("root", np.sqrt(2))
    conv("images", "stem", 3, 12)
    node("Div", f"stem {root}", "gelu/scaled")
    node("Erf", "gelu/scaled", "gelu/erf")
    node("Add", f"gelu/erf {one}", "gelu/raised")
    node("Mul", "stem gelu/raised", "gelu/product")
    node("Mul", f"gelu/product {half}", "gelu")
    conv("gelu", "left", 12, 12)
    slopes = constant("slopes", rng.uniform(0.05, 0.5, (12, 1, 1)).astype(np.float32))
    node("PRelu", f"left {slopes}", "prelu")
    conv("prelu", "depthwise", 12, 12, groups=12)
    node("Softplus", "depthwise", "mish/soft")
    node("Tanh", "mish/soft", "mish/tanh")
    node("Mul", "depthwise mish/tanh", "mish")
    conv("mish", "mix", 12, 12, kernel=1)
    node("Add", "mix gelu", "sum")
    node("Elu", "sum", "elu", alpha=0.8)
    conv("elu", "neck", 12, 8)
    six, zero = number("six", 6), number("zero", 0)
    node("Max", f"neck {zero}", "relu6/max")
    node("Min", f"relu6/max {six}", "relu6")
    conv("relu6", "boxes", 8, 4, kernel=1)
    two = number("two", 2)
    anchors = constant("anchors", np.array([10, 13, 16, 30], np.float32).reshape(4, 1, 1))
    node("Sigmoid", "boxes", "boxes/sigmoid")
    node("Mul", f"boxes/sigmoid {two}", "boxes/doubled")
    node("Pow", f"boxes/doubled {two}", "boxes/power")
    node("Mul", f"boxes/power {anchors}", "sizes")
    conv("relu6", "scores", 8, 5, kernel=1, bias=1.2)
    conv("relu6", "weight", 8, 5, kernel=1)
    node("Abs", "weight", "weight/abs")
    node("Add", f"weight/abs {one}", "weight/raised")
    node("Div", "scores weight/raised", "ratios")
    value = lambda name, sides: helper.make_tensor_value_info(name, TensorProto.FLOAT, sides)
    graph = helper.make_graph(
        nodes,
        "functions",
        [value("images", ["n", 3, 32, 32])],
        [value("sizes", ["n", 4, 32, 32]), value("ratios", ["n", 5, 32, 32])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, Path(folder) / "functions.onnx")


main(sys.argv[1])
