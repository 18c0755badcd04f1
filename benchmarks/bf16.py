"""Whether bfloat16 costs accuracy: the same trainings in float32 and in bfloat16, seed by seed.

    python -m benchmarks.bf16 [--seeds N] [--device cuda]

Of what `precision: auto` computes in bfloat16 where the processor has it. A seed draws weights, order, augmentation and
validation split. Given are test accuracies (mean, standard deviation), the mean of the differences seed by seed in
points, and the standard error of that mean. Nothing is chosen by them.
"""

from __future__ import annotations

import argparse
import math
from statistics import fmean, stdev
from typing import Literal

import torch
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.ours import Training, splits
from benchmarks.timing import keep
from mnistflow.config.params import load
from mnistflow.core import devices
from mnistflow.models import inference

TRAININGS = (("fast", "fast99"), ("fast", "fast994"), ("compact", "fast99"))  # model, recipe


def main() -> None:
    """Train each in both, print the table and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="of each, at least 2 (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    arguments = parser.parse_args()
    device = devices.resolve(arguments.device)
    rows, measured = [], {}
    for model, recipe in tqdm(TRAININGS):
        fp32, bf16 = (
            [accuracy(model, recipe, seed, precision, device) for seed in range(arguments.seeds)]
            for precision in ("fp32", "bf16")
        )
        differences = [other - one for one, other in zip(fp32, bf16, strict=True)]
        error = stdev(differences) / math.sqrt(len(differences))
        rows.append(
            {
                "model": model,
                "recipe": recipe,
                "fp32": f"{fmean(fp32):.2%} ± {stdev(fp32):.2%}",
                "bf16": f"{fmean(bf16):.2%} ± {stdev(bf16):.2%}",
                "bf16 less fp32, points": f"{100 * fmean(differences):+.3f}",
                "standard error": f"{100 * error:.3f}",
            }
        )
        measured[f"{model} {recipe}"] = {"fp32": fp32, "bf16": bf16}
    command = f"python -m benchmarks.bf16 --seeds {arguments.seeds}"
    keep("bf16" if device.type == "cpu" else f"bf16-{device.type}", command, device, rows, measured)


def accuracy(model: str, recipe: str, seed: int, precision: Literal["fp32", "bf16"], device: torch.device) -> float:
    """On the test split, 0 to 1, after the whole training."""
    params = load(ROOT / "params.yaml").model_copy(update={"model": model, "recipe": recipe, "seed": seed})
    train, _, test = (split.to(device) for split in splits(params, ROOT / "data" / "raw" / "mnist"))
    training = Training(params, train, len(train), seed, precision)
    for _ in range(params.recipe_block.epochs):
        training.epoch()
    return inference.measure(training.model, test, F.cross_entropy)[1]


if __name__ == "__main__":
    main()
