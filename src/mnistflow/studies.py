"""Studies: named sets of experiments that answer a question together, from the files in ``studies/``."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from mnistflow import params
from mnistflow.experiments import Planned, Result, override
from mnistflow.files import read_yaml
from mnistflow.params import Block, Name, ParamsError, nearest
from mnistflow.text import for_terminal

__all__ = ["FOLDER", "Entry", "Experiment", "Row", "Study", "load", "markdown", "names", "newest", "table"]

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
    chosen: dict[str, JsonValue]  # of that, as Params.chosen has it

    def planned(self, document: Mapping[str, JsonValue], taken: set[str]) -> Planned:
        """The experiment for DVC, under a name that is free."""
        numbered = (self.name if number == 1 else f"{self.name}-{number}" for number in itertools.count(1))
        name = next(name for name in numbered if name not in taken)
        return Planned(name, tuple(override(document, path, value) for path, value in self.overrides.items()))

    def find(self, results: Sequence[Result], code: tuple[str, ...]) -> Result | None:
        """The result of exactly this, whatever it is called and wherever it came from."""
        return next((each for each in results if each.code == code and each.chosen == self.chosen), None)


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
        return [each for of_one_seed in zip(*chosen, strict=True) for each in of_one_seed]


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
    if found := params.form_problems(str(path), StudyBlock, document):
        raise ParamsError(found)
    block = StudyBlock.model_validate(document)
    base = read_yaml(Path("params.yaml"))
    if not isinstance(base, dict):
        raise ValueError("params.yaml must be a mapping of keys to values")
    entries = {**_resolved(path, block.entries), **_combined(block.factors)}
    if not entries:
        raise ParamsError([f"{path}: needs entries, or factors"])
    return Study(
        name=name,
        title=block.title,
        question=block.question,
        exports=block.exports,
        columns=tuple(block.columns),
        entries=tuple(_entry(path, block, base, each, entry, full) for each, entry in entries.items()),
    )


def _resolved(path: Path, entries: Mapping[str, EntryBlock]) -> dict[str, EntryBlock]:
    """Entries with what they take over from those above them."""
    found: dict[str, EntryBlock] = {}
    for name, entry in entries.items():
        if entry.like is not None and entry.like not in found:
            raise ParamsError(
                [f"{path}: entries.{name}.like: no entry {entry.like!r} above; {nearest(entry.like, found)}"]
            )
        model = found[entry.like] if entry.like is not None else EntryBlock()
        changes = {"set": {**model.set, **entry.set}, "limit": {**model.limit, **entry.limit}}
        found[name] = entry.model_copy(update=changes)
    return found


def _combined(factors: Mapping[str, Mapping[str, Overrides]]) -> dict[str, EntryBlock]:
    """A factorial: each level of each factor with each of the others."""
    found = {}
    for levels in itertools.product(*(levels.items() for levels in factors.values())):
        changes = {path: value for _, overrides in levels for path, value in overrides.items()}
        found["-".join(name for name, _ in levels)] = EntryBlock(set=changes)
    return {} if not factors else found


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
        experiments.append(Experiment(f"{path.stem}-{name}-{seed}{suffix}", overrides, document, chosen.chosen()))
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
    found = copy.deepcopy(dict(document))
    for path, value in overrides.items():
        *parents, leaf = path.split(".")
        here: dict[str, JsonValue] = found
        for key in parents:
            inner = here.setdefault(key, {})
            if not isinstance(inner, dict):
                inner = here[key] = {}
            here = inner
        here[leaf] = value
    return found


# ---------------------------------------------------------------------------------------------------------------------
# The table


@dataclass(frozen=True)
class Row:
    """What the experiments of an entry came to."""

    entry: Entry
    results: tuple[Result, ...]  # of the seeds that have been run
    seconds: Mapping[str, float] = field(repr=False)  # an epoch, by the MD5 of the weights
    # Accuracy on handwriting that is not MNIST's, by the MD5 of the weights and the name of the set.
    handwriting: Mapping[str, Mapping[str, float]] = field(repr=False, default_factory=dict)

    @property
    def accuracies(self) -> list[float]:
        """On the test split, percent."""
        return [100 * _number(result.test["accuracy"]) for result in self.results]

    @property
    def inside(self) -> bool | None:
        """Whether every seed is in the expected range; None where nothing is expected, or nothing has been run."""
        if self.entry.expected is None or not self.results:
            return None
        low, high = self.entry.expected
        return all(low <= round(accuracy, 2) <= high for accuracy in self.accuracies)

    def cells(self, columns: Sequence[Column]) -> dict[str, str]:
        """The row as text, by the heading of its column."""
        epochs = [int(_number(result.train["epochs"])) for result in self.results]
        seconds = [self.seconds[each.weights] for each in self.results if each.weights in self.seconds]
        found = {
            "entry": self.entry.label,
            "system": self.entry.title,
            "published %": self.entry.published,
            "expected %": "{:.1f} to {:.1f}".format(*self.entry.expected) if self.entry.expected else "",
            "test accuracy %": _spread(self.accuracies),
            "each seed": ", ".join(f"{accuracy:.2f}" for accuracy in self.accuracies),
            "inside": {None: "", True: "yes", False: "NO"}[self.inside],
            "epochs": _epochs(epochs, self.entry.epochs),
            "s an epoch": f"{min(seconds):.{0 if min(seconds) >= 10 else 1}f}" if seconds else "",
        }
        for column in columns:
            found |= self._handwriting() if column == "handwriting" else EXTRA[column](self.results)
        return found

    def _handwriting(self) -> dict[str, str]:
        read = [self.handwriting[each.weights] for each in self.results if each.weights in self.handwriting]
        names = dict.fromkeys(name for each in read for name in each)
        return {f"{name} %": _spread([100 * each[name] for each in read]) for name in names}


def table(study: Study, results: Sequence[Result], code: tuple[str, ...], seconds: Mapping[str, float]) -> list[Row]:
    """Put the results of a study together, a row for each entry, also where nothing has been run yet.

    Args:
        study: whose experiments are looked for.
        results: where.
        code: that they must have been made by.
        seconds: an epoch, by the MD5 of the weights.
    """
    return [
        Row(entry, tuple(found for each in entry.experiments if (found := each.find(results, code))), seconds)
        for entry in study.entries
    ]


def newest(study: Study, results: Sequence[Result], code: tuple[str, ...], seconds: Mapping[str, float]) -> list[Row]:
    """As :func:`table`; for an entry that this code has made nothing of, what the newest of other code has made."""
    codes = dict.fromkeys([code, *(each.code for each in results)])
    tables = [table(study, results, each, seconds) for each in codes]
    return [next((row for row in rows if row.results), rows[0]) for rows in zip(*tables, strict=True)]


def markdown(cells: Sequence[Mapping[str, str]]) -> list[str]:
    """A table as lines of Markdown; columns that say nothing in any row are left out."""
    headings = [
        heading
        for heading in dict.fromkeys(heading for row in cells for heading in row)
        if any(row.get(heading) for row in cells)
    ]
    rows = [headings, *([row.get(heading, "") for heading in headings] for row in cells)]
    rows = [[for_terminal(text).replace("|", "\\|") for text in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(headings))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines


def _spread(values: Sequence[float], form: str = ".2f") -> str:
    """Mean and standard deviation (of a sample), with the number of values."""
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:{form}} (1)"
    return f"{fmean(values):{form}} ± {stdev(values):{form}} ({len(values)})"


def _epochs(run: Sequence[int], recipe: int) -> str:
    if not run:
        return f"{recipe}"
    least, most = min(run), max(run)
    shown = str(least) if least == most else f"{least} to {most}"
    return shown if most == least == recipe else f"{shown} of {recipe}"


def _number(value: JsonValue) -> float:
    assert isinstance(value, int | float), value
    return float(value)


def _first_epoch(results: Sequence[Result]) -> dict[str, str]:
    firsts = [each.history[0] for each in results]
    values = [100 * float(row["test_accuracy"] or row["val_accuracy"] or math.nan) for row in firsts]
    return {"after 1 epoch %": _spread(values)}


def _kept_epoch(results: Sequence[Result]) -> dict[str, str]:
    return {"weights of epoch": ", ".join(str(each.train["kept_epoch"]) for each in results)}


def _validation(results: Sequence[Result]) -> dict[str, str]:
    values = [each.train["val_accuracy"] for each in results]
    return {"validation %": _spread([100 * _number(value) for value in values if value is not None])}


def _shifts(results: Sequence[Result]) -> dict[str, str]:
    found: dict[str, list[float]] = {}
    for each in results:
        moved = each.test["shift_accuracies"]
        assert isinstance(moved, list)
        for pixels, accuracy in enumerate(moved, start=1):
            found.setdefault(f"moved {pixels} px %", []).append(100 * _number(accuracy))
    return {heading: _spread(values, ".1f") for heading, values in found.items()}


def _dead_units(results: Sequence[Result]) -> dict[str, str]:
    """The share of hidden units that say the same for every image, layer by layer."""
    shares: dict[str, list[float]] = {}
    for each in results:
        for row in each.layers:
            if row["moment"] == "end" and row["dead_units"]:
                shares.setdefault(row["layer"], []).append(int(row["dead_units"]) / int(row["units"]))
    return {"dead units % by layer": ", ".join(f"{100 * fmean(values):.0f}" for values in shares.values())}


def _gradients(results: Sequence[Result]) -> dict[str, str]:
    """Norms of the gradient at the start of training, layer by layer."""
    norms: dict[str, list[float]] = {}
    for each in results:
        for row in each.layers:
            if row["moment"] == "start":
                norms.setdefault(row["layer"], []).append(float(row["gradient_norm"]))
    return {"gradient norm by layer, at the start": ", ".join(f"{fmean(values):.2g}" for values in norms.values())}


EXTRA = {
    "first_epoch": _first_epoch,
    "kept_epoch": _kept_epoch,
    "validation": _validation,
    "shifts": _shifts,
    "dead_units": _dead_units,
    "gradients": _gradients,
}
