"""Networks behind HTTP: an API for programs, and a page to draw on for people.

Every answer to bad input is a 4xx with one line: ``{"error": "..."}``. What a request may cost is limited before it is
paid: bytes while they are read, pixels before they are decoded, images before they are looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources import files
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

import h11
import numpy as np
import uvicorn
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from numpy.typing import NDArray
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client import generate_latest as exposition
from python_multipart import FormParser
from python_multipart.multipart import Field, File, parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from mnistflow import __version__
from mnistflow.answers import Named, identified
from mnistflow.predictor import Identity, Predictor
from mnistflow.reader import Box, Digit, Unreadable, decode

__all__ = ["Limits", "Refused", "app", "serve"]

PAGES = {  # path: file of the page, and what it is
    "/": ("draw.html", "text/html; charset=utf-8"),
    "/docs": ("docs.html", "text/html; charset=utf-8"),
    "/draw.js": ("draw.js", "text/javascript; charset=utf-8"),
    "/docs.js": ("docs.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
HEADERS = {  # of every answer: nothing from elsewhere, nothing for elsewhere
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
MOST_DIGITS = 64  # in one picture
HEAD_BYTES = 16 * 1024  # of a request line with its headers
HEAD_TOO_LONG = f"the head of the request is longer than the {HEAD_BYTES:,} bytes that are allowed"
HEAD_SECONDS = 10.0  # for a client to send them
ENDING_SECONDS = 1.0  # for clients to ask once more on connections that they keep, and be told that it ends
WRITE_SECONDS = 10.0  # for a client to read CHUNK bytes of an answer
CHUNK = 128 * 1024
BODIES_HELD = 16  # times the limit of one, of all requests together
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Limits:
    """What one request may cost, and how many of them there may be."""

    body: int = 16 * 2**20  # bytes
    pixels: int = 24_000_000  # of one picture
    all_pixels: int = 240_000_000  # of all pictures in one request
    images: int = 256  # in one request
    digits: int = 2048  # read in one request, counted once for each network
    answer: int = 8 * 2**20  # bytes
    cpu_seconds: float = 20.0  # of processor time for one request
    waiting: int = 128  # requests for answers at once, those that are computed included
    seconds: float = 30.0  # for a client to send its request


class Refused(ValueError):
    """A request that is answered with a 4xx and one line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


# ---------------------------------------------------------------------------------------------------------------------
# What is answered


@dataclass(frozen=True)
class Layer:
    """What a layer of convolutions answers to a digit."""

    name: str
    channels: int
    height: int
    width: int
    largest: float  # what 255 stands for
    values: list[list[list[int]]]  # channels x height x width, 0 to 255


@dataclass(frozen=True)
class Read(Named):
    """One digit, and what the network saw of it."""

    seen: list[list[int]] | None  # with `explain`: what the network was given, 0 is background
    maps: list[Layer] | None  # with `maps`: of the digit of that number


@dataclass(frozen=True)
class Picture:
    """What is written in one picture, from left to right; nothing where it is empty."""

    name: str | None  # of the file, where it has one
    width: int
    height: int
    digits: list[Read]


@dataclass(frozen=True)
class Model:
    """Which network it is."""

    name: str
    weights: str  # SHA-256 of the file of its weights
    run: str | None  # in MLflow
    test_accuracy: float | None
    dataset: str
    classes: list[str]
    image_size: list[int]  # height, width

    @classmethod
    def of(cls, name: str, identity: Identity) -> Model:
        """Describe a network that is offered under a name."""
        return cls(
            name=name,
            weights=identity.weights,
            run=identity.run,
            test_accuracy=identity.test_accuracy,
            dataset=identity.dataset,
            classes=list(identity.classes),
            image_size=list(identity.image_size),
        )


@dataclass(frozen=True)
class Answer:
    """What one network reads in the pictures, in their order."""

    model: Model
    pictures: list[Picture]


@dataclass(frozen=True)
class Answers:
    """The answers of the networks that were asked, in the order in which they are offered."""

    answers: list[Answer]


@dataclass(frozen=True)
class Offer:
    """The networks that are offered; without a choice, all of them are asked."""

    models: list[Model]
    limits: Limits


@dataclass(frozen=True)
class Health:
    """That it answers."""

    status: Literal["ok"]
    models: list[str]
    version: str


@dataclass(frozen=True)
class Error:
    """Why a request was refused."""

    error: str


# ---------------------------------------------------------------------------------------------------------------------
# What is asked


@dataclass(frozen=True)
class Wish:
    """How pictures are to be read."""

    models: tuple[str, ...]  # none: all
    explain: bool
    maps: int | None
    several: bool


@dataclass(frozen=True)
class Sent:
    """A picture that came as a file, or an image that came as numbers."""

    name: str | None
    content: bytes | Images  # the file, which is decoded only when its turn comes; an array is (H, W)
    where: str = ""  # in the request, as the beginning of an error


def taken_apart(kind: str, body: bytes, wish: Wish, limits: Limits) -> tuple[list[Sent], Wish]:
    """Take a request apart: its pictures, and how they are to be read.

    Args:
        kind: its content-type.
        body: all of it.
        wish: what its query says.
        limits: of the number of pictures.

    Raises:
        Refused: it is not what the content-type says, or more than is allowed.
    """
    raw, parameters = parse_options_header(kind)
    media = raw.decode("latin-1")
    if media == "application/json":
        return _from_json(body, wish, limits)
    if media == "multipart/form-data":
        files_sent = _form(body, parameters.get(b"boundary"), limits)
    elif media.startswith("image/") or media == "application/octet-stream":
        files_sent = [(None, body)]
    else:
        raise Refused(
            415,
            f"content-type is {_shown(media) or 'missing'}; send image files as multipart/form-data in the field "
            '`files`, one image as image/*, or arrays as application/json: {"images": [...]}',
        )
    pictures = [
        Sent(name, data, "" if name is None else f"files[{number}] ({name}): ")
        for number, (name, data) in enumerate(files_sent)
    ]
    return pictures, wish


def _form(body: bytes, boundary: bytes | None, limits: Limits) -> list[tuple[str | None, bytes]]:
    """The files of a form, with their names."""
    if not boundary:
        raise Refused(
            400, "multipart/form-data without a boundary in its content-type; most libraries set it themselves"
        )
    found: list[tuple[str | None, bytes]] = []
    ended = False

    def on_file(file: File) -> None:
        if file.field_name != b"files":
            raise Refused(400, f"the form has a file in the field {_shown(file.field_name)}; files belong in `files`")
        if len(found) == limits.images:
            raise Refused(413, f"more than {limits.images} files in one request; send them in several")
        file.file_object.seek(0)
        found.append((_shown(file.file_name), file.file_object.read()))
        file.close()

    def on_field(field: Field) -> None:
        raise Refused(
            400, f"the form has a field {_shown(field.field_name)} that is no file; options belong in the query"
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
    if not found:
        raise Refused(400, "the form has no file; put one or more into the field `files`")
    return found


def _shown(text: bytes | str | None) -> str:
    """A name that came from outside: one short line."""
    name = text.decode("utf-8", "replace") if isinstance(text, bytes) else text or ""
    return "".join(letter for letter in name if letter.isprintable())[:80]


def _from_json(body: bytes, wish: Wish, limits: Limits) -> tuple[list[Sent], Wish]:
    """The images of a JSON document, and what it says beside the query."""
    try:
        document = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        said = error if isinstance(error, Refused) else "too deep" if isinstance(error, RecursionError) else error
        raise Refused(400, f"the body is not JSON: {said}") from None
    allowed = {"images", "model", "explain", "maps"}
    if not isinstance(document, dict) or "images" not in document:
        raise Refused(400, 'the body must be an object with images: {"images": [[[0, 0, ...], ...], ...]}')
    if unknown := sorted(map(_shown, set(document) - allowed)):
        raise Refused(400, f"the body has {', '.join(unknown[:5])}; allowed are {', '.join(sorted(allowed))}")
    given = document["images"]
    if not isinstance(given, list) or not given:
        raise Refused(400, "images must be a list of one or more images, each a list of rows of numbers")
    if len(given) > limits.images:
        raise Refused(
            413, f"images has {len(given)} images, more than the {limits.images} of one request; send several"
        )
    named = document.get("model", list(wish.models))
    named = [named] if isinstance(named, str) else named
    explain, maps = document.get("explain", wish.explain), document.get("maps", wish.maps)
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise Refused(400, "model must be the name of a model, or a list of names")
    if not isinstance(explain, bool):
        raise Refused(400, "explain must be true or false")
    if maps is not None and (type(maps) is not int or maps < 0):
        raise Refused(400, "maps must be the number of a digit, from 0 on")
    pictures = [Sent(None, _array(image, f"images[{number}]")) for number, image in enumerate(given)]
    return pictures, Wish(tuple(named), explain, maps, wish.several)


def _no_number(name: str) -> float:
    raise Refused(400, f"{name} is no number that a pixel can have")


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
                said = _shown(json.dumps(value))[:40]
                raise Refused(400, f"{where}[{number}] has {said}; pixels are whole numbers from 0 (background) to 255")
    return np.array(rows, dtype=np.uint8)


# ---------------------------------------------------------------------------------------------------------------------
# Answering


class Offered:
    """The networks that are offered, by their names, and the threads that they compute in.

    Args:
        predictors: one or more; of two with one name, the second one carries the beginning of its digest too.
        limits: of a request.
    """

    def __init__(self, predictors: Sequence[Predictor], limits: Limits) -> None:
        self.limits = limits
        self.predictors: dict[str, Predictor] = {}
        for predictor in predictors:
            name, weights = predictor.identity.name, predictor.identity.weights
            if any((name, weights) == (each.identity.name, each.identity.weights) for each in self.predictors.values()):
                raise ValueError(f"{name} is offered twice; name each model once")
            if name in self.predictors:
                name = f"{name} ({weights[:8]})"
            self.predictors[name] = predictor
        self.models = {name: Model.of(name, each.identity) for name, each in self.predictors.items()}
        self.threads = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="answer")
        self.under_way = 0
        self.held = 0  # bytes of bodies

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """Let a request in, if there are not too many."""
        if self.under_way >= self.limits.waiting:
            raise Refused(429, f"there are {self.limits.waiting} requests waiting already; try again in a second")
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1

    def answer(self, kind: str, body: bytes, wish: Wish) -> tuple[bytes, int]:
        """Answer a request: the answer as JSON, and how many pictures were in it.

        Raises:
            Refused: it is not as it should be, or asks for what there is not.
        """
        pictures, wish = taken_apart(kind, body, wish, self.limits)
        for name in wish.models:
            if name not in self.predictors:
                raise Refused(400, f"there is no model {_shown(name)!r}; there are: {', '.join(self.predictors)}")
        if wish.maps is not None and len(pictures) > 1:
            raise Refused(400, f"maps are given for one image at a time, and these are {len(pictures)}")
        chosen = [name for name in self.predictors if not wish.models or name in wish.models]
        sizes, digits = self._digits(chosen, pictures, wish)
        answers = [
            Answer(self.models[name], _read(self.predictors[name], pictures, sizes, digits[name], wish))
            for name in chosen
        ]
        return json.dumps(Answers(answers), default=vars, separators=(",", ":")).encode(), len(pictures)

    def _digits(
        self, chosen: Sequence[str], pictures: Sequence[Sent], wish: Wish
    ) -> tuple[list[tuple[int, int]], dict[str, list[tuple[Digit, ...]]]]:
        """The size of each picture, and the digits in it as each network takes them.

        One picture after the other is decoded, searched and dropped: no more than one is held in full.
        """
        limits, started = self.limits, time.thread_time()
        sizes: list[tuple[int, int]] = []
        digits: dict[str, list[tuple[Digit, ...]]] = {name: [] for name in chosen}
        pixels = count = length = 0
        for number, sent in enumerate(pictures):
            if time.thread_time() - started > limits.cpu_seconds:
                raise Refused(
                    413,
                    f"the request needs more than the {limits.cpu_seconds:g} seconds of processor time that are "
                    f"allowed, for {number} of {len(pictures)} pictures already; send smaller images or fewer",
                )
            try:
                given = sent.content
                grey = decode(given, most_pixels=limits.pixels) if isinstance(given, bytes) else given
            except Unreadable as error:
                raise Refused(400, f"{sent.where}{error}") from None
            sizes.append((grey.shape[0], grey.shape[1]))
            pixels += grey.size
            if pixels > limits.all_pixels:
                raise Refused(
                    413,
                    f"the images have more than the {limits.all_pixels:,} pixels that are allowed in one request; "
                    "send them in several",
                )
            for name in chosen:
                predictor = self.predictors[name]
                found = _digits(predictor, sent, grey, number, wish.several)
                digits[name].append(found)
                count += len(found)
                length += len(found) * _digit_bytes(predictor.identity, wish)
            if count > limits.digits:
                raise Refused(
                    413,
                    f"the images have more than the {limits.digits:,} digits that are read in one request, counted "
                    "once for each model; send them in several",
                )
            if length > limits.answer:
                raise Refused(
                    413,
                    f"the answer would be longer than the {limits.answer:,} bytes that are allowed; "
                    "send the images in several requests, or without explain",
                )
        return sizes, digits


def _digit_bytes(identity: Identity, wish: Wish) -> int:
    """About how many bytes of JSON are written for one digit."""
    height, width = identity.image_size
    names = sum(len(json.dumps(name)) for name in identity.classes)
    return 400 + names + 24 * len(identity.classes) + (4 * height * width if wish.explain else 0)


def _read(
    predictor: Predictor,
    pictures: Sequence[Sent],
    sizes: Sequence[tuple[int, int]],
    found: Sequence[Sequence[Digit]],
    wish: Wish,
) -> list[Picture]:
    """What one network reads in all pictures: all digits in one batch."""
    named = iter(identified(predictor, [digit for digits in found for digit in digits]))
    read = []
    for sent, (height, width), digits in zip(pictures, sizes, found, strict=True):
        reads = []
        for number, digit in enumerate(digits):
            maps = predictor.feature_maps(digit.image) if number == wish.maps else None
            reads.append(
                Read(
                    **vars(next(named)),
                    seen=digit.image.tolist() if wish.explain else None,
                    maps=None if maps is None else [_layer(*each) for each in maps],
                )
            )
        read.append(Picture(sent.name, width, height, reads))
    return read


def _digits(predictor: Predictor, sent: Sent, grey: Images, number: int, several: bool) -> tuple[Digit, ...]:
    """The digits of a picture, as a network takes them; an array is one digit, unless it is empty."""
    if isinstance(sent.content, bytes):
        digits = predictor.read(grey, several=several).digits
        if len(digits) > MOST_DIGITS:
            raise Refused(
                400,
                f"files[{number}] has {len(digits)} separate pieces of ink, more than the {MOST_DIGITS} of one picture",
            )
        return digits
    (height, width), size = grey.shape, predictor.identity.image_size
    if (height, width) != size:
        raise Refused(
            400,
            f"images[{number}] has {height} rows of {width} numbers; {predictor.identity.name} takes {size[0]} rows of "
            f"{size[1]}. Other sizes can be sent as image files",
        )
    return (Digit(grey, Box(0, 0, width, height)),) if grey.any() else ()


def _layer(name: str, maps: NDArray[np.float32]) -> Layer:
    """Feature maps, (C, h, w), as shares of the largest of their numbers."""
    channels, height, width = maps.shape
    largest = float(maps.max())
    shares = np.clip(maps / largest, 0, 1) if largest > 0 else np.zeros_like(maps)
    return Layer(name, channels, height, width, largest, np.rint(shares * 255).astype(int).tolist())


# ---------------------------------------------------------------------------------------------------------------------
# HTTP


def app(
    predictors: Sequence[Predictor],
    limits: Limits = Limits(),
    hosts: Iterable[str] | None = None,
    *,
    allowed_hosts: Iterable[str] = (),
    root_path: str = "",
) -> ASGIApp:
    """Make the application.

    Args:
        predictors: the networks that are offered, one or more.
        limits: of a request.
        hosts: names by which it may be called, beside IP addresses: a page from elsewhere that had its own name point
            here would otherwise be of the same origin. ``None``: any.
        allowed_hosts: further names, ``name`` or ``name:port``, that a reverse proxy is called by: pages that come from
            there may ask this server even where the proxy sends another Host.
        root_path: the path prefix of a reverse proxy, ``/proxy/8000`` say, whether the proxy passes it on or not.

    Raises:
        ValueError: a network is offered twice.
    """
    offered, counts = Offered(predictors, limits), Counts()
    pages = {
        path: (files("mnistflow").joinpath("page", name).read_bytes(), kind) for path, (name, kind) in PAGES.items()
    }

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with offered.threads:
            yield

    api = FastAPI(
        title="mnistflow",
        version=__version__,
        description="Reads handwritten digits.",
        lifespan=lifespan,
        root_path=root_path,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses={"4XX": {"model": Error, "description": "Bad input; one line says what was wrong."}},
    )

    @api.exception_handler(Refused)
    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return _error(error.status, str(error))

    @api.exception_handler(HTTPException)
    async def no_such_place(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return _error(404, f"there is no {_shown(request.url.path)} here; /docs names what there is")
        if error.status_code == 405:
            allowed = (error.headers or {}).get("allow", "other methods")
            return _error(405, f"{request.url.path} takes {allowed}, not {_shown(request.method)}")
        return _error(error.status_code, str(error.detail))

    @api.exception_handler(RequestValidationError)
    async def not_as_declared(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where, said = ".".join(str(part) for part in first["loc"][1:]), first["msg"]
        return _error(422, f"{_shown(where)}: {said}, not {_shown(repr(first.get('input')))}")

    @api.exception_handler(Exception)
    async def broken(_: Request, __: Exception) -> Response:  # the exception itself goes to the log
        return _error(500, "the server made a mistake; its log says more")

    @api.post(
        "/predict",
        response_model=Answers,
        summary="Read pictures",
        openapi_extra={"requestBody": _request_body()},
    )
    async def predict(
        request: Request,
        model: Annotated[list[str], Query(description="A model that is offered; again for another. Default: all")] = [],  # noqa: B006
        explain: Annotated[bool, Query(description="Give what the network saw of each digit")] = False,
        maps: Annotated[
            int | None, Query(ge=0, description="Give the feature maps of the digit of this number")
        ] = None,
        several: Annotated[bool, Query(description="Whether there may be several digits in a picture")] = True,
    ) -> Response:
        """Read what is written in pictures: image files in a form, one image as the body, or arrays as JSON.

        Image files may be of any size and colour, dark on light or light on dark; they are brought into the form of the
        data that the network was trained on. Arrays are taken as they are.
        """
        wish = Wish(tuple(model), explain, maps, several)
        with offered.admitted():
            body = await _body(request, offered)
            try:
                answering = asyncio.get_running_loop().run_in_executor(
                    offered.threads, offered.answer, request.headers.get("content-type", ""), body, wish
                )
                answer, pictures = await answering
            finally:
                offered.held -= len(body)
        counts.pictures.inc(pictures)
        return _Answered(answer, offered)

    @api.get("/models", summary="What is offered")
    async def models() -> Offer:
        """The networks that are offered, and what a request may cost."""
        return Offer(list(offered.models.values()), limits)

    @api.get("/healthz", summary="Whether it answers")
    async def health() -> Health:
        """That the server answers, and with which networks."""
        return Health("ok", list(offered.models), __version__)

    @api.get("/metrics", summary="Figures for Prometheus", response_class=Response)
    async def metrics() -> Response:
        """Requests by path and status, how long they took, pictures read, and what the process uses."""
        return Response(exposition(counts.registry), media_type=CONTENT_TYPE_LATEST)

    def page(path: str) -> None:
        content, kind = pages[path]

        @api.get(path, include_in_schema=False)
        async def show() -> Response:
            return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    for path in pages:
        page(path)
    allowed = frozenset(host.lower() for host in allowed_hosts)
    return _Front(api, counts, None if hosts is None else allowed.union(host.lower() for host in hosts), allowed)


class _Answered(Response):
    """An answer that is written as fast as its client reads it, and counts as held until then."""

    def __init__(self, answer: bytes, offered: Offered) -> None:
        super().__init__(answer, media_type="application/json")
        self.offered = offered
        offered.held += len(answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - of its base class
        answer = bytes(self.body)
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for start in range(0, len(answer), CHUNK):
                more = start + CHUNK < len(answer)
                await send({"type": "http.response.body", "body": answer[start : start + CHUNK], "more_body": more})
        finally:
            self.offered.held -= len(answer)


def _error(status: int, line: str, **headers: str) -> Response:
    return Response(_error_json(line), status, headers, media_type="application/json")


def _error_json(line: str) -> bytes:
    """One line, as every error is told."""
    return json.dumps({"error": " ".join(line.split())}).encode()


def _request_body() -> dict[str, Any]:
    """What /predict takes, for its description."""
    picture = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {"files": {"type": "array", "items": picture}}, "required": ["files"]}
    pixel = {"type": "integer", "minimum": 0, "maximum": 255}
    image = {"type": "array", "items": {"type": "array", "items": pixel}}
    arrays = {
        "type": "object",
        "properties": {
            "images": {
                "type": "array",
                "items": image,
                "description": "each as large as the network takes, 0: background",
            },
            "model": {"type": "array", "items": {"type": "string"}},
            "explain": {"type": "boolean"},
            "maps": {"type": "integer", "minimum": 0},
        },
        "required": ["images"],
    }
    content = {"multipart/form-data": form, "image/*": picture, "application/json": arrays}
    return {"required": True, "content": {kind: {"schema": schema} for kind, schema in content.items()}}


async def _body(request: Request, offered: Offered) -> bytes:
    """Read a body, no further than is allowed; what is read counts as held until the request is answered.

    Raises:
        Refused: it is too long, too slow, or one too many.
    """
    most = offered.limits.body
    too_long = Refused(
        413, f"the body is longer than the {most:,} bytes that are allowed; send smaller images or fewer"
    )
    declared = int(request.headers.get("content-length", "0"))  # the parser lets nothing but digits through
    if declared > most and "expect" in request.headers:
        raise too_long
    body = bytearray()
    read = 0
    try:
        async with asyncio.timeout(offered.limits.seconds):
            async for chunk in request.stream():
                read += len(chunk)
                if read > most:  # what has been sent is taken, or the client would not see the answer
                    offered.held -= len(body)
                    body.clear()
                    if read > 4 * most:
                        break
                elif offered.held + len(chunk) > BODIES_HELD * most:
                    raise Refused(429, "there are too many large requests at once; try again in a second")
                else:
                    body += chunk
                    offered.held += len(chunk)
        if read > most:
            raise too_long
        return bytes(body)
    except BaseException as error:
        offered.held -= len(body)
        if isinstance(error, TimeoutError):
            raise Refused(408, f"the body did not come within {offered.limits.seconds:g} seconds") from None
        if isinstance(error, ClientDisconnect):
            raise Refused(400, "the client went away") from None  # nobody reads it
        raise


class Counts:
    """What /metrics tells. Of one application: another one in the process has its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        kwargs: dict[str, Any] = {"registry": self.registry, "namespace": "mnistflow"}
        self.requests = Counter("requests", "Requests that were answered", ("path", "status"), **kwargs)
        self.seconds = Histogram(
            "request_seconds", "From the head of a request to its answer", ("path",), buckets=BUCKETS, **kwargs
        )
        self.pictures = Counter("pictures", "Pictures that were read", **kwargs)
        self.under_way = Gauge("requests_under_way", "Requests that are not answered yet", **kwargs)


class _Front:
    """What happens to every request before and after the application: who may ask, headers, figures."""

    def __init__(self, inner: FastAPI, counts: Counts, hosts: frozenset[str] | None, allowed: frozenset[str]) -> None:
        self.inner = inner
        self.counts = counts
        self.hosts = hosts
        self.allowed = allowed
        self.paths = {*PAGES, "/predict", "/models", "/healthz", "/metrics", "/openapi.json"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        started, status = time.perf_counter(), 499  # the client went away
        refused = self._unwelcome(scope)
        path = scope["path"].removeprefix(self.inner.root_path)
        path = path if path in self.paths else "other"

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                have = {name for name, _ in message["headers"]}
                added = {"cache-control": "no-store", **HEADERS} | ({"retry-after": "1"} if status == 429 else {})
                pairs = ((name.encode(), value.encode()) for name, value in added.items())
                message["headers"] = [*message["headers"], *(pair for pair in pairs if pair[0] not in have)]
            await send(message)

        with self.counts.under_way.track_inprogress():
            try:
                if refused:
                    await _error(*refused)(scope, receive, sent)
                else:
                    await self.inner(scope, receive, sent)
            finally:
                self.counts.requests.labels(path, str(status)).inc()
                self.counts.seconds.labels(path).observe(time.perf_counter() - started)

    def _unwelcome(self, scope: Scope) -> tuple[int, str] | None:
        """Why a request is not answered, whatever it asks: it came by another name, or from another page.

        A target in absolute form (``GET http://host/path``) becomes the path, and its host counts (RFC 9112, 3.2.2).
        """
        headers = {name: value.decode("latin-1").lower() for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) + len(scope["raw_path"]) > HEAD_BYTES:
            return 431, HEAD_TOO_LONG  # the parser counts only what comes in pieces
        try:
            if scope["path"].lower().startswith(("http://", "https://")):
                target = urlsplit(scope["raw_path"].decode("ascii"))
                host = target.netloc.lower()
                scope["path"], scope["raw_path"] = unquote(target.path) or "/", target.path.encode() or b"/"
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return 400, f"the header host is {_shown(host)!r}, which is no host"
        if self.hosts is not None and not ({name, host} & self.hosts or _is_address(name)):
            return 421, f"this server is not called {_shown(name)!r}; start it with --allowed-host {_shown(name)}"
        asking = "" if origin is None else origin.partition("://")[2]
        if origin is not None and asking != host and not {asking, asking.rpartition(":")[0]} & self.allowed:
            return 403, f"a page of {_shown(origin)} may not ask this server"
        return None


def _is_address(name: str) -> bool:
    """Whether a host is an IP address, which DNS rebinding cannot forge: it needs a name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class _Protocol(H11Protocol):
    """HTTP/1.1 that tells even the worst request in one line of JSON what was wrong, and waits for no head for ever."""

    deadline: asyncio.TimerHandle | None = None
    unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Head and body of an answer are written one after the other: otherwise the second waits 40 ms for the client.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unwatch()
        self._read_on()

    def shutdown(self) -> None:
        """Announce with the next answer that the connection ends; close one that nothing is asked on a little later."""
        close, state = (b"connection", b"close"), self.server_state
        if close not in state.default_headers:
            state.default_headers = [*state.default_headers, close]
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(ENDING_SECONDS, self._end)
        else:
            self.cycle.default_headers = state.default_headers
            super().shutdown()

    def _end(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()

    def pause_writing(self) -> None:
        """Give a client that does not read its answer a limited time, then close and drop what was written."""
        super().pause_writing()
        self.unread = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read_on()

    def _read_on(self) -> None:
        if self.unread is not None:
            self.unread.cancel()
            self.unread = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:  # the head is there, or there will be none
            self._unwatch()
        elif self.deadline is None:
            self._watch()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection of a client that has sent all it had, and waits for its answer."""
        waits = self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete
        if waits:
            self.cycle.keep_alive = False
        return waits

    def _watch(self) -> None:
        self.deadline = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _unwatch(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None

    def _too_slow(self) -> None:
        self.deadline = None
        if self.conn.our_state is h11.IDLE and not self.transport.is_closing():
            self._refuse(408, f"the head of the request did not come within {HEAD_SECONDS:g} seconds")

    def send_400_response(self, msg: str) -> None:
        """Say what was wrong; called while the parser's exception is handled."""
        error = sys.exc_info()[1]
        is_head = self.deadline is not None
        if is_head and isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == 431:
            self._refuse(431, HEAD_TOO_LONG)
        else:
            self._refuse(400, f"this is not HTTP/1.1: {error or msg}")

    def _refuse(self, status: int, line: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = _error_json(line)
            headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
            event = h11.Response(
                status_code=status, headers=[*headers.items(), *HEADERS.items()], reason=HTTPStatus(status).phrase
            )
            for part in (event, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(part) or b"")
        self.transport.close()


def serve(
    predictors: Sequence[Predictor],
    *,
    host: str,
    port: int,
    limits: Limits,
    allowed_hosts: Sequence[str] = (),
    root_path: str = "",
) -> None:
    """Serve until SIGINT or SIGTERM, and finish what is under way then.

    Args:
        predictors: the networks that are offered.
        host: a name or an address of this machine; ``0.0.0.0`` or ``::`` for all of them.
        port: 0 for any that is free.
        limits: of a request.
        allowed_hosts: further names that it answers to; see :func:`app`.
        root_path: the path prefix of a reverse proxy; see :func:`app`.

    Raises:
        ValueError: there is no such host here, or the port is taken.
    """
    with _listening(host, port) as listening:
        address, number = listening.getsockname()[:2]
        everywhere = ipaddress.ip_address(address).is_unspecified
        hosts = {"localhost", socket.gethostname() if everywhere else host}
        config = uvicorn.Config(
            app(predictors, limits, hosts, allowed_hosts=allowed_hosts, root_path=root_path),
            http=_Protocol,
            ws="none",
            loop="asyncio",
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=HEAD_BYTES,
            timeout_graceful_shutdown=10,
        )
        for predictor in predictors:
            identity = predictor.identity
            accuracy = (
                "" if identity.test_accuracy is None else f", {identity.test_accuracy:.2%} of its test images right"
            )
            print(f"{identity.name}{accuracy}")
        shown = f"[{address}]" if ":" in address else address
        if everywhere:
            names = ", ".join(sorted({*hosts, *allowed_hosts}))
            print(
                f"everybody who reaches this machine may ask, by an IP address or as {names}; more: --allowed-host NAME"
            )
        print(f"draw at http://{shown}:{number}/  (API: /docs; Ctrl-C ends it)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again, after it has stopped
            uvicorn.Server(config).run(sockets=[listening])
    print("ended", flush=True)


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens."""
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server((str(place[0]), port), family=family, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ValueError(
                f"port {port} of {host} is taken, by another server perhaps; give another one: --port {port + 1}"
            ) from error
        raise ValueError(f"cannot serve on --host {host} --port {port}: {error.strerror or error}") from error
