from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import Splits
from torch import Tensor, nn

from mnistflow import models
from mnistflow.models.inference import logits_of
from mnistflow.models.losses import probabilities
from mnistflow.training.certainty import certainty_of, fit_temperature


def drawn(count: int) -> tuple[Tensor, Tensor]:
    """Logits, and labels that are drawn by the probabilities they stand for."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(count, 6, generator=generator)
    return logits, torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)


@pytest.mark.parametrize("factor", [0.3, 1.0, 3.0])
def test_the_temperature_is_the_factor_that_logits_were_multiplied_by(factor: float) -> None:
    logits, labels = drawn(20_000)
    assert fit_temperature(logits * factor, labels) == pytest.approx(factor, rel=0.03)


def test_no_other_temperature_has_a_lower_loss() -> None:
    logits, labels = drawn(300)
    logits = 2.5 * logits

    def loss(temperature: float) -> float:
        return float(nn.functional.cross_entropy(logits.double() / temperature, labels))

    best = fit_temperature(logits, labels)
    assert loss(best) < min(loss(1.0), loss(best * 0.99), loss(best * 1.01))


def test_the_temperature_stays_in_its_range_where_none_is_best() -> None:
    logits = 5 * torch.eye(3)
    assert fit_temperature(logits, torch.tensor([0, 1, 2])) == pytest.approx(1 / 20)
    assert fit_temperature(logits, torch.tensor([1, 2, 0])) == pytest.approx(20)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return models.build("mlp", (1, 28, 28), 10, {"hidden": [32]})


def test_the_temperature_of_a_network_is_fitted_on_validation_images(network: nn.Module, digits: Splits) -> None:
    _, validation, _ = digits
    expected = fit_temperature(logits_of(network, validation.images, 50), validation.labels)
    assert certainty_of(network, validation, "cross_entropy")[0] == pytest.approx(expected)
    mislabelled = replace(validation, labels=(validation.labels + 1) % 10)
    assert certainty_of(network, mislabelled, "cross_entropy")[0] != pytest.approx(expected)


def test_the_network_is_sure_of_99_in_100_validation_images(network: nn.Module, digits: Splits) -> None:
    _, validation, _ = digits
    for loss in ("cross_entropy", "mse"):
        temperature, threshold = certainty_of(network, validation, loss)
        assert threshold is not None
        surest = probabilities(logits_of(network, validation.images, 50), loss, temperature).amax(dim=1)
        assert float((surest >= threshold).float().mean()) >= 0.99
        assert float((surest > threshold).float().mean()) < 0.9901


def test_without_validation_images_nothing_is_known(network: nn.Module, digits: Splits) -> None:
    _, validation, _ = digits
    none = replace(
        validation, images=validation.images[:0], labels=validation.labels[:0], indices=validation.indices[:0]
    )
    assert certainty_of(network, none, "cross_entropy") == (None, None)


def test_mse_has_no_temperature(network: nn.Module, digits: Splits) -> None:
    assert certainty_of(network, digits[1], "mse")[0] is None
