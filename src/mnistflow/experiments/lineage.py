"""From a result to its run, and from a run back to its files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from mnistflow import tracking
from mnistflow.config.forms import flattened
from mnistflow.config.params import Params, Tracking, load
from mnistflow.config.paths import Paths
from mnistflow.core.files import digest, sha256
from mnistflow.experiments import cache, results
from mnistflow.experiments.results import Result
from mnistflow.pipeline import git
from mnistflow.pipeline.lockfile import Lock
from mnistflow.tracking import Origin, Record, RunInfo, tags

__all__ = ["record_experiments", "record_workspace", "refresh_names", "restore", "run_of_workspace"]


def run_of_workspace() -> RunInfo | None:
    """The run that stands for the result in this folder, whoever made it; None if it is not recorded.

    Raises:
        ValueError: there is no result here, or the store does not answer.
    """
    paths = Paths.load()
    return tracking.find_run_of_result(load(), paths)


def record_workspace() -> str:
    """Record the result in this folder, if it is not recorded yet.

    Returns:
        The id of its run.

    Raises:
        ValueError: there is no result, or it is not that of the params and the code here, or the store failed.
    """
    params, paths = load(), Paths.load()
    with tracking.lock("track"):  # dvc status refuses to run twice at once
        # What is recorded is the params, so they must be those that the files were made with.
        status = _dvc("status", "preprocess", "train", "evaluate", "plot")
        if status.returncode != 0 or "up to date" not in status.stdout:
            printed = (status.stdout or status.stderr).strip()
            raise ValueError(
                f"the result in this folder does not match its params and code; run `dvc repro` first:\n{printed}"
            )
        return _recorded(params, paths, Origin.here())


def record_experiments() -> Iterator[tuple[str, str]]:
    """Record every DVC experiment that is not recorded yet, from the files that it left, the oldest first.

    Yields:
        The name of each that is recorded now, and the id of its run or why that could not be done.

    Raises:
        ValueError: the store does not answer.
    """
    settings = load().tracking
    there = tracking.recorded(settings)
    for result in reversed(results.completed()):
        key = (result.weights, digest(tracking.as_mlflow_params(result.chosen)))
        if key in there:
            continue
        there.add(key)
        try:
            parent, changed = results.origin(result.commit)
            origin = Origin(parent + ("-dirty" if changed else ""), result.name, tracking.committed_params(parent))
            with cache.files(result.commit) as (params, paths):
                run = _recorded(params.model_copy(update={"tracking": settings}), paths, origin)
                yield result.name, f"run {run}"
        except ValueError as error:
            yield result.name, f"FAILED: {error}"


def refresh_names() -> list[tuple[str, str]]:
    """Give the runs of DVC experiments the names that these have now, where they were renamed or saved since.

    Returns:
        The ids and the new names of the runs that had another one.

    Raises:
        ValueError: git failed, or the store does not answer.
    """
    names = [(result.name, result.weights, result.chosen) for result in results.completed()]
    return tracking.name_experiments(load().tracking, names)


def restore(settings: Tracking, wanted: str) -> tuple[RunInfo, str]:
    """Bring the result of a run back into this folder: its params, metrics, weights and figures.

    Args:
        settings: the store.
        wanted: the run: its id, its name, or the name of its DVC experiment.

    Returns:
        The run, and where its files came from.

    Raises:
        ValueError: there is no such run, no experiment and no commit holds its files, or changes here would be lost.
    """
    info = tracking.find(settings, wanted)
    paths = Paths.load()
    if info.tags.get(tags.WEIGHTS) is None:
        raise ValueError(f"run {info.id} ({info.name}) is {info.status.lower()}: it has no result")
    if _is_here(info, paths):
        return info, "already in this folder"
    if changed := results.changed_files():
        raise ValueError(
            f"uncommitted changes would be lost: {', '.join(changed)}. Commit them, or undo them: "
            f"git checkout {' '.join(changed)}"
        )
    weights = info.tags[tags.DVC_WEIGHTS]
    holder = next((result for result in results.completed() if _is_result(info, result)), None)
    if holder is not None:
        cache.refuse_paths_outside(holder.commit)
        done, place = _dvc("exp", "apply", holder.name), f"DVC experiment {holder.name}"
    else:
        commit = next(
            (candidate for candidate in results.commits_with_output(weights) if _is_of(info, candidate)), None
        )
        if commit is None:
            raise ValueError(
                f"no DVC experiment and no commit here holds the files of run {info.id} ({info.name}); its weights "
                f"are in MLflow; to start from them: -S train.init_from={info.id}"
            )
        cache.refuse_paths_outside(commit)
        git.run("checkout", "--quiet", commit, "--", "params.yaml", "dvc.lock", "metrics")
        done, place = _dvc("checkout", "--quiet"), f"commit {commit[:10]}"
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        reason = next(
            (line for line in lines if line.startswith("ERROR:")), lines[-1] if lines else "it printed nothing"
        )
        raise ValueError(f"DVC could not restore it from {place}: {reason.removeprefix('ERROR: ')}")
    if not _is_here(info, paths):
        raise ValueError(f"{place} does not match what run {info.id} recorded; `git status` shows what changed")
    return info, place


def _recorded(params: Params, paths: Paths, origin: Origin) -> str:
    record = Record(params, paths, origin)
    record.complete()
    if record.failure is not None or record.run_id is None:
        raise ValueError("the result could not be recorded")
    return record.run_id


def _is_here(run: RunInfo, paths: Paths) -> bool:
    """Whether this folder holds the weights of a run, its params, and an evaluation by them."""
    params = load()
    now = dict(flattened(params.model_dump(include={"evaluate"})))
    try:
        by = dict(flattened(Lock.read().stage("evaluate").values))  # which has names with dots, or the block as a whole
    except ValueError:
        return False
    return (
        paths.weights.is_file()
        and sha256(paths.weights) == run.tags[tags.WEIGHTS]
        and tracking.as_mlflow_params(params.selected()) == dict(run.params)
        and by == {path: now.get(path) for path in by}
    )


def _is_result(run: RunInfo, result: Result) -> bool:
    return result.weights == run.tags[tags.DVC_WEIGHTS] and tracking.as_mlflow_params(result.chosen) == dict(run.params)


def _is_of(run: RunInfo, commit: str) -> bool:
    params = tracking.committed_params(commit)
    return params is not None and tracking.as_mlflow_params(params.selected()) == dict(run.params)


def _dvc(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True, check=False)
