"""Figures of a network on a split that it was not trained on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import fmean

from sklearn.metrics import precision_recall_fscore_support
from torch import Tensor, nn
from torch.nn import functional as F

from mnistflow.artifacts import Split
from mnistflow.inference import confusion_counts, logits_of, probabilities
from mnistflow.recipes import LossName, make_loss

__all__ = ["ClassFigures", "Evaluation", "evaluate", "shift_accuracies"]


@dataclass(frozen=True)
class ClassFigures:
    """How one class fared; all but ``images`` from 0 to 1, and 0 where there is nothing to divide by."""

    precision: float
    recall: float
    f1: float
    images: int


@dataclass(frozen=True)
class Evaluation:
    """What a network did with each image of a split."""

    loss: float  # mean over the images, without label smoothing
    accuracy: float  # 0 to 1
    classes: dict[str, ClassFigures]
    confusion: list[list[int]]  # [label][prediction]: images
    predictions: Tensor  # (N,) int64
    probabilities: Tensor  # (N, classes) float32

    def summary(self) -> dict[str, object]:
        """Everything but the single predictions."""
        figures = list(self.classes.values())
        return {
            "accuracy": self.accuracy,
            "loss": round(self.loss, 6),
            "macro_precision": round(fmean(each.precision for each in figures), 6),
            "macro_recall": round(fmean(each.recall for each in figures), 6),
            "macro_f1": round(fmean(each.f1 for each in figures), 6),
            "images": sum(each.images for each in figures),
            # Lists, which DVC leaves out of its tables: forty columns more would hide the figures above.
            "classes": [{"class": name, **asdict(each)} for name, each in self.classes.items()],
            "confusion": self.confusion,
        }

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


def evaluate(model: nn.Module, split: Split, loss: LossName, batch_size: int) -> Evaluation:
    """Run a network over a split and count.

    Args:
        model: on the device of the split.
        split: with at least one image.
        loss: the one the network was trained with.
        batch_size: images at once.
    """
    logits = logits_of(model, split.images, batch_size)
    mean_loss = float(make_loss(loss)(logits, split.labels))
    chances = probabilities(logits, loss).cpu()
    labels, predictions = split.labels.cpu(), logits.argmax(dim=1).cpu()
    names = split.inputs.classes
    columns = precision_recall_fscore_support(
        labels.numpy(), predictions.numpy(), labels=range(len(names)), zero_division=0.0
    )
    return Evaluation(
        loss=mean_loss,
        accuracy=float((labels == predictions).double().mean()),
        classes={
            name: ClassFigures(round(float(precision), 6), round(float(recall), 6), round(float(f1), 6), int(images))
            for name, precision, recall, f1, images in zip(names, *columns, strict=True)
        },
        confusion=confusion_counts(labels, predictions, len(names)).tolist(),
        predictions=predictions,
        probabilities=chances,
    )


def shift_accuracies(model: nn.Module, split: Split, max_shift: int, batch_size: int) -> list[float]:
    """Accuracy when every image is moved by 1, 2, ... ``max_shift`` pixels, the mean over the four directions.

    Args:
        model: on the device of the split.
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
            right += int((logits_of(model, moved, batch_size).argmax(dim=1) == split.labels).sum())
        accuracies.append(right / (4 * len(split)))
    return accuracies
