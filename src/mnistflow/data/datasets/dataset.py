"""What a data set is, and the data sets known by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeVar

from mnistflow.core.files import named_path

if TYPE_CHECKING:  # torch takes seconds to import, and fetching does not need it
    from torch import Tensor

__all__ = ["DATASETS", "Dataset", "LabelledImages", "Published", "named_folder", "register"]


class LabelledImages(NamedTuple):
    """Images as they were published, with their labels."""

    images: Tensor  # (N, H, W) uint8, 0 is background
    labels: Tensor  # (N,) int64


class Published(NamedTuple):
    """A data set as it was published: who trains holds out validation images from ``train``."""

    train: LabelledImages
    test: LabelledImages
    classes: tuple[str, ...]  # their names, by label


class Dataset(ABC):
    """A set of images with a training part and a test part.

    The keyword-only parameters of a subclass's ``__init__`` are the keys of its block in params.yaml. ``__init__``
    raises ValueError for a value that cannot work, its key first (``path: there is no folder ...``), and opens no
    image.
    """

    name: ClassVar[str]  # that it is registered by
    classes: tuple[str, ...] | None  # their names, by label; None where only reading the files tells
    training_images: int | None  # None where only reading the files tells
    image_size: tuple[int, int]  # height, width
    source: Path | None = None  # the folder of images that the user brings and may change, absolute

    @abstractmethod
    def fetch(self, folder: Path, timeout: float) -> None:
        """Put what :meth:`read` needs into ``folder``, whole or not at all.

        Published files are verified by their SHA-256 before they get there; those that are in place already are
        verified and used.

        Args:
            folder: where the files go; made if it is missing.
            timeout: seconds without an answer after which a source counts as unreachable.

        Raises:
            ValueError: a file is not what it must be, or no source could be reached; says which and what to do.
        """

    @abstractmethod
    def read(self, folder: Path) -> Published:
        """Read what :meth:`fetch` put into ``folder``.

        Raises:
            ValueError: a file is missing or damaged; names it.
        """


DATASETS: dict[str, type[Dataset]] = {}

D = TypeVar("D", bound=type[Dataset])


def register(name: str) -> Callable[[D], D]:
    """Class decorator: make a data set known under the name that ``dataset:`` in params.yaml gives."""

    def add(cls: D) -> D:
        assert name not in DATASETS, name
        cls.name = name
        DATASETS[name] = cls
        return cls

    return add


def named_folder(path: str) -> Path:
    """The folder that a user names as ``path``, absolute; see :func:`mnistflow.core.files.named_path`."""
    try:
        return named_path(path)
    except ValueError as error:
        raise ValueError(f"path: {error}") from None
