"""Running DVC experiments, several at once, each in a copy of the repository."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from mnistflow.core.files import project_root
from mnistflow.pipeline import fork_server, git
from mnistflow.pipeline.stage import STUDY

__all__ = ["Ended", "Planned", "override", "run"]


@dataclass(frozen=True)
class Planned:
    """An experiment to run."""

    name: str
    overrides: tuple[str, ...]  # as `dvc exp run -S` takes them


@dataclass(frozen=True)
class Ended:
    """An experiment that has been run."""

    planned: Planned
    status: int  # 0: it came to its end
    seconds: float
    log: Path

    @property
    def reason(self) -> str:
        """Why it failed, in one line: what the stage said, else what DVC did, else the last thing that was printed."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        if failed := re.search(r"^ERROR: failed to reproduce '(\w+)'", text, re.MULTILINE):
            printed = text[: failed.start()].rpartition(f"\n{failed[1]}: ")
            if printed[0]:
                return " ".join(f"{failed[1]}: {printed[2]}".split())
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR: ")]
        return next(reversed(errors or lines), "it printed nothing")


def override(document: Mapping[str, JsonValue], path: str, value: JsonValue) -> str:
    """A change of params.yaml as `dvc exp run -S` takes it; a key that the file has not is added."""
    node: JsonValue = dict(document)
    for key in path.split("."):
        if not isinstance(node, dict) or key not in node:
            return f"+{path}={json.dumps(value)}"
        node = node[key]
    return f"{path}={json.dumps(value)}"


def run(waiting: Sequence[Planned], jobs: int, logs: Path) -> Iterator[Planned | Ended]:
    """Run experiments, each in a copy of the repository; yield each when it is started and when it has ended.

    They are run as `dvc exp run --temp`, not through DVC's queue: its workers live on in the background when this
    process ends, and a killed one leaves its task `Running` for ever. When this iterator is closed or interrupted, the
    experiments that have not ended are.

    Args:
        waiting: what to run, in this order.
        jobs: how many at once.
        logs: a folder for what each of them prints.

    Raises:
        ValueError: DVC would lose experiments of this project; none was started.
    """
    git.check_copies_are_supported(project_root())
    logs.mkdir(parents=True, exist_ok=True)
    if not waiting:
        return
    environment = {
        **os.environ,
        STUDY: str(os.getpid()),  # a stage ends with it
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # where stages find python
        # Threads that wait for work leave the cores to the other jobs; the same bytes, three times as fast.
        **({"OMP_WAIT_POLICY": "PASSIVE"} if jobs > 1 else {}),
    }
    with fork_server.started(environment) as address:
        yield from _run(list(waiting), jobs, logs, {**environment, **address})


def _run(waiting: list[Planned], jobs: int, logs: Path, environment: Mapping[str, str]) -> Iterator[Planned | Ended]:
    running: dict[subprocess.Popen[bytes], tuple[Planned, float, Path]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                planned = waiting.pop(0)
                log = logs / f"{planned.name}.log"
                sets = [part for override_ in planned.overrides for part in ("-S", override_)]
                command = [sys.executable, "-m", "dvc", "--wait-for-lock"]
                command += ["exp", "run", "--temp", "--name", planned.name, *sets]
                with log.open("wb") as file:
                    process = subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=file,
                        stderr=subprocess.STDOUT,
                        env=environment,
                        cwd=project_root(),
                        start_new_session=True,  # an interruption is passed on below, to the stage as well
                    )
                running[process] = (planned, time.perf_counter(), log)
                yield planned
            time.sleep(0.2)
            for process in [process for process in running if process.poll() is not None]:
                planned, started, log = running.pop(process)
                yield Ended(planned, process.returncode, time.perf_counter() - started, log)
    finally:
        for signal_number, patience in ((signal.SIGINT, 20.0), (signal.SIGKILL, 5.0)):
            alive = [process for process in running if process.poll() is None]
            for process in alive:
                os.killpg(process.pid, signal_number)
            deadline = time.monotonic() + patience
            for process in alive:
                try:
                    process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    continue
