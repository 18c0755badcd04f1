"""Images in a grid, each under its caption."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from mnistflow.core.tensors import Split
from mnistflow.figures.style import fitted, frame, page, picture, set_page_size, styled, wrapped

__all__ = ["grid", "mistakes", "pick_stratified", "predictions", "reading", "samples"]


def pick_stratified(labels: Tensor, count: int) -> Tensor:
    """Which images to show of many: class by class, of each as large a share as it has of all, from its whole length.

    Args:
        labels: (N,) integers.
        count: how many at most.

    Returns:
        (min(N, count),) int64.
    """
    count = min(count, len(labels))
    return labels.argsort(stable=True)[torch.arange(count) * len(labels) // max(count, 1)]


def samples(images: Tensor, labels: Tensor, classes: Sequence[str], title: str) -> Figure:
    """A grid of images with their labels.

    Args:
        images: (N, C, H, W) float; the first channel is drawn, dark on light.
        labels: (N,) integers.
        classes: their names.
        title: of the whole.
    """
    captions = [classes[int(label)] for label in labels]
    return _pictures(images, captions, title, "no image")


def grid(train: Split, validation: Split, first: int) -> Figure:
    """Nine consecutive training images with their numbers; below them, what tensor a network is given to train on.

    Args:
        train: at least one image.
        validation: the images held out of the same original file; may be empty.
        first: the number in that file of the first image; where nine do not follow, the last nine are drawn.
    """
    numbers, places = torch.cat([train.indices, validation.indices]).sort()
    start = min(int(torch.searchsorted(numbers, first)), max(len(numbers) - 9, 0))
    images, captions = [], []
    for number, place in zip(numbers[start : start + 9].tolist(), places[start : start + 9].tolist(), strict=True):
        split, at = (train, place) if place < len(train) else (validation, place - len(train))
        images.append(split.images[at])
        captions.append(f"{train.inputs.classes[int(split.labels[at])]}\nnumber {number}")
    shape, dtype = tuple(train.images.shape), str(train.images.dtype).removeprefix("torch.")
    low, high = (float(limit) for limit in train.images.aminmax())
    below = f"train: {shape} {dtype}, min {low:.3f}, max {high:.3f}"
    return _pictures(torch.stack(images), captions, "Training images", "no image", columns=3, below=below)


def predictions(
    images: Tensor, labels: Tensor, predictions: Tensor, probabilities: Tensor, classes: Sequence[str], count: int
) -> Figure:
    """The first images, right or wrong, with what they were read as; the wrong ones have a frame and a sign.

    Args:
        images: (N, C, H, W) float.
        labels: (N,) integers.
        predictions: (N,) integers.
        probabilities: (N,) float, of the predictions.
        classes: their names.
        count: how many are drawn at most.
    """
    shown = range(min(count, len(labels)))
    wrong = [i for i in shown if labels[i] != predictions[i]]
    captions = [
        f"{reading(int(labels[i]), int(predictions[i]), classes)}\n{float(probabilities[i]):.0%}" for i in shown
    ]
    title = f"The first {len(shown):,} of {len(labels):,} test images; ✗ misread: {len(wrong):,}"
    return _pictures(images[: len(shown)], captions, title, "no image", wrong=wrong)


def mistakes(
    images: Tensor, labels: Tensor, predictions: Tensor, probabilities: Tensor, classes: Sequence[str], count: int
) -> Figure:
    """The misclassified images, those first that the network was surest of.

    Args:
        images: (N, C, H, W) float.
        labels: (N,) integers.
        predictions: (N,) integers.
        probabilities: (N,) float, of the predictions.
        classes: their names.
        count: how many are drawn at most.
    """
    wrong = (labels != predictions).nonzero().flatten()
    worst = wrong[probabilities[wrong].argsort(descending=True, stable=True)][:count]
    captions = [
        f"{classes[int(labels[i])]} read as {classes[int(predictions[i])]}\n{float(probabilities[i]):.0%}"
        for i in worst
    ]
    title = f"{len(wrong):,} of {len(labels):,} test images misclassified"
    if len(worst) < len(wrong):
        title += f"; the {len(worst)} with the highest probability"
    return _pictures(images[worst], captions, title, "no mistake")


def reading(label: int, prediction: int, classes: Sequence[str]) -> str:
    """A prediction in words; a wrong one has a sign, for those who do not see its colour."""
    return classes[label] if label == prediction else f"✗ {classes[label]} read as {classes[prediction]}"


def _pictures(
    images: Tensor,
    captions: Sequence[str],
    title: str,
    nothing: str,
    *,
    columns: int = 10,
    wrong: Collection[int] = (),
    below: str = "",
) -> Figure:
    """Images beside and below one another, each under its caption; in one axes, for forty take seconds to lay out."""
    columns = min(columns, max(len(images), 1))
    rows = max(1, math.ceil(len(images) / columns))
    width = 1.2  # inches, of a place
    captions = [wrapped(caption, width) for caption in captions]
    above = 0.18 * (1 + max((caption.count("\n") for caption in captions), default=0)) + 0.08  # of a caption
    size = (max(width * columns, 5.0, 0.09 * len(title)), 0.45 + (1.0 + above) * rows + (0.3 if below else 0))
    with styled() as colours:
        figure, axes = page()
        axes.text(size[0] / 2, 0.12, title if captions else f"{title}: {nothing}", fontsize=11, ha="center", va="top")
        left_over = (size[0] - width * columns) / 2
        for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
            left = left_over + width * (place % columns)
            top = 0.45 + (1.0 + above) * (place // columns) + above
            wide, high = fitted(image[0], 0.92)
            middle, colour = left + width / 2, colours.orange if place in wrong else colours.ink
            axes.text(middle, top - 0.06, caption, fontsize=8, color=colour, ha="center", va="bottom", linespacing=1.1)
            picture(axes, image[0], middle - wide / 2, top, wide, high)
            if place in wrong:
                frame(axes, middle - wide / 2, top, wide, high, colours.orange, 1.8)
        axes.text(size[0] / 2, size[1] - 0.12, below, fontsize=9, ha="center", va="bottom")
        set_page_size(figure, *size, margin=0)
        return figure
