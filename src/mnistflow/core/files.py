"""Atomic file writes, and readers that report a damaged file in one clear line."""

from __future__ import annotations

import contextlib
import csv
import glob
import hashlib
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import yaml

try:
    from yaml import CSafeLoader as SafeLoader  # ten times as fast, where PyYAML was built with it
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

from mnistflow.core.text import for_spreadsheet, from_spreadsheet

if TYPE_CHECKING:  # training runs without pydantic
    from pydantic import JsonValue

__all__ = [
    "atomic_write",
    "link",
    "named_path",
    "note",
    "parse_yaml",
    "project_root",
    "read_csv",
    "read_json",
    "read_yaml",
    "remove",
    "sha256",
    "write_csv",
    "write_json",
]


MAX_LEVELS = 100  # in a YAML file; params.yaml has four
MAX_VALUES = 1_000_000  # in a YAML file; dvc.lock, the largest here, has some hundred


def project_root() -> Path:
    """The main repository: what must outlive the run belongs there.

    DVC runs queued experiments in a copy that it deletes afterwards; ``DVC_ROOT`` names the original there too.
    """
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


def named_path(text: str) -> Path:
    """The path that a user wrote in params.yaml, absolute: ``~`` is expanded, a relative one is the project's.

    Raises:
        ValueError: no file can have this path: a loop of links, a name that is too long, a NUL character.
    """
    path = project_root() / os.path.expanduser(text)  # noqa: PTH111 - never raises
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # for whoever needs it to be there
    except (OSError, ValueError) as error:
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        reason = (error.strerror if isinstance(error, OSError) else str(error)) or "unknown"
        raise ValueError(f"{shown!r} is not a usable path: {reason.lower()}; choose another") from None
    return path


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Write a file so that it appears whole or not at all.

    Yields a path of the same name in a temporary folder next to the final path. When the block ends, the file is
    flushed to disk and moved into place, and the folder is deleted with everything else in it. Temporary folders left
    by killed processes are deleted as well.

    Raises:
        OSError: the file cannot be written; says which, and why.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    # A folder, because what writes there may do so under names of its own: safetensors does.
    folder = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    temporary = folder / path.name
    try:
        folder.mkdir()
        temporary.touch()
        # By the umask; what writes there may put a file in its place that is for one user alone.
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename in (None, str(folder), str(temporary)):
            raise OSError(f"{path} cannot be written: {error.strerror or error}") from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a file, and what a process that was killed while it wrote has left beside it."""
    path.unlink(missing_ok=True)
    _sweep(path)


def _sweep(path: Path) -> None:
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if not _is_alive(left.name.removeprefix(f".{path.name}.").partition(".")[0]):
            shutil.rmtree(left, ignore_errors=True)


def _is_alive(process: str) -> bool:
    """Whether there is a process of this number; yes where that cannot be asked."""
    if os.name != "posix" or not process.isdecimal():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def link(path: Path, target: Path | None, otherwise: str | None = None) -> None:
    """Make ``path`` a symbolic link to a user-supplied file or folder.

    A link to a target inside the project is relative, so that it stays valid when the project is moved or copied.

    Args:
        path: of the link.
        target: an absolute path; None: nothing is supplied.
        otherwise: content of a plain file that replaces the link if ``target`` is None; None: no file at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    if target is not None:
        within = target.is_relative_to(project_root())
        temporary.symlink_to(os.path.relpath(target, path.parent.resolve()) if within else target)
    elif otherwise is not None:
        temporary.write_text(otherwise, encoding="utf-8")
    else:
        path.unlink(missing_ok=True)
        return
    temporary.replace(path)


def note(path: Path, brought: Mapping[str, Path | None]) -> None:
    """Record the user-supplied files as JSON, by name; the file is removed if there are none.

    Paths inside the project are relative to it, so that the record stays valid when the project is moved.
    """
    root = project_root()
    named = {
        name: str(target.relative_to(root) if target.is_relative_to(root) else target)
        for name, target in brought.items()
        if target is not None
    }
    if named:
        write_json(path, named)
    else:
        path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, tree: Mapping[str, object]) -> None:
    """Write a JSON object with two-space indentation, its keys in the order given."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(tree, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path, *keys: str) -> dict[str, object]:
    """Read a JSON object.

    Args:
        path: of the file.
        keys: that it must have.

    Raises:
        ValueError: the file is missing, or holds something else.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{path} holds no JSON object")
    if missing := [key for key in keys if key not in tree]:
        raise ValueError(f"{path} is damaged: it lacks {', '.join(missing)}; `dvc repro` recreates it")
    return tree


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a table of comma-separated values, at least one row; all have the columns of the first. None is empty.

    Text that a spreadsheet would take for a formula has an apostrophe before it, which :func:`read_csv` takes away.
    """
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {column: for_spreadsheet(cell) if isinstance(cell, str) else cell for column, cell in row.items()}
            )


def read_csv(path: Path, *, numbers: Sequence[str] = (), texts: Sequence[str] = ()) -> list[dict[str, str]]:
    """Read what :func:`write_csv` wrote, a dictionary of texts for each row, at least one.

    Args:
        path: of the file.
        numbers: columns that must be there, and hold numbers or nothing.
        texts: columns that must be there.

    Raises:
        ValueError: the file is missing, or holds something else; says where.
    """
    try:
        text = path.read_text(encoding="utf-8")
        reader = csv.DictReader(io.StringIO(text), strict=True)
        headings = reader.fieldnames or ()
        rows = [
            {column: from_spreadsheet(cell) if isinstance(cell, str) else cell for column, cell in row.items()}
            for row in reader
        ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    again = "`dvc repro` recreates it"
    if missing := [column for column in (*numbers, *texts) if column not in headings]:
        raise ValueError(f"{path} is damaged: it lacks the column {', '.join(missing)}; {again}")
    if not rows:
        raise ValueError(f"{path} is damaged: it has no rows; {again}")
    if not text.endswith("\n"):  # a number that is cut is still a number
        raise ValueError(f"{path} is damaged: its last line is cut short; {again}")
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise ValueError(f"{path} is damaged: line {line} does not have as many columns as the first; {again}")
        for column in numbers:
            try:
                float(row[column] or 0)
            except ValueError:
                raise ValueError(
                    f"{path} is damaged: line {line} has {row[column]!r} in the column {column}; {again}"
                ) from None
    return rows


def _size(tree: JsonValue, known: dict[int, int]) -> int:
    """How many values a tree has, each that aliases repeat counted as often.

    Raises:
        YAMLError: more than MAX_VALUES, as a few nested aliases can make them, or an alias within what it repeats.
    """
    if not isinstance(tree, dict | list):
        return 1
    if id(tree) not in known:
        known[id(tree)] = MAX_VALUES  # until it is counted: what holds itself has no end
        values = tree.values() if isinstance(tree, dict) else tree
        known[id(tree)] = 1 + sum(_size(value, known) for value in values)
    if known[id(tree)] > MAX_VALUES:
        raise yaml.YAMLError(f"its aliases (*name) make more than {MAX_VALUES:,} values of it")
    return known[id(tree)]


# What may be written before a value of each kind; other tags make what JSON has no form for.
TAGS: dict[type[yaml.Node], tuple[str, ...]] = {
    yaml.ScalarNode: ("null", "bool", "int", "float", "str"),
    yaml.SequenceNode: ("seq",),
    yaml.MappingNode: ("map",),
}


class _Loader(SafeLoader):
    """YAML 1.2's scalars, which DVC reads and writes, where PyYAML knows those of 1.1; duplicate keys are refused."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - the base class's is one of the class, too

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!r}", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        tag = str(node.tag).removeprefix("tag:yaml.org,2002:")
        if tag not in TAGS[type(node)]:
            known = ", ".join(f"!!{name}" for name in TAGS[type(node)])
            problem = f"the tag {node.tag} does not fit; use {known}, or none"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError) as error:
            problem = f"{str(node.value)[:40]!r} is not a valid !!{tag}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        text = str(node.value).replace("_", "")
        return int(text, 0) if text.lstrip("+-")[:2] in ("0b", "0o", "0x") else int(text)

    def construct_real(self, node: yaml.ScalarNode) -> float:
        text = str(node.value).lower().replace("_", "")
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))


# The core schema of YAML 1.2.2, section 10.3.2, with what DVC's parser allows beyond it: signs before a prefix, binary
# numbers, underscores.
_NUMBER = r"[0-9][0-9_]*"
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", rf"[-+]?({_NUMBER}|0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+)", list("-+0123456789")),
    (
        "float",
        rf"[-+]?({_NUMBER}\.[0-9_]*([eE][-+]?[0-9]+)?|{_NUMBER}[eE][-+]?[0-9]+|\.[0-9][0-9_]*([eE][-+][0-9]+)?)"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_real)


def read_yaml(path: Path) -> JsonValue:
    """Read a YAML file as DVC does (YAML 1.2).

    Raises:
        ValueError: the file is missing, cannot be read, or is not YAML; says where.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> JsonValue:
    """Parse YAML as DVC does (YAML 1.2).

    Args:
        text: the document.
        name: what to call it in messages.

    Raises:
        ValueError: it is not YAML; says where.
    """
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):  # which, other than loading, does not recurse
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_LEVELS:
                raise yaml.YAMLError(f"it is nested more than {MAX_LEVELS} levels deep")
        tree = cast("JsonValue", yaml.load(text, Loader=_Loader))
        _size(tree, {})
        return tree
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"{name} is not valid YAML{where}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from error


def digest(tree: Mapping[str, object]) -> str:
    """SHA-256 of a mapping's JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True, allow_nan=False).encode()).hexdigest()


def md5(path: Path) -> str:
    """MD5 of a file in hexadecimal, by which dvc.lock identifies it."""
    return hashlib.md5(path.read_bytes()).hexdigest()
