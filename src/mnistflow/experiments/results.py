"""DVC experiments that have ended, read back from git."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from mnistflow import tracking
from mnistflow.config.paths import Paths
from mnistflow.core.documents import parse_document
from mnistflow.evaluation.scores import Scores
from mnistflow.pipeline import git
from mnistflow.pipeline.code import PACKAGE, rooms
from mnistflow.training.history import Summary

__all__ = ["Result", "changed_files", "commits_with_output", "committed_code", "completed", "origin"]

RESULT_STAGES = ("preprocess", "train", "evaluate")  # the stages that figures rest on


@dataclass(frozen=True)
class Result:
    """What an experiment came to, as git has it."""

    name: str
    commit: str
    chosen: dict[str, JsonValue]  # as Params.selected() returns it
    code: tuple[str, ...]  # as :func:`committed_code` returns it
    train: Summary
    test: Scores
    history: list[dict[str, str]]
    layers: list[dict[str, str]]
    weights: str  # MD5


def completed() -> list[Result]:
    """All experiments that came to their end, of whatever commit they started from; the newest first.

    Those that an older version made, whose files this one cannot read, are left out.

    Raises:
        ValueError: this is not a git repository.
    """
    named = git.experiments()
    paths = Paths.load()
    wanted = [
        Path("params.yaml"), Path("dvc.lock"), paths.train_metrics, paths.test_metrics, paths.history, paths.layers
    ]  # fmt: skip
    blobs = iter(git.contents([f"{commit}:./{path.as_posix()}" for commit, _ in named for path in wanted]))
    codes = _codes([commit for commit, _ in named])
    read_back = []
    for (commit, name), of_code in zip(named, codes, strict=True):
        files = [next(blobs) for _ in wanted]
        if None in files:
            continue
        document, lock, train, test, history, layers = cast("list[str]", files)
        content = tracking.parse_commit(document, lock, name)
        if content is None:
            continue
        loaded, weights = content
        try:
            trained = parse_document(json.loads(train), Summary, f"{name}:{paths.train_metrics}")
            scores = parse_document(json.loads(test), Scores, f"{name}:{paths.test_metrics}")
        except ValueError:  # of another version
            continue
        read_back.append(
            Result(
                name=name,
                commit=commit,
                chosen=loaded.selected(),
                code=of_code,
                train=trained,
                test=scores,
                history=list(csv.DictReader(io.StringIO(history))),
                layers=list(csv.DictReader(io.StringIO(layers))),
                weights=weights,
            )
        )
    return read_back


def origin(commit: str) -> tuple[str, bool]:
    """The commit that an experiment started from, and whether what decides a result was changed for it."""
    parent = git.run("rev-parse", f"{commit}^").strip()
    changed = git.run("diff", "--name-only", parent, commit, "--", "src", "stages", "dvc.yaml", "params.yaml")
    return parent, bool(changed.strip())


def commits_with_output(md5: str) -> list[str]:
    """Commits whose dvc.lock names a file by this MD5, the newest first."""
    commits = git.run("log", "--all", "--format=%H", "--", "dvc.lock").split()
    locks = git.contents([f"{commit}:./dvc.lock" for commit in commits])
    return [commit for commit, lock in zip(commits, locks, strict=True) if lock is not None and md5 in lock]


def committed_code() -> tuple[str, ...]:
    """The committed code that figures rest on, as git's digests: equal for equal code."""
    return _codes(["HEAD"])[0]


def changed_files(*places: str) -> list[str]:
    """What is not committed of these; by default what an experiment takes along: params, pipeline and code."""
    return git.changed_files(*(places or ("params.yaml", "dvc.yaml", "stages", "src")))


def _codes(commits: Sequence[str]) -> list[tuple[str, ...]]:
    root = Path.cwd()
    if not PACKAGE.is_relative_to(root):  # an environment that several checkouts share has the code of one of them
        raise ValueError(f"mnistflow is installed from {PACKAGE.parent}; install it from this folder: pip install -e .")
    scripts = [root / "stages" / f"{name}.py" for name in RESULT_STAGES]
    places = {*scripts, *(room for script in scripts for room in rooms(script))}
    names = [place.relative_to(root).as_posix() for place in sorted(places)]
    lines = git.run(
        "cat-file",
        "--batch-check=%(objectname)",
        text="".join(f"{commit}:./{name}\n" for commit in commits for name in names),
    ).splitlines()
    # Of a place that is not there git says which commit lacks it.
    digests = ["missing" if line.endswith(" missing") else line for line in lines]
    return [tuple(digests[i * len(names) : (i + 1) * len(names)]) for i in range(len(commits))]
