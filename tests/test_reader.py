"""Pictures of handwriting become images in the form of MNIST, whatever they were photographed with."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Network
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from strokes import Drawing, drawings, rendered

from mnistflow.recognition import handwriting
from mnistflow.recognition.decoding import Unreadable, decode
from mnistflow.recognition.reader import Box, likeliest, read, resized, views

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def mnist_test(mnist_folder: Path) -> tuple[Pixels, NDArray[np.int64]]:
    return handwriting.mnist_test(mnist_folder.parents[1])


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def seven(height: int = 120, width: int = 90, paper: int = 235, ink: int = 30) -> Pixels:
    """A seven in straight strokes."""
    picture = np.full((height, width), paper, np.uint8)
    thick = max(2, height // 15)
    top, lower, left, right = height // 5, height * 4 // 5, width // 4, width * 3 // 4
    picture[top : top + thick, left:right] = ink
    for row in range(top, lower):
        at = right - thick - (right - left) * (row - top) // (2 * (lower - top))
        picture[row, at : at + thick] = ink
    return picture


def difference(one: Pixels, other: Pixels) -> float:
    """The mean over the pixels; a centre of mass between two pixels may have gone to either."""
    moved = [np.roll(one, (down, across), (0, 1)) for down in (-1, 0, 1) for across in (-1, 0, 1)]
    return min(float(np.abs(image.astype(int) - other).mean()) for image in moved)


# ---------------------------------------------------------------------------------------------------------------------
# Files


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "GIF", "PPM", "JPEG", "WEBP"])
def test_each_format_gives_the_same_shades(form: str, tmp_path: Path) -> None:
    picture = seven()
    (tmp_path / "file").write_bytes(encoded(Image.fromarray(picture), form))
    found = decode(tmp_path / "file")
    assert found.shape == picture.shape
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - picture).mean() < (4 if form in ("JPEG", "WEBP") else 0.5)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "LAB", "I;16", "I"])
def test_each_mode_gives_the_same_shades(mode: str) -> None:
    picture = seven(paper=255, ink=0)
    if mode.startswith("I"):
        levels = picture.astype(np.uint16) * 257
        image = Image.fromarray(levels if mode == "I;16" else levels.astype(np.int32))
    elif mode == "LAB":
        zero = Image.new("L", (90, 120))
        image = Image.merge("LAB", [Image.fromarray(picture), zero, zero])
    else:
        image = Image.fromarray(picture).convert(mode)
    assert image.mode == mode
    form = "PNG" if mode in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16") else "TIFF"
    assert np.abs(decode(encoded(image, form)).astype(int) - picture).max() <= 1


@pytest.mark.parametrize(("ink", "paper"), [(0, 255), (255, 0)])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_paper(mode: str, ink: int, paper: int) -> None:
    mask = seven(paper=0, ink=255)
    if mode == "P":
        image = Image.fromarray(mask // 255).convert("P")
        image.putpalette([ink, 128, 128, ink, ink, ink])
        file = encoded(image, transparency=0)
    else:
        image = Image.new("LA", (90, 120), (ink, 0))
        image.putalpha(Image.fromarray(mask))
        file = encoded(image.convert(mode))
    assert np.array_equal(decode(file), np.where(mask > 0, np.uint8(ink), np.uint8(paper)))


def test_around_paper_that_is_cut_out_is_paper() -> None:
    alpha = np.zeros((120, 90), np.uint8)
    alpha[5:-5, 5:-5] = 255
    image = Image.fromarray(seven(paper=200)).convert("LA")
    image.putalpha(Image.fromarray(alpha))
    assert decode(encoded(image))[0, 0] == 200


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_the_way_it_was_photographed(orientation: int) -> None:
    upright = Image.fromarray(seven())
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(decode(encoded(stored, exif=exif)), seven())


def test_of_several_frames_the_first_counts() -> None:
    frames = [Image.fromarray(seven(ink=ink)) for ink in (30, 200)]
    assert np.array_equal(decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])), seven(ink=30))


def huge_png(width: int, height: int) -> bytes:
    """A PNG file of a few bytes that says to have so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [7000, 9500, 20_000, 60_000, 2**31 - 1])
def test_too_many_pixels_are_refused_before_they_are_decoded(side: int) -> None:
    with pytest.raises(Unreadable, match="more than the 40,000,000"):
        decode(huge_png(side, side))


def test_the_limit_is_the_callers() -> None:
    file = encoded(Image.fromarray(seven()))
    with pytest.raises(Unreadable, match=r"has 90 x 120 pixels, more than the 10,799 allowed; scale it down"):
        decode(file, max_pixels=90 * 120 - 1)
    assert decode(file, max_pixels=90 * 120).shape == (120, 90)
    assert Image.MAX_IMAGE_PIXELS == 89_478_485, "Pillow's own limit stays what it was"


BAD = {
    "empty": (b"", "is empty"),
    "text": (b"hello, this is not an image", "is not a supported image"),
    "pdf": (b"%PDF-1.4\n", "is not a supported image"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a supported image"),
    "truncated png": (encoded(Image.fromarray(seven()))[:150], "is damaged"),
    "truncated jpeg": (encoded(Image.fromarray(seven()), "JPEG")[:700], "is damaged"),
    "header alone": (encoded(Image.fromarray(seven()))[:33], "is not a supported image"),
    "floats": (encoded(Image.fromarray(seven().astype(np.float32)), "TIFF"), "floating-point"),
}


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD)
def test_a_bad_file_is_refused_in_one_line(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    with pytest.raises(Unreadable, match=message) as error:
        decode(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="picture"):
        decode(tmp_path / "picture.png")


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_damaged_file_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]))
    file = bytearray(encoded(Image.fromarray(seven(40, 30)), form))
    for _ in range(data.draw(st.integers(1, 8))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            grey = decode(bytes(file[: data.draw(st.integers(1, len(file)))]), max_pixels=100_000)
        except Unreadable as error:
            assert "\n" not in str(error)
        else:
            assert grey.dtype == np.uint8
            read(grey)


# ---------------------------------------------------------------------------------------------------------------------
# Pictures


def test_images_of_mnist_pass_nearly_as_they_are(
    mnist_test: tuple[Pixels, NDArray[np.int64]], reads_digits: Network
) -> None:
    images, labels = mnist_test
    through = np.stack([read(image, several=False).digits[0].image for image in images])
    assert (np.abs(through.astype(int) - images).max(axis=(1, 2)) <= 8).mean() > 0.95
    plain = (reads_digits(images).argmax(axis=1) == labels).mean()
    assert plain > 0.97
    assert (reads_digits(through).argmax(axis=1) == labels).mean() >= plain - 0.001


def test_ink_may_be_dark_or_light(mnist_test: tuple[Pixels, NDArray[np.int64]]) -> None:
    for image in mnist_test[0][:300]:
        assert np.array_equal(read(image).digits[0].image, read(255 - image).digits[0].image)


def test_the_form_is_that_of_mnist(mnist_test: tuple[Pixels, NDArray[np.int64]]) -> None:
    pictures = [*handwriting.uci_like(mnist_test[0][:40]), *map(handwriting.photograph, mnist_test[0][:40])]
    for picture in pictures:
        image = read(picture, several=False).digits[0].image
        rows, columns = (np.flatnonzero(image.any(axis=axis)) for axis in (1, 0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20)
        assert image.max() >= 250
        for axis in (0, 1):
            mass = image.sum(axis=axis, dtype=float)
            if mass[0] or mass[-1]:
                continue  # further out it would not fit
            assert abs((mass * np.arange(28)).sum() / mass.sum() - 14) <= 0.51


@pytest.mark.parametrize("size", [20, 28, 32, 64])
def test_images_come_in_the_size_that_is_asked_for(size: int) -> None:
    (digit,) = read(seven(), size=size).digits
    assert digit.image.shape == (size, size)
    assert np.ptp(np.flatnonzero(digit.image.any(axis=1))) + 1 == round(size * 20 / 28)


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(60, 400),
    left=st.integers(0, 200),
    top=st.integers(0, 200),
    shades=st.sampled_from([(235, 30), (20, 240), (180, 90), (70, 140)]),
)
def test_place_size_and_shade_make_no_difference(height: int, left: int, top: int, shades: tuple[int, int]) -> None:
    paper, ink = shades
    written = seven(height, height * 3 // 4, paper, ink)
    picture = np.full((height + 200, written.shape[1] + 200), paper, np.uint8)
    picture[top : top + height, left : left + written.shape[1]] = written
    (digit,) = read(picture).digits
    expected = read(seven(400, 300)).digits[0].image
    assert difference(digit.image, expected) < 9
    rows, columns = (np.flatnonzero((picture == ink).any(axis=axis)) for axis in (1, 0))
    box = digit.box
    assert max(abs(box.top - rows[0]), abs(box.top + box.height - 1 - rows[-1])) <= 2
    assert max(abs(box.left - columns[0]), abs(box.left + box.width - 1 - columns[-1])) <= 2


def test_shadow_noise_and_lines_make_no_difference() -> None:
    chance = np.random.default_rng(0)
    plain = read(seven(300, 240)).digits[0].image
    for harder in range(3):
        picture = seven(300, 240).astype(float)
        if harder == 0:  # light that falls off, and a hard shadow
            picture *= np.linspace(1, 0.6, 240)
            picture[180:] *= 0.6
        elif harder == 1:
            picture += chance.normal(0, 12, picture.shape)
            picture[[10, 40, 250], [10, 200, 30]] = 0
        else:  # as dark as the ink
            for row in range(15, 300, 40):
                picture[row : row + 2] = np.minimum(picture[row : row + 2], 50)
        reading = read(np.clip(picture, 0, 255).astype(np.uint8))
        assert len(reading.digits) == 1, harder
        assert difference(reading.digits[0].image, plain) < 12, harder


@pytest.mark.parametrize("light", [True, False])
def test_a_postcode_is_read_from_left_to_right(
    light: bool, mnist_test: tuple[Pixels, NDArray[np.int64]], reads_digits: Network
) -> None:
    images, labels = mnist_test
    right = []
    for start in range(0, 100, 5):
        picture = np.zeros((120, 420), np.uint8)
        for place in range(5):
            enlarged = Image.fromarray(images[start + place]).resize((70, 70), Image.Resampling.BICUBIC)
            picture[25:95, 20 + 78 * place : 90 + 78 * place] = np.asarray(enlarged)
        reading = read((230 - 0.8 * picture).astype(np.uint8) if light else picture)
        boxes = [digit.box for digit in reading.digits]
        assert [box.left for box in boxes] == sorted(box.left for box in boxes)
        if len(boxes) == 5:
            assert all(abs(box.left + box.width / 2 - 55 - 78 * i) < 20 for i, box in enumerate(boxes))
            found = reads_digits(np.stack([digit.image for digit in reading.digits])).argmax(axis=1)
            right.append((found == labels[start : start + 5]).mean())
        else:
            right.append(0.0)
    assert np.mean(right) > 0.9


@pytest.mark.parametrize("light", [True, False])
def test_straight_strokes_that_fill_a_strip_are_no_printed_lines(
    light: bool, mnist_test: tuple[Pixels, NDArray[np.int64]]
) -> None:
    """The first four test digits, 7210, as high as the strip lets them be: the one is nearly three quarters of it."""
    strip = np.kron(np.concatenate(list(mnist_test[0][:4]), axis=1), np.ones((4, 4), np.uint8))
    found = read(255 - strip if light else strip).digits
    assert len(found) == 4
    for digit, image in zip(found, mnist_test[0], strict=False):
        assert difference(digit.image, image) < 20


def test_a_stroke_is_not_taken_for_a_printed_line(reads_digits: Network) -> None:
    """Each shape of each digit, drawn large with a thin pen, on light and on dark paper, nearly up to the edges."""
    right = {"alone": 0, "with a network": 0}
    for number, drawing in enumerate(drawings(8, seed=3)):
        grey = rendered(drawing, 150 + 2 * number, 0.03, light=number // 40 == 0, margin=0.02)
        for way, network in (("alone", None), ("with a network", reads_digits)):
            digits = read(grey, probabilities=network).digits
            found = reads_digits(np.stack([digit.image for digit in digits])).argmax(axis=1).tolist()
            right[way] += found == [drawing.digit]
    assert right["with a network"] >= 76, right
    assert right["with a network"] > right["alone"]


def test_wide_digits_are_not_cut(reads_digits: Network) -> None:
    """Each shape of a two, a three, a five and a zero, 1.6 to 2.4 times as wide as it was drawn."""
    wide = [drawing for drawing in drawings(4, seed=1) if drawing.digit in (0, 2, 3, 5)]
    counts = {"alone": 0, "with a network": 0}
    for number, drawing in enumerate(wide):
        stretched = [stroke * [1.6 + 0.8 * number / len(wide), 1] for stroke in drawing.strokes]
        grey = rendered(Drawing(drawing.digit, stretched), 280, 0.05, light=True, margin=0.1)
        counts["alone"] += len(read(grey).digits) == 1
        counts["with a network"] += len(read(grey, probabilities=reads_digits).digits) == 1
    assert counts["with a network"] >= 15, counts
    assert counts["with a network"] > counts["alone"]


@pytest.mark.parametrize("side", [28, 100])
def test_bold_digits_that_fill_a_picture_are_read(
    side: int, mnist_test: tuple[Pixels, NDArray[np.int64]], reads_digits: Network
) -> None:
    """No margin is left, and half of the picture or more is ink; a one would leave no paper at all."""
    chosen = [number for number in range(150) if mnist_test[1][number] != 1][:100]
    right, covered = 0, []
    for number in chosen:
        thick = cv2.dilate((handwriting.outlined(mnist_test[0][number], 8) > 0.4).astype(np.uint8), np.ones((13, 13)))
        left, top, width, height = cv2.boundingRect(thick)
        crop = np.where(thick[top : top + height, left : left + width], np.uint8(255), np.uint8(0))
        bold = np.asarray(cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA), dtype=np.uint8)
        covered.append((bold > 127).mean())
        digits = read(bold if number % 2 else 255 - bold, probabilities=reads_digits).digits
        found = reads_digits(np.stack([digit.image for digit in digits])).argmax(axis=1).tolist() if digits else []
        right += found == [mnist_test[1][number]]
    assert np.mean(covered) > 0.5
    assert right >= 70


def test_the_view_and_the_cuts_are_those_that_a_network_is_surest_of() -> None:
    wide = rendered(next(drawings(1, seed=0)), 60, 0.1, light=True, margin=0.1)
    found = views(np.hstack([wide, np.repeat(wide, 3, axis=1)]))  # a zero, and one that is three times as wide
    (view,) = found
    assert [sum(candidate.usual for candidate in part) for part in view.parts] == [1, 2]
    assert len(likeliest(found).digits) == 3, "without a network the shape counts"

    def sure_of(least: int) -> Callable[[Pixels], NDArray[np.float32]]:
        """Of images with at least so many pixels of ink."""
        return lambda images: np.where((images > 0).sum(axis=(1, 2))[:, None] >= least, [0.9, 0.1], [0.6, 0.4])

    chosen = likeliest(found, sure_of(0))
    assert len(chosen.digits) == 2, "0.9 is more than 0.9 times 0.9"
    assert [(name, round(probability, 6)) for name, probability in chosen.considered] == [
        ("ink on light paper, specks gone: 2 digits", 0.81)
    ]
    bar = np.full((60, 40), 255, np.uint8)
    bar[10:50, 18:24] = 0
    plain = likeliest(views(bar), sure_of(0))  # where there is nothing to choose, no network is asked
    assert (len(plain.digits), plain.considered) == (1, ())
    assert likeliest(views(np.full((40, 40), 255, np.uint8)), sure_of(0)).digits == ()


def test_parts_of_one_digit_stay_together_and_digits_that_touch_are_parted() -> None:
    picture = np.full((100, 80), 255, np.uint8)
    picture[20:26, 34:60] = 0  # the bar of a five, apart from the rest
    picture[30:50, 30:36] = 0
    picture[46:52, 30:54] = 0
    picture[46:80, 50:56] = 0
    picture[76:82, 28:56] = 0
    assert len(read(picture).digits) == 1
    two = np.full((100, 240), 255, np.uint8)
    for left in (20, 120):  # two rings that touch
        down, across = np.mgrid[:100, :240]
        distance = np.hypot(down - 50, (across - left - 50))
        two[(distance < 51) & (distance > 42) & (down > 4) & (down < 96)] = 0
    assert len(read(two).digits) == 2
    assert len(read(two, several=False).digits) == 1


def boxes_of(picture: Pixels) -> list[Box]:
    """Of all that may be a digit, in any view of a picture."""
    return [candidate.digit.box for view in views(picture) for part in view.parts for candidate in part]


@pytest.mark.parametrize("slant", [0.0, 0.4])
def test_a_cut_slants_with_the_writing(slant: float) -> None:
    """Two bars that slant and are joined by a line: each of them can be read alone, whole."""
    down, across = np.mgrid[:100, :200]
    ink = (np.abs(down - 50) < 3) & (across > 50) & (across < 140)
    for left in (50, 140):
        ink |= (np.abs(across + slant * (down - 50) - left) < 6) & (down > 4) & (down < 96)
    boxes = boxes_of(np.where(ink, np.uint8(0), np.uint8(255)))
    for left in (50, 140):
        whole = [box for box in boxes if box.height > 88 and abs(box.left + box.width / 2 - left) < 30 + 25 * slant]
        assert min(box.width for box in whole) < 12 + 91 * slant + 60


def test_of_what_reaches_over_its_neighbour_both_can_be_read() -> None:
    """A bar that leans over a ring without touching it: they are of one part, and cut again."""
    picture = np.full((100, 120), 255, np.uint8)
    cv2.circle(picture, (40, 65), 26, 0, 6)
    cv2.line(picture, (108, 5), (72, 95), 0, 6)
    boxes = boxes_of(picture)
    assert any(abs(box.left - 11) < 3 and abs(box.width - 58) < 5 for box in boxes), "the ring"
    assert any(abs(box.left + box.width - 111) < 4 and box.height > 88 and box.width < 60 for box in boxes), "the bar"


def in_boxes(images: Pixels, *, joined: bool) -> Pixels:
    """Digits in printed boxes of 90 x 100 pixels, side by side; apart, or with common walls."""
    apart = 0 if joined else 8
    page = np.full((140, 20 + len(images) * (90 + apart) + 20), 245, np.uint8)
    for place, image in enumerate(images):
        left = 20 + place * (90 + apart)
        cv2.rectangle(page, (left, 20), (left + 90, 120), 90, 2)
        digit = np.asarray(Image.fromarray(image).resize((84, 84), Image.Resampling.BICUBIC))
        inner = page[28:112, left + 3 : left + 87]
        np.minimum(inner, (245 - 0.9 * digit.astype(float)).astype(np.uint8), out=inner)
    return page


@pytest.mark.parametrize("joined", [False, True])
def test_printed_boxes_around_digits_are_taken_away(
    joined: bool, mnist_test: tuple[Pixels, NDArray[np.int64]], reads_digits: Network
) -> None:
    images, labels = mnist_test
    right = 0
    for start in range(0, 100, 5):
        digits = read(in_boxes(images[start : start + 5], joined=joined), probabilities=reads_digits).digits
        found = reads_digits(np.stack([digit.image for digit in digits])).argmax(axis=1).tolist()
        right += found == labels[start : start + 5].tolist()
    assert right >= 17, right


def test_empty_boxes_of_a_form_are_no_digits() -> None:
    page = np.full((140, 420), 245, np.uint8)
    for place in range(4):
        cv2.rectangle(page, (20 + 100 * place, 20), (100 + 100 * place, 120), 60, 2)
    assert read(page).digits == ()
    assert len(read(page[:, :110]).digits) == 1, "one alone may be a zero"


def test_a_ring_around_something_is_no_printed_box() -> None:
    """A zero with a dot in it, and one with a stroke."""
    for inner in ((50, 50), (50, 62)):
        picture = np.full((100, 100), 255, np.uint8)
        cv2.ellipse(picture, (50, 50), (28, 42), 0, 0, 360, 0, 5)
        cv2.line(picture, (50, 38), inner, 0, 5)
        (digit,) = read(picture, several=False).digits
        assert digit.box.height > 80


def test_dashes_between_digits_are_pieces_of_their_own(
    mnist_test: tuple[Pixels, NDArray[np.int64]], reads_digits: Network
) -> None:
    images, labels = mnist_test
    pages = 0
    for start in range(0, 80, 4):
        page = np.full((120, 480), 245, np.uint8)
        for place, image in enumerate(images[start : start + 4]):
            digit = np.asarray(Image.fromarray(image).resize((84, 84), Image.Resampling.BICUBIC))
            left = 20 + 115 * place
            part = page[18:102, left : left + 84]
            np.minimum(part, (245 - 0.9 * digit.astype(float)).astype(np.uint8), out=part)
            if place < 3:
                cv2.line(page, (left + 88, 60), (left + 106, 60), 20, 6)
        found = read(page, probabilities=reads_digits).digits
        tall = [digit.image for digit in found if digit.box.height > 30]
        pages += reads_digits(np.stack(tall)).argmax(axis=1).tolist() == labels[start : start + 4].tolist()
    assert pages >= 16, pages


def test_lines_of_writing_are_read_one_after_the_other() -> None:
    one = seven(100, 75)
    reading = read(np.vstack([np.hstack([one, one]), np.hstack([one, one])]))
    places = [(digit.box.top > 100, digit.box.left > 75) for digit in reading.digits]
    assert places == [(False, False), (False, True), (True, False), (True, True)]


EMPTY = {
    "white": np.full((200, 300), 255, np.uint8),
    "black": np.zeros((28, 28), np.uint8),
    "black, large": np.zeros((200, 300), np.uint8),
    "nearly black": np.full((100, 100), 10, np.uint8),
    "one pixel": np.zeros((1, 1), np.uint8),
    "tiny": np.full((8, 8), 200, np.uint8),
    "gradient": np.tile(np.linspace(140, 240, 300).astype(np.uint8), (200, 1)),
    "paper": (225 + np.random.default_rng(0).normal(0, 5, (300, 200))).astype(np.uint8),
    "noise": np.random.default_rng(0).integers(0, 256, (200, 200)).astype(np.uint8),
    "noise, small": np.random.default_rng(1).integers(0, 256, (28, 28)).astype(np.uint8),
}


@pytest.mark.parametrize("picture", EMPTY.values(), ids=EMPTY)
def test_where_nothing_is_written_nothing_is_found(picture: Pixels) -> None:
    reading = read(picture)
    assert reading.digits == ()
    assert reading.steps


@settings(deadline=None, max_examples=100)
@given(
    shape=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    seed=st.integers(0, 2**32 - 1),
    kind=st.integers(0, 3),
    several=st.booleans(),
)
def test_any_pixels_are_read(shape: tuple[int, int], seed: int, kind: int, several: bool) -> None:
    chance = np.random.default_rng(seed)
    picture = chance.integers(0, 256, shape).astype(np.uint8)
    if kind == 1:
        picture = np.where(picture > 250, np.uint8(255), np.uint8(0))
    elif kind == 2:
        picture = np.asarray(Image.fromarray(picture).resize(shape[::-1], Image.Resampling.BILINEAR, reducing_gap=None))
        picture = np.sort(picture, axis=0)
    elif kind == 3:
        picture = np.repeat(picture[:1], shape[0], axis=0)
    for digit in read(picture, several=several).digits:
        assert digit.image.shape == (28, 28)
        box = digit.box
        assert 0 <= box.left < box.left + box.width <= shape[1]
        assert 0 <= box.top < box.top + box.height <= shape[0]


def test_each_step_can_be_seen() -> None:
    reading = read(seven())
    names = [name for name, _ in reading.steps]
    assert names == ["grey", "ink on light paper", "ink, specks gone", "cropped to the ink", "28 x 28, centred by mass"]
    assert all(pixels.dtype == np.uint8 and pixels.ndim == 2 for _, pixels in reading.steps)
    assert reading.steps[-1][1] is reading.digits[0].image


def test_a_whole_picture_is_resized() -> None:
    digit = resized(seven(280, 280), size=28)
    assert digit.image.shape == (28, 28)
    assert digit.box == Box(0, 0, 280, 280)
    assert np.median(digit.image) == 20
    small = (np.arange(28 * 28).reshape(28, 28) % 40).astype(np.uint8)
    small[10:14, 10:14] = 255
    assert np.array_equal(resized(small, size=28).image, small)
