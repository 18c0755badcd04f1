from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss

from mnistflow.evaluation.calibration import calibration


def sure(*confidences: float, classes: int = 4) -> NDArray[np.float64]:
    """Probabilities of which class 0 has so much, and the others the rest in equal parts."""
    first = np.array(confidences)[:, None]
    return np.hstack([first, np.repeat((1 - first) / (classes - 1), classes - 1, axis=1)])


def test_calibration_is_that_worked_out_by_hand() -> None:
    # Bins are 1/15 wide: 0.95 and 0.97 are in (14/15, 1], 0.62 and 0.65 in (9/15, 10/15], 0.41 in (6/15, 7/15].
    found = calibration(sure(0.95, 0.62, 0.97, 0.41, 0.65), np.array([0, 0, 1, 2, 3]))
    assert [(one_bin.images, one_bin.accuracy) for one_bin in found.bins] == [(1, 0.0), (2, 0.5), (2, 0.5)]
    assert [one_bin.confidence for one_bin in found.bins] == pytest.approx([0.41, 0.635, 0.96])
    assert [bin_.low for bin_ in found.bins] == pytest.approx([6 / 15, 9 / 15, 14 / 15])
    assert [entry.high for entry in found.bins] == pytest.approx([7 / 15, 10 / 15, 1])
    assert found.ece == pytest.approx((1 * 0.41 + 2 * 0.135 + 2 * 0.46) / 5)


@pytest.mark.parametrize(("confidence", "high"), [(1.0, 1.0), (0.6, 0.6), (1 / 3, 1 / 3), (0.6001, 2 / 3)])
def test_an_edge_belongs_to_the_bin_below_it(confidence: float, high: float) -> None:
    (one,) = calibration(sure(confidence), np.array([0])).bins
    assert one.high == pytest.approx(high)


def test_perfect_calibration_has_no_calibration_error() -> None:
    labels = np.array([0] * 8 + [1, 2])
    found = calibration(sure(*[0.8] * 10), labels)
    assert found.ece == pytest.approx(0)
    assert calibration(sure(*[0.9] * 10), labels).ece == pytest.approx(0.1)


def test_the_brier_score_is_the_sum_of_those_of_the_classes() -> None:
    random = np.random.default_rng(0)
    chances, labels = random.dirichlet(np.ones(5), 200), random.integers(0, 5, 200)
    each = [brier_score_loss(labels == number, chances[:, number]) for number in range(5)]
    assert calibration(chances, labels).brier == pytest.approx(sum(each))
    assert calibration(np.eye(3), np.array([0, 1, 2])).brier == 0
    assert calibration(np.eye(3), np.array([1, 2, 0])).brier == 2
