"""A model as a file for other programs, held against the weights that it was made of."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistflow import models
from mnistflow.config.paths import Paths
from mnistflow.core.files import atomic_write, sha256
from mnistflow.core.tensors import Inputs, Split, read_split
from mnistflow.export import formats
from mnistflow.export.formats import Parity, Source
from mnistflow.models import ModelMetadata
from mnistflow.recognition.predictor import Predictor

__all__ = ["ALLOWED", "Converted", "Cost", "convert"]

ALLOWED = 0.0005  # what 8-bit integers may cost in accuracy, as a share of the images
SHOWN = 1000  # training images that show how large values get


@dataclass(frozen=True)
class Cost:
    """What 8-bit integers cost in accuracy: shares of the images, without and with them."""

    validation_accuracy: float
    validation_accuracy_int8: float
    test_accuracy: float
    test_accuracy_int8: float


@dataclass(frozen=True)
class Converted:
    """What was written, and how it compares."""

    path: str
    format: str  # onnx, int8.onnx or pt2
    name: str
    bytes: int
    opset: int | None  # None where there is none
    weights: str  # SHA-256 of their file
    parity: Parity | None  # with PyTorch on the test images; None if there are none here of its data set
    cost: Cost | None  # None but for int8

    def text(self) -> str:
        """For people."""
        opset = "" if self.opset is None else f", opset {self.opset}"
        lines = [f"{self.path}: {self.name}, {self.format}{opset}, {self.bytes:,} bytes"]
        if self.parity is None:
            lines.append("not checked against PyTorch: this folder has no test images of the data set of these weights")
        else:
            lines.append(
                f"{self.parity.agreeing:,} of {self.parity.images:,} test images get the same label as with PyTorch; "
                f"probabilities differ by at most {self.parity.largest_difference:.1g}"
            )
        if self.cost is not None:
            for split, one, other in (
                ("validation", self.cost.validation_accuracy, self.cost.validation_accuracy_int8),
                ("test", self.cost.test_accuracy, self.cost.test_accuracy_int8),
            ):
                lines.append(f"{split} accuracy {other:.2%} with 8-bit integers, {one:.2%} without")
        return "\n".join(lines)


def convert(source: Source, target: Path, form: str, paths: Paths) -> Converted:
    """Write a model in another form, if it answers as the weights do.

    Args:
        source: the weights.
        target: to write.
        form: ``onnx``, ``int8.onnx`` or ``pt2``.
        paths: of the splits that it is measured on. Whether 8-bit integers cost too much is decided on the validation
            split, after they were fitted to images of the training split.

    Raises:
        ValueError: it cannot be written in this form, gives another label, or costs too much.
    """
    _, metadata = models.load(source.weights)
    test = _split(paths.test_split, metadata)
    opset: int | None = None
    cost: Cost | None = None
    parity: Parity | None = None
    with atomic_write(target) as temporary:
        if form == "pt2":
            predict = formats.pt2_of(source.weights, temporary)
        else:
            formats.onnx_of(source.weights, temporary, name=source.name, test_accuracy=source.test_accuracy)
            opset, predict = formats.OPSET, Predictor(temporary).probabilities
        if form == "int8.onnx":
            cost, predict = _quantised(temporary, metadata, test, paths)
        if test is not None:
            images = test.raw_images()
            parity = formats.parity(predict(images), formats.eager(source.weights)(images))
            if cost is None and parity.agreeing < parity.images:
                raise ValueError(
                    f"{parity.images - parity.agreeing} of {parity.images:,} test images get a different label than "
                    f"with PyTorch; {target} was not written"
                )
    return Converted(
        path=str(target),
        format=form,
        name=source.name,
        bytes=target.stat().st_size,
        opset=opset,
        weights=sha256(source.weights),
        parity=parity,
        cost=cost,
    )


def _quantised(graph: Path, metadata: ModelMetadata, test: Split | None, paths: Paths) -> tuple[Cost, formats.Predict]:
    """Replace a graph by the same one in 8-bit integers, if that does not cost too much."""
    train, validation = (_split(path, metadata) for path in (paths.train_split, paths.validation_split))
    if train is None or validation is None or test is None or not len(validation):
        raise ValueError(
            "int8 needs training images to calibrate and a validation split to check it, and this folder has none "
            f"of the data set {metadata.inputs.dataset}; `dvc repro` makes them"
        )
    exact = Predictor(graph)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "int8.onnx"
        formats.int8_of(graph, place, train.raw_images()[:SHOWN])
        rounded = Predictor(place)
        cost = Cost(*(_accuracy(network, split) for split in (validation, test) for network in (exact, rounded)))
        if (lost := cost.validation_accuracy - cost.validation_accuracy_int8) >= ALLOWED:
            raise ValueError(
                f"8-bit integers cost {100 * lost:.2f} points of accuracy on the validation split; less than "
                f"{100 * ALLOWED} is required. Nothing was written"
            )
        formats.note_accuracy(place, cost.test_accuracy_int8)
        graph.write_bytes(place.read_bytes())
    return cost, rounded.probabilities


def _accuracy(predictor: Predictor, split: Split) -> float:
    labels: NDArray[np.int64] = split.labels.numpy()
    return float((predictor.probabilities(split.raw_images()).argmax(axis=1) == labels).mean())


def _split(path: Path, metadata: ModelMetadata) -> Split | None:
    """A split in this folder, if it is of the data set that weights were trained on.

    A folder without splits has none of it.
    """
    if not path.is_file():
        return None
    split = read_split(path)
    same = (split.inputs.dataset, split.inputs.classes) == (metadata.inputs.dataset, metadata.inputs.classes)
    return (
        split
        if same and _sides(split.image_shape, split.inputs) == _sides(metadata.image_shape, metadata.inputs)
        else None
    )


def _sides(shape: models.ImageShape, inputs: Inputs) -> tuple[int, int]:
    """Height and width of the images before they were padded."""
    return shape[1] - 2 * inputs.padding, shape[2] - 2 * inputs.padding
