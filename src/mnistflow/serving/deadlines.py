"""Deadlines for clients: a request's head must arrive, and an answer must be read, within a limited time.

Around uvicorn's protocol and the application, not inside them: only what asyncio and ASGI define is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from mnistflow.serving.middleware import HEADERS, error_json

__all__ = ["Connection", "Deadlines"]


HEAD_SECONDS = 10.0  # for a client to send the head of a request, from when it may


WRITE_SECONDS = 10.0  # for a client to read what fills the buffer of its connection


_current: ContextVar[Connection] = ContextVar("connection")


class Connection(asyncio.Protocol):
    """A connection with deadlines; around uvicorn's protocol, which takes the same arguments."""

    def __init__(self, **arguments: Any) -> None:
        self._inner = H11Protocol(**arguments)
        self._transport: asyncio.Transport
        self._head, self._write = _Timer(), _Timer()
        self._requests = 0  # which the application is answering
        self._has_sent = False  # the client, since the last request
        self._has_ended = False  # the client has sent all it had
        self.awaits_body = False

    def began(self) -> None:
        """The application has a request: its head is here."""
        self._requests += 1
        self._has_sent, self.awaits_body = False, True
        self._head.cancel()

    def finished(self) -> None:
        """The application has answered a request; the next one may come."""
        self._requests -= 1
        if self._has_ended:
            self._transport.close()
        self._wait_for_head()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the head of the first request."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._inner.connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._head.cancel()
        self._write.cancel()
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass on what the client sent; the task that answers it knows over which connection it came."""
        self._has_sent = True
        _current.set(self)
        self._inner.data_received(data)

    def eof_received(self) -> bool:
        """Keep the connection of a client that has sent a whole request and waits for its answer."""
        self._has_ended = True
        return self._requests > 0 and not self.awaits_body

    def pause_writing(self) -> None:
        """Drop the connection, and what was written to it, if the client does not read in time."""
        self._inner.pause_writing()
        self._write.start(WRITE_SECONDS, self._transport.abort)

    def resume_writing(self) -> None:
        """The client has read."""
        self._write.cancel()
        self._inner.resume_writing()

    def _wait_for_head(self) -> None:
        if not self._transport.is_closing():
            self._head.start(HEAD_SECONDS, self._end_slow_client)

    def _end_slow_client(self) -> None:
        if not self._transport.is_closing():
            if self._has_sent:
                self._transport.write(_head_too_slow())
            self._transport.close()


class Deadlines:
    """An application whose connections know which requests are being answered.

    Args:
        inner: the application.
    """

    def __init__(self, inner: ASGIApp) -> None:
        self.inner = inner
        self.is_ending = False  # whether each answer is the last one of its connection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        connection = _current.get()

        async def received() -> Message:
            message = await receive()
            if not message.get("more_body", False):
                connection.awaits_body = False
            return message

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start" and self.is_ending:
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        connection.began()
        try:
            await self.inner(scope, received, sent)
        finally:
            connection.finished()


class _Timer:
    """Calls something once, unless it is cancelled or started again before."""

    def __init__(self) -> None:
        self._handle: asyncio.TimerHandle | None = None

    def start(self, seconds: float, call: Callable[[], None]) -> None:
        self.cancel()
        self._handle = asyncio.get_running_loop().call_later(seconds, call)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()


def _head_too_slow() -> bytes:
    """A whole response, to a request that uvicorn has not seen."""
    body = error_json(f"the head of the request did not arrive within {HEAD_SECONDS:g} seconds")
    headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close", **HEADERS}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 408 Request Timeout\r\n{head}\r\n".encode("ascii") + body
