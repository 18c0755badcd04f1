from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from mnistflow import models
from mnistflow.checks.problems import problems
from mnistflow.core import devices
from mnistflow.core.tensors import Inputs


@pytest.fixture(autouse=True)
def _nothing_built_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))


@pytest.fixture
def params(tmp_path: Path) -> Path:
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path))


def after(params: Path, *changes: tuple[str, str]) -> list[str]:
    text = params.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    params.write_text(text, encoding="utf-8")
    return problems(params)


def test_the_committed_file_is_right(params: Path) -> None:
    assert problems(params) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("padding: 2", "paddin: 2", "models.lenet5.paddin: unknown key; did you mean 'padding'?"),
        ("padding: 2", "padding: two", "models.lenet5.padding: expected integer; got 'two'"),
        ("padding: 2", "padding: -2", "models.lenet5.padding: must be 0 to 512, not -2"),
        (
            "pooling: max",
            "pooling: mean",
            "models.lenet5.pooling: expected 'max', 'average' or 'subsample'; got 'mean'",
        ),
        ("    - 256", "    - 0", "models.mlp.hidden: every width must be 1 to 1,000,000, not [512, 0]"),
        ("dropout: 0.0", "dropout: 1.5", "models.mlp.dropout: must be at least 0 and less than 1"),
        ("dropout: 0.0", "dropout: .nan", "models.mlp.dropout: expected a finite number; got .nan"),
        ("architecture: lenet5", "architecture: lenet", "models.lenet5.architecture: there is no architecture 'lenet'"),
        ("  digits:", "  digit:", "datasets.digit: there is no data set 'digit'; did you mean 'digits'?"),
        ("size: 28", "siz: 28", "datasets.digits.siz: unknown key; did you mean 'size'?"),
        ("path:\n", "path: nowhere\n", "datasets.mnist.path: there is no folder "),
        ("dataset: mnist", "dataset: folder", "datasets.folder.path: set it to your image folder, laid out as "),
        ("validation_size: 0.1", "validation_size: 0.000001", "preprocess.validation_size: 1e-06 of mnist's 60000"),
        ("  robustness: true\n", "", "evaluate.robustness: is missing; this key is required"),
        ("min_accuracy:", "min_acuracy: 0.9", "evaluate.gates.min_acuracy: unknown key; did you mean 'min_accuracy'?"),
        ("min_accuracy:", "min_accuracy: 99", "evaluate.gates.min_accuracy: expected a number from 0 to 1, or null"),
        ("min_accuracy:", "min_accuracy: -1", "evaluate.gates.min_accuracy: expected greater than or equal to 0"),
        ("path:\n", "path: ~nobody-of-this-name/x\n", "datasets.mnist.path: there is no folder "),
        ("    - 256", "    - 1000000000000000000", "models.mlp.hidden: every width must be 1 to 1,000,000"),
        ("validation_size: 0.1", "validation_size: 60000", "preprocess.validation_size: 60000 of mnist's 60000"),
        (
            "validation_size: 0.1",
            "validation_size: 0.0001",
            "preprocess.validation_size: 0.0001 of mnist's 60000 training images is 6; set it to 0, or to 10",
        ),
    ],
)
def test_a_mistake_in_a_block_is_named_by_its_path(params: Path, old: str, new: str, message: str) -> None:
    (problem,) = after(params, (old, new))
    assert problem.startswith(message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            (("model: lenet5", "model: mlp"), ("    - 512\n    - 256", "    - 1000000\n    - 1000000")),
            r"models.mlp: 1,000,796,000,010 parameters, .* need 12,010 GB, but this machine has \d+; choose a",
        ),
        (
            (("pad: 0", "pad: 512"),),
            r"preprocess.pad: 60,000 images of 1052 x 1052 pixels need 266 GB, but this machine has \d+; use less",
        ),
    ],
)
def test_what_cannot_fit_into_the_memory_is_refused(
    params: Path, changes: tuple[tuple[str, str], ...], message: str
) -> None:
    (problem,) = after(params, *changes)
    assert re.match(message, problem)


def test_mistakes_of_every_kind_are_reported_together(params: Path) -> None:
    found = after(
        params,
        ("seed: 0", "seed: zero"),
        ("recipe: default", "recipe: defualt"),
        ("dataset: mnist", "dataset: digits"),
        ("padding: 2", "padding: -2"),
        ("size: 28", "size: big"),
        ("dpi: 110", "dpi: 1"),
        ("optimizer: sgd", "optimizer: sdg"),
    )
    assert sorted(problem.partition(":")[0] for problem in found) == [
        "datasets.digits.size",
        "models.lenet5.padding",
        "plot.dpi",
        "recipe",
        "recipes.default.optimizer",
        "seed",
    ]


def test_a_network_that_cannot_take_the_images_is_refused_only_if_it_is_chosen(params: Path) -> None:
    (problem,) = after(params, ("dataset: mnist", "dataset: digits"), ("size: 28", "size: 8"))
    assert problem.startswith(
        "models.lenet5: LeNet-5 with padding 2 needs images of at least 12 x 12 pixels, not 8 x 8"
    )
    assert len(after(params, ("dpi: 110", "dpi: 1"))) == 2
    assert after(params, ("model: lenet5", "model: mlp"), ("dpi: 1", "dpi: 110")) == []
    assert after(params, ("model: mlp", "model: lenet5"), ("pad: 0", "pad: 2")) == []


def test_models_are_built_once_and_again_when_their_code_changes(params: Path, tmp_path: Path) -> None:
    source = tmp_path / "src"
    shutil.copytree(ROOT / "src" / "mnistflow", source / "mnistflow", ignore=shutil.ignore_patterns("__pycache__"))

    def needed_torch() -> bool:
        program = f"""
import sys
from pathlib import Path
from mnistflow.checks.problems import problems
assert problems(Path({str(params)!r})) == []
print("torch" in sys.modules)
"""
        environment = {**os.environ, "PYTHONPATH": str(source)}
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
        return {b"True\n": True, b"False\n": False}[done.stdout]

    assert needed_torch()
    assert not needed_torch()
    with (source / "mnistflow" / "models" / "architectures" / "mlp.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert needed_torch()
    # What is wrong is refused each time.
    wrong = after(params, ("padding: 2", "padding: -2"))
    assert len(wrong) == 1
    assert problems(params) == wrong


def test_a_folder_for_a_data_set_that_is_not_chosen_may_be_missing(params: Path) -> None:
    assert after(params, ("path:\n", "path: nowhere\n"), ("dataset: mnist", "dataset: digits")) == []


def test_a_folder_of_images_is_looked_at_before_anything_runs(params: Path, tmp_path: Path) -> None:
    folder = f"folder:\n    path: {tmp_path}/own\n"
    (problem,) = after(params, ("dataset: mnist", "dataset: folder"), ("folder:\n    path:\n", folder))
    assert problem.startswith(f"datasets.folder.path: there is no folder {tmp_path}/own")
    for name in "abc":
        (tmp_path / "own" / "train" / name).mkdir(parents=True)
        for index in range(4):
            (tmp_path / "own" / "train" / name / f"{index}.png").touch()
    assert [problem.partition(": ")[0] for problem in problems(params)] == ["datasets.folder.test_size"]
    assert after(params, ("test_size: 0.2", "test_size: 0.5")) == [
        "preprocess.validation_size: 0.1 of folder's 6 training images is 1; set it to 0, or to 3 to 3 images"
    ]
    assert after(params, ("validation_size: 0.1", "validation_size: 0.5")) == []


@pytest.fixture
def trained(params: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with weights of lenet5, where the pipeline leaves them and as a copy to start from."""
    folder = params.parent
    monkeypatch.chdir(folder)
    shutil.copy(ROOT / "dvc.yaml", folder)
    inputs = Inputs("mnist", tuple("0123456789"), padding=0, mean=0.0, std=1.0)
    arguments = {"padding": 2}
    metadata = models.ModelMetadata("lenet5", arguments, (1, 28, 28), inputs, "cross_entropy")
    models.save(folder / "models" / "model.safetensors", models.build("lenet5", (1, 28, 28), 10, arguments), metadata)
    shutil.copy(folder / "models" / "model.safetensors", folder / "start.safetensors")
    return folder


@pytest.mark.parametrize(
    ("start", "model", "message"),
    [
        ("start.safetensors", "lenet5", None),
        ("start.safetensors", "mlp", "start.safetensors holds the weights of lenet5 for 1x28x28 and 10 classes, not"),
        ("models/model.safetensors", "lenet5", "training overwrites models/model.safetensors; copy it first: cp "),
        ("none.safetensors", "lenet5", "there is no file "),
        ("params.yaml", "lenet5", "params.yaml is damaged: "),
        ("loop", "lenet5", "'loop' is not a usable path: too many levels of symbolic links; choose another"),
        ("x" * 5000, "lenet5", "is not a usable path: file name too long; choose another"),
        ("ab" * 16, "lenet5", f"has no weights of run {'ab' * 16}: "),
    ],
)
def test_weights_that_training_cannot_start_from_are_refused(
    trained: Path, params: Path, start: str, model: str, message: str | None
) -> None:
    (trained / "loop").symlink_to("loop")
    found = after(params, ("init_from:\n", f"init_from: {start}\n"), ("model: lenet5", f"model: {model}"))
    assert len(found) == (message is not None)
    for problem in found:
        assert problem.startswith("train.init_from: ")
        assert str(message) in problem


def test_digits_are_drawn_only_for_data_sets_of_digits(params: Path) -> None:
    assert after(params, ("recipe: default", "recipe: handwriting")) == []
    assert after(params, ("dataset: mnist", "dataset: kmnist")) == [
        f"recipes.handwriting.{key}: requires square images of the digits 0 to 9, which kmnist does not have; set it "
        "to 0, or choose the data set mnist"
        for key in ("drawn_digits", "outliers")
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "registered_model: mnistflow",
            "registered_model: a/b",
            "tracking.registered_model: 'a/b' is not a valid model name",
        ),
        ("registered_model: mnistflow", "registered_model: 'a:b'", "tracking.registered_model: 'a:b' is not a valid"),
        ("uri:\n", "uri: foo://bar\n", "tracking.uri: MLflow supports no store foo://; use http://, "),
        ("uri:\n", "uri: postgresql+psycopg2://a:b@host/db\n", None),
        ("uri:\n", "uri: ./runs\n", None),
        ("uri:\n", "uri: sqlite:///other.db\n", None),
    ],
)
def test_a_store_that_could_never_record_is_refused(params: Path, old: str, new: str, message: str | None) -> None:
    found = after(params, (old, new))
    assert len(found) == (message is not None)
    assert all(problem.startswith(str(message)) for problem in found)


@pytest.mark.parametrize("block", ["preprocess", "train", "evaluate"])
def test_a_device_that_is_not_there_is_refused(params: Path, block: str) -> None:
    wanted = f"cuda:{torch.cuda.device_count()}"
    (problem,) = after(params, (f"{block}:\n  device: auto", f"{block}:\n  device: {wanted}"))
    there = ", ".join(devices.available())
    assert problem == f"{block}.device: there is no device '{wanted}' on this machine; available: {there}"


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"params\.yaml cannot be read"):
        problems(tmp_path / "params.yaml")
