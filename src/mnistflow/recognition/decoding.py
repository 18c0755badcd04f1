"""From an image file to shades of grey, the right way up."""

from __future__ import annotations

import io
import threading
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mnistflow.data.pictures import formats

__all__ = ["Unreadable", "decode"]

Floats = NDArray[np.floating[Any]]


_quiet = threading.Lock()  # the filters of warnings are of the whole process


class Unreadable(ValueError):
    """A file that is not an image, is damaged, or is larger than what is allowed."""


def decode(source: Path | bytes, *, max_pixels: int = 40_000_000) -> NDArray[np.uint8]:
    """Decode an image file into shades of grey, turned the way in which it was photographed.

    What is transparent becomes paper: white, or black where the ink is light. Of several frames the first one counts.

    Args:
        source: a file, or its bytes.
        max_pixels: what its header says is held against this before anything is decoded.

    Returns:
        (H, W).

    Raises:
        Unreadable: its format is none of :func:`mnistflow.data.pictures.formats`, it is damaged or too large.
        OSError: the file cannot be opened.
    """
    data = source if isinstance(source, bytes) else source.read_bytes()
    name = "the image" if isinstance(source, bytes) else str(source)
    if not data:
        raise Unreadable(f"{name} is empty (0 bytes)")
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged metadata, and of many pixels, which are counted here
        try:
            with Image.open(io.BytesIO(data), formats=formats()) as file:
                width, height = file.size
                if width * height > max_pixels:
                    raise Unreadable(
                        f"{name} has {width} x {height} pixels, more than the {max_pixels:,} allowed; scale it down"
                    )
                return _grey(file)
        except Unreadable as error:
            raise Unreadable(str(error) if str(error).startswith(name) else f"{name}: {error}") from None
        except UnidentifiedImageError:
            raise Unreadable(f"{name} is not a supported image; save it as one of {', '.join(formats())}") from None
        except Image.DecompressionBombError:
            raise Unreadable(f"{name} has more than the {max_pixels:,} pixels allowed") from None
        except Exception as error:  # a damaged file makes Pillow raise nearly anything
            reason = " ".join(str(error).split()) or type(error).__name__
            raise Unreadable(f"{name} is damaged: {reason[:200]}; save it again, or use another copy") from error


def _grey(file: Image.Image) -> NDArray[np.uint8]:
    """The pixels of an opened file, upright."""
    try:
        orientation = file.getexif().get(0x0112, 1)
    except Exception:  # noqa: BLE001 - metadata may be anything; without it the picture is as it is
        orientation = 1
    if file.mode == "F":
        raise Unreadable("its pixels are floating-point numbers, whose range is unknown; save it with 8 or 16 bits")
    if file.mode.startswith("I"):  # 16 bits, which Pillow would clip at 255
        levels = np.asarray(file)
        if levels.min() < 0 or levels.max() > 65535:
            raise Unreadable("its pixels have more than 16 bits; save it with 8 or 16")
        grey = (levels >> 8).astype(np.uint8)
    elif file.has_transparency_data:
        pixels = np.asarray(file.convert("RGBA"))  # (H, W, 4)
        shade = cv2.cvtColor(pixels, cv2.COLOR_RGBA2GRAY).astype(np.float32)
        alpha = pixels[..., 3].astype(np.float32) / 255
        paper = _paper_below(shade, alpha)
        grey = (shade * alpha + paper * (1 - alpha) + 0.5).astype(np.uint8)
    elif file.mode == "LAB":
        grey = np.asarray(file.getchannel(0))
    else:
        file.draft("L", file.size)  # a JPEG has its shades apart from its colours: these need no decoding
        grey = np.asarray(file.convert("L"))
    return np.ascontiguousarray(_upright(grey, orientation))


def _paper_below(shade: Floats, alpha: Floats) -> float:
    """The shade to put where a picture is transparent."""
    seen = alpha > 0.5
    if seen.mean() > 0.5:  # paper, cut out
        return float(np.median(shade[seen]))
    return 0.0 if seen.any() and np.median(shade[seen]) > 127 else 255.0


def _upright(grey: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo what EXIF says of how the camera was held: 1 to 8, others as 1."""
    if orientation in (5, 6, 7, 8):
        grey = grey.T
    if orientation in (2, 3, 6, 7):
        grey = grey[:, ::-1]
    if orientation in (3, 4, 7, 8):
        grey = grey[::-1]
    return grey
