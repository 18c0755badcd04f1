"""Class by class: what each is taken for, how it fares, where it lies."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor, nn

from mnistflow.core.tensors import Split
from mnistflow.evaluation.projection import last_inputs, principal_components
from mnistflow.evaluation.scores import ClassScores
from mnistflow.figures.images import pick_stratified
from mnistflow.figures.style import (
    frame,
    page,
    palette,
    readable,
    set_page_size,
    shortened,
    styled,
    text_width,
    wrapped,
)
from mnistflow.models.inference import confusion_counts

__all__ = ["confusion", "per_class", "separation"]

MAX_CLASSES_WITH_SHARES = 20  # classes up to which each cell of the matrix has its share
MAX_CLASSES_IN_ONE_PLOT = 12  # classes up to which they are shown in one square, each in a colour or a shape of its own
CONFUSED_PAIRS = 5  # of classes confused most often, said in words
MAX_BARS = 30  # classes with bars
MAX_DOTS = 1000  # images whose place among the classes is shown


def confusion(labels: Tensor, predictions: Tensor, classes: Sequence[str]) -> Figure:
    """How often each class was read as which, in numbers and as shares of its images; mistakes alone are coloured.

    Args:
        labels: (N,) integers.
        predictions: (N,) integers.
        classes: their names.
    """
    table = confusion_counts(labels, predictions, len(classes)).numpy()
    totals = table.sum(axis=1, keepdims=True)
    shares = table / np.maximum(totals, 1)
    right = np.eye(len(classes), dtype=bool)
    wrong, missed = np.where(right, 0, table), np.where(right, 0, shares)
    deepest = float(missed.max()) or 1.0
    few = len(classes) <= MAX_CLASSES_WITH_SHARES
    names = shortened(classes, 60 if few else 30)
    longest = max(map(text_width, names))
    cell = 0.24 if not few else 1.2 if len(classes) <= 6 and longest > 4 else 0.62  # inches
    size = 8 if few else 6
    beside = [wrapped(name, 1.6) if few else name for name in names]
    left = 0.35 + 0.0085 * size * max(text_width(line) for name in beside for line in name.splitlines())
    above = [wrapped(name, cell - 0.1) for name in names]
    upright = any(text_width(word) * 0.0095 * size > cell for name in names for word in name.split())
    height = 0.0085 * size * longest if upright else 0.155 * max(1 + name.count("\n") for name in above)
    top = 0.85 + height
    side = cell * len(classes)
    pairs = [
        (int(wrong[row, column]), float(shares[row, column]), names[row], names[column])
        for row, column in np.argwhere(wrong)
    ]
    most = sorted(pairs, key=lambda pair: pair[:2], reverse=True)[:CONFUSED_PAIRS]
    with styled() as colours:
        figure, axes = page()
        axes.text(0, 0.1, f"{wrong.sum():,} of {table.sum():,} misclassified", fontsize=11, va="top")
        note = (
            "number of images, and share of all images with that label"
            if few
            else "number of images; colour: share of all images with that label"
        )
        axes.text(0, 0.34, note, fontsize=8, color=colours.grey, va="top")
        axes.text(left + side / 2, top - height - 0.1, "prediction", fontsize=9, ha="center", va="bottom")
        axes.text(0, top + side / 2, "label", fontsize=9, va="center", ha="center", rotation=90)
        extent = (left, left + side, top + side, top)
        axes.imshow(missed, cmap=colours.shares, vmin=0, vmax=deepest, extent=extent, interpolation="nearest")
        edges = [cell * place for place in range(len(classes) + 1)]
        axes.hlines([top + edge for edge in edges], left, left + side, color=colours.faint, linewidth=0.6)
        axes.vlines([left + edge for edge in edges], top, top + side, color=colours.faint, linewidth=0.6)
        for place, name in enumerate(names):
            middle = cell * (place + 0.5)
            axes.text(left - 0.08, top + middle, beside[place], fontsize=size, ha="right", va="center")
            text = name if upright else above[place]
            axes.text(left + middle, top - 0.06, text, fontsize=size, ha="center", va="bottom", rotation=90 * upright)
        for (row, column), count in np.ndenumerate(table):
            if count:
                x, y = left + cell * (column + 0.5), top + cell * (row + 0.5)
                shade = to_hex(tuple(colours.shares(missed[row, column] / deepest)))
                colour = colours.grey if row == column else readable(shade)
                lift = 0.09 if few else 0.0
                axes.text(x, y - lift, f"{count}", fontsize=size + few, ha="center", va="center", color=colour)
                if few:
                    share = f"{shares[row, column]:.1%}"
                    axes.text(x, y + lift + 0.02, share, fontsize=7, ha="center", va="center", color=colour)
        below = top + side + 0.2
        for line, (times, part, label, prediction) in enumerate(most):
            images = f"{times:,} image{'s' if times > 1 else ''}"
            caption = f"{label} read as {prediction}: {images}, {part:.1%} of the label"
            axes.text(0, below + 0.2 * line, caption, fontsize=8, va="top")
        widest = max(
            [left + side, 3.6, *(0.0085 * 8 * (text_width(pair[2]) + text_width(pair[3]) + 42) for pair in most)]
        )
        set_page_size(figure, widest, below + 0.2 * len(most) + 0.05)
        return figure


def per_class(scores: Sequence[ClassScores]) -> Figure:
    """Recall and precision of each class, and how many images it has; the bars are what is missing to all.

    Bars of 99.2 and 99.6 % look the same; those of what is missing, from zero as well, do not.

    Args:
        scores: of each class; of many, those with the least F1 are drawn.
    """
    shown = list(scores)
    title = "Class by class"
    if len(scores) > MAX_BARS:
        shown = sorted(scores, key=lambda score: score.f1)[:MAX_BARS]
        title += f": the {MAX_BARS} of {len(scores):,} with the lowest F1"
    names = shortened([score.name for score in shown], 60)
    longest = max([0.01, *(1 - value for score in shown for value in (score.recall, score.precision))])
    left = max(0.6, 0.15 + 0.08 * max(map(text_width, names)))  # where the names end
    bar, gap = 2.6, 0.85  # inches: of the longest bar, and for the number behind it
    counts, first, second = left + 0.85, left + 1.15, left + 1.15 + bar + gap
    with styled() as colours:
        figure, axes = page()
        axes.text(0, 0.1, title, fontsize=11, va="top")
        for x, name, note in (
            (first, "recall", "share of its images found; bar: missed"),
            (second, "precision", "share of its predictions right; bar: wrong"),
        ):
            axes.text(x, 0.5, name, fontsize=9, va="top")
            axes.text(x, 0.69, note, fontsize=7.5, color=colours.grey, va="top")
        axes.text(counts, 0.5, "images", fontsize=9, ha="right", va="top")
        for line, (score, name) in enumerate(zip(shown, names, strict=True)):
            middle = 1.08 + 0.26 * line
            axes.text(left, middle, name, fontsize=9, ha="right", va="center_baseline")
            count = f"{score.images:,}"
            axes.text(counts, middle, count, fontsize=9, color=colours.grey, ha="right", va="center_baseline")
            for x, value, colour in ((first, score.recall, colours.orange), (second, score.precision, colours.blue)):
                width = bar * (1 - value) / longest
                axes.add_patch(Rectangle((x, middle - 0.08), width, 0.16, color=colour, linewidth=0))
                axes.text(x + width + 0.06, middle, f"{value:.2%}", fontsize=9, va="center_baseline")
        set_page_size(figure, second + bar + gap, 1.08 + 0.26 * len(shown) + 0.05)
        return figure


def separation(model: nn.Module, split: Split, predictions: Tensor) -> Figure:
    """How far apart a network has moved the classes: the inputs of its last dense layer, in two dimensions.

    Args:
        model: of any architecture; in any mode, on the CPU.
        split: that it was not trained on; of many images, some of every class are shown.
        predictions: (N,) integers, of the split.
    """
    at = pick_stratified(split.labels, MAX_DOTS)
    count = len(at)
    labels, wrong = split.labels[at], split.labels[at] != predictions[at]
    values = last_inputs(model, split.images[at], batch_size=100)
    names = shortened(split.inputs.classes, 60)
    with styled() as colours:
        figure, axes = page()
        if values is None:
            axes.text(0, 0.1, f"{type(model).__name__} has no dense layer", fontsize=11, va="top")
            set_page_size(figure, 5.0, 0.5)
            return figure
        places, shares = principal_components(values, 2)
        extent = float((places.amax(dim=0) - places.amin(dim=0)).max()) or 1.0
        places = (places - (places.amax(dim=0) + places.amin(dim=0)) / 2) / extent  # -0.5 to 0.5
        title = f"{count:,} test images: inputs of the last dense layer, {values.shape[1]:,} values each"
        axes.text(0, 0.1, title, fontsize=11, va="top")
        note = (
            f"projected on two principal components, which explain {float(shares.sum()):.0%} of the variance; "
            "classes that overlap here may be separate in the others"
        )
        axes.text(0, 0.34, note, fontsize=8, color=colours.grey, va="top")
        top, left = 0.65, 0.0
        if len(names) <= MAX_CLASSES_IN_ONE_PLOT:
            _together(axes, places, labels, names, top, 4.2)
            left = 4.4
        columns = 10 if not left else math.ceil(math.sqrt(len(names) * 1.3))
        side = 1.3 if not left else max(1.15, (4.2 + 0.1) / math.ceil(len(names) / columns) - 0.5)
        captions = [
            f"{wrapped(name, side)}\n{int((labels == number).sum())} images, {int(wrong[labels == number].sum())} ✗"
            for number, name in enumerate(names)
        ]
        high = 0.13 * max(caption.count("\n") + 1 for caption in captions) + 0.08
        for number, caption in enumerate(captions):
            x = left + (side + 0.12) * (number % columns)
            y = top + high + (side + high + 0.08) * (number // columns)
            axes.text(x, y - 0.04, caption, fontsize=7.5, va="bottom", linespacing=1.1)
            frame(axes, x, y, side, side, colours.faint, 0.6)
            for chosen, colour, dot in (
                (labels != number, f"{colours.grey}60", 1.5),
                ((labels == number) & ~wrong, colours.blue, 2.0),
                ((labels == number) & wrong, colours.orange, 3.5),
            ):
                _dots(axes, places[chosen], x, y, side, colour, dot)
        rows = math.ceil(len(names) / columns)
        bottom = max(top + (side + high + 0.08) * rows, top + 4.2 if left else 0.0)
        axes.text(0, bottom + 0.08, "blue: the class; ✗, orange: misread", fontsize=8, color=colours.grey, va="top")
        set_page_size(figure, max(left + (side + 0.12) * min(columns, len(names)), 7.6), bottom + 0.35)
        return figure


def _together(axes: Axes, places: Tensor, labels: Tensor, names: Sequence[str], top: float, side: float) -> None:
    """All classes in one square, each in a colour or a shape of its own, with its name in its middle."""
    colours = palette()
    frame(axes, 0, top, side, side, colours.faint, 0.6)
    spots: list[tuple[float, float, str]] = []
    for number, name in enumerate(names):
        own = places[labels == number]
        colour = colours.lines[number % len(colours.lines)]
        _dots(axes, own, 0, top, side, colour, 3.0, "os^"[number // len(colours.lines)])
        if len(own):
            x, y = own.median(dim=0).values.tolist()
            lines = wrapped(name, 1.1)
            spots.append((0.03 * side + 0.94 * side * (x + 0.5), top + 0.03 * side + 0.94 * side * (0.5 - y), lines))
    for x, y, name in _apart(spots):
        half = 0.05 * max(map(len, name.splitlines()))
        x = min(max(x, half + 0.05), side - half - 0.05)
        halo = [withStroke(linewidth=2.5, foreground=colours.paper)]
        axes.text(x, y, name, fontsize=9, weight="bold", ha="center", va="center", path_effects=halo)


def _apart(spots: Sequence[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """Names at their places, from the top down; one that would lie on another is moved below it, or left out."""
    done: list[tuple[float, float, str]] = []
    for x, wanted, name in sorted(spots, key=lambda spot: spot[1]):
        y = wanted
        for other_x, other_y, other in done:
            if abs(x - other_x) < 0.05 * sum(max(map(len, text.splitlines())) for text in (name, other)) + 0.05:
                y = max(y, other_y + 0.1 + 0.08 * (2 + name.count("\n") + other.count("\n")))
        if y - wanted < 0.5:  # inches; farther away it would name another
            done.append((x, y, name))
    return done


def _dots(
    axes: Axes, places: Tensor, left: float, top: float, side: float, colour: str, size: float, shape: str = "o"
) -> None:
    """(N, 2) places from -0.5 to 0.5 as dots in a square of a page."""
    x, y = 0.03 * side + 0.94 * side * (places.T + 0.5)
    y = side - y
    axes.plot(
        (left + x).tolist(), (top + y).tolist(), shape, color=colour, markersize=size, markeredgewidth=0, clip_on=False
    )
