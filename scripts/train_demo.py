"""Trains the RepVGG that `repquant demo` runs, on drawings that the program wrote.

    pip install torch==2.15.0 numpy==2.4.6 pillow==13.0.0 safetensors==0.8.0
    cargo run --release --example draw_images -- drawings/train train 60000
    cargo run --release --example draw_images -- drawings/evaluation evaluation 2000
    python scripts/train_demo.py drawings/train drawings/evaluation repvgg-demo.safetensors

The network is the training form of RepVGG (Ding et al., arXiv 2101.03697): each block is the sum of a 3x3 convolution,
a 1x1 convolution and, where shapes allow, the identity, each with a batch norm of its own; then a ReLU. Keys are those
of the original repository. Convolution and classifier weights are written as f16, batch norms as f32: a variance may be
smaller than f16 can hold. What is printed last is the accuracy of the written file, read back.

The embedded file was made by these commands in 14 minutes on one busy core and has a top-1 of 96.20 %. Another version
of torch, another processor or more threads give other bits and about the same accuracy.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

WIDTHS = [16, 16, 32, 64, 64]
BLOCKS = [1, 2, 4, 6, 1]
STRIDES = [1, 2, 2, 1, 2]


def conv_bn(inputs, outputs, kernel, stride):
    branch = nn.Sequential()
    branch.add_module("conv", nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False))
    branch.add_module("bn", nn.BatchNorm2d(outputs, eps=1e-5))
    return branch


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.rbr_dense = conv_bn(inputs, outputs, 3, stride)
        self.rbr_1x1 = conv_bn(inputs, outputs, 1, stride)
        has_identity = inputs == outputs and stride == 1
        self.rbr_identity = nn.BatchNorm2d(inputs, eps=1e-5) if has_identity else None

    def forward(self, x):
        y = self.rbr_dense(x) + self.rbr_1x1(x)
        return F.relu(y if self.rbr_identity is None else y + self.rbr_identity(x))


class RepVgg(nn.Module):
    def __init__(self, classes):
        super().__init__()
        inputs = 3
        for stage, (width, blocks, stride) in enumerate(zip(WIDTHS, BLOCKS, STRIDES)):
            parts = []
            for i in range(blocks):
                parts.append(Block(inputs, width, stride if i == 0 else 1))
                inputs = width
            # The stem is one block, not a list of them.
            setattr(self, f"stage{stage}", parts[0] if stage == 0 else nn.Sequential(*parts))
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x):
        for stage in range(len(WIDTHS)):
            x = getattr(self, f"stage{stage}")(x)
        return self.linear(x.mean((2, 3)))


def read_folder(folder):
    """Images of class folders, N x 3 x 32 x 32 bytes, and their labels, in the order of the sorted class names."""
    images, labels = [], []
    classes = sorted(path.name for path in Path(folder).iterdir() if path.is_dir())
    for label, name in enumerate(classes):
        for path in sorted((Path(folder) / name).iterdir()):
            images.append(np.asarray(Image.open(path).convert("RGB")))
            labels.append(label)
    images = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(labels), classes


def normalize(images):
    """(v/255 - 0.5) / 0.25, as the embedded description says."""
    x = (images.float() / 255 - 0.5) / 0.25
    return x.contiguous(memory_format=torch.channels_last)


def augment(images):
    """One of the eight symmetries of the square for the whole batch: no class changes under any of them."""
    images = torch.rot90(images, int(torch.randint(4, ())), (2, 3))
    return images.flip(3) if torch.randint(2, ()) else images


@torch.no_grad()
def accuracy(net, images, labels):
    net.eval()
    right = 0
    for at in range(0, len(images), 500):
        right += (net(normalize(images[at : at + 500])).argmax(1) == labels[at : at + 500]).sum().item()
    return 100 * right / len(images)


def to_file(state):
    """What is written: f16 weights, f32 batch norms, without the counters that only training needs."""
    kept = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    is_norm = lambda key: ".bn." in key or ".rbr_identity." in key
    return {key: (value if is_norm(key) else value.half()).contiguous() for key, value in kept.items()}


def main():
    parser = argparse.ArgumentParser(description="Train the network of `repquant demo`.")
    parser.add_argument("train", help="class folders to train on")
    parser.add_argument("evaluation", help="class folders to measure on")
    parser.add_argument("output", help="the safetensors file to write")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--decay", type=float, default=5e-4)
    parser.add_argument("--threads", type=int, default=1, help="more are faster, and add up in another order")
    options = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    images, labels, classes = read_folder(options.train)
    eval_images, eval_labels, eval_classes = read_folder(options.evaluation)
    assert classes == eval_classes, "the two folders have different classes"

    net = RepVgg(len(classes)).to(memory_format=torch.channels_last)
    # As usual: no decay on batch norms and biases.
    decayed = [p for p in net.parameters() if p.ndim > 1]
    plain = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": options.decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=options.rate, momentum=0.9, nesterov=True)
    steps = options.epochs * (len(images) // options.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.rate, total_steps=steps, pct_start=0.1)

    begin = time.time()
    for epoch in range(options.epochs):
        net.train()
        order = torch.randperm(len(images))
        total = 0.0
        for step in range(len(images) // options.batch):
            chosen = order[step * options.batch : (step + 1) * options.batch]
            loss = F.cross_entropy(net(normalize(augment(images[chosen]))), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        score = accuracy(net, eval_images, eval_labels)
        loss = total / (len(images) // options.batch)
        print(f"epoch {epoch + 1}: loss {loss:.4f}, top-1 {score:.2f} %, {time.time() - begin:.0f} s", flush=True)

    save_file(to_file(net.state_dict()), options.output)
    read = {key: value.float() for key, value in load_file(options.output).items()}
    net.load_state_dict(read, strict=False)
    score, size = accuracy(net, eval_images, eval_labels), Path(options.output).stat().st_size
    print(f"{options.output}: top-1 {score:.2f} %, {size} bytes")


if __name__ == "__main__":
    main()
