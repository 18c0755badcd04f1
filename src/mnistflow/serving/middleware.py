"""Middleware for every request: access checks, response headers, metrics."""

from __future__ import annotations

import ipaddress
import json
import time
from typing import Any
from urllib.parse import unquote, urlsplit

from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from mnistflow.serving.parsing import printable

__all__ = ["HEADERS", "HEAD_BYTES", "Counts", "RequestFilter", "error_json", "error_response"]


HEADERS = {  # of every response: no content from other origins, none for other origins
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


HEAD_BYTES = 16 * 1024  # of a request line with its headers


BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds


def error_response(status: int, line: str, **headers: str) -> Response:
    """An answer that refuses, with one line."""
    return Response(error_json(line), status, headers, media_type="application/json")


def error_json(line: str) -> bytes:
    """One line, as every error is told."""
    return json.dumps({"error": " ".join(line.split())}).encode()


class Counts:
    """What /metrics tells. Of one application: another one in the process has its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        kwargs: dict[str, Any] = {"registry": self.registry, "namespace": "mnistflow"}
        self.requests = Counter("requests", "Requests that were answered", ("path", "status"), **kwargs)
        self.seconds = Histogram(
            "request_seconds", "Seconds from request head to response", ("path",), buckets=BUCKETS, **kwargs
        )
        self.pictures = Counter("pictures", "Pictures that were read", **kwargs)
        self.under_way = Gauge("requests_under_way", "Requests in progress", **kwargs)


class RequestFilter:
    """What happens to every request before and after the application: who may ask, headers, figures.

    Args:
        inner: the application.
        counts: what /metrics tells.
        hosts: names that it may be called by; None: any.
        allowed: names that a reverse proxy is called by, whose pages may ask.
    """

    def __init__(self, inner: FastAPI, counts: Counts, hosts: frozenset[str] | None, allowed: frozenset[str]) -> None:
        self.inner = inner
        self.counts = counts
        self.hosts = hosts
        self.allowed = allowed
        self.paths = {route.path for route in inner.routes if isinstance(route, Route)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        started, status = time.perf_counter(), 499  # the client went away
        refused = self._refusal(scope)
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
                    await error_response(*refused)(scope, receive, sent)
                else:
                    await self.inner(scope, receive, sent)
            finally:
                self.counts.requests.labels(path, str(status)).inc()
                self.counts.seconds.labels(path).observe(time.perf_counter() - started)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Why a request is not answered, whatever it asks: it came by another name, or from another page.

        A target in absolute form (``GET http://host/path``) becomes the path, and its host counts (RFC 9112, 3.2.2).
        """
        headers = {name: value.decode("latin-1").lower() for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) + len(scope["raw_path"]) > HEAD_BYTES:
            return 431, f"the head of the request is longer than the {HEAD_BYTES:,} bytes that are allowed"
        try:
            if scope["path"].lower().startswith(("http://", "https://")):
                target = urlsplit(scope["raw_path"].decode("ascii"))
                host = target.netloc.lower()
                scope["path"], scope["raw_path"] = unquote(target.path) or "/", target.path.encode() or b"/"
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return 400, f"the header host is {printable(host)!r}, which is not a host"
        if self.hosts is not None and not ({name, host} & self.hosts or _is_address(name)):
            return 421, f"this server is not called {printable(name)!r}; start it with --allowed-host {printable(name)}"
        asking = "" if origin is None else origin.partition("://")[2]
        if origin is not None and asking != host and not {asking, asking.rpartition(":")[0]} & self.allowed:
            return 403, f"pages from {printable(origin)} may not use this server"
        return None


def _is_address(name: str) -> bool:
    """Whether a host is an IP address, which DNS rebinding cannot forge: it needs a name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
