"""How long training takes to 99.0 and to 99.4 %: the recipes `fast99` and `fast994` over many seeds.

    python -m benchmarks.time_to_accuracy [NAME...] [--seeds N] [--device cuda]

For each seed one after the other: the reference, a plain network of two convolutions trained for one epoch in float32
by a loop over tensors in memory, and each recipe with model `fast`. Seconds are those of training alone, start-up and
measurements apart; accuracy is that of the last epoch on the 10,000 test images, by which nothing was chosen.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass, field
from statistics import mean, median, stdev

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.ours import Training, splits
from benchmarks.timing import keep, ratio, spread
from mnistflow.config.params import load
from mnistflow.core import devices
from mnistflow.core.tensors import Split
from mnistflow.models import inference
from mnistflow.training.optimizers import make_optimizer, make_schedule

RAW = ROOT / "data" / "raw" / "mnist"
AIMS = {"fast99": 0.990, "fast994": 0.994}


@dataclass
class Trained:
    """What the seeds of one contender came to."""

    accuracies: list[float] = field(default_factory=list)  # 0 to 1, on the test split
    seconds: list[float] = field(default_factory=list)


def main() -> None:
    """Measure each, print the table and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(AIMS)} (default: all)")
    parser.add_argument("--seeds", type=int, default=20, help="of each (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    arguments = parser.parse_args()
    device = devices.resolve(arguments.device)
    names: list[str] = arguments.names or list(AIMS)
    found = {name: Trained() for name in ["reference", *names]}
    for seed in tqdm(range(arguments.seeds)):
        for name, trained in found.items():
            seconds, accuracy = reference(seed, device) if name == "reference" else recipe(name, seed, device)
            trained.seconds.append(seconds)
            trained.accuracies.append(accuracy)
    rows = []
    for name, trained in found.items():
        rows.append(
            {
                "recipe": name,
                "test accuracy": f"{mean(trained.accuracies):.2%} ± {stdev(trained.accuracies):.2%}",
                "aim": f"{AIMS[name]:.1%}" if name in AIMS else "",
                "least": f"{min(trained.accuracies):.2%}",
                "training, s": f"{median(trained.seconds):.1f}",
                "times the reference": spread(ratio(trained.seconds, found["reference"].seconds)),
            }
        )
    command = f"python -m benchmarks.time_to_accuracy --seeds {arguments.seeds}"
    measured = {name: {"accuracies": each.accuracies, "seconds": each.seconds} for name, each in found.items()}
    keep("time_to_accuracy" + ("" if device.type == "cpu" else f"-{device.type}"), command, device, rows, measured)


def recipe(name: str, seed: int, device: torch.device) -> tuple[float, float]:
    """Seconds and test accuracy of one of our recipes."""
    params = load(ROOT / "params.yaml").model_copy(update={"model": "fast", "recipe": name, "seed": seed})
    train, _, test = (split.to(device) for split in splits(params, RAW))
    training = Training(params, train, len(train), seed)
    seconds = math.fsum(training.epoch() for _ in range(params.recipe_block.epochs))
    return seconds, accuracy_of(training.model, test)


def reference(seed: int, device: torch.device) -> tuple[float, float]:
    """Seconds and test accuracy of the plain network after one epoch: Adam, one cycle up to 0.01, batches of 256."""
    params = load(ROOT / "params.yaml").model_copy(update={"seed": seed})
    train, _, test = (split.to(device) for split in splits(params, RAW))
    generator = devices.seeded(seed, 2, device)
    layers: list[nn.Module] = [nn.Conv2d(1, 24, 5), nn.MaxPool2d(2), nn.ReLU()]
    layers += [nn.Conv2d(24, 32, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten()]
    layers += [nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, 10)]
    model = nn.Sequential(*layers).to(device).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model.parameters(), "adam", lr=0.01)
    schedule = make_schedule(optimizer, "one_cycle", steps=math.ceil(len(train) / 256), warmup=0.25)
    assert schedule is not None
    started = time.perf_counter()
    for chosen in torch.randperm(len(train), generator=generator).to(device).split(256):
        images = train.images[chosen].contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(model(images), train.labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, accuracy_of(model, test)


def accuracy_of(model: nn.Module, test: Split) -> float:
    """0 to 1."""
    return inference.measure(model, test, F.cross_entropy)[1]


if __name__ == "__main__":
    main()
