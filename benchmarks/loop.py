"""What our training loop adds to its arithmetic: an epoch of it against a bare loop, in one process, in turns.

    python -m benchmarks.loop [NAME...] [--rounds N] [--seconds S] [--device cuda]

The bare loop has the same network, batches, order, optimizer, augmentation, precision, layout and threads, everything
in memory, and nothing besides: no progress, no loss kept, no checkpoint, no signal looked at. Given are the times of a
step and the median over rounds of the ratio of the two, with quartiles: 1.00 is the floor on a CPU. On a GPU it can be
below: the bare loop launches the parts of a step one by one, ours launches a CUDA graph.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.ours import Training, mnist, params_of
from benchmarks.timing import alternated, keep, ratio, seconds_each, spread
from mnistflow.core import devices
from mnistflow.training.loop import MAX_BATCH_WITHOUT_ONEDNN

NAMES = ("seed-000", "seed-001", "seed-001-cnn", "seed-002", "seed-003", "seed-004", "default")


def main() -> None:
    """Measure each, print the table and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="about so long a turn (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    arguments = parser.parse_args()
    device = devices.resolve(arguments.device)
    rows, measured = [], {}
    for name in tqdm(arguments.names or NAMES):
        taken = one(name, arguments.rounds, arguments.seconds, device)
        found = ratio(taken["ours"], taken["bare"])
        rows.append(
            {
                "training": name,
                "bare, a step": seconds_each(taken["bare"]),
                "ours, a step": seconds_each(taken["ours"]),
                "ratio": spread(found),
            }
        )
        measured[name] = {**taken, "ratio": found}
    command = f"python -m benchmarks.loop --rounds {arguments.rounds} --seconds {arguments.seconds}"
    keep("loop" if device.type == "cpu" else f"loop-{device.type}", command, device, rows, measured)


def one(name: str, rounds: int, seconds: float, device: torch.device) -> dict[str, list[float]]:
    """Seconds a step of both, turn by turn."""
    params = params_of(name)
    split = mnist(params, ROOT / "data" / "raw" / "mnist").to(device)
    batch = params.recipe_block.batch_size
    trial = Training(params, split, 40 * batch)
    trial.epoch()
    images = min(len(split), max(40, int(seconds / (trial.epoch() / 40))) * batch)
    ours, other = Training(params, split, images), Training(params, split, images)

    def each(run: Callable[[], float]) -> float:
        return run() / ours.steps

    return alternated({"bare": partial(each, partial(bare, other)), "ours": partial(each, ours.epoch)}, rounds)


def bare(it: Training) -> float:
    """The arithmetic of an epoch; returns its seconds."""
    model, optimizer, schedule = it.model, it.state.optimizer, it.state.schedule
    loss, augment = it.assembled.options["loss"], it.assembled.options["augment"]
    images, labels, batch = it.train.images, it.train.labels, it.recipe.batch_size
    layout, small = it.state.layout, batch <= MAX_BATCH_WITHOUT_ONEDNN
    generator, bf16 = it.state.generator, it.assembled.precision == "bf16"
    model.train()
    if small:
        torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    started = time.perf_counter()
    order = torch.randperm(len(labels), generator=generator) if it.recipe.shuffle else torch.arange(len(labels))
    for chosen in order.to(images.device).split(batch):
        x, y = images[chosen], labels[chosen]
        if augment is not None:
            x = augment(x, generator)
        x = x.contiguous(memory_format=layout)
        if bf16:
            with torch.autocast(images.device.type, torch.bfloat16):
                logits = model(x)
        else:
            logits = model(x)
        value = loss(logits.float(), y)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)
    taken = time.perf_counter() - started
    torch.backends.mkldnn.enabled = True  # type: ignore[assignment]
    return taken


if __name__ == "__main__":
    main()
