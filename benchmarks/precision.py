"""Where bfloat16 is worth it: steps in float32 and in bfloat16, in one process, in turns.

    python -m benchmarks.precision [--rounds N] [--seconds S] [--device cuda]

By recipe default with one model and batch size after the other. Given are the times of a step, the median over rounds
of how many times faster bfloat16 is, with quartiles, and what `precision: auto` takes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.ours import Training, mnist
from benchmarks.timing import alternated, keep, ratio, seconds_each, spread
from mnistflow.config.params import Params, load
from mnistflow.core import devices
from mnistflow.core.tensors import Split

MODELS = ("mlp", "lenet5", "small-cnn", "compact")
BATCHES = (32, 128, 512)


def main() -> None:
    """Measure each, print the table and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.5, help="about so long a turn (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    arguments = parser.parse_args()
    device = devices.resolve(arguments.device)
    params = load(ROOT / "params.yaml")
    split = mnist(params, ROOT / "data" / "raw" / "mnist").to(device)
    rows, measured = [], {}
    for model, batch in tqdm([(model, batch) for model in MODELS for batch in BATCHES]):
        recipe = params.recipe_block.model_copy(update={"batch_size": batch})
        chosen = params.model_copy(update={"model": model, "recipes": {**params.recipes, params.recipe: recipe}})
        taken = one(chosen, split, arguments.rounds, arguments.seconds)
        found = ratio(taken["fp32"], taken["bf16"])
        rows.append(
            {
                "model": model,
                "batch": str(batch),
                "fp32, a step": seconds_each(taken["fp32"]),
                "bf16, a step": seconds_each(taken["bf16"]),
                "bf16 is faster by": spread(found),
                "auto": Training(chosen, split, batch, precision="auto").assembled.precision,
            }
        )
        measured[f"{model}-{batch}"] = {**taken, "ratio": found}
    command = f"python -m benchmarks.precision --rounds {arguments.rounds} --seconds {arguments.seconds}"
    keep("precision" if device.type == "cpu" else f"precision-{device.type}", command, device, rows, measured)


def one(params: Params, split: Split, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Seconds a step of both, turn by turn."""
    batch = params.recipe_block.batch_size
    trial = Training(params, split, 10 * batch, precision="fp32")
    trial.epoch()
    images = min(len(split), max(10, int(seconds / (trial.epoch() / 10))) * batch)

    def contender(it: Training) -> Callable[[], float]:
        return lambda: it.epoch() / it.steps

    both = {"fp32": Training(params, split, images, precision="fp32")}
    both["bf16"] = Training(params, split, images, precision="bf16")
    return alternated({name: contender(it) for name, it in both.items()}, rounds)


if __name__ == "__main__":
    main()
