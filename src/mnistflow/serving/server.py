"""The server: a listening socket, the application behind it, and a graceful shutdown."""

from __future__ import annotations

import errno
import ipaddress
import signal
import socket
import threading
import time
from collections.abc import Sequence

import uvicorn

from mnistflow.recognition.predictor import Predictor
from mnistflow.serving.application import app
from mnistflow.serving.deadlines import Connection, Deadlines
from mnistflow.serving.schemas import Limits

__all__ = ["configuration", "serve"]


MAX_HEAD_BYTES = 64 * 1024  # that are held; what is longer than HEAD_BYTES is refused with one line


ENDING_SECONDS = 1.0  # for clients to ask once more on connections that they keep, and be told that it ends


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
        predictors: the models to serve.
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
        application = Deadlines(app(predictors, limits, hosts, allowed_hosts=allowed_hosts, root_path=root_path))
        for predictor in predictors:
            identity = predictor.identity
            accuracy = "" if identity.test_accuracy is None else f", test accuracy {identity.test_accuracy:.2%}"
            print(f"{identity.name}{accuracy}")
        shown = f"[{address}]" if ":" in address else address
        if everywhere:
            names = ", ".join(sorted({*hosts, *allowed_hosts}))
            print(f"reachable from the network, by IP address or as {names}; more names: --allowed-host NAME")
        print(f"draw at http://{shown}:{number}/  (API: /docs; stop with Ctrl-C)", flush=True)
        _run(application, listening)
    print("stopped", flush=True)


def configuration(application: Deadlines) -> uvicorn.Config:
    """How uvicorn serves an application."""
    return uvicorn.Config(
        application,
        http=Connection,
        ws="none",
        loop="asyncio",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        timeout_graceful_shutdown=10,
    )


def _run(application: Deadlines, listening: socket.socket) -> None:
    """Serve until a signal asks to end; a second one does not wait for requests under way.

    uvicorn takes signals only in the main thread, and then closes the connections that clients keep at once: a request
    that is on its way over one would be lost. So it runs in another thread, and ends a second after it was announced.
    """
    server = uvicorn.Server(configuration(application))
    asked = threading.Event()

    def end(_: int, __: object) -> None:
        server.force_exit = asked.is_set()
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    serving = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    serving.start()
    while serving.is_alive() and not asked.wait(0.5):  # on Windows, a wait without an end is deaf to Ctrl-C
        pass
    application.is_ending = True
    if serving.is_alive() and not server.force_exit:
        time.sleep(ENDING_SECONDS)
    server.should_exit = True
    serving.join()


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens."""
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.create_server((str(place[0]), port), family=family, backlog=1024)
        # Connections inherit it. Head and body of an answer are written one after the other: otherwise the second waits
        # 40 ms for the client.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ValueError(
                f"port {port} of {host} is in use, perhaps by another server; choose another: --port {port + 1}"
            ) from error
        raise ValueError(f"cannot serve on --host {host} --port {port}: {error.strerror or error}") from error
