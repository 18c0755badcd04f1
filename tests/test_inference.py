from __future__ import annotations

import pytest
import torch
from conftest import ROOT, Splits
from sklearn.metrics import confusion_matrix
from torch import Tensor, nn

from mnistflow import models
from mnistflow.config.params import load
from mnistflow.models.inference import confusion_counts, layer_outputs, logits_of, measure
from mnistflow.models.losses import make_loss, probabilities

BLOCKS = load(ROOT / "params.yaml").models
assert BLOCKS


def network() -> nn.Module:
    torch.manual_seed(0)
    return models.build("mlp", (1, 28, 28), 10, {"hidden": [16], "dropout": 0.5})


def test_batches_make_no_difference_and_the_mode_stays(digits: Splits) -> None:
    model, images = network(), digits[1].images
    model.train()
    whole = logits_of(model, images, batch_size=1000)
    assert model.training
    torch.testing.assert_close(logits_of(model, images, batch_size=7), whole)
    assert torch.equal(logits_of(model.eval(), images, batch_size=1000), whole)
    assert not model.training


def test_measuring_is_the_mean_over_images(digits: Splits) -> None:
    model, split = network().eval(), digits[1]
    loss, accuracy = measure(model, split, make_loss("cross_entropy"), batch_size=50)
    with torch.no_grad():
        chances = model(split.images).softmax(dim=1)
    right = [int(row.argmax() == label) for row, label in zip(chances, split.labels, strict=True)]
    assert accuracy == pytest.approx(sum(right) / len(right))
    assert loss == pytest.approx(float(-chances[range(len(split)), split.labels].log().mean()), rel=1e-5)


def test_softmax_and_cross_entropy_are_those_worked_out_by_hand() -> None:
    logits, labels = torch.tensor([[2.0, 1.0, -1.0], [0.5, 1.5, 0.3]]), torch.tensor([0, 1])
    chances = probabilities(logits, "cross_entropy")
    torch.testing.assert_close(chances[0], torch.tensor([0.7054, 0.2595, 0.0351]), atol=5e-5, rtol=0)
    assert float(make_loss("cross_entropy")(logits, labels)) == pytest.approx(0.43064, abs=5e-6)


def test_probabilities_after_mse_are_clipped_and_divided_by_their_sum() -> None:
    outputs = torch.tensor([[0.5, -0.2, 1.5], [-1.0, -0.1, 0.0], [0.2, 0.2, 0.4]])
    expected = torch.tensor([[1 / 3, 0.0, 2 / 3], [1 / 3, 1 / 3, 1 / 3], [0.25, 0.25, 0.5]])
    torch.testing.assert_close(probabilities(outputs, "mse"), expected)


def test_confusion_counts_are_those_of_scikit_learn() -> None:
    labels, predictions = torch.randint(0, 4, (2, 200), generator=torch.Generator().manual_seed(0))
    assert (
        confusion_counts(labels, predictions, 5).tolist()
        == confusion_matrix(labels, predictions, labels=range(5)).tolist()
    )


@pytest.mark.parametrize("name", BLOCKS)
def test_every_layer_of_every_model_is_seen_on_the_way(name: str, digits: Splits) -> None:
    block, images = BLOCKS[name], digits[2].images[:3]
    model = models.build(block.architecture, digits[2].image_shape, 10, block.arguments)
    layers = layer_outputs(model, images)
    parts = {path: part for path, part in model.named_modules() if not list(part.children())}
    assert {layer.name: layer.module for layer in layers} == parts
    assert all(layer.kind == type(parts[layer.name]).__name__ for layer in layers)
    assert all(len(layer.output) == 3 for layer in layers)
    assert torch.equal(layers[-1].output, logits_of(model, images, batch_size=3))


class Twice(nn.Module):
    """Uses one module twice, works in place, and has parts that stay as they are while the others train."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4).eval()
        self.dropout = nn.Dropout(0.5)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = self.act(self.dropout(self.norm(self.dense(x))))
        return x


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def test_looking_at_layers_leaves_a_model_as_it_was() -> None:
    torch.manual_seed(0)
    model = Twice()
    before, state = modes(model), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert before == [True, True, False, True, True]
    layers = layer_outputs(model, torch.randn(8, 4))
    assert [layer.name for layer in layers] == ["dense", "norm", "dropout", "act"] * 2
    _, norm, dropout, act, *_ = (layer.output for layer in layers)
    assert torch.equal(dropout, norm), "it must run in evaluation mode"
    assert norm.min() < 0, "what works in place later must not reach what was kept"
    assert torch.equal(act, norm.relu())
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        layer_outputs(model, torch.randn(8, 5))
    assert modes(model) == before
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
