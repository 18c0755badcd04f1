"""HTTP/1.1 that answers even the worst request with one line, and waits for nobody for ever."""

from __future__ import annotations

import asyncio
import socket
import sys
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from mnistflow.serving.middleware import HEAD_TOO_LONG, HEADERS, error_json

__all__ = ["Protocol"]


HEAD_SECONDS = 10.0  # for a client to send them


ENDING_SECONDS = 1.0  # for clients to ask once more on connections that they keep, and be told that it ends


WRITE_SECONDS = 10.0  # for a client to read CHUNK bytes of an answer


class Protocol(H11Protocol):
    """HTTP/1.1 that tells even the worst request in one line of JSON what was wrong, and waits for no head for ever."""

    deadline: asyncio.TimerHandle | None = None
    unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the head of a request for a limited time."""
        super().connection_made(transport)
        # Head and body of an answer are written one after the other: otherwise the second waits 40 ms for the client.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
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
        """The client reads on."""
        super().resume_writing()
        self._read_on()

    def _read_on(self) -> None:
        if self.unread is not None:
            self.unread.cancel()
            self.unread = None

    def data_received(self, data: bytes) -> None:
        """Wait for the head of the next request once this one is there."""
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
            body = error_json(line)
            headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
            event = h11.Response(
                status_code=status, headers=[*headers.items(), *HEADERS.items()], reason=HTTPStatus(status).phrase
            )
            for part in (event, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(part) or b"")
        self.transport.close()
