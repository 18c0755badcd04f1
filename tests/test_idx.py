"""Fashion-MNIST and KMNIST in small, from a mirror on this machine; MNIST itself is in test_datasets.py."""

from __future__ import annotations

import gc
import gzip
import hashlib
import http.server
import shutil
import threading
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from conftest import ROOT, lacking

from mnistflow.core.files import sha256
from mnistflow.data import datasets
from mnistflow.data.datasets.fashion_mnist import FashionMNIST
from mnistflow.data.datasets.idx import IDX, read_idx
from mnistflow.data.datasets.kmnist import KMNIST
from mnistflow.data.datasets.mnist import MNIST, NPM_PACKAGE, SHA256

KINDS: list[type[IDX]] = [FashionMNIST, KMNIST]
TRAIN_IMAGES, TEST_LABELS = "train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"


class Mirror(http.server.ThreadingHTTPServer):
    """Serves the files of a folder; counts the requests, and answers with another status where told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[str] = []
        self.status: dict[str, HTTPStatus] = {}
        super().__init__(("127.0.0.1", 0), Answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Answer(http.server.BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        name = self.path.removeprefix("/")
        self.server.requests.append(name)
        status = self.server.status.get(name, HTTPStatus.OK)
        body = (self.server.folder / name).read_bytes() if status == HTTPStatus.OK else b"no"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that it has
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A mirror of small files: 30 training and 20 test images, the labels in turn."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "mirror"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for part, count in (("train", 30), ("t10k", 20)):
        pixels = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        for kind, values in (("images-idx3", pixels), ("labels-idx1", np.arange(count, dtype=np.uint8) % 10)):
            header = np.array([0x0800 + values.ndim, *values.shape], dtype=">i4").tobytes()
            with gzip.open(folder / f"{part}-{kind}-ubyte.gz", "wb") as file:
                file.write(header + values.tobytes())
    server = Mirror(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def small(kind: type[IDX], mirror: Mirror, path: Path | None = None) -> IDX:
    """A data set as it is, but with the files that the mirror has now."""
    files = sorted(mirror.folder.iterdir())
    assert len(files) == 4
    resources = [(file.name, hashlib.md5(file.read_bytes()).hexdigest()) for file in files]
    loader = type(
        kind.torchvision_name,
        (getattr(torchvision.datasets, kind.torchvision_name),),
        {"mirrors": [mirror.url], "resources": resources},
    )
    checksums = {file.name: sha256(file) for file in files}
    made = type("Small", (kind,), {"checksums": checksums, "loader": lambda _: loader})
    return made(path=None if path is None else str(path))  # type: ignore[no-any-return]


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def damage(path: Path) -> None:
    """Change one pixel or label, so that the archive is as good as before."""
    with gzip.open(path) as file:
        data = bytearray(file.read())
    data[-1] ^= 1
    with gzip.open(path, "wb") as file:
        file.write(data)


def test_checksums_match_the_files_of_torchvision() -> None:
    for kind in KINDS:
        theirs = kind().loader()
        assert list(kind.classes) == theirs.classes  # type: ignore[attr-defined]
        assert set(kind.checksums) == {name for name, _ in theirs.resources}  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_a_mirror_are_verified_kept_as_published_and_read_back(
    kind: type[IDX], mirror: Mirror, tmp_path: Path
) -> None:
    dataset = small(kind, mirror)
    dataset.fetch(tmp_path / "raw", timeout=5)
    kept = tmp_path / "raw" / kind.torchvision_name / "raw"
    assert {path.name: sha256(path) for path in kept.iterdir()} == dataset.checksums
    assert files_in(tmp_path / "raw") == sorted(dataset.checksums)

    published = dataset.read(tmp_path / "raw")
    assert published.classes == kind.classes
    assert len(published.classes) == 10
    generator = np.random.default_rng(0)
    for part, count in ((published.train, 30), (published.test, 20)):
        pixels = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        assert torch.equal(part.images, torch.from_numpy(pixels))
        assert part.labels.tolist() == [index % 10 for index in range(count)]
        assert part.labels.dtype == torch.int64
    assert files_in(tmp_path / "raw") == sorted(dataset.checksums)  # reading leaves nothing there


def test_an_idx_file_is_read_as_torchvision_reads_it(mirror: Mirror, tmp_path: Path) -> None:
    dataset = small(FashionMNIST, mirror)
    dataset.fetch(tmp_path / "ours", timeout=5)
    for published, train in zip(dataset.read(tmp_path / "ours")[:2], (True, False), strict=True):
        theirs: Any = dataset.loader()(str(tmp_path / "theirs"), train=train, download=True)
        assert torch.equal(published.images, theirs.data)
        assert torch.equal(published.labels, theirs.targets)
        assert published.images.dtype == theirs.data.dtype


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x08",
        b"\0\0\x08\0",  # no axes
        b"\0\0\x09\x01\0\0\0\x01a",  # another type
        b"\0\x01\x08\x01\0\0\0\x01a",
        b"\0\0\x08\x01\0\0\0\x02a",  # one value is missing
        b"\0\0\x08\x01\0\0\0\x01ab",  # one too many
        b"\0\0\x08\x02\0\0\0\x01\0\0",  # cut within the lengths
    ],
)
def test_what_is_no_idx_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="file is damaged: not a complete IDX file of unsigned bytes"):
        read_idx(path)


def test_a_second_fetch_uses_no_network(mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = small(FashionMNIST, mirror)
    dataset.fetch(tmp_path / "raw", timeout=5)
    asked = len(mirror.requests)
    assert set(mirror.requests) == set(dataset.checksums)
    dataset.fetch(tmp_path / "raw", timeout=5)
    assert len(mirror.requests) == asked
    assert "fashion_mnist: found the four files in " in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # torchvision leaves the answer open
@pytest.mark.parametrize("status", [HTTPStatus.NOT_FOUND, HTTPStatus.INTERNAL_SERVER_ERROR])
def test_a_mirror_without_the_files_leaves_nothing_and_is_named_with_what_it_said(
    mirror: Mirror, tmp_path: Path, status: HTTPStatus
) -> None:
    dataset = small(KMNIST, mirror)
    mirror.status[TEST_LABELS] = status
    with pytest.raises(ValueError, match="Kuzushiji-MNIST could not be fetched") as caught:
        dataset.fetch(tmp_path / "raw", timeout=5)
    for part in (TEST_LABELS, mirror.url, f"HTTP Error {status.value}", "datasets.kmnist.path in params.yaml"):
        assert part in str(caught.value)
    assert files_in(tmp_path / "raw") == []
    gc.collect()  # closes it, here and not in another test
    mirror.status.clear()
    dataset.fetch(tmp_path / "raw", timeout=5)
    assert files_in(tmp_path / "raw") == sorted(dataset.checksums)


def test_a_file_that_torchvision_finds_corrupted_is_named(mirror: Mirror, tmp_path: Path) -> None:
    dataset = small(FashionMNIST, mirror)
    damage(mirror.folder / TRAIN_IMAGES)
    with pytest.raises(ValueError, match=rf"(?s)could not be fetched.*{TRAIN_IMAGES}.*corrupted"):
        dataset.fetch(tmp_path / "raw", timeout=5)
    assert files_in(tmp_path / "raw") == []


def test_a_file_that_torchvision_takes_and_that_is_another_is_refused_by_name(mirror: Mirror, tmp_path: Path) -> None:
    expected = small(FashionMNIST, mirror).checksums
    damage(mirror.folder / TRAIN_IMAGES)
    dataset = small(FashionMNIST, mirror)  # torchvision's checksums are those of the damaged file
    type(dataset).checksums = expected
    with pytest.raises(ValueError, match=rf"{TRAIN_IMAGES} is not Fashion-MNIST's file: SHA-256 is \w+, expected "):
        dataset.fetch(tmp_path / "raw", timeout=5)
    assert TRAIN_IMAGES not in files_in(tmp_path / "raw")


@pytest.mark.parametrize("subfolder", ["", "FashionMNIST/raw"])
def test_a_folder_of_the_user_is_taken_instead_of_the_mirror(mirror: Mirror, tmp_path: Path, subfolder: str) -> None:
    own = tmp_path / "own"
    (own / subfolder).parent.mkdir(parents=True, exist_ok=True)
    mirror.folder.rename(own / subfolder)
    mirror.folder = own / subfolder
    dataset = small(FashionMNIST, mirror, path=own)
    assert dataset.own == own
    dataset.fetch(tmp_path / "raw", timeout=5)
    assert files_in(tmp_path / "raw") == sorted(dataset.checksums)
    assert mirror.requests == []

    damage(own / subfolder / TEST_LABELS)
    with pytest.raises(ValueError, match=rf"{TEST_LABELS} is not Fashion-MNIST's file.*datasets.fashion_mnist.path"):
        dataset.fetch(tmp_path / "other", timeout=5)
    (own / subfolder / TEST_LABELS).unlink()
    with pytest.raises(ValueError, match=rf"datasets.fashion_mnist.path: there is no {TEST_LABELS} in {own}$"):
        dataset.fetch(tmp_path / "other", timeout=5)
    assert files_in(tmp_path / "other") == []


@pytest.mark.parametrize(
    "form", ["{part}-{kind}.{axes}-ubyte", "{part}-{kind}-{axes}-ubyte/{part}-{kind}-{axes}-ubyte", "x{number}"]
)
def test_files_of_the_user_are_known_by_their_checksum_whatever_they_are_called(
    form: str, mnist_folder: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "README").write_text("no data", encoding="utf-8")
    (own / "damaged.gz").write_bytes(b"no archive")
    for number, name in enumerate(SHA256):
        part, kind, axes, _ = name.split("-")
        link = own / form.format(part=part, kind=kind, axes=axes, number=number)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(mnist_folder / name)
    labels = own / form.format(
        part="t10k", kind="labels", axes="idx1", number=list(SHA256).index("t10k-labels-idx1-ubyte")
    )
    with gzip.open(own / "compressed.gz", "wb") as file:
        file.write(labels.read_bytes())
    labels.unlink()
    datasets.build("mnist", {"path": str(own)}).fetch(tmp_path / "raw", timeout=1)
    assert files_in(tmp_path / "raw") == sorted(SHA256)


def test_npm_says_why_it_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("npm") is None:
        lacking("needs npm; on Debian: apt-get install npm")
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")  # where nothing listens
    ((_, _), (name, fetch)) = MNIST().network()
    assert name == f"npm package {NPM_PACKAGE}"
    with pytest.raises(OSError, match="ECONNREFUSED"):
        fetch(tmp_path, 1)


def test_a_temporary_copy_takes_the_files_of_the_main_repository(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main, copy = tmp_path / "main", tmp_path / "copy"
    raw = Path("data", "raw", "kmnist")
    for folder in (main, copy):
        folder.mkdir()
    dataset = small(KMNIST, mirror)
    monkeypatch.chdir(main)
    dataset.fetch(raw, timeout=5)
    mirror.requests.clear()

    monkeypatch.setenv("DVC_ROOT", str(main))
    monkeypatch.chdir(copy)
    dataset.fetch(raw, timeout=5)
    assert mirror.requests == []
    assert files_in(copy) == sorted(dataset.checksums)
    assert dataset.read(raw).train.labels.shape == (30,)

    kept = Path("KMNIST", "raw", TEST_LABELS)
    (raw / kept).unlink()
    (main / raw / kept).unlink()
    dataset.fetch(raw, timeout=5)  # what the main repository lacks comes from the mirror
    assert mirror.requests.count(TEST_LABELS) > 0
    assert not (main / raw / kept).exists()

    damage(main / raw / "KMNIST" / "raw" / TRAIN_IMAGES)
    (raw / "KMNIST" / "raw" / TRAIN_IMAGES).unlink()
    with pytest.raises(ValueError, match=rf"main/{raw}/KMNIST/raw/{TRAIN_IMAGES} is not Kuzushiji-MNIST's file"):
        dataset.fetch(raw, timeout=5)
    assert TRAIN_IMAGES not in files_in(copy)


def test_a_folder_is_that_of_the_project_whatever_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(ROOT)
    assert FashionMNIST(path="images").own == FashionMNIST(path="~/images").own == tmp_path / "images"
    assert FashionMNIST().own is None
