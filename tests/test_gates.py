from __future__ import annotations

from dataclasses import replace

import pytest
from conftest import ROOT

from mnistflow.evaluation.gates import LIMITS, gate_problems, judge
from mnistflow.evaluation.scores import METRICS, ClassScores, read_scores

LEAKAGE = 0.01
SCORES = replace(
    read_scores(ROOT / "metrics" / "evaluate.json"),
    classes=(
        ClassScores("a", 1.0, 0.99, 1.0, 10),
        ClassScores("b", 1.0, 0.9, 1.0, 10),
        ClassScores("c", 0.0, 0.0, 0.0, 0),
    ),
)


def value_of(gate: str) -> float:
    figure = gate.partition("_")[2]
    known = {"leakage": LEAKAGE, "class_recall": 0.9}
    return float(known[figure] if figure in known else getattr(SCORES, figure))


def test_every_metric_that_has_a_better_side_has_a_gate() -> None:
    assert len(LIMITS) > 8
    gated = {gate.partition("_")[2] for gate in LIMITS}
    assert gated == {name for name, metric in METRICS.items() if metric.better} | {"class_recall", "leakage"}


@pytest.mark.parametrize("gate", LIMITS)
def test_a_figure_passes_at_its_limit_and_fails_beyond(gate: str) -> None:
    value = value_of(gate)
    beyond = 0.01 if gate.startswith("min_") else -0.01
    for limit, passes in ((value, True), (value - beyond, True), (value + beyond, False)):
        (verdict,) = judge({gate: limit}, SCORES, LEAKAGE)
        assert (verdict.gate, verdict.value, verdict.passed) == (gate, value, passes)


def test_a_verdict_says_figure_limit_and_by_how_much() -> None:
    lowest, highest = judge({"min_accuracy": 0.98, "max_loss": 0.75}, replace(SCORES, accuracy=0.97, loss=0.5), 0)
    assert str(lowest) == "min_accuracy         0.97, required at least 0.98: FAILED by 0.01"
    assert str(highest) == "max_loss             0.5, required at most 0.75: passed by 0.25"


def test_no_gate_says_nothing() -> None:
    assert judge({}, SCORES, LEAKAGE) == []
    assert judge(dict.fromkeys(LIMITS), SCORES, LEAKAGE) == []


@pytest.mark.parametrize("gate", ["min_robust_accuracy", "min_class_recall"])
def test_a_figure_that_was_not_measured_is_an_error(gate: str) -> None:
    lacking = replace(SCORES, robust_accuracy=None, classes=())
    with pytest.raises(
        ValueError, match=rf"evaluate.gates.{gate}: \w+ was not measured for this result; set the gate to null"
    ):
        judge({gate: 0.0}, lacking, LEAKAGE)


def test_unknown_gates_and_impossible_limits_are_refused() -> None:
    assert gate_problems(dict.fromkeys(LIMITS) | {"max_loss": 7.0, "max_brier": 2.0}) == []
    unknown, too_high = gate_problems({"min_acuracy": 0.9, "min_macro_f1": 1.5})
    assert unknown.startswith("evaluate.gates.min_acuracy: unknown key; did you mean 'min_accuracy'? known: ")
    assert too_high == "evaluate.gates.min_macro_f1: expected a number from 0 to 1, or null; got 1.5"
