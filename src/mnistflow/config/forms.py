"""Validation of YAML mappings against a form, with one readable line for each mistake."""

from __future__ import annotations

import difflib
import inspect
import json
import math
import re
import typing
from collections.abc import Callable, Mapping

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, create_model

__all__ = [
    "NAME_PATTERN",
    "Block",
    "ParamsError",
    "argument_problems",
    "explained",
    "flattened",
    "form_problems",
    "nearest",
    "shown",
]


class ParamsError(ValueError):
    """One or more mistakes in a params file; ``problems`` holds one line for each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class Block(BaseModel):
    """A mapping with known keys: unknown ones are refused, types are not converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


NAME_PATTERN = r"^[a-z][a-z0-9_-]*$"


def argument_problems(path: str, function: Callable[..., object], block: Mapping[str, JsonValue]) -> list[str]:
    """Check a block against the keyword-only parameters of the function or class that will receive it.

    Args:
        path: dotted path of the block, for the messages.
        function: its keyword-only parameters, with their annotations and defaults, are the allowed keys.
        block: what params.yaml holds.

    Returns:
        One line per mistake.
    """
    target = function.__init__ if inspect.isclass(function) else function
    hints = typing.get_type_hints(target, include_extras=True)
    fields: dict[str, tuple[object, object]] = {
        name: (hints[name], ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    form: type[BaseModel] = create_model("Arguments", __config__=Block.model_config, **fields)  # type: ignore[call-overload]
    try:
        form.model_validate(block)
    except ValidationError as error:
        return explained(error, form, dict(block), path)
    return []


def form_problems(path: str, form: type[BaseModel], document: JsonValue) -> list[str]:
    """Check a document against a form; one line per mistake, beginning with ``path`` and that of the key."""
    try:
        form.model_validate(document)
    except ValidationError as error:
        return [f"{path}: {line}" for line in explained(error, form, document)]
    return []


def flattened(tree: Mapping[str, object], prefix: str = "") -> typing.Iterator[tuple[str, JsonValue]]:
    """The values of nested mappings, each with its dotted path, which begins with ``prefix``."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", typing.cast(JsonValue, value)


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """Half a sentence for an error message: the nearest known name, and all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names) or 'none'}"


_NAME = "a name of lower-case letters, digits, '-' and '_', a letter first"


def explained(error: ValidationError, form: type[BaseModel], document: JsonValue, root: str = "") -> list[str]:
    """One line per mistake: path, what was given, what is allowed."""
    lines: dict[str, list[str]] = {}
    for entry in error.errors(include_url=False):
        kind = entry["type"]
        keys, value = _locate(document, entry["loc"], absent=kind == "missing")
        path = ".".join([*filter(None, [root]), *map(_quoted, keys)])
        if kind == "missing":
            text = "is missing; this key is required"
        elif kind == "extra_forbidden":
            siblings = _siblings(form, entry["loc"][:-1])
            text = f"unknown key; {nearest(str(keys[-1]), siblings)}"
        elif entry["loc"][-1] == "[key]":
            text = f"expected {_NAME}; got {shown(keys[-1])}"
        else:
            expected = str(entry["msg"]).removeprefix("Input should be ").removeprefix("a valid ")
            if kind in ("model_type", "dict_type"):
                expected = "a block of keys"
            elif kind in ("too_short", "too_long"):
                expected = "a list of 2 numbers"
            elif kind == "string_pattern_mismatch":
                expected = "auto, cpu, cuda, cuda:N or mps" if keys[-1] == "device" else _NAME
            text = f"expected {expected}; got {shown(value)}"
        lines.setdefault(path, []).append(text)
    return [f"{path}: {_joined(texts)}" for path, texts in lines.items()]


def _quoted(key: str) -> str:
    """A key as part of a path, in quotation marks where it is not a plain word."""
    if re.fullmatch(r"[\w-]+", key):
        return key
    return json.dumps(key if len(key) <= 60 else f"{key[:57]}...", ensure_ascii=False)


def _joined(texts: list[str]) -> str:
    """The alternatives of one leaf (a union gives a message for each) as one sentence."""
    if len(texts) == 1:
        return texts[0]
    got = texts[0].rpartition("; got ")[2]
    wanted = [text.removeprefix("expected ").rpartition("; got ")[0] or text for text in texts]
    return f"expected {', or '.join(dict.fromkeys(wanted))}; got {got}"


def _locate(document: JsonValue, loc: tuple[int | str, ...], absent: bool) -> tuple[list[str], JsonValue]:
    """The path of a mistake as the file has it: pydantic's also names the alternative of a union that was tried."""
    keys: list[str] = []
    node = document
    for part in loc:
        if isinstance(node, dict) and part in node:
            node = node[str(part)]
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
        elif absent and part == loc[-1]:
            return [*keys, str(part)], None
        else:
            continue
        keys.append(str(part))
    return keys, node


def _siblings(form: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys that a block at this place may have."""
    current: object = form
    for part in loc:
        if inspect.isclass(current) and issubclass(current, BaseModel) and part in current.model_fields:
            current = current.model_fields[str(part)].annotation
        elif typing.get_origin(current) is dict:
            current = typing.get_args(current)[1]
    if inspect.isclass(current) and issubclass(current, BaseModel):
        return list(current.model_fields)
    return []


def shown(value: JsonValue) -> str:
    """A value as YAML has it, short."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{'-' if value < 0 else ''}.{abs(value)}"
    text = {None: "null", True: "true", False: "false"}.get(value, repr(value)) if _simple(value) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _simple(value: JsonValue) -> typing.TypeGuard[bool | None]:
    return value is None or isinstance(value, bool)
