"""From the digits in a picture to the numbers that they make: line by line, apart where there is room between them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from mnistflow.recognition.reader import Box

__all__ = ["UNKNOWN", "Number", "Verdict", "numbers"]

UNKNOWN = "?"  # stands in a text for what is none of the classes
GAP = 1.2  # times the height of digits: from so much room on, another number begins
SHARE = 0.66  # of several pieces of ink that has to look like digits; chosen on validation digits and other letters
SMALL = 0.6  # times the height of digits: what is smaller and no digit is a sign between digits

Verdict = Literal["sure", "unsure", "none"]
"""Whether an image is of a class; ``none``: it does not look like any of them."""


WEIGHT: dict[Verdict, float] = {"sure": 1.0, "unsure": 0.5, "none": 0.0}
"""How far a piece of ink speaks for a number."""


class Read(Protocol):
    """What a network takes one piece of ink for."""

    @property
    def label(self) -> str: ...
    @property
    def probability(self) -> float: ...
    @property
    def box(self) -> Box: ...
    @property
    def verdict(self) -> Verdict: ...


@dataclass(frozen=True)
class Number:
    """Digits that stand together."""

    text: str  # their labels, `?` for what is no digit; signs between them, such as a point or a dash, are left out
    probability: float  # that all labels are right
    line: int  # of the picture, from 1
    positions: tuple[int, ...]  # of its digits among all that were found, from 1
    box: Box


def numbers(digits: Sequence[Read]) -> tuple[Number, ...]:
    """The numbers that digits make.

    Args:
        digits: line by line, each from left to right.

    Returns:
        In the same order; none where fewer than two thirds of what was found look like digits, what is unsure counting
        half: a drawing, say, or text.
    """
    known = [digit for digit in digits if digit.verdict != "none"]
    if not known:
        return ()
    height = statistics.median(digit.box.height for digit in known)
    written = [
        (position, digit)
        for position, digit in enumerate(digits, start=1)
        if digit.verdict != "none" or digit.box.height > SMALL * height
    ]
    if len(written) > 1 and sum(WEIGHT[digit.verdict] for _, digit in written) < SHARE * len(written):
        return ()
    found: list[Number] = []
    line, group = 1, [written[0]]
    for item in written[1:]:
        before, box = group[-1][1].box, item[1].box
        is_below = box.top + box.height / 2 > before.top + before.height
        if is_below or box.left - (before.left + before.width) > GAP * height:
            found.append(_number(group, line))
            group = []
            line += is_below
        group.append(item)
    return (*found, _number(group, line))


def _number(group: Sequence[tuple[int, Read]], line: int) -> Number:
    digits = [digit for _, digit in group]
    between = "" if all(len(digit.label) == 1 for digit in digits) else " "
    left, top = (min(getattr(digit.box, side) for digit in digits) for side in ("left", "top"))
    right = max(digit.box.left + digit.box.width for digit in digits)
    lower = max(digit.box.top + digit.box.height for digit in digits)
    return Number(
        text=between.join(UNKNOWN if digit.verdict == "none" else digit.label for digit in digits),
        probability=math.prod(digit.probability for digit in digits if digit.verdict != "none"),
        line=line,
        positions=tuple(position for position, _ in group),
        box=Box(left, top, right - left, lower - top),
    )
