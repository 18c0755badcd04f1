"""Where a project may be, for the table in docs/reliability.md: what works there, and what says why it does not.

    python -m benchmarks.places [--only PLACE ...]

A clone of HEAD on scikit-learn's digits, one epoch, goes into a path with characters that addresses quote, is moved,
copied, put into a subfolder of a repository, and so on. In each place the pipeline runs again, an experiment in a
temporary copy, a store is filled from nothing, a study runs, the result is verified, and the experiment is restored. A
command that fails must say why in one line; a traceback ends everything. The table goes into docs/reliability.md.
Takes 15 minutes on two cores that have nothing else to do.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import ROOT

sys.path.insert(0, str(ROOT / "tests"))

from conftest import Checkout
from tqdm import tqdm

from benchmarks.faults import replace

STUDY = """\
title: Places
question: Does a study run here?
seeds: [0]
entries:
  a:
    set: {evaluate.batch_size: 50}
"""
MNISTFLOW = (sys.executable, "-m", "mnistflow")
COMMANDS = {
    "`dvc repro`": ("dvc", "repro", "--force", "--downstream", "evaluate"),
    "`dvc exp run --temp`": ("dvc", "exp", "run", "--temp", "--name", "temp", "-S", "evaluate.batch_size=100"),
    "`track --all`": (*MNISTFLOW, "track", "--all"),
    "`study run`": (*MNISTFLOW, "study", "run", "places"),
    "`verify`": (*MNISTFLOW, "verify"),
    "`restore`": (*MNISTFLOW, "restore", "temp"),
}


def main() -> None:
    """Try every place, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=tuple(PLACES), metavar="PLACE", help=f"of {', '.join(PLACES)}")
    arguments = parser.parse_args()
    lines = [f"| where the project is | {' | '.join(COMMANDS)} |", "|---" * (1 + len(COMMANDS)) + "|"]
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        source = prepared(Path(name, "source"))
        for place in tqdm(arguments.only or list(PLACES), desc="places", unit="place"):
            folder = Path(name, str(len(lines)))
            folder.mkdir()
            outcomes = tried(PLACES[place](source, folder))
            for number, outcome in enumerate(outcomes):
                if outcome != "works":
                    if outcome not in notes:
                        notes.append(outcome)
                    outcomes[number] = f"says why ({notes.index(outcome) + 1})"
            lines.append(f"| {place} | {' | '.join(outcomes)} |")
            shutil.rmtree(folder)
            reasons = [f"{number}. `{note}`" for number, note in enumerate(notes, start=1)]
            if not arguments.only:  # as it is so far, because the next one may end it
                replace("places", [*lines, "", *reasons])
    print("\n".join([*lines, "", *reasons]))


def prepared(folder: Path) -> Checkout:
    """A clone in which the pipeline has run on digits, and its result is committed."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    checkout = Checkout(folder)
    for old, new in (("dataset: mnist", "dataset: digits"), ("epochs: 6", "epochs: 1"), ("dpi: 110", "dpi: 50")):
        checkout.replace("params.yaml", old, new)
    (folder / "studies" / "places.yaml").write_text(STUDY, encoding="utf-8")
    checkout.dvc("repro")
    checkout.git("add", "--all")
    checkout.git("commit", "--quiet", "--message", "result")
    return checkout


def tried(checkout: Checkout) -> list[str]:
    """What became of each command: ``works``, or the line that says why it did not.

    Raises:
        AssertionError: one ended with a traceback or without a line, or left something out.
    """
    outcomes: list[str] = []
    for name, command in COMMANDS.items():
        if name == "`track --all`":
            for left in checkout.folder.glob("mlflow.db*"):
                left.unlink()
            shutil.rmtree(checkout.folder / "mlruns", ignore_errors=True)
        status, output = run(checkout, command)
        assert "Traceback" not in output, output
        assert "tracking: warning" not in output, output
        if status == 0:
            if name == "`track --all`" and outcomes[1] == "works":
                assert "temp: run " in output, output
            outcomes.append("works")
        else:
            why = reason(output).replace(str(checkout.folder.resolve()), "PROJECT").replace("|", "/").strip()
            outcomes.append(re.sub(rf"({tempfile.gettempdir()}/)?\btmp\w{{8}}\b", "…", why))
    return outcomes


def reason(output: str) -> str:
    """The line of a command's output that says why it failed."""
    lines = output.splitlines()
    if failed := [line for line in lines if " FAILED" in line]:  # an experiment of a study, or of a store
        return failed[0].strip()[:300]
    told = [line for line in lines if line.startswith("check: ")]
    told += [line for line in reversed(lines) if line.startswith(("ERROR: ", "mnistflow: "))]
    return told[0][:300]


def run(checkout: Checkout, command: Sequence[str]) -> tuple[int, str]:
    """The exit status of a command, and what it printed."""
    done = subprocess.run(
        command,
        cwd=checkout.folder,
        env={**checkout.environment, "PYTHONPATH": "src"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout


# ---------------------------------------------------------------------------------------------------------------------
# Places


def with_cache(source: Checkout, checkout: Checkout) -> Checkout:
    """Bring DVC's cache and the files that it holds, as `dvc pull` would."""
    if not (checkout.folder / ".dvc" / "cache").exists():
        shutil.copytree(source.folder / ".dvc" / "cache", checkout.folder / ".dvc" / "cache")
    checkout.dvc("checkout")
    return checkout


def odd_path(source: Checkout, folder: Path) -> Checkout:
    """In a folder whose name has to be quoted in addresses."""
    return source.copy(folder / "é #%20 ?&")


def moved(source: Checkout, folder: Path) -> Checkout:
    """Used in one folder, then moved to another."""
    shutil.copytree(source.folder, folder / "one", symlinks=True)
    first = Checkout(folder / "one")
    run(first, (*MNISTFLOW, "run"))  # the store is this folder's now
    return Checkout(first.folder.rename(folder / "two"))


def copied(source: Checkout, folder: Path) -> Checkout:
    """Copied with everything that is in it."""
    shutil.copytree(source.folder, folder / "copy", symlinks=True)
    return Checkout(folder / "copy")


def subfolder(source: Checkout, folder: Path) -> Checkout:
    """A part of a larger repository."""
    project = clone(source, folder / "monorepo" / "project")
    shutil.rmtree(project.folder / ".git")
    top = Checkout(folder / "monorepo")
    top.git("init", "--quiet")
    top.git("add", "--all")
    top.git("commit", "--quiet", "--message", "all projects")
    return with_cache(source, project)


def submodule(source: Checkout, folder: Path) -> Checkout:
    """A submodule of another repository."""
    top = Checkout(folder / "super")
    top.folder.mkdir()
    top.git("init", "--quiet")
    uri = source.folder.as_uri()
    top.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", uri, "project")
    return with_cache(source, Checkout(top.folder / "project"))


def worktree(source: Checkout, folder: Path) -> Checkout:
    """A second worktree of a clone."""
    clone(source, folder / "main").git("worktree", "add", "--quiet", str(folder / "linked"), "-b", "other")
    return with_cache(source, Checkout(folder / "linked"))


def shallow(source: Checkout, folder: Path) -> Checkout:
    """A clone of one commit."""
    return with_cache(source, clone(source, folder / "shallow", "--depth", "1"))


def unshallowed(source: Checkout, folder: Path) -> Checkout:
    """A clone of one commit, to which the others were brought."""
    checkout = shallow(source, folder)
    checkout.git("fetch", "--quiet", "--unshallow")
    return checkout


def detached(source: Checkout, folder: Path) -> Checkout:
    """A clone with a commit checked out, not a branch."""
    checkout = clone(source, folder / "detached")
    checkout.git("checkout", "--quiet", "--detach", "HEAD")
    return with_cache(source, checkout)


def no_identity(source: Checkout, folder: Path) -> Checkout:
    """A clone whose user git does not know."""
    checkout = with_cache(source, clone(source, folder / "nobody"))
    checkout.git("config", "user.useConfigOnly", "true")
    for name in [name for name in checkout.environment if name.startswith("GIT_")]:
        del checkout.environment[name]
    checkout.environment |= {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    return checkout


def no_git(source: Checkout, folder: Path) -> Checkout:
    """The files alone, without a repository."""
    checkout = copied(source, folder)
    shutil.rmtree(checkout.folder / ".git")
    return checkout


def no_scm(source: Checkout, folder: Path) -> Checkout:
    """The files alone, and DVC told so."""
    checkout = no_git(source, folder)
    checkout.dvc("config", "core.no_scm", "true")
    return checkout


def clone(source: Checkout, folder: Path, *options: str) -> Checkout:
    """A clone of what is committed."""
    source.git("clone", "--quiet", *options, source.folder.as_uri(), str(folder))
    return Checkout(folder)


PLACES: dict[str, Callable[[Checkout, Path], Checkout]] = {
    "a path with é # % space ? &": odd_path,
    "moved": moved,
    "copied": copied,
    "in a subfolder of a repository": subfolder,
    "a submodule": submodule,
    "a linked worktree": worktree,
    "a shallow clone": shallow,
    "the same, after `git fetch --unshallow`": unshallowed,
    "on no branch": detached,
    "without a git identity": no_identity,
    "from `git archive`": no_git,
    "the same, after `dvc config core.no_scm true`": no_scm,
}


if __name__ == "__main__":
    main()
