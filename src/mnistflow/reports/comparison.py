"""Comparison of runs: their metrics, and the params in which they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mnistflow.evaluation.scores import METRICS
from mnistflow.evaluation.significance import paired
from mnistflow.tracking import RunInfo, tags

__all__ = ["curves", "rows", "verdict"]

LEVEL = 0.05  # below it, a p-value counts as telling two runs apart

# How the metrics that people choose by are written; the order is that of the table.
FORMS = {
    **{metric.name: metric.form for metric in METRICS.values() if metric.is_shown},
    "best_val_accuracy": "{:.2%}",
    "kept_epoch": "{:.0f}",
    "train_seconds": "{:,.1f}",
    "images_per_second": "{:,.0f}",
}


def rows(runs: Sequence[RunInfo]) -> list[dict[str, str]]:
    """The cells of a table, a dictionary of texts for each row: metrics first, then the params that are not the same.

    A column is headed by the name of its run; of several with one name, by its id as well.
    """
    headings = _headings(runs)
    table = [
        {"": name, **{heading: _text(run, name, form) for heading, run in zip(headings, runs, strict=True)}}
        for name, form in FORMS.items()
        if any(name in run.metrics for run in runs)
    ]
    for path in sorted({path for run in runs for path in run.params}):
        values = [run.params.get(path, "") for run in runs]
        if len(set(values)) > 1:
            table.append({"": path, **dict(zip(headings, values, strict=True))})
    return table


def curves(runs: Sequence[RunInfo], name: str) -> dict[str, list[tuple[int, float]]]:
    """A metric after each epoch, of the runs that have it, by their names and the beginning of their ids."""
    return {f"{run.name} ({run.id[:6]})": list(run.curves[name]) for run in runs if name in run.curves}


def verdict(runs: Sequence[RunInfo], predictions: Sequence[Sequence[Mapping[str, str]] | None]) -> str:
    """Whether the test images tell two runs apart, in plain words. A report: nothing is to be chosen by it.

    Args:
        runs: two.
        predictions: of each the rows of predictions.csv; None: it has none.
    """
    one, other = _headings(runs)
    first, second = predictions
    if first is None or second is None:
        lacking = one if first is None else other
        return f"{lacking} has no predictions of the test images, so the two cannot be compared image by image."
    tested = [run.tags.get(tags.TEST_IMAGES) for run in runs]
    counts = paired(first, second) if tested[0] == tested[1] else None
    if counts is None:
        return "They were tested on different images, so they cannot be compared image by image."
    low, high = counts.interval()
    p_value = counts.p_value
    better = one if counts.difference > 0 else other
    return (
        f"Of the same {counts.images:,} test images, {one} reads {counts.first:,} right that {other} misreads, and "
        f"{other} {counts.second:,} that {one} misreads; {_shown(p_value)} (McNemar's exact test).\n"
        f"Difference in accuracy {100 * counts.difference:+.2f} points (95 % interval {100 * low:+.2f} to "
        f"{100 * high:+.2f}, paired bootstrap): "
        + (f"{better} is better." if p_value < LEVEL else "the difference is not significant.")
    )


def _shown(p_value: float) -> str:
    return f"p = {p_value:.3f}" if p_value >= 0.001 else "p < 0.001"


def _headings(runs: Sequence[RunInfo]) -> list[str]:
    """The name of each run; of several with one name, their experiments or ids as well."""
    names = [run.name for run in runs]
    return [
        run.name if names.count(run.name) == 1 else f"{run.name} ({run.tags.get('dvc.experiment', run.id[:8])})"
        for run in runs
    ]


def _text(run: RunInfo, name: str, form: str) -> str:
    return form.format(run.metrics[name]) if name in run.metrics else ""
