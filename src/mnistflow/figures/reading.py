"""How one picture was read, from its shades of grey to the probability of each class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from mnistflow.figures.style import fitted, frame, page, picture, set_page_size, shortened, styled, text_width, wrapped

if TYPE_CHECKING:  # what draws a result needs nothing that reads pictures
    from mnistflow.recognition.numbers import Verdict
    from mnistflow.recognition.reader import Reading

__all__ = ["reading"]

PLACE = 1.9  # inches, of a picture or of the bars of a digit
COLUMNS = 5
ABOVE = 0.42  # of a caption
BAR = 0.15  # from one bar to the next
LINE = 0.18  # from one line of text to the next
MOST = 12  # bars of one digit
CAPTIONS: dict[Verdict, str] = {"sure": "", "unsure": ", unsure", "none": ", no digit"}


def reading(
    result: Reading,
    probabilities: NDArray[np.floating[Any]],
    classes: Sequence[str],
    *,
    text: str | None = None,
    verdicts: Sequence[Verdict] = (),
) -> Figure:
    """The steps in which a picture was read, the place of each digit in it, and what a network said of each.

    Args:
        result: what the reader made of the picture.
        probabilities: (N, classes) of its digits.
        classes: their names.
        text: what is read as a whole; None: the likeliest class of each digit.
        verdicts: of each digit; none: all are sure.
    """
    count, columns = len(result.digits), max(COLUMNS, 1)
    bars = min(len(classes), MOST)
    rows, below = math.ceil(len(result.steps) / columns), math.ceil(count / columns)
    high = ABOVE + max(PLACE - 0.1, BAR * bars)  # of the bars of a digit
    wide = PLACE * min(columns, max(len(result.steps), count))
    top = 0.5
    with styled() as colours:
        figure, axes = page()
        best = [classes[int(row.argmax())] for row in probabilities]
        read = " ".join(best) if text is None else " | ".join(text.splitlines())
        title = f"Read as {read}" if read else "No digit found"
        axes.text(wide / 2, 0.12, title, fontsize=11, ha="center", va="top")
        if len(result.considered) > 1:
            views = [f"{probability:.2%}  {name}" for name, probability in result.considered]
            for line in ("views, with the probability that all digits are right:", *views):
                axes.text(0, top, line, fontsize=8, color=colours.grey, va="top")
                top += LINE
        for number, (name, pixels) in enumerate(result.steps):
            left = PLACE * (number % columns)
            upper = top + (PLACE + ABOVE) * (number // columns) + ABOVE
            axes.text(left, upper - 0.06, wrapped(name, PLACE), fontsize=8, va="bottom", linespacing=1.1)
            width, height = fitted(torch.tensor(pixels), PLACE - 0.1)
            if number:
                picture(axes, torch.tensor(pixels), left, upper, width, height)
            else:  # as it was given
                extent = (left, left + width, upper + height, upper)
                axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest", extent=extent)
                scale = width / pixels.shape[1]
                for digit in result.digits:
                    box = digit.box
                    place = (left + box.left * scale, upper + box.top * scale, box.width * scale, box.height * scale)
                    frame(axes, *place, colours.orange, 1.2)
            frame(axes, left, upper, width, height, colours.faint, 0.6)
        top += (PLACE + ABOVE) * rows + 0.1
        for number, row in enumerate(probabilities):
            left, upper = PLACE * (number % columns), top + high * (number // columns) + ABOVE
            verdict = CAPTIONS[verdicts[number] if verdicts else "sure"]
            axes.text(left, upper - 0.06, f"{best[number]}: {row.max():.1%}{verdict}", fontsize=9, va="bottom")
            _bars(axes, row, classes, left, upper, colours.blue)
        set_page_size(figure, wide, top + high * below + 0.1)
        return figure


def _bars(
    axes: Axes, row: NDArray[np.floating[Any]], classes: Sequence[str], left: float, top: float, colour: str
) -> None:
    """A bar for each class, or for the likeliest of many."""
    shown = sorted(np.argsort(-row, kind="stable")[:MOST].tolist())
    names = shortened([classes[number] for number in shown], 12)
    start = left + 0.1 + 0.07 * max(map(text_width, names))
    longest = left + PLACE - 0.45 - start
    for place, (number, name) in enumerate(zip(shown, names, strict=True)):
        y = top + BAR * (place + 0.5)
        axes.text(start - 0.05, y, name, fontsize=8, ha="right", va="center")
        axes.add_patch(Rectangle((start, y - 0.05), longest * float(row[number]), 0.1, color=colour, linewidth=0))
        if row[number] >= 0.0005:
            axes.text(start + longest * float(row[number]) + 0.04, y, f"{row[number]:.1%}", fontsize=7, va="center")
