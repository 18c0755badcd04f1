"""Stages handed over to a process that has everything imported: real processes, real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from mnistflow.pipeline import warm

if sys.platform != "linux":
    pytest.skip("only Linux has such a process", allow_module_level=True)

HEAD = f"""
import sys
sys.path.insert(0, {str(ROOT / "src")!r})
from mnistflow.pipeline import stage
stage.begin()
"""


@pytest.fixture(scope="module")
def address() -> Iterator[dict[str, str]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with warm.started(environment) as address:
        yield address


def script(tmp_path: Path, body: str) -> list[str]:
    path = tmp_path / "script.py"
    path.write_text(HEAD + body, encoding="utf-8")
    return [sys.executable, str(path)]


def started(command: list[str], address: dict[str, str], folder: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **address, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


REPORT = """
import os
print(os.getcwd(), os.environ["OWN"], "MNISTFLOW_WARM" in os.environ, *sys.argv[1:])
print("torch" in sys.modules, os.getpid())
"""


def test_a_script_runs_there_as_it_would_here(address: dict[str, str], tmp_path: Path) -> None:
    command = [*script(tmp_path, REPORT), "one", "two"]
    process = started(command, address, tmp_path, OWN="mine")
    output, _ = process.communicate(timeout=60)
    first, second = output.splitlines()
    assert first == f"{tmp_path} mine False one two"
    imported, pid = second.split()
    assert imported == "True"
    assert int(pid) != process.pid
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("body", "status", "output"),
    [
        ("sys.exit(3)", 3, ""),
        ("print('before'); sys.exit('train: wrong')", 1, "before\ntrain: wrong\n"),
        ("import atexit; atexit.register(print, 'at the end'); print('first')", 0, "first\nat the end\n"),
        ("raise LookupError('oh')", 1, "LookupError: oh\n"),
        ("import os; os.kill(os.getpid(), 9)", 137, ""),
        ("print('done')", 0, "done\n"),
    ],
)
def test_it_ends_here_as_it_ends_there(
    body: str, status: int, output: str, address: dict[str, str], tmp_path: Path
) -> None:
    process = started(script(tmp_path, body), address, tmp_path)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == status
    assert printed.endswith(output)


WAITS = """
import os, signal, time
def end(number, frame):
    os.write(1, b"asked to end\\n")  # print may be at work itself
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, end)
print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_passed_on(number: signal.Signals, address: dict[str, str], tmp_path: Path) -> None:
    process = started(script(tmp_path, WAITS), address, tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    assert process.communicate(timeout=60)[0] == "asked to end\n"
    assert process.returncode == 7


def gone(pid: int) -> bool:
    for _ in range(600):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_a_stage_that_is_killed_takes_its_script_along(address: dict[str, str], tmp_path: Path) -> None:
    process = started(script(tmp_path, WAITS), address, tmp_path)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    assert gone(pid)
    process.stdout.close()


def test_a_process_that_is_killed_takes_its_scripts_along_and_later_ones_start_by_themselves(tmp_path: Path) -> None:
    with warm.started({**os.environ, "PYTHONPATH": str(ROOT / "src")}) as own:
        process = started(script(tmp_path, WAITS), own, tmp_path)
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(parent, signal.SIGKILL)
        assert gone(pid)
        assert process.wait(timeout=60) == 1
        process.stdout.close()
        again = started(script(tmp_path, REPORT), own, tmp_path, OWN="mine")
        output, _ = again.communicate(timeout=60)
        assert again.returncode == 0
        assert output.splitlines()[1] == f"False {again.pid}"
