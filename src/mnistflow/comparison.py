"""Runs side by side: what they came to, and in which params they differ."""

from __future__ import annotations

from collections.abc import Sequence

from mnistflow.tracking import Found

__all__ = ["curves", "rows"]

# How the metrics that people choose by are written; the order is that of the table.
METRICS = {
    "test_accuracy": "{:.2%}",
    "test_loss": "{:.4f}",
    "test_macro_f1": "{:.4f}",
    "best_val_accuracy": "{:.2%}",
    "kept_epoch": "{:.0f}",
    "parameters": "{:,.0f}",
    "train_seconds": "{:,.1f}",
    "images_per_second": "{:,.0f}",
}


def rows(runs: Sequence[Found]) -> list[dict[str, str]]:
    """The cells of a table, a dictionary of texts for each row: metrics first, then the params that are not the same.

    A column is headed by the name of its run; of several with one name, by its id as well.
    """
    names = [run.name for run in runs]
    headings = [
        run.name if names.count(run.name) == 1 else f"{run.name} ({run.tags.get('dvc.experiment', run.id[:8])})"
        for run in runs
    ]
    table = [
        {"": name, **{heading: _text(run, name, form) for heading, run in zip(headings, runs, strict=True)}}
        for name, form in METRICS.items()
        if any(name in run.metrics for run in runs)
    ]
    for path in sorted({path for run in runs for path in run.params}):
        values = [run.params.get(path, "") for run in runs]
        if len(set(values)) > 1:
            table.append({"": path, **dict(zip(headings, values, strict=True))})
    return table


def curves(runs: Sequence[Found], name: str) -> dict[str, list[tuple[int, float]]]:
    """A metric after each epoch, of the runs that have it, by their names and the beginning of their ids."""
    return {f"{run.name} ({run.id[:6]})": list(run.curves[name]) for run in runs if name in run.curves}


def _text(run: Found, name: str, form: str) -> str:
    return form.format(run.metrics[name]) if name in run.metrics else ""
