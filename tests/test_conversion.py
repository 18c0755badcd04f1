from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Splits

from mnistflow import models
from mnistflow.config.paths import Paths
from mnistflow.core.files import sha256
from mnistflow.core.tensors import Split, write_split
from mnistflow.export.conversion import convert
from mnistflow.export.formats import Source
from mnistflow.models import ModelMetadata
from mnistflow.recognition.predictor import Predictor


@pytest.fixture(scope="module")
def paths(digits: Splits, tmp_path_factory: pytest.TempPathFactory) -> Paths:
    folder = tmp_path_factory.mktemp("project")
    found = Paths(**{name: folder / path for name, path in vars(Paths.load(ROOT / "dvc.yaml")).items()})
    for path, split in zip((found.train_split, found.validation_split, found.test_split), digits, strict=True):
        write_split(path, split)
    return found


@pytest.fixture(scope="module")
def source(digits: Splits, paths: Paths) -> Source:
    """A network that reads most of the digits, after a few steps."""
    torch.manual_seed(0)
    train = digits[0]
    model = models.build("lenet5", (1, 28, 28), 10, {})
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(60):
        chosen = torch.arange(step * 64, (step + 1) * 64) % len(train)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(train.images[chosen]), train.labels[chosen]).backward()
        optimizer.step()
    models.save(paths.weights, model, ModelMetadata("lenet5", {}, (1, 28, 28), train.inputs, "cross_entropy"))
    return Source(paths.weights, "lenet5 · quick", 0.9)


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_what_is_written_answers_as_the_weights(form: str, source: Source, paths: Paths, tmp_path: Path) -> None:
    target = tmp_path / "out" / f"model.{form}"
    done = convert(source, target, form, paths)
    assert (done.path, done.format, done.name) == (str(target), form, "lenet5 · quick")
    assert done.bytes == target.stat().st_size
    assert done.opset == (20 if form == "onnx" else None)
    assert done.weights == sha256(source.weights)
    assert done.parity is not None
    assert (done.parity.images, done.parity.agreeing) == (360, 360)
    assert done.parity.largest_difference < 1e-5
    assert done.cost is None
    assert "360 of 360 test images get the same label" in done.text()
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_int8_is_judged_on_validation(source: Source, paths: Paths, digits: Splits, tmp_path: Path) -> None:
    done = convert(source, tmp_path / "model.onnx", "int8.onnx", paths)
    assert done.cost is not None
    assert done.cost.validation_accuracy - done.cost.validation_accuracy_int8 < 0.0005
    rounded = Predictor(tmp_path / "model.onnx")
    test = digits[2]
    found = rounded.probabilities(test.raw_images()).argmax(axis=1)
    assert done.cost.test_accuracy_int8 == float((found == test.labels.numpy()).mean())
    assert done.cost.test_accuracy > 0.8
    assert done.bytes < 0.5 * source.weights.stat().st_size
    assert (rounded.identity.name, rounded.identity.test_accuracy) == ("lenet5 · quick", done.cost.test_accuracy_int8)


def test_int8_that_costs_too_much_is_not_written(source: Source, paths: Paths, digits: Splits, tmp_path: Path) -> None:
    # Fitted to images that are nearly empty, every larger value is cut off.
    train = digits[0]
    faint = replace(train, images=train.images.clamp(max=float(train.images.min()) + 0.05))
    own = replace(paths, train_split=tmp_path / "train.safetensors")
    write_split(own.train_split, faint)
    with pytest.raises(ValueError, match="8-bit integers cost .* points of accuracy on the validation split"):
        convert(source, tmp_path / "model.onnx", "int8.onnx", own)
    assert not (tmp_path / "model.onnx").exists()


def test_without_images_of_the_same_data_set_nothing_is_compared(
    source: Source, paths: Paths, digits: Splits, tmp_path: Path
) -> None:
    test: Split = digits[2]
    for number, other in enumerate(
        (
            replace(test, inputs=replace(test.inputs, dataset="other")),
            replace(test, inputs=replace(test.inputs, padding=2)),
        )
    ):
        own = replace(paths, test_split=tmp_path / f"{number}.safetensors")
        write_split(own.test_split, other)
        done = convert(source, tmp_path / "model.onnx", "onnx", own)
        assert done.parity is None
        assert "not checked against PyTorch: this folder has no test images" in done.text()
        with pytest.raises(ValueError, match="this folder has none of the data set digits"):
            convert(source, tmp_path / "int8.onnx", "int8.onnx", own)
    gone = replace(paths, test_split=tmp_path / "gone.safetensors")
    assert convert(source, tmp_path / "model.onnx", "onnx", gone).parity is None


def test_an_empty_validation_split_judges_nothing(source: Source, paths: Paths, digits: Splits, tmp_path: Path) -> None:
    held_out = digits[1]
    own = replace(paths, validation_split=tmp_path / "validation.safetensors")
    images, labels, indices = (part[:0] for part in (held_out.images, held_out.labels, held_out.indices))
    empty = replace(held_out, images=images, labels=labels, indices=indices)
    write_split(own.validation_split, empty)
    with pytest.raises(ValueError, match="int8 needs training images to calibrate"):
        convert(source, tmp_path / "int8.onnx", "int8.onnx", own)
