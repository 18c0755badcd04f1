"""The table of results of a study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from mnistflow.experiments.results import Result
from mnistflow.experiments.studies import Column, Entry, Study

__all__ = ["Row", "newest", "table"]


@dataclass(frozen=True)
class Row:
    """What the experiments of an entry came to."""

    entry: Entry
    results: tuple[Result, ...]  # of the seeds that have been run
    seconds: Mapping[str, float] = field(repr=False)  # an epoch, by the MD5 of the weights
    # Accuracy on handwriting that is not MNIST's, by the MD5 of the weights and the name of the set.
    handwriting: Mapping[str, Mapping[str, float]] = field(repr=False, default_factory=dict)

    @property
    def accuracies(self) -> list[float]:
        """On the test split, percent."""
        return [100 * result.test.accuracy for result in self.results]

    @property
    def inside(self) -> bool | None:
        """Whether every seed is in the expected range; None where nothing is expected, or nothing has been run."""
        if self.entry.expected is None or not self.results:
            return None
        low, high = self.entry.expected
        return all(low <= round(accuracy, 2) <= high for accuracy in self.accuracies)

    def cells(self, columns: Sequence[Column]) -> dict[str, str]:
        """The row as text, by the heading of its column."""
        epochs = [result.train.epochs for result in self.results]
        seconds = [self.seconds[result.weights] for result in self.results if result.weights in self.seconds]
        row = {
            "entry": self.entry.label,
            "system": self.entry.title,
            "published %": self.entry.published,
            "expected %": "{:.1f} to {:.1f}".format(*self.entry.expected) if self.entry.expected else "",
            "test accuracy %": _spread(self.accuracies),
            "each seed": ", ".join(f"{accuracy:.2f}" for accuracy in self.accuracies),
            "inside": {None: "", True: "yes", False: "NO"}[self.inside],
            "epochs": _epochs(epochs, self.entry.epochs),
            "s an epoch": f"{min(seconds):.{0 if min(seconds) >= 10 else 1}f}" if seconds else "",
        }
        for column in columns:
            row |= self._handwriting() if column == "handwriting" else EXTRA[column](self.results)
        return row

    def _handwriting(self) -> dict[str, str]:
        read = [self.handwriting[result.weights] for result in self.results if result.weights in self.handwriting]
        names = dict.fromkeys(name for accuracies in read for name in accuracies)
        return {f"{name} %": _spread([100 * accuracies[name] for accuracies in read]) for name in names}


def table(study: Study, results: Sequence[Result], code: tuple[str, ...], seconds: Mapping[str, float]) -> list[Row]:
    """Put the results of a study together, a row for each entry, also where nothing has been run yet.

    Args:
        study: whose experiments are looked for.
        results: where.
        code: that they must have been made by.
        seconds: an epoch, by the MD5 of the weights.
    """
    return [
        Row(
            entry,
            tuple(result for experiment in entry.experiments if (result := experiment.find(results, code))),
            seconds,
        )
        for entry in study.entries
    ]


def newest(study: Study, results: Sequence[Result], code: tuple[str, ...], seconds: Mapping[str, float]) -> list[Row]:
    """As :func:`table`; for an entry that this code has made nothing of, what the newest of other code has made."""
    codes = dict.fromkeys([code, *(result.code for result in results)])
    tables = [table(study, results, version, seconds) for version in codes]
    return [next((row for row in rows if row.results), rows[0]) for rows in zip(*tables, strict=True)]


def _spread(values: Sequence[float], form: str = ".2f") -> str:
    """Mean and standard deviation (of a sample), with the number of values."""
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:{form}} (1)"
    return f"{fmean(values):{form}} ± {stdev(values):{form}} ({len(values)})"


def _epochs(run: Sequence[int], recipe: int) -> str:
    if not run:
        return f"{recipe}"
    least, most = min(run), max(run)
    shown = str(least) if least == most else f"{least} to {most}"
    return shown if most == least == recipe else f"{shown} of {recipe}"


def _first_epoch(results: Sequence[Result]) -> dict[str, str]:
    firsts = [result.history[0] for result in results]
    values = [100 * float(row["test_accuracy"] or row["val_accuracy"] or math.nan) for row in firsts]
    return {"after 1 epoch %": _spread(values)}


def _kept_epoch(results: Sequence[Result]) -> dict[str, str]:
    return {"weights of epoch": ", ".join(str(result.train.kept_epoch) for result in results)}


def _validation(results: Sequence[Result]) -> dict[str, str]:
    values = [result.train.val_accuracy for result in results]
    return {"validation %": _spread([100 * value for value in values if value is not None])}


def _shifts(results: Sequence[Result]) -> dict[str, str]:
    accuracies: dict[str, list[float]] = {}
    for result in results:
        for pixels, accuracy in enumerate(result.test.shift_accuracies, start=1):
            accuracies.setdefault(f"moved {pixels} px %", []).append(100 * accuracy)
    return {heading: _spread(values, ".1f") for heading, values in accuracies.items()}


def _dead_units(results: Sequence[Result]) -> dict[str, str]:
    """The share of hidden units that say the same for every image, layer by layer."""
    shares: dict[str, list[float]] = {}
    for result in results:
        for row in result.layers:
            if row["moment"] == "end" and row["dead_units"]:
                shares.setdefault(row["layer"], []).append(int(row["dead_units"]) / int(row["units"]))
    return {"dead units % by layer": ", ".join(f"{100 * fmean(values):.0f}" for values in shares.values())}


def _gradients(results: Sequence[Result]) -> dict[str, str]:
    """Norms of the gradient at the start of training, layer by layer."""
    norms: dict[str, list[float]] = {}
    for result in results:
        for row in result.layers:
            if row["moment"] == "start":
                norms.setdefault(row["layer"], []).append(float(row["gradient_norm"]))
    return {"gradient norm by layer, at the start": ", ".join(f"{fmean(values):.2g}" for values in norms.values())}


EXTRA = {
    "first_epoch": _first_epoch,
    "kept_epoch": _kept_epoch,
    "validation": _validation,
    "shifts": _shifts,
    "dead_units": _dead_units,
    "gradients": _gradients,
}
