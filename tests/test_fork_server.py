"""Stages handed over to a process that has everything imported: real processes, real signals."""

from __future__ import annotations

import array
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from mnistflow.pipeline import fork_server

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
    with fork_server.started(environment) as address:
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
import os, tempfile, time
print(os.getcwd(), os.environ["OWN"], "MNISTFLOW_FORK_SERVER" in os.environ, *sys.argv[1:])
print(tempfile.gettempdir(), time.tzname[0])
print("torch._dynamo" in sys.modules, os.getpid())
"""


def test_a_forked_script_runs_as_if_started_directly(address: dict[str, str], tmp_path: Path) -> None:
    command = [*script(tmp_path, REPORT), "one", "two"]
    imported, deadline = "False", time.monotonic() + 60
    while imported == "False" and time.monotonic() < deadline:  # a script that comes early does not wait for all
        process = started(command, address, tmp_path, OWN="mine", TMPDIR=str(tmp_path), TZ="XYZ-1")
        output, _ = process.communicate(timeout=60)
        first, of_environment, second = output.splitlines()
        assert first == f"{tmp_path} mine False one two"
        assert of_environment == f"{tmp_path} XYZ"
        imported, pid = second.split()
        assert int(pid) != process.pid
        assert process.returncode == 0
    assert imported == "True"


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
def test_exit_status_and_output_of_a_fork_are_those_of_the_stage(
    body: str, status: int, output: str, address: dict[str, str], tmp_path: Path
) -> None:
    process = started(script(tmp_path, body), address, tmp_path)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == status
    assert printed.endswith(output)


IMPORTS = """
import importlib, torch
from mnistflow.pipeline.fork_server import LATER_PACKAGES, PACKAGES
asked = []
for owner, name in [(torch.cuda, "is_available"), (torch.cuda, "device_count"), (torch._C, "_cuda_getDeviceCount")]:
    assert hasattr(owner, name)
    setattr(owner, name, lambda *_, name=name: asked.append(name) or 0)
for name in PACKAGES + LATER_PACKAGES:
    importlib.import_module(name)
print(asked)
torch.cuda.device_count()
print(asked)
"""


@pytest.mark.skipif(not hasattr(torch._C, "_cuda_getDeviceCount"), reason="this PyTorch is built without CUDA")
def test_preloaded_imports_do_not_initialise_cuda() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    output = subprocess.check_output([sys.executable, "-c", IMPORTS], env=environment, text=True)
    assert output.splitlines() == ["[]", "['device_count']"]


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


@pytest.mark.parametrize("sent", [0, 2, 4, 12, None])
def test_a_stage_that_dies_before_it_is_answered_ends_no_other(
    sent: int | None, address: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in address.items():
        monkeypatch.setenv(name, value)
    data = json.dumps({"arguments": ["no.py"], "folder": str(tmp_path), "environment": {}}).encode()
    request = (len(data).to_bytes(4, "big") + data)[:sent]
    connection = fork_server.process_for(None)
    assert connection is not None
    with connection, Path(os.devnull).open("r+b") as null:
        rights = array.array("i", [null.fileno()] * 3)
        if request:
            connection.sendmsg([request[:4]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            with contextlib.suppress(BrokenPipeError):  # it has seen enough
                connection.sendall(request[4:])
    process = started(script(tmp_path, REPORT), address, tmp_path, OWN="mine")
    output, _ = process.communicate(timeout=60)
    assert int(output.split()[-1]) != process.pid


def state(pid: int) -> str:
    """As in /proc: T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


def test_ctrl_z_stops_the_script_until_it_is_continued(address: dict[str, str], tmp_path: Path) -> None:
    process = started(script(tmp_path, WAITS), address, tmp_path)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.send_signal(signal.SIGTSTP)
    until(lambda: state(process.pid) == state(pid) == "T")
    process.send_signal(signal.SIGCONT)
    until(lambda: "T" not in (state(process.pid), state(pid)))
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[0] == "asked to end\n"


def until(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it does not come about")


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
    with fork_server.started({**os.environ, "PYTHONPATH": str(ROOT / "src")}) as own:
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
        assert output.splitlines()[-1] == f"False {again.pid}"


FIRST = "stage.start_fork_server()\n"
SECOND = """
import os, time
from pathlib import Path
parent = Path(f"/proc/{os.getppid()}/cmdline").read_text()
print("forked from" if "mnistflow.pipeline.fork_server" in parent else "started by", os.getppid(), flush=True)
time.sleep(float(os.environ["PAUSE"]))
"""
TWO_STAGES = """
stages:
  first: {cmd: python first.py, outs: [first.txt]}
  second: {cmd: python second.py, deps: [first.txt]}
"""


@pytest.fixture
def two_stages(tmp_path: Path) -> Path:
    """A DVC project whose first stage prepares for the second."""
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    (tmp_path / "first.py").write_text(f"{HEAD}{FIRST}open('first.txt', 'w').close()\n", encoding="utf-8")
    (tmp_path / "second.py").write_text(HEAD + SECOND, encoding="utf-8")
    (tmp_path / "dvc.yaml").write_text(TWO_STAGES, encoding="utf-8")
    return tmp_path


def repro(folder: Path, pause: float) -> subprocess.Popen[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return started([sys.executable, "-m", "dvc", "repro"], {"PATH": path}, folder, PAUSE=str(pause))


def process_in(output: str) -> int:
    """The process that the second stage was forked from."""
    return int(output.partition("forked from ")[2].split()[0])


def test_stages_after_check_are_forked_from_one_process_that_ends_with_dvc(two_stages: Path) -> None:
    dvc = repro(two_stages, pause=0)
    output, _ = dvc.communicate(timeout=60)
    assert dvc.returncode == 0, output
    assert "forked from" in output
    assert gone(process_in(output))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_fork_server_ends_when_dvc_is_killed(number: signal.Signals, two_stages: Path) -> None:
    dvc = repro(two_stages, pause=60)
    assert dvc.stdout is not None
    output = next(line for line in dvc.stdout if "forked from" in line)
    for pid in children(dvc.pid) if number == signal.SIGINT else []:  # as Ctrl-C in a terminal, which reaches all
        os.kill(pid, number)
    dvc.send_signal(number)
    assert gone(process_in(output))
    dvc.communicate(timeout=60)
    assert dvc.returncode != 0


def children(pid: int) -> list[int]:
    """Of a process, and theirs."""
    own = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return own + [other for child in own for other in children(child)]
