"""Where runs are recorded, and who writes there at the moment."""

from __future__ import annotations

import json
import logging
import os
import re
from typing import TYPE_CHECKING

from filelock import FileLock

from mnistflow.files import project_root
from mnistflow.params import Tracking

if TYPE_CHECKING:  # mlflow takes seconds to import, and is not needed where tracking is off
    from mlflow import MlflowClient

__all__ = ["ALL_RUNS", "connect", "failure", "link", "lock", "probe", "shown_uri", "store_uri", "table_link", "view"]

LOCK_SECONDS = 60
ALL_RUNS = "all-runs"  # the name of a view
PROBE_SECONDS = 3  # a server that takes longer to say that it is there counts as away


def store_uri(tracking: Tracking) -> str:
    """Where runs are recorded: ``MLFLOW_TRACKING_URI``, else what params.yaml says, else a file of the project."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or tracking.uri or "sqlite:///mlflow.db"
    place = uri.removeprefix("sqlite:///")
    return uri if place == uri else f"sqlite:///{project_root() / place}"  # a relative one would go with DVC's copies


def connect(tracking: Tracking) -> tuple[MlflowClient, str]:
    """Open the store, and find the experiment's id or make it.

    Raises:
        Exception: the store does not answer, or not as it should; of many kinds.
    """
    uri = store_uri(tracking)
    probe(tracking)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # seconds, where MLflow would wait 120,
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # and that 7 times over
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(uri)
    with lock("store"):  # several processes that set up one new database break each other
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(tracking.experiment)
        if experiment is not None:
            return client, experiment.experiment_id
        # MLflow's own default is relative to the folder of whoever comes first.
        place = (project_root() / "mlruns").as_uri() if uri.startswith("sqlite:") else None
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return client, client.create_experiment(tracking.experiment, artifact_location=place, tags=tags)


def view(name: str, condition: str = "") -> dict[str, str]:
    """A view of the UI's table of runs, as a tag of their experiment: the figures and params that people choose by.

    MLflow keeps the views that users share in such tags, as the state of its page in JSON.

    Args:
        name: that the address of the page calls the view by.
        condition: that its runs meet, as MLflow's search takes it.
    """
    metrics = ("test_accuracy", "best_val_accuracy", "test_loss", "parameters", "train_seconds")
    params = ("model", "recipe", "dataset", "seed")
    state = {
        "searchFilter": condition,
        "selectedColumns": [*(f"metrics.`{each}`" for each in metrics), *(f"params.`{each}`" for each in params)],
        "orderByKey": "metrics.`test_accuracy`",
        "orderByAsc": False,
    }
    return {f"mlflow.sharedViewState.{name}": json.dumps(state)}


def probe(tracking: Tracking) -> None:
    """Find out soon whether a server is there, where a request to a silent one would wait for long.

    Raises:
        OSError: nothing answers.
    """
    uri = store_uri(tracking)
    if uri.startswith("http"):
        import requests

        requests.get(f"{uri.rstrip('/')}/health", timeout=PROBE_SECONDS)  # any answer will do


def lock(name: str) -> FileLock:
    """A lock between the processes of this project and its experiments."""
    folder = project_root() / ".mnistflow"
    folder.mkdir(exist_ok=True)
    return FileLock(folder / f"{name}.lock", timeout=LOCK_SECONDS)


def link(tracking: Tracking, experiment: str, run_id: str) -> str:
    """The page of a run; where the store is a file, that of `make ui`."""
    return f"{_server(tracking)}/#/experiments/{experiment}/runs/{run_id}"


def table_link(tracking: Tracking, experiment: str, name: str) -> str:
    """The page with a table of runs, as a view shows it."""
    return f"{_server(tracking)}/#/experiments/{experiment}/runs?viewStateShareKey={name}"


def _server(tracking: Tracking) -> str:
    return shown_uri(tracking).rstrip("/") if store_uri(tracking).startswith("http") else "http://127.0.0.1:5000"


def failure(tracking: Tracking, what: str, error: Exception) -> str:
    """One line that says which store failed at what, without a password that may be in its URI."""
    said = (str(error).strip() or repr(error)).splitlines()[0]
    return f"{shown_uri(tracking)} {what} ({type(error).__name__}: {_without_password(said)})"


def shown_uri(tracking: Tracking) -> str:
    """The store's URI as it may be printed."""
    return _without_password(store_uri(tracking))


def _without_password(uri: str) -> str:
    return re.sub(r"//[^/@]*@", "//***@", uri)
