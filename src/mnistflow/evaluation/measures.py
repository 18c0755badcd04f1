"""Figures of a network on a split that it was not trained on."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from mnistflow.core.tensors import Split
from mnistflow.evaluation.calibration import Calibration, calibration
from mnistflow.evaluation.corruptions import CORRUPTIONS, corrupted
from mnistflow.evaluation.scores import Bin, ClassScores, Corrupted, Scores, class_scores, wilson
from mnistflow.models import parameter_count
from mnistflow.models.inference import confusion_counts, layer_outputs, logits_of
from mnistflow.models.losses import LossName, make_loss, probabilities

__all__ = [
    "Evaluation",
    "Robustness",
    "Speed",
    "evaluate",
    "measure_robustness",
    "multiply_adds",
    "shift_accuracies",
    "speed",
]

CORRUPTION_SEED = 0  # the same for each corruption and strength, so that a stronger one does more of the same
CORRUPTED_AT_ONCE = 1000  # images; another number would draw others


@dataclass(frozen=True)
class Evaluation:
    """What a network did with each image of a split."""

    loss: float  # mean over the images, without label smoothing
    accuracy: float  # 0 to 1
    interval: tuple[float, float]  # of the accuracy, 95 %
    top2_accuracy: float  # the label is one of the two classes that the network finds likeliest
    calibration: Calibration  # of the probabilities
    temperature: float | None  # that they are scaled by; None: they are not
    unscaled: Calibration | None  # what it would be without that
    parameters: int
    multiply_adds: int  # for one image
    classes: tuple[ClassScores, ...]  # by label
    confusion: list[list[int]]  # [label][prediction]: images
    predictions: Tensor  # (N,) int64
    probabilities: Tensor  # (N, classes) float32

    def scores(self, robustness: Robustness, shift_accuracies: Sequence[float], device: str) -> Scores:
        """What evaluate.json holds: everything but the single predictions.

        Args:
            robustness: on corrupted images.
            shift_accuracies: on images moved by 1, 2, ... pixels.
            device: the kind of device that computed it.
        """
        figures, unscaled = self.classes, self.unscaled
        return Scores(
            accuracy=self.accuracy,
            accuracy_low=round(self.interval[0], 6),
            accuracy_high=round(self.interval[1], 6),
            top2_accuracy=self.top2_accuracy,
            loss=round(self.loss, 6),
            macro_precision=round(fmean(one_class.precision for one_class in figures), 6),
            macro_recall=round(fmean(one_class.recall for one_class in figures), 6),
            macro_f1=round(fmean(one_class.f1 for one_class in figures), 6),
            ece=round(self.calibration.ece, 6),
            brier=round(self.calibration.brier, 6),
            temperature=None if self.temperature is None else round(self.temperature, 6),
            ece_unscaled=None if unscaled is None else round(unscaled.ece, 6),
            brier_unscaled=None if unscaled is None else round(unscaled.brier, 6),
            parameters=self.parameters,
            multiply_adds=self.multiply_adds,
            images=sum(figure.images for figure in figures),
            classes=figures,
            confusion=tuple(map(tuple, self.confusion)),
            reliability=tuple(
                Bin(*(round(value, 6) for value in vars(one_bin).values())) for one_bin in self.calibration.bins
            ),
            robust_accuracy=robustness.accuracy,
            shift_accuracies=tuple(shift_accuracies),
            device=device,
        )

    def rows(self, split: Split) -> list[dict[str, object]]:
        """A row for each image: its place in the original file, label, prediction and the probability of that."""
        names = split.inputs.classes
        chances = self.probabilities.amax(dim=1)
        return [
            {"index": index, "label": names[label], "prediction": names[prediction], "probability": f"{chance:.6f}"}
            for index, label, prediction, chance in zip(
                split.indices.tolist(), split.labels.tolist(), self.predictions.tolist(), chances.tolist(), strict=True
            )
        ]


@dataclass(frozen=True)
class Robustness:
    """How a network fares on images that are harder to read."""

    clean: float  # accuracy on the images as they are
    corrupted: tuple[Corrupted, ...] = ()  # none where that was not measured

    @property
    def accuracy(self) -> float | None:
        """The mean over all corruptions and strengths."""
        return round(fmean(corrupted.accuracy for corrupted in self.corrupted), 6) if self.corrupted else None

    def rows(self) -> list[dict[str, object]]:
        """A row for the images as they are, and one for each corruption and strength."""
        return [asdict(corrupted) for corrupted in (Corrupted("none", 0, 0.0, self.clean), *self.corrupted)]


@dataclass(frozen=True)
class Speed:
    """How fast a network reads; durations, which no output of the pipeline may hold."""

    images_per_second: float  # in batches
    latency: float  # of one image alone, seconds


def evaluate(
    model: nn.Module, split: Split, loss: LossName, batch_size: int, temperature: float | None = None
) -> Evaluation:
    """Run a network over a split and count.

    Args:
        model: on any device.
        split: with at least one image.
        loss: the one the network was trained with.
        batch_size: images at once.
        temperature: of its probabilities, see :func:`mnistflow.models.losses.probabilities`.
    """
    logits = logits_of(model, split.images, batch_size)
    mean_loss = float(make_loss(loss)(logits, split.labels.to(logits.device)))
    chances, unscaled = (probabilities(logits, loss, scale).cpu() for scale in (temperature, None))
    labels, logits = split.labels.cpu(), logits.cpu()
    predictions = logits.argmax(dim=1)
    likeliest = logits.topk(min(2, logits.shape[1]), dim=1).indices  # (N, 2)
    right = int((predictions == labels).sum())
    names = split.inputs.classes
    confusion = confusion_counts(labels, predictions, len(names)).tolist()
    return Evaluation(
        loss=mean_loss,
        accuracy=right / len(split),
        interval=wilson(right, len(split)),
        top2_accuracy=int((likeliest == labels[:, None]).sum()) / len(split),
        calibration=calibration(chances.numpy(), labels.numpy()),
        temperature=temperature,
        unscaled=None if temperature is None else calibration(unscaled.numpy(), labels.numpy()),
        parameters=parameter_count(model),
        multiply_adds=multiply_adds(model, split.images[:1]),
        classes=class_scores(names, confusion),
        confusion=confusion,
        predictions=predictions,
        probabilities=chances,
    )


def shift_accuracies(model: nn.Module, split: Split, max_shift: int, batch_size: int) -> list[float]:
    """Accuracy when every image is moved by 1, 2, ... ``max_shift`` pixels, the mean over the four directions.

    Args:
        model: on any device.
        split: with at least one image; what moves in is background.
        max_shift: 0 measures nothing.
        batch_size: images at once.
    """
    background = -split.inputs.mean / split.inputs.std
    height, width = split.image_shape[1:]
    accuracies: list[float] = []
    for pixels in range(1, max_shift + 1):
        wide = F.pad(split.images, [pixels] * 4, value=background)
        right = 0
        for down, across in ((0, pixels), (2 * pixels, pixels), (pixels, 0), (pixels, 2 * pixels)):
            moved = wide[:, :, down : down + height, across : across + width]  # (N, C, H, W)
            right += _right(model, moved, split.labels, batch_size)
        accuracies.append(right / (4 * len(split)))
    return accuracies


def multiply_adds(model: nn.Module, image: Tensor) -> int:
    """Multiplications, each with its addition, of the convolutions and dense layers that one image passes.

    Args:
        model: on any device.
        image: (1, C, H, W) float32.
    """
    return sum(
        layer.output[0].numel() * layer.module.weight[0].numel()  # a number of the output takes one set of weights
        for layer in layer_outputs(model, image.to(next(model.parameters()).device))
        if isinstance(layer.module, nn.Conv2d | nn.Linear)
    )


def measure_robustness(model: nn.Module, split: Split, clean: float, batch_size: int) -> Robustness:
    """Accuracy under each corruption at each strength.

    Args:
        model: on any device.
        split: with at least one image.
        clean: accuracy on the images as they are.
        batch_size: images at once.
    """
    quick = copy.deepcopy(model).to(memory_format=torch.channels_last)  # convolutions twice as fast on a CPU
    measured = []
    for name, corruption in CORRUPTIONS.items():
        for strength, amount in enumerate(corruption.amounts, start=1):
            generator, right = Generator().manual_seed(CORRUPTION_SEED), 0
            parts = (tensor.split(CORRUPTED_AT_ONCE) for tensor in (split.images, split.labels))
            for images, labels in zip(*parts, strict=True):
                harder = corrupted(
                    images, corruption, strength, generator, mean=split.inputs.mean, std=split.inputs.std
                )
                right += _right(quick, harder, labels, batch_size)
            measured.append(Corrupted(name, strength, amount, right / len(split)))
    return Robustness(clean, tuple(measured))


def speed(model: nn.Module, split: Split, batch_size: int) -> Speed:
    """How fast a network reads images, in batches and one alone: medians of several, once it has warmed up.

    Args:
        model: on any device.
        split: with at least one image.
        batch_size: images at once.
    """
    batch = split.images[:batch_size]

    def seconds(images: Tensor, times: int) -> float:
        return median(_timed(lambda: logits_of(model, images, batch_size).cpu()) for _ in range(times))

    return Speed(len(batch) / seconds(batch, 5), seconds(batch[:1], 50))


def _right(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> int:
    """How many images a network reads right."""
    return int((logits_of(model, images, batch_size).argmax(dim=1).cpu() == labels.cpu()).sum())


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
