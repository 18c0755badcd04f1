from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import fields
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from conftest import ROOT, Splits
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image
from torch import Tensor, nn

from mnistflow import figures, models
from mnistflow.config.params import load
from mnistflow.core.tensors import Inputs, Split
from mnistflow.evaluation.scores import Bin, ClassScores, Corrupted, Scores
from mnistflow.figures.style import contrast, text_width, wrapped
from mnistflow.models.inference import layer_outputs, logits_of
from mnistflow.reports.report import FIGURES

HISTORY = [
    {"epoch": str(n), "lr": "0.1", "train_loss": str(1 / n), "val_loss": str(1.1 / n), "val_accuracy": str(1 - 0.1 / n)}
    for n in (1, 2, 3)
]
STEPS = [{"step": str(n), "epoch": str(1 + n // 11), "loss": str(2 / n), "lr": "0.1"} for n in range(1, 31)]

BLOCKS = load(ROOT / "params.yaml").models
assert BLOCKS
NAMES = {
    "digits": [str(n) for n in range(10)],
    "long": ["triangle", "long class name", "a class name of no fewer than fifty-four characters, so"],
    "many": [f"class {n}" for n in range(60)],
}


def texts(figure: Figure) -> list[str]:
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [axes.get_title(), *(text.get_text() for text in axes.texts)]
    return [text for text in found if text]


def pixels(axes: Axes) -> list[Tensor]:
    """What is drawn as images, in order."""
    arrays = (image.get_array() for image in axes.images)
    return [torch.from_numpy(np.ma.filled(array, np.nan)) for array in arrays if array is not None]


def rectangles(axes: Axes, colour: str) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle) and to_hex(patch.get_edgecolor()) == colour]


def numbered(first: int, count: int, hidden: int) -> tuple[Split, Split]:
    """A training and a validation split, each image its own number everywhere; each ``hidden``-th is held out."""
    inputs = Inputs("made", ("even", "odd"), 0, 0.0, 1.0)
    numbers = torch.arange(first, first + count)
    kept, held_out = numbers[numbers % hidden != 0], numbers[numbers % hidden == 0]
    return tuple(  # type: ignore[return-value]
        Split(part.float().reshape(-1, 1, 1, 1).expand(-1, 1, 4, 4), part % 2, part, inputs)
        for part in (kept, held_out)
    )


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


def test_mistakes_are_sorted_by_confidence() -> None:
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


def test_the_confusion_matrix_has_counts_and_shares() -> None:
    labels, predictions = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 1, 1, 2, 2, 0])
    figure = figures.confusion(labels, predictions, ["a", "b", "c"])
    drawn_texts = texts(figure)
    assert drawn_texts[0] == "2 of 6 misclassified"
    cells = drawn_texts[-12:-2]
    assert cells == ["1", "50.0%", "1", "50.0%", "1", "100.0%", "1", "33.3%", "2", "66.7%"]
    assert drawn_texts[-2:] == ["a read as b: 1 image, 50.0% of the label", "c read as a: 1 image, 33.3% of the label"]
    (coloured,) = pixels(figure.axes[0])
    expected = torch.tensor([[0, 1 / 2, 0], [0, 0, 0], [1 / 3, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(coloured, expected)  # mistakes alone


def test_the_confusion_matrix_of_many_classes_has_every_count_and_says_what_is_worst() -> None:
    labels = torch.arange(60).repeat(4)
    predictions = labels.clone()
    predictions[[7, 67]] = 50
    drawn_texts = texts(figures.confusion(labels, predictions, NAMES["many"]))
    assert drawn_texts.count("4") == 59
    assert drawn_texts.count("2") == 2
    assert drawn_texts[-1] == "class 7 read as class 50: 2 images, 50.0% of the label"
    none = texts(figures.confusion(labels, labels, NAMES["many"]))
    assert none[0] == "0 of 240 misclassified"
    assert not [text for text in none if "read as" in text]


def test_bars_show_what_is_missing_to_full_recall_and_precision() -> None:
    scores = [ClassScores("one", 1.0, 0.9, 0.95, 1234), ClassScores("two", 0.8, 0.98, 0.88, 20)]
    figure = figures.per_class(scores)
    bars = [bar.get_width() for bar in figure.axes[0].patches if isinstance(bar, Rectangle)]
    assert bars == pytest.approx([2.6 * part / 0.2 for part in (0.1, 0.0, 0.02, 0.2)])
    drawn_texts = texts(figure)
    assert drawn_texts[-8:] == ["one", "1,234", "90.00%", "100.00%", "two", "20", "98.00%", "80.00%"]
    many = [ClassScores(f"class {n}", 1.0, 1.0, 1 - n / 1000, 5) for n in range(60)]
    drawn_texts = texts(figures.per_class(many))
    assert drawn_texts[0] == "Class by class: the 30 of 60 with the lowest F1"
    assert [text for text in drawn_texts if text.startswith("class ")] == [f"class {n}" for n in range(59, 29, -1)]


def measured(**changes: Any) -> Scores:
    bins = (Bin(0.4, 0.5, 4, 0.45, 0.25), Bin(0.9, 1.0, 96, 0.95, 1.0))
    known = {field.name: 0.5 for field in fields(Scores)} | {"ece": 0.056, "temperature": 0.8, "ece_unscaled": 0.08}
    return Scores(**{**known, "reliability": bins, **changes})


def test_reliability_shows_accuracy_against_confidence() -> None:
    figure = figures.reliability(measured())
    shares, counts = figure.axes
    diagonal, *lines = shares.lines
    assert np.asarray(diagonal.get_xdata()).tolist() == np.asarray(diagonal.get_ydata()).tolist()
    gaps, dots = lines[::2], lines[1::2]
    assert [np.asarray(gap.get_ydata()).tolist() for gap in gaps] == [[0.45, 0.25], [0.95, 1.0]]
    assert [np.asarray(gap.get_xdata()).tolist() for gap in gaps] == [[0.45, 0.45], [0.95, 0.95]]
    light = figures.PALETTES["light"]
    assert [gap.get_color() for gap in gaps] == [light.orange, light.blue]  # too sure, not sure enough
    assert [dot.get_markerfacecolor() for dot in dots] == [light.paper, light.blue]  # of few images: hollow
    assert [text.get_text() for text in counts.texts] == ["4", "96"]
    assert shares.get_title() == (
        "Average confidence 93.0%, accuracy 97.0%: underconfident\n"
        "expected calibration error 5.60% with temperature 0.80; without, 8.00%"
    )
    for absent in ("temperature", "ece_unscaled"):
        assert "temperature" not in figures.reliability(measured(**{absent: None})).axes[0].get_title()


def test_robustness_has_a_panel_for_each_way_with_the_others_behind() -> None:
    clean = Corrupted("none", 0, 0.0, 0.99)
    ways = ("noise", "elastic_deformation", "blur")
    rows = [clean, *(Corrupted(way, n, n / 10, 0.9 - 0.1 * n) for way in ways for n in (1, 2, 3))]
    figure = figures.robustness(rows)
    assert [axes.get_title() for axes in figure.axes] == ["noise", "elastic deformation", "blur"]
    for axes in figure.axes:
        *behind, own = axes.lines
        assert len(behind) == 3
        assert np.asarray(own.get_xdata()).tolist() == [0, 1, 2, 3]
        assert np.asarray(own.get_ydata()).tolist() == pytest.approx([0.99, 0.8, 0.7, 0.6])
        assert [text.get_text() for text in axes.get_xticklabels()] == ["as is", "1\n(0.1)", "2\n(0.2)", "3\n(0.3)"]
        assert [text.get_text() for text in axes.texts] == ["60%"]
    assert figure.get_suptitle() == "Accuracy on corrupted images: 70.0% on average, 99.0% uncorrupted"
    assert texts(figures.robustness([clean])) == ["Accuracy on corrupted images: not measured"]


@pytest.mark.parametrize("names", NAMES)
def test_separation_shows_every_class_where_its_images_lie(names: str) -> None:
    classes = NAMES[names]
    torch.manual_seed(0)
    labels = torch.arange(2400) % len(classes)
    split = Split(torch.randn(2400, 1, 6, 5), labels, labels, Inputs("made", tuple(classes), 0, 0.0, 1.0))
    predictions = labels.clone()
    predictions[labels == 1] = 0
    model = models.build("mlp", (1, 6, 5), len(classes), {"hidden": [12]})
    (axes,) = figures.separation(model, split, predictions).axes
    drawn_texts = texts(axes.figure)  # type: ignore[arg-type]
    assert drawn_texts[0] == "1,000 test images: inputs of the last dense layer, 12 values each"
    counts = [re.search(r"\n(\d+) images, (\d+) ✗$", text) for text in drawn_texts]
    found = [(int(count[1]), int(count[2])) for count in counts if count]
    assert len(found) == len(classes)
    assert sum(images for images, _ in found) == 1000
    assert max(found)[0] - min(found)[0] <= 1  # each has its share
    assert [wrong for _, wrong in found] == [images if n == 1 else 0 for n, (images, _) in enumerate(found)]
    together = len(classes) if len(classes) <= 12 else 0
    assert len(axes.lines) == together + 3 * len(classes)
    for number in range(len(classes)):
        others, right, wrong = axes.lines[together + 3 * number :][:3]
        sizes = [len(np.asarray(line.get_xdata())) for line in (others, right, wrong)]
        assert sizes == [1000 - sum(found[number][:1]), found[number][0] - found[number][1], found[number][1]]


def test_separation_of_a_network_without_a_dense_layer_says_so(digits: Splits) -> None:
    split = digits[2]
    model = nn.Sequential(nn.Conv2d(1, 10, 28), nn.Flatten())
    assert texts(figures.separation(model, split, split.labels)) == ["Sequential has no dense layer"]


def test_the_images_that_are_shown_of_many_are_of_every_class_in_its_share() -> None:
    labels = torch.tensor([0, 1, 2, 2] * 50)
    shown = figures.pick_stratified(labels, 40)
    assert labels[shown].bincount().tolist() == [10, 10, 20]
    assert shown.unique().numel() == 40
    assert sorted(figures.pick_stratified(labels[:7], 40).tolist()) == list(range(7))
    assert figures.pick_stratified(labels[:0], 40).tolist() == []


def test_weights_of_a_dense_layer_begin_with_the_largest() -> None:
    model = models.build("mlp", (1, 6, 5), 3, {"hidden": [300]})
    figure = figures.weights(model, torch.randn(1, 6, 5))
    title = "layers.1  Linear, weights: 300 units, largest weights first, 6 × 5; the first 160"
    assert texts(figure)[2:] == [title]
    drawn = torch.stack(pixels(figure.axes[0]))
    assert drawn.shape == (160, 6, 5)
    sizes = drawn.flatten(1).norm(dim=1)
    assert torch.equal(sizes, sizes.sort(descending=True).values)
    weights = model.get_parameter("layers.1.weight").detach()
    assert torch.equal(drawn[0].flatten(), weights[weights.norm(dim=1).argmax()])


def test_weights_of_a_convolution_are_all_its_filters_in_order() -> None:
    model = models.build("compact", (1, 28, 28), 10, {"width": 24})
    figure = figures.weights(model, torch.randn(1, 28, 28))
    (layer, *_) = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert torch.equal(torch.stack(pixels(figure.axes[0])), layer.weight.detach()[:, 0])
    pooled = nn.Sequential(nn.AvgPool2d(7), nn.Flatten(), nn.Linear(16, 10))
    assert texts(figures.weights(pooled, torch.randn(1, 28, 28)))[-1] == "Its weights cannot be shown as images."


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


@pytest.mark.parametrize(("first", "begins"), [(0, 0), (7, 7), (21, 21), (22, 21), (10**9, 21)])
@pytest.mark.parametrize("hidden", [3, 10**6])
def test_the_grid_takes_consecutive_images_from_both_splits(first: int, begins: int, hidden: int) -> None:
    figure = figures.grid(*numbered(0, 30, hidden), first)
    expected = range(begins, begins + 9)
    *captions, below = texts(figure)[1:]
    assert captions == [f"{'odd' if n % 2 else 'even'}\nnumber {n}" for n in expected]
    assert [float(image.unique()) for image in pixels(figure.axes[0])] == list(expected)
    assert below.startswith("train: (20, 1, 4, 4)" if hidden == 3 else "train: (29, 1, 4, 4)")


def test_the_grid_of_fewer_than_nine_images_has_all_of_them() -> None:
    assert [float(image.unique()) for image in pixels(figures.grid(*numbered(0, 5, 3), 3).axes[0])] == [0, 1, 2, 3, 4]


def test_the_grid_says_what_the_network_is_given() -> None:
    inputs = Inputs("mnist", ("0",), 0, 0.1307, 0.3081)
    images = inputs.normalise(torch.tensor([0, 255], dtype=torch.uint8).repeat(14).reshape(1, 1, 28).expand(9, 28, 28))
    train = Split(images, torch.zeros(9, dtype=torch.long), torch.arange(9), inputs)
    none = Split(images[:0], train.labels[:0], train.indices[:0], inputs)
    assert texts(figures.grid(train, none, 0))[-1] == "train: (9, 1, 28, 28) float32, min -0.424, max 2.821"


def test_predictions_mark_the_wrong_ones_by_colour_frame_and_sign() -> None:
    labels, predictions = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 2, 2, 1])
    images = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 1, 4, 4)
    chances = torch.tensor([0.99, 0.6, 0.9, 0.7])
    figure = figures.predictions(images, labels, predictions, chances, ["a", "b", "c"], count=3)
    assert texts(figure) == [
        "The first 3 of 4 test images; ✗ misread: 1",
        "a\n99%",
        "✗ b read as c\n60%",
        "c\n90%",
    ]
    (axes,) = figure.axes
    colours = [to_hex(text.get_color()) for text in axes.texts if text.get_text().endswith("%")]
    assert [colour == figures.PALETTES["light"].orange.lower() for colour in colours] == [False, True, False]
    (frame,) = rectangles(axes, figures.PALETTES["light"].orange.lower())
    left, right, bottom, top = axes.images[1].get_extent()
    assert frame.get_bbox().extents == pytest.approx((left, top, right, bottom))


def test_the_convolution_is_drawn_with_its_numbers() -> None:
    figure = figures.convolution()
    numbers = [int(text) for text in texts(figure) if text.isdecimal()]
    conv = [24, 18, 8, 26, 18, 8, 28, 18, 8]
    image = [3, 3, 2, 1, 0, 2, 3, 2, 1, 0, 3, 3, 2, 1, 0, 4, 3, 2, 1, 0, 1, 3, 2, 1, 0]
    assert numbers == [*image, 0, 1, 2, 2, 2, 0, 0, 1, 2, *conv, *conv, 24, 18, 28, 18, 24, 18, 28, 18]
    found = "  ".join(texts(figure))
    assert "3 · 0 + 3 · 1 + 2 · 2 + 2 · 2 + 3 · 2 + 2 · 0 + 3 · 0 + 3 · 1 + 2 · 2 = 24" in found
    assert "the largest of 18, 8, 18, 8 is 18" in found
    # windows: nine cells of the input, the kernel, the one cell they give
    sides = [
        round(frame.get_width() / 0.36)
        for frame in rectangles(figure.axes[0], figures.PALETTES["light"].orange.lower())
    ]
    assert sides == [3, 3, 1]


def built(name: str, shape: models.ImageShape, classes: int) -> nn.Module:
    torch.manual_seed(0)
    return models.build(BLOCKS[name].architecture, shape, classes, BLOCKS[name].arguments)


@pytest.mark.parametrize("name", BLOCKS)
def test_inside_shows_what_flows_through_a_network(name: str, digits: Splits) -> None:
    image = digits[2].images[0]
    model = built(name, digits[2].image_shape, 10).train()
    (axes,) = figures.inside(model, image, 2, NAMES["digits"], "cross_entropy").axes
    assert model.training
    assert torch.equal(pixels(axes)[0], image[0])
    assert len(axes.images) > 1
    for shown in axes.images[1:]:
        low, high = shown.get_clim()
        assert low is not None
        assert low == -high < 0
    widths = [bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle) and bar.get_fill()]
    expected = logits_of(model, image[None], 1).softmax(dim=1)[0]
    torch.testing.assert_close(torch.tensor(widths) / 5, expected)


def test_inside_a_convolutional_network_there_are_filters_maps_and_strips(digits: Splits) -> None:
    model = models.build("lenet5", (1, 28, 28), 10, {"padding": 2})
    figure = figures.inside(model, digits[2].images[0], 2, NAMES["digits"], "cross_entropy")
    assert texts(figure)[2:9] == [
        "features.0  Conv2d, weights: 6 filters, 5 × 5",
        "features.0  Conv2d: 6 × 28 × 28",
        "features.1  MaxPool2d → ReLU: 6 × 14 × 14",
        "features.3  Conv2d: 16 × 10 × 10",
        "features.4  MaxPool2d → ReLU: 16 × 5 × 5",
        "classifier.1  Linear → ReLU: 120",
        "classifier.3  Linear → ReLU: 84",
    ]
    drawn = pixels(figure.axes[0])
    layers = [layer.output[0] for layer in layer_outputs(model, digits[2].images[:1])]
    flowing = [model.get_parameter("features.0.weight").detach()[:, 0], *(layers[i] for i in (0, 2, 3, 5))]
    expected = [picture for pictures in flowing for picture in pictures] + [layers[8][None], layers[10][None]]
    assert len(drawn) == 1 + len(expected)
    assert all(map(torch.equal, drawn[1:], expected))


def test_inside_an_mlp_there_are_the_weights_of_forty_units_and_strips() -> None:
    model = models.build("mlp", (1, 6, 5), 3, {"hidden": [300, 7], "dropout": 0.5})
    figure = figures.inside(model, torch.randn(1, 6, 5), 0, ["a", "b", "c"], "mse")
    assert texts(figure)[2:5] == [
        "layers.1  Linear, weights: 300 units, 6 × 5; the first 40",
        "layers.1  Linear → ReLU → Dropout: 300",
        "layers.4  Linear → ReLU → Dropout: 7",
    ]
    drawn = pixels(figure.axes[0])
    assert torch.equal(torch.stack(drawn[1:41]), model.get_parameter("layers.1.weight").detach()[:40].reshape(40, 6, 5))
    assert [tuple(strip.shape) for strip in drawn[41:]] == [(3, 100), (1, 7)]


def test_inside_a_linear_network_each_class_has_its_weights() -> None:
    model = models.build("mlp", (3, 6, 5), 3, {"hidden": []})
    figure = figures.inside(model, torch.randn(3, 6, 5), 0, ["a", "b", "c"], "cross_entropy")
    assert texts(figure)[2:6] == ["layers.1  Linear, weights: 3 units, 6 × 5, input channel 1 of 3", "a", "b", "c"]
    assert len(pixels(figure.axes[0])) == 1 + 3 * 3


def norms() -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm2d(3),
        nn.Conv2d(3, 20, 3, padding=1),
        nn.BatchNorm2d(20),
        nn.ReLU(inplace=True),
        nn.Conv2d(20, 20, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(20, 1500),
        nn.Tanh(),
        nn.Linear(1500, 3),
        nn.LogSoftmax(dim=1),
    )


def test_inside_works_for_unusual_networks() -> None:
    torch.manual_seed(0)
    figure = figures.inside(norms(), torch.randn(3, 8, 9), 0, ["a", "b", "c"], "cross_entropy")
    channels = [f"1  Conv2d, weights: 20 filters, 3 × 3, input channel {n} of 3; the first 16" for n in (1, 2, 3)]
    assert texts(figure)[2:9] == [
        *channels,
        "1  Conv2d → BatchNorm2d → ReLU: 20 × 8 × 9; the first 16",
        "4  Conv2d: 20 × 8 × 9; the first 16",
        "5  AdaptiveAvgPool2d: 20 × 1 × 1",
        "8  Linear → Tanh: 1500; the first 1024",
    ]
    deep = nn.Sequential(nn.Flatten(), *(nn.Linear(12, 12) for _ in range(40)), nn.Linear(12, 3))
    assert "and 10 more layers" in texts(figures.inside(deep, torch.randn(1, 3, 4), 0, ["a", "b", "c"], "mse"))


def test_the_probability_of_the_label_is_shown_however_many_classes_there_are() -> None:
    dense = nn.Linear(4, 60)
    dense.weight.data.zero_()
    dense.bias.data = torch.arange(60.0) / 10
    model = nn.Sequential(nn.Flatten(), dense)
    found = texts(figures.inside(model, torch.ones(1, 2, 2), 5, NAMES["many"], "cross_entropy"))
    start = found.index("probabilities: ✗ class 5 read as class 59; 20 of 60 classes")
    assert found[start + 1 :: 2] == ["class 5", *(f"class {n}" for n in range(41, 60))]
    assert found[start + 2].endswith("%  the label")


@pytest.mark.parametrize("names", NAMES)
def test_no_text_is_clipped_or_overlaps(names: str) -> None:
    classes = NAMES[names]
    scores = [ClassScores(name, 0.9, 0.8, 0.85, 1000) for name in classes]
    torch.manual_seed(0)
    images, labels = torch.randn(27, 3, 24, 20), torch.arange(27) % len(classes)
    predictions, chances = labels.roll(1), torch.full((27,), 0.5)
    split = Split(images, labels, torch.arange(60_000, 60_027), Inputs("made", tuple(classes), 0, 0.0, 1.0))
    drawn = {
        "samples": figures.samples(images, labels, classes, "Training images"),
        "grid": figures.grid(split, split, 60_009),
        "mistakes": figures.mistakes(images, labels, predictions, chances, classes, 2),
        "predictions": figures.predictions(images, labels, predictions, chances, classes, 27),
        "confusion": figures.confusion(labels, predictions, classes),
        "per_class": figures.per_class(scores),
        "convolution": figures.convolution(),
        "norms": figures.inside(norms(), images[0], 1, classes[:3], "cross_entropy"),
        **{
            name: figures.inside(built(name, (3, 24, 20), len(classes)), images[0], 1, classes, "cross_entropy")
            for name in BLOCKS
        },
        "linear": figures.inside(
            models.build("mlp", (3, 24, 20), len(classes), {"hidden": []}), images[0], 1, classes, "cross_entropy"
        ),
    }
    for name, figure in drawn.items():
        figure.draw_without_rendering()
        found = [text for axes in figure.axes for text in axes.texts if text.get_text()]
        boxes = [text.get_window_extent() for text in found]
        for text, box in zip(found, boxes, strict=True):
            assert box.x0 >= 0 <= box.y0, f"{name}: {text.get_text()!r} is cut"
            assert box.x1 <= figure.bbox.x1, f"{name}: {text.get_text()!r} is cut"
            assert box.y1 <= figure.bbox.y1, f"{name}: {text.get_text()!r} is cut"
        for one, other in combinations(range(len(found)), 2):
            assert not boxes[one].overlaps(boxes[other]), (
                f"{name}: {found[one].get_text()!r}, {found[other].get_text()!r}"
            )


def all_figures(classes: Sequence[str]) -> dict[str, Figure]:
    """One of each kind."""
    torch.manual_seed(0)
    labels = torch.arange(90) % len(classes)
    images, predictions, chances = torch.randn(90, 1, 28, 28), labels.roll(1), torch.full((90,), 0.5)
    split = Split(images, labels, torch.arange(90), Inputs("made", tuple(classes), 0, 0.0, 1.0))
    model = built("lenet5", (1, 28, 28), len(classes))
    rows = [Corrupted("none", 0, 0.0, 0.9), *(Corrupted(way, n, n, 0.9 - n / 9) for way in "abcde" for n in (1, 2))]
    study = [[{"epoch": "1", "test_accuracy": "0.9", "val_accuracy": ""}]]
    return {
        "samples": figures.samples(images[:12], labels[:12], classes, "Images"),
        "grid": figures.grid(split, split, 0),
        "curves": figures.curves(HISTORY, STEPS),
        "confusion": figures.confusion(labels, predictions, classes),
        "per_class": figures.per_class([ClassScores(name, 0.9, 0.8, 0.85, 1000) for name in classes]),
        "mistakes": figures.mistakes(images, labels, predictions, chances, classes, 12),
        "predictions": figures.predictions(images, labels, predictions, chances, classes, 12),
        "reliability": figures.reliability(measured()),
        "robustness": figures.robustness(rows),
        "separation": figures.separation(model, split, predictions),
        "inside": figures.inside(model, images[0], 0, classes, "mse"),
        "weights": figures.weights(model, images[0]),
        "convolution": figures.convolution(),
        "study": figures.study("A study", {"one": [90.0]}, {"one": (80.0, 95.0)}, {"one": study}),
        "comparison": figures.comparison({"loss": {"one": [(1, 0.5), (2, 0.4)], "two": [(1, 0.6)]}}),
    }


@pytest.mark.parametrize("look", figures.PALETTES)
def test_text_is_legible_on_both_backgrounds(look: figures.Background, tmp_path: Path) -> None:
    with figures.background(look):
        drawn = all_figures(NAMES["digits"])
    assert FIGURES.keys() < drawn.keys()
    palette = figures.PALETTES[look]
    for name, figure in drawn.items():
        figures.save(figure, tmp_path / f"{name}.png", dpi=60)  # ticks come into being with it, outside of the block
        with Image.open(tmp_path / f"{name}.png") as image:
            points = image.convert("RGBA")
        corners = [(x, y) for x in (0, points.width - 1) for y in (0, points.height - 1)]
        paper = (*(round(255 * part) for part in to_rgb(palette.paper)), 255)
        assert {points.getpixel(corner) for corner in corners} == {paper}, name
        for text in figure.findobj(Text):
            assert isinstance(text, Text)
            if text.get_text().strip() and text.get_visible():
                on = palette.paper if name != "confusion" else None  # there the cells have colours
                if on is not None:
                    assert contrast(to_hex(text.get_color()), on) > 3, f"{name}: {text.get_text()!r}"
        for axes in figure.axes:
            for line in axes.lines:
                colour = to_hex(line.get_color())
                assert colour == palette.faint or contrast(colour, palette.paper) > 2, name
    assert figures.PALETTES["light"].paper == to_hex(figures.convolution().get_facecolor()).replace("#ffffff", "white")


@pytest.mark.parametrize("look", figures.PALETTES)
def test_numbers_in_the_cells_of_the_confusion_matrix_are_legible_on_them(look: figures.Background) -> None:
    labels = torch.zeros(1000, dtype=torch.long)
    predictions = (torch.arange(1000).float() / 1000 * 9.99).sqrt().mul(3.1).long()  # more and more often
    with figures.background(look):
        (axes,) = figures.confusion(labels, predictions, NAMES["digits"]).axes
        palette = figures.PALETTES[look]
        (image,) = axes.images
        left, right, *_ = image.get_extent()
        shares = pixels(axes)[0][0]
        cell = (right - left) / 10
        cells = [text for text in axes.texts if text.get_text().endswith("%")]
        assert len(cells) == 10
        for text in cells:
            share = float(shares[int((text.get_position()[0] - left) / cell)])
            shade = to_hex(palette.shares(share / float(shares.max())))
            assert contrast(to_hex(text.get_color()), shade) > 3.5


# Settings of a user, none of which may reach a figure.
HOSTILE = {
    "TZ": "Asia/Tokyo",
    "LC_ALL": "tr_TR.UTF-8",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # of a notebook whose environment is another one
    "PYTHONOPTIMIZE": "2",
    "PYTHONHASHSEED": "7",
    "OMP_NUM_THREADS": "1",
    "COLUMNS": "20",
}
MATPLOTLIBRC = """\
font.family: serif
savefig.bbox: tight
savefig.facecolor: pink
figure.facecolor: yellow
axes.prop_cycle: cycler("color", ["red"])
text.usetex: True
lines.linewidth: 7
"""


def test_the_bytes_are_the_same_in_every_process(tmp_path: Path) -> None:
    """Whether a user's settings are nowhere, in Matplotlib's own folder, or in the folder that it runs in."""
    program = f"""
import sys
sys.path[:0] = [{str(ROOT / "src")!r}, {str(ROOT / "tests")!r}]
from pathlib import Path
from mnistflow import figures
from test_figures import all_figures, torch
torch.set_num_threads(1)
for look in figures.PALETTES:
    with figures.background(look):
        drawn = all_figures(["a", "b", "c"])
    for name, figure in drawn.items():
        figures.save(figure, Path(sys.argv[1], look + "-" + name), 50)
"""
    settings = tmp_path / "matplotlib" / "matplotlibrc"
    settings.parent.mkdir()
    settings.write_text(MATPLOTLIBRC, encoding="utf-8")
    drawn: dict[str, dict[str, bytes]] = {}
    for place in ("nowhere", "configuration", "folder"):
        environment = {"HOME": str(tmp_path / "home" / place), "PATH": os.environ["PATH"]}
        if place != "nowhere":
            environment |= HOSTILE
        if place == "configuration":
            environment["MPLCONFIGDIR"] = str(settings.parent)
        folder = settings.parent if place == "folder" else tmp_path
        output = tmp_path / place
        output.mkdir()
        subprocess.run([sys.executable, "-c", program, str(output)], env=environment, cwd=folder, check=True)
        drawn[place] = {file.name: file.read_bytes() for file in output.iterdir()}
    assert {f"{look}-{name}" for look in figures.PALETTES for name in FIGURES} < drawn["nowhere"].keys()
    assert drawn["configuration"] == drawn["nowhere"]
    assert drawn["folder"] == drawn["nowhere"]


def test_names_are_not_read_as_formulas(tmp_path: Path) -> None:
    names = ["$$", r"$\frac$", "Ba$$in $x^2$", "_hidden", "<b>&amp;", "%s {x}", "a" * 200]
    drawn = all_figures(names)
    for name, figure in drawn.items():
        figures.save(figure, tmp_path / f"{name}.png", 50)
    assert "Ba$$in" in " ".join(texts(drawn["confusion"]))
    compared = figures.comparison({"loss": {"$_$": [(1, 0.5)], "_hidden": [(1, 0.6)]}})
    figures.save(compared, tmp_path / "compared.png", 50)
    legend = compared.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text().strip() for text in legend.get_texts()] == ["$_$", "_hidden"]


def only_in(font: str) -> str:
    """A character that this font of Matplotlib's has, and DejaVu Sans has not."""
    folder = Path(mpl.get_data_path(), "fonts", "ttf")
    one, other = (FT2Font(str(folder / f"{name}.ttf")).get_charmap() for name in (font, "DejaVuSans"))
    return chr(min(code for code in one.keys() - other.keys() if chr(code).isprintable()))


def test_a_font_is_chosen_that_has_the_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    character = only_in("STIXGeneral")
    figure = figures.samples(torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.long), [character], "Images")
    figures.save(figure, tmp_path / "image.png", 50)  # a missing glyph would be a warning, which fails a test
    assert character in texts(figure)
    assert capsys.readouterr().err == ""


def test_names_that_no_font_can_draw_stay_distinct(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["\U0001e900", "\U0001e901"]  # Adlam, of which a font is rarely installed
    for name in names:
        figure = figures.samples(torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.long), [name], "Images")
        figures.save(figure, tmp_path / f"{ord(name):x}.png", 50)
    one, two = (file.read_bytes() for file in sorted(tmp_path.iterdir()))
    assert one != two
    message = capsys.readouterr().err
    assert message == "" or "no font on this machine has the ADLAM characters of these names" in message
    assert message.count("\n") <= 1


def test_wide_characters_have_the_room_that_they_take() -> None:
    assert text_width("犬") == text_width("ab")
    long = wrapped("犬" * 40, 1.2)
    assert max(map(text_width, long.splitlines())) <= max(map(len, wrapped("ab " * 40, 1.2).splitlines())) * 4


def test_the_convolution_worked_out_by_hand() -> None:
    convolved, rectified, pooled, flat = (layer.output for layer in layer_outputs(*figures.worked_convolution()))
    assert convolved.tolist() == [[[[24, 18, 8], [26, 18, 8], [28, 18, 8]]]]
    assert torch.equal(rectified, convolved)
    assert pooled.tolist() == [[[[24, 18], [28, 18]]]]
    assert flat.tolist() == [[24, 18, 28, 18]]


def test_a_study_shows_the_mean_of_its_seeds_and_their_range() -> None:
    def history(*accuracies: float) -> list[dict[str, str]]:
        return [{"epoch": str(n), "test_accuracy": str(a), "val_accuracy": ""} for n, a in enumerate(accuracies, 1)]

    curves = {"one": [history(0.8, 0.9), history(0.6, 0.7)], "two": [history(0.5, 0.5)]}
    figure = figures.study("A study", {"one": [90, 70], "two": [50]}, {"two": (40, 60)}, curves)
    dots, lines = figure.axes
    one, two = lines.lines
    assert np.asarray(one.get_ydata()).tolist() == pytest.approx([30, 20])
    assert np.asarray(two.get_ydata()).tolist() == pytest.approx([50, 50])
    band = np.asarray(lines.collections[0].get_paths()[0].vertices)
    assert (float(band[:, 1].min()), float(band[:, 1].max())) == pytest.approx((10, 40))
    assert [text.get_text() for text in dots.get_yticklabels()] == ["one", "two"]
    assert [np.asarray(line.get_xdata()).tolist() for line in dots.lines] == [[10, 30], [50]]
    (bar,) = dots.patches
    assert isinstance(bar, Rectangle)
    assert (bar.get_x(), bar.get_width()) == (40, 20)
    many = {f"system {n}": [history(0.9)] for n in range(12)}
    assert len(figures.study("Many", {name: [90.0] for name in many}, {}, many).axes) == 1
