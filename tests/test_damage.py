"""What the stages say of files that are damaged, and that no pickle is ever loaded."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Checkout
from faults import attempt, stage_command

from mnistflow.data.datasets.mnist import SHA256


def test_damaged_files_are_refused_by_name_or_harmless(workspace: Checkout, tmp_path: Path) -> None:
    raw = ROOT / "data" / "raw" / "mnist"
    if all((raw / "MNIST" / "raw" / name).is_file() for name in SHA256):
        shutil.copytree(raw, workspace.folder / "data" / "raw" / "mnist")
    workspace.replace("params.yaml", "epochs: 2", "epochs: 3")
    assert attempt(workspace, stage_command("train"), begins="epoch 1/3", kill=signal.SIGTERM).status == 143
    written = tmp_path / "outcomes.json"
    workspace.run(sys.executable, str(ROOT / "tests" / "damage.py"), str(written), MNISTFLOW_FORK_SERVER="")
    outcomes = json.loads(written.read_text(encoding="utf-8"))
    assert len(outcomes) > 80
    wrong = []
    for outcome in outcomes:
        kind, message = outcome["kind"], outcome["message"]
        is_fine = not outcome["has_traceback"] and not outcome["ran_a_pickle"]
        if kind["harmless"]:
            is_fine = is_fine and outcome["status"] == 0
        else:
            is_named = kind["file"] in message or (kind["file"] == "params.yaml" and "params.yaml" in message)
            is_fine = is_fine and outcome["status"] == 1 and is_named
        if not is_fine:
            wrong.append(outcome)
    assert not wrong, json.dumps(wrong, indent=1)


@pytest.mark.parametrize("file", sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "stages").glob("*.py")]), ids=str)
def test_no_code_loads_pickle(file: Path) -> None:
    modules = "pickle|joblib|shelve|marshal|dill"
    loads = rf"import ({modules})|from ({modules})|({modules})\.load|torch\.load\(|jit\.load|export\.load|load_model\("
    assert not re.findall(rf"{loads}|yaml\.load\((?!.*_Loader)", file.read_text(encoding="utf-8"))
