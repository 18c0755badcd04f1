"""Images that are no digit, for training: a network that has seen some is unsure of others too."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mnistflow.training.drawn_digits import as_by_hand, centred, drawn

__all__ = ["outliers"]

Images = NDArray[np.uint8]

# Letters and signs as strokes of a pen, through points x,y from 0 to 100, with | between strokes; a point given twice
# is a corner.
# Letters that are written like a digit (b, g, I, l, o, O, q, s, S, z, Z, B, D, Q) are left out.
LETTERS = (
    "0,100 40,0 40,0 80,100 | 15,62 65,62",  # A
    "70,15 35,0 0,30 0,70 35,100 70,85",  # C
    "65,0 0,0 0,0 0,100 0,100 65,100 | 0,48 50,48",  # E
    "65,0 0,0 0,0 0,100 | 0,48 50,48",  # F
    "70,15 35,0 0,30 0,70 35,100 70,85 70,55 70,55 40,55",  # G
    "0,0 0,100 | 65,0 65,100 | 0,50 65,50",  # H
    "50,0 50,75 30,100 0,85",  # J
    "0,0 0,100 | 60,0 0,55 0,55 60,100",  # K
    "0,0 0,100 0,100 60,100",  # L
    "0,100 5,0 5,0 45,60 45,60 85,0 85,0 90,100",  # M
    "0,100 0,0 0,0 65,100 65,100 65,0",  # N
    "0,100 0,0 0,0 50,5 60,28 45,50 0,52",  # P
    "0,100 0,0 0,0 50,5 60,28 45,50 0,52 | 25,52 65,100",  # R
    "0,0 75,0 | 37,0 37,100",  # T
    "0,0 0,70 30,100 60,70 60,0",  # U
    "0,0 35,100 35,100 70,0",  # V
    "0,0 20,100 20,100 45,30 45,30 70,100 70,100 90,0",  # W
    "0,0 65,100 | 65,0 0,100",  # X
    "0,0 35,50 35,50 70,0 | 35,50 35,100",  # Y
    "60,40 30,28 0,65 30,100 58,75 60,40 60,40 62,85 75,98",  # a
    "60,40 30,28 0,65 30,100 58,75 60,0 60,0 60,98",  # d
    "5,65 60,62 50,32 20,32 0,65 25,100 60,88",  # e
    "60,8 40,0 28,25 28,100 | 0,42 55,42",  # f
    "0,0 0,100 | 0,60 30,38 55,60 55,100",  # h
    "30,35 30,100 | 30,8 31,9",  # i
    "40,30 40,85 20,100 0,88 | 40,5 41,6",  # j
    "0,0 0,100 | 50,40 0,70 0,70 50,100",  # k
    "0,35 0,100 | 0,55 25,35 42,55 42,100 | 42,55 68,35 88,55 88,100",  # m
    "0,35 0,100 | 0,58 30,35 55,55 55,100",  # n
    "0,30 0,130 | 0,45 35,28 60,60 35,92 0,80",  # p
    "0,35 0,100 | 0,58 25,36 48,40",  # r
    "25,0 25,85 45,100 65,92 | 0,32 55,32",  # t
    "0,35 5,85 30,98 55,75 55,35 55,35 58,100",  # u
    "0,35 28,100 28,100 55,35",  # v
    "0,35 18,100 18,100 40,50 40,50 60,100 60,100 80,35",  # w
    "0,35 30,80 | 60,35 20,130",  # y
    "0,35 55,100 | 55,35 0,100",  # x
    "15,0 12,45 | 45,0 42,45",  # "
    "80,100 20,30 25,5 45,15 20,60 10,85 40,100 75,55",  # &
    "65,0 5,50 5,50 65,100",  # <
    "0,0 60,50 60,50 0,100",  # >
    "0,25 25,10 50,30 75,15",  # ~
    "0,50 100,48",  # a dash
    "0,50 50,50 100,50 | 50,0 50,100",  # +
    "0,30 80,30 | 0,65 80,65",  # =
    "0,55 25,100 25,100 80,0",  # a tick
    "0,70 40,0 40,0 80,70",  # ^
    "5,0 25,5 28,45 55,50 28,55 25,95 5,100",  # }
    "40,0 10,0 10,0 10,100 10,100 40,100",  # [
    "20,0 10,90 | 55,0 45,90 | 0,30 70,30 | 0,60 65,60",  # #
    "0,100 10,40 35,10 60,40 70,100 | 30,100 30,60 | 0,40 80,45",  # an m with a line through it
)


def outliers(digits: Images, count: int, seed: int) -> Images:
    """Make images of what is no digit, as a reader would hand them to a network.

    Letters and signs, scribbles, outlines and blots, pieces of digits, and two digits as one.

    Args:
        digits: (N, size, size), 0 is background; of training alone.
        count: how many images.
        seed: 0 or more; the same digits and seed give the same images.

    Returns:
        (count, size, size).
    """
    chance = np.random.default_rng([seed, 1])
    digits = digits[digits.any(axis=(1, 2))]
    kinds: list[Callable[[Images, Generator], Images]] = [_letter, _letter, _scribble, _outline, _blot]
    if len(digits):
        kinds += [_piece, _pair]
    images = np.empty((count, *digits.shape[1:]), np.uint8)
    for number, image in enumerate(images):
        image[:] = kinds[number % len(kinds)](digits, chance)
    return images


def _pen(chance: Generator) -> float:
    return float(chance.uniform(0.05, 0.16))


def _letter(digits: Images, chance: Generator) -> Images:
    """A letter or a sign."""
    form = LETTERS[int(chance.integers(len(LETTERS)))]
    strokes = [np.array([point.split(",") for point in part.split()], dtype=float) / 100 for part in form.split("|")]
    return drawn(as_by_hand(strokes, chance), _pen(chance), digits.shape[-1])


def _scribble(digits: Images, chance: Generator) -> Images:
    """One or more lines without a meaning."""
    strokes = [chance.uniform(0, 1, (int(chance.integers(4, 12)), 2)) for _ in range(int(chance.integers(1, 4)))]
    return drawn(as_by_hand(strokes, chance), _pen(chance), digits.shape[-1])


def _outline(digits: Images, chance: Generator) -> Images:
    """A polygon or a star."""
    corners, start = int(chance.integers(3, 6)), chance.uniform(0, 2 * math.pi)
    angles = start + np.arange(corners + 1) * 2 * math.pi / corners
    if chance.random() < 0.4 and corners > 3:
        angles = start + np.arange(corners + 1) * 4 * math.pi / corners  # a star
    points = np.repeat(np.stack([np.cos(angles), np.sin(angles)], axis=1) * [chance.uniform(0.5, 1), 1], 2, axis=0)
    return drawn(as_by_hand([points], chance), _pen(chance), digits.shape[-1])


def _blot(digits: Images, chance: Generator) -> Images:
    """A spot, a cloud or noise, of any darkness."""
    size = digits.shape[-1]
    field = chance.normal(0, 1, (size, size)).astype(np.float32)
    blur = chance.uniform(0.3, 5)
    field = np.asarray(cv2.GaussianBlur(field, (0, 0), blur))
    field = (field - field.mean()) / field.std()
    if chance.random() < 0.7:  # within a window
        down, across = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
        a, b = chance.uniform(3, size / 2, 2)
        inside = np.maximum(abs(down - size / 2) / a, abs(across - size / 2) / b) < 1
        field = np.where(inside, field + chance.uniform(0, 3), -9)
    return np.asarray(np.clip(128 + chance.uniform(30, 200) * field, 0, 255), dtype=np.uint8)


def _piece(digits: Images, chance: Generator) -> Images:
    """A part of a digit, left or right of a cut, or above or below it."""
    for _ in range(100):  # in most images a digit is wide enough
        digit = digits[int(chance.integers(len(digits)))]
        if chance.random() < 0.2:
            digit = digit.T
        columns = np.flatnonzero(digit.any(axis=0))
        if len(columns) >= 0.35 * digits.shape[-1]:
            break
    else:
        return np.asarray(digit, dtype=np.uint8)
    at = round(columns[0] + len(columns) * chance.uniform(0.3, 0.7))
    part = digit[:, :at] if chance.random() < 0.5 else digit[:, at:]
    return centred(part, digits.shape[-1])


def _pair(digits: Images, chance: Generator) -> Images:
    """Two digits side by side or touching, perhaps of other sizes."""
    one, other = (_cropped(digits[int(chance.integers(len(digits)))]) for _ in range(2))
    share = float(chance.uniform(0.6, 1))
    other = np.asarray(cv2.resize(other, None, fx=share, fy=share, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    parts = [one, other] if chance.random() < 0.5 else [other, one]
    gap, size = int(chance.integers(-3, 4)), digits.shape[-1]
    canvas = np.zeros((size, one.shape[1] + other.shape[1] + abs(gap)), np.uint8)
    for part, left in zip(parts, (0, parts[0].shape[1] + gap), strict=True):
        top = int(chance.integers(size - part.shape[0] + 1))
        place = canvas[top : top + part.shape[0], max(0, left) : max(0, left) + part.shape[1]]
        np.maximum(place, part, out=place)
    return centred(canvas, size)


def _cropped(image: Images) -> Images:
    left, top, across, down = cv2.boundingRect(image)
    return image[top : top + down, left : left + across]
