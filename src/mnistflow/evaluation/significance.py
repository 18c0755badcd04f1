"""Whether two networks that read the same images differ by more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Paired", "paired"]


RESAMPLES = 10_000


@dataclass(frozen=True)
class Paired:
    """What two runs made of the same images: how many each of them read right."""

    both: int
    first: int  # only the first run
    second: int  # only the second
    neither: int

    @property
    def images(self) -> int:
        """All of them."""
        return self.both + self.first + self.second + self.neither

    @property
    def difference(self) -> float:
        """Accuracy of the first run less that of the second, -1 to 1."""
        return (self.first - self.second) / self.images

    @property
    def p_value(self) -> float:
        """Of McNemar's exact test (McNemar 1947): how often equally good runs would differ by at least this much.

        Under that hypothesis, each image that only one of them reads right is a coin toss; the test is two-sided.
        """
        tosses, fewer = self.first + self.second, min(self.first, self.second)
        ways = total = 1  # of `count` heads in all tosses, and of at most so many
        for count in range(fewer):
            ways = ways * (tosses - count) // (count + 1)
            total += ways
        return min(1.0, 2 * total / (1 << tosses))

    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference by the paired bootstrap (percentiles of 10,000 resamples, seeded).

        To draw the images anew, each with what both runs made of it, is to draw the four counts from a multinomial
        distribution.
        """
        counts = np.array([self.both, self.first, self.second, self.neither])
        drawn = np.random.default_rng(0).multinomial(self.images, counts / self.images, size=RESAMPLES)  # (R, 4)
        low, high = np.quantile((drawn[:, 1] - drawn[:, 2]) / self.images, [0.025, 0.975])
        return float(low), float(high)


def paired(first: Sequence[Mapping[str, str]], second: Sequence[Mapping[str, str]]) -> Paired | None:
    """Count what two runs made of the same images; None where they are not the same.

    Args:
        first: the rows of predictions.csv of one run, at least one.
        second: those of the other.
    """
    if [(row["index"], row["label"]) for row in first] != [(row["index"], row["label"]) for row in second]:
        return None
    right = [
        (one["prediction"] == one["label"], other["prediction"] == other["label"])
        for one, other in zip(first, second, strict=True)
    ]
    outcomes = ((True, True), (True, False), (False, True), (False, False))
    return Paired(*(right.count(outcome) for outcome in outcomes))
