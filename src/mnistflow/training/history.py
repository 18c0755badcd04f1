"""The epochs of a training, as tables and as a summary."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

__all__ = ["Epoch", "History", "Summary"]


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


@dataclass(frozen=True)
class Summary:
    """What train.json holds: figures of the epoch whose weights were kept, and what they were computed on."""

    model: str
    recipe: str
    parameters: int
    epochs: int  # that were trained
    kept_epoch: int
    train_loss: float
    val_loss: float | None
    val_accuracy: float | None  # 0 to 1
    best_val_accuracy: float | None
    device: str  # its kind: cpu, cuda, mps
    precision: str
    threads: int
    init_from: str | None  # SHA-256 of the weights that training started from


@dataclass
class History:
    """The epochs of a training, as tables and as a summary."""

    keep: Literal["best", "last"]
    epochs: list[Epoch] = field(default_factory=list)

    MAX_STEPS: ClassVar[int] = 2000

    @property
    def kept(self) -> Epoch:
        """The epoch whose weights the model carries in the end."""
        return [epoch for epoch in self.epochs if epoch.best or self.keep == "last"][-1]

    @property
    def seconds(self) -> float:
        """That training took, measurements apart."""
        return math.fsum(epoch.seconds for epoch in self.epochs)

    def summary(self) -> dict[str, Any]:
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
        """Every n-th step, so that there are at most ``MAX_STEPS``."""
        steps = [
            (epoch.epoch, loss, lr)
            for epoch in self.epochs
            for loss, lr in zip(epoch.step_losses, epoch.step_lrs, strict=True)
        ]
        stride = math.ceil(len(steps) / self.MAX_STEPS)
        return [
            {"step": step, "epoch": epoch, "loss": _short(loss), "lr": _short(lr)}
            for step, (epoch, loss, lr) in enumerate(steps, start=1)
            if step % stride == 0
        ]


def _short(value: float | int | None) -> float | int | None:
    """Six significant digits: what float32 carries."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
