from __future__ import annotations

import pytest

from mnistflow.config.params import Gates
from mnistflow.evaluation.gates import judge

TEST: dict[str, object] = {
    "accuracy": 0.97,
    "loss": 0.5,
    "macro_f1": 0.96,
    "ece": 0.04,
    "brier": 0.08,
    "robust_accuracy": 0.75,
    "leakage": 0.01,
    "classes": [
        {"class": "a", "recall": 0.99, "images": 10},
        {"class": "b", "recall": 0.9, "images": 10},
        {"class": "c", "recall": 0.0, "images": 0},
    ],
}
FIGURES = {
    "min_accuracy": 0.97,
    "max_loss": 0.5,
    "min_macro_f1": 0.96,
    "min_class_recall": 0.9,
    "max_ece": 0.04,
    "max_brier": 0.08,
    "min_robust_accuracy": 0.75,
    "max_leakage": 0.01,
}


def test_there_is_a_case_for_every_gate() -> None:
    assert list(Gates.model_fields) == list(FIGURES)


@pytest.mark.parametrize("gate", FIGURES)
def test_a_figure_passes_at_its_limit_and_fails_beyond(gate: str) -> None:
    value = FIGURES[gate]
    beyond = 0.01 if gate.startswith("min_") else -0.01
    for limit, passes in ((value, True), (value - beyond, True), (value + beyond, False)):
        (verdict,) = judge(Gates.model_validate({gate: limit}), TEST)
        assert (verdict.gate, verdict.value, verdict.passed) == (gate, value, passes)


def test_a_verdict_says_figure_limit_and_by_how_much() -> None:
    lowest, highest = judge(Gates(min_accuracy=0.98, max_loss=0.75), TEST)
    assert str(lowest) == "min_accuracy         0.97, at least 0.98 wanted: FAILED by 0.01"
    assert str(highest) == "max_loss             0.5, at most 0.75 wanted: passed by 0.25"


def test_no_gate_says_nothing() -> None:
    assert judge(Gates(), {}) == []


@pytest.mark.parametrize("gate", FIGURES)
@pytest.mark.parametrize(
    "test", [{}, {"accuracy": None, "robust_accuracy": None, "classes": []}, {"classes": [{"class": "0"}]}]
)
def test_a_figure_that_was_not_measured_fails_no_gate_by_chance(gate: str, test: dict[str, object]) -> None:
    with pytest.raises(
        ValueError, match=rf"evaluate.gates.{gate}: the result in this folder has no \w+, .* `dvc repro`"
    ):
        judge(Gates.model_validate({gate: 0.0}), test)
