"""Studies: named sets of experiments that answer a question together, from the files in ``studies/``."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from mnistflow.config import params
from mnistflow.config.forms import Block, ParamsError, form_problems, nearest
from mnistflow.config.params import Name
from mnistflow.config.paths import Paths
from mnistflow.core.files import read_yaml
from mnistflow.experiments.results import Result
from mnistflow.experiments.runner import Planned, override
from mnistflow.tracking import lock

__all__ = ["FOLDER", "Entry", "Experiment", "Study", "alone", "bring_data", "load", "names"]

FOLDER = Path("studies")
Overrides = dict[str, JsonValue]
Column = Literal["first_epoch", "kept_epoch", "validation", "shifts", "dead_units", "gradients", "handwriting"]


class EntryBlock(Block):
    """A system that is studied: everything that makes it, as changes of params.yaml."""

    title: str = ""
    like: Name | None = None  # an entry above, whose set and limit this one goes on from
    published: str = ""  # the accuracy, in the words of whoever published it
    # Test accuracy, percent; where there is a limit, with it.
    expected: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    set: Overrides = Field(default_factory=dict)
    limit: Overrides = Field(default_factory=dict)  # what is cut short unless the study is run in full


class StudyBlock(Block):
    """A file in ``studies/``."""

    title: str
    question: str
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    exports: dict[str, Name] = Field(
        default_factory=dict
    )  # folders of images that are made first, and of which data set
    columns: list[Column] = Field(default_factory=list)  # what the table shows beside the accuracy
    set: Overrides = Field(default_factory=dict)  # for every entry
    entries: dict[Name, EntryBlock] = Field(default_factory=dict)
    factors: dict[Name, dict[Name, Overrides]] = Field(default_factory=dict)  # an entry for each combination


@dataclass(frozen=True)
class Experiment:
    """One entry with one seed."""

    name: str  # that DVC knows it by, unless it is taken
    overrides: Overrides
    document: dict[str, JsonValue]  # params.yaml with these in it
    chosen: dict[str, JsonValue]  # of that, as Params.selected() returns it

    def planned(self, document: Mapping[str, JsonValue], taken: set[str]) -> Planned:
        """The experiment for DVC, under a name that is free."""
        numbered = (self.name if number == 1 else f"{self.name}-{number}" for number in itertools.count(1))
        name = next(name for name in numbered if name not in taken)
        return Planned(name, tuple(override(document, path, value) for path, value in self.overrides.items()))

    def find(self, results: Sequence[Result], code: tuple[str, ...]) -> Result | None:
        """The result of exactly this, whatever it is called and wherever it came from."""
        return next((result for result in results if result.code == code and result.chosen == self.chosen), None)


@dataclass(frozen=True)
class Entry:
    """A system that is studied, with all its seeds."""

    name: str
    label: str  # the name; "-full" behind it for what is otherwise cut short
    title: str
    published: str
    expected: tuple[float, float] | None  # test accuracy, percent
    epochs: int  # of its recipe, uncut
    experiments: tuple[Experiment, ...]


@dataclass(frozen=True)
class Study:
    """A set of experiments."""

    name: str
    title: str
    question: str
    exports: Mapping[str, str]
    columns: tuple[Column, ...]
    entries: tuple[Entry, ...]

    def experiments(self, only: Sequence[str] = ()) -> list[Experiment]:
        """Those of the entries named, or of all; one seed after the other, so that a part says something already.

        Raises:
            ValueError: there is no such entry.
        """
        known = {entry.name: entry for entry in self.entries}
        for name in only:
            if name not in known:
                raise ValueError(f"study {self.name} has no entry {name!r}; {nearest(name, known)}")
        chosen = [entry.experiments for entry in self.entries if not only or entry.name in only]
        return [experiment for of_one_seed in zip(*chosen, strict=True) for experiment in of_one_seed]


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def names() -> list[str]:
    """All studies there are."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str, *, full: bool = False) -> Study:
    """Read a study and what its entries come to with the params.yaml that is there.

    Args:
        name: of its file.
        full: leave out what the entries cut short.

    Raises:
        ValueError: there is no such study.
        ParamsError: it, or an entry of it, holds mistakes.
    """
    if name not in names():
        raise ValueError(f"there is no study {name!r}; {nearest(name, names())}")
    path = FOLDER / f"{name}.yaml"
    document = read_yaml(path)
    if problems := form_problems(str(path), StudyBlock, document):
        raise ParamsError(problems)
    block = StudyBlock.model_validate(document)
    base = read_yaml(Path("params.yaml"))
    if not isinstance(base, dict):
        raise ValueError("params.yaml must be a mapping of keys to values")
    entries = {**_resolved(path, block.entries), **_combined(block.factors)}
    if not entries:
        raise ParamsError([f"{path}: must have entries or factors"])
    return Study(
        name=name,
        title=block.title,
        question=block.question,
        exports=block.exports,
        columns=tuple(block.columns),
        entries=tuple(_entry(path, block, base, label, entry, full) for label, entry in entries.items()),
    )


def _resolved(path: Path, entries: Mapping[str, EntryBlock]) -> dict[str, EntryBlock]:
    """Entries with what they take over from those above them."""
    resolved: dict[str, EntryBlock] = {}
    for name, entry in entries.items():
        if entry.like is not None and entry.like not in resolved:
            raise ParamsError(
                [f"{path}: entries.{name}.like: no entry {entry.like!r} above; {nearest(entry.like, resolved)}"]
            )
        model = resolved[entry.like] if entry.like is not None else EntryBlock()
        changes = {"set": {**model.set, **entry.set}, "limit": {**model.limit, **entry.limit}}
        resolved[name] = entry.model_copy(update=changes)
    return resolved


def _combined(factors: Mapping[str, Mapping[str, Overrides]]) -> dict[str, EntryBlock]:
    """A factorial: each level of each factor with each of the others."""
    combined = {}
    for levels in itertools.product(*(levels.items() for levels in factors.values())):
        changes = {path: value for _, overrides in levels for path, value in overrides.items()}
        combined["-".join(name for name, _ in levels)] = EntryBlock(set=changes)
    return {} if not factors else combined


def _entry(
    path: Path, study: StudyBlock, base: dict[str, JsonValue], name: str, block: EntryBlock, full: bool
) -> Entry:
    changes = {**study.set, **block.set}
    uncut, cut = _changed(base, changes), {**changes, **({} if full else block.limit)}
    suffix = "-full" if full and block.limit else ""
    experiments = []
    for seed in study.seeds:
        overrides = {"seed": seed, **cut}
        document = _changed(base, overrides)
        chosen, problems = params.parse(document)
        if chosen is None or problems:
            raise ParamsError([f"{path}: {name}: {problem}" for problem in problems])
        experiments.append(Experiment(f"{path.stem}-{name}-{seed}{suffix}", overrides, document, chosen.selected()))
    whole, _ = params.parse(uncut)
    assert whole is not None
    expected = None if suffix else block.expected
    return Entry(
        name=name,
        label=f"{name}{suffix}",
        title=block.title,
        published=block.published,
        expected=None if expected is None else (expected[0], expected[1]),
        epochs=whole.recipe_block.epochs,
        experiments=tuple(experiments),
    )


def _changed(document: Mapping[str, JsonValue], overrides: Overrides) -> dict[str, JsonValue]:
    """Params with overrides in them; keys that are not there are added, for validation to judge."""
    changed = copy.deepcopy(dict(document))
    for path, value in overrides.items():
        *parents, leaf = path.split(".")
        node: dict[str, JsonValue] = changed
        for key in parents:
            inner = node.setdefault(key, {})
            if not isinstance(inner, dict):
                inner = node[key] = {}
            node = inner
        node[leaf] = value
    return changed


# ---------------------------------------------------------------------------------------------------------------------
# Before experiments are run


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One study at a time in a project: two would run the same experiments."""
    one = lock("study")
    one.timeout = 0
    try:
        with one:
            yield
    except TimeoutError as error:
        raise ValueError("another `mnistflow study run` is running in this project; wait for it or stop it") from error


def bring_data(study: Study) -> None:
    """Fetch the data sets of a study here, once, for the copies that its experiments run in."""
    from mnistflow.data import datasets
    from mnistflow.data.datasets.folder import write_folder

    settings, paths = params.load(), Paths.load()
    used = {str(experiment.document["dataset"]) for experiment in study.experiments()} - {"folder"}
    for name in sorted(used | set(study.exports.values())):
        datasets.build(name, settings.datasets[name]).fetch(paths.raw / name, settings.download.timeout)
    for folder, name in study.exports.items():
        if not Path(folder).is_dir():
            write_folder(datasets.build(name, settings.datasets[name]).read(paths.raw / name), Path(folder))
