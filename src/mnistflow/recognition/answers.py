"""Predictions for picture files, and their output as text, JSON and CSV."""

from __future__ import annotations

import glob
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistflow.data.pictures import formats, listed
from mnistflow.recognition.decoding import decode
from mnistflow.recognition.numbers import Number, Verdict, numbers
from mnistflow.recognition.predictor import Predictor
from mnistflow.recognition.reader import Box, Digit, Reading

__all__ = [
    "COLUMNS",
    "STANDARD_INPUT",
    "Answer",
    "Guess",
    "Named",
    "answer",
    "answered",
    "identified",
    "pictures",
]

STANDARD_INPUT = "-"
RUNNERS_UP = 2
COLUMNS = (
    *("file", "position", "label", "probability", "second", "second_probability"),
    *("left", "top", "width", "height", "verdict", "line", "number"),
)


@dataclass(frozen=True)
class Guess:
    """One class, and how sure the network is of it."""

    label: str
    probability: float  # 0 to 1


@dataclass(frozen=True)
class Named:
    """One digit, and what the network takes it for."""

    label: str
    probability: float  # 0 to 1
    runners_up: tuple[Guess, ...]
    probabilities: dict[str, float]  # of every class
    box: Box  # in pixels of the picture as it is seen; for an array: all of it
    verdict: Verdict

    @property
    def best(self) -> Guess:
        """The label and its probability."""
        return Guess(self.label, self.probability)


@dataclass(frozen=True)
class Answer:
    """What a network reads in one picture."""

    file: str
    text: str  # the numbers, a space between them and a line for each of the picture; `?` for what is no digit
    probability: float | None  # that all labels in the text are right; None where no number is written
    digits: tuple[Named, ...]  # everything that was found, line by line, from left to right
    numbers: tuple[Number, ...]

    def chances(self) -> NDArray[np.float32]:
        """What the network says: (digits, classes)."""
        return np.array([list(digit.probabilities.values()) for digit in self.digits], dtype=np.float32)

    def line(self, width: int) -> str:
        """For people; the file's name takes so many characters."""
        name = f"{self.file:<{width}}"
        unknown = sum(digit.verdict == "none" for digit in self.digits)
        if self.probability is None:
            if len(self.digits) == 1:
                return f"{name}  no digit found   most like {_listed([self.digits[0].best])}"
            like_none = f"   {unknown} of {len(self.digits)} pieces of ink are like none" if unknown else ""
            return f"{name}  no digit found{like_none}"
        text = f"{name}  {' | '.join(self.text.splitlines())}  {_percent(self.probability)}"
        positions = [position for number in self.numbers for position in number.positions]
        known = [position for position in positions if self.digits[position - 1].verdict != "none"]
        position = min(known, key=lambda position: self.digits[position - 1].probability)
        least = self.digits[position - 1]
        unsure = "unsure" if least.verdict == "unsure" else ""
        if len(positions) == 1:
            return f"{text}   {unsure + ', ' if unsure else ''}then {_listed(least.runners_up)}"
        where = f"digit {position}, {_listed([least.best])}, then {_listed(least.runners_up)}"
        return f"{text}   {unsure or 'least sure'}: {where}"

    def tree(self, predictor: Predictor) -> dict[str, object]:
        """For programs: what JSON has a form for, with the model that answered."""
        model = {"name": predictor.identity.name, "weights": predictor.identity.weights}
        return {**asdict(self), "model": model}

    def rows(self) -> list[dict[str, object]]:
        """For tables: a row of :data:`COLUMNS` for each digit; one with nothing but the name where there is none.

        Lines and numbers count from 1; a piece of ink that is in no number has neither.
        """
        places = {
            position: {"line": number.line, "number": count}
            for count, number in enumerate(self.numbers, start=1)
            for position in number.positions
        }
        return [
            {
                "file": self.file,
                "position": position,
                "label": digit.label,
                "probability": f"{digit.probability:.6f}",
                "second": digit.runners_up[0].label if digit.runners_up else "",
                "second_probability": f"{digit.runners_up[0].probability:.6f}" if digit.runners_up else "",
                **asdict(digit.box),
                "verdict": digit.verdict,
                **places.get(position, {}),
            }
            for position, digit in enumerate(self.digits, start=1)
        ] or [{"file": self.file}]


def _listed(guesses: Sequence[Guess]) -> str:
    return ", ".join(f"{guess.label} {_percent(guess.probability)}" for guess in guesses)


def _percent(probability: float) -> str:
    """A probability for people: neither certain nor impossible where it is not."""
    if 0.9995 <= probability < 1:
        return ">99.9%"
    return "<0.1%" if 0 < probability < 0.0005 else f"{probability:.1%}"


def answer(predictor: Predictor, name: str, here: Path, several: bool) -> tuple[Answer, Reading]:
    """Read one picture.

    Args:
        predictor: that reads it.
        name: of the file, as :func:`pictures` gives it.
        here: the folder that it is relative to.
        several: there may be several digits side by side.

    Raises:
        ValueError: it is not a picture, is damaged, or is not there.
        OSError: it cannot be opened.
    """
    place = here / name
    if name != STANDARD_INPUT and not place.is_file():
        none = f"there is no picture in {name}; {', '.join(formats())} are supported"
        raise ValueError(none if place.is_dir() else f"there is no file {name}")
    source = sys.stdin.buffer.read() if name == STANDARD_INPUT else place
    reading = predictor.read(decode(source), several)
    return answered(predictor, name, reading), reading


def answered(predictor: Predictor, name: str, reading: Reading) -> Answer:
    """What a network says of the digits that were found in a picture; see :func:`answer`."""
    named = identified(predictor, reading.digits)
    found = numbers(named)
    lines = [" ".join(number.text for number in line) for _, line in groupby(found, key=attrgetter("line"))]
    return Answer(
        file=name,
        text="\n".join(lines),
        probability=math.prod(number.probability for number in found) if found else None,
        digits=named,
        numbers=found,
    )


def identified(predictor: Predictor, digits: Sequence[Digit]) -> tuple[Named, ...]:
    """Classify digits, all in one batch."""
    if not digits:
        return ()
    chances = predictor.probabilities(np.stack([digit.image for digit in digits]))  # (digits, classes)
    named = []
    for digit, row in zip(digits, chances.tolist(), strict=True):
        by_class = dict(zip(predictor.identity.classes, row, strict=True))
        guesses = [Guess(*item) for item in sorted(by_class.items(), key=lambda item: -item[1])]
        first, *others = guesses[: 1 + RUNNERS_UP]
        verdict = _verdict(guesses, predictor.identity.threshold)
        named.append(Named(first.label, first.probability, tuple(others), by_class, digit.box, verdict))
    return tuple(named)


def _verdict(guesses: Sequence[Guess], threshold: float | None) -> Verdict:
    """Whether the first of some guesses is sure, or at least the first two together."""
    if threshold is None or guesses[0].probability >= threshold:
        return "sure"
    return "unsure" if sum(guess.probability for guess in guesses[:2]) >= threshold else "none"


def pictures(names: Sequence[str], here: Path) -> tuple[list[str], Counter[str]]:
    """The files that names stand for.

    Args:
        names: of files, folders (all pictures below them), patterns with ``*``, ``?`` or ``[...]``, or ``-``, each
            relative to ``here``.
        here: a folder.

    Returns:
        The name of each file, relative to ``here`` where what it came from is; what stands for none as it is. And how
        many other files are in the folders, by the reason why they are left out.
    """
    files: list[str] = []
    left_out: Counter[str] = Counter()
    for name in names:
        place = here / name
        if name == STANDARD_INPUT or place.is_file():
            files.append(name)
        elif place.is_dir():
            below = listed(place)
            left_out += below.left_out
            files += [str(Path(name) / path.relative_to(place)) for path in sorted(below.files)] or [name]
        elif any(sign in name for sign in "*?["):
            # pathlib takes no pattern that begins at the root.
            fitting = sorted(glob.glob(name, root_dir=here, recursive=True))  # noqa: PTH207
            files += [path for path in fitting if (here / path).is_file()] or [name]
        else:
            files.append(name)
    return files, left_out
