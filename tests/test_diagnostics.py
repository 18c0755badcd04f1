from __future__ import annotations

import pytest
import torch
from conftest import ROOT, Splits
from torch import nn
from torch.nn import functional as F

from mnistflow import models
from mnistflow.config.params import load
from mnistflow.models.losses import make_loss
from mnistflow.training.diagnostics import layers

BLOCKS = load(ROOT / "params.yaml").models
assert BLOCKS


def test_gradients_are_those_of_the_loss(digits: Splits) -> None:
    torch.manual_seed(0)
    model = models.build("mlp", (1, 28, 28), 10, {"hidden": [32, 16]})
    train = digits[0]
    rows = layers(model, train, make_loss("cross_entropy"), count=200)
    assert all(parameter.grad is None for parameter in model.parameters())
    F.cross_entropy(model(train.images[:200]), train.labels[:200]).backward()
    dense = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert [row.units for row in rows] == [32, 16, 10]
    for row, module in zip(rows, dense, strict=True):
        assert module.weight.grad is not None
        assert row.gradient_norm == pytest.approx(float(module.weight.grad.norm()), rel=1e-5)
        assert row.weight_norm == pytest.approx(float(module.weight.detach().norm()), rel=1e-5)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "sigmoid", "tanh"])
def test_dead_units_are_counted(digits: Splits, activation: str) -> None:
    torch.manual_seed(0)
    model = models.build("mlp", (1, 28, 28), 10, {"hidden": [32, 16], "activation": activation})
    loss = make_loss("mse")
    first, second, last = layers(model, digits[0], loss)
    assert (first.dead_units, last.dead_units) == (0, None)
    assert second.dead_units in ((0, 1) if activation == "relu" else (0,))  # a ReLU may be born dead
    with torch.no_grad():
        dict(model.named_parameters())["layers.1.bias"][:5] = -1e4  # no image lifts these above 0
    alive_all_the_same = activation == "leaky_relu"
    assert layers(model, digits[0], loss)[0].dead_units == (0 if alive_all_the_same else 5)


def test_a_kernel_is_dead_when_it_is_so_everywhere(digits: Splits) -> None:
    torch.manual_seed(0)
    model = models.build("lenet5", (1, 28, 28), 10, {})
    with torch.no_grad():
        dict(model.named_parameters())["features.0.bias"][:2] = -1e4
    rows = layers(model, digits[0], make_loss("cross_entropy"))
    assert (rows[0].units, rows[0].dead_units) == (6, 2)
    assert [row.units for row in rows] == [6, 16, 120, 84, 10]


@pytest.mark.parametrize("name", BLOCKS)
def test_diagnostics_leave_the_network_unchanged(name: str, digits: Splits) -> None:
    block = BLOCKS[name]
    model = models.build(block.architecture, (1, 28, 28), 10, {**block.arguments}).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    rows = layers(model, digits[0], make_loss("cross_entropy"), count=20)
    assert rows
    assert len({row.layer for row in rows}) == len(rows)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
