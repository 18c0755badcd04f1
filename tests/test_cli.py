from __future__ import annotations

import contextlib
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


def test_the_ui_opens_over_the_runs_of_the_project(workspace: Checkout) -> None:
    environment = {**workspace.environment, "PYTHONPATH": "src"}
    command = [*COMMAND, "ui", "--port", "15991"]
    server = Popen(command, cwd=workspace.folder, env=environment, stdout=DEVNULL, stderr=DEVNULL)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen("http://127.0.0.1:15991/health") as answer:
                assert answer.status == 200
                return
            with contextlib.suppress(TimeoutExpired):
                pytest.fail(f"the server ended with status {server.wait(0.3)}")
        pytest.fail("the server did not answer")
    finally:
        server.terminate()
        server.wait(30)
