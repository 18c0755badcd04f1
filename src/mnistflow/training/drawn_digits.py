"""Digits drawn as strokes of a pen, in forms that people of many countries write and MNIST hardly has.

MNIST's writers were American: a one with a flag or a foot, a seven with a bar, a slashed zero, an open four, a nine
with a hook and a two with a loop are rare in it. Here each is a curve of its own whose proportions vary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

__all__ = ["as_by_hand", "centred", "drawn", "drawn_digits"]

CANVAS = 96  # pixels of the longer side of a drawing before it is scaled down
INK_SHARE = 20 / 28  # of the side of an image, as in MNIST: the longer side of what is written

Points = NDArray[np.float64]  # (points, 2): x from 0 rightwards, y from 0 at the top of a digit to 1 at its foot
Strokes = list[list[tuple[float, float]]]  # corner points of smooth curves; a point given twice stays a corner


def drawn_digits(count: int, seed: int, *, size: int = 28) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw digits in MNIST's format: antialiased, the longer side 20 of 28 pixels, centred by mass.

    Args:
        count: how many; each class equally often, in turn.
        seed: 0 or more; the same seed gives the same images.
        size: height and width of an image, pixels.

    Returns:
        Images, uint8 (count, size, size), 0 being background; labels (count,), 0 to 9.
    """
    chance = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    images = np.empty((count, size, size), np.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:] = drawn(as_by_hand(FORMS[label](chance), chance), chance.uniform(0.05, 0.17), size)
    return images, labels


# ---------------------------------------------------------------------------------------------------------------------
# The forms of each digit


def _zero(chance: Generator) -> Strokes:
    width, turn = chance.uniform(0.4, 0.85), chance.choice([-1, 1])
    ring = _arc(width / 2, 0.5, width / 2, 0.5, chance.uniform(-130, -40), turn * chance.uniform(335, 400))
    if chance.random() < 0.7:
        return [ring]
    over = chance.uniform(-0.15, 0.2)  # how far the slash leaves the ring
    return [ring, [(width * (0.9 + over), 0.08 - over), (width * (0.1 - over), 0.92 + over)]]


def _one(chance: Generator) -> Strokes:
    strokes: Strokes = [[(0, 0), (chance.uniform(-0.04, 0.04), 0.5), (0, 1)]]
    if chance.random() < 0.7:
        length, angle = chance.uniform(0.12, 0.6), math.radians(chance.uniform(32, 68))
        bend = chance.uniform(-0.06, 0.06)
        start = (-length * math.cos(angle), length * math.sin(angle))
        strokes[0] = [start, (start[0] / 2 - bend, start[1] / 2 + bend), (0, 0), *strokes[0]]
    if chance.random() < 0.3:
        left, right = chance.uniform(0.1, 0.35, 2)
        strokes.append([(-left, 1 + chance.uniform(-0.03, 0.03)), (right, 1)])
    return strokes


def _two(chance: Generator) -> Strokes:
    width, tail = chance.uniform(0.4, 0.7), chance.uniform(0.75, 1.6)
    start = (chance.uniform(-0.05, 0.1) * width, chance.uniform(0.08, 0.35))
    if chance.random() < 0.15:  # like a Z
        top = [(0, 0.04), (width / 2, 0.0), (width, 0.02), (width, 0.02)]
    else:
        right = chance.uniform(0.2, 0.35)
        top = [start, (0.2 * width, 0.02), (0.6 * width, -0.02), (width, 0.08), (1.02 * width, right)]
        top.append((0.75 * width, chance.uniform(0.5, 0.65)))
    kind, low = chance.random(), chance.uniform(0.9, 1.02)
    if kind < 0.3:  # with a loop at the foot
        high = chance.uniform(0.7, 0.84)
        foot = [(0.2 * width, 0.98), (-0.12 * width, 1.0), (-0.12 * width, high), (0.15 * width, high - 0.02)]
        foot += [(0.45 * width, 0.95), (tail * width, low)]
    elif kind < 0.5:  # with a wave
        foot = [(0, 1), (0, 1), (0.3 * width, 0.86), (0.6 * width, 1.02), (tail * width, low)]
    else:
        foot = [(0, 1), (0, 1), (0.5 * tail * width, chance.uniform(0.95, 1.02)), (tail * width, low + 0.04)]
    return [top + foot]


def _three(chance: Generator) -> Strokes:
    width, middle = chance.uniform(0.4, 0.7), chance.uniform(0.36, 0.52)
    into = chance.uniform(0.2, 0.6) * width
    if chance.random() < 0.3:  # flat on top
        top = [(0, 0.02), (0.5 * width, 0), (0.95 * width, 0), (0.95 * width, 0), (into, middle), (into, middle)]
    else:
        top = [(0, chance.uniform(0.05, 0.2)), (0.3 * width, -0.02), (0.85 * width, 0.0), (0.95 * width, 0.25)]
        top += [(0.75 * width, middle - 0.02), (into, middle)]
        if chance.random() < 0.3:  # a loop between the bowls
            top += [(into - 0.12 * width, middle + 0.04), (into, middle + 0.06)]
        else:
            top.append((into, middle))
    end = (chance.uniform(-0.1, 0.1) * width, chance.uniform(0.78, 0.95))
    low = [(0.8 * width, middle + 0.03), (1.05 * width, 0.65), (0.95 * width, 0.92), (0.5 * width, 1.04)]
    return [[*top, *low, (0.15 * width, 0.98), end]]


def _four(chance: Generator) -> Strokes:
    width, bar = chance.uniform(0.5, 0.8), chance.uniform(0.5, 0.72)
    stem, over = chance.uniform(0.6, 0.85) * width, chance.uniform(0, 0.3) * width
    across = [(0, bar), (0, bar), (0.5 * width, bar + chance.uniform(-0.04, 0.04)), (stem + over, bar)]
    if chance.random() < 0.4:  # closed on top
        foot = (stem + chance.uniform(-0.05, 0.05), 1)
        return [[(stem, 0.0), (0.5 * stem, 0.5 * bar), *across], [(stem, 0.0), (stem, 0.5), foot]]
    left = [(chance.uniform(0, 0.35) * width, 0), (chance.uniform(-0.02, 0.15) * width, 0.5 * bar)]
    begin = chance.uniform(-0.08, bar - 0.12)
    return [[*left, *across], [(stem, begin), (stem, 0.6), (stem + chance.uniform(-0.08, 0.05), 1)]]


def _five(chance: Generator) -> Strokes:
    width, middle = chance.uniform(0.4, 0.7), chance.uniform(0.36, 0.5)
    left, hat = chance.uniform(0.0, 0.12) * width, chance.uniform(0.6, 1.3) * width
    end = (chance.uniform(-0.15, 0.1) * width, chance.uniform(0.8, 0.96))
    bowl = [(0.35 * width, middle - 0.08), (0.9 * width, middle), (1.05 * width, 0.68), (0.9 * width, 0.95)]
    bowl += [(0.45 * width, 1.03), (0.1 * width, 0.98), end]
    corner, belly = (left + 0.02, 0.03), (left - 0.02, middle)
    down = [corner, corner, (left, 0.5 * middle), belly, belly]
    top = [(left + hat, chance.uniform(-0.05, 0.06)), (left + 0.5 * hat, 0.02)]
    kind = chance.random()
    if kind < 0.15:  # like an S
        return [[*top, (left + 0.02, 0.05), (left - 0.03, 0.6 * middle), (0.3 * width, middle), *bowl[1:]]]
    if kind < 0.55:
        return [[*top, *down, *bowl]]
    raised = chance.uniform(-0.06, 0.06)  # the hat last
    return [[*down[1:], *bowl], [(x, y + raised) for x, y in reversed(top)]]


def _six(chance: Generator) -> Strokes:
    width, high = chance.uniform(0.4, 0.65), chance.uniform(0.42, 0.62)
    start = (chance.uniform(0.45, 1.0) * width, 0.0)
    hooked = [(start[0] + 0.15 * width, 0.1), (start[0] - 0.05 * width, -0.02)]
    strokes = hooked if chance.random() < 0.25 else [start]
    strokes += [(0.25 * width, chance.uniform(0.15, 0.3)), (0, 0.6), (0.08 * width, 0.92), (0.5 * width, 1.04)]
    strokes += [(0.95 * width, 0.92), (width, high + 0.18), (0.75 * width, high), (0.35 * width, high + 0.02)]
    return [[*strokes, (0.06 * width, chance.uniform(0.7, 0.85))]]


def _seven(chance: Generator) -> Strokes:
    width, foot = chance.uniform(0.45, 0.75), chance.uniform(0.0, 0.6)
    rise = chance.uniform(-0.08, 0.06)
    top = [(0, rise), (0.5 * width, chance.uniform(-0.03, 0.06)), (width, 0), (width, 0)]
    if chance.random() < 0.3:  # with a serif
        top = [(chance.uniform(-0.05, 0.05), chance.uniform(0.1, 0.22)), (0, rise), (0, rise), *top[1:]]
    bend = chance.uniform(-0.12, 0.12)
    strokes: Strokes = [[*top, (0.5 * (1 + foot) * width - bend, 0.45), (foot * width, 1)]]
    if chance.random() < 0.5:  # crossed
        at = chance.uniform(0.36, 0.58)
        middle = width - (1 - foot) * width * at - bend * 0.7
        left, right = chance.uniform(0.12, 0.3, 2)
        tilt = chance.uniform(-0.06, 0.06)
        strokes.append([(middle - left, at + tilt), (middle + right, at - tilt)])
    return strokes


def _eight(chance: Generator) -> Strokes:
    width, middle = chance.uniform(0.4, 0.65), chance.uniform(0.4, 0.52)
    upper = width * chance.uniform(0.65, 1.0)
    gap = (width - upper) / 2
    if chance.random() < 0.3:  # two rings
        return [
            _arc(width / 2, middle / 2, upper / 2, middle / 2, chance.uniform(0, 360), chance.uniform(340, 380)),
            _arc(width / 2, (1 + middle) / 2, width / 2, (1 - middle) / 2, chance.uniform(0, 360), 365),
        ]
    end = (gap + upper * chance.uniform(0.8, 1.1), chance.uniform(0.02, 0.15))
    way = [(gap + 0.85 * upper, 0.08), (width / 2, -0.05), (gap - 0.05 * upper, 0.08), (gap, 0.75 * middle)]
    way += [(width / 2, middle), (width, middle + 0.16), (width, 0.92), (width / 2, 1.06), (0, 0.92)]
    way += [(0, middle + 0.16), (width / 2, middle), (gap + 0.9 * upper, 0.6 * middle), end]
    return [way]


def _nine(chance: Generator) -> Strokes:
    width, low = chance.uniform(0.4, 0.65), chance.uniform(0.38, 0.58)
    start = (width * chance.uniform(0.85, 1.0), chance.uniform(0.05, 0.18))
    ring = [start, (0.6 * width, -0.03), (0.1 * width, 0.04), (-0.03 * width, 0.6 * low), (0.2 * width, low)]
    ring += [(0.65 * width, low), (0.95 * width, 0.55 * low)]
    kind, foot = chance.random(), width * chance.uniform(0.5, 1.05)
    right = width * chance.uniform(0.95, 1.05)
    if kind < 0.35:  # straight down
        tail = [(right, start[1]), (right, start[1]), ((right + foot) / 2, 0.6), (foot, 1)]
    elif kind < 0.7:  # with a hook to the left
        tail = [(right, start[1]), (right, 0.55), (0.95 * right, 0.9), (0.5 * width, chance.uniform(0.98, 1.06))]
        tail += [(chance.uniform(-0.1, 0.2) * width, chance.uniform(0.84, 0.98))]
    elif kind < 0.85:  # bent
        tail = [(right, start[1]), (right, 0.5), (0.8 * width, 0.8), (chance.uniform(0.2, 0.6) * width, 1)]
    else:  # the stem apart
        closed = [*ring[:-1], (0.95 * width, 0.6 * low)]
        return [closed, [(right, chance.uniform(-0.05, 0.12)), (right, 0.5), (foot, 1)]]
    return [ring + tail]


FORMS = (_zero, _one, _two, _three, _four, _five, _six, _seven, _eight, _nine)


def _arc(x: float, y: float, across: float, down: float, start: float, sweep: float) -> list[tuple[float, float]]:
    """A part of an ellipse, in degrees clockwise from its right: points whose smooth curve lies near it."""
    angles = [math.radians(start + sweep * number / 11) for number in range(12)]
    return [(x + 1.03 * across * math.cos(angle), y + 1.03 * down * math.sin(angle)) for angle in angles]


# ---------------------------------------------------------------------------------------------------------------------
# From a form to an image


def as_by_hand(strokes: Sequence[ArrayLike], chance: Generator) -> list[Points]:
    """The curves as one hand draws them once: slanted, turned, wide or narrow, unsteady."""
    slant, turned = chance.uniform(-0.2, 0.45), math.radians(chance.uniform(-9, 9))
    rotation = np.array([[math.cos(turned), -math.sin(turned)], [math.sin(turned), math.cos(turned)]])
    form = rotation @ np.array([[chance.uniform(0.8, 1.25), -slant], [0, 1]])
    drawn = []
    for stroke in strokes:
        given = np.array(stroke, dtype=np.float64)
        wobble = chance.normal(0, 0.02, given.shape)
        again = np.all(given[1:] == given[:-1], axis=1)
        wobble[1:][again] = wobble[:-1][again]  # a corner stays one
        apart = chance.normal(0, 0.015, 2)  # strokes do not meet where they should
        drawn.append(_smooth(given + wobble + apart) @ form.T)
    return drawn


def _smooth(points: Points) -> Points:
    """A smooth curve along corner points, from the first to the last (Chaikin 1974)."""
    for _ in range(3):
        before, after = points[:-1], points[1:]
        cut = np.stack([0.75 * before + 0.25 * after, 0.25 * before + 0.75 * after], axis=1).reshape(-1, 2)
        points = np.concatenate([points[:1], cut, points[-1:]])
    return points


def drawn(strokes: list[Points], pen: float, size: int) -> NDArray[np.uint8]:
    """Strokes with a pen of so large a share of the drawing, as an image of (size, size)."""
    points = np.concatenate(strokes)
    low, extent = points.min(axis=0), np.ptp(points, axis=0)
    width = max(1, round(pen * CANVAS))
    scale, sub = (CANVAS - width - 2) / extent.max(), 16  # OpenCV takes places in fractions of a pixel
    canvas = np.zeros((CANVAS, CANVAS), np.uint8)
    for stroke in strokes:
        places = np.round(((stroke - low) * scale + width / 2 + 1) * sub).astype(np.int32)
        cv2.polylines(canvas, [places.reshape(-1, 1, 2)], False, 255, width, cv2.LINE_AA, shift=4)
    return centred(canvas, size)


def centred(ink: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Ink as MNIST has it: cropped, the longer side 20 of 28 pixels, the centre of mass in the middle: (size, size)."""
    left, top, across, down = cv2.boundingRect(ink)
    share = round(size * INK_SHARE) / max(across, down, 1)
    small = cv2.resize(
        ink[top : top + down, left : left + across],
        (max(1, round(across * share)), max(1, round(down * share))),
        interpolation=cv2.INTER_AREA,
    )
    image = np.zeros((size, size), np.uint8)
    mass = cv2.moments(small)
    x, y = (
        min(max(0, round(size / 2 - mass[moment] / mass["m00"] - 0.5)), size - side)
        for moment, side in (("m10", small.shape[1]), ("m01", small.shape[0]))
    )
    image[y : y + small.shape[0], x : x + small.shape[1]] = small
    return image
