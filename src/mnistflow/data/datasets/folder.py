"""A folder of images of one's own, ``train/<class>/*.png`` and ``test/<class>/*.png``; and writing such a folder."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tqdm import tqdm

from mnistflow.core.text import for_terminal
from mnistflow.data import pictures
from mnistflow.data.datasets.dataset import Dataset, LabelledImages, Published, named_folder, register

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

__all__ = ["Folder", "write_folder"]

FILE = "images.safetensors"
LAYOUT = "train/<class>/*.png, and test/<class>/*.png if there is a test part"


@register("folder")
class Folder(Dataset):
    """Images of any size and colour, brought to ``size`` x ``size`` in 256 grey levels.

    The classes are the names of the folders, sorted. All images below the folder of a class belong to it; hidden files
    and what systems leave do not count. See :mod:`mnistflow.data.pictures`.

    Args:
        path: the folder that has ``train`` and, maybe, ``test``.
        size: height and width in pixels; what is not square is stretched. An image of that size stays as it is.
        test_size: the share of images that becomes the test part where there is no ``test``, the same of each class.
        test_seed: decides which ones.
        invert: dark ink on light paper; 0 is to be background.
    """

    classes: tuple[str, ...]
    source: Path

    def __init__(
        self,
        *,
        path: str | None = None,
        size: int = 28,
        test_size: float = 0.2,
        test_seed: int = 0,
        invert: bool = False,
    ) -> None:
        if not 8 <= size <= 512:
            raise ValueError(f"size: must be 8 to 512 pixels, not {size}")
        if not 0 < test_size < 1:
            raise ValueError(f"test_size: must be a share above 0 and below 1, not {test_size}")
        if not 0 <= test_seed < 2**32:
            raise ValueError(f"test_seed: must be 0 to {2**32 - 1}, not {test_seed}")
        if path is None:
            raise ValueError(f"path: set it to your image folder, laid out as {LAYOUT}")
        self.source = named_folder(path)
        self.image_size = (size, size)
        self.test_size = test_size
        self.test_seed = test_seed
        self.invert = invert

        if not self.source.is_dir():
            raise ValueError(f"path: there is no folder {self.source}; name one laid out as {LAYOUT}")
        if not (self.source / "train").is_dir():
            raise ValueError(f"path: there is no folder train in {self.source}; expected {LAYOUT}")
        self._train = _listed(self.source / "train")
        self._test = _listed(self.source / "test") if (self.source / "test").is_dir() else None
        self.classes = self._train.classes
        if self._test is None:
            self.training_images = len(self._train.files) - self._held_out()
        else:
            self.training_images = len(self._train.files)
            for one, other, parts in (
                (self._train, self._test, "train but not in test"),
                (self._test, self._train, "test but not in train"),
            ):
                if missing := set(one.classes) - set(other.classes):
                    raise ValueError(
                        f"path: {self.source} has {_enumerated(missing)} in {parts}; both need the same classes"
                    )

    def fetch(self, folder: Path, timeout: float) -> None:  # noqa: ARG002 - no network
        """Read all images and pack them into one file; always anew, because they may have changed."""
        import torch

        from mnistflow.core.tensors import write_tensors
        from mnistflow.data.splits import stratified

        train = self._packed(self._train)
        if self._test is not None:
            test = self._packed(self._test)
        else:
            kept, held_out = stratified(train.labels, self.test_size, self.test_seed)
            test = LabelledImages(train.images[held_out], train.labels[held_out])
            train = LabelledImages(train.images[kept], train.labels[kept])
        tensors = {
            "train_images": train.images,
            "train_labels": train.labels,
            "test_images": test.images,
            "test_labels": test.labels,
        }
        write_tensors(folder / FILE, tensors, {"classes": self.classes})
        print(
            f"folder: {len(train.labels):,} training and {len(test.labels):,} test images of {len(self.classes)} "
            f"classes in {self.source} packed into {folder / FILE}"
        )
        left_out = self._train.left_out + (self._test.left_out if self._test is not None else Counter())
        if left_out:
            print(f"folder: {pictures.summary(left_out)}")
        if train.images.mean(dtype=torch.float32) > 127.5:
            print(
                "folder: warning: most pixels are light, but the background should be 0. For dark ink on light paper, "
                f"set datasets.folder.invert: {str(not self.invert).lower()}"
            )

    def read(self, folder: Path) -> Published:
        """Read the packed file."""
        from mnistflow.core.tensors import read_tensors

        tensors, metadata = read_tensors(folder / FILE)
        if set(tensors) != {"train_images", "train_labels", "test_images", "test_labels"}:
            raise ValueError(f"{folder / FILE} holds no data set; delete it, and `dvc repro` recreates it")
        train, test = (
            LabelledImages(tensors[f"{part}_images"], tensors[f"{part}_labels"]) for part in ("train", "test")
        )
        return Published(train, test, tuple(cast(list[str], metadata["classes"])))

    def _held_out(self) -> int:
        """How many images become the test part."""
        counts = Counter(self._train.labels)
        for label, count in sorted(counts.items()):
            if count < 2:
                raise ValueError(
                    f"path: {self.source / 'train' / self.classes[label]} has one image, and without a folder "
                    "test some of each class are held out; at least two are needed"
                )
        total, classes = len(self._train.files), len(counts)
        held_out = round(self.test_size * total)
        if not classes <= held_out <= total - classes:
            raise ValueError(
                f"test_size: {self.test_size} of {total} images is {held_out}, and each of {classes} classes needs at "
                f"least one on either side; choose a share that gives {classes} to {total - classes}"
            )
        return held_out

    def _packed(self, part: _Part) -> LabelledImages:
        import torch

        images = torch.empty((len(part.files), *self.image_size), dtype=torch.uint8)
        bar = tqdm(part.files, desc=f"reading {part.folder.name}", unit="image", disable=None)
        for index, file in enumerate(bar):
            images[index] = self._pixels(file)
        return LabelledImages(images, torch.tensor(part.labels))

    def _pixels(self, path: Path) -> Tensor:
        """One image as (H, W) uint8."""
        import numpy as np
        import torch
        from PIL import Image, ImageOps

        try:
            with Image.open(path, formats=pictures.formats()) as file:
                image = _grey(ImageOps.exif_transpose(file), background=255 if self.invert else 0)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"{path} cannot be read as an image: {error}; repair or remove it") from error
        height, width = self.image_size
        pixels = np.array(image.resize((width, height), Image.Resampling.BILINEAR))  # averages where it makes smaller
        return torch.from_numpy(255 - pixels if self.invert else pixels)


def write_folder(published: Published, directory: Path) -> None:
    """Write a data set as the folder that :class:`Folder` reads, 8-bit greyscale PNG files named by their index.

    A class name becomes the name of a folder, with ``-`` for each ``/``.

    Args:
        published: images and labels of both parts.
        directory: appears whole or not at all; may exist if it is empty.

    Raises:
        ValueError: the directory exists and is not empty, or two classes would share a folder.
    """
    from PIL import Image

    directory = directory.resolve()
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise ValueError(f"{directory} exists and is not an empty folder; choose another")
    names = [name.replace("/", "-") for name in published.classes]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"several classes would be written to the same folder, {_enumerated(twice)}; rename them")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as temporary:
        beside = Path(temporary, directory.name)
        for part, (images, labels) in (("train", published.train), ("test", published.test)):
            for name in names:
                (beside / part / name).mkdir(parents=True)
            digits = len(str(len(labels) - 1))
            for index in tqdm(range(len(labels)), desc=f"writing {part}", unit="image", disable=None):
                file = f"{index:0{digits}}.png"
                Image.fromarray(images[index].numpy()).save(beside / part / names[int(labels[index])] / file)
        beside.replace(directory)


@dataclass(frozen=True)
class _Part:
    """The images of the training or of the test part; none is opened before it is read."""

    folder: Path
    classes: tuple[str, ...]
    files: tuple[Path, ...]  # class by class
    labels: tuple[int, ...]
    left_out: Counter[str]  # how many other files there are, by the reason


def _listed(folder: Path) -> _Part:
    """The images below a folder by class.

    Raises:
        ValueError: there are no two classes, one has no image, or a name that cannot be written.
    """
    names = sorted(child.name for child in folder.iterdir() if child.is_dir() and not pictures.is_litter(child.name))
    if len(names) < 2:
        raise ValueError(
            f"path: {folder} must have at least two folders, one for each class; it has "
            f"{_enumerated(names) if names else 'none'}"
        )
    for name in names:
        if for_terminal(name) != name:
            raise ValueError(
                f"path: the name of the folder {for_terminal(name)!r} in {folder} is not UTF-8, or has control "
                "characters; rename it, because it is the name of a class"
            )
    listings = [pictures.listed(folder / name) for name in names]
    for name, listing in zip(names, listings, strict=True):
        if listing.special:
            raise ValueError(
                f"path: {listing.special[0]} is a pipe, socket or device, on which DVC would block forever; remove it"
            )
        if not listing.files:
            others = f"; {pictures.summary(listing.left_out)}" if listing.left_out else ""
            raise ValueError(
                f"path: there is no image in {folder / name}; add some "
                f"({', '.join(pictures.formats())}), or delete the folder{others}"
            )
    return _Part(
        folder,
        tuple(names),
        tuple(file for listing in listings for file in listing.files),
        tuple(label for label, listing in enumerate(listings) for _ in listing.files),
        sum((listing.left_out for listing in listings), Counter()),
    )


def _grey(image: Image.Image, background: int) -> Image.Image:
    """Mode L. What is transparent becomes background."""
    import numpy as np
    from PIL import Image

    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose range is unknown; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip at 255
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError("its pixels have more than 16 bits; save it with 8 or 16")
        return Image.fromarray((levels >> 8).astype(np.uint8))
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, (background, background, background, 255))
        return Image.alpha_composite(paper, image.convert("RGBA")).convert("L")
    return image.convert("L")


def _enumerated(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    first, *rest = [", ".join(sorted(names)[:5]), *sorted(names)[5:]]
    return f"{first} and {len(rest)} more" if rest else first
