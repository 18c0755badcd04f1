"""The record in MLflow: one run for one pipeline result.

Files are the truth and MLflow is a view of them: everything recorded here, durations aside, is read from the files
that the pipeline leaves, so that it can be recorded afterwards as well. A store that cannot be reached therefore
costs a warning and nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec

from filelock import FileLock

from mnistflow import models
from mnistflow.files import project_root, read_csv, read_json, sha256
from mnistflow.params import Params, Tracking
from mnistflow.paths import Paths
from mnistflow.provenance import digest, git_commit
from mnistflow.serving import Recogniser

if TYPE_CHECKING:  # mlflow takes seconds to import, and is not needed where tracking is off
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["Record", "lock", "name_study", "recording", "result_key", "store_uri", "weights_of"]

P = ParamSpec("P")
LOCK_SECONDS = 60
EPOCH_METRICS = ("lr", "train_loss", "val_loss", "val_accuracy", "test_loss", "test_accuracy")

# Tags of ours; the others that are set here are MLflow's own.
RESULT, DETERMINANTS, WEIGHTS = "mnistflow.result", "mnistflow.determinants", "mnistflow.weights"
MODEL, EVALUATED = "mnistflow.model", "mnistflow.evaluated"
DVC_WEIGHTS = "dvc.weights"  # the MD5 that dvc.lock calls the weights by


def store_uri(tracking: Tracking) -> str:
    """Where runs are recorded: ``MLFLOW_TRACKING_URI``, else what params.yaml says, else a file of the project."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or tracking.uri or "sqlite:///mlflow.db"
    place = uri.removeprefix("sqlite:///")
    return uri if place == uri else f"sqlite:///{project_root() / place}"  # a relative one would go with DVC's copies


def result_key(params: Params, determinants: str) -> str:
    """The digest that finds the run of a result: what decided the weights, and what is recorded as its params."""
    return digest({"determinants": determinants, **params.chosen()})


@contextlib.contextmanager
def recording(params: Params, paths: Paths, determinants: str) -> Iterator[Record]:
    """The run of a pipeline result, found by content or made. A block that fails leaves the run marked as failed."""
    record = Record(params, paths, determinants)
    record.open()
    try:
        yield record
    except BaseException as error:
        record.failed("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise


def _guarded(method: Callable[Concatenate[Record, P], None]) -> Callable[Concatenate[Record, P], None]:
    """Whatever the store does, the work goes on: the first failure is a warning, and ends the recording."""

    @functools.wraps(method)
    def wrapper(self: Record, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.failure is not None or not self.params.tracking.enabled:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - of the store, the network, the database, the disk under it
            self.failure = error
            said = (str(error).strip() or repr(error)).splitlines()[0]
            print(
                f"tracking: warning: {_without_password(store_uri(self.params.tracking))} did not take the record "
                f"({type(error).__name__}: {said}). Nothing on disk is lost; `mnistflow track` records it later.",
                file=sys.stderr,
                flush=True,
            )

    return wrapper


class Record:
    """The MLflow run of one pipeline result.

    Every method may be called again for the same result and then adds nothing. None of them raises when the store
    fails: the first failure is kept in ``failure``, and printed.
    """

    def __init__(self, params: Params, paths: Paths, determinants: str) -> None:
        self.params = params
        self.paths = paths
        self.determinants = determinants
        self.failure: Exception | None = None
        self._client: MlflowClient
        self._experiment = ""
        self._lock: FileLock  # of this result: whoever else records it at the moment waits
        self._run: Run
        self._epochs: set[int] = set()  # those that the run has already

    @property
    def run_id(self) -> str | None:
        """The run's id, or None where nothing is recorded."""
        return self._run.info.run_id if hasattr(self, "_run") else None

    @_guarded
    def open(self) -> None:
        """Connect to the store; find the result's run, or start one."""
        self._client, self._experiment = _connect(self.params.tracking)
        self._lock = lock(f"run-{result_key(self.params, self.determinants)[:16]}")
        weights = sha256(self.paths.weights) if self.paths.weights.is_file() else None
        self._run = self._found_or_made(weights)

    @_guarded
    def epoch(self, row: Mapping[str, object], seconds: float) -> None:
        """Record an epoch while training goes on.

        Args:
            row: of history.csv.
            seconds: that it took.
        """
        number = int(str(row["epoch"]))
        if number not in self._epochs:
            self._log_metrics({**_numbers(row, EPOCH_METRICS), "epoch_seconds": seconds}, step=number)
            self._epochs.add(number)

    @_guarded
    def training(self, seconds: float) -> None:
        """Record what the train stage left: epochs not recorded yet, figures, the data set, the model.

        Args:
            seconds: that training took.
        """
        with self._lock:
            self._training(seconds)

    @_guarded
    def evaluation(self, seconds: float) -> None:
        """Record what the evaluate stage left, and what the train stage left if it is not recorded yet.

        Args:
            seconds: that the evaluation took.
        """
        with self._lock:
            self._evaluation(seconds)

    @_guarded
    def figures(self) -> None:
        """Record the figures, and what the stages before left if it is not recorded yet; the result is complete."""
        with self._lock:
            self._refresh()
            if EVALUATED not in self._run.data.tags:
                self._evaluation(None)
        self._client.log_artifacts(self._run.info.run_id, str(self.paths.figures), "figures")
        self._client.set_terminated(self._run.info.run_id, "FINISHED")

    @_guarded
    def failed(self, status: str) -> None:
        """Say that the result did not come about, FAILED or KILLED; a run that was complete before stays complete."""
        if self._run.info.status != "FINISHED":
            self._client.set_terminated(self._run.info.run_id, status)

    def _refresh(self) -> None:
        """See what another process has recorded of this result meanwhile."""
        self._run = self._client.get_run(self._run.info.run_id)
        self._epochs = {m.step for m in self._client.get_metric_history(self._run.info.run_id, "train_loss")}

    def _training(self, seconds: float | None) -> None:
        self._refresh()
        weights = sha256(self.paths.weights)
        if self._run.data.tags.get(WEIGHTS, weights) != weights:  # same determinants, other bits: another machine
            self._run = self._found_or_made(weights)
        summary, data = read_json(self.paths.train_metrics), read_json(self.paths.data_metrics)
        for row in read_csv(self.paths.history):
            if int(row["epoch"]) not in self._epochs:
                self._log_metrics(_numbers(row, EPOCH_METRICS), step=int(row["epoch"]))
                self._epochs.add(int(row["epoch"]))
        self._log_metrics(_numbers(summary, ("parameters", "kept_epoch", "best_val_accuracy")))
        if seconds is not None:
            seen = int(str(data["train_images"])) * int(str(summary["epochs"]))
            self._log_metrics({"train_seconds": seconds, "images_per_second": seen / seconds})
        self._log_dataset(data)
        self._client.log_artifact(self._run.info.run_id, str(self.paths.weights), "weights")
        self._log_model()
        # Last, because this tag says that training is recorded whole.
        self._tag(
            {
                "device.preprocess": data["device"],
                "device.train": summary["device"],
                DVC_WEIGHTS: hashlib.md5(self.paths.weights.read_bytes()).hexdigest(),
                WEIGHTS: weights,
            }
        )

    def _evaluation(self, seconds: float | None) -> None:
        self._refresh()
        if WEIGHTS not in self._run.data.tags:
            self._training(None)
        figures = read_json(self.paths.test_metrics)
        names = ("accuracy", "loss", "macro_precision", "macro_recall", "macro_f1")
        metrics = {f"test_{name}": value for name, value in _numbers(figures, names).items()}
        if seconds is not None:
            metrics["evaluate_seconds"] = seconds
        self._log_metrics(metrics)
        for path in (self.paths.test_metrics, self.paths.predictions):
            self._client.log_artifact(self._run.info.run_id, str(path), "evaluation")
        self._tag({"device.evaluate": figures["device"], EVALUATED: "true"})

    def _found_or_made(self, weights: str | None) -> Run:
        """The run that has this result's key, and these weights or none yet; a new one if there is none."""
        key = result_key(self.params, self.determinants)
        with self._lock:
            found = self._client.search_runs([self._experiment], f"tags.`{RESULT}` = '{key}'")
            for run in found:
                if weights is None or run.data.tags.get(WEIGHTS, weights) == weights:
                    self._run = run
                    self._refresh()
                    return run
            self._epochs = set()
            return self._new_run(key)

    def _new_run(self, key: str) -> Run:
        from mlflow.entities import Param

        tags = {
            RESULT: key,
            DETERMINANTS: self.determinants,
            "mlflow.source.name": "dvc exp run" if "DVC_EXP_NAME" in os.environ else "dvc repro",
            "mlflow.source.type": "PROJECT",
            "mlflow.source.git.commit": git_commit(),
            "dvc.experiment": os.environ.get("DVC_EXP_NAME"),
        }
        name = f"{self.params.model} · {self.params.recipe}"
        set_tags = {tag: value for tag, value in tags.items() if value is not None}
        run_id = self._client.create_run(self._experiment, run_name=name, tags=set_tags).info.run_id
        params = [Param(path, text) for path, text in _texts(self.params.chosen()).items()]
        self._client.log_batch(run_id, params=params)
        return self._client.get_run(run_id)

    def _log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log the metrics that the run does not have with this value and step."""
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        known = self._run.data.metrics
        new = [Metric(name, value, now, step) for name, value in metrics.items() if step or known.get(name) != value]
        self._client.log_batch(self._run.info.run_id, metrics=new)

    def _tag(self, tags: Mapping[str, object]) -> None:
        from mlflow.entities import RunTag

        run_id = self._run.info.run_id
        self._client.log_batch(run_id, tags=[RunTag(name, str(value)) for name, value in tags.items()])
        self._run = self._client.get_run(run_id)

    def _log_dataset(self, data: Mapping[str, object]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=str(data["dataset"]),
            digest=str(data["digest"])[:32],
            source_type="local",
            source=json.dumps({"path": str(self.paths.train_split.parent)}),
            profile=json.dumps({key: value for key, value in data.items() if key.endswith("_images")}),
        )
        self._client.log_inputs(
            self._run.info.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
        )

    def _log_model(self) -> None:
        """Log the network with its preparation inside, once for the run."""
        if MODEL in self._run.data.tags:
            return
        import mlflow
        import numpy as np
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        model, card = models.load(self.paths.weights)
        height, width = (side - 2 * card.inputs.padding for side in card.image_shape[1:])
        signature = ModelSignature(
            inputs=Schema([TensorSpec(np.dtype("uint8"), (-1, height, width))]),
            outputs=Schema([TensorSpec(np.dtype("float32"), (-1, len(card.inputs.classes)))]),
        )
        run_id = self._run.info.run_id
        with mlflow.start_run(run_id=run_id):
            logged = mlflow.pytorch.log_model(
                Recogniser(model, card),
                name="model",
                signature=signature,
                input_example=np.zeros((2, height, width), dtype=np.uint8),
                pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", "torch", "numpy")],
                metadata={"classes": list(card.inputs.classes), "inputs": asdict(card.inputs)},
            )
        self._client.update_run(run_id, status="RUNNING")  # leaving the block above has ended it
        self._tag({MODEL: logged.model_uri})


def name_study(tracking: Tracking, study: str, results: Iterable[tuple[str, str, Mapping[str, object]]]) -> int:
    """Tag the runs of a study's results with its name, found by content; one run may belong to several studies.

    Args:
        tracking: the store.
        study: its name.
        results: of each the entry's name, the MD5 of the weights and the chosen params.

    Returns:
        How many runs carry the tag now.

    Raises:
        ValueError: the store does not answer.
    """
    wanted = {(weights, digest(_texts(chosen))): entry for entry, weights, chosen in results}
    try:
        client, experiment = _connect(tracking)
        tagged, token = 0, None
        while True:
            page = client.search_runs([experiment], f"tags.`{DVC_WEIGHTS}` != ''", page_token=token)
            for run in page:
                entry = wanted.get((run.data.tags[DVC_WEIGHTS], digest(run.data.params)))
                if entry is not None:
                    client.set_tag(run.info.run_id, f"study.{study}", entry)
                    tagged += 1
            token = page.token
            if not token:
                return tagged
    except Exception as error:
        said = " ".join(str(error).split()) or repr(error)
        raise ValueError(f"{_without_password(store_uri(tracking))} does not answer: {said}") from error


def weights_of(tracking: Tracking, run_id: str) -> Path:
    """The weights that a run recorded, fetched from the store once and checked against the run's digest.

    Raises:
        ValueError: the store does not answer, or has no such run, or not its weights.
    """
    folder = project_root() / ".mnistflow" / "weights" / run_id
    place = folder / "model.safetensors"
    try:
        client, _ = _connect(tracking)
        recorded = client.get_run(run_id).data.tags.get(WEIGHTS)
        if not place.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as beside:
                Path(client.download_artifacts(run_id, f"weights/{place.name}", beside)).replace(place)
    except Exception as error:
        said = " ".join(str(error).split()) or repr(error)
        raise ValueError(f"{_without_password(store_uri(tracking))} has no weights of run {run_id}: {said}") from error
    if sha256(place) != recorded:
        raise ValueError(f"{place} is not what run {run_id} recorded; delete it and run again: rm {place}")
    return place


def _texts(chosen: Mapping[str, object]) -> dict[str, str]:
    """Params as MLflow keeps them."""
    return {path: json.dumps(value).strip('"') for path, value in chosen.items()}


def _numbers(row: Mapping[str, object], names: tuple[str, ...]) -> dict[str, float]:
    """Those of the named values that are there."""
    return {name: float(str(row[name])) for name in names if row.get(name) not in (None, "")}


def _without_password(uri: str) -> str:
    return re.sub(r"//[^/@]*@", "//***@", uri)


def lock(name: str) -> FileLock:
    """A lock between the processes of this project and its experiments."""
    folder = project_root() / ".mnistflow"
    folder.mkdir(exist_ok=True)
    return FileLock(folder / f"{name}.lock", timeout=LOCK_SECONDS)


def _connect(tracking: Tracking) -> tuple[MlflowClient, str]:
    """Open the store, and find the experiment's id or make it."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # seconds, where MLflow would wait 120,
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # and that 7 times over
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    uri = store_uri(tracking)
    mlflow.set_tracking_uri(uri)
    with lock("store"):  # several processes that set up one new database break each other
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(tracking.experiment)
        if experiment is not None:
            return client, experiment.experiment_id
        # MLflow's own default is relative to the folder of whoever comes first.
        place = (project_root() / "mlruns").as_uri() if uri.startswith("sqlite:") else None
        return client, client.create_experiment(tracking.experiment, artifact_location=place)
