"""Commands about the runs that MLflow has recorded."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from mnistflow.cli.output import markdown_table, store
from mnistflow.config.params import load
from mnistflow.core.files import project_root
from mnistflow.core.text import for_terminal

__all__ = ["compare", "promote", "restore", "run", "track", "ui"]


def track(every: bool) -> None:
    """Record the result in this folder in MLflow, if it is not recorded yet."""
    from mnistflow.experiments import lineage  # here, because it takes seconds to import

    settings = load().tracking
    if not settings.enabled:
        raise ValueError("tracking.enabled in params.yaml is false; `mnistflow track` needs true")
    try:
        print(f"recorded as run {lineage.record_workspace()} in {store()}", flush=True)
    except ValueError as error:
        if not every:
            raise
        print(f"not recorded: {error}", flush=True)  # an experiment may be under way in it
    if every:
        outcomes = []
        for name, outcome in lineage.record_experiments():
            print(f"{name}: {outcome}", flush=True)
            outcomes.append(outcome)
        for run_id, name in lineage.refresh_names():
            print(f"{name}: now the name of run {run_id}", flush=True)
        failed = sum(outcome.startswith("FAILED") for outcome in outcomes)
        print(f"{len(outcomes) - failed} more experiments recorded")
        if failed:
            raise ValueError(f"{failed} experiments could not be recorded")


def run() -> None:
    """Print the MLflow run of the result in this folder."""
    from mnistflow.experiments import lineage  # here, because it takes seconds to import

    recorded = lineage.run_of_workspace()
    if recorded is None:
        raise ValueError(f"the result in this folder is not recorded in {store()}; `mnistflow track` records it")
    print(f"{recorded.id}  {for_terminal(recorded.name)}  {recorded.status.lower()}")
    print(f"{recorded.page}\nall runs: {recorded.table}")


def restore(wanted: str) -> None:
    """Restore the result of a run into this folder: its params, metrics, weights and figures."""
    from mnistflow.experiments import lineage  # here, because it takes seconds to import

    restored, place = lineage.restore(load().tracking, wanted)
    print(f"{restored.id}  {for_terminal(restored.name)}: {place}; the weights match the recorded ones")


def compare(wanted: Sequence[str], figure: Path) -> None:
    """Print runs side by side: their metrics, and the params in which they differ; draw their curves.

    For two runs on the same test images, also test whether the difference in accuracy is significant.
    """
    from mnistflow import figures, tracking
    from mnistflow.reports import comparison

    params = load()
    runs = [tracking.find(params.tracking, name) for name in wanted]
    print("\n".join(markdown_table(comparison.rows(runs))))
    if len(runs) == 2:
        try:
            print("\n" + comparison.verdict(runs, [tracking.predictions(params.tracking, run.id) for run in runs]))
        except ValueError as error:  # the curves come from the store itself
            print(f"mnistflow: warning: not compared image by image: {error}", file=sys.stderr)
    drawn = {
        name: drawn_curves
        for name in ("val_accuracy", "test_accuracy", "train_loss")
        if (drawn_curves := comparison.curves(runs, name))
    }
    figures.save(figures.comparison(drawn), figure, dpi=params.plot.dpi)
    print(f"\ncurves drawn into {figure}")


def promote(wanted: str) -> None:
    """Make the model of a run the champion of the registered model."""
    from mnistflow import tracking  # here, because it takes seconds to import

    settings = load().tracking
    promoted = tracking.find(settings, wanted)
    print(f"{for_terminal(promoted.name)} is now {tracking.promote(settings, promoted.id)}")


def ui(port: int) -> None:
    """Start the MLflow UI for this project's runs, on 127.0.0.1."""
    from mnistflow.tracking import connect, failure, keep_ui_port, shown_uri, store_uri

    settings = load().tracking
    uri = store_uri(settings)
    if uri.startswith("http"):
        raise ValueError(f"runs are recorded on a server, which has its own UI: {shown_uri(settings)}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ValueError(
                f"port {port} cannot be used ({error.strerror}); choose another: --port {port + 1}"
            ) from None
    try:
        connect(settings)  # makes the store, or says why it cannot be opened
    except Exception as error:
        raise ValueError(failure(settings, "cannot be opened", error)) from error
    keep_ui_port(port)
    os.chdir(project_root())
    # One reader needs one process, and none of the eight that wait for jobs of language models.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"])
