from __future__ import annotations

import pytest
from conftest import ROOT
from pydantic import JsonValue

from mnistflow.config.params import Params, parse
from mnistflow.core.files import read_yaml
from mnistflow.tracking.description import run_name


def changed(**changes: JsonValue) -> Params:
    """The params of this project with some keys changed: top-level ones, or ``block__name`` under a block."""
    document = read_yaml(ROOT / "params.yaml")
    assert isinstance(document, dict)
    for path, value in changes.items():
        block, _, name = path.rpartition("__")
        target = document[block] if block else document
        assert isinstance(target, dict)
        target[name] = value
    params, problems = parse(document)
    assert params is not None, problems
    return params


RECIPE = {"epochs": 1, "batch_size": 32, "shuffle": True, "loss": "cross_entropy", "optimizer": "sgd", "lr": 0.1}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "lenet5 · default"),
        ({"model": "mlp", "seed": 3}, "mlp · default seed=3"),
        ({"dataset": "digits", "preprocess__pad": 2}, "lenet5 · default on digits pad=2"),
        # A block that the committed params.yaml lacks is named; what else is changed is still told.
        ({"model": "wide", "models__wide": {"architecture": "mlp"}, "seed": 3}, "wide · default seed=3"),
        ({"recipe": "mine", "recipes__mine": RECIPE, "preprocess__pad": 2}, "lenet5 · mine pad=2"),
        ({"dataset": "own", "datasets__own": {}, "seed": 3}, "lenet5 · default on own seed=3"),
    ],
)
def test_a_run_is_named_by_what_differs_from_the_committed_params(changes: dict[str, JsonValue], name: str) -> None:
    assert run_name(changed(**changes), changed()) == name


def test_a_run_without_committed_params_is_named_by_model_and_recipe() -> None:
    assert run_name(changed(seed=3), None) == "lenet5 · default"
