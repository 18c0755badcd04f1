"""Whatever single thing is wrong with params.yaml, it is refused with one message, or it runs."""

from __future__ import annotations

import math
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnistflow import models
from mnistflow.checks.problems import problems
from mnistflow.config import params
from mnistflow.config.params import Params
from mnistflow.core.files import read_yaml
from mnistflow.core.tensors import Inputs, Split
from mnistflow.data import datasets
from mnistflow.training.assembly import assemble

DOCUMENT: Any = read_yaml(ROOT / "params.yaml")
TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")

# of dotted keys, those in quotation marks that are not plain words
PATH = re.compile(r"""(([\w-]+|"(\\.|[^"\\\n])*")\.?)+: |the file must be """)

Path_ = tuple[str | int, ...]


def places(tree: Any, here: Path_ = ()) -> list[Path_]:
    """Every key and every element of a list, by its path."""
    if isinstance(tree, dict):
        return [path for key, value in tree.items() for path in ((*here, key), *places(value, (*here, key)))]
    if isinstance(tree, list):
        return [path for i, value in enumerate(tree) for path in ((*here, i), *places(value, (*here, i)))]
    return []


PLACES = places(DOCUMENT)

# What people write where something else belongs, and what nobody would.
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [
            None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, -(10**9), 0.0, -0.5, 0.5, 1.0, 1e-300, 1e300, math.inf,
            -math.inf, math.nan, "", " ", "auto", "cuda", "cuda:99", "cpu", "1e-3", "yes", "no", "null", "0.1", "ünï",
            "..", "/", "~", "lenet5", "mlp", "default", "digits", "best", "adam", "x" * 5000, [], [1], [0.5, 0.25],
            [[]], {}, {"a": 1}, [None], [math.nan, 1.0], ["a", "b"],
        ]
    ),
    st.integers(),
    st.floats(),
    st.text(max_size=20).filter(lambda text: "\0" not in text),
    st.lists(st.integers(-5, 2000), max_size=4),
)  # fmt: skip


def parent_of(document: Any, path: Path_) -> Any:
    for key in path[:-1]:
        document = document[key]
    return document


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, str]:
    """A changed params.yaml, and what was done to it."""
    kind = draw(st.sampled_from(["value", "value", "value", "tag", "remove", "rename", "add", "text"]))
    if kind == "text":
        at, other = draw(st.integers(0, len(TEXT))), draw(st.integers(0, len(TEXT)))
        return draw(
            st.sampled_from(
                [
                    (TEXT[:at], f"cut at {at}"),
                    (TEXT[:at] + TEXT[at + 1 :], f"without character {at}"),
                    (TEXT[:at] + draw(st.sampled_from("{}[]:\t-#&*!|>'\"%@`,\n ")) + TEXT[at:], f"one more at {at}"),
                    (TEXT + "\nseed: 1\n", "duplicate key"),
                    (TEXT.replace("epochs: 6", "epochs: 6\n    epochs: 7"), "duplicate key within"),
                    ("", "empty"),
                    ("\0\1\2", "not text"),
                    ("[1, 2]", "a list"),
                    (TEXT[at:other], f"from {at} to {other}"),
                ]
            )
        )
    document, path = deepcopy(DOCUMENT), draw(st.sampled_from(PLACES))
    parent = parent_of(document, path)
    if kind == "value":
        parent[path[-1]] = draw(VALUES)
        said = f"{path} = {parent[path[-1]]!r}"
    elif kind == "tag":
        tags = ["!!int", "!!float", "!!bool", "!!str", "!!null", "!!binary", "!!set", "!!omap", "!!timestamp", "!x"]
        tag, value = draw(st.sampled_from(tags)), draw(st.sampled_from(["maybe", "1", "[]", "{}", "''", "*a", "&a 1"]))
        parent[path[-1]] = "TAGGED"
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        return text.replace("TAGGED", f"{tag} {value}", 1), f"{path} = {tag} {value}"
    elif kind == "remove":
        parent.pop(path[-1])
        said = f"without {path}"
    elif kind == "rename" and isinstance(parent, dict):
        name = draw(st.sampled_from([f"{path[-1]}s", str(path[-1])[:-1], "", "a b", str(path[-1]).upper()]))
        parent[name] = parent.pop(path[-1])
        said = f"{path} is {name!r} now"
    elif isinstance(parent, dict):
        parent["extra"] = draw(VALUES)
        said = f"extra beside {path}"
    else:
        parent.append(draw(VALUES))
        said = f"longer {path}"
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True), said


def one_step(chosen: Params) -> None:
    """What a training begins with: everything is built, and one small batch goes through."""
    dataset = datasets.build(chosen.dataset, chosen.dataset_arguments)
    block, recipe = chosen.model_block, chosen.recipe_block
    height, width = (side + 2 * chosen.preprocess.pad for side in dataset.image_size)
    with torch.device("meta"):
        if (
            models.parameter_count(models.build(block.architecture, (1, height, width), 10, block.arguments))
            > 5_000_000
        ):
            return
    inputs = Inputs("digits", tuple("0123456789"), 0, 0.0, 1.0)
    split = Split(torch.rand(8, 1, height, width), torch.arange(8), torch.arange(8), inputs)
    model = models.build(block.architecture, (1, height, width), 10, block.arguments)
    generator = torch.Generator().manual_seed(chosen.seed)
    next(assemble(model, split, generator, validation=split, **recipe.arguments).events())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


@given(mutation=mutations())
@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_changed_params_yaml_is_refused_with_its_path_or_runs(mutation: tuple[str, str], folder: Path) -> None:
    text, said = mutation
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        found = problems(path)
    except ValueError as error:  # not YAML
        assert str(error).startswith(str(path)), said
        assert "\n" not in str(error), said
        return
    for line in found:
        assert PATH.match(line), (said, line)
        assert "\n" not in line, (said, line)
        assert len(line) < 600, (said, line)
    if not found:
        one_step(params.load(path))
