from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT

from mnistflow.config.paths import Paths


def test_paths_are_those_of_dvc_yaml() -> None:
    paths = Paths.load(ROOT / "dvc.yaml")
    assert paths.weights == Path("models/model.safetensors")
    assert paths.history.parent == Path("metrics")


@pytest.mark.parametrize("text", ["stages: {}", "vars: [{paths: {raw: data}}]", "vars:\n- paths:\n    row: data\n"])
def test_a_file_without_the_paths_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="vars must hold one block `paths` with exactly these keys: checked, brought"):
        Paths.load(tmp_path / "dvc.yaml")
