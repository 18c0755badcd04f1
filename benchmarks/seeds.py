"""The published systems as their authors ran them against ours: an epoch's time, side by side.

    python -m benchmarks.seeds [NAME...] [--rounds N] [--seconds S]

The published way: a data set of PIL images through torchvision's transforms and a DataLoader, PyTorch's defaults for
everything else, `.item()` at each step. Both are processes of their own, which take turns with a part of an epoch;
start and measurements are apart. Given are seconds for an epoch of 60,000 images and the median over rounds of how many
times as fast ours is, with quartiles.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import transforms
from torchvision.datasets import MNIST, ImageFolder
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.ours import Training, mnist, params_of
from benchmarks.published import SYSTEMS
from benchmarks.timing import alternated, keep, ratio, spread
from mnistflow.data import datasets
from mnistflow.data.datasets.folder import write_folder

RAW = ROOT / "data" / "raw" / "mnist"
EPOCH = 60_000
AIMS = {"seed-000": 1.8, "seed-001": 1.4, "seed-002": 3.3, "seed-003": 8.0, "seed-004": 2.8}


def main() -> None:
    """Measure each, print the table and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SYSTEMS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="about so long a turn (default: %(default)s)")
    arguments = parser.parse_args()
    rows, measured = [], {}
    dataset = datasets.build("mnist", {})
    dataset.fetch(RAW, timeout=60)
    with tempfile.TemporaryDirectory() as folder:
        write_folder(dataset.read(RAW), Path(folder))
        for name in tqdm(arguments.names or SYSTEMS):
            taken = one(name, Path(folder), arguments.rounds, arguments.seconds)
            found = ratio(taken["published"], taken["ours"])
            rows.append(
                {
                    "system": name,
                    "published, s an epoch": f"{ratio(taken['published'], [1] * arguments.rounds)['median']:.1f}",
                    "ours, s an epoch": f"{ratio(taken['ours'], [1] * arguments.rounds)['median']:.2f}",
                    "times as fast": spread(found),
                    "aim": f"{AIMS[name]}" if name in AIMS else "",
                }
            )
            measured[name] = {**taken, "ratio": found}
    command = f"python -m benchmarks.seeds --rounds {arguments.rounds} --seconds {arguments.seconds}"
    keep("seeds", command, torch.device("cpu"), rows, measured)


def one(name: str, folder: Path, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Seconds an epoch of both, turn by turn."""
    batch = SYSTEMS[name].batch_size
    with Contender(published, name, 40 * batch, folder) as trial:
        trial()
        steps = int(seconds / (trial() / EPOCH * batch))
    images = min(EPOCH, max(40, steps) * batch)
    with Contender(published, name, images, folder) as theirs, Contender(ours, name, images, folder) as own:
        return alternated({"published": theirs, "ours": own}, rounds)


def published(name: str, images: int, folder: Path) -> Callable[[], float]:
    """A training as it was published; calling it trains on so many images and returns the seconds."""
    system = SYSTEMS[name]
    torch.manual_seed(0)
    steps = [transforms.ToTensor()]
    if system.std != 1:
        steps.append(transforms.Normalize(system.mean, system.std))
    data: Dataset[object]
    if name == "seed-004":
        data = ImageFolder(str(folder / "train"), transforms.Compose([transforms.Grayscale(), *steps]))
    else:
        data = MNIST(str(RAW), train=True, transform=transforms.Compose(steps))
    loader = DataLoader(Subset(data, range(images)), system.batch_size, shuffle=system.shuffled)
    model = system.network()
    optimizer = system.optimizer(model.parameters())

    def epoch() -> float:
        started = time.perf_counter()
        total = 0.0
        model.train()
        for x, y in loader:
            value = system.loss(model(x), y)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            total += value.item()
        return time.perf_counter() - started

    return epoch


def ours(name: str, images: int, folder: Path) -> Callable[[], float]:  # noqa: ARG001 - preprocess has read it
    """The same with our train stage."""
    params = params_of(name)
    return Training(params, mnist(params, RAW), images).epoch


class Contender:
    """A training in a process of its own; calling it gives seconds for 60,000 images, by the time of a part.

    Args:
        make: in that process: makes what trains on so many images and returns the seconds.
        name: of the system.
        images: how many.
        folder: MNIST as image files.
    """

    def __init__(self, make: Callable[[str, int, Path], Callable[[], float]], name: str, images: int, folder: Path):
        self.images = images
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, make, name, images, folder), daemon=True)

    def __enter__(self) -> Contender:
        self.process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.send(False)
        self.process.join()

    def __call__(self) -> float:
        """Run one turn."""
        self.connection.send(True)
        return float(self.connection.recv()) * EPOCH / self.images


def _serve(
    connection: Connection,
    make: Callable[[str, int, Path], Callable[[], float]],
    name: str,
    images: int,
    folder: Path,
) -> None:
    run = make(name, images, folder)
    while connection.recv():
        connection.send(run())


if __name__ == "__main__":
    main()
