"""The runs that are there: found by what they stand for, by name, or by id."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mnistflow.config import params
from mnistflow.config.params import Params, Tracking
from mnistflow.config.paths import Paths
from mnistflow.core.files import digest, parse_yaml, read_json, sha256
from mnistflow.pipeline import git
from mnistflow.pipeline.lockfile import Lock
from mnistflow.tracking import tags
from mnistflow.tracking.champion import champion_run
from mnistflow.tracking.store import ALL_RUNS, connect, failure, link, shown_uri, table_link, view

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = [
    "MADE",
    "RunInfo",
    "RunSummary",
    "as_mlflow_params",
    "find",
    "find_run_of_result",
    "listed",
    "name_experiments",
    "name_study",
    "parse_commit",
    "recorded",
    "result_key",
]


# Of train.json: what the weights rest on beside the params, which `auto` or the id of a run may stand for there.
MADE = ("device", "precision", "init_from")


@dataclass(frozen=True)
class RunInfo:
    """What a run says."""

    id: str
    name: str
    status: str
    page: str  # its address
    table: str  # the address of the page with all runs
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    curves: Mapping[str, Sequence[tuple[int, float]]]  # (epoch, value), of each metric that has epochs


@dataclass(frozen=True)
class RunSummary:
    """A complete run, in short."""

    id: str
    name: str
    experiment: str | None  # the name of its DVC experiment
    model: str
    dataset: str
    val_accuracy: float | None  # of its weights, 0 to 1; None: it had no validation split
    test_accuracy: float | None  # 0 to 1
    weights: str  # SHA-256 of their file
    is_champion: bool


def result_key(params: Params, paths: Paths, made: Mapping[str, object] | None = None) -> str:
    """The digest that finds the run of a result: what it was made of, and what is recorded as its params.

    Code is not part of it: what comes to the same weights is the same result.

    Args:
        params: of the result.
        paths: of its files.
        made: how its weights are made, with the keys :data:`MADE`; None: as train.json says.

    Raises:
        ValueError: a file is missing or damaged.
    """
    data = read_json(paths.data_metrics, "digest")["digest"]
    made = read_json(paths.train_metrics, *MADE) if made is None else made
    return digest({"data": data, "made": {name: made[name] for name in MADE}, **params.selected()})


def as_mlflow_params(chosen: Mapping[str, object]) -> dict[str, str]:
    """Params as MLflow keeps them."""
    return {path: json.dumps(value).strip('"') for path, value in chosen.items()}


def parse_commit(document: str, lock: str, name: str) -> tuple[Params, str] | None:
    """What a commit's params.yaml and dvc.lock say that it holds.

    Args:
        document: the text of params.yaml.
        lock: the text of dvc.lock.
        name: what to call the commit in messages.

    Returns:
        The params and the MD5 of the weights; None where another version wrote them, and this one cannot read them.

    Raises:
        ValueError: one of them is not YAML.
    """
    loaded, problems = params.parse(parse_yaml(document, f"{name}:params.yaml"))
    if loaded is None or problems:
        return None
    weights = Lock.parse(lock, f"{name}:dvc.lock").stage("train").output(Paths.load().weights)
    return None if weights is None else (loaded, weights)


def find_run_of_result(params: Params, paths: Paths) -> RunInfo | None:
    """The run that stands for the result in a folder; None if it is not recorded.

    Raises:
        ValueError: a file of it is missing or damaged, or the store does not answer.
    """
    key, bits = result_key(params, paths), sha256(paths.weights)
    try:
        client, experiment = connect(params.tracking)
        runs = client.search_runs([experiment], f"tags.`{tags.RESULT}` = '{key}'")
    except Exception as error:
        raise ValueError(failure(params.tracking, "does not answer", error)) from error
    for run in runs:
        if run.data.tags.get(tags.WEIGHTS) == bits:
            return _run_info(client, params.tracking, run)
    return None


def find(tracking: Tracking, wanted: str) -> RunInfo:
    """Find a run by its id (or the start of it), its name, or the name of its DVC experiment; the newest match.

    Experiment names are looked up in git, because an experiment may have been renamed or saved since its run was
    recorded, or restored from DVC's run cache; its run is then found by content. The name that was recorded as a tag
    counts only if git has no experiment of that name.

    Raises:
        ValueError: the store does not answer, or has no such run.
    """
    experiments = _experiments()
    of_name = {key for name, key in _contents(experiments, wanted)}
    try:
        client, experiment = connect(tracking)
        every = list(_all(client, experiment, ""))
        named = [run for run in every if wanted == run.info.run_id]
        if not named and of_name:
            named = [run for run in every if _content_key(run) in of_name]
            if named:
                info = _run_info(client, tracking, named[0])
                return replace(info, tags={**info.tags, tags.DVC: wanted})
        elif not named:
            named = [run for run in every if wanted in (run.info.run_name, run.data.tags.get(tags.DVC))]
            named = named or [run for run in every if len(wanted) >= 4 and run.info.run_id.startswith(wanted)]
        if named:
            return _run_info(client, tracking, named[0])
    except Exception as error:
        raise ValueError(failure(tracking, "does not answer", error)) from error
    if of_name:
        raise ValueError(
            f"experiment {wanted!r} is not recorded in {shown_uri(tracking)}; `mnistflow track --all` records it"
        )
    if not every:
        raise ValueError(f"there is no run {wanted!r}; there are none yet")
    known = dict(reversed([(key, name) for name, key in _contents(experiments)]))  # the newest name of each
    taken = {name for _, name in experiments}

    def shown(run: Run) -> str:
        tag = run.data.tags.get(tags.DVC, "")
        return known.get(_content_key(run), "" if tag in taken else tag)

    newest = "".join(f"\n  {run.info.run_id}  {run.info.run_name}  {shown(run)}".rstrip() for run in every[:10])
    names = {name for run in every for name in (str(run.info.run_name), shown(run)) if name}
    hint = f"did you mean {close[0]!r}? " if (close := difflib.get_close_matches(wanted, sorted(names), n=1)) else ""
    raise ValueError(f"there is no run {wanted!r}; {hint}the newest are:{newest}")


def listed(tracking: Tracking, limit: int) -> list[RunSummary]:
    """The complete runs, the newest first, at most so many.

    Raises:
        ValueError: the store does not answer.
    """
    try:
        client, experiment = connect(tracking)
        champion = champion_run(client, tracking)
        complete = itertools.islice(_all(client, experiment, "attributes.status = 'FINISHED'"), limit)
        return [
            RunSummary(
                id=run.info.run_id,
                name=str(run.info.run_name),
                experiment=run.data.tags.get(tags.DVC),
                model=run.data.params["model"],
                dataset=run.data.params["dataset"],
                val_accuracy=_val_accuracy(run),
                test_accuracy=run.data.metrics.get("test_accuracy"),
                weights=run.data.tags[tags.WEIGHTS],
                is_champion=run.info.run_id == champion,
            )
            for run in complete
            if tags.WEIGHTS in run.data.tags
        ]
    except Exception as error:
        raise ValueError(failure(tracking, "does not answer", error)) from error


def _val_accuracy(run: Run) -> float | None:
    """Of the weights that were kept: those of the best epoch, or of the last one."""
    keeps_best = run.data.params.get(f"recipes.{run.data.params['recipe']}.keep") == "best"
    return run.data.metrics.get("best_val_accuracy" if keeps_best else "val_accuracy")


def recorded(tracking: Tracking) -> set[tuple[str, str]]:
    """What the complete runs stand for: the MD5 of their weights, and the digest of their params.

    Raises:
        ValueError: the store does not answer.
    """
    try:
        client, experiment = connect(tracking)
        return {_content_key(run) for run in _all(client, experiment, "attributes.status = 'FINISHED'")}
    except Exception as error:
        raise ValueError(failure(tracking, "does not answer", error)) from error


def name_experiments(
    tracking: Tracking, names: Sequence[tuple[str, str, Mapping[str, object]]]
) -> list[tuple[str, str]]:
    """Give the runs of DVC experiments the names that these have now, as a tag.

    Args:
        tracking: the store.
        names: of each experiment its name, the MD5 of its weights and its chosen params; the newest first.

    Returns:
        The ids and the new names of the runs that had another one.

    Raises:
        ValueError: the store does not answer.
    """
    present: dict[tuple[str, str], list[str]] = {}
    for name, weights, chosen in names:
        present.setdefault((weights, digest(as_mlflow_params(chosen))), []).append(name)
    changed = []
    try:
        client, experiment = connect(tracking)
        for run in _all(client, experiment, f"tags.`{tags.DVC_WEIGHTS}` != ''"):
            current = present.get(_content_key(run), [])
            if current and run.data.tags.get(tags.DVC) not in current:
                client.set_tag(run.info.run_id, tags.DVC, current[0])
                changed.append((run.info.run_id, current[0]))
    except Exception as error:
        raise ValueError(failure(tracking, "does not answer", error)) from error
    return changed


def name_study(
    tracking: Tracking, study: str, results: Iterable[tuple[str, str, Mapping[str, object]]]
) -> tuple[int, str]:
    """Tag the runs of a study's results with its name, found by content; one run may belong to several studies.

    The experiment gets a view of them, so that the study opens as one table.

    Args:
        tracking: the store.
        study: its name.
        results: of each the entry's name, the MD5 of the weights and the chosen params.

    Returns:
        How many runs carry the tag now, and the page with their table.

    Raises:
        ValueError: the store does not answer.
    """
    wanted = {(weights, digest(as_mlflow_params(chosen))): entry for entry, weights, chosen in results}
    tagged = 0
    try:
        client, experiment = connect(tracking)
        for run in _all(client, experiment, f"tags.`{tags.DVC_WEIGHTS}` != ''"):
            entry = wanted.get(_content_key(run))
            if entry is not None:
                client.set_tag(run.info.run_id, f"study.{study}", entry)
                tagged += 1
        for tag, state in view(f"study-{study}", f"tags.`study.{study}` != ''").items():
            client.set_experiment_tag(experiment, tag, state)
        return tagged, table_link(tracking, experiment, f"study-{study}")
    except Exception as error:
        raise ValueError(failure(tracking, "does not answer", error)) from error


def _content_key(run: Run) -> tuple[str, str]:
    """What a run stands for: the MD5 of its weights, and the digest of its params."""
    return run.data.tags.get(tags.DVC_WEIGHTS, ""), digest(run.data.params)


def _experiments() -> list[tuple[str, str]]:
    """As :func:`git.experiments`; none outside of git, where DVC has none either."""
    with contextlib.suppress(ValueError):
        return git.experiments()
    return []


def _contents(experiments: Sequence[tuple[str, str]], wanted: str | None = None) -> list[tuple[str, tuple[str, str]]]:
    """The name of each experiment, or of those with one name, and what it holds, as :func:`_content_key` says it."""
    chosen = [(commit, name) for commit, name in experiments if wanted in (None, name)]
    texts_of = iter(
        git.contents([f"{commit}:./{file}" for commit, _ in chosen for file in ("params.yaml", "dvc.lock")])
    )
    contents = []
    for _, name in chosen:
        document, lock = next(texts_of), next(texts_of)
        held = None
        if document is not None and lock is not None:
            with contextlib.suppress(ValueError):  # not YAML; it cannot be told what that experiment holds
                held = parse_commit(document, lock, name)
        if held is not None:
            chosen_params, weights = held
            contents.append((name, (weights, digest(as_mlflow_params(chosen_params.selected())))))
    return contents


def _run_info(client: MlflowClient, tracking: Tracking, run: Run) -> RunInfo:
    run_id = run.info.run_id
    history = {name: client.get_metric_history(run_id, name) for name in run.data.metrics}
    return RunInfo(
        id=run_id,
        name=str(run.info.run_name),
        status=run.info.status,
        page=link(tracking, run.info.experiment_id, run_id),
        table=table_link(tracking, run.info.experiment_id, ALL_RUNS),
        params=run.data.params,
        metrics=run.data.metrics,
        tags=run.data.tags,
        curves={
            name: [(metric.step, metric.value) for metric in sorted(values, key=lambda metric: metric.step)]
            for name, values in history.items()
            if any(metric.step for metric in values)
        },
    )


def _all(client: MlflowClient, experiment: str, condition: str) -> Iterator[Run]:
    """Runs of the experiment, the newest first."""
    token = None
    while True:
        page = client.search_runs([experiment], condition, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
