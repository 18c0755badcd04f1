"""What MNIST and its successors share: four IDX files of 28 x 28 images, fetched through torchvision."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import math
import shutil
import socket
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mnistflow.core.files import atomic_write, project_root, sha256
from mnistflow.data.datasets.dataset import Dataset, LabelledImages, Published, named_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["IDX", "Source", "read_idx"]

STAGING = ".fetching."
MAX_BYTES, MAX_FILES = 60_000_000, 50  # of the files in a user's folder that are held against the checksums

# Fetches the files into a folder, giving up after so many seconds without an answer; returns where in it they are.
Source = Callable[[Path, float], Path]


class IDX(Dataset):
    """From files in place, a folder that the user names, the main repository or the network, in this order."""

    title: ClassVar[str]  # as its authors call it
    torchvision_name: ClassVar[str]  # of the class that fetches it
    checksums: ClassVar[Mapping[str, str]]  # SHA-256 of each file as it is kept: plain, or .gz as published
    classes: tuple[str, ...]
    training_images = 60_000
    image_size = (28, 28)

    def __init__(self, *, path: str | None = None) -> None:
        self.own = None if path is None else named_folder(path)  # where the user has the files already
        if self.own is not None and not self.own.is_dir():
            raise ValueError(f"path: there is no folder {self.own}; set it to one with the IDX files, or to null")

    @property
    def subfolder(self) -> Path:
        """Where torchvision's class puts the files, and looks for them."""
        return Path(self.torchvision_name, "raw")

    def loader(self) -> Callable[..., object]:
        """The class of torchvision."""
        from torchvision import datasets  # here, because it takes seconds to import

        loader: Callable[..., object] = getattr(datasets, self.torchvision_name)
        return loader

    def network(self) -> Iterator[tuple[str, Source]]:
        """Sources in the network by name, in the order in which they are tried.

        One that does not bring the files raises OSError, RuntimeError, HTTPException or SubprocessError.
        """
        yield "torchvision's mirrors", self._from_mirrors

    def fetch(self, folder: Path, timeout: float) -> None:
        """Verify the files in place and fetch those that are missing."""
        target = folder / self.subfolder
        target.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"{STAGING}*"):  # by a download that was killed
            shutil.rmtree(left)
        missing = []
        for name in self.checksums:
            if (target / name).exists():
                self._verify(target / name, f"delete it and run again to download it: rm {target / name}")
            else:
                missing.append(name)
        if not missing:
            print(f"{self.name}: found the four files in {target} and verified them")
            return

        count = len(missing)
        if self.own is None:
            missing = self._from_main_repository(folder, missing)
        if missing:
            with tempfile.TemporaryDirectory(prefix=STAGING, dir=folder) as temporary:
                staging = Path(temporary)
                places = self._from_named(staging, missing) if self.own else self._from_network(staging, timeout)
                for name in missing:
                    self._put(places / name, target, "take another source")
        print(f"{self.name}: {count} files verified and stored in {target}")

    def read(self, folder: Path) -> Published:
        """Read the four IDX files, once each is held against its checksum."""
        from torch import from_numpy

        arrays = {}
        for name in self.checksums:
            path = folder / self.subfolder / name
            if not path.is_file():
                raise ValueError(f"there is no file {path}; `dvc repro` fetches it")
            self._verify(path, "`dvc repro` says how to download it again")
            arrays[name.removesuffix(".gz")] = from_numpy(read_idx(path))
        train, test = (
            LabelledImages(arrays[f"{part}-images-idx3-ubyte"], arrays[f"{part}-labels-idx1-ubyte"].long())
            for part in ("train", "t10k")
        )
        return Published(train, test, self.classes)

    def _verify(self, path: Path, advice: str, shown: Path | None = None) -> None:
        """Hold a file against the checksum of its name; ``shown`` is where it came from."""
        expected, actual = self.checksums[path.name], sha256(path)
        if actual != expected:
            raise ValueError(
                f"{shown or path} is not {self.title}'s file: SHA-256 is {actual}, expected {expected} "
                f"({path.stat().st_size:,} bytes); {advice}"
            )

    def _put(self, path: Path, target: Path, advice: str) -> None:
        self._verify(path, advice)
        with atomic_write(target / path.name) as temporary:
            shutil.copyfile(path, temporary)

    def _from_main_repository(self, folder: Path, names: list[str]) -> list[str]:
        """In DVC's temporary copy of the repository, take what the original has; returns what it has not."""
        original = project_root() / folder
        if original.resolve() == folder.resolve():
            return names
        for path in (original / self.subfolder / name for name in names):
            if path.is_file():
                self._put(path, folder / self.subfolder, f"delete it and run again: rm {path}")
        return [name for name in names if not (folder / self.subfolder / name).exists()]

    def _from_named(self, staging: Path, names: list[str]) -> Path:
        """Take the files from the folder that the user named; those that are kept plain may be compressed there."""
        assert self.own is not None
        for name in names:
            forms = [name] if name.endswith(".gz") else [name, f"{name}.gz"]
            candidates = [self.own / sub / form for sub in ("", self.subfolder) for form in forms]
            source = next((path for path in candidates if path.is_file()), None)
            if source is None:
                source = self._named_otherwise(name)
            if source is None:
                wanted = " (or ".join(forms) + ")" * (len(forms) - 1)
                raise ValueError(f"datasets.{self.name}.path: there is no {wanted} in {self.own}")
            try:
                _copy(source, staging / name)
            except (gzip.BadGzipFile, EOFError) as error:
                raise ValueError(f"{source} is damaged: {error}; replace it with a good copy") from error
            advice = f"replace it with a good copy, or set datasets.{self.name}.path to null"
            self._verify(staging / name, advice, shown=source)
        return staging

    def _named_otherwise(self, name: str) -> Path | None:
        """The file in the folder that the user named which is this one by its checksum, whatever it is called."""
        assert self.own is not None
        files = [path for path in sorted(self.own.rglob("*")) if path.is_file() and path.stat().st_size < MAX_BYTES]
        for path in files[:MAX_FILES]:
            try:
                if sha256(path) == self.checksums[name]:
                    return path
                if path.suffix == ".gz" and not name.endswith(".gz"):
                    with gzip.open(path) as file:
                        if hashlib.file_digest(file, "sha256").hexdigest() == self.checksums[name]:
                            return path
            except (OSError, EOFError, zlib.error):  # damaged, or not to be read: it is another file
                continue
        return None

    def _from_network(self, staging: Path, timeout: float) -> Path:
        failures = []
        for source, fetch in self.network():
            print(f"{self.name}: trying {source}", flush=True)
            try:
                return fetch(staging, timeout)
            except (OSError, RuntimeError, http.client.HTTPException, subprocess.SubprocessError) as error:
                failures.append(f"  {source}: {' '.join(str(error).split())}")
        raise ValueError(
            f"{self.title} could not be fetched. Tried:\n"
            + "\n".join(failures)
            + f"\nEither set datasets.{self.name}.path in params.yaml to a folder with the four IDX files,"
            "\nor use the data set that works offline: dvc exp run -S dataset=digits"
        )

    def _from_mirrors(self, staging: Path, timeout: float) -> Path:
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(timeout)  # torchvision sets none and would wait for ever
        try:
            self.loader()(str(staging), download=True)
        finally:
            socket.setdefaulttimeout(before)
        return staging / self.subfolder


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, plain or .gz: two bytes 0, the type 8, the number of axes, the length of each
    axis as a big-endian integer of four bytes, then the values in C order (LeCun, Cortes and Burges).

    Returns:
        As many axes as the file says, uint8; an array of its own that can be written to.

    Raises:
        ValueError: the file is none of this form.
    """
    import numpy as np

    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        content = bytearray(file.read())
    values = 4 + 4 * content[3] if len(content) > 3 and content[:3] == b"\0\0\x08" else 0
    shape = tuple(int.from_bytes(content[place : place + 4]) for place in range(4, values, 4))
    if not shape or len(content) != values + math.prod(shape):
        raise ValueError(f"{path} is damaged: not a complete IDX file of unsigned bytes")
    return np.frombuffer(content, np.uint8, offset=values).reshape(shape)


def _copy(source: Path, target: Path) -> None:
    """Copy a file, unpacked if the target's name says so: it lacks the ``.gz`` that the source's has."""
    opener = gzip.open if source.suffix == ".gz" and target.suffix != ".gz" else open
    with opener(source, "rb") as file, target.open("wb") as copy:
        shutil.copyfileobj(file, copy)
