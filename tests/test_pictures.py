from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from mnistflow.data import pictures


def image(path: Path, form: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), 255).save(path, format=form)
    return path


def names(listing: pictures.Listing, folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in listing.files]


@pytest.mark.parametrize(
    "litter",
    [".ipynb_checkpoints/x.png", "@eaDir/x.png", "__MACOSX/x.png", "Thumbs.db", "desktop.ini", ".DS_Store", "._x.png"],
)
def test_system_files_are_ignored(litter: str, tmp_path: Path) -> None:
    image(tmp_path / "0.png")
    image(tmp_path / "below" / litter)
    image(tmp_path / litter)
    listing = pictures.listed(tmp_path)
    assert names(listing, tmp_path) == ["0.png"]
    assert not listing.left_out


@pytest.mark.parametrize("form", pictures.formats())
def test_a_picture_is_known_by_its_content(form: str, tmp_path: Path) -> None:
    for name in ("none", "other.dat"):
        image(tmp_path / name, form)
    assert names(pictures.listed(tmp_path), tmp_path) == ["none", "other.dat"]


def test_an_ending_is_enough_so_that_a_damaged_picture_is_an_error_and_not_left_out(tmp_path: Path) -> None:
    for ending in pictures.ENDINGS:
        (tmp_path / f"x{ending.upper()}").write_bytes(b"damaged")
    assert len(pictures.listed(tmp_path).files) == len(pictures.ENDINGS)


def test_what_is_left_out_is_counted_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text", encoding="utf-8")
    (tmp_path / "empty").touch()
    for number in range(3):
        (tmp_path / f"{number}.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (tmp_path / "page").write_bytes(b"%PDF-1.7\n")
    os.mkfifo(tmp_path / "x.png")
    (tmp_path / "gone.png").symlink_to("nowhere")
    listing = pictures.listed(tmp_path)
    assert listing.files == []
    assert listing.left_out == Counter(
        {
            "not images": 2,
            "in HEIC, which is not supported (save them as PNG or JPEG)": 3,
            "in PDF, which is not supported (save them as PNG or JPEG)": 1,
            "pipes, sockets or devices": 1,
            "links that lead nowhere": 1,
        }
    )
    assert pictures.summary(listing.left_out).startswith("8 files skipped: 3 in HEIC, which is not supported (save")


def test_links_are_followed_but_never_in_a_loop(tmp_path: Path) -> None:
    image(tmp_path / "top" / "a" / "0.png")
    image(tmp_path / "elsewhere" / "1.png")
    for link, target in (("up", ".."), ("top", "../.."), ("self", "."), ("other", "../../elsewhere")):
        (tmp_path / "top" / "a" / link).symlink_to(target)
    (tmp_path / "elsewhere" / "back").symlink_to("../top/a")
    listing = pictures.listed(tmp_path / "top" / "a")
    assert names(listing, tmp_path / "top" / "a") == ["0.png", "other/1.png"]
    assert listing.left_out == Counter({"links to a parent folder or to one listed already": 4})
