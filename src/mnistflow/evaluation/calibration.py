"""Calibration of probabilities: expected calibration error and Brier score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistflow.evaluation.scores import Bin

__all__ = ["Calibration", "calibration"]

BINS = 15  # as Guo et al. 2017 have it


@dataclass(frozen=True)
class Calibration:
    """How well probabilities say how often they are right."""

    ece: float  # expected calibration error: mean difference of confidence and accuracy of a bin, by its images
    brier: float  # mean over the images of the sum over the classes of squared differences: 0 to 2
    bins: tuple[Bin, ...]  # those that have images, the lowest first


def calibration(probabilities: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> Calibration:
    """Compare predicted probabilities with the labels.

    The expected calibration error (Guo et al. 2017) is over 15 equally wide bins of the probability of the prediction;
    the Brier score (Brier 1950) is the one of several classes, from 0 to 2.

    Args:
        probabilities: (N, classes), at least one row; rows sum to 1.
        labels: (N,).
    """
    chances = probabilities.astype(np.float64)
    wanted = np.eye(chances.shape[1])[labels]
    brier = float(((chances - wanted) ** 2).sum(axis=1).mean())
    confidences, right = chances.max(axis=1), (chances.argmax(axis=1) == labels).astype(np.float64)
    edges = np.linspace(0, 1, BINS + 1)
    place = np.digitize(confidences, edges[1:-1], right=True)  # an edge itself belongs to the bin below it
    bins, ece = [], 0.0
    for number in range(BINS):
        inside = place == number
        if images := int(inside.sum()):
            confidence, accuracy = float(confidences[inside].mean()), float(right[inside].mean())
            bins.append(Bin(float(edges[number]), float(edges[number + 1]), images, confidence, accuracy))
            ece += images / len(labels) * abs(confidence - accuracy)
    return Calibration(ece, brier, tuple(bins))
