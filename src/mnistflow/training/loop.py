"""The training loop."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mnistflow.core import devices
from mnistflow.core.tensors import Split, read_in_any_order
from mnistflow.models.inference import logits_of, measure
from mnistflow.models.losses import Loss
from mnistflow.training.cuda_graph import Captured, Stepping
from mnistflow.training.history import Epoch

__all__ = ["Diverged", "State", "Step", "fit", "resolve_precision"]


ADVICE = "lower lr in the recipe, or undo the change of an experiment: git checkout params.yaml"
FINITE_CHECK_STEPS = 200  # steps between two looks at whether the losses are numbers: on a GPU, each waits for it
MAX_BATCH_WITHOUT_ONEDNN = 4  # images a step; up to so many, oneDNN prepares longer than plain convolutions take
CHUNK_IMAGES = 4096  # images that are brought into the order of an epoch at once
MIN_BF16_CHANNELS = 16  # channels into a convolution; from so many on, bfloat16 saves more than it costs to convert
COLLAPSE_CHECK_IMAGES = 1000  # images that a network is tried on for whether it still tells them apart


Precision = Literal["fp32", "bf16"]


class Diverged(ArithmeticError):
    """Training that diverged: a loss or weight is infinite or NaN, or the network has collapsed to one class."""


@dataclass(frozen=True)
class Step:
    """Where training is, after each step."""

    epoch: int  # from 1
    step: int  # of this epoch, from 1
    steps: int  # in an epoch
    batch_loss: Tensor = field(repr=False)  # a scalar, on the device of the network; the next step may overwrite it

    @property
    def loss(self) -> float:
        """Of this step's batch; on a GPU, to read it waits for the computation."""
        return float(self.batch_loss)


@dataclass
class State:
    """Everything that training changes. A copy saved between two events of :func:`fit` can be resumed later.

    The optimizer's parameters are the model's. ``generator`` orders all randomness but dropout's and lives on the CPU.
    """

    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler | None
    generator: Generator
    batch_size: int  # images a step
    epochs: list[Epoch] = field(default_factory=list)  # that have ended
    best_weights: dict[str, Tensor] = field(default_factory=dict)  # of the best of them, where that is kept
    # Of the epoch under way:
    order: Tensor | None = None  # (N,) int64 on the CPU, of the training images; None: theirs, or between epochs
    losses: Tensor | None = None  # (steps,); of the steps done, and 0
    lrs: list[float] = field(default_factory=list)  # of the steps done
    started: float = 0.0  # on the clock of time.perf_counter

    def __post_init__(self) -> None:
        self.model.to(memory_format=self.layout)

    @property
    def layout(self) -> torch.memory_format:
        """How weights and images lie in memory: as oneDNN's convolutions are fastest, or those without it."""
        return torch.contiguous_format if self.batch_size <= MAX_BATCH_WITHOUT_ONEDNN else torch.channels_last

    def best_epoch(self) -> Epoch | None:
        """The best on validation of those that have ended; None where nothing was measured."""
        return next((epoch for epoch in reversed(self.epochs) if epoch.best), None)


def resolve_precision(precision: Literal["auto", "fp32", "bf16"], model: nn.Module, device: torch.device) -> Precision:
    """What a network is computed in.

    Args:
        precision: ``auto`` stands for ``bf16`` where the device multiplies in it and the network has a convolution of
            16 channels or more, and for ``fp32`` everywhere else: dense layers and narrow convolutions gain little or
            lose (``python -m benchmarks.precision``).
        model: the network.
        device: that it is on.
    """
    if precision != "auto":
        return precision
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    is_wide = any(convolution.in_channels >= MIN_BF16_CHANNELS for convolution in convolutions)
    return "bf16" if is_wide and devices.multiplies_bf16(device) else "fp32"


def fit(
    state: State,
    train: Split,
    *,
    loss: Loss,
    epochs: int,
    shuffle: bool,
    augment: Callable[[Tensor, Generator], Tensor] | None = None,
    precision: Precision = "fp32",
    validation: Split | None = None,
    test: Split | None = None,
    plain_loss: Loss | None = None,
    keep: Literal["best", "last"] = "last",
    patience: int | None = None,
    capture: bool = False,
) -> Iterator[Step | Epoch]:
    """Train a network, one epoch after the other; when the iterator ends, it carries the weights to keep.

    Args:
        state: a new one, or one left by an interrupted call with the same arguments, which is then continued and ends
            in the same weights, bit for bit. Changed in place.
        train: the whole training split, on the device of the network or, possibly memory-mapped, on the CPU; the last
            batch may be smaller.
        loss: of logits and labels, the mean over a batch.
        epochs: at most so many passes over ``train``.
        shuffle: whether each epoch takes a new random order.
        augment: applied to the images of each batch.
        precision: ``bf16`` computes the network in bfloat16; weights, loss and optimizer stay float32.
        validation: measured after each epoch; alone decides on ``keep`` and ``patience``.
        test: measured after each epoch for the report, and used for nothing else.
        plain_loss: for these measurements, where ``loss`` has a part that only training wants, such as smoothing.
        keep: the weights that the model carries in the end: of the epoch that was ``best`` on validation, or ``last``.
        patience: end after so many epochs without a better one on validation; None trains to the end.
        capture: on a GPU, launch a step as one CUDA graph, instead of its parts one by one.

    Yields:
        A :class:`Step` after each step, an :class:`Epoch` after each epoch.

    Raises:
        Diverged: a loss or a weight is infinite or not a number, or the network gives every image the same answer;
            says where, and what to change.
    """
    assert validation or (keep == "last" and patience is None)
    model, optimizer, schedule, generator = state.model, state.optimizer, state.schedule, state.generator
    device, layout, batch_size = next(model.parameters()).device, state.layout, state.batch_size
    on_gpu = device.type == "cuda"
    # What a CUDA graph casts it must cast in each replay, so nothing is kept from one cast for the next there.
    in_bf16 = partial(torch.autocast, device.type, torch.bfloat16, cache_enabled=not on_gpu)
    autocast = in_bf16() if precision == "bf16" else contextlib.nullcontext()
    model.train()
    steps = math.ceil(len(train) / batch_size)
    if shuffle:
        read_in_any_order(train.images)

    def take_step(images: Tensor, labels: Tensor) -> Tensor:
        with _convolutions(onednn=batch_size > MAX_BATCH_WITHOUT_ONEDNN):
            with autocast:
                logits = model(images.contiguous(memory_format=layout))  # (B, classes)
            batch_loss = loss(logits.float(), labels)
            optimizer.zero_grad()
            batch_loss.backward()
        optimizer.step()
        return batch_loss.detach()

    step_of: Stepping = Captured(take_step, optimizer, device, record=capture) if on_gpu else take_step

    while len(state.epochs) < epochs and not _is_patience_over(state, patience):
        number = len(state.epochs) + 1
        if state.losses is None:
            state.started = time.perf_counter()
            state.order = torch.randperm(len(train), generator=generator) if shuffle else None
            state.losses = torch.zeros(steps, device=device)
        for step, (images, labels) in enumerate(_batches(train, state, device), start=len(state.lrs)):
            if augment is not None:
                images = augment(images, generator)
            batch_loss = step_of(images, labels)
            state.losses[step] = batch_loss
            state.lrs.append(optimizer.param_groups[0]["lr"])
            if schedule is not None:
                schedule.step()
            if (step + 1) % FINITE_CHECK_STEPS == 0 and not bool(state.losses[: step + 1].isfinite().all()):
                _finite(state.losses[: step + 1], number, state.lrs)
            yield Step(number, step + 1, steps, batch_loss)

        step_losses = _finite(state.losses, number, state.lrs)
        sizes = [min(batch_size, len(train) - step * batch_size) for step in range(steps)]
        train_loss = math.fsum(map(math.prod, zip(step_losses, sizes, strict=True))) / len(train)
        seconds = time.perf_counter() - state.started
        val_loss, val_accuracy = measure(model, validation, plain_loss or loss) if validation else (None, None)
        test_loss, test_accuracy = measure(model, test, plain_loss or loss) if test else (None, None)
        measured = [value for value in (val_loss, test_loss) if value is not None]
        if reason := _why_collapsed(model, train, [train_loss, *measured], state.epochs):
            raise Diverged(
                f"training diverged: after epoch {number}, step {steps}, learning rate {state.lrs[-1]:.4g}, {reason}; "
                + ADVICE
            )
        ended = Epoch(
            epoch=number,
            lr=state.lrs[-1],
            train_loss=train_loss,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            test_loss=test_loss,
            test_accuracy=test_accuracy,
            best=_is_better(val_accuracy, val_loss, state.best_epoch()),
            step_losses=step_losses,
            step_lrs=state.lrs,
            seconds=seconds,
        )
        if ended.best and keep == "best":
            state.best_weights = deepcopy(model.state_dict())
        state.epochs.append(ended)
        state.order, state.losses, state.lrs = None, None, []
        yield ended

    if keep == "best":
        model.load_state_dict(state.best_weights)


def _batches(split: Split, state: State, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of an epoch from the next step on, images (B, C, H, W) and labels (B,), in the state's order.

    They are brought to the device in parts of many steps: a split that lies elsewhere needs no more room than that.
    """
    size = max(1, CHUNK_IMAGES // state.batch_size)  # steps
    first = len(state.lrs)
    # From the start of a part, also for an epoch that goes on within it: where numbers lie in memory can decide how
    # their sums are rounded.
    for step in range(first - first % size, math.ceil(len(split) / state.batch_size), size):
        rows = slice(step * state.batch_size, (step + size) * state.batch_size)
        chosen = rows if state.order is None else state.order[rows].to(split.images.device)
        parts = (tensor[chosen].to(device).split(state.batch_size) for tensor in (split.images, split.labels))
        yield from islice(zip(*parts, strict=True), max(0, first - step), None)


@contextlib.contextmanager
def _convolutions(*, onednn: bool) -> Iterator[None]:
    """Whether oneDNN computes the convolutions of this block on a CPU."""
    before = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = onednn and before  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = before


def _is_better(val_accuracy: float | None, val_loss: float | None, than: Epoch | None) -> bool:
    if val_accuracy is None or val_loss is None:
        return False
    if than is None or than.val_accuracy is None or than.val_loss is None:
        return True
    return (val_accuracy, -val_loss) > (than.val_accuracy, -than.val_loss)


def _is_patience_over(state: State, patience: int | None) -> bool:
    best = state.best_epoch()
    return patience is not None and best is not None and len(state.epochs) - best.epoch >= patience


def _why_collapsed(model: nn.Module, train: Split, losses: list[float], before: list[Epoch]) -> str | None:
    """Why a network can no longer recover by training; None if it can.

    Predicting one class for all images is not enough: slow starters do so for an epoch or two.

    Args:
        model: after an epoch.
        train: the training split.
        losses: of the epoch, on the training split first.
        before: the epochs before it.
    """
    if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
        return "weights are infinite or NaN"
    if not all(map(math.isfinite, losses)):
        return "a loss is infinite or NaN"
    logits = logits_of(model, train.images[:COLLAPSE_CHECK_IMAGES], COLLAPSE_CHECK_IMAGES)
    classes = logits.argmax(dim=1).unique()
    if len(classes) > 1 or len(train.labels[:COLLAPSE_CHECK_IMAGES].unique()) < 2:
        return None
    spread, size = float((logits.amax(dim=0) - logits.amin(dim=0)).max()), float(logits.abs().max())
    is_constant = spread <= 1e-6 * size
    is_worse = any(epoch.train_loss < 0.9 * losses[0] for epoch in before)
    if not is_constant and not is_worse:
        return None
    return f"the network predicts {train.inputs.classes[int(classes)]!r} for every image and has stopped learning"


def _finite(losses: Tensor, epoch: int, lrs: list[float]) -> list[float]:
    values: list[float] = losses.tolist()
    for step, value in enumerate(values, start=1):
        if not math.isfinite(value):
            raise Diverged(
                f"training diverged: the loss is {value} at epoch {epoch}, step {step}, "
                f"learning rate {lrs[step - 1]:.4g}; {ADVICE}"
            )
    return values
