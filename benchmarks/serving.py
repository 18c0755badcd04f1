"""What a server bears: requests a second and how long they take, for 1, 8 and 64 clients at once.

    python -m benchmarks.serving [--model FILE] [--requests N] [--seconds S]

`mnistflow serve` runs in a process of its own, the clients in another one: each keeps a connection, sends a picture and
waits for the answer, again and again, until together they have sent so many requests or so long has gone by. A picture
is a digit as dark ink on a light sheet of 280 x 280 pixels, as PNG; an array is the same digit as 28 x 28 numbers,
which need not be found and scaled first. The table goes to benchmarks/results/serving.md as well.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles

import numpy as np
import torch
from PIL import Image

from benchmarks import ROOT
from benchmarks.timing import keep
from mnistflow.data import datasets

CLIENTS = (1, 8, 64)
PICTURES = 64  # different ones, sent in turns


def main() -> None:
    """Serve, ask, print the table and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="models/model.safetensors", help="(default: %(default)s)")
    parser.add_argument("--requests", type=int, default=2000, help="of each kind, at most (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="for each kind, at most (default: %(default)s)")
    arguments = parser.parse_args()
    test = datasets.build("mnist", {}).read(ROOT / "data" / "raw" / "mnist")[1]
    images = np.asarray(test.images[:PICTURES])
    bodies = {
        "one picture": ("image/png", [_picture(image) for image in images]),
        "one array": ("application/json", [json.dumps({"images": [image.tolist()]}).encode() for image in images]),
    }
    rows, measured = [], []
    with _server(arguments.model) as port:
        for what, (kind, sent) in bodies.items():
            asyncio.run(_asked(port, kind, sent, 1, 50, 10))  # does not count
            for clients in CLIENTS:
                started = time.perf_counter()
                taken = asyncio.run(_asked(port, kind, sent, clients, arguments.requests, arguments.seconds))
                rate = len(taken) / (time.perf_counter() - started)
                cuts = quantiles(taken, n=100, method="inclusive")
                half, most = cuts[49], cuts[98]
                rows.append(
                    {
                        "request": what,
                        "clients": str(clients),
                        "requests": f"{len(taken):,}",
                        "a second": f"{rate:,.0f}",
                        "p50, ms": f"{half * 1e3:.1f}",
                        "p99, ms": f"{most * 1e3:.1f}",
                    }
                )
                measured.append(
                    {
                        "request": what,
                        "clients": clients,
                        "requests": len(taken),
                        "rate": rate,
                        "p50": half,
                        "p99": most,
                    }
                )
    command = f"python -m benchmarks.serving --requests {arguments.requests}"
    keep("serving", command, torch.device("cpu"), rows, measured)


def _picture(image: np.ndarray) -> bytes:
    """A digit on a sheet, as PNG."""
    file = io.BytesIO()
    Image.fromarray(255 - image).resize((280, 280), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


@contextlib.contextmanager
def _server(model: str) -> Iterator[int]:
    """`mnistflow serve` on a free port, from when it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "mnistflow", "serve", "--port", str(port), "--model", str(Path(model).resolve())]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz"):
                break
            time.sleep(0.05)
        else:
            sys.exit("the server does not answer")
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


async def _asked(port: int, kind: str, bodies: list[bytes], clients: int, requests: int, seconds: float) -> list[float]:
    """Seconds that each request took, of clients that take turns at a number of requests."""
    taken: list[float] = []
    deadline = time.perf_counter() + seconds
    left = iter(range(requests))

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in left:
            body = bodies[number % len(bodies)]
            head = f"POST /predict HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {kind}\r\n"
            started = time.perf_counter()
            if started > deadline:
                break
            writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            if not answer.startswith("http/1.1 200 "):
                sys.exit(f"the server answered {answer}")
            await reader.readexactly(int(answer.partition("content-length: ")[2].split("\r\n")[0]))
            taken.append(time.perf_counter() - started)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(client() for _ in range(clients)))
    return taken


if __name__ == "__main__":
    main()
