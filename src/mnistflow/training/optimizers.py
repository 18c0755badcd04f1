"""Optimizers and schedules of the learning rate, by name."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

__all__ = ["OptimizerName", "ScheduleName", "make_optimizer", "make_schedule"]

OptimizerName = Literal["sgd", "adam", "adamw"]
ScheduleName = Literal["constant", "one_cycle"]


def make_optimizer(
    parameters: Iterable[nn.Parameter],
    name: OptimizerName,
    *,
    lr: float,
    momentum: float | None = None,
    nesterov: bool = False,
    betas: list[float] | None = None,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Make an optimizer, in its fused form (one kernel a step); None takes PyTorch's default.

    Args:
        parameters: of the model, on their device already.
        name: ``sgd``, ``adam`` (Kingma and Ba 2015) or ``adamw`` (Loshchilov and Hutter 2019).
        lr: learning rate, the peak of it with a schedule.
        momentum: ``sgd`` only.
        nesterov: whether momentum looks ahead; ``sgd`` only.
        betas: decay of the two averages; ``adam`` and ``adamw`` only.
        weight_decay: added to the gradient, decoupled from it with ``adamw``.
    """
    if name == "sgd":
        return SGD(
            parameters, lr=lr, momentum=momentum or 0.0, nesterov=nesterov, weight_decay=weight_decay, fused=True
        )
    kind: type[Adam | AdamW] = {"adam": Adam, "adamw": AdamW}[name]
    first, second = betas or (0.9, 0.999)
    return kind(parameters, lr=lr, betas=(first, second), weight_decay=weight_decay, fused=True)


def make_schedule(
    optimizer: Optimizer, name: ScheduleName, *, steps: int, warmup: float | None = None
) -> LRScheduler | None:
    """Make the schedule that moves the learning rate after each step; None where it stays.

    Args:
        optimizer: its learning rate is the peak.
        name: ``constant`` or ``one_cycle`` (Smith and Topin 2018): up in a cosine from 1/25 of the peak, then down to
            a 10,000th of where it began; momentum stays.
        steps: of the whole training.
        warmup: the share of all steps in which the learning rate rises; ``one_cycle`` only.
    """
    if name == "constant":
        return None
    assert warmup is not None
    top, last = warmup * (steps - 1), steps - 1

    def factor(step: int) -> float:
        if step <= top:
            return _cosine(1 / 25, 1.0, step / top if top else 1.0)
        return _cosine(1.0, 1 / 25 / 10_000, (step - top) / (last - top) if step < last else 1.0)

    return LambdaLR(optimizer, factor)


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
