"""What one experiment costs, beside a plain script with the same arithmetic.

    python -m benchmarks.experiment [--rounds N]

In turns, in a clone of HEAD that has the original files: `dvc exp run --temp` of an MLP that trains for seconds (each
time with another seed, so that all stages run), and `benchmarks/bare.py`; seconds of each, and the ratio with its
quartiles. Then a study of a few such experiments, one after the other: seconds for each experiment, as a ratio too.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
import yaml

from benchmarks import ROOT
from benchmarks.overhead import RAW, run
from benchmarks.timing import alternated, keep, ratio, seconds_each, spread
from mnistflow.data import datasets

OVERRIDES: dict[str, object] = {
    "model": "mlp",
    "models.mlp.hidden": [256, 64],
    "recipe": "seed-003",
    "preprocess.validation_size": 0,
    "evaluate.robustness": False,
}


def main() -> None:
    """Measure, print the table and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    rounds: int = parser.parse_args().rounds
    datasets.build("mnist", {}).fetch(ROOT / RAW, timeout=60)
    with tempfile.TemporaryDirectory() as name:
        clone, seeds = Path(name, "mnistflow"), itertools.count(100)
        run(["git", "clone", "--quiet", str(ROOT), str(clone)], Path(name))
        shutil.copytree(ROOT / RAW, clone / RAW)
        run(["dvc", "repro", "download"], clone)
        taken = alternated(
            {"experiment": lambda: experiment(clone, seeds), "bare": lambda: bare(clone, Path(name, "out"))}, rounds
        )
        of_study = study(clone, rounds) / rounds
    found = ratio(taken["experiment"], taken["bare"])
    by_study = ratio([of_study] * rounds, taken["bare"])
    rows = [
        {"what": "`dvc exp run --temp`", "median": seconds_each(taken["experiment"])},
        {"what": f"a study of {rounds}, for each experiment", "median": f"{of_study:.1f} s"},
        {"what": "the same arithmetic as a plain script", "median": seconds_each(taken["bare"])},
        {"what": "ratio, one experiment", "median": spread(found)},
        {"what": "ratio, one of a study", "median": spread(by_study)},
    ]
    measured = {**taken, "study": of_study, "ratio": found, "ratio of study": by_study}
    keep("experiment", f"python -m benchmarks.experiment --rounds {rounds}", torch.device("cpu"), rows, measured)


def experiment(clone: Path, seeds: Iterator[int]) -> float:
    """Seconds of one experiment with a seed that has not been run."""
    sets = [part for key, value in {**OVERRIDES, "seed": next(seeds)}.items() for part in ("-S", f"{key}={value}")]
    return run(["dvc", "exp", "run", "--temp", *sets], clone)


def bare(clone: Path, out: Path) -> float:
    """Seconds of the plain script."""
    raw = clone / RAW / "MNIST" / "raw"
    return run([sys.executable, str(ROOT / "benchmarks" / "bare.py"), str(raw), str(out)], clone)


def study(clone: Path, experiments: int) -> float:
    """Seconds of a study of so many experiments."""
    block = {
        "title": "Overhead",
        "question": "What does each experiment cost?",
        "seeds": list(range(experiments)),
        "entries": {"mlp": {"set": OVERRIDES}},
    }
    (clone / "studies" / "overhead.yaml").write_text(yaml.safe_dump(block), encoding="utf-8")
    return run([sys.executable, "-m", "mnistflow", "study", "run", "overhead"], clone)


if __name__ == "__main__":
    main()
