from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Splits
from safetensors.torch import save_file

from mnistflow.core.tensors import Inputs, read_split, read_tensors, write_split, write_tensors


def test_a_split_comes_back(digits: Splits, tmp_path: Path) -> None:
    split = digits[1]
    write_split(tmp_path / "split.safetensors", split)
    again = read_split(tmp_path / "split.safetensors")
    assert torch.equal(again.images, split.images)
    assert torch.equal(again.labels, split.labels)
    assert torch.equal(again.indices, split.indices)
    assert again.inputs == split.inputs
    assert again.image_shape == (1, 28, 28)


def test_the_bytes_are_the_same_in_every_process(tmp_path: Path) -> None:
    program = """
import sys, torch
from pathlib import Path
from mnistflow.core.tensors import write_tensors
write_tensors(Path(sys.argv[1]), {"b": torch.arange(3), "a": torch.ones(2)}, {"y": 1, "x": {"q": 2, "p": [3]}})
"""
    for name in ("one", "three"):
        environment = {"PYTHONPATH": str(ROOT / "src"), "PYTHONHASHSEED": str(len(name))}
        subprocess.run([sys.executable, "-c", program, str(tmp_path / name)], env=environment, check=True)
    assert len({(tmp_path / name).read_bytes() for name in ("one", "three")}) == 1


def test_tensors_round_trip_unchanged(digits: Splits, tmp_path: Path) -> None:
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    write_split(one, digits[1])
    write_tensors(other, *read_tensors(one))
    assert one.read_bytes() == other.read_bytes()


def test_leftovers_of_a_killed_process_are_removed_by_the_next_write(tmp_path: Path) -> None:
    program = """
import sys, torch
from pathlib import Path
from mnistflow.core.tensors import write_tensors
for _ in range(100):
    write_tensors(Path(sys.argv[1]), {"a": torch.zeros(25_000_000)}, {})
"""
    path = tmp_path / "file"
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], env={"PYTHONPATH": str(ROOT / "src")})
    while not _half_written(tmp_path, path):
        assert process.poll() is None
    process.kill()
    process.wait()
    write_tensors(path, {"a": torch.ones(1)}, {})
    assert list(tmp_path.rglob("*")) == [path]


def _half_written(folder: Path, path: Path) -> bool:
    try:
        return any(one_path.is_file() and one_path.stat().st_size for one_path in folder.rglob("*") if one_path != path)
    except FileNotFoundError:  # gone while it was looked at
        return False


def test_any_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    write_tensors(path, {"a": torch.arange(4.0), "b": torch.tensor([], dtype=torch.int64)}, {"x": [1, "y"]})
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match="file.safetensors (is damaged|was (not )?written by)"):
            read_tensors(path)


def test_the_first_format_had_no_digest_and_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    save_file({"a": torch.arange(4.0)}, path, {"mnistflow": json.dumps({"format": 1, "x": "y"})})
    tensors, metadata = read_tensors(path)
    assert torch.equal(tensors["a"], torch.arange(4.0))
    assert metadata["x"] == "y"


def test_normalising_is_what_its_formula_says() -> None:
    inputs = Inputs("digits", ("a", "b"), padding=1, mean=0.25, std=0.5)
    raw = torch.tensor([[[0, 255], [51, 102]]], dtype=torch.uint8)
    background = -0.5
    expected = torch.full((1, 1, 4, 4), background)
    expected[0, 0, 1:3, 1:3] = torch.tensor([[background, 1.5], [-0.1, 0.3]])
    torch.testing.assert_close(inputs.normalise(raw), expected)


def test_a_damaged_file_is_refused_by_name(digits: Splits, tmp_path: Path) -> None:
    path = tmp_path / "split.safetensors"
    write_split(path, digits[1])
    data = path.read_bytes()
    for damaged in (b"", data[:7], data[: len(data) // 2], b"\xff" * 64, data + b"x"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"split\.safetensors is damaged"):
            read_split(path)
    with pytest.raises(ValueError, match=r"there is no file .*nowhere; `dvc repro` makes it"):
        read_split(tmp_path / "nowhere")


def test_a_file_not_written_by_mnistflow_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="was not written by mnistflow"):
        read_tensors(path)
    save_file({"x": torch.ones(1)}, path, {"mnistflow": json.dumps({"format": 0})})
    with pytest.raises(ValueError, match="another version of mnistflow"):
        read_tensors(path)
    write_tensors(path, {"x": torch.ones(1)}, {})
    with pytest.raises(ValueError, match="holds no split; expected images, labels and indices, found x"):
        read_split(path)


def test_tensors_that_do_not_fit_together_are_refused(digits: Splits, tmp_path: Path) -> None:
    split, path = digits[1], tmp_path / "split.safetensors"
    for wrong, message in (
        (replace(split, labels=split.labels[1:]), "144 images, but labels"),
        (replace(split, labels=split.labels + 1), "labels must be 0 to 9"),
        (replace(split, images=split.images.double()), "images must be"),
        (replace(split, images=split.images[:, 0]), "images must be"),
    ):
        write_split(path, wrong)
        with pytest.raises(ValueError, match=message):
            read_split(path)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much memory is whose")
def test_images_stay_in_their_file_until_they_are_used(digits: Splits, tmp_path: Path) -> None:
    many = 40_000
    split = replace(
        digits[1],
        images=torch.zeros(many, 1, 28, 28),
        labels=torch.zeros(many, dtype=torch.int64),
        indices=torch.arange(many),
    )
    write_split(tmp_path / "split.safetensors", split)
    program = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT / "src")!r})
from mnistflow.core.tensors import read_split

def own():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))

before = own()
split = read_split(Path("split.safetensors"))
print(len(split), split.images.nbytes, own() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True)
    count, size, held = map(int, done.stdout.split())
    assert count == many
    assert size > 100e6
    assert held < size / 4


def test_tensors_get_the_mode_that_the_user_has_set(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        write_tensors(tmp_path / "some.safetensors", {"a": torch.zeros(2)}, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "some.safetensors").stat().st_mode) == 0o664
