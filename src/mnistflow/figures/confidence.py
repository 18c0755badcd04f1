"""The reliability diagram: accuracy against confidence."""

from __future__ import annotations

import math

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from mnistflow.evaluation.scores import Scores
from mnistflow.figures.style import panels, styled

__all__ = ["reliability"]

MANY = 30  # images of a bin, from which on its accuracy says something


def reliability(scores: Scores) -> Figure:
    """How often a network is right where it is so and so sure (DeGroot and Fienberg 1983), and how many images that is.

    Args:
        scores: with the bins of the top probability.
    """
    with styled() as colours:
        figure, (shares, counts) = panels(2, 1, (6.2, 6.4), heights=(3, 1))
        bins = scores.reliability
        low = math.floor(10 * min(one_bin.low for one_bin in bins)) / 10
        shares.plot([low, 1], [low, 1], color=colours.grey, linewidth=1.0, linestyle="--")
        key = f"dashed: perfect calibration\nhollow: fewer than {MANY} images"
        shares.text(0.98, 0.04, key, color=colours.grey, fontsize=8, ha="right", transform=shares.transAxes)
        for one_bin in bins:
            colour = colours.orange if one_bin.accuracy < one_bin.confidence else colours.blue
            at = [one_bin.confidence, one_bin.confidence]
            shares.plot(at, [one_bin.confidence, one_bin.accuracy], color=colour, linewidth=3.0, solid_capstyle="butt")
            inner = colour if one_bin.images >= MANY else colours.paper
            shares.plot(at[:1], [one_bin.accuracy], "o", color=colour, markerfacecolor=inner, markersize=6)
        middles = [(one_bin.low + one_bin.high) / 2 for one_bin in bins]
        widths = [0.9 * (one_bin.high - one_bin.low) for one_bin in bins]
        counts.bar(middles, [one_bin.images for one_bin in bins], widths, color=colours.grey)
        for middle, one_bin in zip(middles, bins, strict=True):
            counts.annotate(
                f"{one_bin.images:,}",
                (middle, one_bin.images),
                (0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=7,
            )
        counts.set_yscale("log")
        counts.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        counts.set_ylim(0.7, 4 * max(one_bin.images for one_bin in bins))
        shares.set_title(_said(scores), fontsize=10)
        shares.set_ylabel("accuracy")
        shares.set_ylim(-0.03, 1.03)
        counts.set(xlabel="confidence (probability of the prediction)", ylabel="images")
        shares.yaxis.set_major_formatter(PercentFormatter(1))
        for axes in (shares, counts):
            axes.set_xlim(low, 1.0 + 0.02 * (1 - low))
            axes.xaxis.set_major_formatter(PercentFormatter(1))
        return figure


def _said(scores: Scores) -> str:
    """The figure in words."""
    total = sum(one_bin.images for one_bin in scores.reliability)
    sure = sum(one_bin.images * one_bin.confidence for one_bin in scores.reliability) / total
    right = sum(one_bin.images * one_bin.accuracy for one_bin in scores.reliability) / total
    way = "overconfident" if sure > right else "underconfident"
    if f"{sure:.1%}" == f"{right:.1%}":
        way = "well calibrated on average"
    lines = [
        f"Average confidence {sure:.1%}, accuracy {right:.1%}: {way}",
        f"expected calibration error {scores.ece:.2%}",
    ]
    if scores.temperature is not None and scores.ece_unscaled is not None:
        lines[1] += f" with temperature {scores.temperature:.2f}; without, {scores.ece_unscaled:.2%}"
    return "\n".join(lines)
