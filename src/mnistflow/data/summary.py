"""What preprocess.json holds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LEAKAGE", "DataSummary"]

LEAKAGE = ("test_duplicates", "leakage", "validation_duplicates", "label_conflicts")


@dataclass(frozen=True)
class DataSummary:
    """The splits, and how they were made."""

    dataset: str
    train_images: int
    validation_images: int
    test_images: int
    mean: float  # of images in [0, 1], over the training split
    std: float
    device: str  # that computed them: cpu, cuda, mps
    digest: str  # of the three splits
    test_digest: str  # SHA-256 of the test images and labels as they were published
    # Identical images where there should be none; see :func:`mnistflow.data.preprocessing.leakage`.
    test_duplicates: int
    leakage: float
    validation_duplicates: int
    label_conflicts: int

    def warning(self) -> str | None:
        """One line about identical images; None if there is none to warn of."""
        kinds = {
            "test images are identical to training images": self.test_duplicates,
            "validation images are identical to training images": self.validation_duplicates,
            "images are identical to one of another class": self.label_conflicts,
        }
        return "; ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count) or None
