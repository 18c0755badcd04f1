"""Pictures in which there is no number: printed letters and words, curves by a pen, noise, charts, forms."""

from __future__ import annotations

import io
import string
from collections.abc import Callable
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]

LOOKALIKES = "OoIlSsZzB"  # written as 0, 1, 5, 2 and 8 are
LETTERS = "".join(letter for letter in string.ascii_letters if letter not in LOOKALIKES)
FONTS = sorted((Path(mpl.get_data_path()) / "fonts" / "ttf").glob("DejaVu*.ttf"))


def text(written: str, chance: Generator) -> Pixels:
    """Printed text in a random font, size and shade, slightly turned."""
    font = FONTS[int(chance.integers(len(FONTS)))]
    size = int(chance.integers(40, 160))
    face = ImageFont.truetype(str(font), size)
    left, top, right, lower = map(int, face.getbbox(written))
    picture = Image.new("L", (right - left + size, lower - top + size), int(chance.integers(200, 256)))
    ImageDraw.Draw(picture).text((size // 2 - left, size // 2 - top), written, int(chance.integers(0, 90)), face)
    turned = picture.rotate(chance.uniform(-8, 8), Image.Resampling.BICUBIC, fillcolor=picture.getpixel((0, 0)))
    return np.asarray(turned, dtype=np.uint8)


def strokes(chance: Generator) -> Pixels:
    """Loops and zigzags by a pen: coils, waves, crossings, arrows, hearts."""
    t = np.linspace(0, 1, 200)
    kind = int(chance.integers(6))
    turns = chance.uniform(2.2, 5)
    if kind == 0:  # a coil
        x, y = t * 2 + 0.35 * np.cos(2 * np.pi * turns * t), 0.5 * np.sin(2 * np.pi * turns * t)
    elif kind == 1:  # a wave
        x, y = t * 2, 0.3 * np.sin(2 * np.pi * turns * t)
    elif kind == 2:  # a zigzag
        x, y = t * 2, np.abs((t * turns) % 1 - 0.5)
    elif kind == 3:  # a spiral
        x, y = t * np.cos(2 * np.pi * turns * t), t * np.sin(2 * np.pi * turns * t)
    elif kind == 4:  # a heart
        x, y = (
            np.sin(2 * np.pi * t) ** 3,
            -(13 * np.cos(2 * np.pi * t) - 5 * np.cos(4 * np.pi * t) - 2 * np.cos(6 * np.pi * t)) / 16,
        )
    else:  # a flower
        radius = 0.6 + 0.4 * np.cos(2 * np.pi * int(chance.integers(4, 8)) * t)
        x, y = radius * np.cos(2 * np.pi * t), radius * np.sin(2 * np.pi * t)
    points = np.stack([x, y], axis=1)
    points = (points - points.min(axis=0)) / np.ptp(points, axis=0).max() + chance.normal(0, 0.004, points.shape)
    side = int(chance.integers(100, 400))
    grey = np.full((side, side), 250, np.uint8)
    places = (0.12 * side + 0.76 * side * points).astype(np.int32)
    cv2.polylines(
        grey, [places], False, int(chance.integers(0, 80)), max(2, int(side * chance.uniform(0.02, 0.06))), cv2.LINE_AA
    )
    return grey


def noise(chance: Generator) -> Pixels:
    """Noise of some grain."""
    rows, columns = chance.integers(28, 200, 2)
    grain = np.asarray(cv2.GaussianBlur(chance.normal(0, 1, (rows, columns)), (0, 0), chance.uniform(0.3, 4)))
    return np.asarray(np.clip(128 + 60 * grain / grain.std(), 0, 255), dtype=np.uint8)


def chart(chance: Generator) -> Pixels:
    """A line, bar or scatter chart, with axes."""
    figure = Figure(figsize=(3, 2.2), dpi=int(chance.integers(60, 160)))
    axes = figure.subplots()
    values = chance.normal(0, 1, int(chance.integers(5, 30))).cumsum()
    kind = int(chance.integers(3))
    if kind == 0:
        axes.plot(values, color="black", marker=str(chance.choice(["", "o", "x"])))
    elif kind == 1:
        axes.bar(range(len(values)), np.abs(values), color="grey")
    else:
        axes.scatter(values, chance.normal(0, 1, len(values)), color="black")
    axes.set(title="Result", xlabel="time", ylabel="value")
    axes.tick_params(labelbottom=False, labelleft=False)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("L"), dtype=np.uint8)


def form(chance: Generator) -> Pixels:
    """An empty form: labels, lines to write on, boxes to tick."""
    picture = Image.new("L", (600, 440), 250)
    pen = ImageDraw.Draw(picture)
    face = ImageFont.truetype(str(FONTS[int(chance.integers(len(FONTS)))]), int(chance.integers(16, 28)))
    for row in range(int(chance.integers(3, 7))):
        top = 30 + 60 * row
        word = str(chance.choice(["Name", "Street", "Town", "Date", "Phone", "Signature", "Amount", "Remarks"]))
        pen.text((30, top), f"{word}:", 40, face)
        if chance.random() < 0.5:
            pen.line((200, top + 26, 570, top + 26), 60, 2)
        else:
            for box in range(int(chance.integers(3, 9))):
                pen.rectangle((200 + 36 * box, top - 2, 230 + 36 * box, top + 28), outline=60, width=2)
    return np.asarray(picture, dtype=np.uint8)


def blank(chance: Generator) -> Pixels:
    """Paper of some shade, with some grain."""
    rows, columns = chance.integers(28, 300, 2)
    return (chance.uniform(180, 255) + chance.normal(0, 2, (rows, columns))).clip(0, 255).astype(np.uint8)


MAKERS: dict[str, Callable[[Generator], Pixels]] = {
    "letters": lambda chance: text(str(chance.choice(list(LETTERS))), chance),
    "words": lambda chance: text("".join(chance.choice(list(LETTERS), int(chance.integers(3, 9)))), chance),
    "curves by a pen": strokes,
    "noise": noise,
    "charts": chart,
    "forms": form,
    "blank paper": blank,
}
"""A picture of each kind, drawn by chance."""
