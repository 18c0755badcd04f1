"""Commands about studies, and about data sets as files."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mnistflow.cli.output import markdown_table
from mnistflow.config.forms import ParamsError, nearest
from mnistflow.config.params import load
from mnistflow.config.paths import Paths
from mnistflow.core.files import project_root, read_yaml

if TYPE_CHECKING:  # its own imports take seconds
    from mnistflow.experiments.studies import Experiment, Study

__all__ = ["data_export", "study_list", "study_run", "study_show"]


def data_export(directory: Path, dataset: str | None) -> None:
    """Write a data set as a folder of PNG images: DIR/train/<class>/*.png and DIR/test/<class>/*.png."""
    from mnistflow.checks.problems import dataset_problems
    from mnistflow.data import datasets  # here, because they take seconds to import
    from mnistflow.data.datasets.folder import write_folder

    params, paths = load(), Paths.load()
    name = dataset or params.dataset
    if name not in params.datasets:
        raise ValueError(f"there is no data set {name!r}; {nearest(name, params.datasets)}")
    if mistakes := dataset_problems(name, params.datasets[name], build=True):
        raise ParamsError(mistakes)
    chosen = datasets.build(name, params.datasets[name])
    chosen.fetch(paths.raw / name, params.download.timeout)
    published = chosen.read(paths.raw / name)
    write_folder(published, directory)
    train, test, classes = published
    print(f"{name}: {len(train.labels):,} training and {len(test.labels):,} test images of {len(classes)} classes in")
    print(f"  {directory}\n\nNext:")
    settings = ["dataset=folder", f"datasets.folder.path={directory}"]
    if (side := train.images.shape[-1]) != params.datasets.get("folder", {}).get("size"):
        settings.append(f"datasets.folder.size={side}")
    print("  dvc exp run " + " ".join(f"-S {shlex.quote(setting)}" for setting in settings))


def study_list() -> None:
    """List the studies, and the question that each asks."""
    from mnistflow.experiments import studies

    for name in studies.names():
        study = studies.load(name)
        print(f"{name}: {len(study.entries)} entries, {len(study.experiments())} experiments\n    {study.question}")


def study_run(name: str, only: Sequence[str], jobs: int, full: bool) -> None:
    """Run the experiments of a study that have not been run yet; after an interruption, run the command again.

    Each is a DVC experiment of its own, on the commit that is checked out. It is skipped if an experiment with the same
    params and the same code exists already, whatever its name.
    """
    from mnistflow.checks.problems import document_problems  # here, because they take seconds to import
    from mnistflow.experiments import results, studies

    if changed := results.changed_files():
        raise ValueError(
            f"uncommitted changes in {', '.join(changed)} would go into every experiment. Commit them first, or "
            f"undo them: git checkout {' '.join(changed)}"
        )
    study = studies.load(name, full=full)
    wanted = study.experiments(only)
    with studies.alone():
        studies.bring_data(study)
        for experiment in wanted:
            if mistakes := document_problems(experiment.document):
                raise ParamsError([f"{name}: {experiment.name}: {problem}" for problem in mistakes])
        code, there = results.committed_code(), results.completed()
        missing = [experiment for experiment in wanted if experiment.find(there, code) is None]
        print(f"{name}: {len(wanted)} experiments, {len(wanted) - len(missing)} of them already run", flush=True)
        failed = _run_experiments(missing, {result.name for result in there}, jobs)
        _name_study(study)
    if failed:
        raise ValueError("\n  ".join([f"{len(failed)} of {len(missing)} experiments failed; see", *failed]))
    print(f"\nNext: mnistflow study show {name}")


def study_show(name: str) -> None:
    """Print the results of a study, and write them to studies/results/ as Markdown, CSV and figure.

    Results of another version of the code are shown where there are none of this one, with their commit.
    """
    from mnistflow import figures  # here, because they take seconds to import
    from mnistflow.core.files import atomic_write, write_csv
    from mnistflow.experiments import other_writers, results, studies, tables
    from mnistflow.pipeline import durations

    code, there, seconds = results.committed_code(), results.completed(), durations.seconds_per_epoch()
    study = studies.load(name)
    short, full = (
        tables.newest(experiment, there, code, seconds) for experiment in (study, studies.load(name, full=True))
    )
    rows = []
    for row, in_full in zip(short, full, strict=True):  # what was run in full below what was cut short
        rows += [row, in_full] if in_full.results and in_full.results != row.results else [row]
    if not any(row.results for row in rows):
        raise ValueError(f"no experiment of {name} has been run yet; run: mnistflow study run {name}")
    if "handwriting" in study.columns:
        read = other_writers.accuracies({result.weights for row in rows for result in row.results})
        rows = [replace(row, handwriting=read) for row in rows]
    cells = [row.cells(study.columns) for row in rows]
    lines = [f"## {study.title}", "", study.question, ""]
    for row, shown in zip(rows, cells, strict=True):
        if row.results and row.results[0].code != code:
            shown["run on"] = results.origin(row.results[0].commit)[0][:7]
    lines += markdown_table(cells)
    if any("run on" in shown for shown in cells):
        lines += [
            "",
            "run on: the commit whose code produced the row; the code that computes results has changed since, and "
            f"`mnistflow study run {name}` runs it again.",
        ]
    print("\n".join(lines))
    folder = studies.FOLDER / "results"
    with atomic_write(folder / f"{name}.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    headings = list(dict.fromkeys(heading for row in cells for heading in row))
    write_csv(folder / f"{name}.csv", [{heading: row.get(heading, "") for heading in headings} for row in cells])
    there_are = [row for row in rows if row.results]
    figure = figures.study(
        study.title,
        {row.entry.label: row.accuracies for row in there_are},
        {row.entry.label: row.entry.expected for row in there_are if row.entry.expected is not None},
        {row.entry.label: [result.history for result in row.results] for row in there_are},
    )
    figures.save(figure, folder / f"{name}.png", dpi=110)
    print(f"\nwritten to {folder / name}.md, .csv and .png")


def _run_experiments(missing: Sequence[Experiment], taken: set[str], jobs: int) -> list[str]:
    """Run experiments behind a bar; returns the logs of those that failed."""
    from tqdm import tqdm

    from mnistflow.experiments import runner

    document = read_yaml(Path("params.yaml"))
    assert isinstance(document, dict)  # a study could not have been read with another
    planned = [experiment.planned(document, taken) for experiment in missing]
    running: list[str] = []
    failed: list[str] = []
    with tqdm(total=len(planned), unit="experiment", disable=None if planned else True) as bar:
        for event in runner.run(planned, jobs, project_root() / ".mnistflow" / "experiments"):
            if isinstance(event, runner.Planned):
                running.append(event.name)
            else:
                running.remove(event.planned.name)
                bar.update()
                outcome = "done" if event.status == 0 else f"FAILED: {event.reason}"
                if event.status != 0:
                    failed.append(str(event.log))
                bar.write(f"  {event.planned.name}: {outcome} ({event.seconds:.0f} s)", file=sys.stdout)
                sys.stdout.flush()
            bar.set_postfix_str(", ".join(running))
    return failed


def _name_study(study: Study) -> None:
    """Tag the MLflow runs of a study."""
    from mnistflow import tracking
    from mnistflow.experiments import results, tables

    settings = load().tracking
    if settings.enabled:
        rows = tables.table(study, results.completed(), results.committed_code(), {})
        results_of_study = [(row.entry.name, result.weights, result.chosen) for row in rows for result in row.results]
        count, page = tracking.name_study(settings, study.name, results_of_study)
        print(f"{count} MLflow runs carry the tag study.{study.name}: {page}")
