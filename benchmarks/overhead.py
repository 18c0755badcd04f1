"""What the pipeline costs besides its arithmetic: `dvc repro` from nothing, and `dvc repro` with nothing to do.

    python -m benchmarks.overhead [--rounds N]

In a clone of HEAD, on MNIST with one epoch of the default recipe. From nothing: seconds of the whole command, of the
arithmetic in it (training and evaluation, by their own clocks) and of the rest: starts, imports, reading and writing,
MLflow, figures, DVC. With nothing to do: in turns with an empty pipeline of five trivial stages, and the ratio of the
two, with quartiles.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

import torch
import yaml

from benchmarks import ROOT
from benchmarks.timing import alternated, keep, ratio, spread
from mnistflow.data import datasets

RAW = Path("data", "raw", "mnist")
RESULTS = ("data/processed", "data/raw", "models", "metrics", "mlflow.db", "mlruns", ".mnistflow", ".dvc/cache")
TRIVIAL = {
    "stages": {
        f"stage{number}": {
            "cmd": f"{Path(sys.executable).name} -c \"open('{number}.txt', 'w').write('{number}')\"",
            "deps": [f"{number - 1}.txt"],
            "outs": [f"{number}.txt"],
        }
        for number in range(1, 6)
    }
}


def main() -> None:
    """Measure both, print the table and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="of each (default: %(default)s)")
    rounds: int = parser.parse_args().rounds
    datasets.build("mnist", {}).fetch(ROOT / RAW, timeout=60)
    with tempfile.TemporaryDirectory() as name:
        clone, empty = Path(name, "mnistflow"), Path(name, "empty")
        run(["git", "clone", "--quiet", str(ROOT), str(clone)], Path(name))
        template = (clone / "params.yaml").read_text(encoding="utf-8")
        (clone / "params.yaml").write_text(template.replace("epochs: 6", "epochs: 1", 1), encoding="utf-8")
        cold = [from_nothing(clone) for _ in range(rounds)]
        trivial(empty)
        again = alternated({"ours": partial(repro, clone), "empty": partial(repro, empty)}, rounds)
    found = ratio(again["ours"], again["empty"])
    whole, arithmetic = (median(times[index] for times in cold) for index in (0, 1))
    rows = [
        {"what": "`dvc repro` from nothing, s", "median": f"{whole:.1f}"},
        {"what": "of which training and evaluation", "median": f"{arithmetic:.1f}"},
        {"what": "the rest", "median": f"{median(each[0] - each[1] for each in cold):.1f}"},
        {"what": "`dvc repro` with nothing to do, s", "median": f"{median(again['ours']):.2f}"},
        {"what": "the same of five trivial stages", "median": f"{median(again['empty']):.2f}"},
        {"what": "ratio of the two", "median": spread(found)},
    ]
    keep(
        "overhead",
        f"python -m benchmarks.overhead --rounds {rounds}",
        torch.device("cpu"),
        rows,
        {"cold": cold, "again": again, "ratio": found},
    )


def from_nothing(clone: Path) -> tuple[float, float]:
    """Seconds of `dvc repro`, and of the arithmetic in it."""
    for name in RESULTS:
        place = clone / name
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    shutil.copytree(ROOT / RAW, clone / RAW)  # the network is no cost of ours
    whole = repro(clone, "--no-run-cache")
    log = (clone / ".mnistflow" / "durations.jsonl").read_text(encoding="utf-8")
    noted = [json.loads(line) for line in log.splitlines()]
    return whole, sum(item["seconds"] for item in noted if "epoch_seconds" in item) + sum(
        durations["evaluate_seconds"] for durations in noted if "evaluate_seconds" in durations
    )


def trivial(folder: Path) -> None:
    """A repository with a pipeline of five stages that do next to nothing, run once."""
    folder.mkdir()
    (folder / "dvc.yaml").write_text(yaml.safe_dump(TRIVIAL), encoding="utf-8")
    (folder / "0.txt").write_text("0", encoding="utf-8")
    for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"]):
        run(command, folder)
    repro(folder)


def repro(folder: Path, *options: str) -> float:
    """Seconds of `dvc repro`."""
    return run(["dvc", "repro", *options], folder)


def run(command: list[str], folder: Path) -> float:
    """Run a command that must not fail; returns seconds."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_"))}
    environment["PYTHONPATH"] = str(folder / "src")  # a clone runs its own code
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return taken


if __name__ == "__main__":
    main()
