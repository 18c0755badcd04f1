from __future__ import annotations

import pytest
import torch
from conftest import Splits

from mnistflow import models
from mnistflow.core.tensors import Inputs
from mnistflow.export.recogniser import Recogniser
from mnistflow.models import ModelMetadata
from mnistflow.models.inference import logits_of
from mnistflow.models.losses import LossName, probabilities


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("temperature", [None, 0.6])
def test_what_is_served_is_what_was_trained(loss: LossName, padding: int, temperature: float | None) -> None:
    torch.manual_seed(0)
    inputs = Inputs("digits", ("a", "b", "c"), padding, 0.3, 0.4)
    side = 16 + 2 * padding
    model = models.build("lenet5", (1, side, side), 3, {})
    served = Recogniser(model, ModelMetadata("lenet5", {}, (1, side, side), inputs, loss, temperature))
    raw = torch.randint(0, 256, (9, 16, 16), dtype=torch.uint8)
    chances = served(raw)
    assert chances.shape == (9, 3)
    torch.testing.assert_close(chances.sum(dim=1), torch.ones(9))
    assert torch.equal(chances, probabilities(logits_of(model, inputs.normalise(raw), 9), loss, temperature))


def test_raw_images_give_the_split_that_was_trained_on(digits: Splits) -> None:
    split = digits[1]
    raw = ((split.images[:, 0] * split.inputs.std + split.inputs.mean) * 255).round().to(torch.uint8)
    assert torch.equal(split.inputs.normalise(raw), split.images)
