"""The result in a folder as one self-contained HTML page: no network access, no other file, no script.

Everything on it is read from the files that the pipeline leaves; what dvc.lock says of them comes first, because
params.yaml may have been changed since.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from pydantic import JsonValue

from mnistflow.config.forms import flattened
from mnistflow.config.paths import Paths
from mnistflow.core.documents import read_document
from mnistflow.core.files import md5, read_csv
from mnistflow.data.summary import DataSummary
from mnistflow.evaluation.scores import METRICS, Corrupted, Metric, Scores, read_robustness, read_scores
from mnistflow.pipeline import git
from mnistflow.pipeline.lockfile import Lock
from mnistflow.tracking import RunInfo
from mnistflow.training.history import Summary

__all__ = ["page"]

# Captions of the figures, which are also their alternative texts for screen readers; the template places them.
FIGURES = {
    "confusion": "How often each class was read as which",
    "mistakes": "Misread test images, the most confident mistakes first",
    "per_class": "Recall and precision of each class",
    "reliability": "Reliability diagram: accuracy against confidence",
    "robustness": "Accuracy on corrupted images, by strength",
    "curves": "Loss, accuracy and learning rate during training",
    "separation": "Inputs of the last layer for test images, in two dimensions",
    "inside": "One test image on its way through the network",
    "weights": "What the first layer looks for",
    "predictions": "The first test images and what they were read as",
    "samples": "Some of the training images",
    "grid": "Nine training images, and the tensor that they are part of",
}
SHOWN_PAIRS = 8  # of classes confused most often


@dataclass(frozen=True)
class Picture:
    """A figure, ready for the page."""

    caption: str
    uri: str


@dataclass(frozen=True)
class Pair:
    """A class that was read as another."""

    label: str
    prediction: str
    images: int
    share: float  # of the label's images


def page(paths: Paths, run: RunInfo | None, unrecorded: str) -> str:
    """Write the page.

    Args:
        paths: of the result.
        run: that it is recorded as.
        unrecorded: why there is no such run.

    Raises:
        ValueError: a file of the result is missing or damaged.
    """
    scores = read_scores(paths.test_metrics)
    rows = read_robustness(paths.robustness)
    lock = _lock()
    commit = git.commit()
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template.filters["percent"] = _percent
    return template.from_string(files("mnistflow.reports").joinpath("report.html").read_text(encoding="utf-8")).render(
        data=read_document(paths.data_metrics, DataSummary),
        train=read_document(paths.train_metrics, Summary),
        scores=scores,
        metrics=[(metric, _shown(metric, getattr(scores, name))) for name, metric in METRICS.items()],
        wrong=round(scores.images * (1 - scores.accuracy)),
        pairs=_pairs(scores),
        sure=sum(one_bin.images * one_bin.confidence for one_bin in scores.reliability) / scores.images,
        ways=_ways(rows),
        history=read_csv(paths.history, numbers=("epoch", "train_loss", "val_loss", "val_accuracy", "test_accuracy")),
        figures=_pictures(paths.figures),
        params=_params(lock),
        digests=_digests(lock),
        is_locked=_is_locked(lock, paths),
        commit=(commit or "").removesuffix("-dirty"),
        is_changed=(commit or "").endswith("-dirty"),
        run=run,
        unrecorded=unrecorded,
    )


def _shown(metric: Metric, value: float | None) -> str:
    return "not measured" if value is None else metric.form.format(value)


def _percent(share: float, digits: int = 2) -> str:
    return f"{100 * share:.{digits}f} %"


def _pairs(scores: Scores) -> list[Pair]:
    """The classes confused most often, those first."""
    names = [one_class.name for one_class in scores.classes]
    pairs = [
        Pair(names[row], names[column], count, count / max(1, sum(counts)))
        for row, counts in enumerate(scores.confusion)
        for column, count in enumerate(counts)
        if count and row != column
    ]
    return sorted(pairs, key=lambda pair: (-pair.images, -pair.share))[:SHOWN_PAIRS]


def _ways(rows: list[Corrupted]) -> dict[str, list[Corrupted]]:
    """The ways in which images were changed, by their names, each from the weakest on."""
    ways: dict[str, list[Corrupted]] = {}
    for row in rows[1:]:
        ways.setdefault(row.corruption.replace("_", " "), []).append(row)
    return ways


def _pictures(folder: Path) -> dict[str, Picture]:
    """The figures by their names."""
    pictures = {}
    for name, caption in FIGURES.items():
        try:
            data = (folder / f"{name}.png").read_bytes()
        except OSError as error:
            raise ValueError(f"{folder / name}.png cannot be read: {error.strerror}; `dvc repro` draws it") from error
        pictures[name] = Picture(caption, f"data:image/png;base64,{base64.b64encode(data).decode()}")
    return pictures


def _lock() -> Lock:
    """What dvc.lock says; nothing where it cannot be read."""
    try:
        return Lock.read()
    except ValueError:
        return Lock()


def _params(lock: Lock) -> dict[str, str]:
    """What preprocess, train and evaluate were run with, by dotted paths, as dvc.lock has it.

    Where on its machine a data set lay is left out: the page goes to others, and the place decides nothing.
    """
    params = {
        path: _text(value)
        for stage in ("preprocess", "train", "evaluate")
        for path, value in flattened(lock.stage(stage).values)
    }
    return {path: text for path, text in params.items() if not re.fullmatch(r"datasets\..+\.path", path)}


def _text(value: JsonValue) -> str:
    """A value as params.yaml would have it; a list by its parts."""
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return value if isinstance(value, str) else json.dumps(value)


def _digests(lock: Lock) -> list[tuple[str, str | None]]:
    """The outputs that decide the result, and their MD5 in dvc.lock."""
    return [
        (entry.path, entry.md5)
        for stage in ("download", "preprocess", "train", "evaluate")
        for entry in lock.stage(stage).outs
    ]


def _is_locked(lock: Lock, paths: Paths) -> bool:
    """Whether the weights and the figures of the test here are those that dvc.lock names."""
    known = dict(_digests(lock))
    return all(
        path.is_file() and known.get(path.as_posix()) == md5(path) for path in (paths.weights, paths.test_metrics)
    )
