"""What training costs as the data grow: MNIST, and MNIST with changed copies of itself.

    python -m benchmarks.scale [--images N ...] [--limit MIB]

Each number of images is prepared, written, read back and trained on for one epoch of the default recipe, in a process
of its own. Given are the seconds of both and how they grow, and the memory that is the process's own (pages of mapped
files, which the system takes back when it needs them, apart), less what it held before it saw an image. With --limit
the last number is trained on once more by a process that may hold no more than so many MiB of memory, mapped pages
included, where this machine lets itself be asked for that (Linux, as root); its weights must be the same. Below the
size of the data that reads most images from the disk again and again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.ours import Training, original, params_of
from benchmarks.timing import keep
from mnistflow.core.affine import affine
from mnistflow.core.tensors import read_split, write_split
from mnistflow.data import preprocessing
from mnistflow.data.datasets import LabelledImages, Published

NUMBERS = (60_000, 120_000, 600_000)
MEBIBYTE = 2**20
PART = 10_000  # images that are changed at once


def main() -> None:
    """Measure each, print the table and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=NUMBERS, metavar="N", help="default: %(default)s")
    parser.add_argument("--limit", type=int, metavar="MIB", help="default: none")
    parser.add_argument("--one", nargs=2, metavar=("WHAT", "PATH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        what, path = arguments.one
        print(json.dumps(prepare(Path(path), arguments.images[0]) if what == "prepare" else train(Path(path))))
        return
    rows, measured = [], {}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "train.safetensors")
        for number in tqdm(arguments.images):
            prepared = one("prepare", path, number)
            trained = one("train", path, number)
            measured[number] = {"prepare": prepared, "train": trained}
            rows.append(row(f"{number:,}", path.stat().st_size, prepared, trained, measured[arguments.images[0]]))
        with limited(arguments.limit) as start:
            if start:
                again = one("train", path, number, start)
                assert again["weights"] == trained["weights"], "with less memory other weights came out"
                measured["limited"] = {"mebibytes": arguments.limit, "train": again}
                label = f"{number:,} in {arguments.limit:,} MiB"
                rows.append(row(label, path.stat().st_size, None, again, measured[arguments.images[0]]))
    command = f"python -m benchmarks.scale --images {' '.join(map(str, arguments.images))}"
    command += f" --limit {arguments.limit}" if arguments.limit else ""
    keep("scale", command, torch.device("cpu"), rows, measured)


def row(
    label: str,
    size: int,
    prepared: dict[str, float] | None,
    trained: dict[str, float],
    first: dict[str, dict[str, float]],
) -> dict[str, str]:
    """A row of the table."""

    def each(found: dict[str, float], what: str) -> str:
        grown = (found["seconds"] / found["images"]) / (first[what]["seconds"] / first[what]["images"])
        return f"{found['seconds']:.1f} s ({grown:.2f})"

    return {
        "images": label,
        "data": f"{size / MEBIBYTE:,.0f} MiB",
        "prepare (an image, times the first)": each(prepared, "prepare") if prepared else "",
        "memory": f"{prepared['mebibytes']:,.0f} MiB" if prepared else "",
        "an epoch (an image, times the first)": each(trained, "train"),
        "memory of its own": f"{trained['mebibytes']:,.0f} MiB",
    }


def one(what: str, path: Path, number: int, start: tuple[str, ...] = ()) -> dict[str, float]:
    """Do one thing in a process of its own; returns what it measured."""
    with path.open("ab") as file:  # whoever reads it next reads it from the disk
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    command = [*start, sys.executable, "-m", "benchmarks.scale", "--images", str(number), "--one", what, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def prepare(path: Path, number: int) -> dict[str, object]:
    """Prepare so many images and write them."""
    train, test, classes = original(ROOT / "data" / "raw" / "mnist")
    images = torch.empty(number, *train.images.shape[1:], dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    for first in range(0, number, PART):
        chosen = torch.arange(first, min(first + PART, number)) % len(train.images)
        part = train.images[chosen]
        if first >= len(train.images):
            floats = part.unsqueeze(1).float()
            part = affine(floats, generator, rotate=15, scale=0.1, shift=3).squeeze(1).round().to(torch.uint8)
        images[first : first + PART] = part
    labels = train.labels[torch.arange(number) % len(train.labels)]
    params = params_of("default")
    with memory() as held:
        started = time.perf_counter()
        split, *_ = preprocessing.prepare(
            Published(LabelledImages(images, labels), test, classes),
            dataset="mnist",
            validation_size=0,
            normalize=params.preprocess.normalize,
            pad=params.preprocess.pad,
            seed=0,
            device=torch.device("cpu"),
        )
        write_split(path, split)
        seconds = time.perf_counter() - started
    return {"images": number, "seconds": seconds, "mebibytes": max(held)}


def train(path: Path) -> dict[str, object]:
    """Read a split and train on it for one epoch."""
    params = params_of("default")
    torch.set_num_threads(params.threads)
    with memory() as held:
        split = read_split(path)
        training = Training(params, split, len(split))
        seconds = training.epoch()
    weights = hashlib.sha256()
    for tensor in training.model.state_dict().values():
        weights.update(tensor.contiguous().numpy().tobytes())
    return {"images": len(split), "seconds": seconds, "mebibytes": max(held), "weights": weights.hexdigest()}


@contextmanager
def memory() -> Iterator[list[float]]:
    """What this process holds of its own in the block beyond what it held before, in MiB, twenty times a second."""
    held, done, before = [0.0], threading.Event(), own()

    def watch() -> None:
        while not done.wait(0.05):
            held.append(own() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield held
    finally:
        done.set()
        watcher.join()


def own() -> float:
    """Memory of this process that no file stands behind, in MiB (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon:"))


@contextmanager
def limited(mebibytes: int | None) -> Iterator[tuple[str, ...]]:
    """The beginning of a command that may hold only so much memory; nothing where that cannot be had."""
    if mebibytes is None:
        yield ()
        return
    old, new = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    folder = (old if old.is_dir() else new) / f"benchmark-{os.getpid()}"
    limit, members = ("memory.limit_in_bytes", "tasks") if old.is_dir() else ("memory.max", "cgroup.procs")
    try:
        folder.mkdir()
        (folder / limit).write_text(str(mebibytes * MEBIBYTE))
    except OSError as error:
        print(f"no run in {mebibytes} MiB: {error}", file=sys.stderr)
        yield ()
        return
    try:
        yield ("sh", "-c", f'echo $$ > {folder / members} && exec "$@"', "sh")
    finally:
        folder.rmdir()


if __name__ == "__main__":
    main()
