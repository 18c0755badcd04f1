"""Timing side by side: contenders take turns, so that what slows the machine slows them all."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles

import torch

from benchmarks import ROOT

__all__ = ["RESULTS", "alternated", "keep", "processor", "ratio", "spread", "table"]

RESULTS = ROOT / "benchmarks" / "results"


def alternated(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Let each contender run once a round, in turns of the order, after one round that does not count.

    Args:
        contenders: each runs once and returns what it took, in its own unit.
        rounds: at least 2.
    """
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name in list(contenders)[:: 1 if number % 2 else -1]:
            value = contenders[name]()
            if number:
                taken[name].append(value)
    return taken


def ratio(ones: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    """How many times the others each of the ones is, round by round: median and quartiles."""
    each = [one / other for one, other in zip(ones, others, strict=True)]
    low, middle, high = quantiles(each, n=4, method="inclusive")
    return {"median": middle, "low": low, "high": high}


def spread(found: Mapping[str, float]) -> str:
    """A ratio with its quartiles, as text."""
    return f"{found['median']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def processor() -> str:
    """What the processor calls itself, where Linux says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows as Markdown."""
    heads = list(rows[0])
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row[head] for head in heads) + " |" for row in rows)])


def keep(name: str, command: str, device: torch.device, rows: Sequence[Mapping[str, str]], measured: object) -> None:
    """Print the table of a benchmark, and write it with all that was measured to benchmarks/results/.

    Args:
        name: of the two files.
        command: that gave it.
        device: what was computed on.
        rows: of the table, as text.
        measured: the numbers, for JSON.
    """
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    where = f"{gpu}, and " if gpu else ""
    machine = (
        f"{where}{os.cpu_count()} cores of {processor()} ({torch.backends.cpu.get_cpu_capability()}), "
        f"Python {platform.python_version()}, torch {version('torch')}"
    )
    text = f"`{command}` on {machine}.\n\n{table(rows)}\n"
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    document = {"command": command, "device": gpu or device.type, "machine": machine, "measured": measured}
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def seconds_each(measured: Sequence[float]) -> str:
    """A time in the unit that people read, from seconds."""
    value = median(measured)
    return f"{value * 1e6:.0f} µs" if value < 1e-3 else f"{value * 1e3:.1f} ms" if value < 1 else f"{value:.1f} s"
