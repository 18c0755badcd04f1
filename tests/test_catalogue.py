"""The models of real checkouts, recorded by the real pipeline."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Checkout
from mlflow import MlflowClient
from mlflow.entities import Run
from test_tracking import runs_of

from mnistflow.core.files import read_csv, read_json, sha256
from mnistflow.core.tensors import read_split
from mnistflow.export import formats
from mnistflow.recognition.onnx_graph import cached_graph_path
from mnistflow.serving import catalogue
from mnistflow.serving.catalogue import open_predictor

WEIGHTS = Path("models/model.safetensors")


@pytest.fixture
def here(compared: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A checkout with two recorded runs, to be changed at will, which this process works in."""
    checkout = compared.copy(tmp_path / "checkout")
    monkeypatch.chdir(checkout.folder)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return checkout


def runs(checkout: Checkout) -> tuple[MlflowClient, Run, Run]:
    """The first run, and that of the experiment with another model, whose result is in the folder."""
    client, found = runs_of(checkout)
    one, other = sorted(found, key=lambda run: "dvc.experiment" in run.data.tags)
    return client, one, other


def test_the_result_of_the_folder_answers_at_once_and_as_the_pipeline_did(finished: Checkout) -> None:
    program = """
import sys
from mnistflow.serving.catalogue import open_predictor
import numpy as np
predictor = open_predictor(None)
assert not {"torch", "mlflow"} & set(sys.modules)
print(predictor.identity.name, predictor.identity.test_accuracy, predictor.identity.weights, predictor.identity.run)
from mnistflow.export import formats
from mnistflow.core.tensors import read_split
from pathlib import Path
images = read_split(Path("data/processed/test.safetensors")).raw_images()
print(*predictor.probabilities(images).argmax(axis=1))
"""
    output = finished.run(sys.executable, "-c", program, PYTHONPATH="src")
    figures = read_json(finished.folder / "metrics" / "evaluate.json")
    first, labels = output.splitlines()  # and no line that a graph was made: the record has left one
    assert first == f"lenet5 · default {figures['accuracy']} {sha256(finished.folder / WEIGHTS)} None"
    rows = read_csv(finished.folder / "metrics" / "predictions.csv")
    assert labels.split() == [row["prediction"] for row in rows]


def test_weights_graph_and_served_model_agree_on_every_test_image(here: Checkout) -> None:
    _, _, run = runs(here)
    program = """
import sys
import mlflow, numpy as np
mlflow.set_tracking_uri("sqlite:///mlflow.db")
np.save(sys.argv[3], mlflow.pyfunc.load_model(sys.argv[1]).predict(np.load(sys.argv[2])))
"""
    images = read_split(Path("data/processed/test.safetensors")).raw_images()
    np.save("raw.npy", images)
    here.run(sys.executable, "-c", program, run.data.tags["mnistflow.model"], "raw.npy", "served.npy")
    expected = formats.eager(WEIGHTS)(images)
    for found in (open_predictor(None).probabilities(images), np.load("served.npy")):
        parity = formats.parity(found, expected)
        assert (parity.images, parity.agreeing) == (360, 360)
        assert parity.largest_difference < 1e-5


def test_a_model_is_found_by_any_of_its_names(here: Checkout) -> None:
    _, one, other = runs(here)
    by_run = {one.info.run_id: "lenet5 · default", other.info.run_id: "mlp · default"}
    names = {
        one.info.run_id: one,
        one.info.run_id[:8]: one,
        "lenet5 · default": one,
        "with-mlp": other,
        "mlp · default": other,
        "models:/mnistflow/1": one,
    }
    for name, run in names.items():
        identity = open_predictor(name).identity
        assert (identity.run, identity.name) == (run.info.run_id, by_run[run.info.run_id])
        assert identity.weights == run.data.tags["mnistflow.weights"]
        assert identity.test_accuracy == run.data.metrics["test_accuracy"]
    champion = open_predictor("models:/mnistflow@champion").identity.run
    listed = catalogue.recorded()
    assert [version.id for version in listed] == [other.info.run_id, one.info.run_id]  # the newest first
    assert [version.id for version in listed if version.is_champion] == [champion]
    assert [(entry.model, entry.experiment) for entry in listed] == [("mlp", "with-mlp"), ("lenet5", None)]
    assert [element.weights for element in listed] == [run.data.tags["mnistflow.weights"] for run in (other, one)]
    assert [each.test_accuracy for each in listed] == [run.data.metrics["test_accuracy"] for run in (other, one)]
    assert len(catalogue.recorded(1)) == 1

    assert open_predictor(WEIGHTS).identity.name == "model.safetensors"
    shutil.copy(cached_graph_path(sha256(WEIGHTS)), "own.onnx")
    assert open_predictor("own.onnx").identity.weights == open_predictor(None).identity.weights
    assert catalogue.source("with-mlp").weights.read_bytes() == WEIGHTS.read_bytes()


def test_a_run_answers_without_pytorch_from_its_own_graph(here: Checkout, capfd: pytest.CaptureFixture[str]) -> None:
    _, one, _ = runs(here)
    weights = one.data.tags["mnistflow.weights"]
    graph = cached_graph_path(weights)
    expected = graph.read_bytes()
    shutil.rmtree(graph.parent)
    assert open_predictor(one.info.run_id).identity.weights == weights
    assert graph.read_bytes() == expected
    graph.write_bytes(expected[:1000])  # damaged: fetched anew
    assert open_predictor(one.info.run_id).identity.weights == weights
    assert graph.read_bytes() == expected
    assert "making" not in capfd.readouterr().err


def test_a_run_that_recorded_no_graph_gets_one(here: Checkout, capfd: pytest.CaptureFixture[str]) -> None:
    _, one, _ = runs(here)
    graph = cached_graph_path(one.data.tags["mnistflow.weights"])
    shutil.rmtree(graph.parent)
    artifacts = Path(one.info.artifact_uri.removeprefix("file://"))
    (artifacts / "onnx").rename(artifacts / "elsewhere")  # of the checkout that this one is a copy of
    try:
        assert open_predictor(one.info.run_id).identity.run == one.info.run_id
    finally:
        (artifacts / "elsewhere").rename(artifacts / "onnx")
    assert "making the ONNX graph of " in capfd.readouterr().err
    assert graph.is_file()


def test_the_graph_is_made_once_where_it_is_missing_or_damaged(
    here: Checkout, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = cached_graph_path(sha256(WEIGHTS))
    notice = f"mnistflow: making the ONNX graph of {WEIGHTS}, once\n"
    graph.unlink()
    for expected in (notice, ""):
        open_predictor(None)
        assert capfd.readouterr().err == expected
    graph.write_bytes(graph.read_bytes()[:-5])
    for expected in (notice, ""):
        open_predictor(None)
        assert capfd.readouterr().err == expected


def test_an_accuracy_that_other_weights_had_is_not_claimed(here: Checkout) -> None:
    assert open_predictor(None).identity.test_accuracy is not None
    other = catalogue.source("lenet5 · default").weights
    shutil.copy(other, "other.safetensors")
    WEIGHTS.unlink()
    shutil.copy("other.safetensors", WEIGHTS)
    assert open_predictor(None).identity.test_accuracy is None
    Path("dvc.lock").unlink()
    assert open_predictor(None).identity.test_accuracy is None


def test_a_missing_model_gives_one_clear_message(here: Checkout) -> None:
    Path("notes.txt").touch()
    Path("bad.safetensors").write_text("bad", encoding="utf-8")
    for wanted, message in {
        "gone.safetensors": "there is no file gone.safetensors",
        "gone.onnx": "there is no file gone.onnx",
        "bad.safetensors": "bad.safetensors is damaged",
        "notes.txt": "notes.txt is not a model; weights files end with .safetensors, ONNX files with .onnx",
        "with-mpl": "there is no run 'with-mpl'; did you mean 'with-mlp'? the newest are:",
        "models:/mnistflow": "'models:/mnistflow' is not a version; use models:/NAME@ALIAS or models:/NAME/VERSION",
        "models:/mnistflow@king": "has no models:/mnistflow@king",
        "models:/mnistflow/99": "has no models:/mnistflow/99",
    }.items():
        with pytest.raises(ValueError, match="^.*" + message.replace("?", "[?]").replace("(", "[(]")):
            open_predictor(wanted)
    with pytest.raises(ValueError, match=r"gone\.onnx is an ONNX file; a weights file"):
        catalogue.source("gone.onnx")
    WEIGHTS.unlink()
    with pytest.raises(ValueError, match=r"there is no model in this folder yet; `dvc repro` \(or `make repro`\)"):
        open_predictor(None)
