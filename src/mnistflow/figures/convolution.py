"""A worked example of a two-dimensional convolution."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from mnistflow.figures.style import frame, page, set_page_size, styled
from mnistflow.models.inference import layer_outputs

__all__ = ["convolution", "worked_convolution"]


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
    cell, gap, middle, left = 0.36, 0.84, 1.65, 0.0  # inches
    with styled() as colours:
        windows = [(row, column, 2, colours.green, 1.0) for row in (-1, 1) for column in (-1, 1)]
        # Numbers, cells of padding before them, what they are, the sign behind them, and frames: the row and column
        # where one begins, its cells along each side, colour, line.
        stations: list[tuple[Tensor, int, str, str, list[tuple[int, int, int, str, float]]]] = [
            (image[0, 0], 0, "input", "∗", [(0, 0, 3, colours.orange, 2.5)]),
            (kernel[0, 0], 0, "kernel", "=", [(0, 0, 3, colours.orange, 2.5)]),
            (convolved[0, 0], 0, "convolution,\nstride 1, no padding", "→", [(0, 0, 1, colours.orange, 2.5)]),
            (rectified[0, 0], 1, relu, "→", [*windows, (1, 1, 2, colours.green, 2.5)]),
            (pooled[0, 0], 0, "2 × 2 max-pool,\nstride 2, padding 1", "→", [(1, 1, 1, colours.green, 2.5)]),
            (flat.T, 0, "flattened", "", []),
        ]
        figure, axes = page()
        axes.text(0, 0.1, "How a convolution works", fontsize=11, va="top")
        for numbers, padding, caption, sign, frames in stations:
            rows, columns = numbers.shape
            left += cell * padding
            top, right = middle - cell * rows / 2, left + cell * columns
            for (row, column), number in np.ndenumerate(numbers.numpy()):
                x, y = left + cell * column, top + cell * row
                frame(axes, x, y, cell, cell, colours.grey, 0.6)
                axes.text(x + cell / 2, y + cell / 2, f"{number:.0f}", ha="center", va="center_baseline")
            for row, column, cells, colour, line in frames:
                frame(axes, left + cell * column, top + cell * row, cell * cells, cell * cells, colour, line)
            axes.text(left + cell * columns / 2, 2.7, caption, fontsize=8, ha="center", va="top")
            axes.text(right + gap / 2, middle, sign, fontsize=14, ha="center", va="center")
            left = right + gap
        total, largest = convolved[0, 0, 0, 0], pooled[0, 0, -1, -1]
        axes.text(0, 3.3, f"first window:  {' + '.join(products)} = {total:.0f}", color=colours.orange, va="top")
        chosen = f"last window:  the largest of {', '.join(f'{x:.0f}' for x in last)} is {largest:.0f}"
        axes.text(left - gap, 3.3, chosen, color=colours.green, ha="right", va="top")
        set_page_size(figure, left - gap, 3.65)
        return figure
