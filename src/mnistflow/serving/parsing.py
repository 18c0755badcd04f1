"""Parsing of requests: the pictures in them, and the options for reading them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from mnistflow.serving.schemas import ArrayRequest, Images, Limits, Refused

__all__ = ["ReadOptions", "Upload", "error_line", "media_type", "parse_arrays", "parse_form", "printable"]


@dataclass(frozen=True)
class ReadOptions:
    """How pictures are to be read."""

    models: tuple[str, ...]  # none: all
    explain: bool
    maps: int | None
    several: bool


@dataclass(frozen=True)
class Upload:
    """A picture that came as a file, or an image that came as numbers."""

    name: str | None
    content: bytes | Images  # the file, which is decoded only when its turn comes; an array is (H, W)
    where: str = ""  # in the request, as the beginning of an error


def media_type(content_type: str) -> str:
    """The type and subtype of a content-type, without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


async def parse_form(request: Request, body: bytes, limits: Limits) -> list[Upload]:
    """The files of a form.

    Args:
        request: whose content-type names the boundary.
        body: all of it.
        limits: of the number of files.

    Raises:
        Refused: it is not a form of files in the field ``files``, or there are too many.
    """

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    uploads: list[Upload] = []
    try:
        async with Request(request.scope, receive).form(max_files=limits.images, max_fields=1) as form:
            for field, value in form.multi_items():
                if not isinstance(value, UploadFile):
                    raise Refused(
                        400, f"the form's field {printable(field)} is not a file; options belong in the query"
                    )
                if field != "files":
                    raise Refused(400, f"the form has a file in the field {printable(field)}; files belong in `files`")
                coding = value.headers.get("content-transfer-encoding", "binary").lower()
                if coding not in ("7bit", "8bit", "binary"):  # RFC 7578, 4.7: it is no longer used
                    raise Refused(400, f"the form has a file encoded as {printable(coding)}; send it unencoded")
                name = printable(value.filename)
                uploads.append(Upload(name, await value.read(), f"files[{len(uploads)}] ({name}): "))
    except HTTPException as error:  # of Starlette's parser
        if error.detail.startswith("Too many files"):
            raise Refused(413, f"more than {limits.images} files in one request; send them in several") from None
        raise Refused(400, f"the body is not a form: {printable(error.detail)}") from None
    if not body.rstrip(b"\r\n").endswith(b"--"):  # which Starlette does not look for
        raise Refused(400, "the form is cut off: it does not end with its boundary")
    if not uploads:
        raise Refused(400, "the form has no file; put one or more into the field `files`")
    return uploads


def parse_arrays(body: bytes, options: ReadOptions, limits: Limits) -> tuple[list[Upload], ReadOptions]:
    """The images of a JSON document, and what it says beside the query.

    Args:
        body: all of it.
        options: what the query says.
        limits: of the number of images.

    Raises:
        Refused: it is not JSON, not an :class:`ArrayRequest`, or has too many images.
    """
    try:
        asked = ArrayRequest.model_validate_json(body)
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False, include_context=False)
        raise Refused(400, f"the body is invalid: {error_line(first['loc'], first['msg'], first['input'])}") from None
    if len(asked.images) > limits.images:
        raise Refused(
            413, f"images has {len(asked.images)} images, more than the {limits.images} of one request; send several"
        )
    pictures = []
    for number, rows in enumerate(asked.images):
        for index, row in enumerate(rows):
            if len(row) != len(rows[0]):
                where = f"images[{number}]"
                raise Refused(400, f"{where}[{index}] has {len(row)} numbers, and {where}[0] has {len(rows[0])}")
        pictures.append(Upload(None, np.array(rows, dtype=np.uint8)))
    return pictures, replace(
        options,
        models=options.models if asked.model is None else tuple(asked.model),
        explain=options.explain if asked.explain is None else asked.explain,
        maps=options.maps if asked.maps is None else asked.maps,
    )


def error_line(location: tuple[int | str, ...], message: str, given: object) -> str:
    """What pydantic found wrong, and what was given, as one line.

    ``images[0][3][4]: Input should be a valid integer, not 0.5``; lists and objects are not repeated.
    """
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{printable(part)}" for part in location)
    line = f"{where.removeprefix('.')}: {message}" if where else message
    if message.startswith("Input should") and (given is None or isinstance(given, bool | int | float | str)):
        line += f", not {printable(json.dumps(given))[:40]}"
    return line


def printable(text: bytes | str | None) -> str:
    """A name that came from outside: one short line."""
    name = text.decode("utf-8", "replace") if isinstance(text, bytes) else text or ""
    return "".join(letter for letter in name if letter.isprintable())[:80]
