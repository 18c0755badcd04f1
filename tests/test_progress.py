from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import termios

import pytest
import torch
from conftest import ROOT

from mnistflow.pipeline.progress import Display
from mnistflow.training.history import Epoch
from mnistflow.training.loop import Step

EPOCH = Epoch(
    epoch=1,
    lr=0.1,
    train_loss=0.5,
    val_loss=0.25,
    val_accuracy=0.9876,
    test_loss=None,
    test_accuracy=None,
    best=True,
    step_losses=[],
    step_lrs=[],
    seconds=1.25,
)


def test_without_a_terminal_there_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(epochs=3, steps=20, report_every=5)
    for step in (9, 10, 11):
        display.show(Step(1, step, 20, torch.tensor(0.75)))
    display.show(EPOCH)
    display.close()
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "  step 10/20  loss 0.7500",
        "epoch 1/3  loss 0.5000  validation 98.76% (loss 0.2500)  1.2 s",
    ]
    assert err == ""


def test_on_a_terminal_there_is_a_bar_with_the_loss() -> None:
    program = f"""
import sys
import termios
import torch
sys.path[:0] = [{str(ROOT / "src")!r}, {str(ROOT / "tests")!r}]
from test_progress import EPOCH
from mnistflow.pipeline.progress import Display
from mnistflow.training.loop import Step
display = Display(epochs=3, steps=20, report_every=70)
display.show(EPOCH)
display.show(Step(2, 10, 20, torch.tensor(0.75)))
display.bar.refresh()
display.close()
"""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    subprocess.run([sys.executable, "-c", program], stdout=theirs, stderr=theirs, check=True)
    os.close(theirs)
    shown = ""
    with contextlib.suppress(OSError):  # how a terminal ends when nobody writes to it any more
        while chunk := os.read(ours, 65536).decode():
            shown += chunk
    os.close(ours)
    assert "epoch 1/3  loss 0.5000" in shown
    assert "epoch 2/3:  50%" in shown
    assert "10/20" in shown
    assert "loss 0.7500, validation 98.76%" in shown
