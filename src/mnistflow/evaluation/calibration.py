"""Calibration of probabilities: expected calibration error, Brier score, temperature scaling."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mnistflow.evaluation.scores import Bin

__all__ = ["Calibration", "calibration", "fit_temperature"]

BINS = 15  # as Guo et al. 2017 have it
SHARPEST = 20.0  # times the logits; the temperature is at least the inverse of it, and at most this


@dataclass(frozen=True)
class Calibration:
    """How well probabilities say how often they are right."""

    ece: float  # expected calibration error: mean difference of confidence and accuracy of a bin, by its images
    brier: float  # mean over the images of the sum over the classes of squared differences: 0 to 2
    bins: tuple[Bin, ...]  # those that have images, the lowest first


def calibration(probabilities: Tensor, labels: Tensor) -> Calibration:
    """Compare predicted probabilities with the labels.

    The expected calibration error (Guo et al. 2017) is over 15 equally wide bins of the probability of the prediction;
    the Brier score (Brier 1950) is the one of several classes, from 0 to 2.

    Args:
        probabilities: (N, classes) float, at least one row; rows sum to 1.
        labels: (N,) int64.
    """
    chances = probabilities.double()
    wanted = F.one_hot(labels, chances.shape[1])
    brier = float(((chances - wanted) ** 2).sum(dim=1).mean())
    confidences, predictions = chances.max(dim=1)
    right = (predictions == labels).double()
    edges = torch.linspace(0, 1, BINS + 1, dtype=torch.float64)
    place = torch.bucketize(confidences, edges[1:-1])  # an edge itself belongs to the bin below it
    bins, ece = [], 0.0
    for number in range(BINS):
        inside = place == number
        if images := int(inside.sum()):
            confidence, accuracy = float(confidences[inside].mean()), float(right[inside].mean())
            bins.append(Bin(float(edges[number]), float(edges[number + 1]), images, confidence, accuracy))
            ece += images / len(labels) * abs(confidence - accuracy)
    return Calibration(ece, brier, tuple(bins))


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The number to divide logits by for the least cross entropy (temperature scaling, Guo et al. 2017).

    That is convex in the inverse of the temperature, so halving the range in which its slope changes sign finds it.

    Args:
        logits: (N, classes) float, at least one row; of images that nothing else is measured on.
        labels: (N,) int64.

    Returns:
        The temperature, 1/20 to 20: where every image is right, any smaller one would be better yet.
    """
    outputs = logits.double()
    of_labels = outputs.gather(1, labels[:, None]).squeeze(1)
    low, high = 1 / SHARPEST, SHARPEST  # of the inverse
    for _ in range(60):
        middle = math.sqrt(low * high)
        expected = ((middle * outputs).softmax(dim=1) * outputs).sum(dim=1)
        if float((expected - of_labels).mean()) > 0:  # the slope
            high = middle
        else:
            low = middle
    return 1 / middle
