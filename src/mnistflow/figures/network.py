"""Inside a network: the activations of its layers, and the weights of the first."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from mnistflow.figures.images import reading
from mnistflow.figures.style import (
    fitted,
    frame,
    page,
    palette,
    picture,
    set_page_size,
    shortened,
    styled,
    text_width,
    wrapped,
)
from mnistflow.models.inference import LayerOutput, layer_outputs, logits_of
from mnistflow.models.losses import LossName, probabilities

__all__ = ["inside", "weights"]

# A module that is one of these begins a row of the figure `inside`, and so does one that changes how many values flow.
LAYERS = (nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d)
WIDTH = 10.0  # inches, of a row there
MAPS, UNITS, STRIP, CHANCES, ROWS = 16, 40, 1024, 20, 30  # maps, weights of units, values, classes, rows shown at most
SHOWN = 160  # weights of units in the figure `weights`


def inside(
    model: nn.Module,
    image: Tensor,
    label: int,
    classes: Sequence[str],
    loss: LossName,
    temperature: float | None = None,
) -> Figure:
    """An image on its way through a network: what the first layer looks for, what each layer gives, the probabilities.

    Args:
        model: of any architecture; in any mode, on the CPU.
        image: (C, H, W) float32, normalised.
        label: its class.
        classes: their names.
        loss: the one the network was trained with.
        temperature: of its probabilities.
    """
    classes = shortened(classes)
    layers = layer_outputs(model, image[None])
    logits = logits_of(model, image[None], batch_size=1)
    rows = _rows(layers, image)
    if rows and rows[-1][1].shape == logits.shape:
        rows.pop()  # the logits themselves; their probabilities are drawn
    with styled() as colours:
        figure, axes = page()
        title = f"Inside {type(model).__name__}: {classes[label]}, from pixels to probabilities"
        axes.text(0, 0.1, title, fontsize=11, va="top")
        width, height = fitted(image[0], 1.3)
        picture(axes, image[0], 0, 0.45, width, height)
        frame(axes, 0, 0.45, width, height, colours.grey, 0.6)
        legend = "Below: background colour is 0, orange positive, blue negative; each row has its own scale."
        axes.text(width + 0.2, 0.45 + height, legend, fontsize=8, color=colours.grey, va="bottom")
        top = _weights(axes, height + 0.7, layers, image, classes if not rows else ())
        for name, output in rows[:ROWS]:
            top = _layer(axes, top, name, output[0])
        if len(rows) > ROWS:
            axes.text(0, top, f"and {len(rows) - ROWS} more layers", fontsize=9, va="top")
            top += 0.4
        top = _bars(axes, top, probabilities(logits, loss, temperature)[0], label, classes)
        set_page_size(figure, WIDTH, top)
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


def weights(model: nn.Module, image: Tensor) -> Figure:
    """What the first layer of a network looks for: its weights as images, where they are such.

    Filters of a convolution are in the order in which it has them, the units of a dense layer by the size of their
    weights, the largest first: those of others have hardly left what they were initialised with.

    Args:
        model: of any architecture; in any mode, on the CPU.
        image: (C, H, W) float32, to find the layer by.
    """
    with styled():
        figure, axes = page()
        axes.text(0, 0.1, f"The first layer of {type(model).__name__}", fontsize=11, va="top")
        first_layer = _first(layer_outputs(model, image[None]), image)
        if first_layer is None:
            axes.text(0, 0.5, "Its weights cannot be shown as images.", fontsize=9, va="top")
            set_page_size(figure, WIDTH, 0.9)
            return figure
        layer, kernels = first_layer
        what = "filters"
        if isinstance(layer.module, nn.Linear):
            kernels = kernels[kernels.flatten(1).norm(dim=1).argsort(descending=True, stable=True)]
            what = "units, largest weights first"
        legend = "Background colour is 0, orange positive, blue negative."
        axes.text(0, 0.34, legend, fontsize=8, color=palette().grey, va="top")
        top = _kernels(axes, 0.7, layer, kernels, what, SHOWN, 20)
        set_page_size(figure, WIDTH, top)
        return figure


def _first(layers: Sequence[LayerOutput], image: Tensor) -> tuple[LayerOutput, Tensor] | None:
    """The first convolution or dense layer, and its weights as (N, C, H, W) images; None if they are no such."""
    first = next((layer for layer in layers if isinstance(layer.module, nn.Conv2d | nn.Linear)), None)
    if first is None:
        return None
    weights = first.module.get_parameter("weight").detach()
    if isinstance(first.module, nn.Conv2d):
        return first, weights
    return (first, weights.reshape(-1, *image.shape)) if weights.shape[1] == image.numel() else None


def _weights(
    axes: Axes, top: float, layers: Sequence[LayerOutput], image: Tensor, captions: Sequence[str] = ()
) -> float:
    """The weights of the first layer as images, if they are such; returns where the next row begins."""
    layer = _first(layers, image)
    if layer is None:
        return top
    if isinstance(layer[0].module, nn.Conv2d):
        return _kernels(axes, top, *layer, "filters", MAPS, MAPS)
    return _kernels(axes, top, *layer, "units", UNITS, 10 if captions else UNITS // 2, captions)


def _kernels(
    axes: Axes,
    top: float,
    layer: LayerOutput,
    kernels: Tensor,
    what: str,
    most: int,
    columns: int,
    captions: Sequence[str] = (),
) -> float:
    """Up to so many (N, C, H, W) kernels, each channel by itself; returns where the next row begins."""
    count, channels, height, width = kernels.shape
    sizes = kernels.abs().flatten()
    limit = float(sizes.kthvalue(math.ceil(0.995 * len(sizes))).values)  # so that one weight does not pale all others
    for channel in range(channels if channels <= 3 else 1):
        title = f"{layer.name}  {layer.kind}, weights: {count} {what}, {height} × {width}"
        title += f", input channel {channel + 1} of {channels}" if channels > 1 else ""
        title += f"; the first {most}" if count > most else ""
        top = _images(axes, top, title, kernels[:most, channel], limit, columns, captions[:most])
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
    picture(axes, strip.reshape(rows, columns), 0, top + 0.22, width, height, limit=limit)
    frame(axes, 0, top + 0.22, width, height, palette().grey, 0.6)
    return top + 0.22 + height + 0.2


def _images(
    axes: Axes, top: float, title: str, images: Tensor, limit: float, columns: int, captions: Sequence[str] = ()
) -> float:
    """Signed (N, H, W) images under a title, captions below them; returns where the next row begins."""
    place = min(1.1, WIDTH / min(len(images), columns))
    width, height = fitted(images[0], place - 0.06)
    captions = [wrapped(caption, place) for caption in captions]
    below = 0.14 * (1 + max(caption.count("\n") for caption in captions)) + 0.06 if captions else 0.0
    axes.text(0, top, title, fontsize=9, va="top")
    top += 0.22
    for number, pixels in enumerate(images):
        left, upper = place * (number % columns), top + (height + 0.06 + below) * (number // columns)
        picture(axes, pixels, left, upper, width, height, limit=limit)
        frame(axes, left, upper, width, height, palette().grey, 0.6)
        if captions:
            axes.text(left + width / 2, upper + height + 0.05, captions[number], fontsize=8, ha="center", va="top")
    return top + (height + 0.06 + below) * math.ceil(len(images) / columns) + 0.14


def _bars(axes: Axes, top: float, chances: Tensor, label: int, classes: Sequence[str]) -> float:
    """The probability of each class (of many, the label and the likeliest others); returns where the page ends."""
    colours = palette()
    prediction = int(chances.argmax())
    shown = list(range(len(classes)))
    title = f"probabilities: {reading(label, prediction, classes)}"
    if len(classes) > CHANCES:
        others = [i for i in chances.argsort(descending=True, stable=True).tolist() if i != label]
        shown = sorted([label, *others[: CHANCES - 1]])
        title += f"; {CHANCES} of {len(classes):,} classes"
    axes.text(0, top, title, fontsize=9, va="top")
    left = 0.15 + 0.085 * max(text_width(classes[i]) for i in shown)
    for line, i in enumerate(shown):
        chance, middle = float(chances[i]), top + 0.34 + 0.22 * line
        colour = colours.grey if i != prediction else colours.blue if i == label else colours.orange
        axes.text(left - 0.08, middle, classes[i], fontsize=9, ha="right", va="center_baseline")
        axes.add_patch(Rectangle((left, middle - 0.08), 5 * chance, 0.16, color=colour, linewidth=0))
        note = f"{chance:.1%}" + ("  the label" if i == label else "")
        axes.text(left + 5 * chance + 0.08, middle, note, fontsize=9, va="center_baseline")
    return top + 0.34 + 0.22 * len(shown) + 0.1
