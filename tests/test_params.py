from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
from conftest import ROOT

from mnistflow.config import params
from mnistflow.config.forms import argument_problems
from mnistflow.config.params import Recipe
from mnistflow.core.files import read_yaml
from mnistflow.evaluation.gates import LIMITS
from mnistflow.models.losses import LossName
from mnistflow.training.optimizers import OptimizerName, ScheduleName

DOCUMENT: Any = read_yaml(ROOT / "params.yaml")


def changed(path: str, value: object) -> Any:
    document = copy.deepcopy(DOCUMENT)
    *parents, leaf = path.split(".")
    block = document
    for key in parents:
        block = block[key]
    block[leaf] = value
    return document


def flattened(tree: Any, prefix: str = "") -> list[str]:
    if not isinstance(tree, dict):
        return [prefix]
    return [leaf for key, value in tree.items() for leaf in flattened(value, f"{prefix}.{key}" if prefix else key)]


def test_a_path_with_spaces_is_written_as_readme_shows_it(tmp_path: Path) -> None:
    from dvc.utils.hydra import apply_overrides

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (override,) = re.findall(r"`-S '(datasets\.folder\.path=[^']*)'`", readme)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    apply_overrides(tmp_path / "params.yaml", [override])
    assert params.load(tmp_path / "params.yaml").datasets["folder"]["path"] == "~/my data (1)"


def test_the_committed_file_is_right() -> None:
    loaded = params.load(ROOT / "params.yaml")
    assert loaded.model == "lenet5"
    assert loaded.recipe_block.epochs == DOCUMENT["recipes"]["default"]["epochs"]


def test_the_committed_file_has_the_form_that_dvc_writes(tmp_path: Path) -> None:
    from dvc.utils.hydra import apply_overrides

    shutil.copy(ROOT / "params.yaml", tmp_path)
    apply_overrides(tmp_path / "params.yaml", ["seed=0"])
    assert (tmp_path / "params.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("seed", "x", "seed: expected integer; got 'x'"),
        ("seed", True, "seed: expected integer; got true"),
        ("seed", -1, "seed: expected greater than or equal to 0; got -1"),
        ("recipes.default.lr", -1, "recipes.default.lr: expected greater than 0; got -1"),
        ("recipes.default.lr", float("nan"), "recipes.default.lr: expected a finite number; got .nan"),
        ("recipes.default.lr", "0.1", "recipes.default.lr: expected number; got '0.1'"),
        ("recipes.default.epoch", 3, "recipes.default.epoch: unknown key; did you mean 'epochs'?"),
        ("recipes.default.optimizer", "adma", "recipes.default.optimizer: expected 'sgd', 'adam' or 'adamw'"),
        ("recipes.default.betas", [0.9], "recipes.default.betas: expected a list of 2 numbers; got [0.9]"),
        (
            "recipes.default.augment.thickness",
            1.5,
            "recipes.default.augment.thickness: expected less than or equal to 1",
        ),
        (
            "recipes.default.augment.resample",
            -0.1,
            "recipes.default.augment.resample: expected greater than or equal to",
        ),
        ("recipes.default.drawn_digits", 0.5, "recipes.default.drawn_digits: expected integer; got 0.5"),
        ("recipes.seed-003.outliers", 10, "recipes.seed-003.outliers: requires cross_entropy; set it to 0"),
        ("recipes.default.augment.rot", 1, "recipes.default.augment.rot: unknown key; did you mean 'rotate'?"),
        ("preprocess.normalize", "none", "preprocess.normalize: expected 'standard' or 'unit', or list; got 'none'"),
        ("preprocess.normalize", [0.1, 0], "preprocess.normalize: the standard deviation must be at least 1e-6, not 0"),
        ("preprocess.validation_size", 1.5, "preprocess.validation_size: expected integer, or less than 1; got 1.5"),
        ("train.device", "gpu", "train.device: expected auto, cpu, cuda, cuda:N or mps; got 'gpu'"),
        ("preprocess.normalize", {}, "preprocess.normalize: expected 'standard' or 'unit', or list; got {}"),
        ("recipes.default.augment", None, "recipes.default.augment: expected a block of keys; got null"),
        ("train.threads", 10**8, "train.threads: expected less than or equal to 1024, or 'auto'; got 100000000"),
        ("plot.first_image", -1, "plot.first_image: expected greater than or equal to 0; got -1"),
        ("preprocess.pad", 10**9, "preprocess.pad: expected less than or equal to 512; got 1000000000"),
        ("model", "lenet6", "model: there is no model 'lenet6'; did you mean 'lenet5'? known: "),
        ("dataset", "mnits", "dataset: there is no dataset 'mnits'; did you mean 'mnist'?"),
        ("models.MLP", {"architecture": "mlp"}, "models.MLP: expected a name of lower-case letters"),
        ("models.mlp", {"hidden": [1]}, "models.mlp.architecture: is missing"),
        ("models", None, "models: expected a block of keys; got null"),
        ("recipes.default.momentum", None, "recipes.default.nesterov: requires momentum"),
        ("recipes.default.loss", "mse", "recipes.default.label_smoothing: requires cross_entropy"),
        ("recipes.default.schedule", "constant", "recipes.default.warmup: must be null with schedule: constant"),
        ("preprocess.validation_size", 0, "recipes.default.monitor: there is no validation split"),
        ("evaluate.robustness", 1, "evaluate.robustness: expected boolean; got 1"),
        ("evaluate.gates", [], "evaluate.gates: expected a block of keys; got []"),
        ("evaluate.gates.min_macro_f1", -0.1, "evaluate.gates.min_macro_f1: expected greater than or equal to 0; got "),
        ("evaluate.gates.max_loss", float("inf"), "evaluate.gates.max_loss: expected a finite number; got .inf"),
        ("evaluate.gates.max_ece", "5 %", "evaluate.gates.max_ece: expected number; got '5 %'"),
    ],
)
def test_a_mistake_is_named_by_its_path(path: str, value: object, message: str) -> None:
    _, problems = params.parse(changed(path, value))
    assert len(problems) == 1, problems
    assert problems[0].startswith(message)


@pytest.mark.parametrize(("key", "value"), [("keep", "best"), ("patience", 2)])
def test_choosing_on_validation_needs_a_validation_split(key: str, value: object) -> None:
    document = changed(f"recipes.default.{key}", value)
    document["recipes"]["default"]["monitor"] = "none"
    assert params.parse(document)[1] == []
    document["preprocess"]["validation_size"] = 0
    (problem,) = params.parse(document)[1]
    assert problem.startswith(f"recipes.default.{key}: ")
    assert "validation split" in problem


def test_a_gate_needs_its_figure_to_be_measured() -> None:
    document = changed("evaluate.gates.min_robust_accuracy", 0.8)
    assert params.parse(document)[1] == []
    document["evaluate"]["robustness"] = False
    (problem,) = params.parse(document)[1]
    assert problem.startswith("evaluate.gates.min_robust_accuracy: requires evaluate.robustness: true")


def test_the_committed_file_names_every_gate_and_sets_none() -> None:
    assert DOCUMENT["evaluate"]["gates"] == dict.fromkeys(LIMITS)


def test_all_mistakes_are_reported_at_once() -> None:
    document = changed("seed", "x")
    document["recipes"]["default"]["lr"] = 0
    document["plots"] = document.pop("plot")
    document["model"] = "lenet6"
    _, problems = params.parse(document)
    named = sorted(problem.partition(":")[0] for problem in problems)
    assert named == ["model", "plot", "plots", "recipes.default.lr", "seed"]


REQUIRED = [
    leaf
    for leaf in flattened(DOCUMENT)
    if not leaf.startswith(("datasets.", "models.")) and leaf.rpartition(".")[0] in ("", "preprocess", "train", "plot")
]
# Files from before these were there are read as well.
for _since in ("train.checkpoint_every", "train.cuda_graph", "plot.background"):
    REQUIRED.remove(_since)
assert len(REQUIRED) > 8


@pytest.mark.parametrize("leaf", REQUIRED)
def test_a_missing_key_is_named(leaf: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    block = document
    *parents, key = leaf.split(".")
    for parent in parents:
        block = block[parent]
    del block[key]
    _, problems = params.parse(document)
    assert any(problem.startswith(f"{leaf}: is missing") for problem in problems), problems


@pytest.mark.parametrize("document", [None, [], "text", 3])
def test_a_file_that_is_no_mapping_is_refused(document: Any) -> None:
    assert params.parse(document)[0] is None
    assert "must be a mapping" in params.parse(document)[1][0]


def test_selected_holds_only_what_the_result_rests_on() -> None:
    chosen = params.load(ROOT / "params.yaml").selected()
    assert chosen["models.lenet5.padding"] == 2
    assert chosen["recipes.default.augment.rotate"] == 15.0
    assert not [key for key in chosen if key.startswith(("models.mlp", "datasets.digits", "tracking", "plot"))]
    assert not [key for key in chosen if key.endswith(("train.device", ".path"))]


def test_arguments_are_held_against_the_signature_that_takes_them() -> None:
    def build(position: int, *, width: int, name: str = "x") -> None:
        """Take a block."""

    assert argument_problems("here", build, {"width": 1}) == []
    assert argument_problems("here", build, {}) == ["here.width: is missing; this key is required"]
    (problem,) = argument_problems("here", build, {"width": 1, "nane": "y"})
    assert problem == "here.nane: unknown key; did you mean 'name'? known: name, width"
    (problem,) = argument_problems("here", build, {"width": "1"})
    assert problem == "here.width: expected integer; got '1'"


def test_names_in_recipes_are_those_that_training_knows() -> None:
    for field, names in (("optimizer", OptimizerName), ("schedule", ScheduleName), ("loss", LossName)):
        assert get_args(Recipe.model_fields[field].annotation) == get_args(names)
