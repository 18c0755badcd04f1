from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, STAGES, Checkout

from mnistflow.pipeline.code import OBSERVERS, PACKAGE, code_digest, imported_rooms, rooms


def names(script: Path) -> set[str]:
    return {room.name for room in rooms(script)}


def test_imports_of_every_form_lead_to_rooms(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os\n"
        "from typing import TYPE_CHECKING\n"
        "import mnistflow.data.splits\n"
        "from mnistflow import models\n"
        "if TYPE_CHECKING:\n    from mnistflow.figures import style\nelse:\n    import mnistflow.config\n"
        "def later():\n    from mnistflow.tracking.store import connect\n",
        encoding="utf-8",
    )
    assert imported_rooms(script) == {"config", "data", "models", "tracking"}
    # The first three and what they import; tracking is an observer, so that what it alone imports does not count.
    assert names(script) == {"config", "core", "data", "models"}


@pytest.mark.parametrize("stage", STAGES)
def test_the_rooms_of_a_stage_hold_every_module_that_python_loads(stage: str) -> None:
    program = f"""
import runpy, sys
sys.path[:0] = [{str(ROOT / "src")!r}, {str(ROOT / "stages")!r}]
runpy.run_path({str(ROOT / "stages" / f"{stage}.py")!r})
print(*sorted(module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "mnistflow"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {Path(file).relative_to(PACKAGE).parts[0] for file in done.stdout.split()} - {"__init__.py"}
    assert len(loaded) > 2
    observed = set().union(*(imported_rooms(file) for room in OBSERVERS for file in (PACKAGE / room).rglob("*.py")))
    assert loaded - OBSERVERS - names(ROOT / "stages" / f"{stage}.py") <= observed


def test_no_stage_depends_on_an_observer() -> None:
    for stage in STAGES:
        assert names(ROOT / "stages" / f"{stage}.py")
        assert not names(ROOT / "stages" / f"{stage}.py") & OBSERVERS


def test_the_code_digest_changes_with_the_code_that_decides(clean: Checkout, tmp_path: Path) -> None:
    checkout = clean.copy(tmp_path / "checkout")

    def digest() -> str:
        program = (
            "from pathlib import Path; from mnistflow.pipeline.code import code_digest; "
            "print(code_digest(Path('stages/train.py')))"
        )
        output: str = checkout.run(sys.executable, "-c", program, PYTHONPATH="src")
        return output.strip()

    before = digest()
    assert before == code_digest(ROOT / "stages" / "train.py")
    for path in ("tracking/record.py", "pipeline/progress.py", "evaluation/scores.py"):
        checkout.replace(f"src/mnistflow/{path}", "import annotations", "import annotations  # changed")
    assert digest() == before
    for path in ("src/mnistflow/training/loop.py", "src/mnistflow/core/tensors.py", "stages/train.py"):
        checkout.replace(path, "import math", "import math  # changed")
        changed = digest()
        assert changed != before
        before = changed
