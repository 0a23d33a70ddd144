#!/usr/bin/env python3
"""Makes the fixtures `repvgg_a0.json`, `mobileone_s0.json` and those of SMALL: what timm computes with known weights.

The weights themselves (36 MB) are not kept. Every tensor is made from its name and shape by a counter-based generator
(SplitMix64, seeded with the FNV-1a hash of the name) whose arithmetic is exact or correctly rounded, so that
`tests/common/timm.rs` makes the same bits. A fixture holds timm's configuration, its names and shapes, the number of
multiplications, and the logits of two generated images, computed by timm in float64.

The networks of SMALL are timm's classes with few channels and layers, for images of 64 pixels.

    pip install torch timm numpy
    python3 tests/data/timm_models.py [NAME ...]
"""

import json
import math
import pathlib
import sys

import numpy as np
import timm
import torch
from timm.models.byobnet import ByobNet, ByoModelCfg, _mobileone_bcfg, _rep_vgg_bcfg
from timm.models.fastvit import FastVit
from timm.models.repghost import RepGhostNet
from timm.models.repvit import RepVit
from timm.utils import reparameterize_model

GAMMA = np.uint64(0x9E3779B97F4A7C15)


def words(name, count):
    """`count` pseudo-random 64-bit words for a name."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * GAMMA
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def tensor(name, shape, gamma):
    """The values of a tensor, float32. Batch norm gets statistics that keep activations near 1, and a scale from
    `gamma` to `gamma` + 0.5 under which the logits still depend on the image."""
    count = math.prod(shape)
    unit = (words(name, count) >> np.uint64(40)).astype(np.float32) / np.float32(2**24)
    signed = unit * np.float32(2) - np.float32(1)
    if len(shape) > 1:
        values = signed * np.float32(math.sqrt(3.0 / math.prod(shape[1:])))
    elif name.endswith("running_var"):
        values = unit + np.float32(0.5)
    elif name.endswith("running_mean"):
        values = signed * np.float32(0.125)
    elif name.endswith("bias"):
        values = signed * np.float32(0.125)
    else:
        values = unit * np.float32(0.5) + np.float32(gamma)
    assert values.dtype == np.float32
    return torch.from_numpy(values.reshape(shape))


def image(index, size=224):
    """Image 0 has squares of 32 pixels, image 1 is of one colour: 8-bit, colour by row by column."""
    cell = (32, size)[index]
    noise = (words(f"image {index}", 3 * size * size) >> np.uint64(56)).astype(np.uint8).reshape(3, size, size)
    rows = np.arange(size) // cell
    return noise[:, rows][:, :, rows]


def macs(model, x):
    """Multiplications of the fused network for one image."""
    model = reparameterize_model(model).double()
    total = 0

    def count(module, _, output):
        nonlocal total
        total += module.weight.numel() * (output[0, 0].numel() if output.ndim == 4 else 1)

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    model(x[:1])
    for hook in hooks:
        hook.remove()
    return total


def squeezed_repvgg():
    blocks = _rep_vgg_bcfg(d=(2, 2, 2, 1), wf=(0.25, 0.25, 0.125, 0.25))
    attention = {"attn_layer": "se", "attn_kwargs": {"rd_ratio": 0.0625, "rd_divisor": 1}}
    return ByobNet(ByoModelCfg(blocks=blocks, stem_type="rep", stem_chs=16, **attention), num_classes=10)


def squeezed_mobileone():
    blocks = _mobileone_bcfg(d=(1, 2, 2, 1), wf=(0.25, 0.25, 0.125, 0.25), se_blocks=(0, 0, 1, 1))
    return ByobNet(ByoModelCfg(blocks=blocks, stem_type="one", stem_chs=16), num_classes=10)


def fastvit():
    return FastVit(layers=(1, 1, 2, 1), embed_dims=(8, 16, 16, 32), mlp_ratios=(2,) * 4, num_classes=10)


def repvit(**arguments):
    return RepVit(embed_dim=(8, 16, 24, 32), depth=(2, 1, 2, 1), num_classes=10, **arguments)


def repghost():
    # kernel, channels within, channels out, squeeze-and-excitation, stride
    stages = [[[3, 16, 16, 0, 1]], [[5, 24, 24, 0.25, 2]], [[3, 40, 32, 0, 2], [3, 40, 32, 0.25, 1]], [[5, 48, 40, 0.25, 2]]]
    return RepGhostNet(stages, num_classes=10)


# Name: family, strides of its stages where its keys do not tell them, least scale of a batch norm, network.
SMALL = {
    "repvgg_se": ("repvgg", [2] * 5, 0.75, squeezed_repvgg),
    "mobileone_se": ("mobileone", [2] * 5, 0.5, squeezed_mobileone),
    "fastvit": ("fastvit", None, 0.5, fastvit),
    "repvit": ("repvit", None, 0.5, repvit),
    "repvit_legacy": ("repvit", None, 0.5, lambda: repvit(legacy=True, distillation=False)),
    "repghost": ("repghost", None, 0.5, repghost),
}


def main():
    torch.set_grad_enabled(False)
    names = ["repvgg_a0", "mobileone_s0", *SMALL]
    for architecture in sys.argv[1:] or names:
        if architecture in SMALL:
            family, strides, gamma, make = SMALL[architecture]
            model, size = make().eval(), 64
        else:
            gamma = {"repvgg_a0": 0.375, "mobileone_s0": 0.25}[architecture]
            model, size = timm.create_model(architecture).eval(), 224
        shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
        state = {
            name: torch.zeros((), dtype=torch.int64) if name.endswith("num_batches_tracked") else tensor(name, shape, gamma)
            for name, shape in shapes.items()
        }
        model.load_state_dict(state)
        model = model.double()
        if architecture in SMALL:
            preset = {"mean": [0.5] * 3, "std": [0.25] * 3}
            config = {"family": family, "input": {"size": [size, size], "resize": None, **preset}}
            if strides:
                config["strides"] = strides
            write(architecture, model, config, gamma, shapes, size, preset)
            continue
        # As timm writes it to a Hugging Face folder.
        preset = {k: v for k, v in model.pretrained_cfg.items() if k not in ("url", "hf_hub_id", "architecture")}
        config = {
            "architecture": architecture,
            "num_classes": model.num_classes,
            "num_features": model.num_features,
            "global_pool": "avg",
            "pretrained_cfg": preset,
        }
        write(architecture, model, config, gamma, shapes, size, preset)


def write(architecture, model, config, gamma, shapes, size, preset):
    """Runs the network on the two images and writes the fixture."""
    mean, std = (torch.tensor(preset[key], dtype=torch.float64).reshape(1, 3, 1, 1) for key in ("mean", "std"))
    x = torch.from_numpy(np.stack([image(0, size), image(1, size)])).double()
    x = (x / 255 - mean) / std
    logits = model(x).float()
    print(architecture, "largest logit", logits.abs().max().item(), "between the images", (logits[0] - logits[1]).abs().max().item())
    fixture = {
        "config": config,
        "gamma": gamma,
        "size": size,
        "macs": macs(model, x),
        "logits": [[float(f"{v:.7g}") for v in row] for row in logits.tolist()],
        "tensors": {name: shape for name, shape in shapes.items() if not name.endswith("num_batches_tracked")},
    }
    lines = [f'"{key}": {json.dumps(value)}' for key, value in fixture.items() if key != "tensors"]
    tensors = ",\n".join(f'"{name}": {shape}' for name, shape in fixture["tensors"].items())
    text = "{\n" + ",\n".join([*lines, '"tensors": {\n' + tensors + "\n}"]) + "\n}\n"
    assert json.loads(text) == json.loads(json.dumps(fixture))
    pathlib.Path(__file__).with_name(f"{architecture}.json").write_text(text)


if __name__ == "__main__":
    main()
