"""The real server, asked over real sockets: what it answers, and that nothing that is sent to it breaks it."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import uvicorn
from conftest import Checkout, answering, free_port
from mlflow import MlflowClient
from numpy.typing import NDArray
from PIL import Image
from starlette.types import ASGIApp

from mnistflow.core.files import read_csv
from mnistflow.core.tensors import read_split
from mnistflow.data import datasets
from mnistflow.recognition.predictor import Predictor
from mnistflow.serving.answering import ModelPool
from mnistflow.serving.application import app
from mnistflow.serving.deadlines import Deadlines
from mnistflow.serving.parsing import ReadOptions, Upload
from mnistflow.serving.schemas import Limits, Refused
from mnistflow.serving.server import configuration

pytestmark = pytest.mark.xdist_group("server")  # one server for all

T = TypeVar("T")
Document = dict[str, Any]
Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Server:
    port: int
    process: subprocess.Popen[bytes]

    def ask(
        self, method: str, path: str, body: bytes | Iterator[bytes] | None = None, /, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Any:
        status, _, body = self.ask("GET", path, None, **headers)
        assert status == 200, body
        return json.loads(body)

    def post(self, body: bytes, kind: str, query: str = "", status: int = 200) -> Document:
        given, headers, answer = self.ask("POST", f"/predict{query}", body, content_type=kind)
        assert given == status, answer
        assert headers["content-type"] == "application/json"
        document: Document = json.loads(answer)
        return document

    def refuses(self, body: bytes, kind: str, query: str = "", status: int = 400) -> str:
        document = self.post(body, kind, query, status)
        assert set(document) == {"error"}
        line = document["error"]
        assert line and "\n" not in line and len(line) < 400
        return str(line)

    def raw(self, *parts: bytes, ends: bool = True) -> bytes:
        """Send bytes as they are, and return what comes until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            answer = b""
            try:
                for part in parts:
                    connection.sendall(part)
                if ends:
                    connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(65536):
                    answer += part
            except TimeoutError:
                raise
            except OSError:  # it had seen enough, and closed
                pass
            return answer

    def memory(self) -> int:
        """What it holds of the machine's memory, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        (kilobytes,) = re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        return int(kilobytes) * 1024


def started(checkout: Checkout, *arguments: str) -> Any:
    port = free_port()
    command = [sys.executable, "-m", "mnistflow", "serve", "--port", str(port), *arguments]
    environment = {**checkout.environment, "PYTHONPATH": "src"}
    return port, answering(command, f"http://127.0.0.1:{port}/healthz", checkout.folder, environment)


NAMES = ["fast.safetensors", "mlp.safetensors"]
BOTH = ("--model", NAMES[0], "--model", NAMES[1])
FAST = BOTH[:2]


@pytest.fixture(scope="module")
def server(serving: Checkout) -> Iterator[Server]:
    port, running = started(serving, *BOTH)
    with running as process:
        yield Server(port, process)


@pytest.fixture(scope="module")
def small(serving: Checkout) -> Iterator[Server]:
    """A server that allows little."""
    limits = ["--max-megabytes", "1", "--max-pixels", "100000", "--max-images", "2", "--max-waiting", "1"]
    port, running = started(serving, *FAST, *limits)
    with running as process:
        yield Server(port, process)


@pytest.fixture(scope="module")
def written(mnist_folder: Path) -> tuple[Images, list[str]]:
    """The first hundred test images, and what they are."""
    test = datasets.build("mnist", {}).read(mnist_folder.parents[1])[1]
    return np.asarray(test.images[:100]), [str(label) for label in test.labels[:100].tolist()]


def file_of(image: Images, kind: str = "PNG", scale: int = 6) -> bytes:
    """A test image as a file: large, dark on light."""
    picture = Image.fromarray(255 - image).resize((28 * scale, 28 * scale), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def form(*parts: tuple[str, bytes], boundary: str = "edge") -> tuple[bytes, str]:
    """Files as a form: their names and bytes; body and content-type."""
    body = b"".join(
        f'--{boundary}\r\ncontent-disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for name, data in parts
    )
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def arrays(images: object, **more: object) -> bytes:
    return json.dumps({"images": images, **more}).encode()


def labels(document: Document, answer: int = 0) -> list[str]:
    """What was read in each picture."""
    pictures = document["answers"][answer]["pictures"]
    return ["".join(digit["label"] for digit in picture["digits"]) for picture in pictures]


# ---------------------------------------------------------------------------------------------------------------------
# What it answers


def test_the_best_recorded_runs_answer_side_by_side_under_the_identity_that_they_were_recorded_with(
    compared: Checkout,
) -> None:
    client = MlflowClient(f"sqlite:///{compared.folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mnistflow")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], order_by=["metrics.val_accuracy DESC"])
    assert {run.info.run_name for run in runs} == {"lenet5 · default", "mlp · default"}

    test = read_split(compared.folder / "data/processed/test.safetensors")
    raw = ((test.images[:, 0] * test.inputs.std + test.inputs.mean) * 255).round().byte()
    predictions = [row["prediction"] for row in read_csv(compared.folder / "metrics/predictions.csv")]  # of mlp
    port, running = started(compared, "--recorded", "2")
    with running as process:
        document = Server(port, process).post(arrays(raw[:100].tolist()), "application/json")
    for answer, run in zip(document["answers"], runs, strict=True):
        model = answer["model"]
        assert (model["name"], model["run"]) == (run.info.run_name, run.info.run_id)
        assert model["weights"] == run.data.tags["mnistflow.weights"]
        assert model["test_accuracy"] == run.data.metrics["test_accuracy"]
    by_name = {answer["model"]["name"]: labels(document, at) for at, answer in enumerate(document["answers"])}
    assert by_name["mlp · default"] == predictions[:100]
    assert by_name["lenet5 · default"] != predictions[:100]


def test_a_picture_is_read_by_every_network_that_is_offered(
    server: Server, serving: Checkout, written: tuple[Images, list[str]]
) -> None:
    images, expected = written
    document = server.post(file_of(images[0]), "image/png")
    assert [answer["model"]["name"] for answer in document["answers"]] == NAMES
    for answer, name in zip(document["answers"], NAMES, strict=True):
        model, (picture,) = answer["model"], answer["pictures"]
        assert model["weights"] == hashlib.sha256((serving.folder / name).read_bytes()).hexdigest()
        assert model["dataset"] == "mnist"
        assert model["classes"] == [str(digit) for digit in range(10)]
        assert model["image_size"] == [28, 28]
        assert (model["run"], model["test_accuracy"]) == (None, None)  # of a file nothing more is known
        assert (picture["name"], picture["width"], picture["height"]) == (None, 168, 168)
        (digit,) = picture["digits"]
        assert digit["label"] == expected[0]
        probabilities = digit["probabilities"]
        assert list(probabilities) == model["classes"]
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        best = sorted(probabilities, key=lambda label: -probabilities[label])
        assert [digit["label"], *(answer["label"] for answer in digit["runners_up"])] == best[:3]
        assert digit["probability"] == probabilities[best[0]]
        box = digit["box"]
        assert 0 < box["left"] < box["left"] + box["width"] < 168
        assert 0 < box["top"] < box["top"] + box["height"] < 168
        assert digit["seen"] is None and digit["maps"] is None


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_files_of_a_form_are_answered_in_their_order(
    server: Server, written: tuple[Images, list[str]], kind: str
) -> None:
    images, expected = written
    body, content_type = form(*((f"{number}.x", file_of(images[number], kind)) for number in range(20)))
    document = server.post(body, content_type, "?model=fast.safetensors")
    assert [picture["name"] for picture in document["answers"][0]["pictures"]] == [f"{n}.x" for n in range(20)]
    right = sum(one == other for one, other in zip(labels(document), expected, strict=False))
    assert right >= 18


def test_arrays_are_read_as_they_are(server: Server, written: tuple[Images, list[str]]) -> None:
    images, expected = written
    document = server.post(arrays(images.tolist()), "application/json")
    for answer, least in enumerate((97, 93)):
        assert sum(map(str.__eq__, labels(document, answer), expected)) >= least
    one = server.post(arrays(images[:1].tolist(), model="fast.safetensors", explain=True), "application/json")
    (digit,) = one["answers"][0]["pictures"][0]["digits"]
    assert digit["seen"] == images[0].tolist()
    assert digit["box"] == {"left": 0, "top": 0, "width": 28, "height": 28}
    same = document["answers"][0]["pictures"][0]["digits"][0]["probabilities"]
    assert digit["probabilities"] == pytest.approx(same, abs=1e-6)


def test_what_a_network_saw_and_its_maps(server: Server, written: tuple[Images, list[str]]) -> None:
    document = server.post(file_of(written[0][0]), "image/png", "?explain=true&maps=0")
    ((fast,), (mlp,)) = (answer["pictures"][0]["digits"] for answer in document["answers"])
    seen = np.array(fast["seen"])
    assert seen.shape == (28, 28) and seen.max() > 200 and seen[0].max() == 0
    assert fast["maps"] and mlp["maps"] == []
    for layer in fast["maps"]:
        values = np.array(layer["values"])
        assert values.shape == (layer["channels"], layer["height"], layer["width"])
        assert values.min() >= 0 and values.max() == 255 and layer["largest"] > 0
    beyond = server.post(file_of(written[0][0]), "image/png", "?maps=7&model=fast.safetensors")
    assert beyond["answers"][0]["pictures"][0]["digits"][0]["maps"] is None


def test_several_digits_in_one_picture(server: Server, written: tuple[Images, list[str]]) -> None:
    images, expected = written
    strip = np.pad(np.concatenate(list(images[:4]), axis=1), 20)
    picture = file_of_picture(255 - np.kron(strip, np.ones((4, 4), np.uint8)))
    document = server.post(picture, "image/png", "?model=fast.safetensors")
    assert labels(document) == ["".join(expected[:4])]
    lefts = [digit["box"]["left"] for digit in document["answers"][0]["pictures"][0]["digits"]]
    assert lefts == sorted(lefts)
    whole = server.post(picture, "image/png", "?model=fast.safetensors&several=false")
    assert len(whole["answers"][0]["pictures"][0]["digits"]) == 1


def file_of_picture(grey: Images) -> bytes:
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_an_empty_picture_has_no_digits(server: Server, shade: int) -> None:
    document = server.post(file_of_picture(np.full((90, 120), shade, np.uint8)), "image/png")
    assert labels(document, 0) == labels(document, 1) == [""]
    assert labels(server.post(arrays(np.zeros((2, 28, 28), int).tolist()), "application/json")) == ["", ""]


def test_models_health_and_metrics_endpoints(server: Server, written: tuple[Images, list[str]]) -> None:
    assert server.get("/healthz")["status"] == "ok"
    offer = server.get("/models")
    assert [model["name"] for model in offer["models"]] == NAMES
    assert offer["limits"]["images"] == 256

    def figures() -> dict[str, float]:
        status, headers, body = server.ask("GET", "/metrics")
        assert status == 200 and headers["content-type"].startswith("text/plain; version=")
        lines = [line.rpartition(" ") for line in body.decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}

    before = figures()
    server.post(file_of(written[0][0]), "image/png")
    server.refuses(b"", "image/png")
    server.ask("GET", "/no/such/place")
    after = figures()
    for name, more in (
        ('mnistflow_requests_total{path="/predict",status="200"}', 1),
        ('mnistflow_requests_total{path="/predict",status="400"}', 1),
        ('mnistflow_requests_total{path="other",status="404"}', 1),
        ('mnistflow_request_seconds_count{path="/predict"}', 2),
        ("mnistflow_pictures_total", 1),
    ):
        assert after[name] - before.get(name, 0) == more, name
    assert after["process_resident_memory_bytes"] > 2**20
    assert after["mnistflow_requests_under_way"] == 1  # this one


def test_its_description_is_complete(server: Server) -> None:
    document = server.get("/openapi.json")
    assert set(document["paths"]) == {"/predict", "/models", "/healthz", "/metrics"}
    predict = document["paths"]["/predict"]["post"]
    assert set(predict["requestBody"]["content"]) == {"multipart/form-data", "image/*", "application/json"}
    assert {parameter["name"] for parameter in predict["parameters"]} == {"model", "explain", "maps", "several"}
    assert {"Answers", "Answer", "Picture", "Read", "Model", "Error"} <= set(document["components"]["schemas"])


@pytest.mark.parametrize("path", ["/", "/docs", "/draw.js", "/docs.js", "/page.css", "/icon.svg", "/swagger-ui.css"])
def test_the_pages_need_nothing_from_elsewhere(server: Server, path: str) -> None:
    status, headers, body = server.ask("GET", path)
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers
    assert not re.findall(r"(?:https?:)?//[\w.-]+\.\w+", body.decode().replace("http://www.w3.org/2000/svg", ""))
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\son\w+=|\sstyle=", body.decode())


# ---------------------------------------------------------------------------------------------------------------------
# What it refuses

IMAGE = np.zeros((28, 28), int).tolist()


def changed(value: object) -> list[Any]:
    """Rows of which one has a value that it should not have."""
    rows = [list(row) for row in IMAGE]
    rows[3][4] = value
    return rows


BAD_INPUT = [
    (b"", "image/png", "", 400, "0 bytes"),
    (b"hello", "image/png", "", 400, "is not a supported image"),
    (b"hello", "text/plain", "", 415, "content-type is text/plain"),
    (b"hello", "", "", 415, "content-type is missing"),
    (b"a=b", "application/x-www-form-urlencoded", "", 415, "image/"),
    (b"", "application/json", "", 400, "Invalid JSON: EOF"),
    (b'{"images": [[[NaN]]]}', "application/json", "", 400, "images[0][0][0]: Input should be"),
    (b'{"images": [[[-Infinity]]]}', "application/json", "", 400, "images[0][0][0]: Input should be a"),
    (b"[" * 100_000, "application/json", "", 400, "recursion limit exceeded"),
    (b"\xff\xfe\xfa", "application/json", "", 400, "Invalid JSON: expected"),
    (b'{"images": [[[' + b"9" * 5000 + b"]]]}", "application/json", "", 400, "number out of range"),
    (b"[]", "application/json", "", 400, "should be an object"),
    (b"{}", "application/json", "", 400, "images: Field required"),
    (arrays([]), "application/json", "", 400, "images: List should have at least 1 item"),
    (arrays("seven"), "application/json", "", 400, "images: Input should be a valid array"),
    (arrays([7]), "application/json", "", 400, "images[0]: Input should be a valid array"),
    (arrays([IMAGE, [[]]]), "application/json", "", 400, "images[1][0]: List should have at least 1 item"),
    (arrays([IMAGE[:27]]), "application/json", "", 400, "27 rows of 28"),
    (arrays([[*IMAGE[:27], [0] * 27]]), "application/json", "", 400, "images[0][27] has 27 numbers"),
    (
        arrays([changed(256)]),
        "application/json",
        "",
        400,
        "images[0][3][4]: Input should be less than or equal to 255, not 256",
    ),
    (
        arrays([changed(-1)]),
        "application/json",
        "",
        400,
        "images[0][3][4]: Input should be greater than or equal to 0, not -1",
    ),
    (arrays([changed(0.5)]), "application/json", "", 400, "images[0][3][4]: Input should be a valid integer, not 0.5"),
    (
        arrays([changed(True)]),
        "application/json",
        "",
        400,
        "images[0][3][4]: Input should be a valid integer, not true",
    ),
    (
        arrays([changed(None)]),
        "application/json",
        "",
        400,
        "images[0][3][4]: Input should be a valid integer, not null",
    ),
    (arrays([changed("7")]), "application/json", "", 400, 'images[0][3][4]: Input should be a valid integer, not "7"'),
    (arrays([changed([1])]), "application/json", "", 400, "images[0][3][4]: Input should be a valid integer"),
    (arrays([IMAGE], model=7), "application/json", "", 400, "model: Input should be a valid array"),
    (
        arrays([IMAGE], model=["vgg"]),
        "application/json",
        "",
        400,
        "no model 'vgg'; there are: fast.safetensors, mlp.safetensors",
    ),
    (arrays([IMAGE], explain="yes"), "application/json", "", 400, "explain: Input should be a valid boolean"),
    (arrays([IMAGE], maps=-1), "application/json", "", 400, "maps: Input should be greater than or equal to 0, not -1"),
    (arrays([IMAGE], maps=True), "application/json", "", 400, "maps: Input should be a valid integer"),
    (arrays([IMAGE], colour=1), "application/json", "", 400, "colour: Extra inputs are not permitted"),
    (arrays([IMAGE, IMAGE]), "application/json", "?maps=0", 400, "one image at a time"),
    (arrays([IMAGE] * 257), "application/json", "", 413, "more than the 256"),
    (arrays([IMAGE]), "application/json", "?model=", 400, "no model ''"),
    (arrays([IMAGE]), "application/json", "?maps=first", 422, "maps: "),
    (arrays([IMAGE]), "application/json", "?maps=-1", 422, "maps: "),
    (arrays([IMAGE]), "application/json", "?explain=perhaps", 422, "explain: "),
    (b"x", "multipart/form-data", "", 400, "Missing boundary"),
    (b"x", "multipart/form-data; boundary=edge", "", 400, "Invalid multipart data"),
    (b"--edge--\r\n", "multipart/form-data; boundary=edge", "", 400, "form"),
    (*form(("a.png", b"no picture")), "", 400, "files[0] (a.png): the image is not a supported image"),
    (form(("a.png", b"x"))[0][:-12], "multipart/form-data; boundary=edge", "", 400, "cut off"),
    (form(("a.png", b"x"))[0].replace(b"files", b"file"), form()[1], "", 400, "in the field file;"),
    (
        form(("a.png", b"x"))[0].replace(b'; filename="a.png"', b""),
        form()[1],
        "",
        400,
        "field files is not a file",
    ),
]
assert BAD_INPUT


@pytest.mark.parametrize(
    ("body", "kind", "query", "status", "message"), BAD_INPUT, ids=[item[-1] for item in BAD_INPUT]
)
def test_bad_input_is_refused_in_one_line(
    server: Server, body: bytes, kind: str, query: str, status: int, message: str
) -> None:
    assert message in server.refuses(body, kind, query, status)


def test_unknown_paths_and_methods_are_refused(server: Server) -> None:
    for method, path, status in (
        ("GET", "/predict", 405),
        ("POST", "/", 405),
        ("PUT", "/models", 405),
        ("GET", "/predict/", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/page/draw.html", 404),
        ("BREW", "/pot", 404),
    ):
        given, _, body = server.ask(method, path)
        assert given == status, path
        assert "\n" not in json.loads(body)["error"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:{port}", "[::1]:80", "LOCALHOST:{port}"])
def test_it_answers_to_its_own_names(server: Server, host: str) -> None:
    assert server.ask("GET", "/healthz", host=host.format(port=server.port))[0] == 200


def test_other_host_names_are_rejected(server: Server) -> None:
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::1", "localhost@evil.example:1"):
        status, _, body = server.ask("POST", "/predict", b"", host=host)
        assert status in (400, 421), host
        assert json.loads(body)["error"]
    there = f"127.0.0.1:{server.port}"
    assert server.ask("GET", "/healthz", host=there, origin="http://evil.example")[0] == 403
    assert server.ask("GET", "/healthz", host=there, origin="null")[0] == 403
    assert server.ask("GET", "/healthz", host=there, origin=f"http://{there}")[0] == 200


def test_the_head_of_a_request_has_its_limit(server: Server) -> None:
    answer = server.raw(b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 20_000 + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert "head of the request" in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    answer = server.raw(b"this is no HTTP\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"\r\n\r\nInvalid HTTP request received.")  # uvicorn's own words


def test_bytes_pixels_and_pictures_have_their_limits(small: Server, written: tuple[Images, list[str]]) -> None:
    body = b"x" * (2**20 + 1)
    assert "1,048,576 bytes" in small.refuses(body, "image/png", status=413)
    pieces = iter([body[:1000], *[body[:100_000]] * 11])  # chunked: no length is announced
    status, _, answer = small.ask("POST", "/predict", pieces, content_type="image/png")
    assert status == 413 and json.loads(answer)["error"]
    assert "100,000" in small.refuses(file_of_picture(np.zeros((400, 300), np.uint8)), "image/png")
    three = form(*[("a.png", file_of(written[0][0]))] * 3)
    assert "more than 2 files" in small.refuses(*three, status=413)
    assert small.post(*form(*[("a.png", file_of(written[0][0]))] * 2))


def test_too_many_requests_get_status_429(small: Server, written: tuple[Images, list[str]]) -> None:
    body = file_of(written[0][0])
    head = f"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\ncontent-length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", small.port), timeout=20) as slow:
        slow.sendall(head.encode() + b"connection: close\r\n\r\n" + body[:10])
        wait_for(lambda: b"requests_under_way 2.0" in small.ask("GET", "/metrics")[2])
        status, headers, answer = small.ask("POST", "/predict", body, content_type="image/png")
        assert status == 429 and headers["retry-after"] == "1" and "try again" in json.loads(answer)["error"]
        assert small.ask("GET", "/healthz")[0] == 200
        slow.sendall(body[10:])
        with slow.makefile("rb") as answered:
            assert answered.readline() == b"HTTP/1.1 200 OK\r\n"
    assert small.post(body, "image/png")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline


# ---------------------------------------------------------------------------------------------------------------------
# How it begins and ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_finishes_what_is_under_way_and_ends(
    serving: Checkout, written: tuple[Images, list[str]], number: signal.Signals
) -> None:
    body = file_of(written[0][0])
    head = (
        f"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    port, running = started(serving, *FAST)
    with running as process, socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(head.encode() + body[:10])
        wait_for(lambda: b"under_way 2.0" in Server(port, process).ask("GET", "/metrics")[2])
        process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        client.sendall(body[10:])
        with client.makefile("rb") as answered:
            assert answered.readline() == b"HTTP/1.1 200 OK\r\n"
        assert process.wait(10) == 0


def test_a_port_that_is_taken(serving: Checkout) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = serving.mnistflow("serve", *FAST, "--port", str(port), status=1)
    assert f"mnistflow: port {port} of 127.0.0.1 is in use" in message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--host", "no.such.host.example", *FAST), "cannot serve on --host no.such.host.example"),
        (("--port", "70000", *FAST), "70000"),
        (("--max-images", "0", *FAST), "must be a whole number above 0"),
        (("--model", "missing.safetensors"), "missing.safetensors"),
        ((*FAST, *FAST), "is given twice"),
        (("--recorded", "2"), "no complete run is recorded in sqlite:///"),
    ],
)
def test_server_start_errors_are_one_line(serving: Checkout, arguments: tuple[str, ...], message: str) -> None:
    output = serving.mnistflow("serve", *arguments, status=None)
    assert message in output
    assert "Traceback" not in output


# ---------------------------------------------------------------------------------------------------------------------
# A thousand malformed requests


@dataclass(frozen=True)
class Bad:
    """Bytes for the server; an answer, if one comes, must be a 4xx, or (``may_pass``) anything below 500."""

    what: str
    request: bytes
    may_pass: bool = False


def request(body: bytes, kind: str, method: str = "POST", path: str = "/predict", extra: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
    return head.encode("latin-1") + extra + b"connection: close\r\n\r\n" + body


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb(width: int, height: int, data: bytes) -> bytes:
    """A PNG that is small as a file and says that it is large."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", data), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def malformed(count: int, seed: int, image: Images) -> Iterator[Bad]:
    """Requests that are wrong in many ways, in turns."""
    random = np.random.default_rng(seed)
    good = {kind: file_of(image, kind, scale=4) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")}
    zeros = zlib.compress(bytes(20_000 * 2501), 9)
    rows = image.tolist()

    def some(*choices: T) -> T:
        return choices[int(random.integers(len(choices)))]

    def noise(most: int) -> bytes:
        return random.bytes(int(random.integers(1, most)))

    def truncated() -> Bad:
        kind = some(*good)
        data = good[kind]
        return Bad(
            f"truncated {kind}", request(data[: int(random.integers(len(data) // 2))], f"image/{kind}".lower()), True
        )

    def flipped() -> Bad:
        data = bytearray(good[some(*good)])
        for place in random.integers(0, len(data), 20):
            data[place] ^= int(random.integers(1, 256))
        return Bad("flipped", request(bytes(data), "image/png"), may_pass=True)

    def rubbish() -> Bad:
        start = some(b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"RIFF", b"II*\x00", b"BM", b"%PDF")
        return Bad("rubbish", request(start + noise(5000), some("image/png", "image/x", "application/octet-stream")))

    def bombs() -> Bad:
        data = some(
            bomb(20_000, 20_000, zeros),
            bomb(2**31 - 1, 2**31 - 1, zeros[:100]),
            bomb(60_000, 60_000, zlib.compress(b"")),
            b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6) + b"," + noise(30),
            b"P5 60000 60000 255\n" + noise(100),
        )
        if some(True, False):
            return Bad("bomb in a form", request(*form(("bomb.png", data))))
        return Bad("bomb", request(data, "image/png"))

    def json_values() -> Bad:
        value = some("NaN", "Infinity", "-1", "256", "0.5", "1e400", "true", "null", '"x"', "[]", "{}", "9" * 5000)
        document = json.dumps({"images": [rows]})
        place = document.index(str(some(0, 0))) + 3 * int(random.integers(200))
        return Bad(
            f"json {value[:9]}", request((document[:place] + value + document[place:]).encode(), "application/json")
        )

    def json_shapes() -> Bad:
        size = int(random.integers(1, 60))
        images = some(
            [rows[:size]] if size < 28 else [rows * 2],
            [[row[: size % 28] for row in rows]],
            [[*rows[:27], []]],
            rows,
            [[rows]],
            [[]],
            {},
            7,
            [rows] * 257,
        )
        return Bad("json shape", request(arrays(images), "application/json"))

    def json_text() -> Bad:
        text = some(
            json.dumps({"images": [rows]}).encode()[: int(random.integers(1, 2000))],
            b"[" * int(random.integers(1, 200_000)),
            b'{"a":' * int(random.integers(1, 50_000)),
            noise(3000),
            json.dumps({"images": [rows], "model": some(1, {}, [[]], "x" * 1000)}).encode(),
            json.dumps({"images": [rows], "maps": some("1", -1, 1.5, [])}).encode(),
            json.dumps({"images": [rows], noise(9).hex(): 1}).encode(),
        )
        return Bad("json text", request(text, "application/json"))

    def forms() -> Bad:
        body, kind = form(("a.png", good["PNG"]), ("b.png", good["JPEG"]))
        cut = int(random.integers(1, len(body) - 6))
        return some(
            Bad("form cut", request(body[:cut], kind)),
            Bad("form without boundary", request(body, "multipart/form-data")),
            Bad("form with another boundary", request(body, "multipart/form-data; boundary=other")),
            Bad("form with a strange boundary", request(body, f"multipart/form-data; boundary={noise(200).hex()}")),
            Bad("form of rubbish", request(b"--edge\r\n" + noise(2000), kind)),
            Bad(
                "form with another field",
                request(body.replace(b'"files"', b'"' + noise(20).hex().encode() + b'"'), kind),
            ),
            Bad(
                "form with a bad coding",
                request(body.replace(b"\r\n\r\n", b"\r\ncontent-transfer-encoding: x\r\n\r\n", 1), kind),
            ),
            Bad(
                "form with base64",
                request(body.replace(b"\r\n\r\n", b"\r\ncontent-transfer-encoding: base64\r\n\r\n", 1), kind),
            ),
            Bad("form of many", request(*form(*[("x", b"")] * 500))),
            Bad("form without names", request(body.replace(b'name="files"; ', b""), kind)),
            Bad("form of breaks", request(b"\r" * int(random.integers(1, 100_000)), kind)),
        )

    def kinds() -> Bad:
        kind = some(
            "", "text/html", "application/xml", "image", "/", ";;;", "a" * 500, "json", "multipart/mixed; boundary=x"
        )
        return Bad(f"content-type {kind[:20]}", request(good["PNG"], kind))

    def heads() -> Bad:
        size = int(random.integers(17_000, 200_000))
        extra = some(
            b"x: " + b"a" * size + b"\r\n", b"x: y\r\n" * (size // 6), b"cookie: " + b"=;" * (size // 2) + b"\r\n"
        )
        return Bad("huge head", request(b"", "image/png", extra=extra))

    def places() -> Bad:
        path = some(
            "/predict?maps=x", "/predict?explain=2x", f"/predict?model={noise(9).hex()}", "/predict?maps=-" + "9" * 40,
            "/predict/..", "/%00", "/" + "a/" * 3000, "/%ff%fe", "//predict", "/predict?model=%ff", "/predict;x",
        )  # fmt: skip
        return Bad(f"path {path[:20]}", request(good["PNG"], "image/png", path=path))

    def hosts() -> Bad:
        host = some("evil.example", "", "[::1", "local host", "a" * 3000, "127.0.0.1.evil.example", "localhost:port:7")
        return Bad("host", request(b"", "image/png").replace(b"host: localhost", b"host: " + host.encode()))

    def wires() -> Bad:
        start = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\n"
        return Bad(
            "wire",
            some(
                noise(2000),
                b"\x16\x03\x01" + noise(300),
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                b"GET /\r\n",
                b"\r\n" * int(random.integers(1, 5000)),
                start,
                start + b"content-length: 1000\r\n\r\nshort",
                start + b"content-length: -5\r\n\r\n",
                start + b"content-length: 5\r\ncontent-length: 6\r\n\r\n12345",
                start + b"content-length: " + b"9" * 30 + b"\r\n\r\n",
                start + b"transfer-encoding: gzip\r\n\r\n" + noise(50),
                start + b"transfer-encoding: chunked\r\n\r\nZZ\r\n" + noise(50),
                start + b"transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n" + noise(50),
                start + b"transfer-encoding: chunked\r\n\r\n5\r\n123",
                start + b"transfer-encoding: chunked\r\ncontent-length: 7\r\n\r\n0\r\n\r\n",
                start + b"x\x00y: z\r\n\r\n",
                start + b"no colon\r\n\r\n",
                start + b"expect: 100-continue\r\ncontent-length: 99999999999\r\nconnection: close\r\n\r\n",
                start + b"upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-key: x\r\n\r\n",
                b"GET /\xff HTTP/1.1\r\nhost: localhost\r\n\r\n",
                b"CONNECT localhost:80 HTTP/1.1\r\nhost: localhost\r\n\r\n",
                b"GET http://[::1/ HTTP/1.1\r\nhost: localhost\r\n\r\n",
            ),
        )

    makers = [
        truncated, flipped, rubbish, bombs, json_values, json_shapes, json_text, forms, forms, kinds, heads, places,
        hosts, wires, wires,
    ]  # fmt: skip
    for number in range(count):
        yield makers[number % len(makers)]()


def test_a_thousand_malformed_requests_break_nothing(server: Server, written: tuple[Images, list[str]]) -> None:
    images, _ = written
    body, kind = form(*((f"{n}.png", file_of(images[n])) for n in range(2)))
    large = file_of_picture(np.full((3000, 4000), 255, np.uint8))  # 12 million pixels
    expected = labels(server.post(body, kind))
    for _ in range(30):  # what it needs at work, it holds from now on
        server.post(body, kind)
        server.post(arrays(images[:50].tolist()), "application/json")
    server.post(large, "image/png")
    server.post(large, "image/png")
    before = server.memory()

    ends = threading.Event()
    answered: list[bool] = []

    def good_requests() -> None:
        while not ends.wait(0.01):  # most of the time is for the bad ones
            answered.append(labels(server.post(body, kind)) == expected)

    asking = threading.Thread(target=good_requests)
    asking.start()
    statuses: dict[int, int] = {}
    try:
        for bad in malformed(1000, 7, images[0]):
            answer = server.raw(bad.request)
            status = int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0
            statuses[status] = statuses.get(status, 0) + 1
            assert status < 500, (bad.what, answer)
            if status >= 400:
                head, _, rest = answer.partition(b"\r\n\r\n")  # rubbish may be answered twice, as two requests
                if b"content-type: text/plain" in head:  # what is not HTTP, by uvicorn
                    (line,) = re.findall(rb"Invalid HTTP request received\.", rest)
                    continue
                (length,) = re.findall(rb"content-length: (\d+)", head)
                line = json.loads(rest[: int(length)])["error"]
                assert line and "\n" not in line and len(line) < 600, (bad.what, line)
            else:
                assert status == 0 or bad.may_pass, (bad.what, answer)
    finally:
        ends.set()
        asking.join()
    grown = server.memory() - before
    print(f"answers by status (0: closed without one): {dict(sorted(statuses.items()))}")
    print(
        f"{len(answered)} good requests beside them; memory grew by {grown / 2**20:.1f} MB from {before / 2**20:.0f} MB"
    )
    assert sum(statuses.values()) == 1000 and statuses[400] > 500
    assert len(answered) > 20 and all(answered)
    assert grown <= 50 * 2**20
    assert server.process.poll() is None


# ---------------------------------------------------------------------------------------------------------------------
# By which names it is called


def test_a_server_for_everybody_is_called_by_addresses_and_given_names_alone(serving: Checkout) -> None:
    port, running = started(serving, *FAST, "--host", "0.0.0.0", "--allowed-host", "digits.example")
    with running as process:
        server = Server(port, process)
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "digits.example.evil.example"):
            status, _, answer = server.ask("GET", "/healthz", None, host=host)
            assert status == 421 and "--allowed-host" in json.loads(answer)["error"], host
        for host in (
            "192.0.2.7",
            "192.0.2.7:80",
            "[2001:db8::1]:80",
            "localhost",
            socket.gethostname(),
            "Digits.Example:80",
        ):
            assert server.ask("GET", "/healthz", None, host=host)[0] == 200, host
        for origin, status in (
            ("https://digits.example", 200),
            ("http://evil.example", 403),
            ("http://localhost:1", 403),
        ):
            assert server.ask("GET", "/healthz", None, origin=origin)[0] == status, origin


def test_a_target_in_absolute_form_is_its_path_and_its_host(server: Server) -> None:
    for target, host, status in (
        (f"http://localhost:{server.port}/healthz", "localhost", 200),
        ("HTTP://127.0.0.1/healthz", "evil.example", 200),  # the target counts, whatever the header says
        ("http://localhost/models?x=1", "localhost", 200),
        ("http://localhost", "localhost", 200),
        ("http://localhost/no/such/place", "localhost", 404),
        ("http://evil.example/healthz", "localhost", 421),
        ("http://[::1/healthz", "localhost", 400),
    ):
        answer = server.raw(f"GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
        assert answer.startswith(f"HTTP/1.1 {status} ".encode()), (target, answer)


def test_clients_that_keep_their_connection_lose_no_request_while_it_ends(serving: Checkout) -> None:
    port, running = started(serving, *FAST)
    announced: list[bool] = []
    begun = threading.Barrier(21)

    def keep_asking() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.connect()
        begun.wait()
        while True:
            connection.request("GET", "/healthz")
            response = connection.getresponse()
            response.read()
            if response.status != 200 or response.getheader("connection") == "close":
                announced.append(response.status == 200)
                return

    with running as process:
        clients = [threading.Thread(target=keep_asking) for _ in range(20)]
        for client in clients:
            client.start()
        begun.wait()
        process.send_signal(signal.SIGTERM)
        for client in clients:
            client.join()
        assert announced == [True] * 20
        assert process.wait(10) == 0


# ---------------------------------------------------------------------------------------------------------------------
# What one request may cost as a whole


@pytest.fixture(scope="module")
def network(serving: Checkout) -> Predictor:
    """A network, in this process."""
    path = serving.folder / ".mnistflow" / "onnx"
    return Predictor(next(iter(sorted(path.rglob("*.onnx")))))


def explained(network: Predictor, limits: Limits, *files: bytes, explain: bool = False) -> tuple[int, str]:
    """Status and text of an answer, within limits of its own."""
    uploads = [Upload(f"{number}.png", data) for number, data in enumerate(files)]
    pool = ModelPool([network], limits)
    try:
        return 200, pool.answer(uploads, ReadOptions((), explain=explain, maps=None, several=True)).decode()
    except Refused as error:
        return error.status, str(error)
    finally:
        pool.threads.shutdown()


def test_pixels_of_a_request_are_limited_as_a_whole(network: Predictor) -> None:
    black = file_of_picture(np.zeros((100, 100), np.uint8))
    limits = Limits(pixels=10_000, all_pixels=25_000)
    assert explained(network, limits, black, black)[0] == 200
    status, message = explained(network, limits, black, black, black)
    assert status == 413 and "more than the 25,000 pixels that are allowed in one request" in message


def test_pictures_are_held_one_after_the_other(network: Predictor) -> None:
    black = file_of_picture(np.zeros((2000, 2000), np.uint8))  # 4 MB each, once decoded
    limits = Limits(all_pixels=10**9)
    explained(network, limits, black)
    tracemalloc.start()
    try:
        explained(network, limits, *[black] * 2)
        few = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        assert explained(network, limits, *[black] * 12)[0] == 200
        many = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert many - few < 10 * 2**20


def test_digits_of_a_request_are_limited_as_a_whole(network: Predictor, written: tuple[Images, list[str]]) -> None:
    seven = file_of(written[0][0])
    assert explained(network, Limits(digits=2), *[seven] * 2)[0] == 200
    status, message = explained(network, Limits(digits=2), *[seven] * 3)
    assert status == 413 and "more than the 2 digits that are read in one request" in message


def test_the_length_of_an_answer_is_limited(network: Predictor, written: tuple[Images, list[str]]) -> None:
    seven, limits = file_of(written[0][0]), Limits(answer=15_000)
    assert explained(network, limits, *[seven] * 9)[0] == 200
    status, message = explained(network, limits, *[seven] * 9, explain=True)
    assert status == 413 and "longer than the 15,000 bytes that are allowed" in message
    status, answer = explained(network, limits, *[seven] * 3, explain=True)
    assert status == 200 and len(answer) <= 15_000


def test_processor_time_of_a_request_is_limited(network: Predictor) -> None:
    black = file_of_picture(np.zeros((1000, 1000), np.uint8))
    status, message = explained(network, Limits(cpu_seconds=0.001), *[black] * 3)
    assert status == 413 and "0.001 seconds of CPU time" in message


@contextlib.contextmanager
def in_process(application: ASGIApp) -> Iterator[tuple[int, uvicorn.Server]]:
    """A server in a thread, with the protocol of `serve`."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # or the system would take a whole answer
        running = uvicorn.Server(configuration(Deadlines(application)))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1], running
        finally:
            running.should_exit = True
            thread.join()


def test_a_client_that_does_not_read_its_answer_is_dropped(
    network: Predictor, written: tuple[Images, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnistflow.serving.deadlines.WRITE_SECONDS", 0.2)
    body = arrays([written[0][0].tolist()] * 1000, explain=True)
    head = f"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    with in_process(app([network], Limits(images=1000))) as (port, running), socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(20)
        client.connect(("127.0.0.1", port))
        client.sendall(head.encode() + b"\r\n\r\n" + body)
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        wait_for(lambda: not running.server_state.connections)
        wait_for(lambda: not running.server_state.tasks)


def test_a_client_that_does_not_send_its_request_is_told_so(
    network: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnistflow.serving.deadlines.HEAD_SECONDS", 0.3)
    with in_process(app([network])) as (port, _):
        for answered, sent in ((False, b""), (False, b"GET / HTTP/1.1\r\nhost: "), (True, b""), (True, b"GET")):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                if answered:  # a request before
                    client.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
                    assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
                client.sendall(sent)
                with client.makefile("rb") as file:
                    answer = file.read()  # to the end: the server closes
            if answered and not sent:
                continue
            head, _, body = answer.rpartition(b"\r\n\r\n")
            if sent:
                assert b"HTTP/1.1 408 Request Timeout\r\n" in head
                assert json.loads(body)["error"] == "the head of the request did not arrive within 0.3 seconds"
            else:
                assert not answer
