"""Digits as strokes of a pen: the ways in which people write each of them, and how their hands vary.

Each shape is one or more strokes, with | between them, through points x,y: from 0 to about 70 rightwards, from 0 to 100
downwards. The pen goes through them on a smooth curve; a point given twice is a corner.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (points, 2): x and y

SHAPES = {
    0: (  # round, narrow, from the right and closed with a bit too much, egg-shaped and clockwise
        "35,0 8,20 0,50 10,85 35,100 60,85 70,50 60,15 35,0",
        "25,0 6,20 0,55 8,88 24,100 42,85 47,50 40,15 22,1",
        "55,10 30,0 6,25 0,60 20,97 45,95 63,65 60,25 42,2 28,5",
        "30,2 55,12 66,50 50,93 28,100 6,80 0,45 12,10 32,0",
    ),
    1: (  # a bar, with a flag, with flag and foot, leaning
        "10,0 10,50 10,100",
        "0,25 20,0 20,0 20,50 20,100",
        "2,22 26,0 26,0 26,50 26,100 | 2,100 26,100 50,100",
        "25,0 14,45 0,100",
    ),
    2: (  # round with a straight foot, with a loop, like a Z, with a wavy foot
        "3,22 25,0 55,10 58,35 30,70 0,100 0,100 30,100 65,100",
        "5,20 30,0 55,15 50,45 25,80 6,98 0,88 12,78 35,92 65,97",
        "0,10 25,1 50,5 55,20 30,60 0,100 0,100 30,98 60,100",
        "0,30 12,5 40,0 57,20 45,50 20,80 2,97 2,97 25,90 45,100 68,93",
    ),
    3: (  # two bowls, flat on top, with a loop in the middle, small above large
        "3,12 30,0 52,15 45,38 22,47 22,47 50,55 58,78 30,100 0,88",
        "3,0 30,0 55,0 55,0 25,40 25,40 50,50 58,75 30,100 0,90",
        "4,10 32,0 52,17 35,42 20,50 24,42 50,55 56,80 30,100 0,90",
        "10,8 30,0 46,12 40,32 22,40 22,40 52,48 62,72 40,98 0,93",
    ),
    4: (  # open, closed, the bar first, a short one with a long bar
        "10,0 5,30 0,58 0,58 30,56 62,55 | 48,10 46,50 45,100",
        "45,0 20,35 0,65 0,65 35,65 68,64 | 45,0 45,50 44,100",
        "50,0 47,50 46,100 | 12,5 3,35 0,52 0,52 30,52 64,50",
        "8,8 4,30 6,48 25,52 50,46 | 50,0 49,50 45,100",
    ),
    5: (  # in one go from the right, the hat last, angular, like an S
        "55,0 30,0 8,2 8,2 6,20 4,42 4,42 30,36 55,55 52,85 28,100 0,92",
        "10,2 7,25 5,44 5,44 32,38 54,60 48,90 24,100 0,90 | 10,2 32,2 56,0",
        "55,0 30,0 5,0 5,0 5,25 5,45 5,45 35,45 55,55 55,80 35,100 0,98",
        "58,3 35,0 15,8 8,28 20,42 42,50 54,70 42,93 20,100 0,92",
    ),
    6: (  # a curve into a loop, a straight way down, a large loop, hooked on top
        "45,0 18,25 2,60 10,92 32,100 52,82 45,58 22,56 4,75",
        "32,0 14,35 0,72 12,97 36,98 48,78 36,60 16,65 4,80",
        "40,0 12,25 0,60 10,93 36,100 60,80 55,50 30,42 6,60",
        "52,10 36,0 14,18 2,55 8,90 30,100 50,85 46,62 24,55 5,72",
    ),
    7: (  # plain, with a bar, bent, with a serif
        "0,2 30,2 60,0 60,0 40,45 20,100",
        "0,3 30,2 60,0 60,0 42,45 22,100 | 14,50 34,49 58,48",
        "0,5 28,2 56,3 56,3 38,35 28,65 27,100",
        "2,16 3,2 3,2 30,3 58,0 58,0 36,50 24,100",
    ),
    8: (  # from the right in one go, two rings, from the middle, slim
        "50,12 28,0 8,15 16,38 42,58 50,82 26,100 3,82 12,58 40,38 50,12",
        "27,0 8,10 8,35 27,46 46,35 46,10 27,0 | 27,46 3,60 3,88 27,100 52,88 52,60 27,46",
        "27,46 8,30 12,6 30,0 48,12 42,34 20,52 4,75 14,97 38,98 50,78 40,56 25,44",
        "36,8 20,0 6,14 14,36 30,56 38,82 20,100 2,84 10,58 30,36 37,12",
    ),
    9: (  # straight down, a bent tail, a hook, the stick apart
        "46,15 25,0 3,15 6,40 28,46 45,25 47,12 47,12 45,55 43,100",
        "48,18 30,0 6,10 0,32 18,48 40,36 48,15 46,45 34,80 14,100",
        "48,15 26,0 3,14 6,40 30,45 48,20 50,50 44,88 24,100 4,90",
        "42,8 20,0 2,18 8,42 28,44 42,25 | 46,2 44,50 38,100",
    ),
}
assert set(SHAPES) == set(range(10))
assert all(len(shapes) >= 4 for shapes in SHAPES.values())


@dataclass(frozen=True)
class Drawing:
    """One digit on a sheet."""

    digit: int
    strokes: list[Points]  # as shares of the side of the sheet, 0 to 1


def drawings(each: int, seed: int) -> Iterator[Drawing]:
    """So many drawings of each digit, its shapes in turn: from a quarter of the sheet to most of it, anywhere on it."""
    random = np.random.default_rng(seed)
    for number in range(each):
        for digit, shapes in SHAPES.items():
            yield Drawing(digit, _written(shapes[number % len(shapes)], random))


def _written(shape: str, random: np.random.Generator) -> list[Points]:
    """A shape as one hand writes it once."""
    slant, turned, wide = random.uniform(-0.15, 0.35), np.radians(random.uniform(-8, 8)), random.uniform(0.8, 1.25)
    form = np.array([[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]]) @ [[wide, -slant], [0, 1]]
    strokes = []
    for points in shape.split("|"):
        given = np.array([point.split(",") for point in points.split()], dtype=float) / 100
        wobble = random.normal(0, 0.025, given.shape)
        again = np.all(given[1:] == given[:-1], axis=1)
        wobble[1:][again] = wobble[:-1][again]  # a corner stays one
        where = random.normal(0, 0.025, 2)  # strokes do not meet where they should
        strokes.append(_through(given + wobble + where) @ form.T)
    ends = np.concatenate(strokes)
    low, size = ends.min(axis=0), np.ptp(ends, axis=0)
    scale = random.uniform(0.25, 0.88) / size.max()
    corner = random.uniform(0.05, 0.95 - size * scale)
    return [(stroke - low) * scale + corner for stroke in strokes]


def _through(points: Points, steps: int = 2) -> Points:
    """A smooth curve through points (Catmull and Rom 1974), as a polyline."""
    padded = np.concatenate([points[:1], points, points[-1:]])
    t = np.arange(steps)[:, None] / steps
    parts = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False)
    ]
    return np.concatenate([*parts, points[-1:]])


def rendered(drawing: Drawing, side: int, pen: float, *, light: bool, margin: float) -> NDArray[np.uint8]:
    """A drawing as a square picture.

    Args:
        drawing: is scaled to fill the picture but for its margin.
        side: of the picture, pixels.
        pen: how wide its strokes are, as a share of the side.
        light: dark ink on light paper; otherwise light on dark.
        margin: as a share of the side, at least.
    """
    points = np.concatenate(drawing.strokes)
    low, size = points.min(axis=0), np.ptp(points, axis=0)
    ink, width = np.zeros((side, side), np.uint8), max(1, round(pen * side))
    free = side * (1 - 2 * margin) - width
    scale, sub = free / size.max(), 16  # OpenCV takes places in fractions of a pixel
    corner = (side - scale * size) / 2
    for stroke in drawing.strokes:
        places = np.round(((stroke - low) * scale + corner) * sub).astype(np.int32)
        cv2.polylines(ink, [places.reshape(-1, 1, 2)], False, 255, width, cv2.LINE_AA, shift=4)
    return 255 - ink if light else ink
