"""What of a picture is ink: which of its shades are paper, which are shadow, noise, specks or printed lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MIN_SIDE_FOR_LINE_REMOVAL",
    "SMALLEST",
    "Floats",
    "Mask",
    "Paper",
    "ink_and_noise",
    "is_light",
    "masks",
    "papers",
    "scaled_down",
]

SMALLEST = 24  # of the longer side; the ink of a smaller picture is scaled up
MIN_COMPONENT_SHARE = 0.04  # share of the largest connected component; smaller components are removed
MIN_EDGE_COMPONENT_SHARE = 0.25  # the same for components that touch the edge of the picture
SMALLEST_BOX = 16  # pixels of the shorter side of a printed box
MAX_BOX_INK = 0.4  # share of its place that a printed box covers
MIN_BOX_SIDE = 0.85  # share of each side along which a printed box has ink
MANY_BOXES = 3  # in a picture: those with nothing in them are printed, too, and no zeros
MIN_IN_BOX = 0.3  # times the height of a printed box: what is written in it
MIN_LINE_SHARE = 0.6  # of the picture's width, or of its height: a straight line that is longer may be a printed one
MAX_LINE_THICKNESS_SHARE = 0.015  # of the shorter side, beside a pixel: half of how thick a printed line may be
# In pixels of the shorter side:
MIN_SIDE_FOR_LINE_REMOVAL = 96  # from here on, printed lines are looked for, and faint ink is ignored
MIN_SIDE_FOR_LIGHT_CORRECTION = 64  # from here on, uneven light is corrected
SURE_LIGHTNESS = 1.0  # from here on, paper is surely light, or dark

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.uint8]  # 1 where ink is


def scaled_down(grey: NDArray[np.uint8], most: int) -> NDArray[np.uint8]:
    """A picture whose longer side is no longer than so many pixels."""
    longest = max(grey.shape)
    if longest <= most:
        return np.ascontiguousarray(grey)
    height, width = (max(1, round(side * most / longest)) for side in grey.shape)
    return np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


@dataclass(frozen=True)
class Paper:
    """What the paper of a picture is taken for."""

    light: bool  # with dark ink on it, or else the other way round
    even: bool  # of one shade everywhere, so that ink may be broad; otherwise in light that changes from place to place


def papers(grey: NDArray[np.uint8]) -> list[Paper]:
    """What the paper of a picture may be, the likeliest first."""
    lightness = _lightness(grey)
    first = Paper(lightness > 0, even=min(grey.shape) < MIN_SIDE_FOR_LIGHT_CORRECTION)
    if abs(lightness) >= SURE_LIGHTNESS:
        return [first]
    others = (Paper(light, even) for light in (first.light, not first.light) for even in (first.even, True))
    return list(dict.fromkeys((first, *others)))


def is_light(grey: NDArray[np.uint8]) -> bool:
    """Whether the paper is light."""
    return _lightness(grey) > 0


def _lightness(grey: NDArray[np.uint8]) -> float:
    """Above 0 for light paper: ink is what few pixels are, off the edges, and what comes in narrow strokes."""
    values = scaled_down(grey, 128).astype(np.float32)
    if min(values.shape) >= MIN_SIDE_FOR_LIGHT_CORRECTION // 2:
        values -= cv2.GaussianBlur(values, (0, 0), 0.25 * max(values.shape))
    values -= values.mean()
    spread = float(values.std()) or 1.0
    edge = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    score = float(np.median(edge)) / spread - float((values**3).mean()) / spread**3
    # Shadows deceive both; strokes are darker or lighter than both their sides.
    if min(values.shape) >= MIN_SIDE_FOR_LIGHT_CORRECTION // 2:
        small = cv2.medianBlur(scaled_down(grey, 64), 3)
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
        dark, light = (
            float((cv2.morphologyEx(small, hat, kernel).astype(np.float32) ** 2).sum()) + 1
            for hat in (cv2.MORPH_BLACKHAT, cv2.MORPH_TOPHAT)
        )
        score += float(np.clip(np.log(dark / light), -0.7, 0.7))
    return score


def ink_and_noise(grey: NDArray[np.uint8], on: Paper) -> tuple[Floats, float, float]:
    """How much darker than light paper, or lighter than a dark ground, each pixel is.

    Returns:
        (H, W), about 0 where there is no ink; the level of what is ink, 0 where there is none; the standard deviation
        of the paper's noise.
    """
    shade = grey.astype(np.float32)
    if on.even:
        ink = (shade.max() - shade) / 255 if on.light else (shade - shade.min()) / 255
    else:
        paper = _paper(grey, on.light)
        ink = 1 - shade / np.maximum(paper, 16) if on.light else (shade - paper) / 255
    if min(grey.shape) >= 14:
        ink -= _of_paper(ink)
    below = ink[ink < 0]
    noise = 1.4826 * float(np.median(-below)) if len(below) > ink.size / 20 else 0.0
    above = ink[_is_above(ink)]
    level = float(np.percentile(above, 90)) if len(above) else 0.0
    if level < max(0.08, 4 * noise) or (max(grey.shape) >= SMALLEST and _is_noise(ink)):
        return ink, 0.0, noise
    return ink, level, noise


def _is_above(ink: Floats) -> NDArray[np.bool_]:
    """Which pixels are in the darker of two classes (Otsu 1979)."""
    shades = (np.clip(ink, 0, 1) * 255).astype(np.uint8)
    threshold, _ = cv2.threshold(shades, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return np.asarray(shades > threshold)


def _of_paper(ink: Floats) -> float:
    """The median of the paper, which most pixels are, or else those of the lighter of two classes."""
    above = _is_above(ink)
    return float(np.median(ink[~above] if 0.5 < above.mean() < 1 else ink))


def _paper(grey: NDArray[np.uint8], light: bool) -> Floats:
    """What a picture would be without the ink: (H, W)."""
    height, width = grey.shape
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (25, 25))
    small = cv2.medianBlur(scaled_down(grey, 128), 3)
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


def masks(ink: Floats, faint: float, noise: float) -> list[tuple[str, Mask]]:
    """What of a picture may be ink: names, and masks that are 1 where ink is.

    Ink is what surely is, and what is above ``faint`` and belongs to it, without specks. Straight lines may be printed
    ones, or strokes: there is a mask without them, and one with them.
    """
    large = min(ink.shape) >= MIN_SIDE_FOR_LINE_REMOVAL
    smooth = np.asarray(cv2.GaussianBlur(ink, (0, 0), 1.0)) if noise > 0.02 else ink
    there = (smooth > faint).astype(np.uint8)
    sure = smooth > 0.5
    if not large:
        return [("ink, specks gone", _without_specks(there, sure, large))]
    there = _without_boxes(there)
    without = _without_lines(there)
    if without is there:
        return [("ink, specks gone", _without_specks(there, sure, large))]
    return [
        ("ink, lines and specks gone", _without_specks(without, sure, large)),
        ("ink, specks gone, lines kept", _without_specks(there, sure, large)),
    ]


def _without_specks(there: Mask, sure: NDArray[np.bool_], large: bool) -> Mask:
    """Of what may be ink, the components with enough that surely is."""
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(there, connectivity=8)
    amount = np.bincount(labels.ravel(), weights=sure.ravel().astype(np.float64), minlength=count)
    amount[0] = 0
    if large:  # what comes in from outside is the end of a line, of a shadow, of the table
        left, top, width, height, _ = np.asarray(statistics).T
        outside = (left == 0) | (top == 0) | (left + width == there.shape[1]) | (top + height == there.shape[0])
        amount[outside & (amount < MIN_EDGE_COMPONENT_SHARE * amount.max())] = 0
    return np.asarray((amount > MIN_COMPONENT_SHARE * amount.max())[labels], dtype=np.uint8)


def _without_boxes(mask: Mask) -> Mask:
    """Take away printed boxes and rows of them, as forms have for digits: ink along all sides, and other ink inside.

    Ink that touches a box stays, but for straight strokes. Boxes with nothing in them go where there are three or more.
    """
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    edges = np.asarray(statistics)[1:]
    left, top, right, lower = edges[:, 0], edges[:, 1], edges[:, 0] + edges[:, 2], edges[:, 1] + edges[:, 3]
    kept = mask.copy()
    boxes, empty = 0, []
    for number, (x, y, width, height, area) in enumerate(edges.tolist(), start=1):
        shorter = min(width, height)
        if shorter < SMALLEST_BOX or area > MAX_BOX_INK * width * height:
            continue
        box = (labels[y : y + height, x : x + width] == number).astype(np.uint8)
        near = max(2, round(0.12 * shorter))
        bands = (box[:near].max(axis=0), box[-near:].max(axis=0), box[:, :near].max(axis=1), box[:, -near:].max(axis=1))
        if min(band.mean() for band in bands) < MIN_BOX_SIDE:
            continue
        length = round(0.35 * shorter)
        walls = [cv2.morphologyEx(box, cv2.MORPH_OPEN, np.ones(way, np.uint8)) for way in ((length, 1), (1, length))]
        touching = np.where(cv2.dilate(np.maximum(*walls), np.ones((3, 3), np.uint8)) > 0, np.uint8(0), box)
        _, _, bits, _ = cv2.connectedComponentsWithStats(touching, connectivity=8)
        inside = (left > x) & (top > y) & (right < x + width) & (lower < y + height)
        heights = [*(lower - top)[inside].tolist(), *bits[1:, cv2.CC_STAT_HEIGHT].tolist()]
        boxes += 1
        if max(heights, default=0) > MIN_IN_BOX * height:
            kept[y : y + height, x : x + width][box > 0] = touching[box > 0]
        else:
            empty.append(number)
    if boxes >= MANY_BOXES:
        kept[np.isin(labels, empty)] = 0
    return kept


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
