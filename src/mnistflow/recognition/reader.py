"""Convert any picture of handwriting to images in MNIST's format.

They cropped each digit to its ink, brought its longer side to 20 pixels with antialiasing and placed it in 28 x 28 with
its centre of mass in the middle (LeCun, Bottou, Bengio and Haffner 1998). A photograph needs more before that: which of
its shades are paper, which are ink, which are shadow, noise or ruled lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Box", "Digit", "Reading", "read", "resized"]

INK_SHARE = 20 / 28  # of the side of an image: the longer side of what is written
LARGEST = 1024  # pixels of the longer side that are worked on; a larger picture is scaled down first
SMALLEST = 24  # of the longer side; the ink of a smaller picture is scaled up
SCALED_UP = 64
MIN_COMPONENT_SHARE = 0.04  # share of the largest connected component; smaller components are removed
MIN_EDGE_COMPONENT_SHARE = 0.25  # the same for components that touch the edge of the picture
MIN_LINE_SHARE = 0.6  # of the picture's width, or of its height: a straight line that is longer may be a printed one
MAX_LINE_THICKNESS_SHARE = 0.015  # of the shorter side, beside a pixel: half of how thick a printed line may be
MIN_TOUCHING_ASPECT = 1.5  # times as wide as high: more than one digit
MIN_SIDE_FOR_LINE_REMOVAL = (
    96  # pixels of the shorter side; from here on, printed lines are removed and faint ink ignored
)
MIN_SIDE_FOR_LIGHT_CORRECTION = 64  # pixels of the shorter side; from here on, uneven light is corrected

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.uint8]  # 1 where ink is


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


@dataclass(frozen=True)
class Reading:
    """What is written in a picture."""

    digits: tuple[Digit, ...]  # from left to right; none where nothing is written
    steps: tuple[tuple[str, NDArray[np.uint8]], ...]  # how it was found: what each step does, and a picture of it


def read(grey: NDArray[np.uint8], *, size: int = 28, several: bool = True) -> Reading:
    """Find what is written in a picture and bring it into the form of MNIST.

    Args:
        grey: (H, W) of any size; dark ink on light paper, or light on dark.
        size: height and width of each image.
        several: there may be several digits side by side; otherwise all ink is one.
    """
    steps = [("grey", grey)]
    work = _scaled_down(grey, LARGEST)
    ink, level, noise = _ink(work)
    steps.append(("ink against paper", _shown(ink)))
    if not level:
        return Reading((), tuple(steps))
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
    mask = _mask(ink, faint, noise)
    steps.append(("ink, specks gone", mask * np.uint8(255)))
    groups = _groups(mask) if several else [mask]
    digits = []
    across, down = grey.shape[1] / work.shape[1], grey.shape[0] / work.shape[0]
    for group in groups:
        left, top, width, height = cv2.boundingRect(group)
        if not width:
            continue
        crop = np.where(group, ink, 0)[top : top + height, left : left + width]
        image = _centred(crop, size)
        edges = [
            (left / enlarged - margin) * across,
            (top / enlarged - margin) * down,
            ((left + width) / enlarged - margin) * across,
            ((top + height) / enlarged - margin) * down,
        ]
        digits.append(Digit(image, _box(edges, grey.shape)))
        steps.append(("cropped to the ink", _shown(crop)))
        steps.append((f"{size} x {size}, centred by mass", image))
    return Reading(tuple(digits), tuple(steps))


def resized(grey: NDArray[np.uint8], *, size: int) -> Digit:
    """Scale a whole picture to ``size`` x ``size`` with antialiasing, for networks that were trained on such.

    Light paper becomes dark, because 0 is background.

    Args:
        grey: (H, W) of any size.
        size: height and width of the image.
    """
    upright = 255 - grey if _is_light(grey) else grey
    shrinks = size <= min(grey.shape)
    image = cv2.resize(upright, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return Digit(np.asarray(image, dtype=np.uint8), Box(0, 0, grey.shape[1], grey.shape[0]))


def _scaled_down(grey: NDArray[np.uint8], most: int) -> NDArray[np.uint8]:
    """A picture whose longer side is no longer than so many pixels."""
    longest = max(grey.shape)
    if longest <= most:
        return np.ascontiguousarray(grey)
    height, width = (max(1, round(side * most / longest)) for side in grey.shape)
    return np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _is_light(grey: NDArray[np.uint8]) -> bool:
    """Whether the paper is light: ink is what few pixels are, off the edges, and what comes in narrow strokes."""
    values = _scaled_down(grey, 128).astype(np.float32)
    if min(values.shape) >= MIN_SIDE_FOR_LIGHT_CORRECTION // 2:
        values -= cv2.GaussianBlur(values, (0, 0), 0.25 * max(values.shape))
    values -= values.mean()
    spread = float(values.std()) or 1.0
    edge = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    score = float(np.median(edge)) / spread - float((values**3).mean()) / spread**3
    # Shadows deceive both; strokes are darker or lighter than both their sides.
    if min(values.shape) >= MIN_SIDE_FOR_LIGHT_CORRECTION // 2:
        small = cv2.medianBlur(_scaled_down(grey, 64), 3)
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
        dark, light = (
            float((cv2.morphologyEx(small, hat, kernel).astype(np.float32) ** 2).sum()) + 1
            for hat in (cv2.MORPH_BLACKHAT, cv2.MORPH_TOPHAT)
        )
        score += float(np.clip(np.log(dark / light), -0.7, 0.7))
    return score > 0


def _ink(grey: NDArray[np.uint8]) -> tuple[Floats, float, float]:
    """How much darker than light paper, or lighter than a dark ground, each pixel is.

    Returns:
        (H, W), about 0 where there is no ink; the level of what is ink, 0 where there is none; the standard deviation
        of the paper's noise.
    """
    light = _is_light(grey)
    shade = grey.astype(np.float32)
    if min(grey.shape) >= MIN_SIDE_FOR_LIGHT_CORRECTION:
        paper = _paper(grey, light)
        ink = 1 - shade / np.maximum(paper, 16) if light else (shade - paper) / 255
    else:
        ink = (shade.max() - shade) / 255 if light else (shade - shade.min()) / 255
    if min(grey.shape) >= 14:
        ink -= np.median(ink)
    below = ink[ink < 0]
    noise = 1.4826 * float(np.median(-below)) if len(below) > ink.size / 20 else 0.0
    bytes_ = (np.clip(ink, 0, 1) * 255).astype(np.uint8)
    threshold, _ = cv2.threshold(bytes_, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    above = ink[bytes_ > threshold]
    level = float(np.percentile(above, 90)) if len(above) else 0.0
    if level < max(0.08, 4 * noise) or (max(grey.shape) >= SMALLEST and _is_noise(ink)):
        return ink, 0.0, noise
    return ink, level, noise


def _paper(grey: NDArray[np.uint8], light: bool) -> Floats:
    """What a picture would be without the ink: (H, W)."""
    height, width = grey.shape
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (25, 25))
    small = cv2.medianBlur(_scaled_down(grey, 128), 3)
    small = cv2.morphologyEx(small, cv2.MORPH_CLOSE if light else cv2.MORPH_OPEN, kernel)
    blurred = cv2.GaussianBlur(small.astype(np.float32), (0, 0), 4)
    return np.asarray(cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def _is_noise(ink: Floats) -> bool:
    """Whether neighbouring pixels are (nearly) uncorrelated."""
    values = ink - ink.mean()
    power = float((values**2).mean())
    if not power or min(ink.shape) < 2:
        return True
    related = float((values[:, 1:] * values[:, :-1]).mean()) + float((values[1:] * values[:-1]).mean())
    return related < 0.4 * power


def _mask(ink: Floats, faint: float, noise: float) -> Mask:
    """1 where ink is: what is surely ink, and what is above ``faint`` and belongs to it; without lines and specks."""
    large = min(ink.shape) >= MIN_SIDE_FOR_LINE_REMOVAL
    smooth = np.asarray(cv2.GaussianBlur(ink, (0, 0), 1.0)) if noise > 0.02 else ink
    there = (smooth > faint).astype(np.uint8)
    if large:
        there = _without_lines(there)
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(there, connectivity=8)
    sure = np.bincount(labels.ravel(), weights=(smooth > 0.5).ravel().astype(np.float64), minlength=count)
    sure[0] = 0
    if large:  # what comes in from outside is the end of a line, of a shadow, of the table
        left, top, width, height, _ = np.asarray(statistics).T
        outside = (left == 0) | (top == 0) | (left + width == ink.shape[1]) | (top + height == ink.shape[0])
        sure[outside & (sure < MIN_EDGE_COMPONENT_SHARE * sure.max())] = 0
    return np.asarray((sure > MIN_COMPONENT_SHARE * sure.max())[labels], dtype=np.uint8)


def _without_lines(mask: Mask) -> Mask:
    """Take away straight lines that are thin and cross most of a picture; where they cross a stroke, it stays."""
    height, width = mask.shape
    _, _, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    across = statistics[1:, cv2.CC_STAT_WIDTH] > MIN_LINE_SHARE * width
    down = statistics[1:, cv2.CC_STAT_HEIGHT] > MIN_LINE_SHARE * height
    if not (across | down).any():
        return mask
    least = round(MIN_LINE_SHARE * min(height, width))
    lines = cv2.HoughLinesP(mask, 1, np.pi / 360, least // 2, minLineLength=least, maxLineGap=least // 8)
    if lines is None:
        return mask
    depth = np.asarray(cv2.distanceTransform(mask, cv2.DIST_L2, 3))
    near = np.asarray(cv2.dilate(depth, _disc(5)))  # half of the thickness that a line has there
    kept, thickest = mask.copy(), 0.0
    for left, top, right, lower in np.asarray(lines, dtype=np.int64).reshape(-1, 4).tolist():
        if max(abs(right - left) / width, abs(lower - top) / height) < MIN_LINE_SHARE:
            continue
        along = np.zeros_like(mask)
        cv2.line(along, (left, top), (right, lower), 1, 1)
        half = float(np.median(near[along > 0])) + 0.5
        if half > MAX_LINE_THICKNESS_SHARE * min(height, width) + 1:
            continue
        strip = cv2.dilate(along, _disc(2 * round(half) + 3))
        crossed = cv2.dilate((depth > 1.4 * half).astype(np.uint8), _disc(2 * round(half) + 3))
        kept[(np.asarray(strip) > 0) & (np.asarray(crossed) == 0)] = 0
        thickest = max(thickest, half)
    if kept.sum() < MIN_COMPONENT_SHARE * mask.sum():  # nothing but a line: a one, say, as high as the picture
        return mask
    closed = np.asarray(cv2.morphologyEx(kept, cv2.MORPH_CLOSE, _disc(2 * round(thickest) + 3)), dtype=np.uint8)
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    low = np.asarray(statistics)[:, cv2.CC_STAT_HEIGHT] <= 2 * thickest + 4  # bits of lines that faded
    low[int(np.argmax(np.asarray(statistics)[1:, cv2.CC_STAT_AREA])) + 1] = False
    return np.where(low[labels], np.uint8(0), closed)


def _disc(size: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), dtype=np.uint8)


def _groups(mask: Mask) -> list[Mask]:
    """The ink of each digit: line by line, each from left to right.

    Parts are of one digit where they are above one another and near, as the bar of a five and the rest of it. What is
    far wider than high is two digits that touch; they are parted where there is least ink.
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
    groups = []
    for part in _in_lines(merged):
        ink = np.isin(labels, part.numbers).astype(np.uint8)
        groups += _parted(ink, part)
    return groups


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


def _parted(ink: Mask, part: _Part) -> list[Mask]:
    """A digit as it is, or two or more that touch, each on its own."""
    width, height = part.right - part.left, part.lower - part.top
    digits = round(width / (0.9 * height))
    if width < MIN_TOUCHING_ASPECT * height or digits < 2 or height < 8:
        return [ink]
    columns = ink[:, part.left : part.right].sum(axis=0)
    cuts = [0]
    for number in range(1, digits):
        near, reach = round(number * width / digits), max(1, round(0.25 * width / digits))
        cuts.append(near - reach + int(np.argmin(columns[near - reach : near + reach])))
    pieces = []
    for start, end in zip(cuts, [*cuts[1:], width], strict=True):
        piece = np.zeros_like(ink)
        piece[:, part.left + start : part.left + end] = ink[:, part.left + start : part.left + end]
        pieces.append(piece)
    return pieces


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
