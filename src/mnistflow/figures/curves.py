"""Figures along an axis: steps, epochs, strengths."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter, StrMethodFormatter

from mnistflow.evaluation.scores import Corrupted
from mnistflow.figures.style import page, panels, set_page_size, shortened, styled

__all__ = ["comparison", "curves", "robustness", "study"]


def curves(history: Sequence[dict[str, str]], steps: Sequence[dict[str, str]]) -> Figure:
    """Loss of each step and epoch, accuracy of each epoch, learning rate.

    Args:
        history: rows of history.csv.
        steps: rows of steps.csv.
    """
    with styled() as colours:
        figure, (losses, accuracies, rates) = panels(1, 3, (13, 3.8))
        per_epoch = int(history[-1]["epoch"]) / max(int(steps[-1]["step"]), 1)
        at = [int(row["step"]) * per_epoch for row in steps]
        losses.plot(
            at, [float(row["loss"]) for row in steps], color=colours.blue, alpha=0.4, linewidth=0.8, label="step"
        )
        # A mean over an epoch stands in the middle of it, what was measured after it at its end.
        for split, name, colour, shift in (
            ("train", "training, as the recipe has it", colours.blue, 0.5),
            ("val", "validation", colours.orange, 0.0),
            ("test", "test", colours.green, 0.0),
        ):
            for axes, what in ((losses, "loss"), (accuracies, "accuracy")):
                column = [(int(row["epoch"]) - shift, row.get(f"{split}_{what}")) for row in history]
                points = [(epoch, float(value)) for epoch, value in column if value]
                if points:
                    axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=3.5, label=name)
        rates.plot(at, [float(row["lr"]) for row in steps], color=colours.grey)
        _logarithmic(losses, "y")
        accuracies.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        for axes, title in ((losses, "loss"), (accuracies, "accuracy"), (rates, "learning rate")):
            axes.set(title=title, xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if axes.get_legend_handles_labels()[0]:
                axes.legend()
        if not accuracies.lines:
            accuracies.text(0.5, 0.5, "not monitored", transform=accuracies.transAxes, ha="center")
        return figure


def robustness(rows: Sequence[Corrupted]) -> Figure:
    """What is left of the accuracy on images that were changed, a panel for each way; the other ways lie behind.

    Args:
        rows: of robustness.csv, the images as they are first.
    """
    clean, *changed = rows
    ways: dict[str, list[Corrupted]] = {}
    for row in changed:
        ways.setdefault(row.corruption, []).append(row)
    with styled() as colours:
        if not ways:
            figure, axes = page()
            axes.text(0, 0.1, "Accuracy on corrupted images: not measured", fontsize=11, va="top")
            set_page_size(figure, 4.0, 0.5)
            return figure
        columns = min(4, len(ways))
        lines = math.ceil(len(ways) / columns)
        figure, places = panels(lines, columns, (2.75 * columns, 2.3 * lines + 0.6))
        mean = sum(row.accuracy for row in changed) / len(changed)
        figure.suptitle(
            f"Accuracy on corrupted images: {mean:.1%} on average, {clean.accuracy:.1%} uncorrupted", fontsize=11
        )
        least = min(0.99, *(row.accuracy for row in rows))
        for axes, (name, own) in zip(places, ways.items(), strict=False):
            for other in ways.values():
                path = [clean, *other]
                axes.plot([row.strength for row in path], [row.accuracy for row in path], color=colours.faint, zorder=1)
            path = [clean, *own]
            at = [row.strength for row in path]
            axes.plot(at, [row.accuracy for row in path], color=colours.blue, marker="o", markersize=4)
            last = own[-1]
            axes.annotate(
                f"{last.accuracy:.0%}",
                (last.strength, last.accuracy),
                (7, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                weight="bold",
            )
            axes.set_title(name.replace("_", " "), fontsize=10)
            axes.set_xticks(at, ["as is", *(f"{row.strength}\n({row.amount:g})" for row in own)], fontsize=8)
            axes.set_xlim(-0.3, max(at) + 0.9)
            axes.set_ylim(least - 0.08 * (1 - least), 1 + 0.05 * (1 - least))
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        for axes in places[len(ways) :]:
            axes.axis("off")
        figure.supxlabel("strength (and amount)", fontsize=9)
        return figure


def study(
    title: str,
    accuracies: Mapping[str, Sequence[float]],
    expected: Mapping[str, tuple[float, float]],
    curves: Mapping[str, Sequence[Sequence[dict[str, str]]]],
) -> Figure:
    """What several systems came to: the error of each seed and, where there are few systems, after each epoch.

    Args:
        title: of the whole.
        accuracies: of each seed on the test split, percent, by the name of the system.
        expected: the accuracy that a system should have, percent, where that is known.
        curves: the rows of history.csv of each seed. Drawn is the test error, or where that was not reported the
            validation error: the mean over seeds, with the range they span.
    """
    with styled() as colours:
        few = len(curves) <= len(colours.lines)
        figure, (dots, *lines) = panels(1, 1 + few, (13 if few else 9, 0.28 * len(accuracies) + (2.6 if few else 1.4)))
        figure.suptitle(title, fontsize=11)
        names = _labels(accuracies)
        for place, name in enumerate(accuracies):
            if name in expected:
                low, high = (100 - accuracy for accuracy in reversed(expected[name]))
                dots.barh(place, high - low, left=low, height=0.7, color=colours.faint, label="expected")
            errors = [100 - accuracy for accuracy in accuracies[name]]
            colour = colours.lines[place] if few else colours.blue
            dots.plot(errors, [place] * len(errors), "o", color=colour, markersize=5, alpha=0.8, label="each seed")
        dots.set_yticks(range(len(names)), names)
        dots.set_ylim(len(names) - 0.4, -0.6)
        dots.set_xlabel("test error %")
        _logarithmic(dots, "x")
        legend = dict(zip(*reversed(dots.get_legend_handles_labels()), strict=True))
        if expected:
            dots.legend(legend.values(), legend.keys(), loc="best")
        for axes in lines:
            for colour, name, seeds in zip(colours.lines, _labels(curves), curves.values(), strict=False):
                epochs = range(min(map(len, seeds)))
                errors_after = 100 - 100 * np.array(
                    [
                        [float(row["test_accuracy"] or row["val_accuracy"]) for row in rows[: len(epochs)]]
                        for rows in seeds
                    ]
                )  # (seeds, epochs)
                at = [epoch + 1 for epoch in epochs]
                axes.plot(at, errors_after.mean(axis=0), color=colour, marker="o", markersize=3.5, label=name)
                low_line, high_line = errors_after.min(axis=0), errors_after.max(axis=0)
                axes.fill_between(at, low_line, high_line, color=colour, alpha=0.15, linewidth=0)
            axes.set(xlabel="epoch", ylabel="error %")
            _logarithmic(axes, "y")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return figure


def comparison(metrics: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]]) -> Figure:
    """Curves of several runs, a panel for each metric.

    Args:
        metrics: by its name, of each run by its name, the value after each epoch: (epoch, value).
    """
    with styled() as colours:
        figure, places = panels(1, max(1, len(metrics)), (4.6 * max(1, len(metrics)), 3.8))
        for axes, (name, runs) in zip(places, metrics.items(), strict=False):
            for place, (run, points) in enumerate(zip(_labels(runs), runs.values(), strict=True)):
                epochs, values = zip(*points, strict=True)
                colour = colours.lines[place % len(colours.lines)]
                axes.plot(epochs, values, color=colour, marker="o", markersize=3.5, label=run)
            axes.set(xlabel="epoch", ylabel=name.replace("_", " "))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if metrics:
            places[0].legend(loc="best", fontsize=7)
        return figure


def _labels(names: Iterable[str]) -> list[str]:
    """Names for a legend, from which Matplotlib leaves out those that begin with an underscore."""
    return [f" {name}" if name.startswith("_") else name for name in shortened(list(names), 60)]


def _logarithmic(axes: Axes, which: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, with numbers as people write them."""
    if which == "x":
        axes.set_xscale("log")
    else:
        axes.set_yscale("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())
