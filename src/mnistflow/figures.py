"""Figures for people who would rather look than read.

Drawn without pyplot's global state, and with the same bytes each time.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter, StrMethodFormatter
from torch import Tensor, nn

from mnistflow.artifacts import Split
from mnistflow.files import whole
from mnistflow.inference import (
    LayerOutput,
    confusion_counts,
    layer_outputs,
    logits_of,
    probabilities,
)
from mnistflow.recipes import LossName

__all__ = [
    "confusion",
    "convolution",
    "curves",
    "grid",
    "inside",
    "mistakes",
    "predictions",
    "samples",
    "save",
    "study",
    "worked_convolution",
]

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
SIGNED = LinearSegmentedColormap.from_list("signed", [BLUE, "white", ORANGE])

# A module that is one of these begins a row of the figure `inside`, and so does one that changes how many values flow.
LAYERS = (nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d)
WIDTH = 10.0  # inches, of a row there
MAPS, UNITS, STRIP, CHANCES, ROWS = 16, 40, 1024, 20, 30  # maps, weights of units, values, classes, rows shown at most


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
        f"{_reading(int(labels[i]), int(predictions[i]), classes)}\n{float(probabilities[i]):.0%}" for i in shown
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


def inside(model: nn.Module, image: Tensor, label: int, classes: Sequence[str], loss: LossName) -> Figure:
    """An image on its way through a network: what the first layer looks for, what each layer gives, the probabilities.

    Args:
        model: of any architecture; in any mode, on the CPU.
        image: (C, H, W) float32, normalised.
        label: its class.
        classes: their names.
        loss: the one the network was trained with.
    """
    classes = [name if len(name) <= 30 else f"{name[:29]}…" for name in classes]
    layers = layer_outputs(model, image[None])
    logits = logits_of(model, image[None], batch_size=1)
    rows = _rows(layers, image)
    if rows and rows[-1][1].shape == logits.shape:
        rows.pop()  # the logits themselves; their probabilities are drawn
    with rc_context(STYLE):
        figure, axes = _page()
        title = f"Inside {type(model).__name__}: {classes[label]}, from pixels to probabilities"
        axes.text(0, 0.1, title, fontsize=11, va="top")
        width, height = _fitted(image[0], 1.3)
        _picture(axes, image[0], 0, 0.45, width, height)
        _frame(axes, 0, 0.45, width, height, GREY, 0.6)
        legend = "Below: white is 0, orange above it, blue below it; each row has a scale of its own."
        axes.text(width + 0.2, 0.45 + height, legend, fontsize=8, color=GREY, va="bottom")
        top = _weights(axes, height + 0.7, layers, image, classes if not rows else ())
        for name, output in rows[:ROWS]:
            top = _layer(axes, top, name, output[0])
        if len(rows) > ROWS:
            axes.text(0, top, f"and {len(rows) - ROWS} more layers", fontsize=9, va="top")
            top += 0.4
        top = _bars(axes, top, probabilities(logits, loss)[0], label, classes)
        _cut(figure, WIDTH, top)
        return figure


def worked_convolution() -> tuple[nn.Sequential, Tensor]:
    """A convolution small enough to follow by hand, with ReLU, pooling and flattening behind it.

    Returns:
        The network, and its input: (1, 1, 5, 5) float32.
    """
    rows = [[3, 3, 2, 1, 0], [2, 3, 2, 1, 0], [3, 3, 2, 1, 0], [4, 3, 2, 1, 0], [1, 3, 2, 1, 0]]
    kernel = [[0, 1, 2], [2, 2, 0], [0, 1, 2]]
    convolution = nn.Conv2d(1, 1, 3, bias=False)
    convolution.weight = nn.Parameter(torch.tensor([[kernel]], dtype=torch.float32), requires_grad=False)
    network = nn.Sequential(convolution, nn.ReLU(), nn.MaxPool2d(2, stride=2, padding=1), nn.Flatten())
    return network, torch.tensor([[rows]], dtype=torch.float32)


def convolution() -> Figure:
    """How a convolution works, in numbers, with ReLU, pooling and flattening behind it."""
    network, image = worked_convolution()
    kernel = network.get_parameter("0.weight").detach()
    convolved, rectified, pooled, flat = (layer.output for layer in layer_outputs(network, image))
    window = image[0, 0, :3, :3]
    products = [f"{x:.0f} · {w:.0f}" for x, w in zip(window.flatten(), kernel.flatten(), strict=True)]
    last = rectified[0, 0, -2:, -2:].flatten()
    relu = "ReLU: nothing is below 0,\nso nothing changes" if torch.equal(convolved, rectified) else "ReLU"
    windows = [(row, column, 2, GREEN, 1.0) for row in (-1, 1) for column in (-1, 1)]
    # Numbers, cells of padding before them, what they are, the sign behind them, and frames: the row and column where
    # one begins, its cells along each side, colour, line.
    panels: list[tuple[Tensor, int, str, str, list[tuple[int, int, int, str, float]]]] = [
        (image[0, 0], 0, "input", "∗", [(0, 0, 3, ORANGE, 2.5)]),
        (kernel[0, 0], 0, "kernel", "=", [(0, 0, 3, ORANGE, 2.5)]),
        (convolved[0, 0], 0, "convolution,\nstride 1, no padding", "→", [(0, 0, 1, ORANGE, 2.5)]),
        (rectified[0, 0], 1, relu, "→", [*windows, (1, 1, 2, GREEN, 2.5)]),
        (pooled[0, 0], 0, "2 × 2 max-pool,\nstride 2, padding 1", "→", [(1, 1, 1, GREEN, 2.5)]),
        (flat.T, 0, "flattened", "", []),
    ]
    cell, gap, middle, left = 0.36, 0.84, 1.65, 0.0  # inches
    with rc_context(STYLE):
        figure, axes = _page()
        axes.text(0, 0.1, "How a convolution works", fontsize=11, va="top")
        for numbers, padding, caption, sign, frames in panels:
            rows, columns = numbers.shape
            left += cell * padding
            top, right = middle - cell * rows / 2, left + cell * columns
            for (row, column), number in np.ndenumerate(numbers.numpy()):
                x, y = left + cell * column, top + cell * row
                _frame(axes, x, y, cell, cell, GREY, 0.6)
                axes.text(x + cell / 2, y + cell / 2, f"{number:.0f}", ha="center", va="center_baseline")
            for row, column, cells, colour, line in frames:
                _frame(axes, left + cell * column, top + cell * row, cell * cells, cell * cells, colour, line)
            axes.text(left + cell * columns / 2, 2.7, caption, fontsize=8, ha="center", va="top")
            axes.text(right + gap / 2, middle, sign, fontsize=14, ha="center", va="center")
            left = right + gap
        total, largest = convolved[0, 0, 0, 0], pooled[0, 0, -1, -1]
        axes.text(0, 3.3, f"first window:  {' + '.join(products)} = {total:.0f}", color=ORANGE, va="top")
        chosen = f"last window:  the largest of {', '.join(f'{x:.0f}' for x in last)} is {largest:.0f}"
        axes.text(left - gap, 3.3, chosen, color=GREEN, ha="right", va="top")
        _cut(figure, left - gap, 3.65)
        return figure


def _reading(label: int, prediction: int, classes: Sequence[str]) -> str:
    """A prediction in words; a wrong one has a sign, for those who do not see its colour."""
    return classes[label] if label == prediction else f"✗ {classes[label]} read as {classes[prediction]}"


def _wrapped(text: str, inches: float) -> str:
    """A caption in as many lines as it needs to be no wider than this, at font size 8."""
    return "\n".join(textwrap.fill(line, max(4, int(14.5 * inches))) for line in text.splitlines())


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
    captions = [_wrapped(caption, width) for caption in captions]
    above = 0.18 * (1 + max((caption.count("\n") for caption in captions), default=0)) + 0.08  # of a caption
    size = (max(width * columns, 5.0, 0.09 * len(title)), 0.45 + (1.0 + above) * rows + (0.3 if below else 0))
    with rc_context(STYLE):
        figure, axes = _page()
        axes.text(size[0] / 2, 0.12, title if captions else f"{title}: {nothing}", fontsize=11, ha="center", va="top")
        left_over = (size[0] - width * columns) / 2
        for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
            left = left_over + width * (place % columns)
            top = 0.45 + (1.0 + above) * (place // columns) + above
            wide, high = _fitted(image[0], 0.92)
            middle, colour = left + width / 2, ORANGE if place in wrong else "black"
            axes.text(middle, top - 0.06, caption, fontsize=8, color=colour, ha="center", va="bottom", linespacing=1.1)
            _picture(axes, image[0], middle - wide / 2, top, wide, high)
            if place in wrong:
                _frame(axes, middle - wide / 2, top, wide, high, ORANGE, 1.8)
        axes.text(size[0] / 2, size[1] - 0.12, below, fontsize=9, ha="center", va="bottom")
        _cut(figure, *size, margin=0)
        return figure


def _rows(layers: Sequence[LayerOutput], image: Tensor) -> list[tuple[str, Tensor]]:
    """What flows through a network, layer by layer: names, and (1, ...) outputs after activation and normalisation."""
    rows: list[tuple[str, Tensor]] = []
    shape = image[None].shape
    for layer in layers:
        if isinstance(layer.module, LAYERS) or layer.output.numel() != shape.numel():
            rows.append((f"{layer.name}  {layer.kind}", layer.output))
        elif rows and layer.output.shape == shape:
            rows[-1] = (f"{rows[-1][0]} → {layer.kind}", layer.output)
        shape = rows[-1][1].shape if rows else shape
    return rows


def _weights(
    axes: Axes, top: float, layers: Sequence[LayerOutput], image: Tensor, captions: Sequence[str] = ()
) -> float:
    """The weights of the first layer as images, if they are such; returns where the next row begins."""
    first = next((layer for layer in layers if isinstance(layer.module, nn.Conv2d | nn.Linear)), None)
    if first is None:
        return top
    weights = first.module.get_parameter("weight").detach()
    if isinstance(first.module, nn.Conv2d):
        most, columns, what = MAPS, MAPS, "filters"
    elif weights.shape[1] == image.numel():
        weights = weights.reshape(-1, *image.shape)
        most, columns, what = UNITS, 10 if captions else UNITS // 2, "units"
    else:
        return top
    count, channels, height, width = weights.shape
    for channel in range(channels if channels <= 3 else 1):
        title = f"{first.name}  {first.kind}, weights: {count} {what}, {height} × {width}"
        title += f", input channel {channel + 1} of {channels}" if channels > 1 else ""
        title += f"; the first {most}" if count > most else ""
        top = _images(axes, top, title, weights[:most, channel], float(weights.abs().max()), columns, captions[:most])
    return top


def _layer(axes: Axes, top: float, name: str, output: Tensor) -> float:
    """What a layer gives for one image, as maps or as a strip; returns where the next row begins."""
    limit = float(output.abs().max())
    name += f": {' × '.join(map(str, output.shape))}"
    if output.ndim in (2, 3) and output.shape[-2:].numel() > 1:
        maps = output.reshape(-1, *output.shape[-2:])
        name += f"; the first {MAPS}" if len(maps) > MAPS else ""
        return _images(axes, top, name, maps[:MAPS], limit, MAPS)
    values = output.flatten()[:STRIP]
    name += f"; the first {STRIP}" if output.numel() > STRIP else ""
    rows = math.ceil(len(values) / 128)
    columns = math.ceil(len(values) / rows)
    strip = torch.full((rows * columns,), math.nan)
    strip[: len(values)] = values
    width, height = WIDTH * columns / 128, 0.16 * rows
    axes.text(0, top, name, fontsize=9, va="top")
    _picture(axes, strip.reshape(rows, columns), 0, top + 0.22, width, height, cmap=SIGNED, limit=limit)
    _frame(axes, 0, top + 0.22, width, height, GREY, 0.6)
    return top + 0.22 + height + 0.2


def _images(
    axes: Axes, top: float, title: str, images: Tensor, limit: float, columns: int, captions: Sequence[str] = ()
) -> float:
    """Signed (N, H, W) images under a title, captions below them; returns where the next row begins."""
    place = min(1.1, WIDTH / min(len(images), columns))
    width, height = _fitted(images[0], place - 0.06)
    captions = [_wrapped(caption, place) for caption in captions]
    below = 0.14 * (1 + max(caption.count("\n") for caption in captions)) + 0.06 if captions else 0.0
    axes.text(0, top, title, fontsize=9, va="top")
    top += 0.22
    for number, pixels in enumerate(images):
        left, upper = place * (number % columns), top + (height + 0.06 + below) * (number // columns)
        _picture(axes, pixels, left, upper, width, height, cmap=SIGNED, limit=limit)
        _frame(axes, left, upper, width, height, GREY, 0.6)
        if captions:
            axes.text(left + width / 2, upper + height + 0.05, captions[number], fontsize=8, ha="center", va="top")
    return top + (height + 0.06 + below) * math.ceil(len(images) / columns) + 0.14


def _bars(axes: Axes, top: float, chances: Tensor, label: int, classes: Sequence[str]) -> float:
    """The probability of each class (of many, the label and the likeliest others); returns where the page ends."""
    prediction = int(chances.argmax())
    shown = list(range(len(classes)))
    title = f"probabilities: {_reading(label, prediction, classes)}"
    if len(classes) > CHANCES:
        others = [i for i in chances.argsort(descending=True, stable=True).tolist() if i != label]
        shown = sorted([label, *others[: CHANCES - 1]])
        title += f"; {CHANCES} of {len(classes):,} classes"
    axes.text(0, top, title, fontsize=9, va="top")
    left = 0.15 + 0.085 * max(len(classes[i]) for i in shown)
    for line, i in enumerate(shown):
        chance, middle = float(chances[i]), top + 0.34 + 0.22 * line
        colour = GREY if i != prediction else BLUE if i == label else ORANGE
        axes.text(left - 0.08, middle, classes[i], fontsize=9, ha="right", va="center_baseline")
        axes.add_patch(Rectangle((left, middle - 0.08), 5 * chance, 0.16, color=colour, linewidth=0))
        note = f"{chance:.1%}" + ("  the label" if i == label else "")
        axes.text(left + 5 * chance + 0.08, middle, note, fontsize=9, va="center_baseline")
    return top + 0.34 + 0.22 * len(shown) + 0.1


def _fitted(pixels: Tensor, side: float) -> tuple[float, float]:
    """Width and height of (H, W) pixels in a square of this side."""
    height, width = pixels.shape
    return side * width / max(height, width), side * height / max(height, width)


def _picture(
    axes: Axes,
    pixels: Tensor,
    left: float,
    top: float,
    width: float,
    height: float,
    cmap: str | LinearSegmentedColormap = "gray_r",
    limit: float | None = None,
) -> None:
    """(H, W) pixels in a place of an axes in inches; colours go from -limit to limit, or from least to greatest."""
    low, high = (None, None) if limit is None else (-limit or -1, limit or 1)
    extent = (left, left + width, top + height, top)
    axes.imshow(pixels.numpy(), cmap=cmap, vmin=low, vmax=high, interpolation="nearest", extent=extent)


def _frame(axes: Axes, left: float, top: float, width: float, height: float, colour: str, line: float) -> None:
    axes.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=colour, linewidth=line))


def _page() -> tuple[Figure, Axes]:
    """A figure of one axes in inches, from its upper left corner; :func:`_cut` gives it its size."""
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    return figure, axes


def _cut(figure: Figure, width: float, height: float, margin: float = 0.3) -> None:
    """Give a page its size: what is drawn, and a margin on the left and on the right."""
    figure.set_size_inches(width + 2 * margin, height)
    figure.axes[0].set(xlim=(-margin, width + margin), ylim=(height, 0), aspect="equal")


def _axes(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.subplots(rows, columns, squeeze=False)
    return figure, list(places.flat)


def study(
    title: str,
    accuracies: Mapping[str, Sequence[float]],
    expected: Mapping[str, tuple[float, float]],
    curves: Mapping[str, Sequence[Sequence[dict[str, str]]]],
) -> Figure:
    """What several systems came to: the error of each seed and, where there are few systems, after each epoch.

    Args:
        title: of the whole.
        accuracies: of each seed on the test split, percent, by the name of the system.
        expected: the accuracy that a system should have, percent, where that is known.
        curves: the rows of history.csv of each seed. Drawn is the test error, or where that was not reported the
            validation error: the mean over seeds, with the range they span.
    """
    colours = [BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#888888"]
    few = len(curves) <= len(colours)
    with rc_context(STYLE):
        figure, (dots, *lines) = _axes(1, 1 + few, (13 if few else 9, 0.28 * len(accuracies) + (2.6 if few else 1.4)))
        figure.suptitle(title, fontsize=11)
        names = list(accuracies)
        for place, name in enumerate(names):
            if name in expected:
                low, high = (100 - accuracy for accuracy in reversed(expected[name]))
                dots.barh(place, high - low, left=low, height=0.7, color="#cccccc", label="expected")
            errors = [100 - accuracy for accuracy in accuracies[name]]
            colour = colours[place] if few else BLUE
            dots.plot(errors, [place] * len(errors), "o", color=colour, markersize=5, alpha=0.8, label="each seed")
        dots.set_yticks(range(len(names)), names)
        dots.set_ylim(len(names) - 0.4, -0.6)
        dots.set_xlabel("test error %")
        _log_percent(dots, "x")
        legend = dict(zip(*reversed(dots.get_legend_handles_labels()), strict=True))
        if expected:
            dots.legend(legend.values(), legend.keys(), loc="best")
        for axes in lines:
            for colour, (name, seeds) in zip(colours, curves.items(), strict=False):
                epochs = range(min(map(len, seeds)))
                errors_after = 100 - 100 * np.array(
                    [
                        [float(row["test_accuracy"] or row["val_accuracy"]) for row in rows[: len(epochs)]]
                        for rows in seeds
                    ]
                )  # (seeds, epochs)
                at = [epoch + 1 for epoch in epochs]
                axes.plot(at, errors_after.mean(axis=0), color=colour, marker="o", markersize=3.5, label=name)
                low_line, high_line = errors_after.min(axis=0), errors_after.max(axis=0)
                axes.fill_between(at, low_line, high_line, color=colour, alpha=0.15, linewidth=0)
            axes.set(xlabel="epoch", ylabel="error %")
            _log_percent(axes, "y")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return figure


def comparison(metrics: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]]) -> Figure:
    """Curves of several runs, a panel for each metric.

    Args:
        metrics: by its name, of each run by its name, the value after each epoch: (epoch, value).
    """
    colours = [BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#888888"]
    with rc_context(STYLE):
        figure, panels = _axes(1, max(1, len(metrics)), (4.6 * max(1, len(metrics)), 3.8))
        for axes, (name, runs) in zip(panels, metrics.items(), strict=False):
            for place, (run, points) in enumerate(runs.items()):
                epochs, values = zip(*points, strict=True)
                colour = colours[place % len(colours)]
                axes.plot(epochs, values, color=colour, marker="o", markersize=3.5, label=run)
            axes.set(xlabel="epoch", ylabel=name.replace("_", " "))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if metrics:
            panels[0].legend(loc="best", fontsize=7)
        return figure


def _log_percent(axes: Axes, which: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, with percentages as people write them."""
    if which == "x":
        axes.set_xscale("log")
    else:
        axes.set_yscale("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())
