"""Handwriting for a fair test: digits of other writers, and MNIST's as if written on paper and photographed.

Nothing is trained or chosen by :func:`digits_uci` or by photographs of test images. For choosing there are photographs
of validation images, and :func:`uci_like`.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mnistflow.core.files import sha256
from mnistflow.data.datasets import digits, idx, mnist
from mnistflow.evaluation.calibration import calibration
from mnistflow.evaluation.scores import wilson
from mnistflow.recognition.reader import Probabilities, View

__all__ = [
    "SETS",
    "Gathered",
    "Pictures",
    "Score",
    "digits_uci",
    "gather",
    "load_test_set",
    "mnist_test",
    "outlined",
    "photograph",
    "photographed",
    "photographs",
    "printed",
    "scale_only",
    "score",
    "uci_like",
]

Floats = NDArray[np.floating[Any]]

SETS = ("digits-uci", "photographs")  # the names that :func:`load_test_set` takes
FINE = 12  # times as many pixels as an image has, for the outline of its strokes


@dataclass(frozen=True)
class Pictures:
    """Pictures of one digit each, with what was meant."""

    name: str
    pictures: list[NDArray[np.uint8]]  # (H, W) each, of any size
    labels: NDArray[np.int64]  # (N,)


def load_test_set(
    name: str, mnist_files: Path, most: int | None = None
) -> tuple[Iterator[NDArray[np.uint8]], NDArray[np.int64]]:
    """The pictures of a fair test, made one by one, and their labels.

    Args:
        name: one of the :data:`SETS`.
        mnist_files: the folder with MNIST's original files, for photographs.
        most: no more than so many; None: all.

    Raises:
        ValueError: the originals are missing or others.
    """
    if name == "digits-uci":
        known = digits_uci()
        return iter(known.pictures[:most]), known.labels[:most]
    images, labels = mnist_test(mnist_files)
    return map(photograph, images[:most]), labels[:most]


def digits_uci() -> Pictures:
    """All 1,797 digits that scikit-learn has of the UCI test set (Alpaydin and Kaynak 1998): 8 x 8, light on dark.

    Raises:
        ValueError: scikit-learn is not installed, or its file is another one.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, digits.FILE)
        with gzip.open(digits.bundled_file()) as file:
            path.write_bytes(file.read())
        digits.verify(path)
        table = np.loadtxt(path, delimiter=",", dtype=np.int64)  # (1797, 64 + 1)
    return Pictures("digits-uci", list(_of_sixteenths(table[:, :-1].reshape(-1, 8, 8))), table[:, -1])


def mnist_test(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """MNIST's test images, (10000, 28, 28), and their labels, without PyTorch.

    Args:
        folder: with the original files, as the download stage leaves it.

    Raises:
        ValueError: a file is missing or is another one.
    """
    parts = []
    for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        path = folder / mnist.MNIST().subfolder / name
        if not path.is_file():
            raise ValueError(f"there is no file {path}; `dvc repro` with dataset: mnist fetches it")
        if sha256(path) != mnist.SHA256[name]:
            raise ValueError(f"{path} is not MNIST's file; delete it, and `dvc repro` downloads it again: rm {path}")
        parts.append(idx.read_idx(path))
    return parts[0], parts[1].astype(np.int64)


def uci_like(images: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Make 8 x 8 pictures as the UCI digits were made: of a bitmap of 32 x 32, the black pixels in blocks of 4 x 4.

    Args:
        images: (N, H, W), 0 is background; the bitmap is filled by the longer side of the ink.
    """
    made = []
    for image in images:
        fine = outlined(image, 8)
        rows, columns = (np.flatnonzero((fine > 0.5).any(axis=axis)) for axis in (1, 0))
        crop = fine[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else fine
        height, width = (max(1, round(side * 32 / max(crop.shape))) for side in crop.shape)
        bitmap = np.zeros((32, 32), np.int64)
        top, left = (32 - height) // 2, (32 - width) // 2
        small = cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA)
        bitmap[top : top + height, left : left + width] = np.asarray(small) > 0.5
        made.append(_of_sixteenths(bitmap.reshape(8, 4, 8, 4).sum(axis=(1, 3))))
    return made


def _of_sixteenths(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Counts from 0 to 16 as shades from 0 to 255."""
    return (counts * (255 / 16) + 0.5).astype(np.uint8)


def scale_only(pictures: Sequence[NDArray[np.uint8]], size: int = 28) -> NDArray[np.uint8]:
    """What people do first: scale the whole picture, and turn light paper dark; (N, size, size).

    Paper is what most of the picture's edge is.
    """
    images = np.empty((len(pictures), size, size), np.uint8)
    for image, picture in zip(images, pictures, strict=True):
        shrinks = min(picture.shape) > size
        image[:] = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        if np.median(edge) > 127:
            image[:] = 255 - image
    return images


@dataclass(frozen=True)
class Score:
    """How many pictures were read right."""

    pictures: int
    right: int
    unreadable: int  # nothing was found in them; they count as wrong
    naive: int  # right without the reader, the pictures being scaled and no more
    ece: float | None  # expected calibration error of the probabilities; None where nothing was found in any picture
    confusions: tuple[tuple[int, int, int], ...]  # label, what it was read as, and how often; the most frequent first

    @property
    def accuracy(self) -> float:
        """From 0 to 1."""
        return self.right / self.pictures

    @property
    def interval(self) -> tuple[float, float]:
        """Of the accuracy, 95 %."""
        return wilson(self.right, self.pictures)


@dataclass(frozen=True)
class Gathered:
    """Pictures of one digit each as networks take them, with the reader and, for comparison, without."""

    labels: NDArray[np.int64]  # (N,)
    images: NDArray[np.uint8]  # (M, size, size), by the reader: each view of each picture in which there is ink
    pictures: NDArray[np.int64]  # (M,): the picture that it is of
    plain: NDArray[np.uint8]  # (N, size, size), scaled and no more


def gather(
    pictures: Iterable[NDArray[np.uint8]],
    labels: NDArray[np.int64],
    views: Callable[[NDArray[np.uint8]], Sequence[View]],
    size: int = 28,
) -> Gathered:
    """Read pictures of one digit each.

    Args:
        pictures: (H, W) each; one for each label.
        labels: (N,), at least one.
        views: the ways to see a picture as one digit.
        size: height and width of the images.
    """
    images, owners, plain = [], [], np.zeros((len(labels), size, size), np.uint8)
    for place, picture in enumerate(pictures):
        plain[place] = scale_only([picture], size)[0]
        found = [candidate.digit.image for view in views(picture) for (candidate,) in view.parts]
        images += found
        owners += [place] * len(found)
    stacked = np.stack(images) if images else np.zeros((0, size, size), np.uint8)
    return Gathered(labels, stacked, np.array(owners, np.int64), plain)


def score(gathered: Gathered, probabilities: Probabilities) -> Score:
    """Hold what a network says of pictures against what was meant.

    Args:
        gathered: the pictures.
        probabilities: the network, which also decides between the views.
    """
    labels = gathered.labels
    answers = probabilities(gathered.images)  # (M, 10)
    best: dict[int, int] = {}  # by the picture: the view of which the network is surest
    for number in np.argsort(answers.max(axis=1), kind="stable").tolist():
        best[int(gathered.pictures[number])] = number
    read = np.array(sorted(best), np.int64)
    chances = answers[[best[picture] for picture in read.tolist()]]
    predictions = chances.argmax(axis=1)
    wrong = Counter(
        (int(label), int(prediction))
        for label, prediction in zip(labels[read], predictions, strict=True)
        if label != prediction
    )
    return Score(
        pictures=len(labels),
        right=int((predictions == labels[read]).sum()),
        unreadable=len(labels) - len(read),
        naive=int((probabilities(gathered.plain).argmax(axis=1) == labels).sum()),
        ece=calibration(chances, labels[read]).ece if len(read) else None,
        confusions=tuple((*pair, times) for pair, times in sorted(wrong.items(), key=lambda each: (-each[1], each[0]))),
    )


# ---------------------------------------------------------------------------------------------------------------------
# Ink on paper, photographed


def photographs(images: NDArray[np.uint8], labels: NDArray[np.int64], seed: int = 0) -> Pictures:
    """Photographs, drawn by chance, of images written in ink on paper.

    Each depends on its image and on the seed alone, not on its place among the others.

    Args:
        images: (N, 28, 28), 0 is background.
        labels: (N,).
        seed: 0 or more.
    """
    return Pictures("photographs", [photograph(image, seed) for image in images], labels)


def photograph(image: NDArray[np.uint8], seed: int = 0) -> NDArray[np.uint8]:
    """A photograph of one image: (H, W), 200 to 400 pixels a side.

    Ink lies on paper that may have lines, is seen at an angle, in light that falls off and may be crossed by a shadow,
    by a camera that blurs, has noise and writes JPEG.
    """
    drawn = int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:8], "little")
    chance = np.random.default_rng([seed, drawn])
    height, width = (int(side) for side in chance.integers(200, 401, size=2))
    ink, lines = _written(image, height, width, chance)
    return photographed(ink, lines, chance)


def photographed(ink: Floats, lines: Floats, chance: Generator) -> NDArray[np.uint8]:
    """A photograph of ink on paper; see :func:`photograph`.

    Args:
        ink: how much of the paper is covered by ink, (H, W), 0 to 1.
        lines: how dark its printed lines are, (H, W), 0 to 1.
        chance: decides about view, paper, light and camera.
    """
    height, width = ink.shape
    view = _seen_at_an_angle(height, width, chance)
    ink, lines = (np.asarray(cv2.warpPerspective(item, view, (width, height)), np.float64) for item in (ink, lines))

    paper = chance.uniform(190, 245) + _texture(height, width, chance)
    pen = chance.uniform(15, 95)
    shade: Floats = paper * (1 - lines)
    for _ in range(chance.poisson(2.0)):  # specks of dirt
        row, column, size = (int(chance.integers(high)) for high in (height, width, 3))
        shade[row : row + size + 1, column : column + size + 1] = pen + 30
    shade = shade * (1 - ink) + pen * ink
    shade = shade * _light(height, width, chance)
    shade = np.asarray(cv2.GaussianBlur(shade, (0, 0), chance.uniform(0.5, 1.6)))
    shade = shade + chance.normal(0, chance.uniform(1, 6), (height, width))
    quality = int(chance.integers(45, 91))
    _, file = cv2.imencode(".jpg", np.clip(shade + 0.5, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(file, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)


def outlined(image: NDArray[np.uint8], times: int) -> Floats:
    """An image with so many times the pixels a side and smooth outlines: (times H, times W), from 0 to 1."""
    large = cv2.resize(image.astype(np.float32) / 255, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.GaussianBlur(large, (0, 0), times / 3))


def _written(image: NDArray[np.uint8], height: int, width: int, chance: Generator) -> tuple[Floats, Floats]:
    """How much of the paper is covered by ink, and how dark its printed lines are: (height, width) each, 0 to 1."""
    fine = np.clip((outlined(image, FINE) - chance.uniform(0.35, 0.6)) * 6 + 0.5, 0, 1)  # a thick pen or a thin one
    side = round(min(height, width) * chance.uniform(0.45, 0.9))  # of the image; its ink is 20 / 28 of that
    small = np.asarray(cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA))
    ink = np.zeros((height, width), np.float32)
    top, left = int(chance.integers(height - side + 1)), int(chance.integers(width - side + 1))
    uneven = 1 - chance.uniform(0, 0.35) * _smooth_noise(side, side, side / 12, chance)
    ink[top : top + side, left : left + side] = small * uneven
    return ink, printed(height, width, chance)


def printed(height: int, width: int, chance: Generator) -> Floats:
    """How dark the lines are that are printed on plain, ruled or squared paper: (height, width), 0 to 1."""
    lines = np.zeros((height, width), np.float32)
    kind, distance, thickness = chance.integers(3), int(chance.integers(24, 61)), int(chance.integers(1, 3))
    darkness = float(chance.uniform(0.08, 0.4))
    if kind:  # ruled, or else in a grid
        for row in range(int(chance.integers(distance)), height, distance):
            lines[row : row + thickness] = darkness
    if kind == 2:
        for column in range(int(chance.integers(distance)), width, distance):
            lines[:, column : column + thickness] = darkness
    return lines


def _seen_at_an_angle(height: int, width: int, chance: Generator) -> Floats:
    """Where the camera sees the paper: a projection, (3, 3)."""
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    turn = math.radians(chance.uniform(-8, 8))
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    middle = np.array([width / 2, height / 2])
    moved = (corners - middle) @ rotation.T * 0.92 + middle
    moved += chance.uniform(-0.06, 0.06, (4, 2)) * [width, height]
    return np.asarray(cv2.getPerspectiveTransform(corners, moved.astype(np.float32)))


def _texture(height: int, width: int, chance: Generator) -> Floats:
    """Unevenness of paper, in shades."""
    coarse = chance.uniform(0, 6) * (_smooth_noise(height, width, 20, chance) - 0.5)
    return coarse + chance.uniform(0, 6) * (_smooth_noise(height, width, 1.5, chance) - 0.5)


def _light(height: int, width: int, chance: Generator) -> Floats:
    """How much of the light reaches each pixel: (height, width), from 0 to 1."""
    down, across = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    angle = chance.uniform(0, 2 * math.pi)
    light = 1 - chance.uniform(0, 0.3) * (1 + across * math.cos(angle) + down * math.sin(angle)) / 2
    if chance.random() < 0.5:  # the shadow of a hand or of a telephone
        angle = chance.uniform(0, 2 * math.pi)
        inside = across * math.cos(angle) + down * math.sin(angle) - chance.uniform(-0.6, 0.6)
        light = light * (1 - chance.uniform(0.2, 0.5) / (1 + np.exp(-inside / chance.uniform(0.03, 0.25))))
    return light


def _smooth_noise(height: int, width: int, scale: float, chance: Generator) -> Floats:
    """Noise whose neighbours are alike within so many pixels: (height, width), from 0 to 1."""
    noise = np.asarray(cv2.GaussianBlur(chance.random((height, width)), (0, 0), scale))
    low, high = float(noise.min()), float(noise.max())
    return np.asarray((noise - low) / (high - low))
