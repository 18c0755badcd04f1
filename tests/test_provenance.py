from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Checkout

from mnistflow import augment, models, provenance, splits
from mnistflow.provenance import PACKAGE, closure


def names(script: Path) -> set[str]:
    return {path.relative_to(PACKAGE).as_posix() for path in closure(script)}


def test_a_closure_follows_imports_of_every_form(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nimport mnistflow.splits\nfrom mnistflow import augment\n"
        "def later():\n    from mnistflow.models.lenet5 import LeNet5\n",
        encoding="utf-8",
    )
    # models stands for all of its files, and needs artifacts and recipes; artifacts needs files, which need text
    assert names(script) == {
        "__init__.py",
        "artifacts.py",
        "augment.py",
        "files.py",
        "models",
        "recipes.py",
        "splits.py",
        "text.py",
    }


@pytest.mark.parametrize("stage", ["check", "download", "preprocess", "train", "evaluate", "plot"])
def test_a_closure_holds_every_module_that_python_really_loads(stage: str) -> None:
    program = f"""
import runpy, sys
sys.path.insert(0, {str(ROOT / "src")!r})
runpy.run_path({str(ROOT / "stages" / f"{stage}.py")!r})
print(*sorted(module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "mnistflow"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {Path(file) for file in done.stdout.split()}
    assert len(loaded) > 5
    found = closure(ROOT / "stages" / f"{stage}.py")
    assert {path for path in loaded if path not in found and path.parent not in found} == set()


def test_the_code_digest_changes_with_the_code_that_is_reached(clean: Checkout, tmp_path: Path) -> None:
    checkout = clean.copy(tmp_path / "checkout")

    def code() -> str:
        program = "from mnistflow import models, provenance; print(provenance.code_digest(models))"
        output: str = checkout.run(sys.executable, "-c", program, PYTHONPATH="src")
        return output.strip()

    before = code()
    assert before == provenance.code_digest(models)
    checkout.replace("src/mnistflow/augment.py", "import math", "import math  # changed")
    assert code() == before
    checkout.replace("src/mnistflow/artifacts.py", "import json", "import json  # changed")
    assert code() != before


def test_different_modules_have_different_digests() -> None:
    assert provenance.code_digest(splits) != provenance.code_digest(augment)
    assert provenance.code_digest(splits, augment) == provenance.code_digest(augment, splits)


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert provenance.digest({"a": 1, "b": [2]}) == provenance.digest({"b": [2], "a": 1})
    assert provenance.digest({"a": 1}) != provenance.digest({"a": 2})


def test_the_commit_says_whether_files_differ(clean: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = clean.copy(tmp_path / "checkout")
    head = checkout.git("rev-parse", "HEAD").strip()
    monkeypatch.chdir(checkout.folder)
    assert provenance.git_commit() == head
    checkout.replace("README.md", "", "changed\n")  # decides no result
    assert provenance.git_commit() == head
    checkout.replace("params.yaml", "seed: 0", "seed: 1234")
    assert provenance.git_commit() == f"{head}-dirty"
    monkeypatch.chdir(tmp_path)
    assert provenance.git_commit() is None
