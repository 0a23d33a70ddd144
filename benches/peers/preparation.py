"""What the comparison runs on: networks with random weights, folders of images, and an image as a network's input."""

import json
import pathlib

import numpy
from PIL import Image

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def repvgg(depths, widths, strides, classes, seed=7):
    """Tensors of a RepVGG in training form, keys of its repository, outputs of about the variance of the inputs."""
    random = numpy.random.default_rng(seed)
    tensors = {}

    def norm(name, channels, gain):
        tensors[f"{name}.weight"] = numpy.full(channels, gain, numpy.float32)
        tensors[f"{name}.bias"] = random.uniform(-0.1, 0.1, channels).astype(numpy.float32)
        tensors[f"{name}.running_mean"] = numpy.zeros(channels, numpy.float32)
        tensors[f"{name}.running_var"] = numpy.ones(channels, numpy.float32)

    def weights(shape):
        reach = (6 / numpy.prod(shape[1:])) ** 0.5
        return random.uniform(-reach, reach, shape).astype(numpy.float32)

    channels = 3
    for stage, (depth, width, stride) in enumerate(zip(depths, widths, strides)):
        for index in range(depth):
            block = "stage0" if stage == 0 else f"stage{stage}.{index}"
            for branch, side in [("rbr_dense", 3), ("rbr_1x1", 1)]:
                tensors[f"{block}.{branch}.conv.weight"] = weights((width, channels, side, side))
                norm(f"{block}.{branch}.bn", width, 0.4**0.5)
            if width == channels and (index > 0 or stride == 1):
                norm(f"{block}.rbr_identity", width, 0.4**0.5)
            channels = width
    tensors["linear.weight"] = weights((classes, channels))
    tensors["linear.bias"] = numpy.zeros(classes, numpy.float32)
    return tensors


def write_safetensors(path, tensors):
    """Header length, header (JSON), then the values, little-endian."""
    header, offset = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [offset, offset + tensor.nbytes]}
        offset += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for tensor in tensors.values():
            file.write(tensor.astype("<f4").tobytes())


def write_repvgg_a0(path):
    """RepVGG-A0 for 224 x 224 images, described by the name `repvgg-a0`."""
    write_safetensors(path, repvgg([1, 2, 4, 14, 1], [48, 48, 96, 192, 1280], [2] * 5, 1000))


def write_repvgg_small(path):
    """A network of the shape of `repvgg-cifar10`, with its description beside it."""
    strides = [1, 1, 2, 2, 2]
    write_safetensors(path, repvgg([1, 2, 4, 14, 1], [16, 16, 32, 64, 128], strides, 10))
    size = {"size": [32, 32], "resize": None}
    description = {"family": "repvgg", "strides": strides, "input": size | IMAGENET}
    pathlib.Path(path).with_suffix(".json").write_text(json.dumps(description))


def draw_photographs(folder, count):
    """JPEG files of 500 x 375 pixels, gradients under noise: about as many bytes as photographs."""
    folder.mkdir()
    random = numpy.random.default_rng(3)
    y, x = numpy.mgrid[0:375, 0:500]
    ground = numpy.stack([x / 2, y / 2, (x + y) / 4], axis=2)
    for number in range(count):
        noise = random.normal(0, 12, (375, 500, 1))
        image = numpy.clip(ground + noise + random.integers(0, 60), 0, 255).astype(numpy.uint8)
        Image.fromarray(image).save(folder / f"{number:03}.jpg", quality=90)


def files(folder, limit):
    """The images of a folder and the folders in it, in order."""
    found = sorted(path for path in pathlib.Path(folder).rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    return found[:limit]


def read(path, preprocessing):
    """An image as the network's input, 3 x height x width: resized, cropped and normalized as torchvision does."""
    image = Image.open(path).convert("RGB")
    if preprocessing["resize"]:
        width, height = image.size
        short = preprocessing["resize"]
        size = (short, short * height // width) if width <= height else (short * width // height, short)
        image = image.resize(size, Image.Resampling.BILINEAR)
        rows, columns = preprocessing["size"]
        left, top = round((size[0] - columns) / 2), round((size[1] - rows) / 2)
        image = image.crop((left, top, left + columns, top + rows))
    values = numpy.asarray(image, numpy.float32) / 255
    values = (values - numpy.array(preprocessing["mean"], numpy.float32)) / numpy.array(preprocessing["std"], numpy.float32)
    return numpy.ascontiguousarray(values.transpose(2, 0, 1))


def metadata(model):
    """The preprocessing that a file written by `repquant fuse` states."""
    return json.loads({entry.key: entry.value for entry in model.metadata_props}["repquant.preprocessing"])
