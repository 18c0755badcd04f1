"""Convert any picture of handwriting to images in MNIST's format.

They cropped each digit to its ink, brought its longer side to 20 pixels with antialiasing and placed it in 28 x 28 with
its centre of mass in the middle (LeCun, Bottou, Bengio and Haffner 1998). A photograph needs more before that: which of
its shades are paper, which are ink, which are shadow, noise or ruled lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from mnistflow.recognition.ink import (
    MIN_SIDE_FOR_LINE_REMOVAL,
    SMALLEST,
    Floats,
    Mask,
    Paper,
    ink_and_noise,
    is_light,
    masks,
    papers,
    scaled_down,
)

__all__ = ["Box", "Cut", "Digit", "Probabilities", "Reading", "View", "likeliest", "read", "resized", "views"]

INK_SHARE = 20 / 28  # of the side of an image: the longer side of what is written
LARGEST = 1024  # pixels of the longer side that are worked on; a larger picture is scaled down first
SCALED_UP = 64
MIN_TOUCHING_ASPECT = 1.5  # times as wide as high: more than one digit
MIN_CUT_ASPECT = 1.0  # times as wide as high: perhaps more than one digit

LEAST = 1e-6  # of a probability

Probabilities = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""A network: (N, size, size) images, 0 being background, to (N, classes)."""
Steps = tuple[tuple[str, NDArray[np.uint8]], ...]
"""What each step does, and a picture of it."""


@dataclass(frozen=True)
class Box:
    """A place in a picture, in its pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Digit:
    """One digit in the form of MNIST."""

    image: NDArray[np.uint8]  # (size, size), 0 is background
    box: Box
    steps: Steps = ()  # how it was brought into that form


@dataclass(frozen=True)
class Reading:
    """What is written in a picture."""

    digits: tuple[Digit, ...]  # from left to right; none where nothing is written
    steps: Steps  # how it was found
    # The views that a network chose between, and the product of the probabilities in each: the largest counts.
    considered: tuple[tuple[str, float], ...] = ()


Cut = tuple[Digit, ...]
"""Ink that hangs together, as one digit or cut into several."""


@dataclass(frozen=True)
class View:
    """A way to see a picture: what of it is ink."""

    steps: Steps
    parts: tuple[tuple[Cut, ...], ...]  # from left to right: the ways to cut each, that which its shape suggests first

    def reading(self, chosen: Sequence[Cut]) -> Reading:
        """What is read when each part is cut in one of the ways."""
        digits = tuple(digit for cut in chosen for digit in cut)
        return Reading(digits, self.steps + tuple(step for digit in digits for step in digit.steps))


def read(
    grey: NDArray[np.uint8], *, size: int = 28, several: bool = True, probabilities: Probabilities | None = None
) -> Reading:
    """Find what is written in a picture and bring it into the form of MNIST.

    Args:
        grey: (H, W) of any size; dark ink on light paper, or light on dark.
        size: height and width of each image.
        several: there may be several digits side by side; otherwise all ink is one.
        probabilities: a network, which decides between the views of the picture; None: the first one counts.
    """
    return likeliest(views(grey, size=size, several=several), probabilities)


def likeliest(found: Sequence[View], probabilities: Probabilities | None = None) -> Reading:
    """The reading whose digits a network is surest of: of all views, with any cut of each part.

    What counts is the product of the probabilities of all predictions. No view and no cut is preferred: no preference
    reads more right on average over validation images drawn with thin pens, photographed and written side by side.

    Args:
        found: what :func:`views` gave.
        probabilities: see :func:`read`.
    """
    nothing_to_choose = len(found) == 1 and all(len(cuts) == 1 for cuts in found[0].parts)
    if probabilities is None or nothing_to_choose:
        return found[0].reading([cuts[0] for cuts in found[0].parts])
    images = [digit.image for view in found for cuts in view.parts for cut in cuts for digit in cut]
    chances = iter(np.log(np.maximum(probabilities(np.stack(images)).max(axis=1), LEAST)).tolist())
    best, reading, considered = -math.inf, found[0].reading([]), []
    for view in found:
        chosen, total = [], 0.0
        for cuts in view.parts:
            sums = [sum(next(chances) for _ in cut) for cut in cuts]
            chosen.append(cuts[int(np.argmax(sums))])
            total += max(sums)
        digits = sum(map(len, chosen))
        name = ", ".join(name.removeprefix("ink, ") for name, _ in view.steps[1:])
        considered.append((f"{name}: {digits} digit{'s' * (digits != 1)}", math.exp(total)))
        if chosen and total > best:
            best, reading = total, view.reading(chosen)
    return replace(reading, considered=tuple(considered))


def views(grey: NDArray[np.uint8], *, size: int = 28, several: bool = True) -> list[View]:
    """The ways to see a picture, that which its shape alone suggests first; see :func:`read`."""
    work = scaled_down(grey, LARGEST)
    found = [view for paper in papers(work) for view in _views_on(paper, grey, work, size, several)]
    return [view for view in found if view.parts] or found[:1]


def _views_on(paper: Paper, grey: NDArray[np.uint8], work: NDArray[np.uint8], size: int, several: bool) -> list[View]:
    """The views where the paper is known; ``work`` is the picture, perhaps scaled down."""
    ink, level, noise = ink_and_noise(work, paper)
    shade = "light" if paper.light else "dark"
    steps = (("grey", grey), (f"ink on {shade} paper", _shown(ink)))
    if not level:
        return [View(steps, ())]
    ink = np.clip(ink / level, 0, 1)
    noise /= level
    enlarged, margin = 1, 0
    if max(work.shape) < SMALLEST:
        enlarged, margin = -(-SCALED_UP // max(work.shape)), 1
        ink = cv2.copyMakeBorder(ink, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0)
        ink = cv2.resize(ink, None, fx=enlarged, fy=enlarged, interpolation=cv2.INTER_CUBIC)
        ink = np.clip(ink, 0, 1)
        faint = 0.1
    elif min(work.shape) >= MIN_SIDE_FOR_LINE_REMOVAL:
        faint = 0.4
    else:
        faint = float(np.clip(4 * noise, 0.02, 0.35))
    across, down = grey.shape[1] / work.shape[1], grey.shape[0] / work.shape[0]

    def digit(piece: _Piece) -> Digit:
        left, top, width, height = cv2.boundingRect(piece.mask)
        inner = piece.mask[top : top + height, left : left + width]
        left, top = left + piece.left, top + piece.top
        crop = np.where(inner, ink[top : top + height, left : left + width], 0)
        edges = [
            (left / enlarged - margin) * across,
            (top / enlarged - margin) * down,
            ((left + width) / enlarged - margin) * across,
            ((top + height) / enlarged - margin) * down,
        ]
        image = _centred(crop, size)
        shown = (("cropped to the ink", _shown(crop)), (f"{size} x {size}, centred by mass", image))
        return Digit(image, _box(edges, grey.shape), shown)

    found = []
    for name, mask in masks(ink, faint, noise):
        groups = _groups(mask) if several else [[[_Piece(0, 0, mask)]]] if mask.any() else []
        parts = tuple(tuple(tuple(map(digit, pieces)) for pieces in cuts) for cuts in groups)
        found.append(View((*steps, (name, mask * np.uint8(255))), parts))
    return found


def resized(grey: NDArray[np.uint8], *, size: int) -> Digit:
    """Scale a whole picture to ``size`` x ``size`` with antialiasing, for networks that were trained on such.

    Light paper becomes dark, because 0 is background.

    Args:
        grey: (H, W) of any size.
        size: height and width of the image.
    """
    upright = 255 - grey if is_light(grey) else grey
    shrinks = size <= min(grey.shape)
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    image = np.asarray(cv2.resize(upright, (size, size), interpolation=way), dtype=np.uint8)
    return Digit(image, Box(0, 0, grey.shape[1], grey.shape[0]), (("resized", image),))


@dataclass(frozen=True)
class _Piece:
    """Ink that is one digit in some cut: a mask, and where its upper left corner is."""

    left: int
    top: int
    mask: Mask


def _groups(mask: Mask) -> list[list[list[_Piece]]]:
    """The ink of each digit, or of some that may touch: line by line, each from left to right; see :func:`_cuts`.

    Parts are of one digit where they are above one another and near, as the bar of a five and the rest of it.
    """
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    parts = [
        _Part(left, top, left + width, top + height, [n])
        for n, (left, top, width, height, _) in enumerate(statistics.tolist())
        if n
    ]
    tallest = max((part.lower - part.top for part in parts), default=0)
    merged: list[_Part] = []
    for part in sorted(parts, key=lambda part: part.left):
        mate = next((other for other in merged if other.belongs_to(part, tallest)), None)
        if mate is None:
            merged.append(part)
        else:
            mate.take(part)
    return [
        _cuts(
            _Piece(
                part.left,
                part.top,
                np.isin(labels[part.top : part.lower, part.left : part.right], part.numbers).astype(np.uint8),
            )
        )
        for part in _in_lines(merged)
    ]


@dataclass
class _Part:
    """Ink that hangs together, its edges and its numbers among the labels."""

    left: int
    top: int
    right: int
    lower: int
    numbers: list[int]

    def belongs_to(self, other: _Part, tallest: int) -> bool:
        """Whether both are of one digit."""
        over = min(self.right, other.right) - max(self.left, other.left)
        apart = max(self.top, other.top) - min(self.lower, other.lower)
        narrow = min(self.right - self.left, other.right - other.left)
        low = min(self.lower - self.top, other.lower - other.top)
        small = low < 0.45 * tallest and over > -0.12 * tallest  # a bar, or a bit of a stroke that broke
        return apart < 0.35 * tallest and (over > 0.4 * narrow or small)

    def take(self, other: _Part) -> None:
        """Become the ink of both."""
        self.left, self.top = min(self.left, other.left), min(self.top, other.top)
        self.right, self.lower = max(self.right, other.right), max(self.lower, other.lower)
        self.numbers += other.numbers


def _in_lines(parts: list[_Part]) -> list[_Part]:
    """Line by line, each from left to right."""
    lines: list[list[_Part]] = []
    for part in sorted(parts, key=lambda part: part.top + part.lower):
        middle = (part.top + part.lower) / 2
        if lines and any(other.top < middle < other.lower for other in lines[-1]):
            lines[-1].append(part)
        else:
            lines.append([part])
    return [part for line in lines for part in sorted(line, key=lambda part: part.left)]


def _cuts(ink: _Piece) -> list[list[_Piece]]:
    """The ways to cut ink into digits, that which its shape suggests first: what is wider than high may be several."""
    height, width = ink.mask.shape
    if height < 8 or width < MIN_CUT_ASPECT * height:
        return [[ink]]
    usual = round(width / (0.9 * height)) if width >= MIN_TOUCHING_ASPECT * height else 1
    counts = dict.fromkeys(count for count in (usual, 1, 2, usual - 1, usual + 1) if count)
    return [_parted(ink, count) for count in counts]


def _parted(ink: _Piece, digits: int) -> list[_Piece]:
    """So many digits that touch, each on its own: parted where there is least ink."""
    width = ink.mask.shape[1]
    columns = ink.mask.sum(axis=0)
    edges = [0]
    for number in range(1, digits):
        near, reach = round(number * width / digits), max(1, round(0.25 * width / digits))
        edges.append(near - reach + int(np.argmin(columns[near - reach : near + reach])))
    pieces = [
        _Piece(ink.left + start, ink.top, np.ascontiguousarray(ink.mask[:, start:end]))
        for start, end in zip(edges, [*edges[1:], width], strict=True)
    ]
    return [piece for piece in pieces if piece.mask.any()]


def _centred(crop: Floats, size: int) -> NDArray[np.uint8]:
    """Bring ink, (h, w) from 0 to 1, to the size that it has in MNIST, and its centre of mass into the middle."""
    inner = round(size * INK_SHARE)
    scale = inner / max(crop.shape)
    height, width = (max(1, round(side * scale)) for side in crop.shape)
    small = np.asarray(crop)
    if (height, width) != crop.shape:
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        small = np.asarray(cv2.resize(crop, (width, height), interpolation=way))
        small = np.clip(small / max(float(small.max()), 1e-6), 0, 1)
    total = float(small.sum())
    middle = size / 2  # the index where MNIST has it: half a pixel right of and below the middle
    down = float((small.sum(axis=1) * np.arange(height)).sum()) / total
    across = float((small.sum(axis=0) * np.arange(width)).sum()) / total
    top = int(np.clip(round(middle - down), 0, size - height))
    left = int(np.clip(round(middle - across), 0, size - width))
    image = np.zeros((size, size), np.uint8)
    image[top : top + height, left : left + width] = (small * 255 + 0.5).astype(np.uint8)
    return image


def _box(edges: list[float], shape: tuple[int, ...]) -> Box:
    """Left, top, right and lower edge in pixels of the picture, within it."""
    height, width = shape
    left, top = max(0, int(edges[0])), max(0, int(edges[1]))
    right, lower = min(width, int(np.ceil(edges[2]))), min(height, int(np.ceil(edges[3])))
    return Box(left, top, max(1, right - left), max(1, lower - top))


def _shown(ink: Floats) -> NDArray[np.uint8]:
    """Ink from 0 to 1 as a picture."""
    return (np.clip(ink, 0, 1) * 255 + 0.5).astype(np.uint8)
