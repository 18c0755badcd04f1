"""How many pictures are read right, with and without a network that chooses between the ways to see them.

    python -m benchmarks.reading [--pictures N]

The result in this folder reads pictures made of MNIST's validation images, on which ways of reading are chosen: their
strokes drawn anew with thin pens, bold ones that fill the picture, photographs, and numbers of two to five digits, some
on ruled or squared paper, apart from one another, close or touching; and, last, digits drawn in the forms of
tests/strokes.py, on which nothing is chosen. Each is read by the view that its shape suggests, and by the one that the
network is surest of. The table goes to benchmarks/results/reading.md as well.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.timing import keep
from mnistflow.config.paths import Paths
from mnistflow.core.tensors import read_split
from mnistflow.recognition import handwriting, reader
from mnistflow.recognition.answers import identified
from mnistflow.recognition.predictor import Predictor
from mnistflow.serving.catalogue import open_predictor

sys.path.insert(0, str(ROOT / "tests"))

from strokes import drawings, rendered

Pixels = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]
Pictures = Iterator[tuple[Pixels, str]]  # with what is written

SIDES = (100, 1000)  # pixels, of pictures of one digit
PENS = (0.02, 0.045)  # shares of the side
TIMES = 8  # as many pixels a side for outlines


def main() -> None:
    """Read all sets, print the table and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=600, help="of each set (default: %(default)s)")
    count = parser.parse_args().pictures
    validation = read_split(ROOT / Paths.load().validation_split)
    images, labels = validation.raw_images(), validation.labels.numpy()
    sets: dict[str, Callable[[], Pictures]] = {
        "validation, thin pens": lambda: thin(images, labels, count),
        "validation, bold": lambda: bold(images, labels, count),
        "validation, photographs": lambda: photographed(images, labels, count),
        "validation, numbers apart": lambda: numbers(images, labels, count, (0.06, 0.4)),
        "validation, numbers close": lambda: numbers(images, labels, count, (-0.02, 0.12)),
        "validation, numbers touching": lambda: numbers(images, labels, count, (-0.1, 0.02)),
        "drawn digits": lambda: drawn(count),
    }
    predictor = open_predictor(None)
    rows, measured = [], {}
    for name, made in sets.items():
        right, seconds = [0, 0], [0.0, 0.0]
        for grey, written in tqdm(made(), desc=name, total=count, unit="picture", disable=None, leave=False):
            for way, network in enumerate((None, predictor.probabilities)):
                started = time.perf_counter()
                text = read(predictor, grey, network)
                seconds[way] += time.perf_counter() - started
                right[way] += text == written
        rows.append(
            {
                "pictures": name,
                "by shape alone": f"{right[0] / count:.2%}",
                "by the network": f"{right[1] / count:.2%}",
                "ms a picture": f"{1000 * seconds[1] / count:.1f}",
                "times as long": f"{seconds[1] / seconds[0]:.2f}",
            }
        )
        measured[name] = {"pictures": count, "right": right, "seconds": seconds}
    command = "python -m benchmarks.reading" + ("" if count == 600 else f" --pictures {count}")
    keep("reading", command, torch.device("cpu"), rows, {"model": predictor.identity.name, "sets": measured})


def read(predictor: Predictor, grey: Pixels, probabilities: reader.Probabilities | None) -> str:
    """What is read in a picture; the network chooses between the views, if it is given."""
    digits = reader.read(grey, probabilities=probabilities).digits
    return "".join(named.label for named in identified(predictor, digits))


def thin(images: Pixels, labels: NDArray[np.int64], count: int) -> Pictures:
    """The middle lines of strokes, drawn with thin pens: large, light and dark, some nearly up to the edges."""
    chance = np.random.default_rng(0)
    for number in range(count):
        line = skeleton(handwriting.outlined(images[number], TIMES) > 0.4)
        side = round(np.exp(chance.uniform(*np.log(SIDES))))
        ink = redrawn(line, side, PENS[number % 2], bool(number // 2 % 2), chance)
        grey = 245 - 215 * ink if number // 4 % 2 else 8 + 235 * ink
        yield np.clip(grey + chance.normal(0, 1, grey.shape), 0, 255).astype(np.uint8), str(labels[number])


def bold(images: Pixels, labels: NDArray[np.int64], count: int) -> Pictures:
    """Thickened strokes that fill a square picture, light and dark; no ones, which would leave no paper."""
    chance = np.random.default_rng(3)
    for number, place in enumerate(np.flatnonzero(labels != 1)[:count].tolist()):
        size = int(chance.integers(1, 26))
        thick = cv2.dilate((handwriting.outlined(images[place], TIMES) > 0.4).astype(np.uint8), np.ones((size, size)))
        left, top, width, height = cv2.boundingRect(thick)
        side = round(np.exp(chance.uniform(*np.log((28, 200)))))
        ink = cv2.resize(255 * thick[top : top + height, left : left + width], (side, side))
        yield np.asarray(255 - ink if number % 2 else ink, dtype=np.uint8), str(labels[place])


def photographed(images: Pixels, labels: NDArray[np.int64], count: int) -> Pictures:
    """As in `mnistflow evaluate --on photographs`, there of test images."""
    for image, label in zip(images[:count], labels, strict=False):
        yield handwriting.photograph(image), str(label)


def numbers(images: Pixels, labels: NDArray[np.int64], count: int, gaps: tuple[float, float]) -> Pictures:
    """Two to five digits side by side, on plain, ruled and squared paper; gaps as shares of the height."""
    chance = np.random.default_rng(1)
    for number in range(count):
        chosen = chance.integers(0, len(images), int(chance.integers(2, 6)))
        height = int(chance.integers(60, 160))
        ink = np.zeros((2 * height, int(1.2 * height * len(chosen)) + 200), np.float32)
        left = 60
        for place in chosen:
            digit = scaled(images[place], 0.75 * height * chance.uniform(0.85, 1.15))
            rows, columns = digit.shape
            top = int(1.25 * height - rows + chance.normal(0, 0.03 * height))
            part = ink[top : top + rows, left : left + columns]
            np.maximum(part, digit, out=part)
            left += columns + int(height * chance.uniform(*gaps))
        ink = ink[:, : left + 60]
        grey = 235 - 200 * np.maximum(ink, 0.25 * printed(ink.shape, number % 3, height, chance))
        written = "".join(str(labels[place]) for place in chosen)
        yield np.clip(grey + chance.normal(0, 2, grey.shape), 0, 255).astype(np.uint8), written


def drawn(count: int) -> Pictures:
    """Digits in the forms of many countries, by thin pens; large, light and dark, some nearly up to the edges."""
    chance = np.random.default_rng(2)
    for number, drawing in enumerate(drawings(-(-count // 10), seed=7)):
        turn = number // 40  # each form, of which a digit has four, in each way
        side = round(np.exp(chance.uniform(*np.log(SIDES))))
        margin = 0.01 if turn // 4 % 2 else 0.15
        if number < count:
            yield rendered(drawing, side, PENS[turn % 2], light=bool(turn // 2 % 2), margin=margin), str(drawing.digit)


def skeleton(mask: NDArray[np.bool_]) -> Pixels:
    """The middle lines of a mask, one pixel thick (Zhang and Suen 1984)."""
    padded = np.pad(mask.astype(np.uint8), 1)
    inner, before = padded[1:-1, 1:-1], -1
    while before != (before := int(inner.sum())):
        for step in (0, 1):
            around = np.stack(  # clockwise from above
                [
                    padded[:-2, 1:-1],
                    padded[:-2, 2:],
                    padded[1:-1, 2:],
                    padded[2:, 2:],
                    padded[2:, 1:-1],
                    padded[2:, :-2],
                    padded[1:-1, :-2],
                    padded[:-2, :-2],
                ]
            )
            begins = ((around == 0) & (np.roll(around, -1, axis=0) == 1)).sum(axis=0)
            up, right, down, left = around[::2]
            sides = (up * right * down, right * down * left) if step == 0 else (up * right * left, up * down * left)
            total = around.sum(axis=0)
            inner[(total >= 2) & (total <= 6) & (begins == 1) & (sides[0] == 0) & (sides[1] == 0)] = 0
    return np.ascontiguousarray(inner)


def redrawn(line: Pixels, side: int, pen: float, edge: bool, chance: Generator) -> Floats:
    """Middle lines as a pen draws them in a square picture: (side, side), 1 where ink is."""
    away = cv2.GaussianBlur(cv2.distanceTransform(1 - line, cv2.DIST_L2, 5), (0, 0), 1.5)
    rows, columns = (np.flatnonzero(line.any(axis=axis)) for axis in (1, 0))
    height, width = int(np.ptp(rows)), int(np.ptp(columns))
    thick = pen * side
    gap = 2.5 + thick / 2
    share = 1 - 2 * gap / side if edge else chance.uniform(0.45, 0.8)
    scale = share * side / max(height, width, 1)
    top, left = (gap + chance.random() * max(0.0, side - 2 * gap - scale * length) for length in (height, width))
    moved = np.array([[scale, 0, left - scale * columns[0]], [0, scale, top - scale * rows[0]]])
    field = cv2.warpAffine(away, moved, (side, side), borderMode=cv2.BORDER_CONSTANT, borderValue=1000)
    return np.asarray(np.clip(thick / 2 - np.asarray(field) * scale + 0.5, 0, 1))


def scaled(image: Pixels, height: float) -> Floats:
    """The ink of an image, smooth, about so many pixels high, or wide if it is far wider: from 0 to 1."""
    large = np.clip((handwriting.outlined(image, TIMES) - 0.45) * 6 + 0.5, 0, 1)
    rows, columns = (np.flatnonzero(large.any(axis=axis)) for axis in (1, 0))
    crop = large[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = height / max(crop.shape[0], crop.shape[1] / 1.4)
    return np.asarray(cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


def printed(shape: tuple[int, ...], kind: int, height: int, chance: Generator) -> Floats:
    """The lines of plain (0), ruled (1) or squared (2) paper: 1 where one is."""
    lines = np.zeros(shape, np.float32)
    distance = int(height * (chance.uniform(0.5, 1.2) if kind == 1 else chance.uniform(0.3, 0.6)))
    for row in range(int(chance.integers(distance)), shape[0] if kind else 0, distance):
        lines[row : row + (2 if height > 100 else 1)] = 1
    for column in range(int(chance.integers(distance)), shape[1] if kind == 2 else 0, distance):
        lines[:, column] = 1
    return lines


if __name__ == "__main__":
    main()
