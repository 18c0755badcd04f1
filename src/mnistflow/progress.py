"""Training as seen from the terminal."""

from __future__ import annotations

import sys
from typing import NoReturn

from tqdm import tqdm

from mnistflow.training import Epoch, Step

__all__ = ["Display"]


class Display:
    """A bar within each epoch where there is a terminal, a line every so many steps where there is none; and a line
    for each epoch.

    Args:
        epochs: how many there will be at most.
        steps: in each epoch.
    """

    def __init__(self, epochs: int, steps: int) -> None:
        self.terminal = sys.stderr.isatty()
        self.epochs = epochs
        self.steps = steps
        self.seen = ""  # the last epoch's validation accuracy
        self.bar = self._new_bar(1)

    def report_every(self, wanted: int) -> int:
        """Steps between two reports: as wanted where they become lines, a fiftieth of an epoch for a bar."""
        return max(1, self.steps // 50) if self.terminal else wanted

    def show(self, event: Step | Epoch) -> None:
        """Show where training is."""
        if isinstance(event, Step):
            self.bar.set_postfix_str(f"loss {event.loss:.4f}{self.seen}", refresh=False)
            self.bar.update(event.step - self.bar.n)
            if self.bar.disable:
                print(f"  step {event.step}/{event.steps}  loss {event.loss:.4f}", flush=True)
            return
        self.bar.close()
        parts = [f"epoch {event.epoch}/{self.epochs}", f"loss {event.train_loss:.4f}"]
        if event.val_accuracy is not None:
            self.seen = f", validation {event.val_accuracy:.2%}"
            parts.append(f"validation {event.val_accuracy:.2%} (loss {event.val_loss:.4f})")
        if event.test_accuracy is not None:
            parts.append(f"test {event.test_accuracy:.2%} (loss {event.test_loss:.4f})")
        print("  ".join([*parts, f"{event.seconds:.1f} s"]), flush=True)
        if event.epoch < self.epochs:
            self.bar = self._new_bar(event.epoch + 1)

    def close(self) -> None:
        """Take the bar away."""
        self.bar.close()

    def _new_bar(self, epoch: int) -> tqdm[NoReturn]:
        return tqdm(
            total=self.steps,
            desc=f"epoch {epoch}/{self.epochs}",
            unit="step",
            leave=False,
            disable=not self.terminal,
        )
