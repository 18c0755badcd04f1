"""scikit-learn's digits: 1,797 real ones, 8 x 8, of 13 writers (Alpaydin and Kaynak 1998); no network needed."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

from mnistflow.core.files import atomic_write, sha256
from mnistflow.data.datasets.dataset import Dataset, LabelledImages, Published, register

__all__ = ["FILE", "Digits", "bundled_file", "verify"]

FILE = "digits.csv"
SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
TEST_IMAGES = 360  # the last fifth, in the order of the file: there is no published split


@register("digits")
class Digits(Dataset):
    """Brought from 8 x 8 in 17 grey levels to ``size`` x ``size`` in 256, bilinearly."""

    classes: tuple[str, ...] = tuple("0123456789")
    training_images = 1797 - TEST_IMAGES

    def __init__(self, *, size: int = 28) -> None:
        if not 8 <= size <= 256:
            raise ValueError(f"size: must be 8 to 256 pixels, not {size}")
        self.image_size = (size, size)

    def fetch(self, folder: Path, timeout: float) -> None:  # noqa: ARG002 - no network
        """Unpack the file that scikit-learn brings along."""
        target = folder / FILE
        if not target.exists():
            with gzip.open(bundled_file()) as file, atomic_write(target) as temporary:
                temporary.write_bytes(file.read())
                verify(temporary)
        verify(target)
        print(f"digits: {target} is in place and verified")

    def read(self, folder: Path) -> Published:
        """Read the file; its last fifth is the test part."""
        import numpy as np
        import torch
        from torch.nn import functional as F

        if not (folder / FILE).is_file():
            raise ValueError(f"there is no file {folder / FILE}; `dvc repro` fetches it")
        verify(folder / FILE)
        table = torch.from_numpy(np.loadtxt(folder / FILE, delimiter=",", dtype=np.float32))  # (1797, 64 + 1)
        small = table[:, :-1].reshape(-1, 1, 8, 8) * (255 / 16)
        images = F.interpolate(small, self.image_size, mode="bilinear", align_corners=False)
        images = images.round().to(torch.uint8)[:, 0]  # (1797, size, size)
        labels = table[:, -1].long()
        return Published(
            LabelledImages(images[:-TEST_IMAGES], labels[:-TEST_IMAGES]),
            LabelledImages(images[-TEST_IMAGES:], labels[-TEST_IMAGES:]),
            self.classes,
        )


def bundled_file() -> Path:
    """The compressed file that scikit-learn, which takes seconds to import, brings along.

    Raises:
        ValueError: it is not installed.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise ValueError("scikit-learn, which carries the data set digits, is not installed")
    return Path(package.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")


def verify(path: Path) -> None:
    """Hold the uncompressed file against its SHA-256.

    Raises:
        ValueError: it is another one.
    """
    if (actual := sha256(path)) != SHA256:
        raise ValueError(
            f"{path} is not scikit-learn's file: SHA-256 is {actual}, expected {SHA256}; "
            f"delete it and run again: rm {path}"
        )
