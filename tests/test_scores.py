from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from mnistflow.core.documents import read_document
from mnistflow.core.files import write_csv
from mnistflow.evaluation.scores import Bin, ClassScores, Corrupted, Scores, read_robustness, read_scores


def document() -> dict[str, Any]:
    numbers: dict[str, Any] = {field.name: 0.5 for field in fields(Scores)} | {"parameters": 7, "multiply_adds": 9}
    return {
        **numbers,
        "images": 4,
        "ece_unscaled": None,
        "classes": [{"class": name, "precision": 0.5, "recall": 1.0, "f1": 0.75, "images": 2} for name in "ab"],
        "confusion": [[1, 1], [0, 2]],
        "reliability": [{"low": 0.8, "high": 1.0, "images": 4, "confidence": 0.9, "accuracy": 0.75}],
        "shift_accuracies": [],
        "device": "cpu",
    }


def written(path: Path, tree: object) -> Path:
    path.write_text(json.dumps(tree), encoding="utf-8")
    return path


def test_scores_are_what_the_file_holds(tmp_path: Path) -> None:
    scores = read_scores(written(tmp_path / "evaluate.json", document()))
    assert (scores.accuracy, scores.images, scores.ece_unscaled) == (0.5, 4, None)
    assert scores.classes == (ClassScores("a", 0.5, 1.0, 0.75, 2), ClassScores("b", 0.5, 1.0, 0.75, 2))
    assert scores.confusion == ((1, 1), (0, 2))
    assert scores.reliability == (Bin(0.8, 1.0, 4, 0.9, 0.75),)


@pytest.mark.parametrize(
    "change",
    [
        {"accuracy": "many"},
        {"accuracy": None},
        {"images": True},
        {"classes": []},
        {"classes": [{"class": "a"}]},
        {"confusion": [[1, 1], [0]]},
        {"confusion": [[1, "1"], [0, 2]]},
        {"reliability": []},
        {"reliability": {}},
    ],
)
def test_a_damaged_file_is_refused_in_one_line(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"evaluate.json is damaged: .*`dvc repro` recreates it$"):
        read_scores(written(tmp_path / "evaluate.json", {**document(), **change}))
    lacking = {name: value for name, value in document().items() if name not in change}
    with pytest.raises(ValueError, match=r"evaluate.json is damaged: it lacks"):
        read_scores(written(tmp_path / "evaluate.json", lacking))


def test_robustness_begins_with_the_images_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "robustness.csv"
    rows = [("none", 0, 0, 0.99), ("noise", 1, 0.2, 0.9)]
    table = [dict(zip(("corruption", "strength", "amount", "accuracy"), row, strict=True)) for row in rows]
    write_csv(path, table)
    assert read_robustness(path) == [Corrupted("none", 0, 0.0, 0.99), Corrupted("noise", 1, 0.2, 0.9)]
    for damaged in (table[1:], [table[0], {**table[1], "accuracy": ""}], [table[0], {**table[1], "strength": ""}]):
        write_csv(path, damaged)
        with pytest.raises(ValueError, match=r"robustness.csv is damaged: .*`dvc repro` recreates it$"):
            read_robustness(path)


def test_a_file_from_before_a_field_was_added_can_be_read(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Extended:
        old: int
        new: float | None = None

    path = tmp_path / "document.json"
    path.write_text('{"old": 1}', encoding="utf-8")
    assert read_document(path, Extended) == Extended(1)
    path.write_text('{"new": 0.5}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"document.json is damaged: it lacks old;"):
        read_document(path, Extended)
