"""A project that is moved or copied along with its MLflow store."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest
from conftest import Checkout
from mlflow import MlflowClient

from mnistflow import tracking
from mnistflow.config.params import load
from mnistflow.tracking.relocation import LOCATIONS


def artifacts(checkout: Checkout) -> list[Path]:
    """The files of its MLflow store, without the bytecode that loading a model leaves beside its code."""
    return sorted(path for path in (checkout.folder / "mlruns").rglob("*") if "__pycache__" not in path.parts)


def locations(database: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        rows = [connection.execute(f"SELECT {column} FROM {table}").fetchall() for table, column in LOCATIONS]
    return [location for found in rows for (location,) in found if location]


@pytest.fixture
def moved(finished: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A copy of the finished checkout, in a folder whose name has to be quoted in addresses."""
    checkout = Checkout(tmp_path / "é #%20 ?&")
    checkout.folder.mkdir()
    for name in ("params.yaml", "dvc.yaml", "mlflow.db"):
        shutil.copy(finished.folder / name, checkout.folder / name)
    shutil.copytree(finished.folder / "mlruns", checkout.folder / "mlruns")
    monkeypatch.chdir(checkout.folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(checkout.folder))
    return checkout


def test_a_copied_project_records_in_itself(
    moved: Checkout, finished: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    database = moved.folder / "mlflow.db"
    before = artifacts(finished)
    old = locations(database)
    elsewhere = "file:///elsewhere/artifacts"
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0", (elsewhere,))

    settings = load(moved.folder / "params.yaml").tracking
    run = tracking.find(settings, "lenet5 · default")
    printed = capsys.readouterr().err
    assert f"this project has moved from {finished.folder}" in printed
    assert len(printed.splitlines()) == 1

    # Its artifacts are read and written here, and what is not of this project stays.
    assert tracking.predictions(settings, run.id)
    assert tracking.weights_of(settings, run.id).is_relative_to(moved.folder)
    tracking.attach(settings, run.id, "text", "report/text.txt")
    assert artifacts(finished) == before
    assert list((moved.folder / "mlruns").rglob("text.txt"))
    new = locations(database)
    assert len(new) == len(old)
    assert elsewhere in new
    assert not [location for location in new if str(finished.folder) in location]
    client = MlflowClient(tracking.store_uri(settings))
    version = client.get_model_version_by_alias("mnistflow", "champion")
    assert client.get_model_version_download_uri("mnistflow", version.version)
    assert any((moved.folder / "mlruns").rglob("MLmodel"))

    # As it was before, beside; and nothing is to be done a second time.
    backup = moved.folder / "mlflow.db.before-move"
    assert set(locations(backup)) >= {location for location in old if location.startswith("file:")}
    kept = backup.stat()
    tracking.repair_locations(settings)
    assert backup.stat().st_mtime_ns == kept.st_mtime_ns
    assert capsys.readouterr().err == ""

    # Another project that records into this store keeps its own artifacts.
    other = "file:///other/mlruns"
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0", (other,))
    tracking.repair_locations(settings)
    assert other in locations(database)


def test_a_store_outside_of_the_project_is_left_alone(
    moved: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared.db"
    shutil.copy(moved.folder / "mlflow.db", shared)
    before = shared.read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shared}")
    tracking.repair_locations(load(moved.folder / "params.yaml").tracking)
    assert shared.read_bytes() == before


@pytest.mark.parametrize("address", ["./runs", "runs", "file:runs", "file:./runs"])
def test_a_relative_file_store_is_in_the_main_repository(
    address: str, moved: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"  # as DVC makes them for experiments
    copy.mkdir()
    monkeypatch.chdir(copy)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert tracking.store_uri(load(moved.folder / "params.yaml").tracking) == (moved.folder / "runs").as_uri()


def test_names_of_stores_elsewhere_stay(moved: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(moved.folder / "params.yaml").tracking
    for address in (
        "databricks",
        "databricks://profile",
        "file:///absolute/runs",
        "sqlite:////absolute.db",
        "http://a",
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        assert tracking.store_uri(settings) == address


def test_relative_stores_outlive_a_temporary_copy(finished: Checkout, tmp_path: Path) -> None:
    checkout = finished.copy(tmp_path / "checkout")
    output = checkout.dvc(
        *("exp", "run", "--temp", "--name", "one", "-S", "evaluate.batch_size=100"),
        MLFLOW_TRACKING_URI="./runs",
        MLFLOW_ALLOW_FILE_STORE="true",
        MLFLOW_REGISTRY_URI="sqlite:///registry.db",
    )
    assert "tracking: warning" not in output
    registered = MlflowClient(f"sqlite:///{checkout.folder / 'registry.db'}").search_model_versions("")
    assert len(registered) == 1
    assert registered[0].run_id in {path.name for path in (checkout.folder / "runs").glob("*/*")}
