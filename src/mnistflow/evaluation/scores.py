"""What the evaluate stage measures, and reading it back from its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import NormalDist
from typing import Any, cast

from mnistflow.core.files import read_csv, read_json

__all__ = ["Bin", "ClassScores", "Corrupted", "Scores", "class_scores", "read_robustness", "read_scores", "wilson"]


@dataclass(frozen=True)
class ClassScores:
    """How one class fared; its figures from 0 to 1, and 0 where there is nothing to divide by."""

    name: str
    precision: float
    recall: float
    f1: float
    images: int


@dataclass(frozen=True)
class Bin:
    """The images whose prediction has a probability above ``low``, up to ``high``."""

    low: float
    high: float
    images: int  # at least one
    confidence: float  # the mean of those probabilities
    accuracy: float  # 0 to 1


@dataclass(frozen=True)
class Scores:
    """What evaluate.json holds; None: not measured. Shares and probabilities from 0 to 1."""

    accuracy: float
    accuracy_low: float  # of its 95 % interval
    accuracy_high: float
    top2_accuracy: float
    loss: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    images: int
    ece: float  # expected calibration error
    brier: float
    temperature: float | None  # that fits the probabilities to the validation split
    ece_scaled: float | None  # with that temperature
    brier_scaled: float | None
    robust_accuracy: float | None  # mean over corruptions and strengths
    parameters: int
    multiply_adds: int  # of one image
    classes: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]  # [label][prediction]: images
    reliability: tuple[Bin, ...]


@dataclass(frozen=True)
class Corrupted:
    """The accuracy on test images that were changed in one way, more or less strongly."""

    corruption: str  # "none": as they are
    strength: int  # 1, 2, ...; 0: as they are
    amount: float  # of what the corruption counts
    accuracy: float  # 0 to 1


def wilson(right: int, total: int) -> tuple[float, float]:
    """The 95 % interval of Wilson (1927) for a share.

    Args:
        right: how many, 0 to ``total``.
        total: of how many, at least 1.
    """
    z = NormalDist().inv_cdf(0.975)
    share, weight = right / total, z**2 / total
    middle = (share + weight / 2) / (1 + weight)
    half = z * (share * (1 - share) / total + weight / (4 * total)) ** 0.5 / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)


def class_scores(names: Sequence[str], confusion: Sequence[Sequence[int]]) -> tuple[ClassScores, ...]:
    """Precision, recall and F1 of each class, to six decimals.

    Args:
        names: of the classes, by label.
        confusion: [label][prediction]: images.
    """

    def share(part: int, whole: int) -> float:
        return round(part / whole, 6) if whole else 0.0

    predicted = [sum(column) for column in zip(*confusion, strict=True)]
    found = []
    for label, (name, row) in enumerate(zip(names, confusion, strict=True)):
        right, images = row[label], sum(row)
        f1 = share(2 * right, images + predicted[label])
        found.append(ClassScores(name, share(right, predicted[label]), share(right, images), f1, images))
    return tuple(found)


def read_scores(path: Path) -> Scores:
    """Read evaluate.json.

    Raises:
        ValueError: the file is missing or damaged.
    """
    names = [field.name for field in fields(Scores)]
    tree = cast("dict[str, Any]", read_json(path, *names))
    lists = ("classes", "confusion", "reliability")
    maybe = ("temperature", "ece_scaled", "brier_scaled", "robust_accuracy")
    try:
        scores = Scores(
            **{name: _number(tree[name], name in maybe) for name in names if name not in lists},
            classes=tuple(
                ClassScores(str(row["class"]), *(_number(row[key]) for key in ("precision", "recall", "f1", "images")))
                for row in tree["classes"]
            ),
            confusion=tuple(tuple(map(_number, row)) for row in tree["confusion"]),
            reliability=tuple(
                Bin(*(_number(row[key]) for key in ("low", "high", "images", "confidence", "accuracy")))
                for row in tree["reliability"]
            ),
        )
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged: {error}; `dvc repro` makes it anew") from error
    count = len(scores.classes)
    if not count or not scores.reliability or [len(row) for row in scores.confusion] != [count] * count:
        raise ValueError(f"{path} is damaged: its lists are empty or not of one length; `dvc repro` makes it anew")
    return scores


def _number(value: Any, may_be_none: bool = False) -> Any:
    if (isinstance(value, int | float) and not isinstance(value, bool)) or (value is None and may_be_none):
        return value
    raise TypeError(f"{value!r} is no number")


def read_robustness(path: Path) -> list[Corrupted]:
    """Read robustness.csv; its first row is of the images as they are.

    Raises:
        ValueError: the file is missing or damaged.
    """
    numbers = ("strength", "amount", "accuracy")
    rows = read_csv(path, numbers=numbers, texts=("corruption",))
    if rows[0]["corruption"] != "none" or any(not row[column] for row in rows for column in numbers):
        raise ValueError(f"{path} is damaged: a number is missing, or the first row; `dvc repro` makes it anew")
    return [
        Corrupted(row["corruption"], int(float(row["strength"])), float(row["amount"]), float(row["accuracy"]))
        for row in rows
    ]
