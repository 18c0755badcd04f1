"""How many handwritten numbers are read right, in photographs of paper.

    python -m benchmarks.strings [--strings N]

Numbers of two to eight digits are composed of MNIST's test images, written with one pen at one slant, apart or
touching, on plain, ruled or squared paper, and photographed: at an angle, in uneven light, with shadows, noise and JPEG
(seeded). The result in this folder reads them; nothing is chosen on them. A number is right if every digit is; of
digits, those count as right that remain when the number is corrected by as few insertions, deletions and changes as
possible. The table goes to benchmarks/results/strings.md as well.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.timing import keep
from mnistflow.config.paths import Paths
from mnistflow.evaluation.scores import wilson
from mnistflow.recognition import handwriting
from mnistflow.recognition.answers import answered
from mnistflow.serving.catalogue import open_predictor

Pixels = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]

TIMES = 6  # as many pixels a side for outlines


def main() -> None:
    """Read all numbers, print the table and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--strings", type=int, default=1000, help="how many (default: %(default)s)")
    count = parser.parse_args().strings
    images, labels = handwriting.mnist_test(ROOT / Paths.load().raw / "mnist")
    predictor = open_predictor(None)
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    bar = tqdm(strings(images, labels, count), desc="strings", total=count, unit="string", disable=None, leave=False)
    for grey, written, gap in bar:
        read = "".join(number.text for number in answered(predictor, "", predictor.read(grey)).numbers)
        for group in ("all", f"{len(written)} digits", "touching or nearly" if gap < 0.05 else "apart"):
            groups[group].append((written, read))
    rows, measured = [], {}
    for group in sorted(groups, key=lambda name: (name != "all", not name[0].isdigit(), name)):
        pairs = groups[group]
        right = sum(written == read for written, read in pairs)
        digits = sum(len(written) for written, _ in pairs)
        wrong = sum(distance(written, read) for written, read in pairs)
        low, high = wilson(right, len(pairs))
        rows.append(
            {
                "numbers": group,
                "how many": str(len(pairs)),
                "right": f"{right / len(pairs):.1%}",
                "95 % interval": f"{low:.1%} to {high:.1%}",
                "digits right": f"{1 - wrong / digits:.2%}",
            }
        )
        measured[group] = {"strings": len(pairs), "right": right, "digits": digits, "corrections": wrong}
    command = "python -m benchmarks.strings" + ("" if count == 1000 else f" --strings {count}")
    keep("strings", command, torch.device("cpu"), rows, {"model": predictor.identity.name, "groups": measured})


def strings(images: Pixels, labels: NDArray[np.int64], count: int) -> Iterator[tuple[Pixels, str, float]]:
    """Photographs of numbers, what is written, and the smallest gap between two digits, in heights of a digit."""
    for number in range(count):
        chance = np.random.default_rng([17, number])
        chosen = chance.integers(0, len(images), int(chance.integers(2, 9)))
        height = int(chance.integers(50, 100))
        slant, weight = chance.uniform(-0.05, 0.25), chance.uniform(0.35, 0.6)
        spacing = chance.uniform(0.0, 0.35)
        canvas = np.zeros((3 * height, int((1.5 * len(chosen) + 2) * height)), np.float32)
        left, gaps = height, []
        for place in chosen:
            digit = written(images[place], height * chance.uniform(0.9, 1.1), slant, weight)
            rows, columns = digit.shape
            top = int(2 * height - rows + chance.normal(0, 0.04 * height))
            part = canvas[top : top + rows, left : left + columns]
            np.maximum(part, digit, out=part)
            gaps.append(float(np.clip(chance.normal(spacing, 0.06), -0.03, 0.5)))
            left += columns + int(height * gaps[-1])
        ink = canvas[:, : left + height]
        lines = handwriting.printed(ink.shape[0], ink.shape[1], chance)
        grey = handwriting.photographed(ink, lines, chance)
        yield grey, "".join(str(labels[place]) for place in chosen), min(gaps[:-1])


def written(image: Pixels, height: float, slant: float, weight: float) -> Floats:
    """The ink of an image, about so many pixels high, or wide if it is far wider, slanted: from 0 to 1."""
    large = np.clip((handwriting.outlined(image, TIMES) - weight) * 6 + 0.5, 0, 1).astype(np.float32)
    rows, columns = large.shape
    shear = np.array([[1, -slant, slant * rows / 2 + rows / 4], [0, 1, 0]])
    large = np.asarray(cv2.warpAffine(large, shear, (columns + rows // 2, rows)))
    down, across = (np.flatnonzero(large.max(axis=axis) > 0.02) for axis in (1, 0))
    crop = large[down[0] : down[-1] + 1, across[0] : across[-1] + 1]
    scale = height / max(crop.shape[0], crop.shape[1] / 1.4)
    return np.asarray(cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


def distance(one: str, other: str) -> int:
    """The least number of insertions, deletions and changes that make one text of the other (Levenshtein 1966)."""
    before = list(range(len(other) + 1))
    for row, character in enumerate(one, start=1):
        now = [row]
        for column, same in enumerate(other, start=1):
            now.append(min(before[column] + 1, now[-1] + 1, before[column - 1] + (character != same)))
        before = now
    return before[-1]


if __name__ == "__main__":
    main()
