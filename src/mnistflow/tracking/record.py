"""Writing the run of one pipeline result: its epochs while it trains, and the rest at once, from the files it left."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from filelock import FileLock

from mnistflow.config import params
from mnistflow.config.params import Params
from mnistflow.config.paths import Paths
from mnistflow.core.documents import read_document
from mnistflow.core.files import digest, md5, parse_yaml, read_csv, sha256
from mnistflow.data.summary import LEAKAGE, DataSummary
from mnistflow.evaluation.scores import read_scores, recorded
from mnistflow.pipeline import durations, git
from mnistflow.pipeline.lockfile import Lock
from mnistflow.tracking import champion, tags
from mnistflow.tracking.archive import Export
from mnistflow.tracking.description import describe, numbers, run_name
from mnistflow.tracking.runs import as_mlflow_params, result_key
from mnistflow.tracking.store import ALL_RUNS, connect, failure, lock, probe, view
from mnistflow.training.history import Summary

if TYPE_CHECKING:  # mlflow takes seconds to import, and is not needed where tracking is off
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["Origin", "Record", "committed_params", "record_result", "record_training"]

EPOCH_METRICS = ("lr", "train_loss", "val_loss", "val_accuracy", "test_loss", "test_accuracy")
PAUSE_SECONDS = 10  # without a new try after the store has failed


@dataclass(frozen=True)
class Origin:
    """Where a result comes from.

    Attributes:
        commit: that it was made on; ``-dirty`` behind it: with changes.
        experiment: the name of the DVC experiment, if it is one.
        baseline: params.yaml as that commit has it, if it can be read.
    """

    commit: str | None
    experiment: str | None
    baseline: Params | None

    @classmethod
    def here(cls) -> Origin:
        """Of the result that this process is making."""
        return cls(git.commit(), os.environ.get("DVC_EXP_NAME"), committed_params("HEAD"))


def committed_params(commit: str) -> Params | None:
    """What params.yaml holds in a commit; None where it cannot be read."""
    try:
        return params.parse(parse_yaml(git.run("show", f"{commit}:./params.yaml"), "params.yaml"))[0]
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def record_training(params: Params, paths: Paths, made: Mapping[str, object]) -> Iterator[Record]:
    """The run of a result that is about to be trained, found by content or made.

    Its epochs are recorded as they end, unless the same result is recorded already. A block that fails leaves the run
    marked as failed.

    Args:
        params: of the result.
        paths: of its files.
        made: how its weights are made; see :data:`mnistflow.tracking.runs.MADE`.
    """
    record = Record(params, paths, Origin.here(), made)
    record.open()
    with _failing(record):
        yield record
        record.trained()


@contextlib.contextmanager
def record_result(params: Params, paths: Paths) -> Iterator[None]:
    """Record the result whose figures are drawn in the block, once they are there."""
    record = Record(params, paths, Origin.here())
    with _failing(record), record.exporting():
        yield
        record.complete()


@contextlib.contextmanager
def _failing(record: Record) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        record.failed("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise


class Record:
    """The MLflow run of one pipeline result.

    Every method is idempotent: called again for the same result, it adds nothing. None raises if the store fails: the
    error is kept in ``failure`` and printed once. Epochs that could not be recorded during training are recorded at the
    end, if the store responds by then.

    Args:
        params: of the result.
        paths: of its files.
        origin: where it comes from.
        made: how its weights are made, before they are; None: as its files say.
    """

    def __init__(self, params: Params, paths: Paths, origin: Origin, made: Mapping[str, object] | None = None) -> None:
        self.params = params
        self.paths = paths
        self.origin = origin
        self._made = made
        self.failure: Exception | None = None
        self._failed_at = -math.inf  # on the clock of time.monotonic
        self._key: str  # of the result
        self._client: MlflowClient
        self._experiment = ""
        self._lock: FileLock  # of this result: whoever else records it at the moment waits
        self._run: Run
        self._epochs: set[int] = set()  # those that the run has already
        self._export: Export | None = None

    @property
    def run_id(self) -> str | None:
        """The run's id, or None where nothing is recorded."""
        return self._run.info.run_id if hasattr(self, "_run") else None

    def open(self) -> None:
        """Connect to the store; find the result's run, or start one."""
        self._try(lambda: None)

    def epoch(self, row: Mapping[str, object], seconds: float) -> None:
        """Record an epoch while training goes on; one that the store does not take is recorded with the rest.

        Args:
            row: of history.csv.
            seconds: that it took.
        """
        if self.failure is None:
            self._try(lambda: self._log_epoch(row, {int(str(row["epoch"])): seconds}))

    def trained(self) -> None:
        """Record the rest, if DVC has no reason to run the stage that does: what that depends on came out the same."""
        if self._is_drawn():
            self.complete()

    @contextlib.contextmanager
    def exporting(self) -> Iterator[None]:
        """Make what the model of a new champion is made of while the block goes on."""
        with contextlib.ExitStack() as stack:

            def start() -> None:
                train, data = self._documents()
                if champion.reason_to_promote(self._client, self.params.tracking, data.dataset, train.val_accuracy):
                    self._export = stack.enter_context(Export(self.paths.weights))

            self._try(start)
            yield

    def complete(self) -> None:
        """Record everything that the files of the result say and the run does not have."""
        self._try(self._complete)

    def failed(self, status: str) -> None:
        """Say that the result did not come about, FAILED or KILLED; a run that was complete before stays complete."""

        def end() -> None:
            if self._run.info.status != "FINISHED":
                self._end(status)

        self._try(end)

    def _try(self, step: Callable[[], None]) -> None:
        """Whatever the store does, the work goes on: the first failure is a warning, the next step tries again."""
        if not self.params.tracking.enabled:
            return
        if self.failure is not None and time.monotonic() - self._failed_at < PAUSE_SECONDS:
            return
        try:
            if hasattr(self, "_run"):
                probe(self.params.tracking)
            else:
                self._open()
            step()
            self.failure = None
        except Exception as error:  # noqa: BLE001 - of the store, the network, the database, the disk under it
            if self.failure is None:
                reason = failure(self.params.tracking, "could not store the record", error)
                print(
                    f"tracking: warning: {reason}. Nothing on disk is lost; `mnistflow track` records it later.",
                    file=sys.stderr,
                    flush=True,
                )
            self.failure, self._failed_at = error, time.monotonic()

    def _open(self) -> None:
        self._key = result_key(self.params, self.paths, self._made)
        self._client, self._experiment = connect(self.params.tracking)
        # One of 256, because a file is left for each; who has another result and the same lock waits for a moment.
        self._lock = lock(f"run-{self._key[:2]}")
        self._run = self._found_or_made(sha256(self.paths.weights) if self.paths.weights.is_file() else None)

    def _complete(self) -> None:
        with self._lock:
            weights = sha256(self.paths.weights)
            self._refresh()
            if self._run.data.tags.get(tags.WEIGHTS, weights) != weights:  # other code, or another kind of processor
                self._run = self._found_or_made(weights)
            if tags.WEIGHTS not in self._run.data.tags:
                self._log_training(weights)
            evaluation = digest({path.name: sha256(path) for path in self._evaluation_files()})
            if self._run.data.tags.get(tags.EVALUATED) != evaluation:  # it is new, or measured by other code
                self._log_evaluation(evaluation)
            run_id = self._run.info.run_id
            for path in sorted(
                self.paths.figures.glob("*.png")
            ):  # not the folder, which may be drawn into at the moment
                self._client.log_artifact(run_id, str(path), "figures")
            accuracy = self._documents()[0].val_accuracy
            with contextlib.ExitStack() as stack:

                def graph() -> Path:
                    export = self._export or stack.enter_context(Export(self.paths.weights))
                    return export.wait()

                champion.consider(self._client, self.params.tracking, self._run, accuracy, graph)
            self._end("FINISHED")  # last: then nothing is missing

    def _refresh(self) -> None:
        """See what another process has recorded of this result meanwhile."""
        self._run = self._client.get_run(self._run.info.run_id)
        self._epochs = {m.step for m in self._client.get_metric_history(self._run.info.run_id, "train_loss")}

    def _documents(self) -> tuple[Summary, DataSummary]:
        """What the stages before evaluation say of the result."""
        return read_document(self.paths.train_metrics, Summary), read_document(self.paths.data_metrics, DataSummary)

    def _log_training(self, weights: str) -> None:
        train, data = self._documents()
        took = durations.read(md5(self.paths.weights))
        seconds = dict(enumerate(cast("list[float]", took.get("epoch_seconds", [])), start=1))
        trained_here = bool(self._epochs)
        for row in read_csv(self.paths.history):
            self._log_epoch(row, seconds)
        figures = vars(train) | vars(data)
        metrics = numbers(figures, ("kept_epoch", "best_val_accuracy", *LEAKAGE))
        if total := cast("float | None", took.get("seconds")):
            metrics |= {"train_seconds": total, "images_per_second": data.train_images * train.epochs / total}
        self._log_metrics(metrics)
        self._log_dataset(data)
        self._client.log_artifact(self._run.info.run_id, str(self.paths.weights), "weights")
        new: dict[str, object] = {"device.preprocess": data.device, "device.train": train.device}
        if not trained_here and (trainer := self._trainer(weights)):
            new[tags.TRAINED_BY] = trainer
        # Last, because this tag says that training is recorded whole.
        self._tag({**new, tags.DVC_WEIGHTS: md5(self.paths.weights), tags.WEIGHTS: weights})

    def _evaluation_files(self) -> tuple[Path, ...]:
        return self.paths.test_metrics, self.paths.predictions, self.paths.robustness

    def _log_evaluation(self, evaluation: str) -> None:
        scores, (_, data) = read_scores(self.paths.test_metrics), self._documents()
        batch_size = self.params.evaluate.batch_size
        took = durations.read(durations.evaluation(self.paths.weights, self.paths.test_metrics, batch_size))
        speed = ("evaluate_seconds", "evaluate_images_per_second", "latency_seconds")
        self._log_metrics({**recorded(scores), **numbers(took, speed)})
        for path in self._evaluation_files():
            self._client.log_artifact(self._run.info.run_id, str(path), "evaluation")
        self._tag(
            {
                tags.TEST_IMAGES: data.test_digest,
                "device.evaluate": scores.device,
                "mlflow.note.content": describe(self._run.info.run_id, self.paths),
                tags.EVALUATED: evaluation,
            }
        )

    def _end(self, status: str) -> None:
        """Say how the run ended; never before it began, also where the clock has gone back."""
        run = self._run.info
        self._client.set_terminated(run.run_id, status, max(int(1000 * time.time()), run.start_time))

    def _is_drawn(self) -> bool:
        """Whether the figures are those of this result already, so that DVC has no reason to draw them again."""
        try:
            plot = Lock.read().stage("plot")
        except ValueError:
            return False
        now = self.params.model_dump(exclude_unset=True)  # as the file has it: DVC knows of no defaults
        needs = (self.paths.weights, self.paths.history, self.paths.test_metrics, self.paths.predictions)
        return (
            self.paths.figures.is_dir()
            and all(path.is_file() and plot.dependency(path) == md5(path) for path in needs)
            and all(value == _at(now, path) for path, value in plot.values.items())
        )

    def _trainer(self, weights: str) -> str | None:
        """The run that recorded these weights first."""
        same = f"tags.`{tags.WEIGHTS}` = '{weights}'"
        runs = self._client.search_runs([self._experiment], same, order_by=["attributes.start_time ASC"])
        return next((run.info.run_id for run in runs if run.info.run_id != self._run.info.run_id), None)

    def _found_or_made(self, weights: str | None) -> Run:
        """The run that has this result's key, and these weights or none yet; a new one if there is none."""
        with self._lock:
            for run in self._client.search_runs([self._experiment], f"tags.`{tags.RESULT}` = '{self._key}'"):
                if weights is None or run.data.tags.get(tags.WEIGHTS, weights) == weights:
                    if run.info.status in ("FAILED", "KILLED"):
                        self._client.update_run(run.info.run_id, status="RUNNING")
                    self._run = run
                    self._refresh()
                    return self._run
            self._epochs = set()
            return self._new_run()

    def _new_run(self) -> Run:
        from mlflow.entities import Param

        about = {
            tags.RESULT: self._key,
            tags.DVC: self.origin.experiment,
            "mlflow.source.name": "dvc repro" if self.origin.experiment is None else "dvc exp run",
            "mlflow.source.type": "PROJECT",
            "mlflow.source.git.commit": self.origin.commit,
        }
        known = {tag: value for tag, value in about.items() if value is not None}
        for tag, state in view(ALL_RUNS).items():  # also where someone else made the experiment
            self._client.set_experiment_tag(self._experiment, tag, state)
        name = run_name(self.params, self.origin.baseline)
        run_id = self._client.create_run(self._experiment, run_name=name, tags=known).info.run_id
        self._client.log_batch(
            run_id, params=[Param(*entry) for entry in as_mlflow_params(self.params.selected()).items()]
        )
        return self._client.get_run(run_id)

    def _log_epoch(self, row: Mapping[str, object], seconds: Mapping[int, float]) -> None:
        number = int(str(row["epoch"]))
        if number not in self._epochs and tags.WEIGHTS not in self._run.data.tags:
            took = {"epoch_seconds": seconds[number]} if number in seconds else {}
            self._log_metrics({**numbers(row, EPOCH_METRICS), **took}, step=number)
            self._epochs.add(number)

    def _log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log the metrics that the run does not have with this value and step."""
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        known = self._run.data.metrics
        new = [Metric(name, value, now, step) for name, value in metrics.items() if step or known.get(name) != value]
        self._client.log_batch(self._run.info.run_id, metrics=new)

    def _tag(self, new: Mapping[str, object]) -> None:
        from mlflow.entities import RunTag

        run_id = self._run.info.run_id
        self._client.log_batch(run_id, tags=[RunTag(name, str(value)) for name, value in new.items()])
        self._run = self._client.get_run(run_id)

    def _log_dataset(self, data: DataSummary) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        dataset = Dataset(
            name=data.dataset,
            digest=data.digest[:32],
            source_type="local",
            source=json.dumps({"path": str(self.paths.train_split.parent)}),
            profile=json.dumps({name: value for name, value in vars(data).items() if name.endswith("_images")}),
        )
        inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
        try:
            self._client.log_inputs(self._run.info.run_id, inputs)
        except MlflowException:  # another run has added the same data set between MLflow's look at it and its insertion
            self._client.log_inputs(self._run.info.run_id, inputs)


def _at(tree: Mapping[str, object], path: str) -> object:
    """The value at a dotted path; None: there is none."""
    node: object = tree
    for key in path.split("."):
        if not isinstance(node, Mapping) or key not in node:
            return None
        node = node[key]
    return node
