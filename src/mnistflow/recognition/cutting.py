"""Ink that hangs together, as one digit or several: where it may be cut, and which pieces that gives."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mnistflow.recognition.ink import Floats, Mask

__all__ = ["Piece", "Span", "parts"]

WORKED_ON = 48  # pixels of height in which cuts are looked for
STEP = 5  # pixels of these from one place where a cut is looked for to the next
REACH = 12  # pixels of these that a cut may lie to the left or right of its place
MAX_CROSSED = 24  # pixels of ink of these that a cut may cross: more is along a stroke
ASLANT = 0.1  # pixels of ink that a step to the side is worth
ASIDE = 0.001  # pixels of ink that a pixel aside of its place is worth, in each row: of equal ways the middle one
LOWEST = 8  # pixels of height of what may be cut
MAX_CUTS = 12  # through one part
LEAST_INK = 0.04  # of what a digit is expected to have, between two cuts
MIN_CUT_ASPECT = 1.0  # times as wide as high: perhaps more than one digit
MIN_APART_ASPECT = 0.6  # the same, where ink that does not hang together was put into one part
MIN_TOUCHING_ASPECT = 1.5  # times as wide as high: more than one digit
SMALL = 0.45  # times the height of the tallest ink: a bar, or a bit of a stroke that broke
MAX_ASPECT = 1.8  # times as wide as high: the widest digit between two cuts


@dataclass(frozen=True)
class Piece:
    """Ink that may be one digit: a mask, and where its upper left corner is."""

    left: int
    top: int
    mask: Mask


@dataclass(frozen=True)
class Span:
    """A piece between two cuts of a part, which are numbered from 0, its left edge; a part ends at the last one."""

    start: int
    end: int
    piece: Piece
    usual: bool  # whether it belongs to the cuts that the shape of the part suggests


def parts(mask: Mask) -> list[list[Span]]:
    """The ink of each digit, or of some that may touch: line by line, each from left to right.

    Ink is of one part where it is above one another and near, as the bar of a five and the rest of it.

    Args:
        mask: (H, W), 1 where there is ink.

    Returns:
        For each part, the pieces that cuts can leave of it, sorted by their start. Some chain of pieces from the first
        to the last cut is what is written.
    """
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    found = [
        _Part(left, top, left + width, top + height, [n])
        for n, (left, top, width, height, _) in enumerate(statistics.tolist())
        if n
    ]
    tallest = max((part.lower - part.top for part in found), default=0)
    for part in found:
        part.large = int(part.lower - part.top >= SMALL * tallest)
    merged: list[_Part] = []
    for part in sorted(found, key=lambda part: part.left):
        mate = next((other for other in merged if other.belongs_to(part, tallest)), None)
        if mate is None:
            merged.append(part)
        else:
            mate.take(part)
    return [
        _spans(
            Piece(
                part.left,
                part.top,
                np.isin(labels[part.top : part.lower, part.left : part.right], part.numbers).astype(np.uint8),
            ),
            MIN_APART_ASPECT if part.large > 1 else MIN_CUT_ASPECT,
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
    large: int = 0  # how many pieces of it are no mere bar or dot

    def belongs_to(self, other: _Part, tallest: int) -> bool:
        """Whether both are of one digit."""
        over = min(self.right, other.right) - max(self.left, other.left)
        apart = max(self.top, other.top) - min(self.lower, other.lower)
        narrow = min(self.right - self.left, other.right - other.left)
        low = min(self.lower - self.top, other.lower - other.top)
        small = low < SMALL * tallest and over > -0.12 * tallest  # a bar, or a bit of a stroke that broke
        return apart < 0.35 * tallest and (over > 0.4 * narrow or small)

    def take(self, other: _Part) -> None:
        """Become the ink of both."""
        self.left, self.top = min(self.left, other.left), min(self.top, other.top)
        self.right, self.lower = max(self.right, other.right), max(self.lower, other.lower)
        self.numbers += other.numbers
        self.large += other.large


def _in_lines(found: list[_Part]) -> list[_Part]:
    """Line by line, each from left to right."""
    lines: list[list[_Part]] = []
    for part in sorted(found, key=lambda part: part.top + part.lower):
        middle = (part.top + part.lower) / 2
        if lines and any(other.top < middle < other.lower for other in lines[-1]):
            lines[-1].append(part)
        else:
            lines.append([part])
    return [part for line in lines for part in sorted(line, key=lambda part: part.left)]


def _spans(ink: Piece, aspect: float) -> list[Span]:
    """The pieces that cuts can leave of a part; all of it, where it is narrower than so many times its height."""
    height, width = ink.mask.shape
    cuts = _cuts(ink.mask) if height >= LOWEST and width >= aspect * height else []
    if not cuts:
        return [Span(0, 1, ink, usual=True)]
    columns = np.arange(width)
    strips = np.sum([columns >= cut[:, None] for cut in cuts], axis=0)  # (H, W): how many cuts are left of each pixel
    last = len(cuts) + 1
    usual = _usual(ink.mask, cuts)
    spans = []
    for start in range(last):
        for end in range(start + 1, last + 1):
            piece = _cropped(ink, ((strips >= start) & (strips < end) & (ink.mask > 0)).astype(np.uint8))
            if (start, end) in usual or piece.mask.shape[1] <= MAX_ASPECT * height or end - start in (1, last):
                spans.append(Span(start, end, piece, usual=(start, end) in usual))
    return spans


def _cuts(mask: Mask) -> list[NDArray[np.intp]]:
    """Where ink may be cut from top to bottom: for each cut the first column behind it, (H,), from left to right.

    A cut goes down from row to row, straight or by one column, along the way that crosses the least ink, so it may
    slant with the writing and pass between digits of which one reaches over the other.
    """
    height, width = mask.shape
    rows = min(WORKED_ON, height)
    columns = max(1, round(width * rows / height))
    small: Floats = np.asarray(
        cv2.resize(mask.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA), np.float32
    )
    places = np.arange(STEP, columns - STEP + 1, STEP)
    if not len(places):
        return []
    ways, crossed = _ways_down(small, places)
    least = LEAST_INK * float(small.sum()) * rows / columns
    edges = [np.zeros(rows, np.intp), np.full(rows, columns, np.intp)]
    chosen: list[NDArray[np.intp]] = []
    for number in np.argsort(crossed, kind="stable").tolist():
        if crossed[number] > MAX_CROSSED or len(chosen) == MAX_CUTS:
            break
        if all(_ink_between(small, ways[number], other) >= least for other in (*edges, *chosen)):
            chosen.append(ways[number])
    ordered = np.sort(np.reshape(chosen, (-1, rows)), axis=0)  # where two cuts would cross, they touch
    full = np.minimum(np.arange(height) * rows // height, rows - 1)
    return [np.rint(cut[full] * width / columns).astype(np.intp) for cut in ordered]


def _ways_down(small: Floats, places: NDArray[np.intp]) -> tuple[NDArray[np.intp], Floats]:
    """The way down that crosses the least ink, near each of some places.

    Args:
        small: ink, (rows, columns), from 0 to 1.
        places: (N,), columns.

    Returns:
        The column in each row, (N, rows), and the ink that is crossed, in pixels, (N,).
    """
    band = places[:, None] + np.arange(-REACH, REACH + 1)  # (N, band): columns
    inside = (band > 0) & (band < small.shape[1])
    ink = np.where(inside, small[:, band.clip(0, small.shape[1] - 1)], np.inf)  # (rows, N, band)
    ink += ASIDE * np.abs(np.arange(-REACH, REACH + 1))
    total, came_from = ink[0], []
    for row in ink[1:]:
        wide = np.pad(total, ((0, 0), (1, 1)), constant_values=np.inf)
        ways = np.stack([wide[:, :-2] + ASLANT, total, wide[:, 2:] + ASLANT])
        came_from.append(ways.argmin(axis=0) - 1)
        total = ways.min(axis=0) + row
    at, number = total.argmin(axis=1), np.arange(len(places))
    columns = [at]
    for step in reversed(came_from):
        at = at + step[number, at]
        columns.append(at)
    return band[number[:, None], np.stack(columns[::-1], axis=1)], np.asarray(total.min(axis=1))


def _ink_between(small: Floats, one: NDArray[np.intp], other: NDArray[np.intp]) -> float:
    """How much ink there is between two cuts, in pixels."""
    low, high = np.minimum(one, other)[:, None], np.maximum(one, other)[:, None]
    columns = np.arange(small.shape[1])
    return float(small[(columns >= low) & (columns < high)].sum())


def _usual(mask: Mask, cuts: Sequence[NDArray[np.intp]]) -> set[tuple[int, int]]:
    """The pieces that the shape suggests: one digit, or of what is wide as many as fit, cut near their ends."""
    height, width = mask.shape
    digits = round(width / (0.9 * height)) if width >= MIN_TOUCHING_ASPECT * height else 1
    middles = np.array([cut.mean() for cut in cuts])
    nearest = {1 + int(np.abs(middles - number * width / digits).argmin()) for number in range(1, digits)}
    return set(itertools.pairwise([0, *sorted(nearest), len(cuts) + 1]))


def _cropped(ink: Piece, mask: Mask) -> Piece:
    left, top, width, height = cv2.boundingRect(mask)
    return Piece(ink.left + left, ink.top + top, np.ascontiguousarray(mask[top : top + height, left : left + width]))
