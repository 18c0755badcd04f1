"""What the evaluate stage measures: evaluate.json and robustness.csv, and how each figure is shown and recorded.

A new metric is a field of :class:`Scores`, its value in ``Evaluation.scores`` of :mod:`mnistflow.evaluation.measures`
and, if one side of it is better, its gate in params.yaml; file, MLflow, comparison and report follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Literal, get_type_hints

from mnistflow.core.documents import read_document
from mnistflow.core.files import read_csv

__all__ = [
    "METRICS",
    "Bin",
    "ClassScores",
    "Corrupted",
    "Metric",
    "Scores",
    "class_scores",
    "read_robustness",
    "read_scores",
    "recorded",
    "wilson",
]


@dataclass(frozen=True)
class Metric:
    """How a figure is shown and recorded."""

    label: str  # for people
    form: str  # as :meth:`str.format` takes it
    better: Literal["higher", "lower"] | None  # decides between a min_ and a max_ gate; None: no gate
    most: float | None  # the largest value that it can have
    name: str  # in MLflow
    is_shown: bool  # in the comparison of runs, and at the top of the report


def metric(
    label: str,
    form: str = "{:.2%}",
    *,
    better: Literal["higher", "lower"] | None = None,
    most: float | None = 1.0,
    name: str = "",
    is_shown: bool = True,
) -> Metric:
    """How a figure is shown and recorded: as ``test_`` and its field's name, unless it has another."""
    return Metric(label, form, better, most, name, is_shown)


@dataclass(frozen=True)
class ClassScores:
    """How one class fared; its figures from 0 to 1, and 0 where there is nothing to divide by."""

    name: str = field(metadata={"key": "class"})
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


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What evaluate.json holds; None: not measured. Shares and probabilities from 0 to 1.

    A field that is added has a default, None say: the files of earlier results lack it.
    """

    accuracy: Annotated[float, metric("test accuracy", better="higher")]
    accuracy_low: Annotated[float, metric("accuracy, lower end of its 95 % interval", is_shown=False)]
    accuracy_high: Annotated[float, metric("accuracy, upper end of its 95 % interval", is_shown=False)]
    top2_accuracy: Annotated[float, metric("top-2 accuracy", better="higher", is_shown=False)]
    loss: Annotated[float, metric("mean loss", "{:.4f}", better="lower", most=None)]
    macro_precision: Annotated[float, metric("precision, mean over classes", better="higher", is_shown=False)]
    macro_recall: Annotated[float, metric("recall, mean over classes", better="higher", is_shown=False)]
    macro_f1: Annotated[float, metric("F1, mean over classes", "{:.4f}", better="higher")]
    # Of the probabilities that are shown and served; unscaled: without the temperature that they are scaled by.
    ece: Annotated[float, metric("calibration error", "{:.4f}", better="lower")]  # expected calibration error
    brier: Annotated[float, metric("Brier score", "{:.4f}", better="lower", most=2.0, is_shown=False)]
    temperature: Annotated[float | None, metric("temperature", "{:.3f}", most=None, name="temperature", is_shown=False)]
    ece_unscaled: Annotated[float | None, metric("calibration error, unscaled", "{:.4f}", is_shown=False)] = None
    brier_unscaled: Annotated[float | None, metric("Brier score, unscaled", "{:.4f}", is_shown=False)] = None
    parameters: Annotated[int, metric("parameters", "{:,.0f}", most=None, name="parameters")]
    multiply_adds: Annotated[int, metric("multiply-adds per image", "{:,.0f}", most=None, name="multiply_adds")]
    images: int
    # Lists, which DVC leaves out of its tables: forty columns more would hide the figures above.
    classes: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]  # [label][prediction]: images
    reliability: tuple[Bin, ...]
    # The mean over corruptions and strengths.
    robust_accuracy: Annotated[float | None, metric("accuracy on corrupted images", better="higher")]
    shift_accuracies: tuple[float, ...]  # moved by 1, 2, ... pixels
    device: str

    @property
    def class_recall(self) -> float | None:
        """Of the worst class that has test images."""
        return min((one_class.recall for one_class in self.classes if one_class.images), default=None)


METRICS: dict[str, Metric] = {
    name: replace(note, name=note.name or f"test_{name}")
    for name, kind in get_type_hints(Scores, include_extras=True).items()
    for note in getattr(kind, "__metadata__", ())
    if isinstance(note, Metric)
}
"""The metrics among the fields of :class:`Scores`, by their names there."""


def recorded(scores: Scores) -> dict[str, float]:
    """The metrics that were measured, by their names in MLflow."""
    values = {metric.name: getattr(scores, name) for name, metric in METRICS.items()}
    return {name: float(value) for name, value in values.items() if value is not None}


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
    scores = []
    for label, (name, row) in enumerate(zip(names, confusion, strict=True)):
        right, images = row[label], sum(row)
        f1 = share(2 * right, images + predicted[label])
        scores.append(ClassScores(name, share(right, predicted[label]), share(right, images), f1, images))
    return tuple(scores)


def read_scores(path: Path) -> Scores:
    """Read evaluate.json.

    Raises:
        ValueError: the file is missing or damaged.
    """
    scores = read_document(path, Scores)
    count = len(scores.classes)
    if not count or not scores.reliability or [len(row) for row in scores.confusion] != [count] * count:
        raise ValueError(f"{path} is damaged: its lists are empty or differ in length; `dvc repro` recreates it")
    return scores


def read_robustness(path: Path) -> list[Corrupted]:
    """Read robustness.csv; its first row is of the images as they are.

    Raises:
        ValueError: the file is missing or damaged.
    """
    numbers = ("strength", "amount", "accuracy")
    rows = read_csv(path, numbers=numbers, texts=("corruption",))
    if rows[0]["corruption"] != "none" or any(not row[column] for row in rows for column in numbers):
        raise ValueError(f"{path} is damaged: a number or the first row is missing; `dvc repro` recreates it")
    return [
        Corrupted(row["corruption"], int(float(row["strength"])), float(row["amount"]), float(row["accuracy"]))
        for row in rows
    ]
