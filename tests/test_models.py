from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from torch import nn
from torch.nn import functional as F

from mnistflow import models
from mnistflow.config.params import load
from mnistflow.core.tensors import Inputs, write_tensors
from mnistflow.models import ARCHITECTURES, ModelMetadata, ShapeError
from mnistflow.models.architectures.architecture import ACTIVATIONS, pool

BLOCKS = load(ROOT / "params.yaml").models
INPUTS = Inputs("digits", ("zero", "one", "two"), padding=0, mean=0.5, std=0.25)


def test_every_architecture_is_used_by_a_block() -> None:
    assert {block.architecture for block in BLOCKS.values()} == set(ARCHITECTURES)
    assert BLOCKS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_shape": (1, 10**6, 10**6)}, "a side may have at most 1536"),
        ({"arguments": {"hidden": [10**6, 10**6]}}, "has shape"),
        ({"arguments": {"hidden": [8, 10**6]}}, "has shape|is missing"),
    ],
)
def test_weights_that_claim_a_huge_network_take_no_memory(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    model = models.build("mlp", (1, 28, 28), 10, {"hidden": [8]})
    metadata = models.ModelMetadata(
        "mlp", {"hidden": [8]}, (1, 28, 28), Inputs("mnist", tuple("0123456789"), 0, 0.0, 1.0), "cross_entropy"
    )
    models.save(tmp_path / "model.safetensors", model, replace(metadata, **change))
    with pytest.raises(ValueError, match=message):
        models.load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 24)])
def test_every_model_takes_the_shape_of_the_data(name: str, shape: models.ImageShape) -> None:
    block = BLOCKS[name]
    model = models.build(block.architecture, shape, 7, block.arguments)
    logits = model(torch.randn(5, *shape))
    assert logits.shape == (5, 7)
    F.cross_entropy(logits, torch.arange(5)).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", BLOCKS)
def test_every_model_comes_back_from_its_file_alone(name: str, tmp_path: Path) -> None:
    block, path = BLOCKS[name], tmp_path / "model.safetensors"
    model = models.build(block.architecture, (1, 28, 28), 3, block.arguments)
    metadata = ModelMetadata(block.architecture, block.arguments, (1, 28, 28), INPUTS, "cross_entropy", 1 / 3)
    models.save(path, model, metadata)
    again, found = models.load(path)
    assert found == metadata
    assert not again.training
    images = torch.randn(4, 1, 28, 28)
    assert torch.equal(again(images), model.eval()(images))


def test_lenet5_has_the_parameters_of_the_paper() -> None:
    # C1 6(25 + 1), C3 16(6 * 25 + 1), C5 120(400 + 1), F6 84(120 + 1), output 10(84 + 1)
    expected = 156 + 2416 + 48120 + 10164 + 850
    assert models.parameter_count(models.build("lenet5", (1, 32, 32), 10, {})) == expected
    assert models.parameter_count(models.build("lenet5", (1, 28, 28), 10, {"padding": 2})) == expected
    # without padding 28 x 28 leaves 16 * 4 * 4 features
    assert models.parameter_count(models.build("lenet5", (1, 28, 28), 10, {})) == expected - 120 * 144


def test_lenet5_computes_what_its_layers_say() -> None:
    model = models.build("lenet5", (1, 28, 28), 10, {"padding": 2, "pooling": "average", "activation": "tanh"})
    weights = dict(model.named_parameters())
    x = torch.randn(3, 1, 28, 28)
    h = F.avg_pool2d(F.conv2d(x, weights["features.0.weight"], weights["features.0.bias"], padding=2).tanh(), 2)
    h = F.avg_pool2d(F.conv2d(h, weights["features.3.weight"], weights["features.3.bias"]).tanh(), 2).flatten(1)
    h = F.linear(h, weights["classifier.1.weight"], weights["classifier.1.bias"]).tanh()
    h = F.linear(h, weights["classifier.3.weight"], weights["classifier.3.bias"]).tanh()
    expected = F.linear(h, weights["classifier.5.weight"], weights["classifier.5.bias"])
    torch.testing.assert_close(model(x), expected)


def test_lenet5_without_activation_between_its_dense_layers() -> None:
    arguments = {"dense_activation": "identity"}
    classifier = models.build("lenet5", (1, 28, 28), 10, arguments).classifier
    assert isinstance(classifier, nn.Sequential)
    a, b = torch.randn(2, 6, 16, 4, 4)
    linear = classifier(a) + classifier(b) - classifier(torch.zeros_like(a))
    torch.testing.assert_close(linear, classifier(a + b), atol=1e-5, rtol=1e-5)
    same = models.build("lenet5", (1, 28, 28), 10, {"activation": "tanh", "dense_activation": None})
    assert sum(isinstance(module, nn.Tanh) for module in same.modules()) == 4


@pytest.mark.parametrize(
    ("kind", "expected"), [("max", [[6.0, 8.0]]), ("average", [[3.5, 5.5]]), ("subsample", [[1.0, 3.0]])]
)
def test_pooling_makes_one_pixel_of_four_and_leaves_an_odd_rest_out(kind: Any, expected: list[list[float]]) -> None:
    image = torch.tensor([[1.0, 2.0, 3.0, 4.0, 9.0], [5.0, 6.0, 7.0, 8.0, 9.0], [9.0, 9.0, 9.0, 9.0, 9.0]])
    assert pool(kind)(image[None, None])[0, 0].tolist() == expected


def test_the_small_cnn_of_tutorials() -> None:
    block = BLOCKS["small-cnn"]
    model = models.build(block.architecture, (1, 28, 28), 10, block.arguments)
    # 10(25 + 1), 20(10 * 25 + 1), 50(320 + 1), 10(50 + 1)
    assert models.parameter_count(model) == 260 + 5020 + 16050 + 510
    weights = list(model.parameters())
    x = torch.randn(3, 1, 28, 28)
    h = F.max_pool2d(F.conv2d(x, weights[0], weights[1]).relu(), 2)
    h = F.max_pool2d(F.conv2d(h, weights[2], weights[3]).relu(), 2).flatten(1)
    h = F.linear(F.linear(h, weights[4], weights[5]).relu(), weights[6], weights[7])
    torch.testing.assert_close(model(x), h.log_softmax(dim=1))
    # log-softmax is idempotent, so cross-entropy on top of it is that of the logits
    labels = torch.tensor([1, 2, 3])
    torch.testing.assert_close(F.cross_entropy(model(x), labels), F.cross_entropy(h, labels))


def test_a_convnet_refuses_images_that_its_convolutions_use_up() -> None:
    models.build("convnet", (1, 16, 16), 10, {"kernels": [4, 4], "hidden": []})
    with pytest.raises(ShapeError, match="2 convolutions of 5 x 5, each followed by pooling, leave nothing"):
        models.build("convnet", (1, 16, 15), 10, {"kernels": [4, 4], "hidden": []})
    with pytest.raises(ShapeError, match="at least 4 x 4 pixels, not 4 x 3"):
        models.build("compact", (1, 4, 3), 10, {})


def test_compact_is_small() -> None:
    assert 50_000 < models.parameter_count(models.build("compact", (1, 28, 28), 10, {})) <= 100_000


def test_fast_has_the_layers_that_it_says() -> None:
    arguments = {"widths": [16, 16, 32], "hidden": 64}
    # three convolutions and their normalisations, 800-64-10 dense
    expected = 16 * 25 + 16 * 16 * 9 + 32 * 16 * 9 + 2 * (16 + 16 + 32) + 64 * (800 + 1) + 10 * (64 + 1)
    assert models.parameter_count(models.build("fast", (1, 28, 28), 10, arguments)) == expected
    models.build("fast", (1, 11, 11), 10, arguments)
    with pytest.raises(ShapeError, match="at least 11 x 11 pixels, not 11 x 10"):
        models.build("fast", (1, 11, 10), 10, arguments)


@pytest.mark.parametrize(("padding", "least"), [(0, 16), (2, 12)])
def test_lenet5_refuses_images_that_are_too_small(padding: int, least: int) -> None:
    models.build("lenet5", (1, least, least), 10, {"padding": padding})
    with pytest.raises(ShapeError, match=rf"at least {least} x {least} pixels, not {least} x {least - 1}"):
        models.build("lenet5", (1, least, least - 1), 10, {"padding": padding})


def test_an_mlp_without_hidden_layers_is_linear() -> None:
    model = models.build("mlp", (1, 4, 4), 3, {"hidden": []})
    a, b = torch.randn(2, 6, 1, 4, 4)
    torch.testing.assert_close(model(a) + model(b) - model(torch.zeros_like(a)), model(a + b))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_mlp_has_the_layers_it_was_asked_for(activation: str) -> None:
    model = models.build("mlp", (1, 4, 4), 3, {"hidden": [8, 5], "activation": activation, "dropout": 0.25})
    widths = [(m.in_features, m.out_features) for m in model.modules() if isinstance(m, nn.Linear)]
    assert widths == [(16, 8), (8, 5), (5, 3)]
    kinds = [type(module) for module in model.modules()]
    assert kinds.count(ACTIVATIONS[activation]) == 2  # type: ignore[index]
    assert kinds.count(nn.Dropout) == 2


@pytest.mark.parametrize(
    ("init", "std"),
    [
        ({}, 1 / math.sqrt(3 * 400)),  # uniform in ±1/√400
        ({"init": "normal", "init_std": 0.01}, 0.01),
        ({"init": "xavier"}, math.sqrt(2 / (400 + 300))),
        ({"init": "kaiming"}, math.sqrt(2 / 400)),
    ],
)
def test_the_weights_of_an_mlp_start_as_asked(init: dict[str, Any], std: float) -> None:
    torch.manual_seed(0)
    model = models.build("mlp", (1, 20, 20), 10, {"hidden": [300], **init})
    weight, bias, *_ = model.parameters()
    assert float(weight.detach().std()) == pytest.approx(std, rel=0.02)
    assert abs(float(weight.detach().mean())) < std / 100
    assert 0.9 / math.sqrt(400) < float(bias.detach().abs().max()) <= 1 / math.sqrt(400)
    bounded = "normal" not in init.values() and "kaiming" not in init.values()
    assert (float(weight.detach().abs().max()) <= math.sqrt(3) * std * 1.01) == bounded


@pytest.mark.parametrize(
    ("architecture", "arguments", "message"),
    [
        ("mlp", {"hidden": [8], "init": "normal"}, "init_std: must be a number above 0 with init: normal, not None"),
        ("mlp", {"hidden": [8], "init_std": 0.1}, "init_std: must be null with init: default, not 0.1"),
        ("convnet", {"kernels": [], "hidden": []}, "kernels: must have at least one entry"),
        ("convnet", {"kernels": [0], "hidden": []}, "kernels: every number must be 1 to 100,000"),
        ("convnet", {"kernels": [1], "hidden": [0]}, "hidden: every number must be 1 to 100,000"),
        ("convnet", {"kernels": [1], "hidden": [], "kernel_size": 0}, "kernel_size: must be 1 to 99"),
        ("convnet", {"kernels": [1], "hidden": [], "dropout": 1.0}, "dropout: must be at least 0"),
        ("compact", {"width": 0}, "width: must be 1 to 4096"),
        ("fast", {"widths": [8, 8], "hidden": 8}, r"widths: must be three numbers from 1 to 4096, not \[8, 8\]"),
        ("fast", {"widths": [8, 8, 0], "hidden": 8}, "widths: must be three numbers"),
        ("fast", {"widths": [8, 8, 8], "hidden": 0}, "hidden: must be 1 to 100,000"),
        ("mlp", {"hidden": [8, 0]}, "hidden: every width must be 1 to 1,000,000"),
        ("mlp", {"hidden": [8], "dropout": 1.0}, "dropout: must be at least 0 and less than 1"),
        ("lenet5", {"padding": -1}, "padding: must be 0 to 512"),
    ],
)
def test_an_argument_that_cannot_work_is_named(architecture: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.build(architecture, (1, 28, 28), 10, arguments)


def test_weights_that_are_not_those_of_the_network_they_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = models.build("mlp", (1, 28, 28), 3, {"hidden": [8]})
    metadata = ModelMetadata("mlp", {"hidden": [8]}, (1, 28, 28), INPUTS, "cross_entropy")
    for wrong in (
        replace(metadata, architecture="lenet5", arguments={}),
        replace(metadata, architecture="lenet6"),
        replace(metadata, arguments={"hidden": [9]}),
        replace(metadata, arguments={"hiden": [8]}),
        replace(metadata, image_shape=(1, 14, 14)),
        replace(metadata, temperature=0.0),
        replace(metadata, temperature=-1.0),
    ):
        models.save(path, model, wrong)
        with pytest.raises(ValueError, match=r"model\.safetensors does not match its metadata"):
            models.load(path)
    write_tensors(path, model.state_dict(), {})
    with pytest.raises(ValueError, match="does not match its metadata"):
        models.load(path)


def test_weights_from_before_probabilities_were_scaled_can_be_loaded(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = models.build("mlp", (1, 28, 28), 3, {"hidden": [8]})
    metadata = ModelMetadata("mlp", {"hidden": [8]}, (1, 28, 28), INPUTS, "cross_entropy")
    written = asdict(metadata)
    del written["temperature"]
    write_tensors(path, model.state_dict(), {"model": written})
    assert models.load(path)[1] == metadata


def test_training_can_start_from_weights_of_the_same_sizes(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = models.build("mlp", (1, 28, 28), 3, {"hidden": [8]})
    models.save(path, model, ModelMetadata("mlp", {"hidden": [8]}, (1, 28, 28), INPUTS, "cross_entropy"))
    other = models.build("mlp", (1, 28, 28), 3, {"hidden": [8], "activation": "tanh"})
    models.start_from(other, "mlp", path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    with pytest.raises(ValueError, match=r"holds the weights of mlp for 1x28x28 and 3 classes, not of lenet5"):
        models.start_from(models.build("lenet5", (1, 28, 28), 3, {}), "lenet5", path)
    with pytest.raises(ValueError, match=r"\(hidden=\[8\]\), whose sizes differ from those of the chosen model"):
        models.start_from(models.build("mlp", (1, 28, 28), 3, {"hidden": [9]}), "mlp", path)
