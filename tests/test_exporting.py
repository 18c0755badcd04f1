from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import ROOT, Splits
from numpy.typing import NDArray
from torch import Tensor, nn

from mnistflow import models
from mnistflow.config.params import load
from mnistflow.core.files import sha256
from mnistflow.core.tensors import Inputs
from mnistflow.export import formats
from mnistflow.models import ACTIVATIONS, ARCHITECTURES, ModelMetadata
from mnistflow.models.losses import LossName
from mnistflow.recognition.predictor import Predictor

BLOCKS = load(ROOT / "params.yaml").models
INPUTS = Inputs("digits", ("zero", "one", "two"), padding=2, mean=0.25, std=0.5)


def saved(
    path: Path, architecture: str, arguments: Mapping[str, object], loss: LossName = "cross_entropy", seed: int = 0
) -> Path:
    """Weights as after a training: large enough for answers that differ, and with statistics of batches."""
    torch.manual_seed(seed)
    model = models.build(architecture, (1, 32, 32), 3, arguments)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    models.save(path, model, ModelMetadata(architecture, arguments, (1, 32, 32), INPUTS, loss, 0.6))
    return path


def images(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def check(weights: Path, folder: Path) -> Predictor:
    """Export, and hold against PyTorch."""
    formats.onnx_of(weights, folder / "model.onnx")
    predictor, eager = Predictor(folder / "model.onnx"), formats.eager(weights)
    for count in (1, 7, 1001):
        found, expected = predictor.probabilities(images(count)), eager(images(count))
        assert found.shape == (count, 3)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert formats.parity(found, expected).agreeing == count
    return predictor


def test_every_architecture_is_exported_by_a_test() -> None:
    assert {block.architecture for block in BLOCKS.values()} == set(ARCHITECTURES)
    assert BLOCKS


@pytest.mark.parametrize("name", BLOCKS)
def test_every_model_answers_as_in_pytorch(name: str, tmp_path: Path) -> None:
    block = BLOCKS[name]
    weights = saved(tmp_path / "model.safetensors", block.architecture, block.arguments)
    identity = check(weights, tmp_path).identity
    assert identity.name == "model.onnx"
    assert identity.weights == sha256(weights)
    assert (identity.dataset, identity.classes, identity.image_size) == ("digits", INPUTS.classes, (28, 28))
    assert (identity.run, identity.test_accuracy) == (None, None)

    found = formats.pt2_of(weights, tmp_path / "model.pt2")
    written = torch.export.load(tmp_path / "model.pt2").module()
    eager = formats.eager(weights)
    for count in (1, 7):
        np.testing.assert_allclose(found(images(count)), eager(images(count)), atol=1e-6)
        np.testing.assert_array_equal(written(torch.from_numpy(images(count))).detach().numpy(), found(images(count)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_answers_as_in_pytorch_and_ends_a_feature_map(activation: str, tmp_path: Path) -> None:
    arguments = {"kernels": [4, 5], "hidden": [6], "activation": activation, "pooling": "average"}
    weights = saved(tmp_path / "model.safetensors", "convnet", arguments, "mse")
    predictor = check(weights, tmp_path)
    model, metadata = models.load(weights)
    layers = model.layers
    assert isinstance(layers, nn.Sequential)
    x = metadata.inputs.normalise(torch.from_numpy(images(1)))
    first = layers[1](layers[0](x))
    second = layers[4](layers[3](layers[2](first)))
    maps = predictor.feature_maps(images(1)[0])
    assert [name for name, _ in maps] == ["layers.0", "layers.3"]
    for (_, found), expected in zip(maps, (first, second), strict=True):
        np.testing.assert_allclose(found, expected[0].detach().numpy(), atol=1e-5)


def test_what_is_written_is_a_valid_graph_that_names_no_place(tmp_path: Path) -> None:
    weights = saved(tmp_path / "model.safetensors", "lenet5", {})
    formats.onnx_of(weights, tmp_path / "model.onnx", name="lenet5 · default", test_accuracy=0.99)
    graph = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 20)]
    assert [entry.key for entry in graph.metadata_props] == ["mnistflow"]
    for part in (*graph.graph.node, *graph.graph.value_info, *graph.graph.input, *graph.graph.output):
        assert not part.metadata_props
        assert not part.doc_string
    data = (tmp_path / "model.onnx").read_bytes()
    for place in (str(ROOT), str(tmp_path), sys.prefix, "site-packages", ".py"):
        assert place.encode() not in data
    identity = Predictor(tmp_path / "model.onnx").identity
    assert (identity.name, identity.test_accuracy) == ("lenet5 · default", 0.99)


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    weights = saved(tmp_path / "model.safetensors", "lenet5", {})
    formats.onnx_of(weights, tmp_path / "here.onnx")
    program = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT / "src")!r})
from mnistflow.export import formats
formats.onnx_of(Path(sys.argv[1]), Path(sys.argv[2]))
"""
    command = [sys.executable, "-c", program, str(weights), str(tmp_path / "there.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert (tmp_path / "here.onnx").read_bytes() == (tmp_path / "there.onnx").read_bytes()


class Branching(nn.Module):
    """What it computes depends on what it sees, so no graph holds it."""

    def __init__(self, image_shape: models.ImageShape, classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(image_shape[1] * image_shape[2], classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layer(images.flatten(1))
        return logits if logits.sum() > 0 else -logits


def test_a_network_that_cannot_be_exported_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "branching", Branching)
    weights = saved(tmp_path / "model.safetensors", "branching", {})
    for export, form in ((formats.onnx_of, "ONNX"), (formats.pt2_of, "torch.export")):
        with pytest.raises(ValueError, match=f"cannot be exported as {form}: ") as caught:
            export(weights, tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()


def test_raw_images_are_those_that_were_published(digits: Splits) -> None:
    split = digits[2]
    raw = split.raw_images()
    assert raw.shape == (360, 28, 28)
    assert torch.equal(split.inputs.normalise(torch.from_numpy(raw)), split.images)


@pytest.mark.parametrize("name", BLOCKS)
def test_int8_agrees_with_fp32(name: str, digits: Splits, tmp_path: Path) -> None:
    block = BLOCKS[name]
    weights = saved(tmp_path / "model.safetensors", block.architecture, block.arguments)
    formats.onnx_of(weights, tmp_path / "model.onnx", name="one")
    shown = digits[0].raw_images()[:200]
    formats.int8_of(tmp_path / "model.onnx", tmp_path / "int8.onnx", shown)
    exact, rounded = Predictor(tmp_path / "model.onnx"), Predictor(tmp_path / "int8.onnx")
    assert rounded.identity == exact.identity
    formats.note_accuracy(tmp_path / "int8.onnx", 0.75)
    assert Predictor(tmp_path / "int8.onnx").identity.test_accuracy == 0.75
    assert (tmp_path / "int8.onnx").stat().st_size < 0.6 * (tmp_path / "model.onnx").stat().st_size
    found = formats.parity(rounded.probabilities(shown), exact.probabilities(shown))
    assert 0 < found.largest_difference < 0.1
    names = [[layer for layer, _ in graph.feature_maps(shown[0])] for graph in (exact, rounded)]
    assert names[0] == names[1]


def test_parity_counts_labels_and_finds_the_largest_difference() -> None:
    one = np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3]], dtype=np.float32)
    other = np.array([[0.5, 0.2, 0.3], [0.3, 0.3, 0.4]], dtype=np.float32)
    found = formats.parity(one, other)
    assert (found.images, found.agreeing) == (2, 1)
    assert found.largest_difference == pytest.approx(0.2)
    assert formats.parity(one, one) == formats.Parity(2, 2, 0.0)
    assert formats.parity(one[:0], one[:0]) == formats.Parity(0, 0, 0.0)


def test_a_pt2_says_what_it_is(tmp_path: Path) -> None:
    weights = saved(tmp_path / "model.safetensors", "mlp", {"hidden": [8]})
    formats.pt2_of(weights, tmp_path / "model.pt2")
    extra = {"mnistflow.json": ""}
    torch.export.load(tmp_path / "model.pt2", extra_files=extra)
    assert sha256(weights) in extra["mnistflow.json"]
    with zipfile.ZipFile(tmp_path / "model.pt2") as archive:
        for name in archive.namelist():
            assert str(ROOT / "src").encode() not in archive.read(name)
