"""Where runs are recorded, and who writes there at the moment."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from filelock import FileLock

from mnistflow.config.params import Tracking
from mnistflow.core.files import project_root
from mnistflow.tracking.relocation import ARTIFACTS, relocate

if TYPE_CHECKING:  # mlflow takes seconds to import, and is not needed where tracking is off
    from mlflow import MlflowClient

__all__ = [
    "ALL_RUNS",
    "connect",
    "failure",
    "keep_ui_port",
    "link",
    "lock",
    "probe",
    "repair_locations",
    "shown_uri",
    "store_uri",
    "table_link",
    "view",
    "without_passwords",
]

LOCK_SECONDS = 60
SECRET = r"[\w.-]*(?:password|passwd|pwd|pass|token|secret|key|credential)[\w.-]*"  # names in the query of an address
UI_PORT = 5000  # of `mnistflow ui`, where none was named
ALL_RUNS = "all-runs"  # the name of a view
PROBE_SECONDS = 3  # a server that takes longer to say that it is there counts as away


def store_uri(tracking: Tracking) -> str:
    """Where runs are recorded: ``MLFLOW_TRACKING_URI``, else what params.yaml says, else a file of the project."""
    return _absolute(os.environ.get("MLFLOW_TRACKING_URI") or tracking.uri or "sqlite:///mlflow.db")


def _absolute(uri: str) -> str:
    """An address of a store whose path starts at the main repository: a relative one would go with DVC's copies."""
    database = re.fullmatch(r"(sqlite(?:\+\w+)?:///)([^?]*)(.*)", uri, re.DOTALL)
    if database is not None:
        scheme, place, query = database.groups()
        if place in ("", ":memory:") or place.startswith("/"):
            return uri
        # SQLAlchemy takes what stands behind a `?` for options.
        root = str(project_root()).replace("%", "%25").replace("?", "%3F")
        return f"{scheme}{root}/{place}{query}"
    scheme, colon, place = uri.partition(":")
    if uri.startswith("databricks"):  # a name, with or without a colon
        return uri
    if not colon or len(scheme) == 1:  # a path, of a drive perhaps
        return (project_root() / uri).as_uri()
    if scheme == "file" and not place.startswith("/"):
        return (project_root() / unquote(place)).as_uri()
    return uri


def repair_locations(tracking: Tracking) -> None:
    """Where this project has been moved or copied, let the store in it name this folder; called before it is opened.

    Raises:
        sqlite3.Error: the store cannot be read or written.
        OSError: neither can its copy.
    """
    database = re.fullmatch(r"sqlite(?:\+\w+)?:///(/[^?]*)(?:\?.*)?", store_uri(tracking), re.DOTALL)
    if database is not None:
        with lock("store"):
            relocate(Path(unquote(database[1])), project_root())


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
    if registry := os.environ.get("MLFLOW_REGISTRY_URI"):
        mlflow.set_registry_uri(_absolute(registry))
    repair_locations(tracking)
    with lock("store"):  # several processes that set up one new database break each other
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(tracking.experiment)
        if experiment is not None and experiment.lifecycle_stage == "deleted":
            raise ValueError(
                f"its experiment {tracking.experiment!r} is deleted; restore it: mlflow experiments restore "
                f"--experiment-id {experiment.experiment_id}, or use another: tracking.experiment in params.yaml"
            )
        if experiment is not None:
            return client, experiment.experiment_id
        # MLflow's own default is relative to the folder of whoever comes first.
        place = (project_root() / ARTIFACTS).as_uri() if uri.startswith("sqlite:") else None
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
        "selectedColumns": [*(f"metrics.`{metric}`" for metric in metrics), *(f"params.`{param}`" for param in params)],
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
    return (
        shown_uri(tracking).rstrip("/") if store_uri(tracking).startswith("http") else f"http://127.0.0.1:{_ui_port()}"
    )


def keep_ui_port(port: int) -> None:
    """Remember the port of the UI that is being started, for the links that are printed from now on."""
    with contextlib.suppress(OSError):  # links then lead to the usual port
        path = project_root() / ".mnistflow" / "ui-port"
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(port), encoding="utf-8")


def _ui_port() -> int:
    with contextlib.suppress(OSError, ValueError):
        return int((project_root() / ".mnistflow" / "ui-port").read_text(encoding="utf-8"))
    return UI_PORT


def failure(tracking: Tracking, what: str, error: Exception) -> str:
    """One line that says which store failed at what, without a password that may be in its URI."""
    reason = (str(error).strip() or repr(error)).splitlines()[0]
    return f"{shown_uri(tracking)} {what} ({type(error).__name__}: {without_passwords(reason)})"


def shown_uri(tracking: Tracking) -> str:
    """The store's URI as it may be printed."""
    return without_passwords(store_uri(tracking))


def without_passwords(text: str) -> str:
    """The text with the user's name and password of every address in it hidden, and what is secret in its query.

    An unquoted password may contain ``/`` and ``@`` itself: all up to the last ``@`` of the address goes.
    """
    text = re.sub(r"://[^\s'\"]*@", "://***@", text)
    return re.sub(rf"(?i)([?&;](?:{SECRET})=)[^&;\s'\")]*", r"\1***", text)
