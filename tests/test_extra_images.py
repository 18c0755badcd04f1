from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from conftest import Splits
from torch import Generator

from mnistflow.models.losses import OUTLIER
from mnistflow.training.drawn_digits import drawn_digits
from mnistflow.training.extra_images import extended
from mnistflow.training.outliers import LETTERS, outliers


@pytest.mark.parametrize("size", [28, 42])
def test_drawn_digits_have_the_format_of_mnist(size: int) -> None:
    images, labels = drawn_digits(200, 0, size=size)
    assert images.shape == (200, size, size)
    assert images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [20] * 10
    for image in images:
        left, top, width, height = cv2.boundingRect(image)
        assert max(width, height) in (size * 20 // 28, size * 20 // 28 - 1)  # an edge of the ink may be fainter than 1
        assert min(left, top, size - left - width, size - top - height) >= 0
        mass = cv2.moments(image)
        centre = np.array([mass["m10"], mass["m01"]]) / mass["m00"] + 0.5
        at_an_edge = 0 in (left, top) or size in (left + width, top + height)
        assert np.abs(centre - size / 2).max() <= 0.51 or at_an_edge


def test_drawn_digits_depend_on_the_seed_alone() -> None:
    first, again, other = (drawn_digits(50, seed)[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=(1, 2)).all()


def test_drawn_digits_of_a_class_are_alike_and_of_others_are_not() -> None:
    known, labels = drawn_digits(4000, 0)
    asked, expected = drawn_digits(500, 1)
    one, other = (torch.from_numpy(images).flatten(1).float() for images in (asked, known))
    distances = torch.cdist(one, other)
    found = labels[distances.argmin(dim=1).numpy()]
    assert (found == expected).mean() > 0.95
    assert all((found == expected)[expected == digit].mean() > 0.85 for digit in range(10))


def test_outliers_have_ink_and_depend_on_the_seed(digits: Splits) -> None:
    raw = digits[0].raw_images()
    first, again, other = (outliers(raw, 140, seed) for seed in (3, 3, 4))
    assert first.shape == (140, 28, 28)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=(1, 2)).mean() > 0.9
    assert first.any(axis=(1, 2)).all()


@pytest.mark.parametrize("size", [8, 28, 42])
def test_outliers_are_made_of_images_of_any_size(size: int) -> None:
    digits = drawn_digits(50, 0, size=size)[0]
    assert outliers(digits, 70, 0).shape == (70, size, size)
    assert outliers(np.zeros_like(digits), 70, 0).shape == (70, size, size), "also where nothing is written"


def test_letters_are_well_formed() -> None:
    for letter in LETTERS:
        for part in letter.split("|"):
            assert all(len(point.split(",")) == 2 for point in part.split())


def test_a_split_is_extended_behind_its_own_images(digits: Splits) -> None:
    train = digits[0]
    more = extended(train, Generator().manual_seed(0), drawn_digits=30, outliers=20)
    own = len(train)
    assert len(more) == own + 50
    assert torch.equal(more.images[:own], train.images)
    assert torch.equal(more.labels[:own], train.labels)
    assert more.labels[own : own + 30].tolist() == [*range(10)] * 3
    assert set(more.labels[own + 30 :].tolist()) == {OUTLIER}
    assert set(more.indices[own:].tolist()) == {-1}
    assert more.raw_images()[own:].max() == 255  # normalised as the others are
    again = extended(train, Generator().manual_seed(0), drawn_digits=30, outliers=20)
    assert torch.equal(more.images, again.images)


def test_nothing_added_changes_nothing(digits: Splits) -> None:
    generator = Generator().manual_seed(0)
    before = generator.get_state()
    assert extended(digits[0], generator, drawn_digits=0, outliers=0) is digits[0]
    assert torch.equal(generator.get_state(), before)
