from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import DEVNULL
from threading import Thread
from typing import Any

import numpy as np
import pytest
from conftest import COMMAND, Checkout, answering, free_port
from mlflow import MlflowClient
from mlflow.entities import Run

from mnistflow import tracking
from mnistflow.config.params import Params, Tracking, load
from mnistflow.config.paths import Paths
from mnistflow.core.files import read_csv, read_json, sha256
from mnistflow.core.tensors import read_split
from mnistflow.reports.report import FIGURES
from mnistflow.tracking.store import keep_ui_port, link, without_passwords

TRACK = (sys.executable, COMMAND, "track")


def runs_of(
    checkout: Checkout, experiment: str = "mnistflow", store: str = "mlflow.db"
) -> tuple[MlflowClient, list[Run]]:
    client = MlflowClient(f"sqlite:///{checkout.folder / store}")
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return client, list(client.search_runs([found.experiment_id]))


def record(client: MlflowClient, run: Run) -> dict[str, Any]:
    """All that a run says, but ids, times and durations."""
    durations = ("seconds", "images_per_second")
    metrics = {
        name: [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
        if not name.endswith(durations)
    }
    # The archive of the model names the files of the code that it was exported by.
    unique = ("mlflow.log-model.history", "mnistflow.model", "mnistflow.model.sha256", "mlflow.user")
    files = [
        file.path for folder in ("figures", "evaluation") for file in client.list_artifacts(run.info.run_id, folder)
    ]
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "params": run.data.params,
        "metrics": metrics,
        "tags": {key: value for key, value in run.data.tags.items() if key not in unique},
        "files": files,
        "data": [
            (entry.dataset.name, entry.dataset.digest) for entry in (run.inputs.dataset_inputs if run.inputs else [])
        ],
        "models": len(run.outputs.model_outputs) if run.outputs else 0,
    }


@pytest.fixture(scope="module")
def run(finished: Checkout) -> tuple[MlflowClient, Run]:
    client, runs = runs_of(finished)
    assert len(runs) == 1
    return client, runs[0]


def test_a_result_is_one_run_that_holds_everything(finished: Checkout, run: tuple[MlflowClient, Run]) -> None:
    found = record(*run)
    params = load(finished.folder / "params.yaml")
    paths = Paths(
        **{name: finished.folder / path for name, path in vars(Paths.load(finished.folder / "dvc.yaml")).items()}
    )
    assert found["status"] == "FINISHED"
    assert found["name"] == "lenet5 · default"
    assert set(found["params"]) == set(params.selected())
    assert found["params"]["models.lenet5.padding"] == "2"
    assert found["params"]["recipes.default.optimizer"] == "sgd"

    history, data = read_csv(paths.history), read_json(paths.data_metrics)
    for name in ("lr", "train_loss", "val_loss", "val_accuracy"):
        assert found["metrics"][name] == [(int(row["epoch"]), float(row[name])) for row in history]
    test, train = read_json(paths.test_metrics), read_json(paths.train_metrics)
    assert found["metrics"]["test_accuracy"] == [(0, test["accuracy"])]
    assert found["metrics"]["test_loss"] == [(0, test["loss"])]
    for name in ("accuracy_low", "accuracy_high", "top2_accuracy", "ece", "brier", "ece_unscaled", "robust_accuracy"):
        assert found["metrics"][f"test_{name}"] == [(0, test[name])]
    for name in ("temperature", "multiply_adds"):
        assert found["metrics"][name] == [(0, test[name])]
    assert found["metrics"]["parameters"] == [(0, 61706)]
    assert found["metrics"]["best_val_accuracy"] == [(0, train["best_val_accuracy"])]

    tags = found["tags"]
    assert tags["mnistflow.weights"] == sha256(paths.weights)
    assert tags["device.preprocess"] == data["device"]
    assert tags["device.train"] == train["device"]
    assert tags["device.evaluate"] == test["device"]
    commit = finished.git("rev-parse", "HEAD^").strip()
    assert tags["mlflow.source.git.commit"] == commit
    assert found["data"] == [("digits", str(data["digest"])[:32])]
    assert found["files"] == [
        *(f"figures/{name}.png" for name in sorted(FIGURES)),
        "evaluation/evaluate.json",
        "evaluation/predictions.csv",
        "evaluation/robustness.csv",
    ]
    assert found["models"] == 1
    speed = ("images_per_second", "evaluate_images_per_second", "latency_seconds")
    for name in ("train_seconds", "evaluate_seconds", *speed):
        assert run[1].data.metrics[name] > 0


def test_the_model_takes_raw_images_and_gives_probabilities(finished: Checkout, run: tuple[MlflowClient, Run]) -> None:
    program = """
import hashlib
import sys
import mlflow, numpy as np
mlflow.set_tracking_uri("sqlite:///mlflow.db")
model = mlflow.pyfunc.load_model(sys.argv[1])
print(model.metadata.signature)
np.save(sys.argv[3], model.predict(np.load(sys.argv[2])))
"""
    test = read_split(finished.folder / "data/processed/test.safetensors")
    raw = ((test.images[:, 0] * test.inputs.std + test.inputs.mean) * 255).round().byte().numpy()
    folder = finished.folder / "data"
    np.save(folder / "raw.npy", raw)
    uri = run[1].data.tags["mnistflow.model"]
    output = finished.run(sys.executable, "-c", program, uri, str(folder / "raw.npy"), str(folder / "chances.npy"))
    assert "Tensor('uint8', (-1, 28, 28))" in output
    assert "Tensor('float32', (-1, 10))" in output
    chances = np.load(folder / "chances.npy")
    assert chances.shape == (360, 10)
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-5)
    rows = read_csv(finished.folder / "metrics" / "predictions.csv")
    assert [str(label) for label in chances.argmax(axis=1)] == [row["prediction"] for row in rows]
    np.testing.assert_allclose(chances.max(axis=1), [float(row["probability"]) for row in rows], atol=1e-4)


def test_the_served_model_answers_as_the_pipeline_did(finished: Checkout, tmp_path: Path) -> None:
    test, port = read_split(finished.folder / "data/processed/test.safetensors"), free_port()
    raw = ((test.images[:, 0] * test.inputs.std + test.inputs.mean) * 255).round().byte()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", "models:/mnistflow@champion"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{finished.folder / 'mlflow.db'}"}
    with answering(command, f"http://127.0.0.1:{port}/ping", tmp_path, environment):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"inputs": raw.tolist()}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            chances = np.array(json.load(answer)["predictions"])
    rows = read_csv(finished.folder / "metrics" / "predictions.csv")
    assert [str(label) for label in chances.argmax(axis=1)] == [row["prediction"] for row in rows]


def test_another_model_is_another_run_and_the_same_again_is_the_same_run(compared: Checkout, tmp_path: Path) -> None:
    client, runs = runs_of(compared)
    assert [run.info.run_name for run in runs] == ["mlp · default", "lenet5 · default"]
    before = [record(client, run) for run in runs]
    assert before[0]["tags"]["dvc.experiment"] == "with-mlp"
    assert before[0]["tags"]["mlflow.source.name"] == "dvc exp run"
    assert before[0]["status"] == "FINISHED"
    assert {key for key in before[0]["params"] if key.startswith("models.")} == {
        f"models.mlp.{name}" for name in ("architecture", "hidden", "activation", "init", "init_std", "dropout")
    }
    assert set(before[0]["metrics"]) == set(before[1]["metrics"])
    assert "with-mlp" in compared.dvc("exp", "show", "--csv")

    again = compared.copy(tmp_path / "checkout")
    again.dvc("repro", "--force", "--single-item", "train", "evaluate", "plot")
    client, runs = runs_of(again)
    assert [record(client, run) for run in runs] == before


def test_an_evaluation_by_other_code_replaces_the_recorded_one(recorded: Checkout) -> None:
    client, (before,) = runs_of(recorded)
    recorded.replace("src/mnistflow/evaluation/measures.py", "loss=round(self.loss, 6)", "loss=round(self.loss + 1, 6)")
    recorded.dvc("repro")
    _, (run,) = runs_of(recorded)
    assert run.info.run_id == before.info.run_id
    assert run.data.metrics["test_loss"] == pytest.approx(before.data.metrics["test_loss"] + 1)
    text = client.download_artifacts(run.info.run_id, "evaluation/evaluate.json", str(recorded.folder))
    assert Path(text).read_text(encoding="utf-8") == recorded.read("metrics/evaluate.json")


@contextlib.contextmanager
def server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A real MLflow server with its store in a folder, artifacts through it; ended with the block."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}", "--artifacts-destination", str(folder)]
    with answering(command, f"http://127.0.0.1:{port}/health", folder, os.environ) as process:
        yield process


def rows_in(store: Path, query: str) -> int:
    """How many rows a query finds in a store, which may not be there yet."""
    with (
        contextlib.suppress(sqlite3.OperationalError),
        contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection,
    ):
        return len(connection.execute(query).fetchall())
    return 0


def test_a_server_that_dies_while_a_network_trains_loses_nothing(
    clean: Checkout, finished: Checkout, tmp_path: Path
) -> None:
    checkout, port = clean.copy(tmp_path / "checkout"), free_port()
    (checkout.folder / "src" / "mnistflow" / "__pycache__").mkdir(exist_ok=True)  # no part of a result
    uri, store = f"http://127.0.0.1:{port}", tmp_path / "server"
    with ThreadPoolExecutor(1) as pool:
        with server(store, port):
            run = pool.submit(
                checkout.dvc, "repro", MLFLOW_TRACKING_URI=uri, TZ="Asia/Tokyo", HOME=str(tmp_path / "home")
            )
            while not rows_in(store / "server.db", "SELECT 1 FROM metrics WHERE key = 'train_loss'"):
                assert not run.done(), run.result()
                time.sleep(0.01)
        output = run.result()
    assert output.count(f"tracking: warning: {uri} could not store the record") == 2  # by train, and by plot
    assert checkout.read("dvc.lock") == finished.read("dvc.lock")  # two clean checkouts, one result
    for name in ("preprocess.json", "train.json", "evaluate.json", "robustness.csv", "history.csv", "steps.csv"):
        assert checkout.read(f"metrics/{name}") == finished.read(f"metrics/{name}")

    # Silent where it was: a listener that never answers.
    with socket.create_server(("127.0.0.1", port)):
        assert "could not store the record" in checkout.run(*TRACK, status=1, PYTHONPATH="src", MLFLOW_TRACKING_URI=uri)

    with server(store, port):
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("mnistflow")
        assert experiment is not None
        (half,) = client.search_runs([experiment.experiment_id])
        assert half.info.status == "RUNNING"
        assert "mnistflow.weights" not in half.data.tags
        checkout.run(*TRACK, PYTHONPATH="src", MLFLOW_TRACKING_URI=uri)
        (whole,) = client.search_runs([half.info.experiment_id])
        assert whole.info.run_id == half.info.run_id
        late, live = record(client, whole), record(*runs_of_first(finished))
    without_ids(late, whole)
    without_ids(live, runs_of_first(finished)[1])
    assert late == live

    # Two at once meet another store that is not there yet, and a third comes later: one run.
    plot = (sys.executable, "stages/plot.py")
    with ThreadPoolExecutor(2) as pool:
        outputs = list(pool.map(lambda command: checkout.run(*command, PYTHONPATH="src"), (TRACK, plot)))
    assert "tracking: warning" not in "".join(outputs)
    local, runs = runs_of(checkout)
    assert len(runs) == 1
    said = f"recorded as run {runs[0].info.run_id} in sqlite:///{checkout.folder / 'mlflow.db'}\n"
    assert outputs[0].endswith(said)
    assert checkout.run(*TRACK, PYTHONPATH="src").endswith(said)
    at_once = record(local, runs[0])
    without_ids(at_once, runs[0])
    assert at_once == live


class Refusing(BaseHTTPRequestHandler):
    """Answers everything with 500."""

    def do_GET(self) -> None:
        self.send_error(500)

    def do_POST(self) -> None:
        self.send_error(500)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def broken_server() -> Iterator[str]:
    """The address of a server that answers, and cannot do anything."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def full_disk(tmp_path: Path, mounted: Callable[[Path, str], Callable[[], None]]) -> str:
    """A store on a disk that is full before its tables are made."""
    mounted(tmp_path / "disk", "size=64k")
    return f"sqlite:///{tmp_path / 'disk' / 'mlflow.db'}"


@pytest.mark.parametrize("store", ["broken_server", "full_disk"])
def test_a_store_that_fails_costs_training_one_warning(
    store: str, recorded: Checkout, request: pytest.FixtureRequest
) -> None:
    uri = request.getfixturevalue(store)
    weights = recorded.folder / "models" / "model.safetensors"
    before = weights.read_bytes()
    weights.unlink()
    output = recorded.run(sys.executable, "stages/train.py", MLFLOW_TRACKING_URI=uri)
    assert output.count("tracking: warning: ") == 1
    assert f"tracking: warning: {uri} could not store the record" in output
    assert weights.read_bytes() == before


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://user:SECRET@host/db",
        "postgresql://user:SEC/RET@SECRET@host:5432/db",
        "http://SECRET@host/api",
        "mysql+pymysql://user:SECRET@host/db?charset=utf8&ssl_key=SECRET&a=b",
        "postgresql://host/db?user=me&password=SECRET",
        "postgresql://host/db?sslpassword=SECRET;x=1",
        "https://host/?access_token=SECRET",
    ],
)
def test_no_password_of_an_address_is_printed(address: str) -> None:
    for text in (address, f"(OperationalError) cannot reach {address}: refused"):
        shown = without_passwords(text)
        assert "SECRET" not in shown
        assert "SEC/RET" not in shown
        assert "host" in shown


def test_a_deleted_experiment_is_named_with_the_way_back(recorded: Checkout) -> None:
    client, (run,) = runs_of(recorded)
    client.delete_experiment(run.info.experiment_id)
    output = recorded.run(*TRACK, status=1, PYTHONPATH="src")
    assert f"mlflow experiments restore --experiment-id {run.info.experiment_id}" in output
    assert "tracking.experiment in params.yaml" in output
    assert "Traceback" not in output
    client.restore_experiment(run.info.experiment_id)
    assert f"recorded as run {run.info.run_id}" in recorded.run(*TRACK, PYTHONPATH="src")


def test_a_ui_that_cannot_start_is_one_line(recorded: Checkout) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        output = recorded.mnistflow("ui", "--port", str(port), status=1)
    assert (
        output == f"mnistflow: port {port} cannot be used (Address already in use); choose another: --port {port + 1}\n"
    )
    with contextlib.closing(sqlite3.connect(recorded.folder / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    output = recorded.mnistflow("ui", "--port", str(free_port()), status=1)
    assert output.startswith("mnistflow: sqlite:///")
    assert "cannot be opened" in output
    assert "mlflow db upgrade" in output
    assert output.count("\n") == 1


def test_links_lead_to_the_port_that_the_ui_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = Tracking(enabled=True, uri=None, experiment="mnistflow")
    assert link(settings, "1", "abc") == "http://127.0.0.1:5000/#/experiments/1/runs/abc"
    keep_ui_port(6001)
    assert link(settings, "1", "abc") == "http://127.0.0.1:6001/#/experiments/1/runs/abc"


def models_of(client: MlflowClient, run: Run) -> list[str]:
    """The states of all logged models that a run has made."""
    found = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    return [str(model.status) for model in found]


def test_a_full_temporary_folder_costs_the_record_one_warning(
    recorded: Checkout, tmp_path: Path, mounted: Callable[[Path, str], Callable[[], None]]
) -> None:
    mounted(tmp_path / "small", "size=128k")
    figures = recorded.folder / "metrics" / "figures"
    before = {path.name: path.read_bytes() for path in figures.iterdir()}
    shutil.rmtree(figures)
    shutil.rmtree(recorded.folder / ".mnistflow" / "onnx")
    recorded.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path / 'new.db'}"
    output = recorded.run(sys.executable, "stages/plot.py", TMPDIR=str(tmp_path / "small"))
    assert output.count("tracking: warning: ") == 1
    assert "No space left on device" in output
    assert {path.name: path.read_bytes() for path in figures.iterdir()} == before

    recorded.run(*TRACK, PYTHONPATH="src")  # once there is room
    client = MlflowClient(recorded.environment["MLFLOW_TRACKING_URI"])
    (run,) = client.search_runs(["1"])
    assert run.info.status == "FINISHED"
    assert models_of(client, run) == ["READY"]


def test_an_export_that_is_killed_costs_the_record_one_warning(recorded: Checkout, tmp_path: Path) -> None:
    """Where memory is short, the system kills what takes most of it."""
    shutil.rmtree(recorded.folder / ".mnistflow" / "onnx")
    recorded.replace(
        "src/mnistflow/export/formats.py",
        "    import onnx\n    import torch\n",
        "    import os\n\n    import onnx\n    import torch\n\n    os.kill(os.getpid(), 9)\n",
    )
    recorded.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path / 'new.db'}"
    output = recorded.run(sys.executable, "stages/plot.py")
    assert output.count("tracking: warning: ") == 1
    assert "the model could not be exported: its process ended with status -9" in output
    assert "drawn into metrics/figures" in output


def test_a_process_killed_while_it_exports_leaves_one_model(recorded: Checkout, tmp_path: Path) -> None:
    recorded.environment["MLFLOW_TRACKING_URI"] = uri = f"sqlite:///{tmp_path / 'new.db'}"
    for place in ("logged_models", "artifacts"):  # killed once the model is there, and once its files are
        environment = {**recorded.environment, "PYTHONPATH": "src"}
        track = (sys.executable, "-m", "mnistflow", "track")
        with subprocess.Popen(track, cwd=recorded.folder, env=environment, stdout=DEVNULL, stderr=DEVNULL) as process:
            while process.poll() is None:
                if place == "logged_models" and rows_in(tmp_path / "new.db", "SELECT 1 FROM logged_models"):
                    break
                if place == "artifacts" and list((recorded.folder / "mlruns").rglob("models/*/artifacts/MLmodel")):
                    break
            assert process.poll() is None
            process.kill()
        client = MlflowClient(uri)
        (run,) = client.search_runs(["1"])
        assert run.info.status == "RUNNING"
        shutil.rmtree(recorded.folder / "mlruns", ignore_errors=True) if place == "logged_models" else None
    recorded.run(*TRACK, PYTHONPATH="src")
    (run,) = client.search_runs(["1"])
    assert run.info.status == "FINISHED"
    assert models_of(client, run) == ["READY"]
    assert run.outputs is not None
    assert len(run.outputs.model_outputs) == 1


def without_ids(found: dict[str, Any], run: Run) -> None:
    """Leave out of a record which run it is, and from which commit."""
    found["tags"] = {key: text.replace(run.info.run_id, "") for key, text in found["tags"].items()}
    found["tags"].pop("mlflow.source.git.commit")


def runs_of_first(checkout: Checkout) -> tuple[MlflowClient, Run]:
    client, (run,) = runs_of(checkout)
    return client, run


SIZES = (10, 20, 30)  # of evaluation's batches, which make other results of the same weights


def test_queued_experiments_at_once_lose_nothing_and_double_nothing(recorded: Checkout) -> None:
    """Four in DVC's queue, three at a time, into a store that is not there yet; they run the code that was queued."""
    (recorded.folder / "mlflow.db").unlink()
    recorded.dvc("exp", "run", "--queue", "-S", "model=mlp", "--name", "mlp")
    recorded.dvc("exp", "run", "--queue", "-S", f"evaluate.batch_size={','.join(map(str, SIZES))}")
    recorded.replace(
        "src/mnistflow/figures/images.py", "def samples(", "raise RuntimeError('edited since')\n\n\ndef samples("
    )
    # The workers keep what it prints to open, and may outlive their work.
    start = ("dvc", "queue", "start", "--jobs", "3")
    subprocess.run(start, cwd=recorded.folder, env=recorded.environment, stdout=DEVNULL, stderr=DEVNULL, check=True)
    try:
        for _ in range(600):
            time.sleep(1)
            if rows_in(recorded.folder / "mlflow.db", "SELECT 1 FROM runs WHERE status = 'FINISHED'") == 4:
                break
        for _ in range(20):  # what DVC has left to do after the last stage
            status = recorded.dvc("queue", "status")
            if not re.search("Queued|Running", status):
                break
        assert status.count("Success") == 4, status
    finally:
        recorded.dvc("queue", "stop", "--kill")
    other, *rest = complete(recorded, 4)
    assert (other["name"], other["tags"]["dvc.experiment"], other["params"]["model"]) == ("mlp · default", "mlp", "mlp")
    assert {run["name"] for run in rest} == {f"lenet5 · default evaluate.batch_size={size}" for size in SIZES}


def test_experiments_in_temporary_copies_lose_nothing_and_double_nothing(recorded: Checkout) -> None:
    """Three at a time, into a store that is not there yet."""
    (recorded.folder / "mlflow.db").unlink()

    def run(size: int) -> str:
        override = f"evaluate.batch_size={size}"
        return recorded.dvc("--wait-for-lock", "exp", "run", "--temp", "-S", override, "--name", f"temp-{size}")

    with ThreadPoolExecutor(3) as pool:
        outputs = list(pool.map(run, SIZES))
    assert "tracking: warning" not in "".join(outputs)
    found = {run["tags"]["dvc.experiment"]: run["params"]["evaluate.batch_size"] for run in complete(recorded, 3)}
    assert found == {f"temp-{size}": str(size) for size in SIZES}


def complete(checkout: Checkout, count: int) -> list[dict[str, Any]]:
    """The records of so many different runs, each with all that belongs to it, those of mlp first."""
    client, runs = runs_of(checkout)
    assert len(runs) == count
    found = sorted((record(client, run) for run in runs), key=lambda each: each["params"]["model"], reverse=True)
    for run in found:
        assert run["status"] == "FINISHED"
        assert {"figures/curves.png", "figures/inside.png", "evaluation/predictions.csv"} < set(run["files"])
        assert [step for step, _ in run["metrics"]["val_accuracy"]] == [1, 2]
        assert len(run["metrics"]["test_accuracy"]) == 1
    assert len({run["tags"]["dvc.experiment"] for run in found}) == count
    champion = client.get_model_version_by_alias("mnistflow", "champion")
    assert models_of(client, client.get_run(str(champion.run_id))) == ["READY"]
    return found


def test_a_training_that_fails_is_a_failed_run(recorded: Checkout) -> None:
    client, (run,) = runs_of(recorded)
    view = "mlflow.sharedViewState.all-runs"
    shown = client.get_experiment(run.info.experiment_id).tags[view]
    assert "test_accuracy" in shown
    client.set_experiment_tag(run.info.experiment_id, view, "{}")  # as another version may have left it
    output = recorded.dvc("exp", "run", "-S", "recipes.default.lr=1e20", status=None)
    assert "train: training diverged: the loss is" in output
    assert "lower lr in the recipe" in output
    _, runs = runs_of(recorded)
    assert [run.info.status for run in runs] == ["FAILED", "FINISHED"]
    assert client.get_experiment(run.info.experiment_id).tags[view] == shown  # by the run that was begun

    # A result that was complete stays complete, whatever becomes of making it again.
    recorded.git("checkout", "--quiet", "params.yaml")
    recorded.dvc("repro")
    recorded.replace(
        "stages/plot.py",
        "        for name, figure in",
        "        raise OSError('no space')\n        for name, figure in",
    )
    assert "plot: no space" in recorded.dvc("repro", status=None)
    _, runs = runs_of(recorded)
    assert [run.info.status for run in runs] == ["FAILED", "FINISHED"]


@pytest.fixture
def params(finished: Checkout) -> Params:
    return load(finished.folder / "params.yaml")


def test_the_environment_names_the_store_then_params_yaml(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    own = params.tracking.model_copy(update={"uri": "http://127.0.0.1:5001"})
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", "/somewhere")
    assert tracking.store_uri(params.tracking) == "sqlite:////somewhere/mlflow.db"
    assert tracking.store_uri(own) == "http://127.0.0.1:5001"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5002")
    assert tracking.store_uri(own) == "http://127.0.0.1:5002"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs/here.db")
    assert tracking.store_uri(own) == "sqlite:////somewhere/runs/here.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////elsewhere/here.db")
    assert tracking.store_uri(own) == "sqlite:////elsewhere/here.db"


def test_what_is_recorded_as_a_param_makes_another_result(finished: Checkout, params: Params) -> None:
    paths = Paths(
        **{name: finished.folder / path for name, path in vars(Paths.load(finished.folder / "dvc.yaml")).items()}
    )
    made = {"device": "cpu", "precision": "fp32", "init_from": None}
    key = tracking.result_key(params, paths)
    assert tracking.result_key(params, paths, made) == key  # what train.json says
    for name, other in (("device", "cuda"), ("precision", "bf16"), ("init_from", "abc")):
        assert tracking.result_key(params, paths, {**made, name: other}) != key
    evaluated = params.evaluate.model_copy(update={"batch_size": 7})
    assert tracking.result_key(params.model_copy(update={"evaluate": evaluated}), paths) != key
    drawn = params.plot.model_copy(update={"dpi": 50})
    assert tracking.result_key(params.model_copy(update={"plot": drawn}), paths) == key


def test_a_run_carries_the_studies_that_its_result_belongs_to(
    recorded: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(recorded.folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    chosen = load(recorded.folder / "params.yaml")
    weights = hashlib.md5((recorded.folder / "models/model.safetensors").read_bytes()).hexdigest()
    other = [("b", "0" * 32, chosen.selected()), ("c", weights, {**chosen.selected(), "evaluate.batch_size": 7})]
    assert tracking.name_study(chosen.tracking, "first", [("a", weights, chosen.selected()), *other])[0] == 1
    assert tracking.name_study(chosen.tracking, "second", other)[0] == 0
    _, (run,) = runs_of(recorded)
    assert {tag: entry for tag, entry in run.data.tags.items() if tag.startswith("study.")} == {"study.first": "a"}
