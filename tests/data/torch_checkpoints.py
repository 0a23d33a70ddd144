#!/usr/bin/env python3
"""Makes the fixtures of `tests/data/torch`: one small RepVGG as the files that people have of theirs.

`weights.safetensors` holds what every readable one must give, bit for bit (those of `half.pth` in 16 bits).

    pip install torch safetensors numpy
    python3 tests/data/torch_checkpoints.py
"""

import argparse
import collections
import pathlib

import torch
from safetensors.torch import save_file
from torch import nn

FOLDER = pathlib.Path(__file__).with_name("torch")


def conv_bn(inputs, outputs, kernel, stride):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(collections.OrderedDict(conv=conv, bn=nn.BatchNorm2d(outputs)))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.rbr_dense = conv_bn(inputs, outputs, 3, stride)
        self.rbr_1x1 = conv_bn(inputs, outputs, 1, stride)
        self.rbr_identity = nn.BatchNorm2d(inputs) if inputs == outputs and stride == 1 else None

    def forward(self, x):
        y = self.rbr_dense(x) + self.rbr_1x1(x)
        return torch.relu(y if self.rbr_identity is None else y + self.rbr_identity(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stage0 = Block(3, 2, 1)
        self.stage1 = nn.Sequential(Block(2, 4, 2), Block(4, 4, 1))
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        return self.linear(self.stage1(self.stage0(x)).mean((2, 3)))


def main():
    torch.manual_seed(7)
    FOLDER.mkdir(exist_ok=True)
    net = Net().eval()
    state = net.state_dict()
    for name, value in state.items():
        if value.is_floating_point():
            # Multiples of 1/32, exact in every float type.
            value.copy_((torch.randint(-32, 32, value.shape) + (64 if "running_var" in name else 0)) / 32)
    other = {name: value + 1 for name, value in state.items()}
    save_file({name: value.contiguous() for name, value in state.items()}, str(FOLDER / "weights.safetensors"))

    def save(name, content, **how):
        torch.save(content, FOLDER / name, **how)

    legacy = {"_use_new_zipfile_serialization": False}
    save("zip.pth", state)
    save("protocol4.pth", state, pickle_protocol=4)
    save("legacy.pth", state, **legacy)
    save("half.pth", {name: value.half() if value.is_floating_point() else value for name, value in state.items()})
    save("bfloat16.pth", {name: value.bfloat16() if value.is_floating_point() else value for name, value in state.items()}, **legacy)
    save("double.pth", {name: value.double() if value.is_floating_point() else value for name, value in state.items()})
    # What a training script keeps; argparse's class is imported by nobody who reads this.
    arguments = argparse.Namespace(lr=0.1, name="repvgg")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9).state_dict()
    training = {"epoch": 3, "best_acc1": torch.tensor(76.5), "args": arguments, "optimizer": optimizer}
    save("training.pth.tar", {**training, "state_dict": {f"module.{name}": value for name, value in state.items()}, "state_dict_ema": other})
    save("ema.pt", {**training, "model_ema": state}, **legacy)
    save("unknown_name.pth", {"epoch": 1, "generator": state})
    # Views of one storage, one of them transposed.
    whole = torch.cat([value.flatten().float() for value in state.values()])
    views, at = {}, 0
    for name, value in state.items():
        views[name] = whole[at : at + value.numel()].view(value.shape)
        at += value.numel()
    columns = torch.empty(views["linear.weight"].shape[::-1]).t()
    views["linear.weight"] = columns.copy_(views["linear.weight"])
    views["linear.bias"] = nn.Parameter(views["linear.bias"])
    assert not views["linear.weight"].is_contiguous()
    save("views.pth", views)
    save("views_legacy.pth", views, **legacy)
    save("module.pth", net)
    save("parallel.pth", nn.DataParallel(net))
    # Refused.
    save("module_legacy.pth", net, **legacy)
    torch.jit.script(net).save(str(FOLDER / "script.pt"))
    save("sparse.pth", {**state, "linear.weight": state["linear.weight"].to_sparse()})
    save("expanded.pth", {**state, "linear.weight": torch.ones(1, 1).expand(1 << 12, 1 << 12)})
    save("empty.pth", {"epoch": 3})


if __name__ == "__main__":
    main()
