"""What the record in MLflow costs: the five stages with it and without it, side by side, stage by stage.

    python -m benchmarks.tracking [--pairs N]

Each pair is one seed, run by the stage scripts themselves on scikit-learn's digits in a clone of HEAD; which of the two
comes first alternates. Given are medians over the pairs, in seconds of wall clock and of processor time, and the median
of the pairs' ratios. The table goes to benchmarks/results/tracking.md as well.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.timing import RESULTS, processor

STAGES = ("download", "preprocess", "train", "evaluate", "plot")

Times = tuple[float, float]  # wall clock and processor, in seconds


def main() -> None:
    """Run the pairs, print the table and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7, help="seeds to run both ways (default: %(default)s)")
    pairs: int = parser.parse_args().pairs
    taken: dict[tuple[str, bool], list[Times]] = {(stage, on): [] for stage in STAGES for on in (False, True)}
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "mnistflow"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        template = (clone / "params.yaml").read_text(encoding="utf-8").replace("dataset: mnist", "dataset: digits")
        run([sys.executable, "stages/check.py"], clone)
        run_all(clone, template, seed=0, tracked=True)  # the store is made, files are in the system's cache
        for seed in tqdm(range(1, pairs + 1), unit="pair"):
            for tracked in (False, True) if seed % 2 else (True, False):
                for stage, times in run_all(clone, template, seed, tracked).items():
                    taken[stage, tracked].append(times)
    text = report(taken, pairs)
    (RESULTS / "tracking.md").write_text(text, encoding="utf-8")
    print(text)


def run_all(clone: Path, template: str, seed: int, tracked: bool) -> dict[str, Times]:
    """One result, from nothing but the raw files."""
    text = template.replace("\nseed: 0", f"\nseed: {seed}").replace("enabled: true", f"enabled: {str(tracked).lower()}")
    (clone / "params.yaml").write_text(text, encoding="utf-8")
    return {stage: run([sys.executable, f"stages/{stage}.py"], clone) for stage in STAGES}


def run(command: list[str], folder: Path) -> Times:
    """Run a command that must neither fail nor warn, and say how long it took."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_"))}
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    said = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    if process.returncode or "warning" in said:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    return wall, usage.ru_utime + usage.ru_stime


def report(taken: dict[tuple[str, bool], list[Times]], pairs: int) -> str:
    """The table, as Markdown."""
    lines = [
        f"`python -m benchmarks.tracking --pairs {pairs}`: medians of {pairs} pairs on {os.cpu_count()} cores of "
        f"{processor()}, Python {platform.python_version()}, SQLite store.",
        "",
        "| stage | s without | s with | ratio | processor s without | with |",
        "|---|---|---|---|---|---|",
    ]
    for on in (False, True):  # of each pair, all stages together
        taken["all five", on] = [
            (sum(wall for wall, _ in stages), sum(used for _, used in stages))
            for stages in zip(*(taken[stage, on] for stage in STAGES), strict=True)
        ]
    for stage in (*STAGES, "all five"):
        off, on_ = taken[stage, False], taken[stage, True]
        ratio = median(b[0] / a[0] for a, b in zip(off, on_, strict=True))
        wall = [median(times[0] for times in pair) for pair in (off, on_)]
        used = [median(times[1] for times in pair) for pair in (off, on_)]
        lines.append(f"| {stage} | {wall[0]:.2f} | {wall[1]:.2f} | {ratio:.2f} | {used[0]:.2f} | {used[1]:.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
