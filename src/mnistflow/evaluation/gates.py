"""Gates: limits for metrics, from evaluate.gates in params.yaml, and whether a result meets them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mnistflow.config.forms import nearest
from mnistflow.evaluation.scores import METRICS, Scores

__all__ = ["LIMITS", "Verdict", "gate_problems", "judge"]

SIDES = {"higher": "min", "lower": "max"}
# Every gate, and the largest limit that makes sense; None: any.
LIMITS: dict[str, float | None] = {
    **{f"{SIDES[metric.better]}_{name}": metric.most for name, metric in METRICS.items() if metric.better},
    "min_class_recall": 1.0,
    "max_leakage": 1.0,
}


@dataclass(frozen=True)
class Verdict:
    """What a gate says of a figure."""

    gate: str  # its name in params.yaml; min_: at least the limit, max_: at most
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the figure is on the right side of the limit, or on it."""
        return self.value >= self.limit if self.gate.startswith("min_") else self.value <= self.limit

    def __str__(self) -> str:
        side = "at least" if self.gate.startswith("min_") else "at most"
        wanted = f"{self.gate:<20} {self.value:.6g}, required {side} {self.limit:.6g}"
        return f"{wanted}: {'passed' if self.passed else 'FAILED'} by {abs(self.value - self.limit):.2g}"


def gate_problems(gates: Mapping[str, float | None]) -> list[str]:
    """What is wrong with evaluate.gates; one line per mistake, beginning with its dotted path."""
    problems = []
    for gate, limit in gates.items():
        if gate not in LIMITS:
            problems.append(f"evaluate.gates.{gate}: unknown key; {nearest(gate, LIMITS)}")
        elif limit is not None and (most := LIMITS[gate]) is not None and limit > most:
            problems.append(f"evaluate.gates.{gate}: expected a number from 0 to {most:g}, or null; got {limit:g}")
    return problems


def judge(gates: Mapping[str, float | None], scores: Scores, leakage: float) -> list[Verdict]:
    """Hold the figures of a result against the gates that are set.

    Args:
        gates: those that are null say nothing.
        scores: of the result.
        leakage: the share of test images that are identical to a training image.

    Raises:
        ValueError: a figure that is asked for was not measured.
    """
    verdicts = []
    for gate, limit in gates.items():
        if limit is None:
            continue
        figure = gate.partition("_")[2]
        value = leakage if figure == "leakage" else getattr(scores, figure)
        if value is None:
            raise ValueError(
                f"evaluate.gates.{gate}: {figure} was not measured for this result; set the gate to null, "
                "or measure it: evaluate.robustness for robust_accuracy"
            )
        verdicts.append(Verdict(gate, float(value), limit))
    return verdicts
