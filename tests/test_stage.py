from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import ROOT, Checkout


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
    assert "train: params.yaml cannot be run:\n  recipes.default.lr: expected greater than 0; got -0.1\n" in output
    assert "git checkout params.yaml" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("stage", ["preprocess", "train", "evaluate", "plot"])
def test_a_missing_input_is_named(stage: str, clean: Checkout) -> None:
    output = clean.run(sys.executable, f"stages/{stage}.py", status=1)
    assert output.splitlines()[-1].startswith(f"{stage}: there is no file ")
    assert "`dvc repro`" in output
    assert "Traceback" not in output


def test_an_interruption_is_said_and_has_its_own_status(tmp_path: Path) -> None:
    script = tmp_path / "wait.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\nfrom mnistflow import stage\n"
        "def main() -> None:\n    raise KeyboardInterrupt\nstage.run(main)\n",
        encoding="utf-8",
    )
    output = Checkout(tmp_path).run(sys.executable, str(script), status=130)
    assert "wait: interrupted" in output


def test_a_defect_of_ours_keeps_its_traceback(tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\nfrom mnistflow import stage\n"
        "def main() -> None:\n    assert False, 'ours'\nstage.run(main)\n",
        encoding="utf-8",
    )
    assert "Traceback" in Checkout(tmp_path).run(sys.executable, str(script), status=1)
