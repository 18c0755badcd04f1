from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, Splits
from matplotlib.figure import Figure
from PIL import Image

from mnistflow import figures

HISTORY = [
    {"epoch": str(n), "lr": "0.1", "train_loss": str(1 / n), "val_loss": str(1.1 / n), "val_accuracy": str(1 - 0.1 / n)}
    for n in (1, 2, 3)
]
STEPS = [{"step": str(n), "epoch": str(1 + n // 11), "loss": str(2 / n), "lr": "0.1"} for n in range(1, 31)]


def texts(figure: Figure) -> list[str]:
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [axes.get_title(), *(text.get_text() for text in axes.texts)]
    return [text for text in found if text]


def test_samples_show_each_image_with_its_class(digits: Splits, tmp_path: Path) -> None:
    split = digits[0]
    figure = figures.samples(split.images[:13], split.labels[:13], [f"class {n}" for n in range(10)], "Images")
    assert texts(figure) == ["Images", *(f"class {int(label)}" for label in split.labels[:13])]
    shown = figure.axes[0].images[12].get_array()
    assert shown is not None
    assert torch.equal(torch.from_numpy(shown.data), split.images[12, 0])
    figures.save(figure, tmp_path / "samples.png", dpi=80)
    with Image.open(tmp_path / "samples.png") as image:
        assert image.format == "PNG"
        assert image.width > 500


def test_mistakes_begin_with_the_surest() -> None:
    labels, predictions = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([0, 2, 1, 1, 1])
    chances = torch.tensor([0.99, 0.6, 0.9, 0.7, 0.99])
    images = torch.arange(5.0).reshape(5, 1, 1, 1).expand(5, 1, 4, 4)
    figure = figures.mistakes(images, labels, predictions, chances, ["a", "b", "c"], count=2)
    assert texts(figure) == [
        "3 of 5 test images misclassified; the 2 with the highest probability",
        "c read as b\n90%",
        "a read as b\n70%",
    ]
    none = figures.mistakes(images, labels, labels, chances, ["a", "b", "c"], count=2)
    assert texts(none) == ["0 of 5 test images misclassified: no mistake"]


def test_the_confusion_matrix_counts() -> None:
    labels, predictions = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 1, 1, 2, 2, 0])
    figure = figures.confusion(labels, predictions, ["a", "b", "c"])
    assert texts(figure) == ["2 of 6 misclassified", "1", "1", "1", "1", "2"]
    positions = {(text.get_position(), text.get_text()) for text in figure.axes[0].texts}
    assert positions == {((0, 0), "1"), ((1, 0), "1"), ((1, 1), "1"), ((0, 2), "1"), ((2, 2), "2")}


@pytest.mark.parametrize("monitored", [True, False])
def test_curves_draw_what_was_measured(monitored: bool) -> None:
    history = HISTORY if monitored else [{**row, "val_loss": "", "val_accuracy": ""} for row in HISTORY]
    losses, accuracies, rates = figures.curves(history, STEPS).axes
    step, *epochs = losses.lines
    drawn = np.asarray(step.get_xdata())
    assert len(drawn) == 30
    assert drawn[-1] == pytest.approx(3)
    assert len(epochs) == (2 if monitored else 1)
    assert np.asarray(epochs[0].get_ydata()) == pytest.approx([1, 1 / 2, 1 / 3])
    assert len(accuracies.lines) == (1 if monitored else 0)
    assert len(rates.lines) == 1


def test_the_bytes_are_the_same_in_every_process(tmp_path: Path) -> None:
    program = f"""
import sys
sys.path[:0] = [{str(ROOT / "src")!r}, {str(ROOT / "tests")!r}]
from pathlib import Path
from test_figures import HISTORY, STEPS
from mnistflow import figures
figures.save(figures.curves(HISTORY, STEPS), Path(sys.argv[1]), 100)
"""
    for name, zone in (("one", "UTC"), ("two", "Asia/Tokyo")):
        environment = {"HOME": str(tmp_path / name), "TZ": zone, "LC_ALL": "C"}
        subprocess.run([sys.executable, "-c", program, str(tmp_path / f"{name}.png")], env=environment, check=True)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
