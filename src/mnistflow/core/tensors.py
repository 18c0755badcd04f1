"""Tensors on disk: safetensors with JSON metadata and a checksum, never pickle."""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import mmap
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from mnistflow.core.files import atomic_write

__all__ = ["Inputs", "Split", "read_in_any_order", "read_split", "read_tensors", "write_split", "write_tensors"]

FORMAT = 2  # of what this module writes; the first one had no digest of its content, and read_tensors refuses others


@dataclass(frozen=True)
class Inputs:
    """How the images of a split are made from raw ones: everything that is needed to feed images to the weights.

    ``x = (pad(raw / 255) - mean) / std``, where ``raw`` is (N, H, W) uint8 and ``pad`` adds ``padding`` pixels of 0
    on each side.
    """

    dataset: str
    classes: tuple[str, ...]
    padding: int
    mean: float  # of images in [0, 1]
    std: float

    def normalise(self, raw: Tensor) -> Tensor:
        """(N, H, W) uint8 to (N, 1, H + 2 padding, W + 2 padding) float32, on the same device."""
        images = F.pad(raw.unsqueeze(1).float() / 255, [self.padding] * 4)
        return (images - self.mean) / self.std

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, object]) -> Inputs:
        """Read back what :func:`dataclasses.asdict` made, after JSON."""
        fields = dict(metadata)
        fields["classes"] = tuple(fields["classes"])  # type: ignore[arg-type]
        inputs = cls(**fields)  # type: ignore[arg-type]
        if not (math.isfinite(inputs.mean) and math.isfinite(inputs.std) and inputs.std > 0):
            raise ValueError(f"mean {inputs.mean} and standard deviation {inputs.std} normalise nothing")
        return inputs


@dataclass(frozen=True)
class Split:
    """Normalised images with their labels."""

    images: Tensor  # (N, C, H, W) float32
    labels: Tensor  # (N,) int64
    indices: Tensor  # (N,) int64: which images of the original file these are
    inputs: Inputs
    digest: str = ""  # of the file that it was read from

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        """The same split with its images and labels on a device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def raw_images(self) -> NDArray[np.uint8]:
        """The images as they were before they were normalised: (N, H, W), without padding."""
        padding = self.inputs.padding
        rows, columns = (slice(padding, side - padding) for side in self.images.shape[2:])
        images = self.images[:, 0, rows, columns].cpu() * self.inputs.std + self.inputs.mean
        return (images * 255).round().byte().numpy()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, object]) -> None:
    """Write named tensors and JSON metadata as safetensors.

    The metadata is one sorted JSON text under one key: safetensors orders several keys anew in each process, and the
    file's bytes with them. Among it is the SHA-256 of everything else.
    """
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {name: value for name, value in metadata.items() if name != "sha256"} | {"format": FORMAT}
    text = json.dumps({**header, "sha256": _digest(ready, header)}, sort_keys=True, allow_nan=False)
    with atomic_write(path) as temporary:
        try:
            save_file(ready, temporary, {"mnistflow": text})
        except SafetensorError as error:  # how safetensors reports a full disk
            raise OSError(f"{path} cannot be written: {error}") from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Read what :func:`write_tensors` wrote, onto the CPU.

    Returns:
        The tensors, and the metadata with the digest of all under ``sha256``.

    Raises:
        ValueError: the file is missing, is damaged, or was not written by this project.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}; `dvc repro` makes it")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("mnistflow")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        metadata = json.loads(text) if text is not None else None
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(metadata, dict):
        raise ValueError(f"{path} was not written by mnistflow: it has no metadata")
    version = metadata.get("format")
    if version not in (1, FORMAT):
        raise ValueError(
            f"{path} was written by another version of mnistflow: its format is {version!r}, not {FORMAT}; "
            "`dvc repro` recreates it"
        )
    expected = metadata.pop("sha256", None)
    actual = _digest(tensors, metadata)
    if version == FORMAT and expected != actual:
        raise ValueError(f"{path} is damaged: the SHA-256 of its content is {actual}, expected {expected}")
    return tensors, {**metadata, "sha256": actual}


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, object]) -> str:
    seen = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        seen.update(f"\0{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        seen.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return seen.hexdigest()


def write_split(path: Path, split: Split) -> None:
    """Write a split with its :class:`Inputs`."""
    tensors = {"images": split.images, "labels": split.labels, "indices": split.indices}
    write_tensors(path, tensors, {"inputs": asdict(split.inputs)})


def read_split(path: Path) -> Split:
    """Read what :func:`write_split` wrote.

    Raises:
        ValueError: the file is missing or damaged, or its tensors are not those of a split.
    """
    tensors, metadata = read_tensors(path)
    if set(tensors) != {"images", "labels", "indices"} or "inputs" not in metadata:
        raise ValueError(f"{path} holds no split; expected images, labels and indices, found {', '.join(tensors)}")
    try:
        inputs = Inputs.from_metadata(metadata["inputs"])  # type: ignore[arg-type]
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"{path} has no valid metadata about its images: {error}") from error
    split = Split(**tensors, inputs=inputs, digest=str(metadata["sha256"]))
    count, classes = len(split.images), len(inputs.classes)
    if split.images.ndim != 4 or split.images.dtype != torch.float32:
        raise ValueError(f"{path}: images must be (N, C, H, W) float32, not {split.images.dtype} {split.images.shape}")
    if split.labels.shape != (count,) or split.indices.shape != (count,):
        raise ValueError(f"{path}: {count} images, but labels {split.labels.shape}, indices {split.indices.shape}")
    if split.labels.dtype != torch.int64 or split.indices.dtype != torch.int64:
        raise ValueError(f"{path}: labels and indices must be int64, not {split.labels.dtype}, {split.indices.dtype}")
    if count and not 0 <= int(split.labels.min()) <= int(split.labels.max()) < classes:
        raise ValueError(
            f"{path}: labels must be 0 to {classes - 1}, found {int(split.labels.min())} to {int(split.labels.max())}"
        )
    if not bool(split.images.sum().isfinite()):  # 20 times as fast as to look at each
        raise ValueError(f"{path}: images hold values that are infinite or not a number")
    return split


def read_in_any_order(tensor: Tensor) -> None:
    """Advise the kernel not to read ahead in a memory-mapped tensor, which will be accessed in random order.

    Otherwise the kernel also reads ahead around each image and, if the file is larger than memory, evicts pages that
    are needed next. This has no effect on tensors in memory, and does nothing on systems other than Linux.
    """
    if sys.platform != "linux" or tensor.device.type != "cpu":
        return
    start = tensor.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
    size = tensor.data_ptr() + tensor.nbytes - start
    ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), mmap.MADV_RANDOM)
