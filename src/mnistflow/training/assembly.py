"""One function that puts a training together from a recipe, for the stage, for benchmarks and for tests."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import Generator, nn

from mnistflow.core.tensors import Split
from mnistflow.models.losses import Loss, LossName, make_loss
from mnistflow.training.augmentation import augmented
from mnistflow.training.extra_images import extended
from mnistflow.training.history import Epoch, History
from mnistflow.training.loop import Precision, State, Step, fit, resolve_precision
from mnistflow.training.optimizers import OptimizerName, ScheduleName, make_optimizer, make_schedule

__all__ = ["Training", "assemble"]


@dataclass(frozen=True)
class Training:
    """A training that is ready to begin, or to go on."""

    state: State  # fresh; what a checkpoint holds may be put into it before :meth:`events`
    history: History  # of its epochs, as they end
    precision: Precision
    plain_loss: Loss  # without what only training wants, such as smoothing
    epochs: int  # at most
    steps: int  # in an epoch
    options: Mapping[str, Any]  # the other arguments of :func:`mnistflow.training.loop.fit`

    def events(self) -> Iterator[Step | Epoch]:
        """Train; see :func:`mnistflow.training.loop.fit`."""
        return fit(self.state, epochs=self.epochs, precision=self.precision, plain_loss=self.plain_loss, **self.options)


def assemble(
    model: nn.Module,
    train: Split,
    generator: Generator,
    *,
    epochs: int,
    batch_size: int,
    shuffle: bool,
    loss: LossName,
    optimizer: OptimizerName,
    lr: float,
    label_smoothing: float = 0.0,
    momentum: float | None = None,
    nesterov: bool = False,
    betas: list[float] | None = None,
    weight_decay: float = 0.0,
    schedule: ScheduleName = "constant",
    warmup: float | None = None,
    augment: Mapping[str, Any] | None = None,
    drawn_digits: int = 0,
    outliers: int = 0,
    precision: Literal["auto", "fp32", "bf16"] = "fp32",
    keep: Literal["best", "last"] = "last",
    patience: int | None = None,
    validation: Split | None = None,
    test: Split | None = None,
    capture: bool = False,
) -> Training:
    """Put a training together; the keyword arguments up to ``patience`` are those of a recipe in params.yaml.

    Args:
        model: on its device, with its initial weights.
        train: the training split.
        generator: that orders all randomness but dropout's, on the CPU.
        epochs: at most so many.
        batch_size: images a step.
        shuffle: whether each epoch takes a new random order.
        loss: see :func:`mnistflow.models.losses.make_loss`.
        optimizer: see :func:`mnistflow.training.optimizers.make_optimizer`, also for its arguments.
        lr: learning rate, the peak of it with a schedule.
        label_smoothing: of the loss, in training alone.
        momentum: of the optimizer.
        nesterov: of the optimizer.
        betas: of the optimizer.
        weight_decay: of the optimizer.
        schedule: see :func:`mnistflow.training.optimizers.make_schedule`.
        warmup: of the schedule.
        augment: the keyword arguments of :func:`mnistflow.training.augmentation.augmented`; None: images stay as they
            are.
        drawn_digits: images added, see :func:`mnistflow.training.extra_images.extended`.
        outliers: images added, see there.
        precision: see :func:`mnistflow.training.loop.resolve_precision`.
        keep: see :func:`mnistflow.training.loop.fit`, also for the others.
        patience: epochs without a better one.
        validation: measured after each epoch; alone decides on ``keep`` and ``patience``.
        test: measured after each epoch for the report, and used for nothing else.
        capture: whether a step is one CUDA graph on a GPU.
    """
    train = extended(train, generator, drawn_digits=drawn_digits, outliers=outliers)
    steps = math.ceil(len(train) / batch_size)
    adjusts = make_optimizer(
        model.parameters(),
        optimizer,
        lr=lr,
        momentum=momentum,
        nesterov=nesterov,
        betas=betas,
        weight_decay=weight_decay,
    )
    state = State(
        model, adjusts, make_schedule(adjusts, schedule, steps=epochs * steps, warmup=warmup), generator, batch_size
    )
    options = {
        "train": train,
        "loss": make_loss(loss, label_smoothing=label_smoothing, outliers=outliers > 0),
        "shuffle": shuffle,
        "augment": partial(augmented, **augment) if augment and any(augment.values()) else None,
        "validation": validation,
        "test": test,
        "keep": keep,
        "patience": patience,
        "capture": capture,
    }
    computed = resolve_precision(precision, model, next(model.parameters()).device)
    return Training(state, History(keep, state.epochs), computed, make_loss(loss), epochs, steps, options)
