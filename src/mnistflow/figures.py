"""Figures for people who would rather look than read.

Drawn without pyplot's global state, and with the same bytes each time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from torch import Tensor

from mnistflow.files import whole
from mnistflow.inference import confusion_counts

__all__ = ["confusion", "curves", "mistakes", "samples", "save", "study"]

# Okabe and Ito's colours, told apart with any colour vision.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
STYLE: dict[Any, Any] = {  # the keys of matplotlib's rcParams
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
}


def save(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure as PNG."""
    with whole(path) as beside:
        figure.savefig(beside, format="png", dpi=dpi, metadata={"Software": None})


def samples(images: Tensor, labels: Tensor, classes: Sequence[str], title: str) -> Figure:
    """A grid of images with their labels.

    Args:
        images: (N, C, H, W) float; the first channel is drawn, dark on light.
        labels: (N,) integers.
        classes: their names.
        title: of the whole.
    """
    captions = [classes[int(label)] for label in labels]
    return _grid(images, captions, title, "no image")


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
    return _grid(images[worst], captions, title, "no mistake")


def curves(history: Sequence[dict[str, str]], steps: Sequence[dict[str, str]]) -> Figure:
    """Loss of each step and epoch, accuracy of each epoch, learning rate.

    Args:
        history: rows of history.csv.
        steps: rows of steps.csv.
    """
    with rc_context(STYLE):
        figure, (losses, accuracies, rates) = _axes(1, 3, (13, 3.8))
        per_epoch = int(history[-1]["epoch"]) / max(int(steps[-1]["step"]), 1)
        at = [int(row["step"]) * per_epoch for row in steps]
        losses.plot(at, [float(row["loss"]) for row in steps], color=BLUE, alpha=0.25, linewidth=0.8, label="step")
        # A mean over an epoch stands in the middle of it, what was measured after it at its end.
        for split, name, colour, shift in (
            ("train", "training, as the recipe has it", BLUE, 0.5),
            ("val", "validation", ORANGE, 0.0),
            ("test", "test", GREEN, 0.0),
        ):
            for axes, what in ((losses, "loss"), (accuracies, "accuracy")):
                column = [(int(row["epoch"]) - shift, row.get(f"{split}_{what}")) for row in history]
                points = [(epoch, float(value)) for epoch, value in column if value]
                if points:
                    axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=3.5, label=name)
        rates.plot(at, [float(row["lr"]) for row in steps], color=GREY)
        losses.set_yscale("log")
        accuracies.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        for axes, title in ((losses, "loss"), (accuracies, "accuracy"), (rates, "learning rate")):
            axes.set(title=title, xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if axes.get_legend_handles_labels()[0]:
                axes.legend()
        if not accuracies.lines:
            accuracies.text(0.5, 0.5, "not monitored", transform=accuracies.transAxes, ha="center")
        return figure


def confusion(labels: Tensor, predictions: Tensor, classes: Sequence[str]) -> Figure:
    """How often each class was read as which; mistakes stand out, the diagonal is not coloured.

    Args:
        labels: (N,) integers.
        predictions: (N,) integers.
        classes: their names.
    """
    table = confusion_counts(labels, predictions, len(classes)).numpy()
    wrong = np.where(np.eye(len(classes), dtype=bool), 0, table)
    side = 2.2 + 0.55 * len(classes)
    with rc_context({**STYLE, "axes.grid": False, "axes.spines.left": False, "axes.spines.bottom": False}):
        figure, (axes,) = _axes(1, 1, (side, side))
        axes.imshow(wrong, cmap="Oranges", vmin=0, vmax=max(1, int(wrong.max())))
        for (row, column), count in np.ndenumerate(table):
            if count:
                dark = wrong[row, column] > 0.6 * max(1, int(wrong.max()))
                axes.text(
                    column,
                    row,
                    str(count),
                    ha="center",
                    va="center",
                    color="white" if dark else GREY if row == column else "black",
                )
        axes.set(xlabel="prediction", ylabel="label", title=f"{wrong.sum():,} of {table.sum():,} misclassified")
        axes.set_xticks(range(len(classes)), classes, rotation=0 if max(map(len, classes)) < 4 else 90)
        axes.set_yticks(range(len(classes)), classes)
        axes.tick_params(length=0)
        return figure


def _grid(images: Tensor, captions: Sequence[str], title: str, nothing: str) -> Figure:
    """Images beside and below one another, each under its caption; in one axes, for forty take seconds to lay out."""
    columns = min(10, max(len(images), 1))
    rows = max(1, math.ceil(len(images) / columns))
    lines = 1 + max((caption.count("\n") for caption in captions), default=0)
    width, above = 1.2, 0.18 * lines + 0.08  # inches: of a place, and of its caption
    size = (max(width * columns, 5.0), (1.0 + above) * rows + 0.45)
    with rc_context(STYLE):
        figure = Figure(figsize=size)
        FigureCanvasAgg(figure)
        figure.text(
            0.5, 1 - 0.12 / size[1], title if captions else f"{title}: {nothing}", fontsize=11, ha="center", va="top"
        )
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        margin = (size[0] - width * columns) / 2
        for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
            left = margin + width * (place % columns)
            top = 0.45 + (1.0 + above) * (place // columns)
            middle = left + width / 2
            axes.text(middle, top + above - 0.06, caption, fontsize=8, ha="center", va="bottom", linespacing=1.1)
            axes.imshow(
                image[0].numpy(),
                cmap="gray_r",
                interpolation="nearest",
                extent=(middle - 0.46, middle + 0.46, top + above + 0.92, top + above),
            )
        axes.set(xlim=(0, size[0]), ylim=(size[1], 0), aspect="equal")
        return figure


def _axes(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.subplots(rows, columns, squeeze=False)
    return figure, list(places.flat)


def study(title: str, curves: Mapping[str, Sequence[Sequence[dict[str, str]]]]) -> Figure:
    """Accuracy after each epoch of several systems: the mean over seeds, with the range they span.

    Args:
        title: of the whole.
        curves: the rows of history.csv of each seed, by the name of the system. Drawn is the test accuracy, or where
            that was not reported the validation accuracy.
    """
    colours = [BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]
    with rc_context(STYLE):
        figure, (axes,) = _axes(1, 1, (10, 0.22 * len(curves) + 3.6))
        for number, (name, seeds) in enumerate(curves.items()):
            epochs = range(min(map(len, seeds)))
            values = np.array(
                [
                    [float(rows[epoch]["test_accuracy"] or rows[epoch]["val_accuracy"]) for epoch in epochs]
                    for rows in seeds
                ]
            )  # (seeds, epochs)
            at = [epoch + 1 for epoch in epochs]
            colour, line = colours[number % len(colours)], ("-", "--", ":")[number // len(colours) % 3]
            axes.plot(at, values.mean(axis=0), color=colour, linestyle=line, marker="o", markersize=3.5, label=name)
            axes.fill_between(at, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(title=title, xlabel="epoch", ylabel="accuracy")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        return figure
