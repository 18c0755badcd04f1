"""Losses by name, and the class probabilities that logits stand for under each of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["OUTLIER", "Loss", "LossName", "make_loss", "probabilities"]


OUTLIER = -1  # the label of an image that belongs to no class


LossName = Literal["cross_entropy", "mse"]


Loss = Callable[[Tensor, Tensor], Tensor]
"""(N, classes) logits and (N,) labels to the mean loss, a scalar."""


def make_loss(name: LossName, *, label_smoothing: float = 0.0, outliers: bool = False) -> Loss:
    """Return a loss function, from (N, classes) logits and (N,) int64 labels to a scalar.

    Args:
        name: ``cross_entropy`` over the softmax of the logits, or ``mse``: the mean squared difference between the
            logits themselves and the one-hot labels, over images and classes.
        label_smoothing: the share of the target that is spread evenly over all classes (Szegedy et al. 2016);
            ``cross_entropy`` only.
        outliers: labels may be :data:`OUTLIER`; for such images all classes should be equally likely (outlier exposure,
            Hendrycks, Mazeika and Dietterich 2019). ``cross_entropy`` only.
    """
    match name:
        case "cross_entropy" if outliers:
            return partial(_cross_entropy_with_outliers, label_smoothing=label_smoothing)
        case "cross_entropy":
            return lambda logits, labels: F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        case "mse":
            return lambda logits, labels: F.mse_loss(logits, F.one_hot(labels, logits.shape[1]).to(logits.dtype))


def _cross_entropy_with_outliers(logits: Tensor, labels: Tensor, *, label_smoothing: float) -> Tensor:
    of_label = F.cross_entropy(logits, labels.clamp(min=0), label_smoothing=label_smoothing, reduction="none")
    of_all = -logits.log_softmax(dim=1).mean(dim=1)
    return torch.where(labels == OUTLIER, of_all, of_label).mean()


def probabilities(logits: Tensor, loss: LossName, temperature: float | None = None) -> Tensor:
    """What a network's outputs say of each class, as numbers from 0 to 1 that sum to 1.

    Args:
        logits: (N, classes) float32.
        loss: the one the network was trained with. After ``cross_entropy`` the softmax; after ``mse`` the outputs
            are aimed at 0 and 1 themselves, so they are clipped to that range and divided by their sum (all classes
            alike where none is above 0).
        temperature: that logits are divided by before the softmax (Guo et al. 2017); None: they stay as they are.

    Returns:
        (N, classes) float32.
    """
    match loss:
        case "cross_entropy":
            return (logits if temperature is None else logits / temperature).softmax(dim=1)
        case "mse":
            clipped = logits.clamp(0, 1)
            total = clipped.sum(dim=1, keepdim=True)
            return torch.where(total > 0, clipped / total.clamp(min=torch.finfo(total.dtype).tiny), 1 / logits.shape[1])
