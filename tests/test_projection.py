from __future__ import annotations

import pytest
import torch
from conftest import Splits
from sklearn.decomposition import PCA
from torch import nn

from mnistflow import models
from mnistflow.evaluation.projection import last_inputs, principal_components
from mnistflow.models.inference import logits_of


def test_the_inputs_of_the_last_dense_layer_are_what_it_makes_the_logits_of(digits: Splits) -> None:
    model, images = models.build("mlp", (1, 28, 28), 10, {"hidden": [16], "dropout": 0.5}).train(), digits[1].images
    found = last_inputs(model, images, batch_size=7)
    assert found is not None
    assert model.training
    assert found.shape == (len(images), 16)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    torch.testing.assert_close(last(found.clone()), logits_of(model, images, batch_size=1000))
    assert last_inputs(nn.Sequential(nn.Conv2d(1, 2, 28), nn.Flatten()), images, batch_size=7) is None


def test_principal_components_are_those_of_scikit_learn_but_for_their_sign() -> None:
    torch.manual_seed(0)
    values = torch.randn(50, 6) * torch.tensor([5.0, 1.0, 3.0, 0.5, 0.1, 2.0]) + 7
    places, shares = principal_components(values, 2)
    theirs = PCA(2).fit(values.double().numpy())
    expected = torch.from_numpy(theirs.transform(values.double().numpy()))
    torch.testing.assert_close(places.abs(), expected.abs())
    torch.testing.assert_close(shares, torch.from_numpy(theirs.explained_variance_ratio_))
    mirrored, _ = principal_components(-values, 2)
    torch.testing.assert_close(mirrored, -places)


@pytest.mark.parametrize(("rows", "columns"), [(1, 3), (4, 1), (3, 5)])
def test_principal_components_of_little_are_filled_up_with_zeros(rows: int, columns: int) -> None:
    places, shares = principal_components(torch.ones(rows, columns), 2)
    assert places.tolist() == [[0.0, 0.0]] * rows
    assert shares.tolist() == [0.0, 0.0]
