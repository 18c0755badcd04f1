"""The pictures of the fair test are those that they are said to be, and what is counted of them is right."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Checkout, Network
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torchvision.datasets import MNIST

from mnistflow.figures import reading as figure_of
from mnistflow.recognition import handwriting, reader
from mnistflow.recognition.reader import View

Pixels = NDArray[np.uint8]


def as_one_digit(grey: Pixels) -> list[View]:
    return reader.views(grey, several=False)


@pytest.fixture(scope="module")
def mnist_test(mnist_folder: Path) -> tuple[Pixels, NDArray[np.int64]]:
    return handwriting.mnist_test(mnist_folder.parents[1])


def test_the_digits_of_uci_are_all_of_scikit_learns() -> None:
    found, expected = handwriting.digits_uci(), load_digits()
    assert len(found.pictures) == 1797
    assert np.array_equal(np.stack(found.pictures), np.round(expected.images * 255 / 16))
    assert np.array_equal(found.labels, expected.target)


def test_the_test_images_are_those_of_torchvision(
    mnist_folder: Path, mnist_test: tuple[Pixels, NDArray[np.int64]]
) -> None:
    expected = MNIST(str(mnist_folder.parents[1]), train=False)
    assert np.array_equal(mnist_test[0], expected.data.numpy())
    assert np.array_equal(mnist_test[1], expected.targets.numpy())


def test_test_images_that_are_missing_or_others_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file .*t10k-images-idx3-ubyte; `dvc repro`"):
        handwriting.mnist_test(tmp_path)
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    (tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"is not MNIST's file; delete it"):
        handwriting.mnist_test(tmp_path)


def test_a_photograph_depends_on_its_image_and_the_seed_alone(mnist_test: tuple[Pixels, NDArray[np.int64]]) -> None:
    images, labels = mnist_test[0][:6], mnist_test[1][:6]
    there = handwriting.photographs(images, labels)
    back = handwriting.photographs(images[::-1], labels[::-1])
    for one, other in zip(there.pictures, reversed(back.pictures), strict=True):
        assert np.array_equal(one, other)
    others = handwriting.photographs(images, labels, seed=1)
    assert not any(np.array_equal(*pair) for pair in zip(there.pictures, others.pictures, strict=True))
    assert all(200 <= side <= 400 for picture in there.pictures for side in picture.shape)


def test_photographs_are_dark_ink_on_light_paper(mnist_test: tuple[Pixels, NDArray[np.int64]]) -> None:
    for image in mnist_test[0][:50]:
        picture = handwriting.photograph(image)
        assert np.median(picture) - picture.min() > 25
        assert np.median(picture) > 60


def test_uci_like_pictures_count_black_pixels(mnist_test: tuple[Pixels, NDArray[np.int64]]) -> None:
    pictures = handwriting.uci_like(mnist_test[0][:200])
    levels = np.round(np.arange(17) * 255 / 16)
    assert all(picture.shape == (8, 8) and np.isin(picture, levels).all() for picture in pictures)
    assert all(picture[0].any() or picture[:, 0].any() for picture in pictures), "the longer side of the ink fills it"
    assert handwriting.uci_like(np.zeros((1, 28, 28), np.uint8))[0].sum() == 0
    full = handwriting.uci_like(np.full((1, 28, 28), 255, np.uint8))[0]
    assert (full == 255).all()


def test_naive_scales_and_turns_light_paper_dark(mnist_test: tuple[Pixels, NDArray[np.int64]]) -> None:
    image = mnist_test[0][0]
    assert np.array_equal(handwriting.scale_only([image, 255 - image]), np.stack([image, image]))


def test_the_reader_makes_the_difference(mnist_test: tuple[Pixels, NDArray[np.int64]], reads_digits: Network) -> None:
    """With a network that was trained for seconds; the real ones read 97 % and 98 %."""
    digits = handwriting.digits_uci()
    scored = handwriting.score(handwriting.gather(digits.pictures, digits.labels, as_one_digit), reads_digits)
    assert scored.accuracy > 0.9
    photographs = handwriting.photographs(mnist_test[0][:300], mnist_test[1][:300])
    scored = handwriting.score(handwriting.gather(photographs.pictures, photographs.labels, as_one_digit), reads_digits)
    assert scored.accuracy > 0.92
    assert scored.naive / scored.pictures < 0.5


def test_what_is_counted_is_right() -> None:
    """Four pictures and a network that says how much ink there is."""
    pictures = [np.zeros((28, 28), np.uint8) for _ in range(4)]
    for picture, width in zip(pictures, (0, 4, 12, 12), strict=True):
        picture[4:24, 8 : 8 + width] = 255
    labels = np.array([0, 1, 2, 1])

    def by_ink(images: Pixels) -> NDArray[np.float32]:
        ink = (images > 0).sum(axis=(1, 2))
        classes = np.where(ink == 0, 0, np.where(ink < 160, 1, 2))
        return np.where(np.arange(3) == classes[:, None], 0.8, 0.1).astype(np.float32)

    scored = handwriting.score(handwriting.gather(pictures, labels, as_one_digit), by_ink)
    assert (scored.pictures, scored.right, scored.unreadable) == (4, 2, 1)
    assert scored.naive == 3
    assert scored.confusions == ((1, 2, 1),)
    assert scored.accuracy == 0.5
    assert scored.ece == pytest.approx(0.8 - 2 / 3)  # two of the three that can be read are right
    assert scored.interval == pytest.approx((0.1500, 0.8500), abs=1e-4)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_reading_is_drawn(count: int, mnist_test: tuple[Pixels, NDArray[np.int64]]) -> None:
    images = [np.pad(image, 6) for image in mnist_test[0][:count]]
    picture = np.hstack(images) if images else np.zeros((40, 60), np.uint8)
    found = reader.read(picture)
    assert len(found.digits) == count
    shares = np.full((count, 10), 0.1, np.float32)
    figure = figure_of(found, shares, [str(number) for number in range(10)])
    frames = [patch for patch in figure.axes[0].patches if patch.get_edgecolor()[:3] == (213 / 255, 94 / 255, 0.0)]
    assert len(frames) == count, "a box around each digit"
    assert len(figure.axes[0].images) == len(found.steps)
    several = replace(found, considered=(("lines gone: 2 digits", 0.25), ("lines kept: 1 digit", 0.5)))
    lines = [text.get_text() for text in figure_of(several, shares, list("0123456789")).axes[0].texts]
    assert {"25.00%  lines gone: 2 digits", "50.00%  lines kept: 1 digit"} <= set(lines)


def test_the_command_scores_the_result_in_this_folder(workspace: Checkout) -> None:
    printed = workspace.mnistflow("evaluate", "--on", "digits-uci", "--images", "50", "--json")
    tree = json.loads(printed[printed.index("{") :])
    assert (tree["on"], tree["pictures"]) == ("digits-uci", 50)
    assert 0 <= tree["accuracy_low"] <= tree["accuracy"] <= tree["accuracy_high"] <= 1
    missed = sum(pair["pictures"] for pair in tree["confusions"]) + tree["unreadable"]
    assert missed == round(50 * (1 - tree["accuracy"]))
    assert 0 <= tree["ece"] <= 1
    assert "without the reader" in workspace.mnistflow("evaluate", "--on", "digits-uci", "--images", "5")
    assert "dvc repro" in workspace.mnistflow("evaluate", "--on", "photographs", status=1)
    (workspace.folder / "models" / "model.safetensors").rename(workspace.folder / "metrics" / "own.safetensors")
    command = f"cd metrics && {sys.executable} -m mnistflow evaluate --on digits-uci --images 5 --model own.safetensors"
    assert "own.safetensors on digits-uci" in workspace.run("sh", "-c", command, PYTHONPATH=str(ROOT / "src"))


def test_reading_needs_no_torch() -> None:
    program = f"""
import sys
for name in ("torch", "torchvision", "matplotlib", "mlflow"):
    sys.modules[name] = None  # importing it fails
sys.path.insert(0, {str(ROOT / "src")!r})
from mnistflow.recognition import handwriting, reader
assert len(handwriting.digits_uci().pictures) == 1797
"""
    subprocess.run([sys.executable, "-c", program], check=True)
