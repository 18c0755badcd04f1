"""Losses by name, and the class probabilities that logits stand for under each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Loss", "LossName", "make_loss", "probabilities"]


LossName = Literal["cross_entropy", "mse"]


Loss = Callable[[Tensor, Tensor], Tensor]
"""(N, classes) logits and (N,) labels to the mean loss, a scalar."""


def make_loss(name: LossName, *, label_smoothing: float = 0.0) -> Loss:
    """Return a loss function, from (N, classes) logits and (N,) int64 labels to a scalar.

    Args:
        name: ``cross_entropy`` over the softmax of the logits, or ``mse``: the mean squared difference between the
            logits themselves and the one-hot labels, over images and classes.
        label_smoothing: the share of the target that is spread evenly over all classes (Szegedy et al. 2016);
            ``cross_entropy`` only.
    """
    match name:
        case "cross_entropy":
            return lambda logits, labels: F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        case "mse":
            return lambda logits, labels: F.mse_loss(logits, F.one_hot(labels, logits.shape[1]).to(logits.dtype))


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
