from __future__ import annotations

import itertools
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Checkout

from mnistflow.pipeline.stage import Interrupted, stoppable


@pytest.mark.parametrize("stage", ["check", "download"])
def test_a_stage_explains_itself(stage: str, clean: Checkout) -> None:
    output = clean.run(sys.executable, f"stages/{stage}.py", "--help")
    first = (ROOT / "stages" / f"{stage}.py").read_text(encoding="utf-8").splitlines()[0].strip('"')
    assert first in " ".join(output.split())
    assert "unrecognized arguments: 3" in clean.run(sys.executable, f"stages/{stage}.py", "3", status=2)


def test_a_mistake_is_one_message_with_the_way_back(clean: Checkout, tmp_path: Path) -> None:
    checkout = clean.copy(tmp_path / "checkout")
    checkout.replace("params.yaml", "lr: 0.1", "lr: -0.1")
    output = checkout.run(sys.executable, "stages/train.py", status=1)
    assert "train: params.yaml is invalid:\n  recipes.default.lr: expected greater than 0; got -0.1\n" in output
    assert "git checkout params.yaml" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("stage", ["preprocess", "train", "evaluate", "plot"])
def test_a_missing_input_is_named(stage: str, clean: Checkout) -> None:
    output = clean.run(sys.executable, f"stages/{stage}.py", status=1)
    assert output.splitlines()[-1].startswith(f"{stage}: there is no file ")
    assert "`dvc repro`" in output
    assert "Traceback" not in output


def script(folder: Path, name: str, *lines: str) -> list[str]:
    """A stage that does what the lines say, as a command."""
    path = folder / f"{name}.py"
    body = "".join(f"    {line}\n" for line in lines)
    path.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\nimport os, signal, time\n"
        f"from mnistflow.pipeline import stage\ndef main() -> None:\n{body}stage.run(main)\n",
        encoding="utf-8",
    )
    return [sys.executable, str(path)]


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interruption_is_said_and_has_its_own_status(name: str, status: int, tmp_path: Path) -> None:
    command = script(tmp_path, "wait", f"os.kill(os.getpid(), signal.{name})", "time.sleep(60)")
    output = Checkout(tmp_path).run(*command, status=status)
    assert output.strip() == "wait: interrupted; no partial files are left"


STARTS = [*(["stages", stage] for stage in ("check", "download", "preprocess", "train", "evaluate", "plot")), ["cli"]]


@pytest.mark.parametrize("start", STARTS, ids="-".join)
def test_an_interruption_while_it_starts_is_one_line(start: list[str], clean: Checkout, tmp_path: Path) -> None:
    """Signals after so many imports, which Python reports as they end: no traceback, and the status of the signal."""
    script = ["-m", "mnistflow", "show"] if start == ["cli"] else ["/".join(start) + ".py"]
    checkout = clean.copy(tmp_path / "checkout")
    environment = {**clean.environment, "PYTHONPATH": "src", "PYTHONUNBUFFERED": "1"}
    for imports, number in ((5, signal.SIGINT), (60, signal.SIGTERM), (300, signal.SIGINT)):
        command = [sys.executable, "-X", "importtime", *script]
        with subprocess.Popen(
            command, cwd=checkout.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if line.endswith("mnistflow.pipeline.stage\n"):  # after which it begins
                    break
            following = list(itertools.islice(process.stderr, imports))
            process.send_signal(number)
            lines = [*following, *process.stderr]
        messages = [line.rstrip() for line in lines if line.strip() and not line.startswith("import time:")]
        assert not any("Traceback" in message for message in messages), messages
        if process.returncode not in (0, 1):  # it was done before
            assert process.returncode == 128 + number, messages
            assert "interrupted" in messages[-1]


def test_stoppable_notes_the_first_signal_and_ctrl_c_after_it_does_not_wait(tmp_path: Path) -> None:
    kill = "os.kill(os.getpid(), signal.SIGINT)"
    ready = ["with stage.stoppable() as stop:", f"    {kill}", "    print('goes on')", "    stop.now('after a step')"]
    output = Checkout(tmp_path).run(*script(tmp_path, "ready", *ready), status=130)
    assert {"goes on", "ready: interrupted; after a step"} < set(output.splitlines())
    twice = ["with stage.stoppable():", f"    {kill}", f"    {kill}", "    time.sleep(60)"]
    output = Checkout(tmp_path).run(*script(tmp_path, "twice", *twice), status=130)
    assert output.strip() == "twice: interrupted; no partial files are left"


def test_a_stage_that_is_done_is_not_interrupted_any_more(tmp_path: Path) -> None:
    late = ["import atexit", "atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))", "print('done')"]
    assert Checkout(tmp_path).run(*script(tmp_path, "late", *late)).strip() == "done"


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        (
            "train",
            "import torch; torch.empty(2**55)",
            r"train: out of memory \(.*\); lower batch_size in the recipe, or",
        ),
        ("evaluate", "raise MemoryError", "evaluate: out of memory; lower evaluate.batch_size"),
        (
            "plot",
            "import torch; raise torch.OutOfMemoryError('CUDA out of memory.')",
            r"plot: out of memory \(CUDA out of memory.\); use smaller images",
        ),
    ],
)
def test_out_of_memory_names_the_param_to_lower(name: str, line: str, message: str, tmp_path: Path) -> None:
    output = Checkout(tmp_path).run(*script(tmp_path, name, line), status=1)
    assert re.search(f"^{message}", output.splitlines()[-1])
    assert "Traceback" not in output


def test_an_unexpected_exception_keeps_its_traceback(tmp_path: Path) -> None:
    command = script(tmp_path, "broken", "assert False, 'ours'")
    assert "Traceback" in Checkout(tmp_path).run(*command, status=1)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_after_a_first_signal_only_ctrl_c_does_not_wait(first: signal.Signals) -> None:
    with stoppable() as stop:
        signal.raise_signal(first)
        signal.raise_signal(signal.SIGTERM)  # as when DVC dies before its stage has left a checkpoint
        assert stop.number == first
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)
