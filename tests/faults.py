"""Killing what runs, at any moment, and looking at what is left: for the tests, and for benchmarks.faults."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from conftest import COMMAND, Checkout
from mlflow import MlflowClient

from mnistflow.config.paths import Paths
from mnistflow.core.files import read_csv, read_json, read_yaml
from mnistflow.core.tensors import read_split, read_tensors
from mnistflow.models import load

HANGS = 300  # seconds after which a process that should have ended counts as hanging, however slow the machine
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)

# What a stage prints when it has been imported, and its work begins.
BEGINS = {"preprocess": "preprocess: ", "train": "train: ", "evaluate": "evaluate: on"}

OUTPUTS = {
    "download": ["raw"],
    "preprocess": ["train_split", "validation_split", "test_split", "data_metrics"],
    "train": ["weights", "train_metrics", "history", "steps", "layers"],
    "evaluate": ["predictions", "test_metrics", "robustness"],
    "plot": ["figures"],
}


# Commands that write; of a checkout that has an experiment `with-mlp`.
COMMANDS = [
    ["report", "--output", "result.html"],
    ["export", "--output", "model.onnx"],
    ["promote", "with-mlp"],
    ["restore", "with-mlp"],
]


@dataclass(frozen=True)
class Attempt:
    """A command that was run once."""

    status: int
    output: str
    seconds: float  # from when it had begun to when it ended


def outputs(checkout: Checkout, stage: str) -> list[Path]:
    """Where a stage puts its files."""
    paths = Paths.load(checkout.folder / "dvc.yaml")
    return [checkout.folder / getattr(paths, name) for name in OUTPUTS[stage]]


def digests(checkout: Checkout, stage: str) -> dict[str, str]:
    """SHA-256 of each file that a stage has left, whatever is hidden beside included."""
    found = {}
    for place in outputs(checkout, stage):
        for top in (place, *place.parent.glob(".*")):
            for file in filter(Path.is_file, (top, *top.rglob("*"))):
                found[str(file.relative_to(checkout.folder))] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def remove_outputs(checkout: Checkout, stage: str) -> None:
    """What DVC does before it runs a stage."""
    for place in outputs(checkout, stage):
        for file in filter(Path.is_file, (place, *place.rglob("*"))):
            file.unlink()


def assert_whole(checkout: Checkout) -> None:
    """Whatever is there under the name of an output, or of a checkpoint, can be read to its end."""
    paths = Paths.load(checkout.folder / "dvc.yaml")
    for path in (getattr(paths, name) for names in OUTPUTS.values() for name in names):
        place = checkout.folder / path
        if not place.exists():
            continue
        if path.parent.name == "processed":
            read_split(place)
        elif path == paths.weights:
            load(place)
        elif place.suffix == ".json":
            read_json(place)
        elif place.suffix == ".csv":
            read_csv(place)
    for picture in (checkout.folder / paths.figures).glob("*.png"):
        assert picture.read_bytes().endswith(b"IEND\xaeB`\x82"), picture
    for checkpoint in (checkout.folder / ".mnistflow" / "checkpoints").glob("*.safetensors"):
        read_tensors(checkpoint)
    if (checkout.folder / "dvc.lock").exists():
        read_yaml(checkout.folder / "dvc.lock")


def start(checkout: Checkout, command: Sequence[str]) -> subprocess.Popen[str]:
    """Start a command in a process group of its own; what it prints comes line by line."""
    return subprocess.Popen(
        command,
        cwd=checkout.folder,
        env={**checkout.environment, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def until(process: subprocess.Popen[str], text: str) -> str:
    """Wait until it prints a text, or has ended; returns what it has printed, to the end of that line."""
    assert process.stdout is not None
    printed = bytearray()
    # Byte by byte, past Python's buffer: what that holds, communicate() would leave out.
    while byte := os.read(process.stdout.fileno(), 1):
        printed += byte
        if byte == b"\n" and text.encode() in printed:
            break
    return printed.decode()


def attempt(
    checkout: Checkout,
    command: Sequence[str],
    *,
    begins: str | None,
    kill: signal.Signals | None = None,
    after: float = 0.0,
) -> Attempt:
    """Run a command, and send it a signal so many seconds after it has printed a text, or (None) was started."""
    process = start(checkout, command)
    printed = until(process, begins) if begins is not None else ""
    begun = time.perf_counter()
    if kill is not None:
        time.sleep(after)
        process.send_signal(kill)
    rest, _ = process.communicate(timeout=HANGS)
    wait_until_gone(working_in(checkout))  # a fork dies after the stage that waits for it
    return Attempt(process.returncode, printed + rest, time.perf_counter() - begun)


def stage_command(stage: str) -> list[str]:
    return [sys.executable, f"stages/{stage}.py"]


def killed_until_done(checkout: Checkout, stage: str, kills: int, seed: int) -> Iterator[Attempt]:
    """Kill a stage at random moments of its work, so many times; then let it end.

    What it leaves must be what it leaves undisturbed, and whole at any moment.

    Yields:
        Each attempt; the first and the last ones are those that nothing disturbed.
    """
    numbers, begins = random.Random(seed), BEGINS.get(stage)
    remove_outputs(checkout, stage)
    undisturbed = attempt(checkout, stage_command(stage), begins=begins)
    assert undisturbed.status == 0, undisturbed.output
    yield undisturbed
    expected = digests(checkout, stage)
    assert expected

    done = too_late = 0
    remove_outputs(checkout, stage)
    while done < kills:
        number = SIGNALS[done % len(SIGNALS)]
        tried = attempt(
            checkout,
            stage_command(stage),
            begins=begins,
            kill=number,
            # Where it does not say when its work begins: most of the first half are imports. In the end it exits.
            after=numbers.uniform(0 if begins else undisturbed.seconds / 2, 0.8 * undisturbed.seconds),
        )
        assert "Traceback" not in tried.output, tried.output
        assert_whole(checkout)
        if tried.status == 0:  # it was done before the signal came
            assert digests(checkout, stage) == expected
            too_late += 1
            assert too_late < 30, f"{stage} ends before a signal comes"
        else:
            # Negative: it did not come to say anything, because it was killed, or had all but ended.
            assert tried.status in (-number, 128 + number), tried.output
            done += 1
            yield tried
        remove_outputs(checkout, stage)
    last = attempt(checkout, stage_command(stage), begins=begins)
    assert last.status == 0, last.output
    assert digests(checkout, stage) == expected
    assert not list((checkout.folder / ".mnistflow" / "checkpoints").glob("*")), "a checkpoint is left"
    yield last


def kill_command(checkout: Checkout, arguments: list[str], moments: Iterable[tuple[signal.Signals, float]]) -> int:
    """Kill a command of mnistflow at moments of its work, then run it again: it must do its work.

    Args:
        checkout: one with an experiment `with-mlp`, of which the first result is checked out.
        arguments: one of :data:`COMMANDS`.
        moments: signals, and after how many seconds they are sent; where a fork server runs, its work begins at once.

    Returns:
        How often it was killed before it had ended.
    """

    def first_result() -> None:
        checkout.git("checkout", "--quiet", "--", "params.yaml", "dvc.lock", "metrics")
        checkout.dvc("checkout", "--quiet")

    first_result()
    command = [sys.executable, COMMAND, *arguments]
    killed = 0
    for number, seconds in moments:
        tried = attempt(checkout, command, begins=None, kill=number, after=seconds)
        assert "Traceback" not in tried.output, tried.output
        killed += tried.status != 0
        assert_whole(checkout)
    first_result()  # a killed restore has begun to replace it
    output = checkout.mnistflow(*arguments)
    assert "warning" not in output
    client = MlflowClient(f"sqlite:///{checkout.folder / 'mlflow.db'}")
    runs = client.search_runs(["1"])
    assert [run.info.status for run in runs] == ["FINISHED"] * 2
    match arguments[0]:
        case "report":
            assert checkout.read("result.html").rstrip().endswith("</html>")
        case "export":
            first = (checkout.folder / "model.onnx").read_bytes()
            checkout.mnistflow(*arguments)
            assert (checkout.folder / "model.onnx").read_bytes() == first
        case "promote":
            (mlp,) = [run for run in runs if run.data.params["model"] == "mlp"]
            assert client.get_model_version_by_alias("mnistflow", "champion").run_id == mlp.info.run_id
            versions = client.search_model_versions("name = 'mnistflow'")
            assert len({version.run_id for version in versions}) == len(versions)
        case "restore":
            assert read_json(checkout.folder / "metrics" / "train.json")["model"] == "mlp"
            assert checkout.dvc("status").strip() == "Data and pipelines are up to date."
    assert not list(checkout.folder.glob(".*.tmp"))
    return killed


def is_running(process: int) -> bool:
    """Whether there is such a process, and it is not dead and waiting to be noticed."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(process: int) -> list[int]:
    """The processes that it started, and those that they did."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == process:
            found += [int(folder.name), *children(int(folder.name))]
    return found


def working_in(checkout: Checkout) -> list[int]:
    """The processes whose folder is that of a checkout."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "cwd").resolve() == checkout.folder.resolve():
                found.append(int(folder.name))
    return found


def wait_until_gone(processes: Sequence[int], seconds: float = HANGS) -> None:
    deadline = time.monotonic() + seconds
    while alive := [process for process in processes if is_running(process)]:
        assert time.monotonic() < deadline, f"still running: {alive}"
        time.sleep(0.05)
