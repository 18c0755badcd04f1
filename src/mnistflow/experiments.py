"""DVC experiments of this repository: running many, and reading back what those that ended have left in git."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pydantic import JsonValue

from mnistflow import git, tracking
from mnistflow.files import parse_yaml, project_root
from mnistflow.params import Params, load
from mnistflow.paths import Paths
from mnistflow.provenance import PACKAGE, closure
from mnistflow.stage import STUDY

if TYPE_CHECKING:  # DVC takes a second to import
    from dvc.repo import Repo

__all__ = [
    "Ended",
    "Planned",
    "Result",
    "cached",
    "changed_files",
    "code",
    "files",
    "holders",
    "origin",
    "override",
    "refuse_climbing",
    "results",
    "run",
]

DECISIVE = ("preprocess", "train", "evaluate")  # the stages that figures rest on
# What they import, but their figures do not rest on: what shows and records, what reads params, which are compared,
# what keeps a training that is interrupted, which comes to the same as one that is not, and what names the sources of
# published files, which are verified wherever they come from.
BESIDE = [
    "checkpoints.py",
    "durations.py",
    "exporting.py",
    "git.py",
    "params.py",
    "paths.py",
    "progress.py",
    "serving.py",
    "stage.py",
    "tracking",
    "datasets/mnist.py",
    "datasets/fashion_mnist.py",
    "datasets/kmnist.py",
]


@dataclass(frozen=True)
class Result:
    """What an experiment came to, as git has it."""

    name: str
    commit: str
    chosen: dict[str, JsonValue]  # as Params.chosen has it
    code: tuple[str, ...]  # as :func:`code` has it
    train: dict[str, JsonValue]
    test: dict[str, JsonValue]
    history: list[dict[str, str]]
    layers: list[dict[str, str]]
    weights: str  # MD5


@dataclass(frozen=True)
class Planned:
    """An experiment to run."""

    name: str
    overrides: tuple[str, ...]  # as `dvc exp run -S` takes them


@dataclass(frozen=True)
class Ended:
    """An experiment that has been run."""

    planned: Planned
    status: int  # 0: it came to its end
    seconds: float
    log: Path

    @property
    def reason(self) -> str:
        """Why it failed, in one line: what the stage said, else what DVC did, else the last thing that was printed."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        if failed := re.search(r"^ERROR: failed to reproduce '(\w+)'", text, re.MULTILINE):
            said = text[: failed.start()].rpartition(f"\n{failed[1]}: ")
            if said[0]:
                return " ".join(f"{failed[1]}: {said[2]}".split())
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR: ")]
        return next(reversed(errors or lines), "it printed nothing")


# ---------------------------------------------------------------------------------------------------------------------
# What git has


def results() -> list[Result]:
    """All experiments that came to their end, of whatever commit they started from; the newest first.

    Those that an older version made, whose files this one cannot read, are left out.

    Raises:
        ValueError: this is no git repository.
    """
    named = git.experiments()
    paths = Paths.load()
    wanted = [
        Path("params.yaml"), Path("dvc.lock"), paths.train_metrics, paths.test_metrics, paths.history, paths.layers
    ]  # fmt: skip
    blobs = iter(git.contents([f"{commit}:./{path.as_posix()}" for commit, _ in named for path in wanted]))
    codes = _codes([commit for commit, _ in named])
    found = []
    for (commit, name), of_code in zip(named, codes, strict=True):
        files = [next(blobs) for _ in wanted]
        if None in files:
            continue
        document, lock, train, test, history, layers = cast("list[str]", files)
        content = tracking.content(document, lock, name)
        if content is None:
            continue
        loaded, weights = content
        found.append(
            Result(
                name=name,
                commit=commit,
                chosen=loaded.chosen(),
                code=of_code,
                train=json.loads(train),
                test=json.loads(test),
                history=list(csv.DictReader(io.StringIO(history))),
                layers=list(csv.DictReader(io.StringIO(layers))),
                weights=weights,
            )
        )
    return found


@contextlib.contextmanager
def files(commit: str) -> Iterator[tuple[Params, Paths]]:
    """The params of a result and its files, in a folder that is there for as long as the block.

    Brought are those that say what it came to: weights, metrics, predictions and figures; robustness only where it was
    measured, which results did not always. The other paths are those of the workspace.

    Args:
        commit: of an experiment, or another one whose files are in DVC's cache.

    Raises:
        ValueError: the commit has no such files, or DVC's cache has not.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.repo.brancher import switch

    paths = Paths.load()
    wanted = [
        "data_metrics", "weights", "train_metrics", "history", "test_metrics", "predictions", "robustness", "figures"
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="mnistflow-") as name:
        folder = Path(name)
        try:
            # Repo(…, rev=commit) looks for the project at the top of the git repository alone.
            with Repo(str(Path.cwd())) as repo, switch(repo, commit):
                _refuse_climbing(repo, commit)
                for path in (Path("params.yaml"), *(getattr(paths, each) for each in wanted)):
                    if path != paths.robustness or repo.dvcfs.exists(path.as_posix()):
                        repo.dvcfs.get(path.as_posix(), str(folder / path), recursive=True)
        except (DvcException, OSError) as error:
            raise ValueError(f"DVC's cache has not all files of {commit[:10]}: {error}{_cache_hint()}") from error
        brought = {each: folder / getattr(paths, each) for each in wanted}
        for each, place in brought.items():
            if each != "robustness" and not place.exists():
                raise ValueError(
                    f"DVC's cache has not all files of {commit[:10]}: no {getattr(paths, each)}{_cache_hint()}"
                )
        yield load(folder / "params.yaml"), replace(paths, **brought)


def refuse_climbing(commit: str) -> None:
    """Refuse a result whose files would be brought to places outside of the project, as DVC would bring them.

    Raises:
        ValueError: a path in its dvc.lock, or in a folder that this names, is absolute or climbs; or either is damaged.
    """
    from dvc.repo import Repo

    with Repo(str(Path.cwd())) as repo:
        _refuse_climbing(repo, commit)


def _refuse_climbing(repo: Repo, commit: str) -> None:
    (text,) = git.contents([f"{commit}:./dvc.lock"])
    for entry in _entries(parse_yaml(text, "dvc.lock") if text is not None else None):
        inside, md5 = [entry["path"]], str(entry.get("md5", ""))
        manifest = Path(repo.cache.local.oid_to_path(md5))
        if md5.endswith(".dir") and manifest.is_file():
            inside += [each["relpath"] for each in json.loads(manifest.read_text(encoding="utf-8"))]
        for path in map(str, inside):
            if Path(path).is_absolute() or ".." in Path(path).parts:
                raise ValueError(f"{commit[:10]} would write outside of this project, to {path!r}; not brought")


def _entries(document: JsonValue) -> Iterator[dict[str, JsonValue]]:
    """Whatever in a dvc.lock has a path."""
    if isinstance(document, dict):
        if "path" in document:
            yield document
        document = list(document.values())
    if isinstance(document, list):
        for each in document:
            yield from _entries(each)


def _cache_hint() -> str:
    """Where the missing files may be: worktrees share their experiments, but not DVC's cache."""
    main = git.main_worktree()
    if main is None:
        return ""
    return f"; a linked worktree has a cache of its own: dvc config --local cache.dir '{main / '.dvc' / 'cache'}'"


def cached(md5: str) -> Path:
    """The file of this MD5 in DVC's cache.

    Raises:
        ValueError: it is not there.
    """
    from dvc.repo import Repo

    with Repo(str(Path.cwd())) as repo:
        path = Path(repo.cache.local.oid_to_path(md5))
    if not path.is_file():
        raise ValueError(f"DVC's cache has no file of MD5 {md5}; `dvc fetch` brings what a remote has")
    return path


def origin(commit: str) -> tuple[str, bool]:
    """The commit that an experiment started from, and whether what decides a result was changed for it."""
    parent = git.run("rev-parse", f"{commit}^").strip()
    changed = git.run("diff", "--name-only", parent, commit, "--", "src", "stages", "dvc.yaml", "params.yaml")
    return parent, bool(changed.strip())


def holders(md5: str) -> list[str]:
    """Commits whose dvc.lock names a file by this MD5, the newest first."""
    commits = git.run("log", "--all", "--format=%H", "--", "dvc.lock").split()
    locks = git.contents([f"{commit}:./dvc.lock" for commit in commits])
    return [commit for commit, lock in zip(commits, locks, strict=True) if lock is not None and md5 in lock]


def code() -> tuple[str, ...]:
    """The committed code that figures rest on, as git's digests: equal for equal code."""
    return _codes(["HEAD"])[0]


def changed_files(*places: str) -> list[str]:
    """What is not committed of these; by default what an experiment takes along: params, pipeline and code."""
    return git.changed_files(*(places or ("params.yaml", "dvc.yaml", "stages", "src")))


def _codes(commits: Sequence[str]) -> list[tuple[str, ...]]:
    root = Path.cwd()
    if not PACKAGE.is_relative_to(root):  # an environment that several checkouts share has the code of one of them
        raise ValueError(f"this is the mnistflow of {PACKAGE.parent}; run the one of this folder: pip install -e .")
    reached: set[Path] = set()
    for name in DECISIVE:
        script = root / "stages" / f"{name}.py"
        reached.update([script, *closure(script)])
    beside = {PACKAGE / name for name in BESIDE}
    files = {file for path in reached - beside for file in ([path] if path.is_file() else path.rglob("*.py"))}
    names = [file.relative_to(root).as_posix() for file in sorted(files - beside)]
    lines = git.run(
        "cat-file",
        "--batch-check=%(objectname)",
        text="".join(f"{commit}:./{name}\n" for commit in commits for name in names),
    ).splitlines()
    # Of a file that is not there git says which commit lacks it.
    digests = ["missing" if line.endswith(" missing") else line for line in lines]
    return [tuple(digests[i * len(names) : (i + 1) * len(names)]) for i in range(len(commits))]


# ---------------------------------------------------------------------------------------------------------------------
# Running


def override(document: Mapping[str, JsonValue], path: str, value: JsonValue) -> str:
    """A change of params.yaml as `dvc exp run -S` takes it; a key that the file has not is added."""
    here: JsonValue = dict(document)
    for key in path.split("."):
        if not isinstance(here, dict) or key not in here:
            return f"+{path}={json.dumps(value)}"
        here = here[key]
    return f"{path}={json.dumps(value)}"


def run(waiting: Sequence[Planned], jobs: int, logs: Path) -> Iterator[Planned | Ended]:
    """Run experiments, each in a copy of the repository; yield each when it is started and when it has ended.

    They are run as `dvc exp run --temp`, not through DVC's queue: its workers live on in the background when this
    process ends, and a killed one leaves its task `Running` for ever. When this iterator is closed or interrupted, the
    experiments that have not ended are.

    Args:
        waiting: what to run, in this order.
        jobs: how many at once.
        logs: a folder for what each of them prints.

    Raises:
        ValueError: DVC would lose experiments of this project; none was started.
    """
    git.refuse_lost_copies(project_root())
    environment = {
        **os.environ,
        STUDY: str(os.getpid()),  # a stage ends with it
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # where stages find python
        # Threads that wait for work leave the cores to the other jobs; the same bytes, three times as fast.
        **({"OMP_WAIT_POLICY": "PASSIVE"} if jobs > 1 else {}),
    }
    logs.mkdir(parents=True, exist_ok=True)
    waiting = list(waiting)
    running: dict[subprocess.Popen[bytes], tuple[Planned, float, Path]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                planned = waiting.pop(0)
                log = logs / f"{planned.name}.log"
                sets = [part for each in planned.overrides for part in ("-S", each)]
                command = [sys.executable, "-m", "dvc", "--wait-for-lock"]
                command += ["exp", "run", "--temp", "--name", planned.name, *sets]
                with log.open("wb") as file:
                    process = subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=file,
                        stderr=subprocess.STDOUT,
                        env=environment,
                        cwd=project_root(),
                        start_new_session=True,  # an interruption is passed on below, to the stage as well
                    )
                running[process] = (planned, time.perf_counter(), log)
                yield planned
            time.sleep(0.2)
            for process in [each for each in running if each.poll() is not None]:
                planned, started, log = running.pop(process)
                yield Ended(planned, process.returncode, time.perf_counter() - started, log)
    finally:
        for signal_number, patience in ((signal.SIGINT, 20.0), (signal.SIGKILL, 5.0)):
            alive = [process for process in running if process.poll() is None]
            for process in alive:
                os.killpg(process.pid, signal_number)
            deadline = time.monotonic() + patience
            for process in alive:
                try:
                    process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    continue
