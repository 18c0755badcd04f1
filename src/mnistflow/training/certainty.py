"""What the probabilities of a trained network mean: their temperature, and from which one on an answer is sure."""

from __future__ import annotations

import math

from torch import Tensor, nn

from mnistflow.core.tensors import Split
from mnistflow.models.inference import logits_of
from mnistflow.models.losses import LossName, probabilities

__all__ = ["certainty_of", "fit_temperature"]

AT_ONCE = 1000  # images
SURE_SHARE = 0.99  # of the validation images that a network is to be sure of
SHARPEST = 20.0  # times the logits; the temperature is at least the inverse of it, and at most this


def certainty_of(model: nn.Module, validation: Split, loss: LossName) -> tuple[float | None, float | None]:
    """What belongs to the probabilities of a trained network.

    Args:
        model: on any device.
        validation: images that it was not trained on.
        loss: the one it was trained with.

    Returns:
        The temperature, see :func:`fit_temperature`; None where the loss has no logits to scale. And the threshold: for
        99 % of the images, the largest of their probabilities is at least so much. Both are None where there are no
        images.
    """
    if not len(validation):
        return None, None
    logits, labels = logits_of(model, validation.images, AT_ONCE).cpu(), validation.labels.cpu()
    temperature = fit_temperature(logits, labels) if loss == "cross_entropy" else None
    surest = probabilities(logits, loss, temperature).amax(dim=1).sort().values
    return temperature, float(surest[math.floor((1 - SURE_SHARE) * len(surest))])


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The number to divide logits by for the least cross entropy (temperature scaling, Guo et al. 2017).

    That is convex in the inverse of the temperature, so halving the range in which its slope changes sign finds it.

    Args:
        logits: (N, classes) float, at least one row; of images that nothing is trained or measured on.
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
