"""Writes tests/data/images: small image files, and what Pillow makes of them.

    pip install numpy 'pillow>=13' safetensors
    python tests/data/make_images.py

(Pillow before 13 resizes tall images in another order of passes, which changes their last bits.)

golden.safetensors holds, for each file NAME, `NAME` (height × width × 3, u8): Pillow's convert("RGB"); and for each
resize case `resizeNN` (height × width × 3, u8): the centre crop of a resized noise image. Its metadata entry `cases`
lists the cases. The noise is drawn by both sides: bytes `state >> 24` of `state = state · 1664525 + 1013904223`
(mod 2^32), starting from the case's seed.
"""

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

OUT = Path(__file__).parent / "images"


def noise(count, seed):
    state, values = seed, bytearray(count)
    for i in range(count):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        values[i] = state >> 24
    return np.frombuffer(bytes(values), np.uint8)


def resize_and_crop(image, size, resize, resample):
    """torchvision's Resize(resize) and CenterCrop(size) on a Pillow image; size is (height, width)."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    longer = int(resize * long / short)
    image = image.resize((resize, longer) if width <= height else (longer, resize), resample)
    pixels = np.asarray(image)
    for axis, wanted in enumerate(size):
        missing = max(wanted - pixels.shape[axis], 0)
        padding = [(0, 0)] * 3
        padding[axis] = (missing // 2, (missing + 1) // 2)
        pixels = np.pad(pixels, padding)
        start = int(round((pixels.shape[axis] - wanted) / 2.0))
        pixels = np.take(pixels, range(start, start + wanted), axis)
    return np.ascontiguousarray(pixels)


def resize_cases():
    random = np.random.default_rng(1)
    sizes = [(1, 1, 12, 12), (2, 1, 9, 9), (1, 7, 8, 8), (10000, 10, 256, 32), (10, 3000, 64, 24), (5, 4, 3, 12)]
    sizes += [(400, 300, 25, 24), (301, 447, 32, 32), (33, 33, 33, 24), (40, 20, 20, 20), (20, 41, 20, 21)]
    for _ in range(17):
        short, long = sorted(random.integers(2, 120, 2).tolist())
        width, height = (short, long) if random.random() < 0.5 else (long, short)
        resize = int(random.integers(4, 60))
        sizes.append((width, height, resize, int(np.clip(resize + random.integers(-12, 5), 1, 24))))
    for number, (width, height, resize, crop) in enumerate(sizes):
        for interpolation in ["bilinear", "bicubic"]:
            # One length more than the other: crops with and without a half to round.
            yield {"width": width, "height": height, "resize": resize, "size": [crop, crop + 1],
                   "interpolation": interpolation, "seed": number}


def png(width, height, depth, color, rows):
    """A PNG of any kind, as Pillow does not write them all."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def smooth(height, width, channels):
    """Colours that JPEG keeps well."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [127 + 100 * np.sin(x / (5 + c) + y / (7 - c) + c) for c in range(channels)]
    return np.stack(planes, -1).round().astype(np.uint8)


def write_files():
    def save(name, image, **options):
        image.save(OUT / name, **options)

    save("rgb.jpg", Image.fromarray(smooth(27, 38, 3)), quality=92, subsampling=0)
    save("subsampled.jpg", Image.fromarray(smooth(27, 38, 3)), quality=92, subsampling=2)
    save("progressive.jpg", Image.fromarray(smooth(27, 38, 3)), quality=92, progressive=True)
    save("gray.jpg", Image.fromarray(smooth(27, 38, 1)[..., 0]), quality=92)
    save("cmyk.jpg", Image.fromarray(smooth(27, 38, 4), "CMYK"), quality=92)
    exif = Image.Exif()
    exif[0x0112] = 6
    save("rotated.jpg", Image.fromarray(smooth(27, 38, 3)), quality=92, exif=exif)

    colors = noise(9 * 11 * 4, 7).reshape(9, 11, 4)
    save("rgb.png", Image.fromarray(np.ascontiguousarray(colors[..., :3])))
    save("rgba.png", Image.fromarray(colors))
    save("gray.png", Image.fromarray(np.ascontiguousarray(colors[..., 0])))
    save("gray_alpha.png", Image.fromarray(np.ascontiguousarray(colors[..., :2]), "LA"))
    save("bilevel.png", Image.fromarray(colors[..., 0] > 127))
    palette = Image.fromarray(np.ascontiguousarray(colors[..., :3])).quantize(20)
    save("palette.png", palette, transparency=3)
    wide = noise(9 * 11 * 4 * 2, 8).reshape(9, 11 * 4 * 2)
    (OUT / "rgb16.png").write_bytes(png(11, 9, 16, 2, [row[:66].tobytes() for row in wide]))
    (OUT / "rgba16.png").write_bytes(png(11, 9, 16, 6, [row.tobytes() for row in wide]))
    (OUT / "gray_alpha16.png").write_bytes(png(11, 9, 16, 4, [row[:44].tobytes() for row in wide]))
    (OUT / "gray2.png").write_bytes(png(11, 9, 2, 0, [row[:3].tobytes() for row in wide]))

    save("rgb.bmp", Image.fromarray(np.ascontiguousarray(colors[..., :3])))
    save("gray.bmp", Image.fromarray(np.ascontiguousarray(colors[..., 0])))
    save("lossless.webp", Image.fromarray(colors), lossless=True, exact=True)
    save("lossy.webp", Image.fromarray(smooth(27, 38, 3)), quality=90)


def main():
    OUT.mkdir(exist_ok=True)
    write_files()
    tensors, cases = {}, []
    for path in sorted(OUT.iterdir()):
        if path.suffix != ".safetensors":
            tensors[path.name] = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB")).copy()
    for number, case in enumerate(resize_cases()):
        shape = case["height"], case["width"], 3
        image = Image.fromarray(noise(np.prod(shape), case["seed"]).reshape(shape))
        resample = Image.Resampling[case["interpolation"].upper()]
        tensors[f"resize{number:02}"] = resize_and_crop(image, case["size"], case["resize"], resample)
        cases.append(case)
    save_file(tensors, OUT / "golden.safetensors", {"cases": json.dumps(cases)})


main()
