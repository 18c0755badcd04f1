"""The models that can answer: that of this folder, files, recorded runs, and versions of the registered model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mnistflow.config.params import load
from mnistflow.config.paths import Paths
from mnistflow.core.documents import read_document
from mnistflow.core.files import md5, sha256
from mnistflow.evaluation.scores import read_scores
from mnistflow.export.formats import Source, onnx_of
from mnistflow.pipeline.lockfile import Lock
from mnistflow.recognition.onnx_graph import cached_graph_path
from mnistflow.recognition.predictor import Predictor
from mnistflow.training.history import Summary

if TYPE_CHECKING:  # mlflow takes seconds to import
    from mnistflow.tracking import RunInfo, RunSummary

__all__ = ["open_predictor", "recorded", "source"]

WEIGHTS, GRAPH = ".safetensors", ".onnx"  # what files of either kind end with


@dataclass(frozen=True)
class _Known:
    """What is known of a model besides its graph."""

    name: str
    test_accuracy: float | None
    run: str | None


def open_predictor(wanted: str | Path | None) -> Predictor:
    """Open a model for answers, by its ONNX graph, which is made where there is none yet.

    Args:
        wanted: a file with weights or a graph; an MLflow run (its id or the beginning of it, its name, or the name of
            its DVC experiment); ``models:/name@alias`` or ``models:/name/version``; None: the result in this folder.

    Raises:
        ValueError: there is no such model, it is damaged, or the store does not answer.
    """
    if wanted is not None and Path(wanted).suffix == GRAPH:
        return Predictor(Path(wanted))
    if wanted is not None and not _is_file(wanted):
        return _of_run(str(wanted))
    weights_of = source(wanted)
    known = _Known(weights_of.name, weights_of.test_accuracy, None)
    return _opened(sha256(weights_of.weights), [partial(_make, weights_of.weights)], known)


def source(wanted: str | Path | None) -> Source:
    """The weights of a model.

    Args:
        wanted: as :func:`open_predictor` takes it, but no ONNX graph.

    Raises:
        ValueError: there is no such model, or the store does not answer.
    """
    if wanted is None:  # its run is not looked up: MLflow takes seconds to import
        paths = Paths.load()
        if not paths.weights.is_file():
            raise ValueError("there is no model in this folder yet; `dvc repro` (or `make repro`) makes one")
        train = read_document(paths.train_metrics, Summary)
        return Source(paths.weights, f"{train.model} · {train.recipe}", _accuracy(paths))
    if _is_file(wanted):
        return Source(Path(wanted), Path(wanted).name, None)
    from mnistflow import tracking  # here, because it takes seconds to import

    info = _run_info(str(wanted))
    weights = tracking.weights_of(load().tracking, info.id)
    return Source(weights, info.name, info.metrics.get("test_accuracy"))


def _is_file(wanted: str | Path) -> bool:
    """Whether a file with weights is wanted, which is there then; otherwise it is a run or a version.

    Raises:
        ValueError: it is another file, or is not there.
    """
    path = Path(wanted)
    if path.suffix == WEIGHTS:
        if not path.is_file():
            raise ValueError(f"there is no file {path}")
        return True
    if path.suffix == GRAPH:
        raise ValueError(f"{path} is an ONNX file; a weights file (*{WEIGHTS}) is required")
    if isinstance(wanted, Path) or path.exists():
        raise ValueError(f"{path} is not a model; weights files end with {WEIGHTS}, ONNX files with {GRAPH}")
    return False


def recorded(limit: int = 50) -> list[RunSummary]:
    """The complete runs in MLflow, the newest first, at most so many; of each its id opens it.

    Raises:
        ValueError: the store does not answer.
    """
    from mnistflow import tracking

    return tracking.listed(load().tracking, limit)


def _accuracy(paths: Paths) -> float | None:
    """The test accuracy of the weights in this folder; None if what was evaluated were others."""
    try:
        evaluated = Lock.read().stage("evaluate").dependency(paths.weights)
    except ValueError:
        return None
    if evaluated != md5(paths.weights):
        return None
    return read_scores(paths.test_metrics).accuracy


def _run_info(wanted: str) -> RunInfo:
    """A run that has a result, by its own name or by that of a version of the registered model."""
    from mnistflow import tracking  # here, because it takes seconds to import

    settings = load().tracking
    run = tracking.run_of_version(settings, wanted) if wanted.startswith("models:/") else wanted
    info = tracking.find(settings, run)
    if tracking.tags.WEIGHTS not in info.tags:
        raise ValueError(f"run {info.id} ({info.name}) is {info.status.lower()}: it has no result")
    return info


def _of_run(wanted: str) -> Predictor:
    from mnistflow import tracking  # here, because it takes seconds to import

    settings, info = load().tracking, _run_info(wanted)

    def make(graph: Path) -> bool:
        return _make(tracking.weights_of(settings, info.id), graph)

    known = _Known(info.name, info.metrics.get("test_accuracy"), info.id)
    return _opened(info.tags[tracking.tags.WEIGHTS], [partial(tracking.graph_of, settings, info.id), make], known)


def _opened(weights: str, ways: Sequence[Callable[[Path], bool]], known: _Known) -> Predictor:
    """Open the graph that is kept of weights, or what the first way to get one makes that is theirs.

    Args:
        weights: SHA-256 of their file.
        ways: each writes a graph to a path, or says that there is none.
        known: of the model.
    """
    graph, problem = cached_graph_path(weights), f"there is no graph of the weights {weights}"
    for way in (Path.is_file, *ways):
        if not way(graph):
            continue
        try:
            predictor = Predictor(graph, run=known.run, test_accuracy=known.test_accuracy, name=known.name)
        except ValueError as error:  # damaged, or of another version
            problem = str(error)
            continue
        if predictor.identity.weights == weights:
            return predictor
        problem = f"{graph} holds the graph of other weights, {predictor.identity.weights}"
    raise ValueError(problem)


def _make(weights: Path, graph: Path) -> bool:
    print(f"mnistflow: making the ONNX graph of {weights}, once", file=sys.stderr, flush=True)
    onnx_of(weights, graph)
    return True
