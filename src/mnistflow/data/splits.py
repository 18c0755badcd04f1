"""Holding out a validation split."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["stratified"]


def stratified(labels: Tensor, size: int | float, seed: int) -> tuple[Tensor, Tensor]:
    """Split indices in two so that each class keeps its share in both.

    Args:
        labels: (N,) integers.
        size: how many are held out, as a number (int) or a share below 1 (float); 0 holds out none.
        seed: decides which ones.

    Returns:
        Indices of those kept and of those held out, each (n,) int64 and in the original order.

    Raises:
        ValueError: ``size`` leaves a class without an image to train on, or holds out none of it.
    """
    total = len(labels)
    held_out = size if isinstance(size, int) else round(size * total)
    if size == 0:
        return torch.arange(total), torch.arange(0)
    classes, counts = labels.unique(return_counts=True)
    if counts.min() < 2 or not len(classes) <= held_out <= total - len(classes):
        raise ValueError(
            f"{size} of {total} images is {held_out}, and each of {len(classes)} classes (the smallest has "
            f"{int(counts.min())} images) needs at least one on either side; use 0, or {len(classes)} to "
            f"{total - len(classes)}"
        )

    # Largest remainder: whole shares first, what is left over to the classes whose share was cut most; each class keeps
    # at least one image on either side.
    exact = counts.double() * held_out / total
    quota = torch.minimum(exact.floor().long().clamp(min=1), counts - 1)
    while (missing := held_out - int(quota.sum())) != 0:
        step = 1 if missing > 0 else -1
        room = quota < counts - 1 if missing > 0 else quota > 1
        quota[int((step * (exact - quota)).masked_fill(~room, -math.inf).argmax())] += step
    generator = torch.Generator().manual_seed(seed)
    chosen = [
        members[torch.randperm(len(members), generator=generator)[: int(n)]]
        for members, n in (((labels == c).nonzero().flatten(), n) for c, n in zip(classes, quota, strict=True))
    ]
    mask = torch.zeros(total, dtype=torch.bool)
    mask[torch.cat(chosen)] = True
    return (~mask).nonzero().flatten(), mask.nonzero().flatten()
