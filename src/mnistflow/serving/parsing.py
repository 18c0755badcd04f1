"""Requests taken apart: the pictures in them, and how they are to be read."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from python_multipart import FormParser
from python_multipart.multipart import Field, File, parse_options_header

from mnistflow.serving.schemas import Images, Limits, Refused

__all__ = ["ReadOptions", "Upload", "parse_request", "printable"]


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


def parse_request(kind: str, body: bytes, options: ReadOptions, limits: Limits) -> tuple[list[Upload], ReadOptions]:
    """Take a request apart: its pictures, and how they are to be read.

    Args:
        kind: its content-type.
        body: all of it.
        options: what its query says.
        limits: of the number of pictures.

    Raises:
        Refused: it is not what the content-type says, or more than is allowed.
    """
    raw, parameters = parse_options_header(kind)
    media = raw.decode("latin-1")
    if media == "application/json":
        return _from_json(body, options, limits)
    if media == "multipart/form-data":
        files_sent = _form(body, parameters.get(b"boundary"), limits)
    elif media.startswith("image/") or media == "application/octet-stream":
        files_sent = [(None, body)]
    else:
        raise Refused(
            415,
            f"content-type is {printable(media) or 'missing'}; send image files as multipart/form-data in the field "
            '`files`, one image as image/*, or arrays as application/json: {"images": [...]}',
        )
    pictures = [
        Upload(name, data, "" if name is None else f"files[{number}] ({name}): ")
        for number, (name, data) in enumerate(files_sent)
    ]
    return pictures, options


def _form(body: bytes, boundary: bytes | None, limits: Limits) -> list[tuple[str | None, bytes]]:
    """The files of a form, with their names."""
    if not boundary:
        raise Refused(
            400, "multipart/form-data without a boundary in its content-type; most libraries set it themselves"
        )
    uploads: list[tuple[str | None, bytes]] = []
    ended = False

    def on_file(file: File) -> None:
        if file.field_name != b"files":
            raise Refused(
                400, f"the form has a file in the field {printable(file.field_name)}; files belong in `files`"
            )
        if len(uploads) == limits.images:
            raise Refused(413, f"more than {limits.images} files in one request; send them in several")
        file.file_object.seek(0)
        uploads.append((printable(file.file_name), file.file_object.read()))
        file.close()

    def on_field(field: Field) -> None:
        raise Refused(
            400, f"the form has a field {printable(field.field_name)} that is not a file; options belong in the query"
        )

    def on_end() -> None:
        nonlocal ended
        ended = True

    try:
        memory = {"MAX_MEMORY_FILE_SIZE": limits.body + 1, "UPLOAD_ERROR_ON_BAD_CTE": True}
        parser = FormParser("multipart/form-data", on_field, on_file, on_end, boundary=boundary, config=memory)
        parser.write(body)
        parser.finalize()
    except Refused:
        raise
    except (ValueError, LookupError, AssertionError):  # those of the parser, and what its decoders make of rubbish
        ended = False
    if not ended:
        raise Refused(400, "the body is not the multipart/form-data that its content-type announces, or it is cut off")
    if not uploads:
        raise Refused(400, "the form has no file; put one or more into the field `files`")
    return uploads


def printable(text: bytes | str | None) -> str:
    """A name that came from outside: one short line."""
    name = text.decode("utf-8", "replace") if isinstance(text, bytes) else text or ""
    return "".join(letter for letter in name if letter.isprintable())[:80]


def _from_json(body: bytes, options: ReadOptions, limits: Limits) -> tuple[list[Upload], ReadOptions]:
    """The images of a JSON document, and what it says beside the query."""
    try:
        document = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        reason = error if isinstance(error, Refused) else "too deep" if isinstance(error, RecursionError) else error
        raise Refused(400, f"the body is not JSON: {reason}") from None
    allowed = {"images", "model", "explain", "maps"}
    if not isinstance(document, dict) or "images" not in document:
        raise Refused(400, 'the body must be an object with images: {"images": [[[0, 0, ...], ...], ...]}')
    if unknown := sorted(map(printable, set(document) - allowed)):
        raise Refused(400, f"the body has {', '.join(unknown[:5])}; allowed are {', '.join(sorted(allowed))}")
    given = document["images"]
    if not isinstance(given, list) or not given:
        raise Refused(400, "images must be a list of one or more images, each a list of rows of numbers")
    if len(given) > limits.images:
        raise Refused(
            413, f"images has {len(given)} images, more than the {limits.images} of one request; send several"
        )
    named = document.get("model", list(options.models))
    named = [named] if isinstance(named, str) else named
    explain, maps = document.get("explain", options.explain), document.get("maps", options.maps)
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise Refused(400, "model must be the name of a model, or a list of names")
    if not isinstance(explain, bool):
        raise Refused(400, "explain must be true or false")
    if maps is not None and (type(maps) is not int or maps < 0):
        raise Refused(400, "maps must be the number of a digit, from 0 on")
    pictures = [Upload(None, _array(image, f"images[{number}]")) for number, image in enumerate(given)]
    return pictures, ReadOptions(tuple(named), explain, maps, options.several)


def _no_number(name: str) -> float:
    raise Refused(400, f"{name} is not a number that a pixel can have")


def _array(rows: object, where: str) -> Images:
    """One image, from lists of whole numbers from 0 to 255."""
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
        raise Refused(400, f"{where} must be a list of rows, each a list of numbers")
    width = len(rows[0])
    for number, row in enumerate(rows):
        if len(row) != width or not width:
            raise Refused(400, f"{where}[{number}] has {len(row)} numbers, and {where}[0] has {width}")
        for value in row:
            if type(value) is not int or not 0 <= value <= 255:
                shown = printable(json.dumps(value))[:40]
                raise Refused(400, f"{where}[{number}] has {shown}; pixels are integers from 0 (background) to 255")
    return np.array(rows, dtype=np.uint8)
