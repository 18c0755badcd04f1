"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mnistflow.artifacts import Split
from mnistflow.inference import measure
from mnistflow.recipes import Loss

__all__ = ["Diverged", "Epoch", "History", "Step", "fit"]


ADVICE = "lower lr in the recipe, or take an experiment's change back: git checkout params.yaml"


class Diverged(ArithmeticError):
    """A loss, or weights, that are no numbers any more."""


@dataclass(frozen=True)
class Step:
    """Where training is, every so many steps."""

    epoch: int  # from 1
    step: int  # of this epoch, from 1
    steps: int  # in an epoch
    loss: float  # of this step's batch


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training split came to."""

    epoch: int  # from 1
    lr: float  # of its last step
    train_loss: float  # mean over its images, each seen with the weights of its step
    val_loss: float | None
    val_accuracy: float | None  # 0 to 1
    test_loss: float | None
    test_accuracy: float | None  # 0 to 1; reported, never chosen by
    best: bool  # so far, by validation accuracy, then loss; False without a validation split
    step_losses: list[float] = field(repr=False)
    step_lrs: list[float] = field(repr=False)
    seconds: float  # training alone


def fit(
    model: nn.Module,
    train: Split,
    *,
    optimizer: Optimizer,
    schedule: LRScheduler | None,
    loss: Loss,
    epochs: int,
    batch_size: int,
    shuffle: bool,
    generator: Generator,
    augment: Callable[[Tensor, Generator], Tensor] | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    validation: Split | None = None,
    test: Split | None = None,
    plain_loss: Loss | None = None,
    keep: Literal["best", "last"] = "last",
    patience: int | None = None,
    report_every: int = 200,
) -> Iterator[Step | Epoch]:
    """Train a network, one epoch after the other; when the iterator ends, it carries the weights to keep.

    Args:
        model: on the device of the splits; changed in place.
        train: the whole training split, in memory; batches are taken from it by index, the last may be smaller.
        optimizer: over the model's parameters.
        schedule: moved on after each step, if there is one.
        loss: of logits and labels, the mean over a batch.
        epochs: at most so many passes over ``train``.
        batch_size: images a step.
        shuffle: whether each epoch takes a new random order.
        generator: of all randomness here but dropout's, on the CPU.
        augment: applied to the images of each batch.
        precision: ``bf16`` computes the network in bfloat16; weights, loss and optimizer stay float32.
        validation: measured after each epoch; alone decides on ``keep`` and ``patience``.
        test: measured after each epoch for the report, and used for nothing else.
        plain_loss: for these measurements, where ``loss`` has a part that only training wants, such as smoothing.
        keep: the weights that the model carries in the end: of the epoch that was ``best`` on validation, or ``last``.
        patience: end after so many epochs without a better one on validation; None trains to the end.
        report_every: steps between two :class:`Step`.

    Yields:
        A :class:`Step` every ``report_every`` steps, an :class:`Epoch` after each epoch.

    Raises:
        Diverged: the loss of a step, or a weight, is infinite or not a number; says where, and what to change.
    """
    assert validation or (keep == "last" and patience is None)
    device = train.images.device
    model.to(memory_format=torch.channels_last)  # LeNet-5 on a CPU: a fifth faster
    model.train()
    steps = math.ceil(len(train) / batch_size)
    best: tuple[float, float] | None = None
    best_epoch = 0
    best_weights: dict[str, Tensor] = {}

    for epoch in range(1, epochs + 1):
        started = time.perf_counter()
        order = torch.randperm(len(train), generator=generator).to(device) if shuffle else None
        losses = torch.zeros(steps, device=device)
        lrs: list[float] = []
        for step in range(steps):
            here = slice(step * batch_size, (step + 1) * batch_size)
            chosen = here if order is None else order[here]
            images, labels = train.images[chosen], train.labels[chosen]  # (B, C, H, W), (B,)
            if augment is not None:
                images = augment(images, generator)
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                logits = model(images.contiguous(memory_format=torch.channels_last))  # (B, classes)
            batch_loss = loss(logits.float(), labels)
            optimizer.zero_grad()
            batch_loss.backward()
            optimizer.step()
            losses[step] = batch_loss.detach()
            lrs.append(optimizer.param_groups[0]["lr"])
            if schedule is not None:
                schedule.step()
            if ((epoch - 1) * steps + step + 1) % report_every == 0:
                yield Step(epoch, step + 1, steps, _finite(losses[: step + 1], epoch, lrs)[-1])

        step_losses = _finite(losses, epoch, lrs)
        sizes = [min(batch_size, len(train) - step * batch_size) for step in range(steps)]
        train_loss = math.fsum(map(math.prod, zip(step_losses, sizes, strict=True))) / len(train)
        seconds = time.perf_counter() - started
        val_loss, val_accuracy = measure(model, validation, plain_loss or loss) if validation else (None, None)
        test_loss, test_accuracy = measure(model, test, plain_loss or loss) if test else (None, None)
        if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
            raise Diverged(f"training diverged: after epoch {epoch} weights are infinite or not a number; {ADVICE}")
        improved = False
        if val_accuracy is not None and val_loss is not None:
            improved = best is None or (val_accuracy, -val_loss) > best
            if improved:
                best, best_epoch = (val_accuracy, -val_loss), epoch
                best_weights = deepcopy(model.state_dict()) if keep == "best" else {}
        yield Epoch(
            epoch=epoch,
            lr=lrs[-1],
            train_loss=train_loss,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            test_loss=test_loss,
            test_accuracy=test_accuracy,
            best=improved,
            step_losses=step_losses,
            step_lrs=lrs,
            seconds=seconds,
        )
        if patience is not None and epoch - best_epoch >= patience:
            break

    if keep == "best":
        model.load_state_dict(best_weights)


def _finite(losses: Tensor, epoch: int, lrs: list[float]) -> list[float]:
    values: list[float] = losses.tolist()
    for step, value in enumerate(values, start=1):
        if not math.isfinite(value):
            raise Diverged(
                f"training diverged: the loss is {value} at epoch {epoch}, step {step}, "
                f"learning rate {lrs[step - 1]:.4g}; {ADVICE}"
            )
    return values


@dataclass
class History:
    """The epochs of a training, as tables and as a summary."""

    keep: Literal["best", "last"]
    epochs: list[Epoch] = field(default_factory=list)

    MOST_STEPS: ClassVar[int] = 2000

    @property
    def kept(self) -> Epoch:
        """The epoch whose weights the model carries in the end."""
        return [epoch for epoch in self.epochs if epoch.best or self.keep == "last"][-1]

    @property
    def seconds(self) -> float:
        """That training took, measurements apart."""
        return math.fsum(epoch.seconds for epoch in self.epochs)

    def summary(self) -> dict[str, object]:
        """How the training ended: figures of the kept epoch, and the best there was on validation."""
        kept, best = self.kept, [epoch.val_accuracy for epoch in self.epochs if epoch.best]
        return {
            "epochs": len(self.epochs),
            "kept_epoch": kept.epoch,
            "train_loss": _short(kept.train_loss),
            "val_loss": _short(kept.val_loss),
            "val_accuracy": _short(kept.val_accuracy),
            "best_val_accuracy": _short(best[-1]) if best else None,
        }

    def epoch_rows(self) -> list[dict[str, float | int | None]]:
        """A row for each epoch."""
        columns = ("epoch", "lr", "train_loss", "val_loss", "val_accuracy", "test_loss", "test_accuracy")
        return [{column: _short(getattr(epoch, column)) for column in columns} for epoch in self.epochs]

    def step_rows(self) -> list[dict[str, float | int | None]]:
        """Every n-th step, so that there are at most ``MOST_STEPS``."""
        steps = [
            (epoch.epoch, loss, lr)
            for epoch in self.epochs
            for loss, lr in zip(epoch.step_losses, epoch.step_lrs, strict=True)
        ]
        stride = math.ceil(len(steps) / self.MOST_STEPS)
        return [
            {"step": step, "epoch": epoch, "loss": _short(loss), "lr": _short(lr)}
            for step, (epoch, loss, lr) in enumerate(steps, start=1)
            if step % stride == 0
        ]


def _short(value: float | int | None) -> float | int | None:
    """Six significant digits: what float32 carries."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
