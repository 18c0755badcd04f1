from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from mnistflow.evaluation.significance import Paired, paired
from mnistflow.reports.comparison import verdict
from mnistflow.tracking import RunInfo, tags


def predictions(outcomes: Sequence[bool], label: str = "3") -> list[dict[str, str]]:
    """Rows of predictions.csv, of images that were read right or not."""
    return [
        {"index": str(index), "label": label, "prediction": label if right else "8"}
        for index, right in enumerate(outcomes)
    ]


def run(name: str, dataset: str = "digits") -> RunInfo:
    return RunInfo(
        id=name * 8, name=name, status="FINISHED", page="", table="", params={"dataset": dataset}, metrics={},
        tags={tags.TEST_IMAGES: dataset}, curves={},
    )  # fmt: skip


A, B = run("a"), run("b")


def test_mcnemar_is_fast_for_many_images() -> None:
    assert Paired(both=0, first=20_000, second=20_000, neither=0).p_value == 1.0
    assert 0 < Paired(both=0, first=20_300, second=19_700, neither=0).p_value < 0.01


def test_mcnemar_is_that_worked_out_by_hand() -> None:
    # 1 against 5 of 6: 2 * (1 + 6) / 2^6
    assert Paired(both=90, first=1, second=5, neither=4).p_value == 14 / 64
    assert Paired(both=90, first=5, second=1, neither=4).p_value == 14 / 64
    assert Paired(both=90, first=0, second=10, neither=0).p_value == 2 / 1024
    assert Paired(both=90, first=3, second=3, neither=4).p_value == 1
    assert Paired(both=90, first=0, second=0, neither=10).p_value == 1


@pytest.mark.parametrize(("first", "second"), [(30, 12), (700, 801), (4, 1500)])
def test_mcnemar_is_the_binomial_test_of_scipy(first: int, second: int) -> None:
    assert Paired(8000, first, second, 50).p_value == pytest.approx(binomtest(first, first + second).pvalue, rel=1e-9)


def test_the_interval_is_that_of_resampling_the_images_one_by_one() -> None:
    counts = Paired(both=300, first=40, second=15, neither=45)
    assert counts.difference == 25 / 400
    differences = np.repeat([0, 1, -1, 0], [300, 40, 15, 45])
    generator = np.random.default_rng(1)
    means = [generator.choice(differences, 400).mean() for _ in range(4000)]
    assert counts.interval() == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.004)
    assert counts.interval() == counts.interval()
    low, high = counts.interval()
    assert Paired(both=300, first=15, second=40, neither=45).interval() == pytest.approx((-high, -low), abs=0.004)


def test_images_are_counted_pair_by_pair() -> None:
    first = predictions([True, True, False, False, True])
    second = predictions([True, False, True, False, False])
    assert paired(first, second) == Paired(both=1, first=2, second=1, neither=1)
    assert paired(first, second[:-1]) is None
    assert paired(first, predictions([True] * 5, label="4")) is None


def test_the_verdict_says_whether_the_difference_is_significant() -> None:
    one = predictions([True] * 95 + [False] * 5)
    worse = predictions([False] * 20 + [True] * 75 + [True] + [False] * 4)
    sentence = verdict([A, B], [one, worse])
    assert sentence.startswith(
        "Of the same 100 test images, a reads 20 right that b misreads, and b 1 that a misreads; p < 0.001 "
    )
    assert "\nDifference in accuracy +19.00 points (95 % interval +" in sentence
    assert sentence.endswith(": a is better.")
    assert verdict([B, A], [worse, one]).endswith(": a is better.")
    near = predictions([False] * 3 + [True] * 92 + [True] + [False] * 4)
    sentence = verdict([A, B], [one, near])
    assert "; p = 0.625 (McNemar's exact test)" in sentence
    assert sentence.endswith(": the difference is not significant.")


def test_different_images_and_missing_predictions_are_reported() -> None:
    rows = predictions([True, False])
    for runs, found in (([A, B], [rows, rows[:1]]), ([A, run("c", "kmnist")], [rows, rows])):
        assert "tested on different images" in verdict(runs, found)
    assert "tested on different images" in verdict([A, replace(B, tags={})], [rows, rows])
    assert verdict([A, B], [rows, None]).startswith("b has no predictions of the test images")
    assert verdict([A, A], [None, rows]).startswith("a (aaaaaaaa) has no predictions")
