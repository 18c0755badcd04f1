from __future__ import annotations

import pytest
import torch
from sklearn.metrics import brier_score_loss
from torch import Tensor, nn

from mnistflow.evaluation.calibration import calibration, fit_temperature


def sure(*confidences: float, classes: int = 4) -> Tensor:
    """Probabilities of which class 0 has so much, and the others the rest in equal parts."""
    first = torch.tensor(confidences, dtype=torch.float64)[:, None]
    return torch.cat([first, ((1 - first) / (classes - 1)).expand(-1, classes - 1)], dim=1)


def test_calibration_is_that_worked_out_by_hand() -> None:
    # Bins are 1/15 wide: 0.95 and 0.97 are in (14/15, 1], 0.62 and 0.65 in (9/15, 10/15], 0.41 in (6/15, 7/15].
    found = calibration(sure(0.95, 0.62, 0.97, 0.41, 0.65), torch.tensor([0, 0, 1, 2, 3]))
    assert [(one_bin.images, one_bin.accuracy) for one_bin in found.bins] == [(1, 0.0), (2, 0.5), (2, 0.5)]
    assert [one_bin.confidence for one_bin in found.bins] == pytest.approx([0.41, 0.635, 0.96])
    assert [bin_.low for bin_ in found.bins] == pytest.approx([6 / 15, 9 / 15, 14 / 15])
    assert [entry.high for entry in found.bins] == pytest.approx([7 / 15, 10 / 15, 1])
    assert found.ece == pytest.approx((1 * 0.41 + 2 * 0.135 + 2 * 0.46) / 5)


@pytest.mark.parametrize(("confidence", "high"), [(1.0, 1.0), (0.6, 0.6), (1 / 3, 1 / 3), (0.6001, 2 / 3)])
def test_an_edge_belongs_to_the_bin_below_it(confidence: float, high: float) -> None:
    (one,) = calibration(sure(confidence), torch.tensor([0])).bins
    assert one.high == pytest.approx(high)


def test_perfect_calibration_has_no_calibration_error() -> None:
    labels = torch.tensor([0] * 8 + [1, 2])
    found = calibration(sure(*[0.8] * 10), labels)
    assert found.ece == pytest.approx(0)
    assert calibration(sure(*[0.9] * 10), labels).ece == pytest.approx(0.1)


def test_the_brier_score_is_the_sum_of_those_of_the_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    chances = torch.randn(200, 5, generator=generator, dtype=torch.float64).softmax(dim=1)
    labels = torch.randint(0, 5, (200,), generator=generator)
    each = [brier_score_loss((labels == number).numpy(), chances[:, number].numpy()) for number in range(5)]
    assert calibration(chances, labels).brier == pytest.approx(sum(each))
    assert calibration(torch.eye(3), torch.tensor([0, 1, 2])).brier == 0
    assert calibration(torch.eye(3), torch.tensor([1, 2, 0])).brier == 2


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
