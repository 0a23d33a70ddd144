"""Calibrates a fused network on a GPU with plain PyTorch, the way of pytorch-quantization's histogram calibrator.

Decoding in worker processes; a histogram of |x| of 2,048 bins for each activation, on the GPU, whose range grows by
whole bins; then the threshold of least relative entropy over 128 levels, on the host.

python torch_calibrate.py FLOAT.onnx IMAGES COUNT [DEVICE]
"""

import os
import sys

import numpy
import onnx
import torch
from onnx import numpy_helper

import preparation

BINS = 2048
LEVELS = 128


class Images(torch.utils.data.Dataset):
    """A folder's images as inputs."""

    def __init__(self, paths, preprocessing):
        self.paths = paths
        self.preprocessing = preprocessing

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return torch.from_numpy(preparation.read(self.paths[index], self.preprocessing))


def network(model):
    """The layers of a file that `repquant fuse` wrote: convolutions, pooling, classifier."""
    values = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in model.graph.initializer}
    layers = []
    for node in model.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Conv":
            weight, bias = (values[name] for name in node.input[1:3])
            o, i, *kernel = weight.shape
            groups = attributes.get("group", 1)
            pads = attributes.get("pads", [0, 0])[:2]
            layer = torch.nn.Conv2d(i * groups, o, kernel, attributes.get("strides", 1), pads, groups=groups)
            layer.weight.data, layer.bias.data = weight, bias
        elif node.op_type == "Gemm":
            weight, bias = (values[name] for name in node.input[1:3])
            weight = weight if attributes.get("transB", 0) else weight.T
            layer = torch.nn.Linear(*weight.shape[::-1])
            layer.weight.data, layer.bias.data = weight, bias
        elif node.op_type == "Relu":
            layer = torch.nn.ReLU()
        elif node.op_type == "GlobalAveragePool":
            layer = torch.nn.AdaptiveAvgPool2d(1)
        elif node.op_type in ("Flatten", "Reshape", "Squeeze"):
            layer = torch.nn.Flatten()
        else:
            sys.exit(f"torch_calibrate.py does not know the operator {node.op_type}")
        layers.append(layer)
    return torch.nn.Sequential(*layers)


class Histogram:
    """Counts |x|; the range grows by whole bins, so that nothing is counted twice."""

    def __init__(self):
        self.counts = None

    def collect(self, x):
        x = x.detach().abs().float()
        largest = x.max().item()
        if self.counts is None:
            self.reach = largest or 1.0
            self.width = self.reach / BINS
            self.counts = torch.histc(x, bins=BINS, min=0, max=self.reach)
            return
        bins = self.counts.numel()
        if largest > self.reach:
            bins = int(numpy.ceil(largest / self.width))
            self.reach = bins * self.width
        counts = torch.histc(x, bins=bins, min=0, max=self.reach)
        counts[: self.counts.numel()] += self.counts
        self.counts = counts

    def threshold(self):
        """The end of the bins whose quantization to 128 levels has the least relative entropy."""
        counts = self.counts.cpu().numpy().astype(numpy.float64)
        counts[0] = 0
        best, least = len(counts), numpy.inf
        for end in range(LEVELS, len(counts) + 1):
            kept = counts[:end]
            levels = numpy.arange(end) * LEVELS // end
            occupied = kept > 0
            sums = numpy.bincount(levels, kept, LEVELS)
            filled = numpy.bincount(levels, occupied, LEVELS)
            spread = numpy.divide(sums, filled, out=numpy.zeros(LEVELS), where=filled > 0)[levels] * occupied
            reference = kept.copy()
            reference[-1] += counts[end:].sum()
            p, q = reference / max(reference.sum(), 1), spread / max(spread.sum(), 1e-30)
            both = (p > 0) & (q > 0)
            divergence = (p[both] * numpy.log(p[both] / q[both])).sum() if both.any() else numpy.inf
            if divergence < least:
                best, least = end, divergence
        return best * self.width


def main():
    model, folder, count, device = (*sys.argv[1:], "cuda")[:4]
    model = onnx.load(model)
    preprocessing = preparation.metadata(model)
    images = Images(preparation.files(folder, int(count)), preprocessing)
    workers = min(8, os.cpu_count() or 1)
    batches = torch.utils.data.DataLoader(images, batch_size=32, num_workers=workers)
    net = network(model).eval().to(device)
    histograms = [Histogram() for _ in net]

    def observe(histogram):
        return lambda module, inputs, output: histogram.collect(output)

    for layer, histogram in zip(net, histograms):
        if not isinstance(layer, (torch.nn.Conv2d, torch.nn.Flatten)):
            layer.register_forward_hook(observe(histogram))
    with torch.inference_mode():
        for batch in batches:
            net(batch.to(device, non_blocking=True))
    thresholds = [h.threshold() for h in histograms if h.counts is not None]
    print(f"{len(thresholds)} thresholds, {len(images)} images")


if __name__ == "__main__":
    main()
