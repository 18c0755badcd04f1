from __future__ import annotations

import contextlib
import socket
import sys
import urllib.request
from pathlib import Path
from subprocess import DEVNULL, Popen, TimeoutExpired

import pytest
from conftest import Checkout

from mnistflow.files import read_json

COMMAND = (sys.executable, "-m", "mnistflow")


def test_help_names_every_command(clean: Checkout) -> None:
    output = clean.run(*COMMAND, "--help", PYTHONPATH="src")
    for command in ("show", "track", "ui"):
        assert f"\n    {command} " in output
    assert "mnistflow: error: the following arguments are required: command" in clean.run(
        *COMMAND, status=2, PYTHONPATH="src"
    )


def test_show_prints_the_result_and_what_to_try_next(finished: Checkout) -> None:
    output = finished.run(*COMMAND, "show", PYTHONPATH="src")
    figures = read_json(finished.folder / "metrics" / "evaluate.json")
    assert output.splitlines()[1] == "lenet5 · default on digits"
    assert f"{float(str(figures['accuracy'])):.2%} (" in output
    assert "61,706 parameters, trained on " in output
    assert "dvc exp run -S model=mlp" in output


def test_show_without_a_result_says_what_to_do(clean: Checkout, tmp_path: Path) -> None:
    output = clean.run(*COMMAND, "show", status=1, PYTHONPATH="src")
    assert output.startswith("mnistflow: there is no result in this folder yet")
    assert "dvc repro" in output
    empty = Checkout(tmp_path)
    source = clean.folder / "src"
    assert "dvc.yaml cannot be read" in empty.run(*COMMAND, "show", status=1, PYTHONPATH=str(source))


def test_track_refuses_a_result_that_is_not_that_of_the_params(workspace: Checkout) -> None:
    workspace.replace("params.yaml", "model: lenet5", "model: mlp")
    output = workspace.run(*COMMAND, "track", status=1, PYTHONPATH="src")
    assert output.startswith("mnistflow: the result in this folder is not that of its params and code; `dvc repro`")
    assert "params.yaml:" in output
    workspace.replace("params.yaml", "enabled: true", "enabled: false")
    assert "tracking.enabled in params.yaml is false" in workspace.run(*COMMAND, "track", status=1, PYTHONPATH="src")


def test_a_server_has_its_own_ui(clean: Checkout) -> None:
    server = "http://127.0.0.1:9"
    output = clean.run(*COMMAND, "ui", status=1, PYTHONPATH="src", MLFLOW_TRACKING_URI=server)
    assert output == f"mnistflow: runs are recorded on a server, which has its own UI: {server}\n"


def test_the_ui_opens_over_the_runs_of_the_project(workspace: Checkout) -> None:
    environment = {**workspace.environment, "PYTHONPATH": "src"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*COMMAND, "ui", "--port", str(port)]
    server = Popen(command, cwd=workspace.folder, env=environment, stdout=DEVNULL, stderr=DEVNULL)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
                assert answer.status == 200
                return
            with contextlib.suppress(TimeoutExpired):
                pytest.fail(f"the server ended with status {server.wait(0.3)}")
        pytest.fail("the server did not answer")
    finally:
        server.terminate()
        server.wait(30)
