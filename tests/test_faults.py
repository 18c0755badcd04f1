"""Real faults in real checkouts: processes that are killed, disks that are full, folders that cannot be written.

The long form, with more kills and every model, is `python -m benchmarks.faults`.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Checkout
from faults import (
    COMMANDS,
    HANGS,
    assert_whole,
    children,
    digests,
    kill_command,
    killed_until_done,
    remove_outputs,
    stage_command,
    start,
    until,
    wait_until_gone,
    working_in,
)
from mlflow import MlflowClient

from mnistflow.reports.report import FIGURES

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to end a stage with its parent")


def longer(checkout: Checkout, epochs: int) -> None:
    checkout.replace("params.yaml", "epochs: 2", f"epochs: {epochs}")


def test_a_training_that_is_killed_goes_on_and_ends_in_the_same_bytes(workspace: Checkout) -> None:
    longer(workspace, 12)
    workspace.replace("params.yaml", "model: lenet5", "model: mlp")
    workspace.replace("params.yaml", "checkpoint_every: 30.0", "checkpoint_every: 0.05")
    attempts = list(killed_until_done(workspace, "train", kills=3, seed=0))
    assert any("train: resumes after" in attempt.output for attempt in attempts)
    for one_attempt in attempts[1:-1]:
        if one_attempt.status > 0:  # Ctrl-C and SIGTERM leave a last checkpoint, and say so
            assert re.search(r"train: interrupted; (after .*; run it again to resume|no partial)", one_attempt.output)


@pytest.mark.parametrize("stage", ["preprocess", "plot"])
def test_another_stage_that_is_killed_leaves_nothing_half(stage: str, workspace: Checkout) -> None:
    if stage == "preprocess":  # large images, so that it works for longer than a signal takes to come
        workspace.replace("params.yaml", "    size: 28\n", "    size: 160\n")
    list(killed_until_done(workspace, stage, kills=2, seed=1))


@LINUX
def test_when_dvc_is_killed_its_stage_ends_too_and_the_next_repro_goes_on(workspace: Checkout) -> None:
    longer(workspace, 400)
    workspace.environment["SHELL"] = "/bin/sh"  # which, where it is dash, stays between DVC and the stage
    process = start(workspace, ["dvc", "repro"])
    until(process, "epoch 2/400")
    stages = children(process.pid)
    assert stages
    process.kill()
    process.communicate(timeout=HANGS)
    wait_until_gone(stages)
    assert_whole(workspace)

    process = start(workspace, ["dvc", "repro"])
    text = until(process, "train: resumes after")
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
    text += process.communicate(timeout=HANGS)[0]
    assert "train: resumes after" in text, text
    assert "train: interrupted; after epoch" in text
    assert "Traceback" not in text


def test_an_experiment_in_a_copy_goes_on_within_an_epoch(workspace: Checkout) -> None:
    for old, new in (("batch_size: 128", "batch_size: 1"), ("lr: 0.1", "lr: 0.0001"), ("_every: 200", "_every: 100")):
        workspace.replace("params.yaml", old, new)
    for text in ("  step 100/1293", "train: resumes after epoch 1, step 1"):
        process = start(workspace, ["dvc", "exp", "run", "--temp", "--name", "long"])
        printed = until(process, text)
        os.killpg(process.pid, signal.SIGINT)
        rest = process.communicate(timeout=HANGS)[0]
        assert text in printed, printed + rest


def test_the_same_training_twice_at_once_is_one_after_the_other(workspace: Checkout) -> None:
    longer(workspace, 30)
    remove_outputs(workspace, "train")
    first = start(workspace, stage_command("train"))
    until(first, "epoch 1/30")
    second = start(workspace, stage_command("train"))
    waiting = until(second, "waiting")
    assert first.poll() is None
    first.kill()
    first.communicate()
    text = waiting + second.communicate(timeout=HANGS)[0]
    assert "the same training is running in another process; waiting" in waiting
    assert "train: resumes after" in text
    assert second.returncode == 0, text


@pytest.mark.parametrize(
    ("stage", "place", "options", "text"),
    [
        (
            "preprocess",
            "data/processed",
            "size=64k",
            "data/processed/train.safetensors cannot be written: .*No space left",
        ),
        ("train", "models", "size=64k", "models/model.safetensors cannot be written: .*No space left"),
        ("train", "models", "ro", "models/model.safetensors cannot be written: Read-only file system"),
    ],
)
def test_a_disk_that_is_full_or_read_only_is_one_line_and_costs_nothing(
    stage: str,
    place: str,
    options: str,
    text: str,
    workspace: Checkout,
    mounted: Callable[[Path, str], Callable[[], None]],
) -> None:
    expected = digests(workspace, stage)
    unmount = mounted(workspace.folder / place, options)
    output = workspace.run(sys.executable, f"stages/{stage}.py", status=1)
    assert re.search(f"^{stage}: {text}", output.splitlines()[-1])
    assert "Traceback" not in output
    assert not list((workspace.folder / place).rglob(".*"))
    unmount()
    mounted(workspace.folder / place, "size=64m")  # there is room now
    output = workspace.run(sys.executable, f"stages/{stage}.py")
    assert digests(workspace, stage) == expected
    assert ("train: resumes after the end of epoch 2" in output) == (stage == "train")


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_a_command_that_is_killed_does_its_work_when_it_is_run_again(
    arguments: list[str], compared: Checkout, tmp_path: Path
) -> None:
    checkout = compared.copy(tmp_path / "checkout")
    assert kill_command(checkout, arguments, [(signal.SIGKILL, 0.25), (signal.SIGKILL, 0.5)])


def recorded_whole(checkout: Checkout) -> None:
    """Each result has one run, FINISHED, with all of its figures and one model."""
    client = MlflowClient(f"sqlite:///{checkout.folder / 'mlflow.db'}")
    runs = client.search_runs(["1"])
    assert len({run.data.tags["mnistflow.result"] for run in runs}) == len(runs) > 0
    for run in runs:
        assert run.info.status == "FINISHED"
        assert {"test_accuracy", "epoch_seconds"} <= run.data.metrics.keys()
        figures = {list_artifact.path for list_artifact in client.list_artifacts(run.info.run_id, "figures")}
        assert len(figures) == len(list((checkout.folder / "metrics" / "figures").glob("*.png")))
        assert run.outputs is not None
        assert len(run.outputs.model_outputs) == 1


def test_a_plot_that_is_killed_while_it_records_is_recorded_by_the_next(finished: Checkout, tmp_path: Path) -> None:
    checkout = finished.copy(tmp_path / "checkout")
    checkout.replace("params.yaml", "seed: 0", "seed: 1")
    checkout.dvc("repro", "evaluate")
    folder = checkout.folder / "metrics" / "figures"
    expected = 0
    for seconds in (0.0, 0.2, 0.6):  # after the last figure is there
        remove_outputs(checkout, "plot")
        process = start(checkout, stage_command("plot"))
        while process.poll() is None and not (folder / "weights.png").exists():
            time.sleep(0.01)
        time.sleep(seconds)
        process.kill()
        process.communicate(timeout=HANGS)
        wait_until_gone(working_in(checkout))
        assert_whole(checkout)
        expected = max(expected, len(list(folder.glob("*.png"))))
    assert expected == len(FIGURES)
    output = checkout.dvc("repro")
    assert "warning" not in output
    recorded_whole(checkout)


@LINUX
def test_a_repro_that_is_killed_between_train_and_evaluate_goes_on(finished: Checkout, tmp_path: Path) -> None:
    checkout = finished.copy(tmp_path / "checkout")
    checkout.replace("params.yaml", "seed: 0", "seed: 1")
    for text in ("epoch 2/2", "Running stage 'evaluate'"):  # as training ends, and when DVC has noted that it has
        process = start(checkout, ["dvc", "repro"])
        printed = until(process, text)
        stages = children(process.pid)
        process.kill()
        printed += process.communicate(timeout=HANGS)[0]
        wait_until_gone(stages)
        assert "Traceback" not in printed
        assert_whole(checkout)
    output = checkout.dvc("repro")
    assert "warning" not in output
    assert "Stage 'train' didn't change, skipping" in output
    assert checkout.dvc("status").strip() == "Data and pipelines are up to date."
    recorded_whole(checkout)


STUDY = """\
title: Batches
question: What is left of a study that is killed?
seeds: [0]
set: {evaluate.robustness: false}
entries:
  small: {set: {evaluate.batch_size: 50}}
  large: {set: {evaluate.batch_size: 100}}
"""


@LINUX
def test_a_study_that_is_killed_goes_on_with_what_it_had_not_done(untracked: Checkout, tmp_path: Path) -> None:
    checkout = untracked.copy(tmp_path / "checkout")
    (checkout.folder / "studies" / "batches.yaml").write_text(STUDY, encoding="utf-8")
    command = [sys.executable, "-m", "mnistflow", "study", "run", "batches"]
    checkout.environment["PYTHONPATH"] = "src"
    log = checkout.folder / ".mnistflow" / "experiments" / "batches-small-0.log"
    for text in ("", "Running stage"):  # as DVC starts with the first experiment, and within it
        log.unlink(missing_ok=True)
        process = start(checkout, command)
        while not (log.exists() and text in log.read_text(encoding="utf-8")):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)
        stages = children(process.pid)
        process.kill()
        process.communicate(timeout=HANGS)
        wait_until_gone(stages)
        checkout.git("checkout", "--quiet", "params.yaml")  # which DVC changes for a moment, to start an experiment
    process = start(checkout, command)
    until(process, "small-0: done")
    stages = children(process.pid)
    process.kill()
    process.communicate(timeout=HANGS)
    wait_until_gone(stages)
    checkout.git("checkout", "--quiet", "params.yaml")
    output = checkout.run(*command)
    assert "small-0: " not in output
    assert "large-0: done" in output
    names = checkout.git("for-each-ref", "--format=%(refname)", "refs/exps").split()
    assert sorted(name.rsplit("/", 1)[1] for name in names if name.count("/") == 4) == [
        "batches-large-0",
        "batches-small-0",
    ]
    assert "2 experiments, 2 of them already run" in checkout.run(*command)


def test_a_read_only_folder_for_checkpoints_costs_warnings_alone(
    workspace: Checkout, mounted: Callable[[Path, str], Callable[[], None]]
) -> None:
    unmount = mounted(workspace.folder / ".mnistflow", "ro")
    assert "Traceback" not in workspace.run(sys.executable, "stages/check.py")
    unmount()
    for stage in ("train", "evaluate", "plot"):
        expected = digests(workspace, stage)
        unmount = mounted(workspace.folder / ".mnistflow", "ro")
        output = workspace.run(sys.executable, f"stages/{stage}.py")
        unmount()
        assert "Traceback" not in output
        if stage == "train":
            assert output.count("train: warning: no checkpoint saved: ") == 1
            assert output.count("warning: durations are not recorded: ") == 1
        assert digests(workspace, stage) == expected


def test_two_repros_and_an_experiment_at_once_do_not_disturb_each_other(workspace: Checkout) -> None:
    longer(workspace, 20)  # so that it trains on while DVC, to copy the workspace, stashes it for a moment
    first = start(workspace, ["dvc", "repro"])
    until(first, "epoch 1/20")
    experiment = start(
        workspace, ["dvc", "--wait-for-lock", "exp", "run", "--temp", "-S", "model=mlp", "--name", "mlp"]
    )
    second = start(workspace, ["dvc", "repro"])
    refused = second.communicate(timeout=HANGS)[0]
    assert second.returncode != 0
    assert "Traceback" not in refused
    text, of_experiment = first.communicate(timeout=HANGS)[0], experiment.communicate(timeout=HANGS)[0]
    assert (first.returncode, experiment.returncode) == (0, 0), text + of_experiment
    assert workspace.dvc("status").strip() == "Data and pipelines are up to date."
    assert_whole(workspace)
    ours = digests(workspace, "train")
    workspace.dvc("exp", "apply", "mlp")
    assert_whole(workspace)
    assert digests(workspace, "train") != ours
