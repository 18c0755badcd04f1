"""Verification: rerun the pipeline in a clone and compare its outputs byte for byte."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mnistflow.checks.problems import start_weights
from mnistflow.config.params import load
from mnistflow.config.paths import Paths
from mnistflow.data.datasets.dataset import named_folder
from mnistflow.experiments import results
from mnistflow.pipeline import git
from mnistflow.pipeline.lockfile import Entry, Lock

__all__ = ["Compared", "compare", "verify"]

CODE = ("src/", "stages/")  # where the dependencies that are code are


@dataclass(frozen=True)
class Compared:
    """An output of a stage in two lock files."""

    stage: str
    path: str
    one: str | None  # MD5; None: that file does not know it
    other: str | None
    from_the_same: bool  # whether the data that the stage read is the same

    @property
    def is_same(self) -> bool:
        """Whether both are the same bytes."""
        return self.one == self.other


def verify() -> list[Compared]:
    """Run the pipeline of the commit that is checked out, from nothing, in a clone in a temporary folder.

    Nothing is restored from DVC's cache, and nothing is recorded in MLflow. Original files that are here already are
    brought along, and verified there. What the stages print is printed.

    Returns:
        Every output but check's marker, as the commit's dvc.lock has it and as it came out, in the order of the stages.

    Raises:
        ValueError: what is here differs from the commit, or its dvc.lock is not that of its code, or a stage failed.
    """
    decisive = ("params.yaml", "dvc.yaml", "dvc.lock", "stages", "src")
    if changed := results.changed_files(*decisive):
        raise ValueError(
            f"uncommitted changes in {', '.join(changed)}, but the commit is verified. Commit or undo them: "
            f"git checkout {' '.join(changed)}"
        )
    params = load()
    raw = Paths.load().raw / params.dataset
    # The clone is somewhere else: what the user brings by a relative path is named by its absolute one.
    sets: dict[str, object] = {"tracking.enabled": False}
    if path := params.dataset_arguments.get("path"):
        sets[f"datasets.{params.dataset}.path"] = str(named_folder(str(path)))
    if weights := start_weights(params):
        sets["train.init_from"] = str(weights)
    with tempfile.TemporaryDirectory(prefix="mnistflow-") as name:
        clone = Path(name, "clone")
        # The project may be in a subfolder of its repository, in a linked worktree, or on no branch.
        top, prefix = (git.run("rev-parse", what).rstrip("\n") for what in ("--show-toplevel", "--show-prefix"))
        git.run("clone", "--quiet", "--no-checkout", top, str(clone))
        git.run("checkout", "--quiet", "--detach", git.run("rev-parse", "HEAD").strip(), folder=clone)
        clone /= prefix
        if raw.is_dir():
            shutil.copytree(raw, clone / raw)
        command = [sys.executable, "-m", "dvc", "exp", "run", "--name", "verify"]
        command += [part for key, value in sets.items() for part in ("-S", f"{key}={json.dumps(value)}")]
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        if subprocess.run(command, cwd=clone, env=environment, stdin=subprocess.DEVNULL, check=False).returncode != 0:
            raise ValueError("the pipeline failed in the clone; the reason is printed above")
        return compare(Path("dvc.lock"), clone / "dvc.lock")


def compare(one: Path, other: Path) -> list[Compared]:
    """Hold the outputs in two lock files against one another, check's marker apart.

    Raises:
        ValueError: a file is missing or no lock file, or they are those of different code.
    """
    compared = []
    first, second = Lock.read(one), Lock.read(other)
    if not first.stages:
        raise ValueError(f"{one} has no stages; run `dvc repro` and commit its result")
    for name, stage in first.stages.items():
        if name == "check":  # its marker says the same everywhere
            continue
        again = second.stage(name)
        deps, other_deps = _md5s(stage.deps), _md5s(again.deps)
        code = [path for path in deps if path.startswith(CODE) and deps[path] != other_deps.get(path)]
        if code:
            raise ValueError(f"{one} does not match the committed code ({code[0]}); run `dvc repro`, commit the result")
        same = all(md5 == other_deps.get(path) for path, md5 in deps.items() if not path.startswith(CODE))
        outs, other_outs = _md5s(stage.outs), _md5s(again.outs)
        compared += [
            Compared(name, path, outs.get(path), other_outs.get(path), from_the_same=same)
            for path in sorted({*outs, *other_outs})
        ]
    return compared


def _md5s(entries: Sequence[Entry]) -> dict[str, str | None]:
    return {entry.path: entry.md5 for entry in entries}
