from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Checkout

from mnistflow.core.files import read_yaml
from mnistflow.experiments.verification import compare


def md5_of(checkout: Checkout, stage: str, path: str) -> str:
    lock: Any = read_yaml(checkout.folder / "dvc.lock")
    return str(next(out["md5"] for out in lock["stages"][stage]["outs"] if out["path"] == path))


def test_the_first_difference_is_named(workspace: Checkout) -> None:
    # As if it had been made on another kind of machine: other weights, and all that follows from them.
    for stage, path in (("train", "models/model.safetensors"), ("evaluate", "metrics/predictions.csv")):
        old = md5_of(workspace, stage, path)
        lock = workspace.folder / "dvc.lock"
        lock.write_text(workspace.read("dvc.lock").replace(old, "ab" * 16), encoding="utf-8")
    workspace.git("commit", "--quiet", "--all", "--message", "elsewhere")
    output = workspace.mnistflow("verify", status=1)
    assert "2 of 14 outputs differ. The first difference is in train: from the same inputs" in output
    assert output.count("the same\n") == 12
    assert re.search(r"preprocess +data/processed/train.safetensors +the same", output)
    assert "MD5 abababababababababababababababab in dvc.lock" in output

    workspace.replace("params.yaml", "seed: 0", "seed: 1")
    assert "uncommitted changes in params.yaml, but the commit is verified" in workspace.mnistflow("verify", status=1)


def test_identical_outputs_compare_equal(finished: Checkout) -> None:
    lock = finished.folder / "dvc.lock"
    compared = compare(lock, lock)
    assert {entry.stage for entry in compared} == {"download", "preprocess", "train", "evaluate", "plot"}
    assert all(entry.is_same and entry.from_the_same and entry.one for entry in compared)


def test_a_lock_of_other_code_is_refused(workspace: Checkout, tmp_path: Path) -> None:
    lock: Any = read_yaml(workspace.folder / "dvc.lock")
    next(dep for dep in lock["stages"]["train"]["deps"] if dep["path"].startswith("src/"))["md5"] = "0" * 32
    other = tmp_path / "dvc.lock"
    other.write_text(yaml.safe_dump(lock), encoding="utf-8")
    with pytest.raises(ValueError, match=r"does not match the committed code \(src/.*\); run `dvc repro`"):
        compare(workspace.folder / "dvc.lock", other)
