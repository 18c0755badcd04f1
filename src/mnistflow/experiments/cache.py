"""The files of results in DVC's cache."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mnistflow.config.params import Params, load
from mnistflow.config.paths import Paths
from mnistflow.pipeline import git
from mnistflow.pipeline.lockfile import Lock

if TYPE_CHECKING:  # DVC takes a second to import
    from dvc.repo import Repo

__all__ = ["files", "path_in_cache", "refuse_paths_outside"]


@contextlib.contextmanager
def files(commit: str) -> Iterator[tuple[Params, Paths]]:
    """The params of a result and its files, in a folder that is there for as long as the block.

    Brought are those that say what it came to: weights, metrics, predictions and figures. The other paths are those of
    the workspace.

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
                for path in (Path("params.yaml"), *(getattr(paths, field) for field in wanted)):
                    repo.dvcfs.get(path.as_posix(), str(folder / path), recursive=True)
        except (DvcException, OSError) as error:
            raise ValueError(f"DVC's cache lacks files of {commit[:10]}: {error}{_cache_hint()}") from error
        brought = {field: folder / getattr(paths, field) for field in wanted}
        for each, place in brought.items():
            if not place.exists():
                raise ValueError(f"DVC's cache lacks files of {commit[:10]}: no {getattr(paths, each)}{_cache_hint()}")
        yield load(folder / "params.yaml"), replace(paths, **brought)


def refuse_paths_outside(commit: str) -> None:
    """Refuse a result whose files would be brought to places outside of the project, as DVC would bring them.

    Raises:
        ValueError: a path in its dvc.lock, or in a folder that this names, is absolute or climbs; or either is damaged.
    """
    from dvc.repo import Repo

    with Repo(str(Path.cwd())) as repo:
        _refuse_climbing(repo, commit)


def _refuse_climbing(repo: Repo, commit: str) -> None:
    (text,) = git.contents([f"{commit}:./dvc.lock"])
    lock = Lock.parse(text, "dvc.lock") if text is not None else Lock()
    for entry in (entry for stage in lock.stages.values() for entry in (*stage.deps, *stage.outs)):
        paths, md5 = [entry.path], entry.md5 or ""
        manifest = Path(repo.cache.local.oid_to_path(md5))
        if md5.endswith(".dir") and manifest.is_file():
            paths += [str(file["relpath"]) for file in json.loads(manifest.read_text(encoding="utf-8"))]
        for path in paths:
            if Path(path).is_absolute() or ".." in Path(path).parts:
                raise ValueError(f"{commit[:10]} would write outside of this project, to {path!r}; refused")


def _cache_hint() -> str:
    """Where the missing files may be: worktrees share their experiments, but not DVC's cache."""
    main = git.main_worktree()
    if main is None:
        return ""
    return f"; a linked worktree has a cache of its own: dvc config --local cache.dir '{main / '.dvc' / 'cache'}'"


def path_in_cache(md5: str) -> Path:
    """The file of this MD5 in DVC's cache.

    Raises:
        ValueError: it is not there.
    """
    from dvc.repo import Repo

    with Repo(str(Path.cwd())) as repo:
        path = Path(repo.cache.local.oid_to_path(md5))
    if not path.is_file():
        raise ValueError(f"DVC's cache has no file of MD5 {md5}; `dvc fetch` downloads it from a remote")
    return path
