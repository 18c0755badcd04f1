"""Queries to git; a failure is a ValueError with one line that says what to do."""

from __future__ import annotations

import io
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = [
    "changed_files",
    "check_copies_are_supported",
    "commit",
    "contents",
    "experiments",
    "main_worktree",
    "run",
]


def run(*arguments: str, text: str = "", folder: Path | None = None) -> str:
    """Run a git command and return what it printed.

    Args:
        arguments: of git. Paths are relative to the folder; in ``commit:./path`` as well, with the dot, because git
            takes ``commit:path`` from the top of the repository, and the project may be in a subfolder of it.
        text: for its standard input.
        folder: to run it in; None: the current one.

    Raises:
        ValueError: git failed, or is not installed; one line that says why and what to do.
    """
    try:
        done = subprocess.run(["git", *arguments], input=text.encode(), capture_output=True, check=False, cwd=folder)
    except FileNotFoundError as error:
        raise ValueError("git is not installed, or not on PATH; install it, and run this again") from error
    if done.returncode != 0:
        raise ValueError(_failure(arguments[0], done.stderr.decode(errors="replace"), folder or Path.cwd()))
    return done.stdout.decode(errors="surrogateescape")


def commit() -> str | None:
    """The commit that is checked out; None outside of git.

    ``-dirty`` stands behind it if what decides a result differs from it; results themselves, which DVC deletes before
    it makes them anew, do not count.
    """
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, env=environment)
        changed = subprocess.run(
            ["git", "diff", "--quiet", "HEAD", "--", "src", "stages", "dvc.yaml", "params.yaml"],
            capture_output=True,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("-dirty" if changed.returncode else "")


def contents(names: Sequence[str]) -> list[str | None]:
    """The texts of files named as ``commit:./path``; None for those that do not exist.

    Raises:
        ValueError: git failed.
    """
    if not names:  # then there need not be a repository
        return []
    data = io.BytesIO(
        run("cat-file", "--batch", text="".join(f"{name}\n" for name in names)).encode(errors="surrogateescape")
    )
    blobs: list[str | None] = []
    for _ in names:
        header = data.readline().decode().split()
        if header[-1] == "missing":
            blobs.append(None)
        else:
            blobs.append(data.read(int(header[-1])).decode())
            data.readline()
    return blobs


def experiments() -> list[tuple[str, str]]:
    """The commit and the name of every DVC experiment, of whatever commit it started from; the newest first.

    Raises:
        ValueError: git failed.
    """
    listing = run("for-each-ref", "--sort=-committerdate", "--format=%(objectname) %(refname)", "refs/exps")
    refs = [line.split(" ", 1) for line in listing.splitlines()]
    # refs/exps/<first two digits of the baseline>/<the others>/<name>; DVC's own bookkeeping has other depths
    return [(commit, ref.split("/")[4]) for commit, ref in refs if ref.count("/") == 4]


def changed_files(*places: str) -> list[str]:
    """What is not committed of these files and folders, relative to the current folder.

    Raises:
        ValueError: git failed.
    """
    top = run("rev-parse", "--show-prefix").rstrip("\n")  # of the repository, where git's answer starts
    entries = run("status", "--porcelain", "--no-renames", "-z", "--", *places).split("\0")
    return [entry[3:].removeprefix(top) for entry in entries if entry]


def main_worktree() -> Path | None:
    """The project's folder in the main worktree, where this one is a linked worktree; None where it is not.

    Raises:
        ValueError: git failed.
    """
    own, common = (Path(run("rev-parse", which).rstrip("\n")).resolve() for which in ("--git-dir", "--git-common-dir"))
    if own == common:
        return None
    return common.parent / run("rev-parse", "--show-prefix").rstrip("\n")


def check_copies_are_supported(project: Path) -> None:
    """Refuse to run experiments in temporary copies of a project from which DVC could not bring them back.

    Raises:
        ValueError: it could not; says why and what to do.
    """
    if "#" in str(project):
        raise ValueError(
            f"the path {project} contains a #, where DVC cuts it off when it copies the project for an experiment "
            "(--temp, --queue, `mnistflow study run`); move the project"
        )
    if run("rev-parse", "--is-shallow-repository", folder=project).strip() == "true":
        raise ValueError(
            "this is a shallow clone, in which DVC loses the experiments that it runs in a copy (--temp, --queue, "
            "`mnistflow study run`); fetch the whole history first: git fetch --unshallow"
        )


def _failure(command: str, stderr: str, folder: Path) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines[:1]
    first = errors[0].removeprefix("fatal: ").removeprefix("error: ") if errors else "failed without a message"
    if "not a git repository" in first:
        return (
            f"git {command}: {folder} is not in a git repository, where experiments are stored; create one: "
            "git init && git add --all && git commit -m start (for `dvc repro` alone, this is enough: "
            "dvc config core.no_scm true)"
        )
    if lock := re.search(r"'(.*\.lock)': File exists", first):
        return (
            f"git {command}: another git command is running here and holds {lock[1]}; wait for it to finish. "
            f"If none is running: rm '{lock[1]}'"
        )
    if remedy := next((line for line in lines if line.startswith("git config --global --add safe.directory")), None):
        return f"git {command}: {first}; if you trust it: {remedy}"
    if re.search(r"(bad revision|ambiguous argument|Not a valid object name) '?HEAD", first):
        return f"git {command}: there is no commit here yet; create one: git add --all && git commit -m start"
    return f"git {command}: {first}"
