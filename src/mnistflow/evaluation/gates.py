"""What a result must come to, as evaluate.gates in params.yaml demands, and whether it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from mnistflow.config.params import Gates

__all__ = ["Verdict", "judge"]


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
        wanted = f"{self.gate:<20} {self.value:.6g}, {side} {self.limit:.6g} wanted"
        return f"{wanted}: {'passed' if self.passed else 'FAILED'} by {abs(self.value - self.limit):.2g}"


def judge(gates: Gates, figures: Mapping[str, object]) -> list[Verdict]:
    """Hold the figures of a result against the gates that are set.

    Args:
        gates: those that are null say nothing.
        figures: what preprocess.json and evaluate.json hold.

    Raises:
        ValueError: a figure that is asked for is not there.
    """
    limits = {gate: limit for gate, limit in gates.model_dump().items() if limit is not None}
    return [Verdict(gate, _figure(gate, figures), limit) for gate, limit in limits.items()]


def _figure(gate: str, test: Mapping[str, object]) -> float:
    figure = gate.partition("_")[2]
    value = _worst_recall(test) if figure == "class_recall" else test.get(figure)
    if not isinstance(value, int | float):
        raise ValueError(
            f"evaluate.gates.{gate}: the result in this folder has no {figure}, it may be from before it was measured; "
            "`dvc repro` makes it anew, or write null"
        )
    return float(value)


def _worst_recall(test: Mapping[str, object]) -> float | None:
    """Of the classes that have test images; that of the others is 0 whatever the network does."""
    try:
        classes = cast("list[dict[str, float]]", test["classes"])
        return min((each["recall"] for each in classes if each["images"]), default=None)
    except (KeyError, TypeError):  # said by the caller, as of any figure that is not there
        return None
