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

from mnistflow.recognition.cutting import Piece, Span, parts
from mnistflow.recognition.ink import (
    MIN_SIDE_FOR_LINE_REMOVAL,
    SMALLEST,
    Floats,
    Paper,
    ink_and_noise,
    is_light,
    masks,
    papers,
    scaled_down,
)

__all__ = ["Box", "Candidate", "Digit", "Probabilities", "Reading", "View", "likeliest", "read", "resized", "views"]

INK_SHARE = 20 / 28  # of the side of an image: the longer side of what is written
LARGEST = 1024  # pixels of the longer side that are worked on; a larger picture is scaled down first
SCALED_UP = 64

LEAST = 1e-6  # of a probability
SIGN = math.log(0.5)  # of the probability of a small piece, at least: it may be a point or a dash, which is no digit
SIGN_HEIGHT = 0.5  # times the height of the ink that it hangs together with, or nearly
CUT = 0.3  # logarithm of how much likelier a reading with one more cut has to be; chosen on validation images

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


@dataclass(frozen=True)
class Candidate:
    """What may be a digit: the ink between two cuts of a part, see :class:`mnistflow.recognition.cutting.Span`."""

    start: int
    end: int
    digit: Digit
    usual: bool


@dataclass(frozen=True)
class View:
    """A way to see a picture: what of it is ink."""

    steps: Steps
    parts: tuple[
        tuple[Candidate, ...], ...
    ]  # from left to right: ink that hangs together, and what may be digits of it

    def reading(self, digits: Sequence[Digit]) -> Reading:
        """What is read when these are the digits."""
        return Reading(tuple(digits), self.steps + tuple(step for digit in digits for step in digit.steps))

    @property
    def usual(self) -> Reading:
        """What is read where the shape of the ink alone decides."""
        return self.reading([candidate.digit for part in self.parts for candidate in part if candidate.usual])


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
    """The reading whose digits a network is surest of: of all views, and with any cuts of each part.

    What counts is the product of the probabilities of all predictions, where each cut through ink that hangs together
    makes it 0.74 times as large. No view is preferred.

    Args:
        found: what :func:`views` gave.
        probabilities: see :func:`read`.
    """
    nothing_to_choose = len(found) == 1 and all(len(part) == 1 for part in found[0].parts)
    if probabilities is None or nothing_to_choose:
        return found[0].usual
    images = [candidate.digit.image for view in found for part in view.parts for candidate in part]
    chances = iter(np.log(np.maximum(probabilities(np.stack(images)).max(axis=1), LEAST)).tolist())
    best, reading, considered = -math.inf, found[0].reading([]), []
    for view in found:
        digits: list[Digit] = []
        total = 0.0
        for part in view.parts:
            chance, chain = _likeliest_chain(part, [next(chances) for _ in part])
            total += chance
            digits += chain
        name = ", ".join(name.removeprefix("ink, ") for name, _ in view.steps[1:])
        considered.append((f"{name}: {len(digits)} digit{'s' * (len(digits) != 1)}", math.exp(total)))
        if digits and total > best:
            best, reading = total, view.reading(digits)
    return replace(reading, considered=tuple(considered))


def _likeliest_chain(part: Sequence[Candidate], chances: Sequence[float]) -> tuple[float, list[Digit]]:
    """Of the chains of candidates from the first to the last cut, the one whose sum of logarithms is largest."""
    height = max(candidate.digit.box.height for candidate in part)
    best: dict[int, tuple[float, list[Digit]]] = {0: (0.0, [])}  # by the cut that a chain has come to
    for candidate, chance in zip(part, chances, strict=True):  # sorted by their start: what ends there came before
        if candidate.start not in best:
            continue
        total, chain = best[candidate.start]
        is_small = candidate.digit.box.height < SIGN_HEIGHT * height
        total += max(chance, SIGN if is_small else -math.inf) - (CUT if chain else 0)
        if candidate.end not in best or total > best[candidate.end][0]:
            best[candidate.end] = (total, [*chain, candidate.digit])
    return best[max(best)]


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

    def digit(piece: Piece) -> Digit:
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
        spans = parts(mask) if several else [[Span(0, 1, Piece(0, 0, mask), usual=True)]] if mask.any() else []
        candidates = (
            tuple(Candidate(span.start, span.end, digit(span.piece), span.usual) for span in part) for part in spans
        )
        found.append(View((*steps, (name, mask * np.uint8(255))), tuple(candidates)))
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
    if not total:  # a gap that was closed in the mask, and cut off
        return np.zeros((size, size), np.uint8)
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
