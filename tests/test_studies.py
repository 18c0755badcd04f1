from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from mnistflow.checks import problems
from mnistflow.cli.output import markdown_table
from mnistflow.config.forms import ParamsError
from mnistflow.core.documents import read_document
from mnistflow.core.files import read_yaml
from mnistflow.evaluation.scores import read_scores
from mnistflow.experiments import studies, tables
from mnistflow.experiments.results import Result
from mnistflow.experiments.studies import Study
from mnistflow.training.history import Summary

NAMES = sorted(path.stem for path in (ROOT / "studies").glob("*.yaml"))
CODE = ("abc", "def")
SMALL = """\
title: Small
question: Is it?
seeds: [0, 1, 2]
columns: [first_epoch, kept_epoch, validation, shifts, dead_units, gradients]
set: {model: mlp, preprocess.validation_size: 0}
entries:
  one:
    title: the first
    published: about 90
    expected: [89, 91]
    set: {recipe: seed-003, models.mlp.hidden: [8]}
    limit: {recipes.seed-003.epochs: 2}
  two:
    like: one
    set: {recipes.seed-003.weight_decay: 0.1}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one study, small.yaml."""
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "small.yaml").write_text(SMALL, encoding="utf-8")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_a_study_asks_a_question_with_entries_that_can_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    study = studies.load(name)
    assert study.title
    assert study.question.endswith("?")
    assert len(study.entries) > 1
    for entry in study.entries:
        assert len(entry.experiments) >= 3, entry.name
    contents = [str(sorted(experiment.chosen.items())) for experiment in study.experiments()]
    assert len(set(contents)) == len(contents), "two experiments are the same"
    for one_experiment in study.experiments():
        if one_experiment.document["dataset"] != "folder" and one_experiment.document["seed"] == 0:
            assert problems.document_problems(one_experiment.document) == [], one_experiment.name


def test_there_are_studies_for_all_five_systems_and_six_questions() -> None:
    questions = {
        "activation", "initialisation", "normalisation", "pooling", "early_stopping", "depth_without_nonlinearity"
    }  # fmt: skip
    assert {"seeds", *questions} <= set(NAMES)


def test_an_entry_is_the_params_with_its_changes(folder: Path) -> None:
    study = studies.load("small")
    one, two = study.entries
    base: Any = read_yaml(folder / "params.yaml")
    expected = copy.deepcopy(base)
    expected |= {"seed": 1, "model": "mlp", "recipe": "seed-003"}
    expected["preprocess"]["validation_size"] = 0
    expected["models"]["mlp"]["hidden"] = [8]
    expected["recipes"]["seed-003"]["epochs"] = 2
    assert one.experiments[1].document == expected
    expected["recipes"]["seed-003"]["weight_decay"] = 0.1
    assert two.experiments[1].document == expected
    assert (one.epochs, two.epochs) == (3, 3)
    assert base == read_yaml(folder / "params.yaml")


def test_full_ignores_the_limits_of_entries(folder: Path) -> None:
    (one, _) = studies.load("small", full=True).entries
    (cut, _) = studies.load("small").entries
    assert (one.name, one.label, cut.label) == ("one", "one-full", "one")
    assert one.experiments[0].name == "small-one-0-full"
    assert one.experiments[0].chosen["recipes.seed-003.epochs"] == 3
    assert one.expected is None  # that is what it comes to when it is cut short


def test_experiments_come_seed_by_seed_and_can_be_chosen_by_entry(folder: Path) -> None:
    study = studies.load("small")
    names = [experiment.name for experiment in study.experiments()]
    assert names == [f"small-{entry}-{seed}" for seed in range(3) for entry in ("one", "two")]
    assert [one_experiment.name for one_experiment in study.experiments(["two"])] == [
        f"small-two-{seed}" for seed in range(3)
    ]
    with pytest.raises(ValueError, match="study small has no entry 'tow'; did you mean 'two'?"):
        study.experiments(["tow"])


def test_dvc_gets_the_changes_under_a_name_that_is_free(folder: Path) -> None:
    first = studies.load("small").experiments(["two"])[0]
    planned = first.planned(read_yaml(folder / "params.yaml"), {"small-two-0", "small-two-0-2"})  # type: ignore[arg-type]
    assert planned.name == "small-two-0-3"
    assert planned.overrides == (
        "seed=0",
        'model="mlp"',
        "preprocess.validation_size=0",
        'recipe="seed-003"',
        "models.mlp.hidden=[8]",
        "+recipes.seed-003.weight_decay=0.1",
        "recipes.seed-003.epochs=2",
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds:", "seed:", "studies/small.yaml: seed: unknown key; did you mean 'seeds'?"),
        ("like: one", "like: none", "studies/small.yaml: entries.two.like: no entry 'none' above; did you mean 'one'?"),
        ("epochs: 2", "epochs: 0", "studies/small.yaml: one: recipes.seed-003.epochs: expected greater than or equal"),
        ("recipe: seed-003", "recipe: seed-005", "studies/small.yaml: one: recipe: there is no recipe 'seed-005'"),
        ("columns: [", "columns: [acc, ", "studies/small.yaml: columns.0: expected 'first_epoch'"),
    ],
)
def test_a_mistake_is_named(folder: Path, old: str, new: str, message: str) -> None:
    path = folder / "studies" / "small.yaml"
    path.write_text(SMALL.replace(old, new), encoding="utf-8")
    with pytest.raises(ParamsError) as caught:
        studies.load("small")
    assert any(problem.startswith(message) for problem in caught.value.problems), caught.value.problems


def test_a_mistake_in_the_arguments_of_a_model_is_found_by_check(folder: Path) -> None:
    (folder / "studies" / "small.yaml").write_text(SMALL.replace("hidden", "hiden"), encoding="utf-8")
    found = problems.document_problems(studies.load("small").experiments()[0].document)
    assert found == [
        "models.mlp.hiden: unknown key; did you mean 'hidden'? known: activation, dropout, hidden, init, init_std"
    ]


def test_an_unknown_study_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match="there is no study 'smal'; did you mean 'small'?"):
        studies.load("smal")


# ---------------------------------------------------------------------------------------------------------------------
# Results


SCORES = read_scores(ROOT / "metrics" / "evaluate.json")


def result(study: Study, entry: int, seed: int, accuracy: float) -> Result:
    layers = [
        {"moment": moment, "layer": layer, "dead_units": dead, "units": units, "gradient_norm": norm}
        for moment, norm in (("start", "0.25"), ("end", "9"))
        for layer, dead, units in (("layers.1", "2", "8"), ("layers.3", "", "10"))
    ]
    return Result(
        name=f"whatever-{entry}-{seed}",
        commit="0" * 40,
        chosen=dict(study.entries[entry].experiments[seed].chosen),
        code=CODE,
        train=replace(
            read_document(ROOT / "metrics" / "train.json", Summary), epochs=2, kept_epoch=2, val_accuracy=None
        ),
        test=replace(SCORES, accuracy=accuracy, shift_accuracies=(accuracy - 0.1, accuracy - 0.3)),
        history=[{"test_accuracy": "0.5", "val_accuracy": ""}, {"test_accuracy": str(accuracy), "val_accuracy": ""}],
        layers=layers,
        weights=f"md5-{entry}-{seed}",
    )


def test_a_result_is_found_by_content_and_not_by_name(folder: Path) -> None:
    study = studies.load("small")
    first, second, _ = study.entries[0].experiments
    found = [result(study, 0, 0, 0.9)]
    assert first.find(found, CODE) is found[0]
    assert second.find(found, CODE) is None
    assert first.find(found, ("abc", "other")) is None
    renamed = replace(found[0], name=second.name)
    assert second.find([renamed], CODE) is None


def test_what_other_code_has_made_is_shown_where_this_code_has_made_nothing(folder: Path) -> None:
    study = studies.load("small")
    older = [replace(result(study, entry, 0, 0.8), code=("older",)) for entry in (0, 1)]
    oldest = [replace(result(study, entry, seed, 0.7), code=("oldest",)) for entry in (0, 1) for seed in (0, 1)]
    ours = result(study, 0, 2, 0.9)
    one, two = tables.newest(study, [*older, ours, *oldest], CODE, {})
    assert (one.results, two.results) == ((ours,), (older[1],))  # never seeds of two versions in one row
    assert [row.results for row in tables.newest(study, [], CODE, {})] == [(), ()]


def test_the_table_says_what_was_reached_beside_what_was_published(folder: Path) -> None:
    study = studies.load("small")
    found = [result(study, 0, seed, accuracy) for seed, accuracy in enumerate((0.9, 0.895, 0.905))]
    one, two = tables.table(study, found, CODE, {"md5-0-0": 1.5, "md5-0-1": 2.5})
    assert one.cells(study.columns) == {
        "entry": "one",
        "system": "the first",
        "published %": "about 90",
        "expected %": "89.0 to 91.0",
        "test accuracy %": "90.00 ± 0.50 (3)",
        "each seed": "90.00, 89.50, 90.50",
        "inside": "yes",
        "epochs": "2 of 3",
        "s an epoch": "1.5",
        "after 1 epoch %": "50.00 ± 0.00 (3)",
        "weights of epoch": "2, 2, 2",
        "validation %": "",
        "moved 1 px %": "80.0 ± 0.5 (3)",
        "moved 2 px %": "60.0 ± 0.5 (3)",
        "dead units % by layer": "25",
        "gradient norm by layer, at the start": "0.25, 0.25",
    }
    assert two.inside is None
    assert two.cells(())["test accuracy %"] == ""
    outside = tables.table(study, [*found[:2], result(study, 0, 2, 0.92)], CODE, {})[0]
    assert outside.cells(())["inside"] == "NO"


def test_the_table_says_what_a_network_reads_of_other_handwriting(folder: Path) -> None:
    study = studies.load("small")
    results = [result(study, 0, 0, 0.9), result(study, 0, 1, 0.8)]
    row = tables.table(study, results, CODE, {})[0]
    assert "digits-uci %" not in row.cells(["handwriting"])
    read = {"md5-0-0": {"digits-uci": 0.97, "photographs": 0.98}, "md5-0-1": {"digits-uci": 0.95, "photographs": 0.98}}
    cells = replace(row, handwriting=read).cells(["handwriting"])
    assert (cells["digits-uci %"], cells["photographs %"]) == ("96.00 ± 1.41 (2)", "98.00 ± 0.00 (2)")


def test_markdown_omits_empty_columns() -> None:
    lines = markdown_table([{"entry": "one", "x": "", "y": "1"}, {"entry": "a", "x": "", "y": "", "z": "2"}])
    assert lines == [
        "| entry | y | z |",
        "|-------|---|---|",
        "| one   | 1 |   |",
        "| a     |   | 2 |",
    ]
