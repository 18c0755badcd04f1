"""Images of one's own: the data set `folder`, and writing a folder that it reads."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from mnistflow.core.files import sha256
from mnistflow.data import datasets
from mnistflow.data.datasets import LabelledImages, Published
from mnistflow.data.datasets.folder import Folder, write_folder
from mnistflow.data.splits import stratified

Pixels = npt.NDArray[np.uint8]


def noise(height: int = 28, width: int = 28, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def save(path: Path, pixels: npt.NDArray[Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Two classes, five training images and two test images of each."""
    folder = tmp_path / "own"
    for part, count in (("train", 5), ("test", 2)):
        for number, name in enumerate(("cat", "dog")):
            for index in range(count):
                save(folder / part / name / f"{index}.png", noise(seed=100 * number + 10 * count + index))
    return folder


def read(folder: Path, raw: Path, **arguments: Any) -> Published:
    dataset = datasets.build("folder", {"path": str(folder), **arguments})
    dataset.fetch(raw, timeout=1)
    published = dataset.read(raw)
    assert dataset.training_images == len(published.train.labels)
    assert dataset.classes == published.classes
    return published


# ---------------------------------------------------------------------------------------------------------------------
# What is read


def test_classes_are_folders_and_images_of_the_size_stay_as_they_are(own: Path, tmp_path: Path) -> None:
    train, test, classes = read(own, tmp_path / "raw")
    assert classes == ("cat", "dog")
    assert train.labels.tolist() == [0] * 5 + [1] * 5
    assert test.labels.tolist() == [0] * 2 + [1] * 2
    assert train.images.shape == (10, 28, 28)
    assert train.images.dtype == torch.uint8
    assert train.labels.dtype == torch.int64
    for index in range(5):
        assert np.array_equal(train.images[5 + index].numpy(), noise(seed=150 + index))


def test_the_packed_file_is_the_same_each_time_and_follows_the_images(own: Path, tmp_path: Path) -> None:
    file = tmp_path / "raw" / "images.safetensors"
    read(own, tmp_path / "raw")
    first = sha256(file)
    shutil.copytree(own, tmp_path / "copy")
    read(tmp_path / "copy", tmp_path / "raw")
    assert sha256(file) == first
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    save(own / "train" / "cat" / "0.png", noise(seed=7))
    assert np.array_equal(read(own, tmp_path / "raw").train.images[0].numpy(), noise(seed=7))


def test_images_below_a_class_belong_to_it_and_hidden_files_do_not(own: Path, tmp_path: Path) -> None:
    save(own / "train" / "cat" / "more" / "x.png", noise(seed=1))
    save(own / "train" / "cat" / ".ipynb_checkpoints" / "x.png", noise(seed=2))
    (own / "train" / "cat" / "._0.png").write_bytes(b"no image")
    (own / "train" / "dog" / "notes.txt").write_text("no image", encoding="utf-8")
    (own / "train" / ".DS_Store").write_bytes(b"no folder")
    assert len(read(own, tmp_path / "raw").train.labels) == 11


@pytest.mark.parametrize("litter", [".ipynb_checkpoints", "@eaDir", "__MACOSX"])
def test_system_files_are_not_classes(litter: str, own: Path, tmp_path: Path) -> None:
    (own / "train" / litter).mkdir()
    save(own / "test" / litter / "0.png", noise())
    assert read(own, tmp_path / "raw").classes == ("cat", "dog")


def test_pictures_are_taken_whatever_their_ending_and_the_others_are_counted(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for ending, form in ((".jfif", "JPEG"), (".gif", "GIF"), ("", "PNG"), (".data", "WEBP")):
        save(own / "train" / "cat" / f"5{ending}", noise(seed=1), format=form)
    (own / "train" / "dog" / "6.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (own / "test" / "dog" / "notes.txt").write_text("no image", encoding="utf-8")
    (own / "train" / "cat" / "loop").symlink_to("..")
    assert read(own, tmp_path / "raw").train.labels.tolist() == [0] * 9 + [1] * 5
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "skipped" in line]
    assert line.startswith("folder: 3 files skipped: 1 ")
    for reason in ("1 in HEIC", "1 not images", "1 links to a parent folder"):
        assert reason in line


@pytest.mark.parametrize("name", [b"not-utf-8-\xff", b"\x1b[31mred", b"two\nlines"])
def test_a_class_whose_name_cannot_be_written_is_refused(name: bytes, own: Path) -> None:
    save(own / "train" / os.fsdecode(name) / "0.png", noise())
    with pytest.raises(ValueError, match="is not UTF-8, or has control characters; rename it") as caught:
        Folder(path=str(own))
    assert str(caught.value).isprintable()


def test_without_a_test_part_a_stratified_one_is_drawn_by_its_seed(own: Path, tmp_path: Path) -> None:
    shutil.rmtree(own / "test")
    labels = torch.tensor([0] * 5 + [1] * 5)
    pixels = torch.stack([torch.from_numpy(noise(seed=100 * n + 50 + i)) for n in (0, 1) for i in range(5)])
    found = []
    for seed in range(4):
        train, test, _ = read(own, tmp_path / "raw", test_size=0.4, test_seed=seed)
        kept, held_out = stratified(labels, 0.4, seed)
        assert torch.equal(train.images, pixels[kept])
        assert torch.equal(test.images, pixels[held_out])
        assert test.labels.tolist() == [0, 0, 1, 1]
        found.append(tuple(held_out.tolist()))
    assert len(set(found)) > 1


SQUARE = np.zeros((40, 40), dtype=np.uint8)
SQUARE[:20] = 200  # the upper half


def rgba() -> Pixels:
    """Black ink that covers the upper half; the lower half is transparent, and black where nobody sees it."""
    pixels = np.zeros((40, 40, 4), dtype=np.uint8)
    pixels[:20, :, 3] = 255
    return pixels


@pytest.mark.parametrize(
    ("name", "pixels", "invert", "halves"),
    [
        ("grey.png", SQUARE, False, (200, 0)),
        ("dark_on_light.png", 255 - SQUARE, True, (200, 0)),
        ("deep.png", SQUARE.astype(np.uint16) << 8, False, (200, 0)),
        ("deep.tif", SQUARE.astype(np.int32) << 8, False, (200, 0)),
        ("one_bit.png", SQUARE > 0, False, (255, 0)),
        ("colour.bmp", np.stack([SQUARE] * 3, axis=-1), False, (200, 0)),
        ("UPPER.PPM", np.stack([SQUARE] * 3, axis=-1), False, (200, 0)),
        ("transparent.png", rgba(), True, (255, 0)),
        ("transparent.webp", np.dstack([np.stack([SQUARE] * 3, -1), rgba()[..., 3]]), False, (200, 0)),
    ],
)
def test_every_kind_of_image_becomes_grey_on_a_background_of_0(
    own: Path, tmp_path: Path, name: str, pixels: npt.NDArray[Any], invert: bool, halves: tuple[int, int]
) -> None:
    options = {"lossless": True} if name.endswith("webp") else {}
    save(own / "train" / "cat" / "!" / name, pixels, **options)
    image = read(own, tmp_path / "raw", invert=invert, size=20).train.images[-6]  # the last of cat
    levels = [int(level) for half in (image[:9], image[11:]) for level in half.unique()]
    assert levels == list(halves)


def test_a_palette_and_the_orientation_of_a_camera_are_applied(own: Path, tmp_path: Path) -> None:
    folder = own / "train" / "cat"
    shutil.rmtree(folder)
    folder.mkdir()
    picture = Image.fromarray(SQUARE)
    exif = Image.Exif()
    exif[0x0112] = 3  # taken upside down
    picture.save(folder / "a.png", exif=exif)
    palette = picture.convert("P")
    palette.save(folder / "b.png", transparency=palette.getpixel((0, 0)))
    upside_down, see_through = read(own, tmp_path / "raw", size=20).train.images[:2]
    assert upside_down[:9].unique().tolist() == [0]
    assert upside_down[11:].unique().tolist() == [200]
    assert see_through.unique().tolist() == [0]


def test_making_smaller_averages_over_all_pixels(own: Path, tmp_path: Path) -> None:
    checks = np.indices((112, 112)).sum(axis=0) % 2 * 255
    save(own / "train" / "cat" / "0.png", checks.astype(np.uint8))
    save(own / "train" / "cat" / "1.png", noise(60, 30))
    train = read(own, tmp_path / "raw").train
    assert train.images[0, 1:-1, 1:-1].float().sub(127.5).abs().max() < 3  # taking single pixels would give 0 or 255
    assert train.images[1].shape == (28, 28)


def test_light_paper_is_pointed_out(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in own.rglob("*.png"):
        save(path, 255 - noise() // 4)
    read(own, tmp_path / "raw")
    assert "datasets.folder.invert: true" in capsys.readouterr().out
    read(own, tmp_path / "raw", invert=True)
    assert "datasets.folder.invert" not in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------------------------------
# What is refused


def empty_class(own: Path) -> None:
    (own / "train" / "emu").mkdir()
    (own / "train" / "emu" / "notes.txt").touch()


def class_of_test(own: Path) -> None:
    save(own / "test" / "emu" / "0.png", noise())


def class_of_train(own: Path) -> None:
    save(own / "train" / "emu" / "0.png", noise())


def only_class(own: Path) -> None:
    shutil.rmtree(own / "train" / "dog")


def no_class(own: Path) -> None:
    shutil.rmtree(own / "train")
    (own / "train").mkdir()


def single_image(own: Path) -> None:
    shutil.rmtree(own / "test")
    save(own / "train" / "emu" / "0.png", noise())


def named_pipe(own: Path) -> None:
    os.mkfifo(own / "train" / "dog" / "7.png")


REFUSED: list[tuple[Callable[[Path], object], str]] = [
    (shutil.rmtree, r"path: there is no folder \S+/own; name one laid out as train/<class>/\*\.png"),
    (
        lambda own: (own / "train").rename(own / "training"),
        r"path: there is no folder train in \S+/own; expected train/",
    ),
    (no_class, r"path: \S+/own/train must have at least two folders, one for each class; it has none"),
    (only_class, r"path: \S+/own/train must have at least two folders, one for each class; it has cat"),
    (empty_class, r"path: there is no image in \S+/own/train/emu; add some \(PNG, "),
    (class_of_test, r"path: \S+/own has emu in test but not in train; both need the same classes"),
    (class_of_train, r"path: \S+/own has emu in train but not in test; both need the same classes"),
    (named_pipe, r"path: \S+/own/train/dog/7\.png is a pipe, socket or device, on which DVC would block"),
    (single_image, r"path: \S+/own/train/emu has one image, and without a folder test "),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_a_folder_that_cannot_work_is_refused_before_any_image_is_opened(
    own: Path, change: Callable[[Path], object], message: str
) -> None:
    for path in own.rglob("*.png"):
        path.write_bytes(b"no image")
    change(own)
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        Folder(path=str(own))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": None}, "path: set it to your image folder, laid out as train/<class>"),
        ({"size": 7}, "size: must be 8 to 512 pixels, not 7"),
        ({"size": 513}, "size: must be 8 to 512 pixels, not 513"),
        ({"test_size": 0.0}, "test_size: must be a share above 0 and below 1, not 0.0"),
        ({"test_size": 1.0}, "test_size: must be a share above 0 and below 1, not 1.0"),
        ({"test_seed": -1}, "test_seed: must be 0 to 4294967295, not -1"),
        ({"test_size": 0.1}, r"test_size: 0.1 of 10 images is 1, .* choose a share that gives 2 to 8"),
        ({"test_size": 0.9}, r"test_size: 0.9 of 10 images is 9, .* choose a share that gives 2 to 8"),
    ],
)
def test_a_value_that_cannot_work_is_refused(own: Path, arguments: dict[str, Any], message: str) -> None:
    shutil.rmtree(own / "test")
    with pytest.raises(ValueError, match=f"^{message}"):
        Folder(**{"path": str(own), **arguments})


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncated, "truncated"),
        (lambda path: path.write_bytes(b"no image"), "cannot identify"),
        (lambda path: save(path, noise().astype(np.float32), format="TIFF"), "floating-point"),
        (lambda path: save(path, noise().astype(np.int32) << 16, format="TIFF"), "more than 16 bits"),
    ],
)
def test_an_image_that_cannot_be_read_is_named_and_nothing_is_packed(
    own: Path, tmp_path: Path, damage: Callable[[Path], object], reason: str
) -> None:
    damage(own / "test" / "dog" / "1.png")
    with pytest.raises(ValueError, match=rf"own/test/dog/1\.png cannot be read as an image: .*{reason}"):
        read(own, tmp_path / "raw")
    assert not (tmp_path / "raw" / "images.safetensors").exists()


def test_a_packed_file_that_is_not_there_or_holds_something_else_is_refused(own: Path, tmp_path: Path) -> None:
    from mnistflow.core.tensors import write_tensors

    file = tmp_path / "images.safetensors"
    with pytest.raises(ValueError, match=f"there is no file {file}"):
        Folder(path=str(own)).read(tmp_path)
    write_tensors(file, {"x": torch.zeros(1)}, {"classes": ["a"]})
    with pytest.raises(ValueError, match=f"{file} holds no data set"):
        Folder(path=str(own)).read(tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# Writing


def same_by_class(ours: LabelledImages, names: tuple[str, ...], theirs: LabelledImages, order: tuple[str, ...]) -> None:
    """The images of each class are the same, in the same order."""
    assert len(ours.labels) == len(theirs.labels)
    for label, name in enumerate(names):
        mine = ours.images[ours.labels == label]
        assert len(mine)
        assert torch.equal(mine, theirs.images[theirs.labels == order.index(name)])


def test_mnist_written_and_read_back_is_the_same(mnist_folder: Path, tmp_path: Path) -> None:
    train, test, classes = datasets.build("mnist", {}).read(mnist_folder.parents[1])
    some = Published(
        LabelledImages(train.images[:1500], train.labels[:1500]),
        LabelledImages(test.images[:300], test.labels[:300]),
        classes,
    )
    write_folder(some, tmp_path / "out")
    with Image.open(tmp_path / "out" / "train" / "5" / "0000.png") as first:
        assert first.mode == "L"
        assert np.array_equal(np.array(first), train.images[0].numpy())
    again = read(tmp_path / "out", tmp_path / "raw")
    assert again.classes == classes
    same_by_class(some.train, classes, again.train, again.classes)
    same_by_class(some.test, classes, again.test, again.classes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]


def made(classes: tuple[str, ...]) -> Published:
    """Twelve images of each class to train on and four to test, of another size than 28 x 28."""
    parts = []
    for count, seed in ((12, 0), (4, 1)):
        labels = torch.arange(count * len(classes)) % len(classes)
        pixels = torch.stack([torch.from_numpy(noise(32, 32, seed=1000 * seed + i)) for i in range(len(labels))])
        parts.append(LabelledImages(pixels, labels))
    return Published(parts[0], parts[1], classes)


def test_names_that_no_folder_can_have_come_back_with_a_dash(tmp_path: Path) -> None:
    published = made(("T-shirt/top", "Ankle boot", "ゆ", "Bag"))
    (tmp_path / "out").mkdir()  # empty
    write_folder(published, tmp_path / "out")
    again = read(tmp_path / "out", tmp_path / "raw", size=32)
    assert again.classes == ("Ankle boot", "Bag", "T-shirt-top", "ゆ")
    names = tuple(name.replace("/", "-") for name in published.classes)
    same_by_class(published.train, names, again.train, again.classes)
    same_by_class(published.test, names, again.test, again.classes)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine", encoding="utf-8")
    for place in (tmp_path / "out", tmp_path / "out" / "mine"):
        with pytest.raises(ValueError, match=f"{place} exists and is not an empty folder; choose another"):
            write_folder(made(("a", "b")), place)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine"]


def test_two_classes_do_not_share_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="several classes would be written to the same folder, a-b; rename them"):
        write_folder(made(("a/b", "c", "a-b")), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="name too long"):
        write_folder(made(("a", "b" * 300)), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
