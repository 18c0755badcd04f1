"""Progress of training in the terminal."""

from __future__ import annotations

import sys
from typing import NoReturn

from tqdm import tqdm

from mnistflow.training.history import Epoch
from mnistflow.training.loop import State, Step

__all__ = ["Display"]


class Display:
    """A bar within each epoch where there is a terminal, a line every so many steps where there is none; and a line
    for each epoch.

    Args:
        epochs: how many there will be at most.
        steps: in each epoch.
        report_every: steps between two lines.
    """

    def __init__(self, epochs: int, steps: int, report_every: int) -> None:
        self.terminal = sys.stderr.isatty()
        self.epochs = epochs
        self.steps = steps
        self.every = max(1, steps // 50) if self.terminal else report_every
        self.where = "before the first step"
        self.seen = ""  # the last epoch's validation accuracy
        self.bar = self._new_bar(1)

    def resumed(self, state: State) -> None:
        """Show from where a training resumes."""
        self.bar.close()
        for epoch in state.epochs:
            self._end(epoch)
        step, epochs = len(state.lrs), len(state.epochs)
        self._at(f"epoch {epochs + 1}, step {step}" if step else f"the end of epoch {epochs}")
        print(f"train: resumes {self.where}, from the checkpoint of an interrupted run", flush=True)
        self.bar = self._new_bar(epochs + 1, step)

    def show(self, event: Step | Epoch) -> None:
        """Show where training is."""
        if isinstance(event, Step):
            self._at(f"epoch {event.epoch}, step {event.step}")
            if ((event.epoch - 1) * self.steps + event.step) % self.every == 0:
                loss = event.loss
                self.bar.set_postfix_str(f"loss {loss:.4f}{self.seen}", refresh=False)
                self.bar.update(event.step - self.bar.n)
                if self.bar.disable:
                    print(f"  step {event.step}/{event.steps}  loss {loss:.4f}", flush=True)
            return
        self._at(f"the end of epoch {event.epoch}")
        self.bar.close()
        self._end(event)
        if event.epoch < self.epochs:
            self.bar = self._new_bar(event.epoch + 1)

    def _at(self, place: str) -> None:
        self.where = f"after {place}"

    def _end(self, epoch: Epoch) -> None:
        """A line for an epoch that has ended."""
        parts = [f"epoch {epoch.epoch}/{self.epochs}", f"loss {epoch.train_loss:.4f}"]
        if epoch.val_accuracy is not None:
            self.seen = f", validation {epoch.val_accuracy:.2%}"
            parts.append(f"validation {epoch.val_accuracy:.2%} (loss {epoch.val_loss:.4f})")
        if epoch.test_accuracy is not None:
            parts.append(f"test {epoch.test_accuracy:.2%} (loss {epoch.test_loss:.4f})")
        print("  ".join([*parts, f"{epoch.seconds:.1f} s"]), flush=True)

    def close(self) -> None:
        """Take the bar away."""
        self.bar.close()

    def _new_bar(self, epoch: int, step: int = 0) -> tqdm[NoReturn]:
        return tqdm(
            total=self.steps,
            initial=step,
            desc=f"epoch {epoch}/{self.epochs}",
            unit="step",
            leave=False,
            disable=not self.terminal,
        )
