"""Makes the networks of tests/data/onnx: small, random weights, exported by PyTorch. They are kept in the repository, so
the tests need no PyTorch; run this again only to change them:

    python tests/data/onnx_models.py tests/data/onnx

Written with torch 2.15.0, onnx 1.23.2 and onnxscript 0.7.2. Architectures follow the papers (RepVGG 2101.03697, MobileOne
2206.04040, YOLOv6 2209.02976, ResNet 1512.03385, MobileNetV2 1801.04381, ACNet 1908.03930, Diverse Branch Block
2103.13425), in a few thousand weights each. Batch norms have random statistics: folding them must do something.
"""

import sys
from pathlib import Path

import onnx
import torch
from torch import nn

EPS = 1e-3


def conv(inputs, outputs, kernel, stride=1, groups=1, bias=False, padding=None):
    padding = kernel // 2 if padding is None else padding
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=bias)


def conv_bn(*args, **kwargs):
    layer = conv(*args, **kwargs)
    return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels, eps=EPS))


class RepBlock(nn.Module):
    """Parallel 3x3, 1x1 and identity branches, each with batch norm, as trained."""

    def __init__(self, inputs, outputs, stride=1, groups=1, act=nn.ReLU):
        super().__init__()
        self.dense = conv_bn(inputs, outputs, 3, stride, groups)
        self.point = conv_bn(inputs, outputs, 1, stride, groups, padding=0)
        self.identity = nn.BatchNorm2d(inputs, eps=EPS) if inputs == outputs and stride == 1 else None
        self.act = act()

    def forward(self, x):
        y = self.dense(x) + self.point(x)
        if self.identity is not None:
            y = y + self.identity(x)
        return self.act(y)


def plain_block(inputs, outputs, stride=1, act=nn.ReLU):
    """The same as it is deployed: one convolution with bias."""
    return nn.Sequential(conv(inputs, outputs, 3, stride, bias=True), act())


class MobileOneBlock(nn.Module):
    """Several branches of a kernel size, a 1x1 scale branch beside a 3x3 and a skip branch, each with batch norm."""

    def __init__(self, inputs, outputs, kernel, stride=1, groups=1, branches=2):
        super().__init__()
        self.branches = nn.ModuleList(conv_bn(inputs, outputs, kernel, stride, groups) for _ in range(branches))
        self.scale = conv_bn(inputs, outputs, 1, stride, groups, padding=0) if kernel > 1 else None
        self.skip = nn.BatchNorm2d(inputs, eps=EPS) if inputs == outputs and stride == 1 else None

    def forward(self, x):
        y = sum(branch(x) for branch in self.branches)
        if self.scale is not None:
            y = y + self.scale(x)
        if self.skip is not None:
            y = y + self.skip(x)
        return torch.relu(y)


class AsymmetricBlock(nn.Module):
    """ACNet: 3x3, 3x1 and 1x3 branches."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.square = conv_bn(inputs, outputs, 3)
        self.column = nn.Sequential(nn.Conv2d(inputs, outputs, (3, 1), padding=(1, 0), bias=False), nn.BatchNorm2d(outputs))
        self.row = nn.Sequential(nn.Conv2d(inputs, outputs, (1, 3), padding=(0, 1), bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return torch.relu(self.square(x) + self.column(x) + self.row(x))


class DiverseBlock(nn.Module):
    """A diverse branch block: 3x3; 1x1; 1x1 then 3x3; 1x1 then average pooling. Without padding a chain is one kernel."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.dense = conv_bn(inputs, outputs, 3, padding=0)
        self.point = conv_bn(inputs, outputs, 1)
        self.chain = nn.Sequential(conv_bn(inputs, outputs, 1), conv_bn(outputs, outputs, 3, padding=0))
        self.pool = nn.Sequential(conv_bn(inputs, outputs, 1), nn.AvgPool2d(3, 1), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return torch.relu(self.dense(x) + self.point(x[:, :, 1:-1, 1:-1]) + self.chain(x) + self.pool(x))


class Classifier(nn.Module):
    def __init__(self, body, features, classes=10):
        super().__init__()
        self.body = body
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(features, classes)

    def forward(self, x):
        return self.linear(torch.flatten(self.pool(self.body(x)), 1))


def repvgg(block):
    return Classifier(nn.Sequential(block(3, 8, 2), block(8, 16, 2), block(16, 16), block(16, 24, 2), block(24, 24)), 24)


def mobileone():
    layers = [MobileOneBlock(3, 8, 3, 2)]
    for inputs, outputs, stride in [(8, 16, 2), (16, 16, 1), (16, 24, 2)]:
        layers += [MobileOneBlock(inputs, inputs, 3, stride, groups=inputs), MobileOneBlock(inputs, outputs, 1)]
    return Classifier(nn.Sequential(*layers), 24)


def branches():
    return Classifier(nn.Sequential(conv_bn(3, 8, 3, 2), nn.ReLU(), AsymmetricBlock(8, 12), DiverseBlock(12, 12)), 12)


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first = conv_bn(inputs, outputs, 3, stride)
        self.second = conv_bn(outputs, outputs, 3)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else conv_bn(inputs, outputs, 1, stride, padding=0)

    def forward(self, x):
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


def resnet18():
    stem = nn.Sequential(conv_bn(3, 6, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    stages = [BasicBlock(a, b, s) for a, b, s in [(6, 6, 1), (6, 6, 1), (6, 8, 2), (8, 8, 1), (8, 12, 2), (12, 12, 1), (12, 16, 2), (16, 16, 1)]]
    return Classifier(nn.Sequential(stem, *stages), 16)


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride, expand):
        super().__init__()
        hidden = inputs * expand
        layers = [conv_bn(inputs, hidden, 1), nn.ReLU6()] if expand > 1 else []
        layers += [conv_bn(hidden, hidden, 3, stride, groups=hidden), nn.ReLU6(), conv_bn(hidden, outputs, 1)]
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.body(x) if self.residual else self.body(x)


def mobilenet_v2():
    blocks = [InvertedResidual(*row) for row in [(8, 6, 1, 1), (6, 8, 2, 4), (8, 8, 1, 4), (8, 12, 2, 4), (12, 12, 1, 4)]]
    head = [conv_bn(12, 32, 1), nn.ReLU6()]
    return Classifier(nn.Sequential(conv_bn(3, 8, 3, 2), nn.ReLU6(), *blocks, *head, nn.Dropout(0.2)), 32)


class Pooling(nn.Module):
    """SimSPPF: three max pools in a row, all joined."""

    def __init__(self, channels):
        super().__init__()
        self.reduce = nn.Sequential(conv_bn(channels, channels // 2, 1), nn.ReLU())
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.expand = nn.Sequential(conv_bn(channels * 2, channels, 1), nn.ReLU())

    def forward(self, x):
        x = self.reduce(x)
        a = self.pool(x)
        b = self.pool(a)
        return self.expand(torch.cat([x, a, b, self.pool(b)], 1))


class Head(nn.Module):
    """YOLOv6's decoupled head of one level: class scores and box distances."""

    def __init__(self, channels, classes):
        super().__init__()
        self.stem = nn.Sequential(conv_bn(channels, channels, 1), nn.SiLU())
        self.class_conv = nn.Sequential(conv_bn(channels, channels, 3), nn.SiLU())
        self.box_conv = nn.Sequential(conv_bn(channels, channels, 3), nn.SiLU())
        self.scores = nn.Conv2d(channels, classes, 1)
        self.boxes = nn.Conv2d(channels, 4, 1)

    def forward(self, x):
        x = self.stem(x)
        scores = torch.sigmoid(self.scores(self.class_conv(x)))
        return scores.flatten(2), self.boxes(self.box_conv(x)).flatten(2)


class Detector(nn.Module):
    """EfficientRep backbone, RepPAN neck with transposed convolutions, a head of three levels."""

    def __init__(self, block, classes=5):
        super().__init__()
        self.stem = block(3, 8, 2)
        self.stage2 = nn.Sequential(block(8, 8, 2), block(8, 8))
        self.stage3 = nn.Sequential(block(8, 16, 2), block(16, 16))
        self.stage4 = nn.Sequential(block(16, 24, 2), block(24, 24))
        self.stage5 = nn.Sequential(block(24, 32, 2), block(32, 32), Pooling(32))
        self.reduce5 = nn.Sequential(conv_bn(32, 16, 1), nn.ReLU())
        self.up5 = nn.ConvTranspose2d(16, 16, 2, 2)
        self.neck4 = block(40, 16)
        self.reduce4 = nn.Sequential(conv_bn(16, 8, 1), nn.ReLU())
        self.up4 = nn.ConvTranspose2d(8, 8, 2, 2)
        self.neck3 = block(24, 8)
        self.down3 = nn.Sequential(conv_bn(8, 8, 3, 2), nn.ReLU())
        self.out4 = block(16, 16)
        self.down4 = nn.Sequential(conv_bn(16, 16, 3, 2), nn.ReLU())
        self.out5 = block(32, 32)
        self.heads = nn.ModuleList(Head(channels, classes) for channels in (8, 16, 32))

    def forward(self, x):
        c3 = self.stage3(self.stage2(self.stem(x)))
        c4 = self.stage4(c3)
        p5 = self.reduce5(self.stage5(c4))
        p4 = self.reduce4(self.neck4(torch.cat([self.up5(p5), c4], 1)))
        n3 = self.neck3(torch.cat([self.up4(p4), c3], 1))
        n4 = self.out4(torch.cat([self.down3(n3), p4], 1))
        n5 = self.out5(torch.cat([self.down4(n4), p5], 1))
        found = [head(level) for head, level in zip(self.heads, (n3, n4, n5))]
        scores = torch.cat([scores for scores, _ in found], 2).permute(0, 2, 1)
        boxes = torch.cat([boxes for _, boxes in found], 2).permute(0, 2, 1)
        return scores, boxes


def randomized(model, seed):
    """Weights that keep activations near 1, batch norms that change them."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, 0.0, (1.5 / fan_in) ** 0.5)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0.0, 0.1)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.6, 1.2)
            nn.init.normal_(module.bias, 0.0, 0.2)
            nn.init.normal_(module.running_mean, 0.0, 0.2)
            nn.init.uniform_(module.running_var, 0.6, 1.6)
    return model.eval()


MODELS = {
    # name: (model, side of the image, names of the outputs, new exporter?, opset)
    "repvgg": (lambda: repvgg(RepBlock), 32, ["logits"], False, 13),
    "repvgg_fused": (lambda: repvgg(plain_block), 32, ["logits"], True, 18),
    "mobileone": (mobileone, 32, ["logits"], True, 20),
    "branches": (branches, 32, ["logits"], False, 17),
    "resnet18": (resnet18, 64, ["logits"], False, 11),
    "mobilenet_v2": (mobilenet_v2, 32, ["logits"], True, 21),
    "yolov6": (lambda: Detector(RepBlock), 64, ["scores", "boxes"], True, 18),
    "yolov6_silu": (lambda: Detector(lambda i, o, s=1: plain_block(i, o, s, nn.SiLU)), 64, ["scores", "boxes"], False, 14),
}


def strip(path):
    """Takes out the notes of the exporter: stack traces, which name the machine's files."""
    model = onnx.load(path)
    for holder in [model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        del holder.metadata_props[:]
        holder.doc_string = ""
    onnx.save(model, path)


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, (make, side, outputs, new, opset)) in enumerate(MODELS.items()):
        model = randomized(make(), seed)
        image = torch.randn(1, 3, side, side)
        path = str(folder / f"{name}.onnx")
        names = {"input_names": ["images"], "output_names": outputs, "opset_version": opset, "dynamo": new}
        if new:
            torch.onnx.export(model, (image,), path, external_data=False, **names)
        else:
            axes = {axis: {0: "batch"} for axis in ["images", *outputs]}
            torch.onnx.export(model, (image,), path, dynamic_axes=axes, **names)
        strip(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
