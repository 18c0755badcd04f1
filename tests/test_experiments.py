"""Studies through the real DVC, in temporary checkouts, on scikit-learn's digits."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Checkout
from pydantic import JsonValue

from mnistflow.core.files import md5, read_csv
from mnistflow.experiments import cache, results
from mnistflow.experiments.runner import Ended, Planned, override

STUDY = """\
title: Tiny
question: Does it go on where it stopped?
seeds: [0]
set: {model: mlp, recipes.default.epochs: 1}
entries:
  a:
    set: {models.mlp.hidden: [8]}
  b:
    set: {models.mlp.hidden: [9], recipes.default.epochs: 80}
  c:
    set: {models.mlp.hidden: [9], recipes.default.lr: 1000000.0}
"""


def test_a_change_of_a_key_that_is_not_there_adds_it() -> None:
    document: dict[str, JsonValue] = {"a": {"b-c": {"d": None}, "e": [1]}}
    assert override(document, "a.b-c.d", 0.5) == "a.b-c.d=0.5"
    assert override(document, "a.b-c.e", None) == "+a.b-c.e=null"
    assert override(document, "a.e", [128, 400]) == "a.e=[128, 400]"
    assert override(document, "a.e.f", "it's") == '+a.e.f="it\'s"'


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("Running\nERROR: no\n\n", "ERROR: no"),
        ("ERROR: unexpected error - no\n\nHaving any troubles? Hit us up\n", "ERROR: unexpected error - no"),
        (
            "> python stages/check.py\ncheck: params.yaml is invalid:\n  seed: must be\n"
            "ERROR: failed to reproduce 'check': failed to run: python stages/check.py, exited with 1\n",
            "check: params.yaml is invalid: seed: must be",
        ),
        ("ERROR: failed to reproduce 'train': killed\n", "ERROR: failed to reproduce 'train': killed"),
        ("", "it printed nothing"),
    ],
)
def test_a_failed_experiment_says_why(log: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(log, encoding="utf-8")
    assert Ended(Planned("a", ()), 1, 2.0, tmp_path / "log").reason == reason


def test_outside_of_git_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is not in a git repository.*git init"):
        results.completed()


def test_results_from_before_a_module_existed_share_one_code_version(workspace: Checkout) -> None:
    for name in ("one.txt", "two.txt", "src/mnistflow/models/three.py"):
        (workspace.folder / name).write_text("", encoding="utf-8")
        workspace.git("add", name)
        workspace.git("commit", "--quiet", "--message", name)
    code = "from mnistflow.experiments import results; print(*results._codes(['HEAD~2', 'HEAD~1', 'HEAD']), sep='\\n')"
    one, two, three = workspace.run(sys.executable, "-c", code, PYTHONPATH="src").splitlines()
    assert one == two != three


def test_an_interrupted_study_resumes(workspace: Checkout) -> None:
    (workspace.folder / "studies" / "tiny.yaml").write_text(STUDY, encoding="utf-8")
    workspace.git("add", "--all")
    workspace.git("commit", "--quiet", "--message", "a study")

    # Stopped once the first experiment has ended and the second is on its way.
    with subprocess.Popen(
        [sys.executable, "-m", "mnistflow", "study", "run", "tiny"],
        cwd=workspace.folder,
        env=workspace.environment | {"PYTHONPATH": "src"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line)
            if "tiny-a-0: done" in line:
                break
        second = workspace.folder / ".mnistflow" / "experiments" / "tiny-b-0.log"
        while "epoch 2/80" not in (second.read_text(encoding="utf-8") if second.exists() else ""):
            with pytest.raises(subprocess.TimeoutExpired):  # it goes on
                process.wait(0.1)
        process.send_signal(signal.SIGINT)
        seen += process.stdout.readlines()
    assert process.returncode == 130, seen
    assert "mnistflow: interrupted" in seen[-1]
    assert "tiny-b-0: done" not in "".join(seen)
    left = workspace.run("ps", "-eo", "args").splitlines()
    assert not [line for line in left if "--name tiny-" in line]
    assert not list((workspace.folder / ".dvc/tmp/exps/standalone").glob("tmp*"))  # the copies that they ran in

    again = workspace.mnistflow("study", "run", "tiny", "--jobs", "2", status=1)
    assert "tiny: 3 experiments, 1 of them already run" in again
    assert "tiny-a-0" not in again
    assert "tiny-b-0: done" in again
    assert "tiny-c-0: FAILED: " in again
    assert "1 of 2 experiments failed; see" in again
    assert "training diverged" in workspace.read(".mnistflow/experiments/tiny-c-0.log")
    assert "2 experiments, 2 of them already run" in workspace.mnistflow("study", "run", "tiny", "--only", "a", "b")
    assert set(workspace.dvc("exp", "list", "--name-only").split()) == {"tiny-a-0", "tiny-b-0"}

    # What an experiment is called does not matter, what it is made of does.
    workspace.dvc("exp", "rename", "tiny-a-0", "renamed")
    shown = workspace.mnistflow("study", "show", "tiny")
    rows = read_csv(workspace.folder / "studies" / "results" / "tiny.csv")
    assert [row["entry"] for row in rows] == ["a", "b", "c"]
    assert [row["test accuracy %"].endswith(" (1)") for row in rows] == [True, True, False]
    assert [bool(row["s an epoch"]) for row in rows] == [True, True, False]
    assert (workspace.folder / "studies" / "results" / "tiny.md").read_text(encoding="utf-8") in shown
    assert (workspace.folder / "studies" / "results" / "tiny.png").stat().st_size > 1000

    workspace.replace("params.yaml", "dpi: 50", "dpi: 60")
    refused = workspace.mnistflow("study", "run", "tiny", status=1)
    assert "uncommitted changes in params.yaml would go into every experiment" in refused
    assert "git checkout params.yaml" in refused


def test_weights_are_found_in_the_cache_by_their_digest(workspace: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace.folder)
    weights = workspace.folder / "models" / "model.safetensors"
    assert cache.path_in_cache(md5(weights)).read_bytes() == weights.read_bytes()
    with pytest.raises(ValueError, match="DVC's cache has no file of MD5 0123"):
        cache.path_in_cache("0123456789abcdef" * 2)
