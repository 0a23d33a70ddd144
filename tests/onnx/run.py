"""Runs ONNX files in ONNX Runtime's CPU provider for the tests beside this file.

Reads one job a line from stdin, JSON, and answers each with one line:
  {"model": path, "input": "normalized" | "pixels" | "floats", "pixels": path, "count": images, "batch": images,
   "tensors": {name: path}}
`pixels` holds uint8 images, count × channels × height × width; for "floats" (a file of another program) float32. Each tensor
named is written to its path, raw and little-endian. The answer has the tensors' types and shapes, the model's metadata, the
operators of its graph, and those that are left after ONNX Runtime's optimizations; or {"error": text}.
"""

import json
import os
import sys
import tempfile

import numpy
import onnx
import onnxruntime


def session(model, optimized):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = optimized
    # The tests run side by side, each with a process of its own: threads that spin while they wait would take their cores.
    options.intra_op_num_threads = 1
    # On x86 processors without VNNI, products of int8 saturate unless this asks for the slower ones that do not.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def images(job, model, metadata):
    dims = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    if job["input"] == "floats":
        if min(dims[2:]) < 1:
            # What the file leaves open (0, or -1 as Paddle writes it) its description says.
            with open(os.path.splitext(job["model"])[0] + ".json") as description:
                dims[2:] = json.load(description)["input"]["size"]
        return numpy.fromfile(job["pixels"], numpy.float32).reshape(job["count"], *dims[1:])
    pixels = numpy.fromfile(job["pixels"], numpy.uint8).reshape(job["count"], *dims[1:])
    if job["input"] == "pixels":
        return pixels
    preprocessing = json.loads(metadata["repquant.preprocessing"])
    mean, std = (numpy.array(preprocessing[k], numpy.float32).reshape(1, -1, 1, 1) for k in ("mean", "std"))
    return (pixels.astype(numpy.float32) / 255 - mean) / std


def run(job, folder):
    model = onnx.load(job["model"])
    onnx.checker.check_model(model, full_check=True)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    known = {output.name for output in model.graph.output}
    for name in job["tensors"]:
        if name not in known:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    optimized = os.path.join(folder, "optimized.onnx")
    runtime = session(model, optimized)
    x = images(job, model, metadata)
    names = list(job["tensors"])
    # A network may be made for one image.
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    batch = batch if batch > 0 else job["batch"]
    parts = [runtime.run(names, {model.graph.input[0].name: x[i : i + batch]}) for i in range(0, len(x), batch)]
    answer = {"tensors": {}, "metadata": metadata}
    for name, values in zip(names, zip(*parts)):
        values = numpy.concatenate(values)
        values.tofile(job["tensors"][name])
        answer["tensors"][name] = {"type": str(values.dtype), "shape": values.shape}
    answer["operators"] = [node.op_type for node in model.graph.node]
    answer["names"] = [node.name for node in model.graph.node]
    answer["optimized"] = [node.op_type for node in onnx.load(optimized).graph.node]
    return answer


with tempfile.TemporaryDirectory() as folder:
    for line in sys.stdin:
        try:
            answer = run(json.loads(line), folder)
        except Exception as error:  # the test shows it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
