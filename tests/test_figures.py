from __future__ import annotations

import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, Splits
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor, nn

from mnistflow import figures, models
from mnistflow.artifacts import Inputs, Split
from mnistflow.inference import layer_outputs, logits_of
from mnistflow.params import load

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
    assert [colour == figures.ORANGE.lower() for colour in colours] == [False, True, False]
    (frame,) = rectangles(axes, figures.ORANGE.lower())
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
    sides = [round(frame.get_width() / 0.36) for frame in rectangles(figure.axes[0], figures.ORANGE.lower())]
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


def test_inside_networks_that_are_built_otherwise() -> None:
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
def test_no_text_is_cut_or_lies_on_another(names: str) -> None:
    classes = NAMES[names]
    torch.manual_seed(0)
    images, labels = torch.randn(27, 3, 24, 20), torch.arange(27) % len(classes)
    predictions, chances = labels.roll(1), torch.full((27,), 0.5)
    split = Split(images, labels, torch.arange(60_000, 60_027), Inputs("made", tuple(classes), 0, 0.0, 1.0))
    drawn = {
        "samples": figures.samples(images, labels, classes, "Training images"),
        "grid": figures.grid(split, split, 60_009),
        "mistakes": figures.mistakes(images, labels, predictions, chances, classes, 2),
        "predictions": figures.predictions(images, labels, predictions, chances, classes, 27),
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


def test_the_bytes_are_the_same_in_every_process(tmp_path: Path) -> None:
    program = f"""
import sys
sys.path[:0] = [{str(ROOT / "src")!r}, {str(ROOT / "tests")!r}]
from pathlib import Path
from test_figures import HISTORY, STEPS, built, torch
from mnistflow import figures
model, image = built("lenet5", (1, 28, 28), 3), torch.randn(1, 28, 28)
for name, figure in (
    ("curves", figures.curves(HISTORY, STEPS)),
    ("convolution", figures.convolution()),
    ("inside", figures.inside(model, image, 0, "abc", "mse")),
):
    figures.save(figure, Path(sys.argv[1], name), 100)
"""
    for name, zone in (("one", "UTC"), ("two", "Asia/Tokyo")):
        environment = {"HOME": str(tmp_path / "home" / name), "TZ": zone, "LC_ALL": "C"}
        (tmp_path / name).mkdir()
        subprocess.run([sys.executable, "-c", program, str(tmp_path / name)], env=environment, check=True)
    one, two = ({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert sorted(one) == ["convolution", "curves", "inside"]
    assert one == two


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
