"""Writing the run of one pipeline result."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, cast

from filelock import FileLock

from mnistflow import durations, exporting, git, params
from mnistflow.files import parse_yaml, read_csv, read_json, read_yaml, sha256
from mnistflow.params import Params
from mnistflow.paths import Paths
from mnistflow.provenance import git_commit
from mnistflow.text import for_markdown
from mnistflow.tracking import archive, registry, tags
from mnistflow.tracking.runs import result_key, texts
from mnistflow.tracking.store import ALL_RUNS, connect, failure, lock, probe, view

if TYPE_CHECKING:  # mlflow takes seconds to import, and is not needed where tracking is off
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["Origin", "Record", "committed_params", "recording"]

P = ParamSpec("P")
EPOCH_METRICS = ("lr", "train_loss", "val_loss", "val_accuracy", "test_loss", "test_accuracy")
TEST_METRICS = (  # of evaluate.json; results from before they were measured lack some
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "top2_accuracy",
    "loss",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "ece",
    "brier",
    "ece_scaled",
    "brier_scaled",
    "robust_accuracy",
)
LEAKAGE_METRICS = ("test_duplicates", "leakage", "validation_duplicates", "label_conflicts")  # of preprocess.json
PAUSE_SECONDS = 10  # without a new try after the store has failed
NAMED = 4  # so many changed params are in a run's name


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
        return cls(git_commit(), os.environ.get("DVC_EXP_NAME"), committed_params("HEAD"))


def committed_params(commit: str) -> Params | None:
    """What params.yaml holds in a commit; None where it cannot be read."""
    try:
        return params.parse(parse_yaml(git.run("show", f"{commit}:./params.yaml"), "params.yaml"))[0]
    except (OSError, ValueError):
        return None


def run_name(chosen: Params, baseline: Params | None) -> str:
    """Model and recipe, and what else differs from the committed params.yaml: ``mlp · default lr=0.2 seed=1``."""
    name = f"{chosen.model} · {chosen.recipe}"
    if baseline is None:
        return name
    if chosen.dataset != baseline.dataset:
        name += f" on {chosen.dataset}"
    choice = {"dataset": chosen.dataset, "model": chosen.model, "recipe": chosen.recipe}
    now = chosen.chosen()
    try:
        before = baseline.model_copy(update=choice).chosen()
    except KeyError:  # that model, recipe or data set is new
        return name
    order = ("recipes", "models", "seed", "preprocess", "train", "datasets", "evaluate")
    changed = sorted(
        (path for path, value in now.items() if path in before and before[path] != value),
        key=lambda path: order.index(path.split(".")[0]) if path.split(".")[0] in order else len(order),
    )
    lasts = Counter(path.split(".")[-1] for path in now)
    for path in changed[:NAMED]:
        last = path.split(".")[-1]
        value = json.dumps(now[path]).replace(", ", "-").strip('"[]')
        name += f" {last if lasts[last] == 1 else path}={value}"
    return name + (" …" if len(changed) > NAMED else "")


@contextlib.contextmanager
def recording(params: Params, paths: Paths, determinants: str) -> Iterator[Record]:
    """The run of a pipeline result, found by content or made. A block that fails leaves the run marked as failed."""
    record = Record(params, paths, determinants, Origin.here())
    record.open()
    try:
        yield record
    except BaseException as error:
        record.failed("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise


def _guarded(method: Callable[Concatenate[Record, P], None]) -> Callable[Concatenate[Record, P], None]:
    """Whatever the store does, the work goes on: the first failure is a warning, the next step tries again."""

    @functools.wraps(method)
    def wrapper(self: Record, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if not self.params.tracking.enabled:
            return
        if self.failure is not None and time.monotonic() - self._failed_at < PAUSE_SECONDS:
            return
        try:
            if hasattr(self, "_run"):
                probe(self.params.tracking)
            else:
                self._open()
            method(self, *args, **kwargs)
            self.failure = None
        except Exception as error:  # noqa: BLE001 - of the store, the network, the database, the disk under it
            if self.failure is None:
                said = failure(self.params.tracking, "did not take the record", error)
                print(
                    f"tracking: warning: {said}. Nothing on disk is lost; `mnistflow track` records it later.",
                    file=sys.stderr,
                    flush=True,
                )
            self.failure, self._failed_at = error, time.monotonic()

    return wrapper


class Record:
    """The MLflow run of one pipeline result.

    Every method may be called again for the same result and then adds nothing. None of them raises when the store
    fails: that is kept in ``failure``, and printed once. What is not taken while training goes on is recorded at its
    end, if the store answers then.

    Args:
        params: of the result.
        paths: of its files.
        determinants: the digest of what decided the weights.
        origin: where it comes from.
    """

    def __init__(self, params: Params, paths: Paths, determinants: str, origin: Origin) -> None:
        self.params = params
        self.paths = paths
        self.determinants = determinants
        self.origin = origin
        self.failure: Exception | None = None
        self._failed_at = -math.inf  # on the clock of time.monotonic
        self._client: MlflowClient
        self._experiment = ""
        self._lock: FileLock  # of this result: whoever else records it at the moment waits
        self._run: Run
        self._epochs: set[int] = set()  # those that the run has already
        self._seconds: dict[int, float] = {}  # of each epoch

    @property
    def run_id(self) -> str | None:
        """The run's id, or None where nothing is recorded."""
        return self._run.info.run_id if hasattr(self, "_run") else None

    @_guarded
    def open(self) -> None:
        """Connect to the store; find the result's run, or start one."""

    def epoch(self, row: Mapping[str, object], seconds: float) -> None:
        """Record an epoch while training goes on.

        Args:
            row: of history.csv.
            seconds: that it took.
        """
        self._seconds[int(str(row["epoch"]))] = seconds
        if self.failure is None:
            self._epoch(row)

    def training(self, seconds: Sequence[float]) -> None:
        """Record what the train stage left: epochs not recorded yet, the data set, weights and model.

        Args:
            seconds: that each epoch took.
        """
        durations.note(durations.md5(self.paths.weights), seconds=math.fsum(seconds), epoch_seconds=list(seconds))
        self._training_at_its_end()

    def evaluation(self, seconds: float, images_per_second: float, latency: float) -> None:
        """Record what the evaluate stage left, and what the train stage left if it is not recorded yet.

        Args:
            seconds: that the evaluation took.
            images_per_second: that the network reads in batches.
            latency: seconds for one image alone.
        """
        durations.note(
            result_key(self.params, self.determinants),
            evaluate_seconds=seconds,
            evaluate_images_per_second=images_per_second,
            latency_seconds=latency,
        )
        self._evaluation_at_its_end()

    @_guarded
    def figures(self) -> None:
        """Record the figures, and what the stages before left if it is not recorded yet; the result is complete."""
        with self._lock:
            self._figures()

    @_guarded
    def failed(self, status: str) -> None:
        """Say that the result did not come about, FAILED or KILLED; a run that was complete before stays complete."""
        if self._run.info.status != "FINISHED":
            self._end(status)

    @_guarded
    def _epoch(self, row: Mapping[str, object]) -> None:
        self._log_epoch(row, self._seconds)

    @_guarded
    def _training_at_its_end(self) -> None:
        with self._lock:
            self._training(trained_here=True)

    @_guarded
    def _evaluation_at_its_end(self) -> None:
        with self._lock:
            self._evaluation()
            if self._is_drawn():
                self._figures()

    def _open(self) -> None:
        self._client, self._experiment = connect(self.params.tracking)
        # One of 256, because a file is left for each; who has another result and the same lock waits for a moment.
        self._lock = lock(f"run-{result_key(self.params, self.determinants)[:2]}")
        weights = sha256(self.paths.weights) if self.paths.weights.is_file() else None
        self._run = self._found_or_made(weights)

    def _refresh(self) -> None:
        """See what another process has recorded of this result meanwhile."""
        self._run = self._client.get_run(self._run.info.run_id)
        self._epochs = {m.step for m in self._client.get_metric_history(self._run.info.run_id, "train_loss")}

    def _training(self, *, trained_here: bool) -> None:
        self._refresh()
        weights = sha256(self.paths.weights)
        if self._run.data.tags.get(tags.WEIGHTS, weights) != weights:  # same determinants, other bits: another machine
            self._run = self._found_or_made(weights)
        summary, data = read_json(self.paths.train_metrics), read_json(self.paths.data_metrics)
        took = durations.of(durations.md5(self.paths.weights))
        each = dict(enumerate(cast("list[float]", took.get("epoch_seconds", [])), start=1))
        for row in read_csv(self.paths.history):
            self._log_epoch(row, each)
        self._log_metrics(_numbers(summary, ("parameters", "kept_epoch", "best_val_accuracy")))
        if seconds := cast("float | None", took.get("seconds")):
            seen = int(str(data["train_images"])) * int(str(summary["epochs"]))
            self._log_metrics({"train_seconds": seconds, "images_per_second": seen / seconds})
        self._log_metrics(_numbers(data, LEAKAGE_METRICS))
        self._log_dataset(data)
        self._client.log_artifact(self._run.info.run_id, str(self.paths.weights), "weights")
        self._log_model()
        said: dict[str, object] = {"device.preprocess": data["device"], "device.train": summary["device"]}
        if not trained_here and (trainer := self._trainer(weights)):
            said[tags.TRAINED_BY] = trainer
        # Last, because this tag says that training is recorded whole.
        self._tag({**said, tags.DVC_WEIGHTS: durations.md5(self.paths.weights), tags.WEIGHTS: weights})

    def _evaluation(self) -> None:
        self._refresh()
        if tags.WEIGHTS not in self._run.data.tags:
            self._training(trained_here=False)
        test = read_json(self.paths.test_metrics)
        metrics = {f"test_{name}": value for name, value in _numbers(test, TEST_METRICS).items()}
        # The first comes from the validation split, the other from the network alone.
        metrics |= _numbers(test, ("temperature", "multiply_adds"))
        took = durations.of(result_key(self.params, self.determinants))
        speed = ("evaluate_seconds", "evaluate_images_per_second", "latency_seconds")
        self._log_metrics({**metrics, **_numbers(took, speed)})
        files = [self.paths.test_metrics, self.paths.predictions]
        if self.paths.robustness.is_file():  # an older result may have none
            files.append(self.paths.robustness)
        for path in files:
            self._client.log_artifact(self._run.info.run_id, str(path), "evaluation")
        tested = read_json(self.paths.data_metrics).get("test_digest")  # which older results lack
        self._tag(
            {
                **({} if tested is None else {tags.TEST_IMAGES: tested}),
                "device.evaluate": test["device"],
                "mlflow.note.content": describe(self._run.info.run_id, self.paths),
                tags.EVALUATED: "true",
            }
        )

    def _figures(self) -> None:
        self._refresh()
        if tags.EVALUATED not in self._run.data.tags:
            self._evaluation()
        self._client.log_artifacts(self._run.info.run_id, str(self.paths.figures), "figures")
        registry.consider(self._client, self.params.tracking, self._client.get_run(self._run.info.run_id))
        self._end("FINISHED")  # last: then nothing is missing

    def _end(self, status: str) -> None:
        """Say how the run ended; never before it began, also where the clock has gone back."""
        run = self._run.info
        self._client.set_terminated(run.run_id, status, max(int(1000 * time.time()), run.start_time))

    def _is_drawn(self) -> bool:
        """Whether the figures are those of these predictions already, so that DVC has no reason to draw them again."""
        try:
            plot = cast("Any", read_yaml(Path("dvc.lock")))["stages"]["plot"]
            known = {dep["path"]: dep["md5"] for dep in plot["deps"]}
        except (ValueError, TypeError, KeyError):
            return False
        return self.paths.figures.is_dir() and all(
            known.get(path.as_posix()) == durations.md5(path)
            for path in (self.paths.weights, self.paths.test_metrics, self.paths.predictions, self.paths.robustness)
        )

    def _trainer(self, weights: str) -> str | None:
        """The run that recorded these weights first."""
        same = f"tags.`{tags.DETERMINANTS}` = '{self.determinants}' AND tags.`{tags.WEIGHTS}` = '{weights}'"
        runs = self._client.search_runs([self._experiment], same, order_by=["attributes.start_time ASC"])
        return next((run.info.run_id for run in runs if run.info.run_id != self._run.info.run_id), None)

    def _found_or_made(self, weights: str | None) -> Run:
        """The run that has this result's key, and these weights or none yet; a new one if there is none."""
        key = result_key(self.params, self.determinants)
        with self._lock:
            found = self._client.search_runs([self._experiment], f"tags.`{tags.RESULT}` = '{key}'")
            for run in found:
                if weights is None or run.data.tags.get(tags.WEIGHTS, weights) == weights:
                    if run.info.status in ("FAILED", "KILLED"):
                        self._client.update_run(run.info.run_id, status="RUNNING")
                    self._run = run
                    self._refresh()
                    return self._run
            self._epochs = set()
            return self._new_run(key)

    def _new_run(self, key: str) -> Run:
        from mlflow.entities import Param

        said = {
            tags.RESULT: key,
            tags.DETERMINANTS: self.determinants,
            tags.DVC: self.origin.experiment,
            "mlflow.source.name": "dvc repro" if self.origin.experiment is None else "dvc exp run",
            "mlflow.source.type": "PROJECT",
            "mlflow.source.git.commit": self.origin.commit,
        }
        known = {tag: value for tag, value in said.items() if value is not None}
        for tag, state in view(ALL_RUNS).items():  # also where someone else made the experiment
            self._client.set_experiment_tag(self._experiment, tag, state)
        name = run_name(self.params, self.origin.baseline)
        run_id = self._client.create_run(self._experiment, run_name=name, tags=known).info.run_id
        self._client.log_batch(run_id, params=[Param(*entry) for entry in texts(self.params.chosen()).items()])
        return self._client.get_run(run_id)

    def _log_epoch(self, row: Mapping[str, object], seconds: Mapping[int, float]) -> None:
        number = int(str(row["epoch"]))
        if number not in self._epochs:
            took = {"epoch_seconds": seconds[number]} if number in seconds else {}
            self._log_metrics({**_numbers(row, EPOCH_METRICS), **took}, step=number)
            self._epochs.add(number)

    def _log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log the metrics that the run does not have with this value and step."""
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        known = self._run.data.metrics
        new = [Metric(name, value, now, step) for name, value in metrics.items() if step or known.get(name) != value]
        self._client.log_batch(self._run.info.run_id, metrics=new)

    def _tag(self, said: Mapping[str, object]) -> None:
        from mlflow.entities import RunTag

        run_id = self._run.info.run_id
        self._client.log_batch(run_id, tags=[RunTag(name, str(value)) for name, value in said.items()])
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
        """Log the network with its preparation inside, once for the run, and as an ONNX graph.

        The graph is kept, too, for the first `mnistflow predict`, which need not make it.
        """
        if tags.MODEL in self._run.data.tags:
            return
        graph = exporting.kept(sha256(self.paths.weights))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name, "model")
            if missing := archive.export(self.paths.weights, folder, graph):
                print(f"tracking: warning: without an ONNX graph: {missing}", file=sys.stderr, flush=True)
            else:
                made = graph if graph.is_file() else Path(name, graph.name)
                named = Path(shutil.copy(made, Path(name, "model.onnx")))
                self._client.log_artifact(self._run.info.run_id, str(named), "onnx")
            self._tag({tags.MODEL_SHA256: sha256(folder / "data" / "model.pt2"), tags.MODEL: self._upload(folder)})

    def _upload(self, folder: Path) -> str:
        """Make MLflow's model of a folder; returns its URI. One that a killed process has begun is completed."""
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model

        run_id = self._run.info.run_id
        begun = self._client.search_logged_models([self._experiment], f"source_run_id = '{run_id}'")
        logged = next(iter(begun), None) or self._client.create_logged_model(
            self._experiment, name="model", source_run_id=run_id, params=self._run.data.params
        )
        outputs = self._run.outputs.model_outputs if self._run.outputs is not None else []
        if logged.model_id not in [output.model_id for output in outputs]:
            self._client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        description = Model.load(str(folder))
        description.run_id, description.model_uuid, description.model_id = run_id, logged.model_id, logged.model_id
        description.artifact_path = logged.artifact_location
        description.save(str(folder / "MLmodel"))
        self._client.log_model_artifacts(logged.model_id, str(folder))
        self._client.finalize_logged_model(logged.model_id, "READY")
        return str(logged.model_uri)


def describe(run_id: str, paths: Paths) -> str:
    """What a result came to, as Markdown for the page of its run."""
    train, test = read_json(paths.train_metrics), read_json(paths.test_metrics)
    rows = read_csv(paths.predictions)
    wrong = Counter((row["label"], row["prediction"]) for row in rows if row["label"] != row["prediction"])
    lines = [
        f"**{float(str(test['accuracy'])):.2%}** of {len(rows):,} test images right, {wrong.total():,} wrong, "
        f"mean loss {float(str(test['loss'])):.4f}."
    ]
    if train["val_accuracy"] is not None:
        accuracy = float(str(train["val_accuracy"]))
        lines += ["", f"Validation: {accuracy:.2%} after epoch {train['kept_epoch']} of {train['epochs']}."]
    if wrong:
        pairs = ", ".join(
            f"{for_markdown(label)} read as {for_markdown(other)} ({count})"
            for (label, other), count in wrong.most_common(5)
        )
        lines += ["", f"Most often confused: {pairs}."]
    lines += ["", f"Bring it back: `mnistflow restore {run_id}`", ""]
    lines += [f"![{name}](get-artifact?path=figures/{name}.png&run_uuid={run_id})" for name in ("curves", "confusion")]
    return "\n".join(lines)


def _numbers(row: Mapping[str, object], names: tuple[str, ...]) -> dict[str, float]:
    """Those of the named values that are there."""
    return {name: float(str(row[name])) for name in names if row.get(name) not in (None, "")}
