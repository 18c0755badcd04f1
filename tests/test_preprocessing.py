from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mnistflow.core.tensors import Split
from mnistflow.data import datasets, preprocessing
from mnistflow.data.datasets import LabelledImages, Published
from mnistflow.data.summary import LEAKAGE

CPU = torch.device("cpu")


def images(count: int, seed: int = 0) -> LabelledImages:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 6, 5), generator=generator, dtype=torch.uint8)
    return LabelledImages(pixels, torch.arange(count) % 3)


def prepared(train: LabelledImages, test: LabelledImages, **changes: Any) -> tuple[Split, Split, Split]:
    arguments: dict[str, Any] = {
        "dataset": "made",
        "validation_size": 0.2,
        "normalize": "standard",
        "pad": 0,
        "seed": 0,
        "device": CPU,
        **changes,
    }
    return preprocessing.prepare(Published(train, test, ("a", "b", "c")), **arguments)


def test_moments_are_those_of_the_pixels() -> None:
    pixels = images(50).images
    mean, std = preprocessing.moments(pixels)
    exact = pixels.double() / 255
    assert mean == pytest.approx(float(exact.mean()), rel=1e-12)
    assert std == pytest.approx(float(exact.std(correction=0)), rel=1e-12)


def test_the_statistics_of_mnist_are_the_published_ones(mnist_folder: Path) -> None:
    published = datasets.build("mnist", {}).read(mnist_folder.parents[1])
    mean, std = preprocessing.moments(published.train.images)
    assert (round(mean, 4), round(std, 4)) == (0.1307, 0.3081)


def test_the_training_split_is_standardised_by_its_own_statistics() -> None:
    train, validation, test = prepared(images(100), images(30, seed=1))
    assert (len(train), len(validation), len(test)) == (80, 20, 30)
    assert float(train.images.mean()) == pytest.approx(0, abs=1e-5)
    assert float(train.images.std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert train.inputs == validation.inputs == test.inputs
    assert train.images.dtype == torch.float32
    assert train.image_shape == (1, 6, 5)


def test_neither_validation_nor_test_images_touch_the_statistics() -> None:
    train, test = images(100), images(30, seed=1)
    before = prepared(train, test)
    held_out = before[1].indices
    pixels = train.images.clone()
    pixels[held_out] = 255
    after = prepared(LabelledImages(pixels, train.labels), LabelledImages(test.images * 0, test.labels))
    assert after[0].inputs == before[0].inputs
    assert torch.equal(after[0].images, before[0].images)


def test_order_and_origin_of_each_image_are_kept() -> None:
    original = images(100)
    for split, source in zip(
        prepared(original, images(30, seed=1)), (original, original, images(30, seed=1)), strict=True
    ):
        assert split.indices.tolist() == sorted(split.indices.tolist())
        assert torch.equal(split.labels, source.labels[split.indices])
        back = (split.images * split.inputs.std + split.inputs.mean) * 255
        assert torch.equal(back.round().to(torch.uint8)[:, 0], source.images[split.indices])


def test_the_test_images_are_known_by_what_they_were(tmp_path: Path) -> None:
    def digest_of(test: LabelledImages, **changes: Any) -> object:
        train = images(100)
        splits = prepared(train, test, **changes)
        published = Published(train, test, ("a", "b", "c"))
        return preprocessing.summary(*splits, published=published, files=[], device=CPU).test_digest

    test = images(30, seed=1)
    first = digest_of(test)
    assert digest_of(test, seed=1, pad=2, normalize="unit") == first
    assert digest_of(images(30, seed=2)) != first
    assert digest_of(test._replace(labels=test.labels.flip(0))) != first


def test_identical_images_across_splits_and_classes_are_counted() -> None:
    train, test = images(100), images(30, seed=1)
    splits = prepared(train, test)
    published = Published(train, test, ("a", "b", "c"))
    clean = preprocessing.leakage(splits[0], splits[1], published)
    assert clean == {"test_duplicates": 0, "leakage": 0.0, "validation_duplicates": 0, "label_conflicts": 0}
    assert tuple(clean) == LEAKAGE
    assert preprocessing.summary(*splits, published=published, files=[], device=CPU).warning() is None

    trained, held_out = splits[0].indices[:3], splits[1].indices[:2]
    pixels, tested = train.images.clone(), test.images.clone()
    tested[:4] = pixels[splits[0].indices[3]]  # four test images are one training image, of class 0
    pixels[held_out] = pixels[trained[:2]]
    train = LabelledImages(pixels, torch.zeros(100, dtype=torch.long))
    test = LabelledImages(tested, torch.tensor([0, 0, 0, 1] + [0] * 26))
    splits = (splits[0], splits[1], splits[2])
    published = Published(train, test, ("a", "b"))
    measured = preprocessing.leakage(splits[0], splits[1], published)
    assert measured == {
        "test_duplicates": 4,
        "leakage": round(4 / 30, 6),
        "validation_duplicates": 2,
        "label_conflicts": 5,  # the four and the training image: one of them has another label
    }
    assert preprocessing.summary(*splits, published=published, files=[], device=CPU).warning() == (
        "4 test images are identical to training images; 2 validation images are identical to training images; "
        "5 images are identical to one of another class"
    )


def test_zero_holds_out_none() -> None:
    train, validation, _ = prepared(images(100), images(30), validation_size=0)
    assert len(train) == 100
    assert validation.images.shape == (0, 1, 6, 5)


@pytest.mark.parametrize(
    ("normalize", "expected"), [("unit", (0.0, 1.0)), ([0.1307, 0.3081], (0.1307, 0.3081)), ([0.5, 2], (0.5, 2))]
)
def test_fixed_statistics(normalize: Any, expected: tuple[float, float]) -> None:
    original = images(30)
    train, _, _ = prepared(original, images(30), normalize=normalize, validation_size=0)
    assert (train.inputs.mean, train.inputs.std) == expected
    values = (original.images[:, None].float() / 255 - expected[0]) / expected[1]
    torch.testing.assert_close(train.images, values)


def test_padding_is_background_and_no_part_of_the_statistics() -> None:
    bare, padded = (prepared(images(100), images(30), pad=pad)[0] for pad in (0, 2))
    assert padded.image_shape == (1, 10, 9)
    assert (padded.inputs.mean, padded.inputs.std) == (bare.inputs.mean, bare.inputs.std)
    assert torch.equal(padded.images[:, :, 2:-2, 2:-2], bare.images)

    def frame(tensor: Tensor) -> Tensor:
        return torch.cat([tensor[:, :, :2].flatten(), tensor[:, :, :, -2:].flatten()])

    torch.testing.assert_close(frame(padded.images).unique(), torch.tensor([-bare.inputs.mean / bare.inputs.std]))


def test_images_that_are_all_alike_cannot_be_standardised() -> None:
    blank = LabelledImages(torch.full((30, 4, 4), 7, dtype=torch.uint8), torch.arange(30) % 3)
    with pytest.raises(ValueError, match="preprocess.normalize: all training pixels are equal"):
        prepared(blank, blank)


@pytest.mark.gpu
@pytest.mark.parametrize("normalize", ["standard", "unit", [0.1307, 0.3081]])
def test_every_device_gives_the_same_bits(normalize: Any) -> None:
    on_cpu, on_gpu = (
        prepared(images(500), images(100), normalize=normalize, pad=2, device=torch.device(name))
        for name in ("cpu", "cuda")
    )
    for ours, theirs in zip(on_cpu, on_gpu, strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert ours.inputs == theirs.inputs
