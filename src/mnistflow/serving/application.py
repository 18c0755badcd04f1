"""The application: an API for programs, and a page to draw on for people.

Every answer to a bad HTTP request is a 4xx with one line: ``{"error": "..."}``. What a request may cost is limited
before it is paid: bytes while they are read, pixels before they are decoded, images before they are looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from importlib.resources import files
from typing import Annotated, Any, ParamSpec, TypeVar

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client import generate_latest as exposition
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from mnistflow import __version__
from mnistflow.recognition.predictor import Predictor
from mnistflow.serving.answering import ModelPool
from mnistflow.serving.middleware import Counts, RequestFilter, error_response
from mnistflow.serving.parsing import ReadOptions, Upload, error_line, media_type, parse_arrays, parse_form, printable
from mnistflow.serving.schemas import Answers, ArrayRequest, Error, Health, Limits, Offer, Refused

__all__ = ["app"]


OWN, SWAGGER = files("mnistflow.serving") / "page", files("fastapi_offline") / "static"
PAGES = {  # path: file of the page
    "/": OWN / "draw.html",
    "/docs": OWN / "docs.html",
    "/draw.js": OWN / "draw.js",
    "/docs.js": OWN / "docs.js",
    "/page.css": OWN / "page.css",
    "/icon.svg": OWN / "icon.svg",
    "/swagger-ui.css": SWAGGER / "swagger-ui.css",
    "/swagger-ui-bundle.js": SWAGGER / "swagger-ui-bundle.js",
}
MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}


CHUNK = 128 * 1024


P = ParamSpec("P")
T = TypeVar("T")
DEFAULT = Limits()
BODIES_HELD = 16  # times the limit of one, of all requests together


def app(
    predictors: Sequence[Predictor],
    limits: Limits = DEFAULT,
    hosts: Iterable[str] | None = None,
    *,
    allowed_hosts: Iterable[str] = (),
    root_path: str = "",
) -> ASGIApp:
    """Make the application.

    Args:
        predictors: the models to serve; at least one.
        limits: of a request.
        hosts: names by which it may be called, beside IP addresses: a page from elsewhere that had its own name point
            here would otherwise be of the same origin. ``None``: any.
        allowed_hosts: further names, ``name`` or ``name:port``, that a reverse proxy is called by: pages that come from
            there may ask this server even where the proxy sends another Host.
        root_path: the path prefix of a reverse proxy, ``/proxy/8000`` say, whether the proxy passes it on or not.

    Raises:
        ValueError: a network is offered twice.
    """
    pool, counts = ModelPool(predictors, limits), Counts()

    async def in_thread(function: Callable[P, T], /, *arguments: P.args, **_: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool.threads, function, *arguments)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with pool.threads:
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
        return error_response(error.status, str(error))

    @api.exception_handler(HTTPException)
    async def no_such_place(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return error_response(404, f"there is no {printable(request.url.path)} here; /docs lists the endpoints")
        if error.status_code == 405:
            allowed = (error.headers or {}).get("allow", "other methods")
            return error_response(405, f"{request.url.path} takes {allowed}, not {printable(request.method)}")
        return error_response(error.status_code, str(error.detail))

    @api.exception_handler(RequestValidationError)
    async def not_as_declared(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        return error_response(422, error_line(first["loc"][1:], first["msg"], first["input"]))

    @api.exception_handler(Exception)
    async def broken(_: Request, __: Exception) -> Response:  # the exception itself goes to the log
        return error_response(500, "internal server error; see the log of the server")

    @api.post(
        "/predict",
        response_model=Answers,
        summary="Read pictures",
        openapi_extra={"requestBody": _request_body()},
    )
    async def predict(
        request: Request,
        model: Annotated[list[str], Query(description="Name of a model; repeat for several. Default: all")] = [],  # noqa: B006
        explain: Annotated[bool, Query(description="Return the network input of each digit")] = False,
        maps: Annotated[
            int | None, Query(ge=0, description="Return the feature maps of the digit with this index")
        ] = None,
        several: Annotated[bool, Query(description="Whether there may be several digits in a picture")] = True,
    ) -> Response:
        """Read the digits in pictures: image files in a form, one image as the body, or arrays as JSON.

        Image files may be of any size and colour, dark on light or light on dark; they are converted to the format that
        the network was trained on. Arrays are used as they are: uint8, of the network's size, 0 for background.
        """
        options = ReadOptions(tuple(model), explain, maps, several)
        with pool.admitted():
            body = await _body(request, pool)
            try:
                kind = media_type(request.headers.get("content-type", ""))
                if kind == "application/json":
                    pictures, options = await in_thread(parse_arrays, body, options, limits)
                elif kind == "multipart/form-data":
                    pictures = await parse_form(request, body, limits)
                elif kind.startswith("image/") or kind == "application/octet-stream":
                    pictures = [Upload(None, body)]
                else:
                    raise Refused(
                        415,
                        f"content-type is {printable(kind) or 'missing'}; send image files as multipart/form-data in "
                        "the field `files`, one image as image/*, or arrays as application/json: "
                        '{"images": [...]}',
                    )
                answer = await in_thread(pool.answer, pictures, options)
            finally:
                pool.held -= len(body)
        counts.pictures.inc(len(pictures))
        return _StreamedAnswer(answer, pool)

    @api.get("/models", summary="List the models")
    async def models() -> Offer:
        """The models that are served, and the limits for a request."""
        return Offer(list(pool.models.values()), limits)

    @api.get("/healthz", summary="Health check")
    async def health() -> Health:
        """The server is up; the names of its models, and its version."""
        return Health("ok", list(pool.models), __version__)

    @api.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
    async def metrics() -> Response:
        """Requests by path and status, their duration, pictures read, and resources used by the process."""
        return Response(exposition(counts.registry), media_type=CONTENT_TYPE_LATEST)

    def page(path: str, content: bytes, kind: str) -> None:
        @api.get(path, include_in_schema=False)
        async def show() -> Response:
            return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    for path, file in PAGES.items():
        page(path, file.read_bytes(), MEDIA_TYPES[file.name.rpartition(".")[2]])
    allowed = frozenset(host.lower() for host in allowed_hosts)
    return RequestFilter(api, counts, None if hosts is None else allowed.union(host.lower() for host in hosts), allowed)


class _StreamedAnswer(Response):
    """An answer that is written as fast as its client reads it, and counts as held until then."""

    def __init__(self, answer: bytes, pool: ModelPool) -> None:
        super().__init__(answer, media_type="application/json")
        self.pool = pool
        pool.held += len(answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - of its base class
        answer = bytes(self.body)
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for start in range(0, len(answer), CHUNK):
                more = start + CHUNK < len(answer)
                await send({"type": "http.response.body", "body": answer[start : start + CHUNK], "more_body": more})
        finally:
            self.pool.held -= len(answer)


def _request_body() -> dict[str, Any]:
    """What /predict takes, for its description."""
    picture = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {"files": {"type": "array", "items": picture}}, "required": ["files"]}
    content = {"multipart/form-data": form, "image/*": picture, "application/json": ArrayRequest.model_json_schema()}
    return {"required": True, "content": {kind: {"schema": schema} for kind, schema in content.items()}}


async def _body(request: Request, pool: ModelPool) -> bytes:
    """Read a body, no further than is allowed; what is read counts as held until the request is answered.

    Raises:
        Refused: it is too long, too slow, or one too many.
    """
    most = pool.limits.body
    too_long = Refused(
        413, f"the body is longer than the {most:,} bytes that are allowed; send smaller images or fewer"
    )
    declared = int(request.headers.get("content-length", "0"))  # the parser lets nothing but digits through
    if declared > most and "expect" in request.headers:
        raise too_long
    body = bytearray()
    read = 0
    try:
        async with asyncio.timeout(pool.limits.seconds):
            async for chunk in request.stream():
                read += len(chunk)
                if read > most:  # what has been sent is taken, or the client would not see the answer
                    pool.held -= len(body)
                    body.clear()
                    if read > 4 * most:
                        break
                elif pool.held + len(chunk) > BODIES_HELD * most:
                    raise Refused(429, "there are too many large requests at once; try again in a second")
                else:
                    body += chunk
                    pool.held += len(chunk)
        if read > most:
            raise too_long
        return bytes(body)
    except BaseException as error:
        pool.held -= len(body)
        if isinstance(error, TimeoutError):
            raise Refused(408, f"the body did not arrive within {pool.limits.seconds:g} seconds") from None
        if isinstance(error, ClientDisconnect):
            raise Refused(400, "the client disconnected") from None  # nobody reads it
        raise
