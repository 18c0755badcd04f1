"""The device that a stage computes on."""

from __future__ import annotations

import os

import torch

__all__ = ["available", "describe", "has_room", "multiplies_bf16", "repeatable", "resolve", "seeded"]

SHARE = 0.5  # of a GPU's free memory that images may take; the rest is for what is computed from them


def available() -> list[str]:
    """The devices of this machine, best first, always with ``cpu``: ``["cuda:0", "cuda:1", "cpu"]``, say."""
    devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu"]


def resolve(name: str) -> torch.device:
    """Find the device that a name stands for.

    Args:
        name: ``auto`` (the best there is), ``cpu``, ``cuda`` (the first), ``cuda:N`` or ``mps``.

    Raises:
        ValueError: there is no such device here; the message says what there is. Only ``auto`` falls back.
    """
    known = available()
    wanted = {"auto": known[0], "cuda": "cuda:0"}.get(name, name)
    if wanted not in known:
        raise ValueError(f"there is no device {name!r} on this machine; available: {', '.join(known)}")
    return torch.device(wanted)


def describe(device: torch.device) -> str:
    """The device for people: its name and, on CUDA, the GPU's."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def has_room(device: torch.device, size: int) -> bool:
    """Whether ``size`` bytes of images fit on a GPU beside the computation; always true on other devices."""
    return device.type != "cuda" or size <= SHARE * torch.cuda.mem_get_info(device)[0]


def multiplies_bf16(device: torch.device) -> bool:
    """Whether there are instructions to multiply matrices of bfloat16: on a CPU AMX or AVX-512's, on CUDA Ampere's."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):  # which is new in PyTorch
        return False
    known = torch.cpu.get_capabilities()
    return any(known.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


def repeatable(threads: int, device: torch.device) -> None:
    """Make this process's arithmetic the same each time, bit for bit.

    Sets the number of threads (sums are rounded differently with another number) and, where a GPU computes,
    PyTorch's deterministic algorithms in full float32. Numbers below 1e-38 are 0: a processor takes a hundred times as
    long over them, and Adam's averages for units that never answer end there.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # of this thread and of those that it starts: before there are any
    if device.type != "cpu":  # not on a CPU, where nothing used here needs it and it would import for 1.5 s
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses to be deterministic
        torch.use_deterministic_algorithms(device.type == "cuda")  # on mps max-pooling has none to train with
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False  # the default of convolutions, and not what float32 means
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # where streams and graphs are made that name none


def seeded(seed: int, threads: int, device: torch.device) -> torch.Generator:
    """Make this process :func:`repeatable`, its randomness too, and return the generator that orders it.

    Sets the global seeds (initial weights, dropout). The generator lives on the CPU whatever the device, so that order
    and augmentation are the same on all of them.
    """
    repeatable(threads, device)
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)
