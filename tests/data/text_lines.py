"""Draws pages and lines of text, for networks that find or read text: the same pictures for the same arguments.

    python3 tests/data/text_lines.py FOLDER COUNT [SEED] [--line] [--turned]      (needs Pillow 10.1 or newer)

FOLDER gets 0000.png and so on: pages of 480 × 480 with a few lines each, or with --line one line that fills its picture.
--turned turns each by a quarter, a half or three quarters, and puts it into the folder of its class: 0, 90, 180 or 270.
The words are made up; the font is the one that comes with Pillow.
"""

import argparse
import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont

SYLLABLES = "ka lo mi ren tu sta ver ne pol qui dra fo gel han ix jo wy zem ab ce".split()


def word(rng):
    if rng.random() < 0.2:
        return str(rng.randrange(10 ** rng.randint(1, 5)))
    made = "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(1, 4)))
    return rng.choice((made, made, made.capitalize(), made.upper()))


def colours(rng):
    """Paper and ink, far enough apart to be read."""
    paper, ink = ([rng.randint(low, low + 90) for _ in range(3)] for low in (165, 0))
    if rng.random() < 0.25:
        paper, ink = ink, paper
    return tuple(paper), tuple(ink)


def line(rng, size, paper, ink, words):
    """One line of text on its paper, as large as its letters."""
    font = ImageFont.load_default(size)
    text = " ".join(word(rng) for _ in range(words))
    left, top, right, bottom = font.getbbox(text)
    margin = rng.randint(2, max(3, size // 3))
    picture = Image.new("RGB", (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin), paper)
    ImageDraw.Draw(picture).text((margin - left, margin - top), text, fill=ink, font=font)
    return picture


def page(rng):
    paper, ink = colours(rng)
    picture = Image.new("RGB", (480, 480), paper)
    y = rng.randint(5, 60)
    while y < 440:
        drawn = line(rng, rng.randint(14, 44), paper, ink, rng.randint(1, 5))
        picture.paste(drawn, (rng.randint(5, 120), y))
        y += drawn.height + rng.randint(5, 70)
    picture = picture.rotate(rng.uniform(-6, 6), Image.Resampling.BICUBIC, fillcolor=paper)
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.9)))


def main():
    options = argparse.ArgumentParser()
    options.add_argument("folder", type=Path)
    options.add_argument("count", type=int)
    options.add_argument("seed", type=int, nargs="?", default=1)
    options.add_argument("--line", action="store_true")
    options.add_argument("--turned", action="store_true")
    options = options.parse_args()
    rng = random.Random(options.seed)
    for index in range(options.count):
        if options.line:
            picture = line(rng, rng.randint(26, 44), *colours(rng), rng.randint(1, 3))
            picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.9)))
        else:
            picture = page(rng)
        folder = options.folder
        if options.turned:
            angle = rng.choice((0, 90, 180, 270))
            picture, folder = picture.rotate(angle, expand=True), folder / str(angle)
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{index:04}.png")


main()
