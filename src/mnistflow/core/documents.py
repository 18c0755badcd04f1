"""JSON documents as frozen dataclasses: one class says what a file holds, and reads and writes it.

A field's metadata may name the key that it has in the file (``{"key": "class"}``); its type says what may be there:
numbers, texts, booleans, None, tuples of one type, and other dataclasses. A field with a default may be missing: give
one to a field that is added later, so that files from before can be read.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from mnistflow.core.files import read_json, write_json

__all__ = ["parse_document", "read_document", "tree_of", "write_document"]

D = TypeVar("D")


def read_document(path: Path, form: type[D]) -> D:
    """Read a JSON file.

    Raises:
        ValueError: the file is missing, or is not of this form; says where. Keys that the form lacks are left out.
    """
    return parse_document(read_json(path), form, str(path))


def parse_document(tree: Mapping[str, object], form: type[D], name: str) -> D:
    """Make a dataclass of a JSON object.

    Args:
        tree: the object.
        form: the dataclass.
        name: what to call the document in messages.

    Raises:
        ValueError: it is not of this form; says where.
    """
    try:
        return typing.cast("D", _made(form, tree, ""))
    except TypeError as error:
        raise ValueError(f"{name} is damaged: {error}; `dvc repro` recreates it") from None


def write_document(path: Path, document: object) -> None:
    """Write a dataclass as a JSON file, its keys in the order of the fields."""
    write_json(path, tree_of(document))


def tree_of(document: object) -> dict[str, object]:
    """A dataclass as a JSON object, floats of its fields as they are."""
    assert dataclasses.is_dataclass(document)
    return {_key(field): _plain(getattr(document, field.name)) for field in dataclasses.fields(document)}


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value):
        return tree_of(value)
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _key(field: dataclasses.Field[Any]) -> str:
    return str(field.metadata.get("key", field.name))


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _made(form: Any, value: object, place: str) -> object:
    """A value of a type, from what JSON has for it; TypeError where it is something else."""
    if isinstance(form, types.UnionType):
        kinds = typing.get_args(form)
        if value is None and type(None) in kinds:
            return None
        (form,) = (kind for kind in kinds if kind is not type(None))
    if dataclasses.is_dataclass(form) and isinstance(form, type):
        if not isinstance(value, Mapping):
            raise TypeError(f"{place or 'it'} must be an object, not {value!r}")
        hints = typing.get_type_hints(form)
        fields = dataclasses.fields(form)
        if missing := [_key(field) for field in fields if _is_required(field) and _key(field) not in value]:
            raise TypeError(f"{f'{place} ' if place else 'it '}lacks {', '.join(missing)}")
        return form(
            **{
                field.name: _made(hints[field.name], value[key], f"{place}.{key}" if place else key)
                for field in fields
                if (key := _key(field)) in value
            }
        )
    if typing.get_origin(form) is tuple:
        if not isinstance(value, list):
            raise TypeError(f"{place} must be a list, not {value!r}")
        kind, _ = typing.get_args(form)  # tuple[kind, ...]
        return tuple(_made(kind, part, f"{place}[{number}]") for number, part in enumerate(value))
    allowed = (int, float) if form is float else form
    if not isinstance(value, allowed) or (isinstance(value, bool) and form is not bool):
        raise TypeError(f"{place} must be of type {form.__name__}, not {value!r}")
    return value
