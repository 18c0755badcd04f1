"""From the original images to normalised tensors."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mnistflow.core.files import digest, sha256
from mnistflow.core.tensors import Inputs, Split
from mnistflow.data.datasets import LabelledImages, Published
from mnistflow.data.splits import stratified
from mnistflow.data.summary import DataSummary

__all__ = ["moments", "prepare", "summary"]

PART = 4096  # images that are worked on at once, so that memory holds the data once


def moments(images: Tensor) -> tuple[float, float]:
    """Mean and standard deviation over all pixels, as parts of 255; exact, so the same on every device.

    Args:
        images: uint8, at least one pixel.
    """
    parts = [part.flatten().bincount(minlength=256) for part in images.split(PART)]
    counts = torch.stack(parts).sum(dim=0).tolist()  # of each grey level
    total = sum(counts)
    mean = sum(level * count for level, count in enumerate(counts)) / total
    variance = math.fsum(count * (level - mean) ** 2 for level, count in enumerate(counts)) / total
    return mean / 255, math.sqrt(variance) / 255


def prepare(
    published: Published,
    *,
    dataset: str,
    validation_size: int | float,
    normalize: Literal["standard", "unit"] | list[float],
    pad: int,
    seed: int,
    device: torch.device,
) -> tuple[Split, Split, Split]:
    """Hold out a validation split and normalise all three by the statistics of what is left to train on.

    Args:
        published: the images; nothing is computed from the test part.
        dataset: the name of the data set.
        validation_size: number (int) or share (float) of the training images held out, stratified; 0 for none.
        normalize: ``standard`` for mean 0 and variance 1 over the pixels of the training split, before padding;
            ``unit`` for [0, 1]; or a fixed mean and standard deviation of images in [0, 1].
        pad: pixels of background added on each side.
        seed: decides which images are held out.
        device: where this is computed; the splits come back on the CPU and are the same whatever it is.

    Returns:
        Training, validation and test split; the validation split is empty if ``validation_size`` is 0.

    Raises:
        ValueError: the split is impossible, or all training pixels are alike.
    """
    train, test, classes = published
    kept, held_out = stratified(train.labels, validation_size, seed)
    mean, std = 0.0, 1.0
    if normalize == "standard":
        mean, std = moments(train.images[kept].to(device))
        if std == 0:
            raise ValueError("preprocess.normalize: all training pixels are equal, so 'standard' cannot scale them")
    elif normalize != "unit":
        mean, std = normalize
    inputs = Inputs(dataset, classes, pad, mean, std)

    def split(of: LabelledImages, indices: Tensor) -> Split:
        height, width = of.images.shape[1:]
        images = torch.empty(len(indices), 1, height + 2 * pad, width + 2 * pad)
        for place, chosen in zip(images.split(PART), indices.split(PART), strict=True):
            place.copy_(inputs.normalise(of.images[chosen].to(device)))
        return Split(images, of.labels[indices], indices, inputs)

    return split(train, kept), split(train, held_out), split(test, torch.arange(len(test.labels)))


def summary(
    train: Split,
    validation: Split,
    test: Split,
    *,
    published: Published,
    files: Sequence[Path],
    device: torch.device,
) -> DataSummary:
    """What the preprocess stage did, for its metrics file.

    Args:
        train: the training split.
        validation: the validation split.
        test: the test split.
        published: the images that they come from.
        files: the three as written.
        device: that computed them.
    """
    return DataSummary(
        dataset=train.inputs.dataset,
        train_images=len(train),
        validation_images=len(validation),
        test_images=len(test),
        mean=train.inputs.mean,
        std=train.inputs.std,
        device=device.type,
        digest=digest({path.stem: sha256(path) for path in files}),
        # Of the images as they were before they were normalised: the same whatever the seed.
        test_digest=_digest(published.test),
        **leakage(train, validation, published),
    )


def leakage(train: Split, validation: Split, published: Published) -> dict[str, Any]:
    """Count identical images where there should be none: a test image that was trained on says nothing.

    Images are compared by their pixels as they were published.

    Args:
        train: the training split.
        validation: the validation split.
        published: the images that they come from.

    Returns:
        ``test_duplicates``, test images identical to one of the training part (training or validation split), and
        ``leakage``, their share of all; ``validation_duplicates``, validation images identical to one of the training
        split; ``label_conflicts``, images of any part identical to one with another label.
    """
    seen, tested = _fingerprints(published.train.images), _fingerprints(published.test.images)
    training, held_out = ([seen[index] for index in split.indices.tolist()] for split in (train, validation))
    duplicates = _shared(tested, seen)
    both = seen + tested
    labels = [*published.train.labels.tolist(), *published.test.labels.tolist()]
    classes = Counter(image for image, _ in set(zip(both, labels, strict=True)))  # how many labels an image has
    return {
        "test_duplicates": duplicates,
        "leakage": round(duplicates / len(tested), 6),
        "validation_duplicates": _shared(held_out, training),
        "label_conflicts": sum(classes[image] > 1 for image in both),
    }


def _fingerprints(images: Tensor) -> list[bytes]:
    """A digest of each of (N, H, W) uint8 images."""
    return [hashlib.blake2b(image.data, digest_size=16).digest() for image in images.contiguous().numpy()]


def _shared(images: Sequence[bytes], others: Sequence[bytes]) -> int:
    """How many images are among the others."""
    known = set(others)
    return sum(image in known for image in images)


def _digest(published: LabelledImages) -> str:
    """SHA-256 of images with their labels, and of their shape."""
    seen = hashlib.sha256(str(tuple(published.images.shape)).encode())
    for tensor in published:
        seen.update(tensor.contiguous().numpy().data)
    return seen.hexdigest()
