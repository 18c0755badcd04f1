from __future__ import annotations

import pytest
import torch
from conftest import Splits
from sklearn.metrics import confusion_matrix
from torch import nn

from mnistflow import models
from mnistflow.inference import confusion_counts, logits_of, measure, probabilities
from mnistflow.recipes import make_loss


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


def test_probabilities_after_cross_entropy_are_the_softmax() -> None:
    row = probabilities(torch.tensor([[2.0, 1.0, -1.0]]), "cross_entropy")
    torch.testing.assert_close(row, torch.tensor([[0.705, 0.260, 0.035]]), atol=1e-3, rtol=0)


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
