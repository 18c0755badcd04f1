"""Which files below a folder are pictures: one answer for data sets, `mnistflow predict` and the server."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG

__all__ = ["ENDINGS", "Listing", "formats", "is_litter", "listed", "summary"]

# A file with one of these endings is meant to be a picture: one that cannot be read is an error. Other files are taken
# if they begin as a picture does.
ENDINGS = frozenset(
    ".png .jpg .jpeg .jpe .jfif .webp .gif .bmp .dib .tif .tiff .pbm .pgm .ppm .pnm .mpo .avif".split()  # noqa: SIM905
)
# What systems and programs leave in folders, in lower case; hidden files and folders as well.
LITTER = frozenset({"@eadir", "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "lost+found"})
SPECIAL = "pipes, sockets or devices"
# What can be read begins like this: the offset, the bytes there.
BEGINNINGS = (
    (0, b"\x89PNG\r\n\x1a\n"), (0, b"\xff\xd8\xff"), (8, b"WEBP"), (0, b"GIF87a"), (0, b"GIF89a"), (0, b"BM"),
    (0, b"II*\0"), (0, b"MM\0*"), *((0, b"P%d%c" % (kind, space)) for kind in range(1, 7) for space in b" \n\r\t#"),
)  # fmt: skip
# Pictures that cannot be read here.
OTHERS = (
    (4, b"ftyphei", "HEIC"), (4, b"ftyphev", "HEIC"), (4, b"ftypmif1", "HEIC"), (4, b"ftypmsf1", "HEIC"),
    (4, b"ftypavi", "AVIF"), (0, b"%PDF", "PDF"), (0, b"8BPS", "PSD"), (0, b"<svg", "SVG"),
    (0, b"\xff\x0a", "JPEG XL"), (4, b"JXL ", "JPEG XL"), (4, b"jP  ", "JPEG 2000"), (0, b"\0\0\1\0", "ICO"),
)  # fmt: skip


@dataclass
class Listing:
    """What is below a folder."""

    files: list[Path] = field(default_factory=list)  # the pictures
    left_out: Counter[str] = field(default_factory=Counter)  # how many other files there are, by the reason
    special: list[Path] = field(default_factory=list)  # those of them that are pipes, sockets or devices


@functools.cache
def formats() -> tuple[str, ...]:
    """The formats that are read, as Pillow calls them: those that its own decoders and safe libraries read."""
    from PIL import features

    avif = "avif" in features.modules and features.check_module("avif")
    return ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", *(["AVIF"] if avif else []))  # MPO opens as JPEG


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or was left by a system and not by a person."""
    return name.startswith(".") or name.lower() in LITTER


def listed(folder: Path) -> Listing:
    """The pictures below a folder, in the order of their folders' paths, then of their names; none is decoded.

    Hidden files and litter do not count. A link is followed, but not to a folder above it or one that is listed
    already, so that it always ends. What is not a plain file (a named pipe, a socket, a device) is never opened.

    Raises:
        OSError: a folder cannot be read.
    """
    listing = Listing()
    seen = {_identity(parent) for parent in folder.resolve().parents}
    for place in sorted(_folders(folder, seen, listing)):
        for path in sorted(Path(place).iterdir()):
            if is_litter(path.name) or path.is_dir():
                continue
            if reason := _unreadable(path):
                listing.left_out[reason] += 1
                if reason == SPECIAL:
                    listing.special.append(path)
            else:
                listing.files.append(path)
    return listing


def summary(left_out: Counter[str]) -> str:
    """How many files were left out and why, as one line."""
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common())
    return f"{left_out.total():,} files skipped: {reasons}"


def _folders(folder: Path, seen: set[tuple[int, int]], listing: Listing) -> Iterator[str]:
    """This folder and those below it that are not litter, each once."""
    identity = _identity(folder)
    if identity in seen:
        listing.left_out["links to a parent folder or to one listed already"] += 1
        return
    seen.add(identity)
    yield str(folder)
    for path in sorted(folder.iterdir()):
        if not is_litter(path.name) and path.is_dir():
            yield from _folders(path, seen, listing)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _unreadable(path: Path) -> str | None:
    """Why a file is not a picture to read, as a plural; None if it is one."""
    try:
        if not S_ISREG(path.stat().st_mode):
            return SPECIAL
    except OSError:
        return "links that lead nowhere"
    if path.suffix.lower() in ENDINGS:
        return None
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError:
        return "files that cannot be opened"
    kind = next((name for offset, magic, name in OTHERS if start[offset:].startswith(magic)), None)
    if kind == "AVIF" and "AVIF" in formats():
        return None
    if kind is not None:
        return f"in {kind}, which is not supported (save them as PNG or JPEG)"
    return None if any(start[offset:].startswith(magic) for offset, magic in BEGINNINGS) else "not images"
