"""The server: a socket, the application behind it, and an end when it is asked to."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Sequence

import uvicorn

from mnistflow.recognition.predictor import Predictor
from mnistflow.serving.application import app
from mnistflow.serving.middleware import HEAD_BYTES
from mnistflow.serving.protocol import Protocol
from mnistflow.serving.schemas import Limits

__all__ = ["serve"]


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
        predictors: the networks that are pool.
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
            http=Protocol,
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
