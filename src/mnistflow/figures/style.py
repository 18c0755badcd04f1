"""How every figure looks: its colours on light and on dark paper, and the places that it draws in."""

from __future__ import annotations

import contextlib
import functools
import math
import sys
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from matplotlib import get_data_path, rc_context, rcParams, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, findSystemFonts, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from torch import Tensor

from mnistflow.core.files import atomic_write

__all__ = [
    "PALETTES",
    "Background",
    "Palette",
    "background",
    "contrast",
    "fitted",
    "frame",
    "page",
    "palette",
    "panels",
    "picture",
    "readable",
    "save",
    "set_page_size",
    "shortened",
    "styled",
    "text_width",
    "wrapped",
]

Background = Literal["light", "dark"]


@dataclass(frozen=True)
class Palette:
    """The colours of a paper. Those that mean something are Okabe and Ito's, told apart with any colour vision."""

    paper: str
    ink: str
    grey: str  # of what is said beside
    faint: str  # of grid lines, and of what is there to compare with
    blue: str
    orange: str
    green: str
    others: tuple[str, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """Of lines side by side."""
        return (self.blue, self.orange, self.green, *self.others)

    @property
    def pixels(self) -> LinearSegmentedColormap:
        """Of an image: its background is paper."""
        return LinearSegmentedColormap.from_list("pixels", [self.paper, "black" if self.paper == "white" else "white"])

    @property
    def signed(self) -> LinearSegmentedColormap:
        """Of numbers from below zero, which is paper, to above it."""
        return LinearSegmentedColormap.from_list("signed", [self.blue, self.paper, self.orange])

    @property
    def shares(self) -> LinearSegmentedColormap:
        """Of numbers from zero, which is paper, on."""
        return LinearSegmentedColormap.from_list("shares", [self.paper, self.orange])


PALETTES: dict[Background, Palette] = {
    "light": Palette(
        paper="white",
        ink="black",
        grey="#666666",
        faint="#dddddd",
        blue="#0072B2",
        orange="#D55E00",
        green="#009E73",
        others=("#CC79A7", "#E69F00", "#56B4E9", "#000000", "#888888"),
    ),
    "dark": Palette(
        paper="#16181d",
        ink="#eeeeee",
        grey="#a8a8a8",
        faint="#3d4048",
        blue="#56B4E9",
        orange="#E69F00",
        green="#00B386",  # a little lighter than theirs
        others=("#CC79A7", "#F0E442", "#D55E00", "#ffffff", "#888888"),
    ),
}
# Matplotlib's own settings, whatever a matplotlibrc says; without the backend, which no figure here depends on.
DEFAULTS: dict[Any, Any] = {key: value for key, value in rcParamsDefault.items() if not key.startswith("backend")}
STYLE: dict[Any, Any] = {  # the keys of matplotlib's rcParams
    "text.parse_math": False,  # a class may be called $x$
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
}


def background(name: Background) -> AbstractContextManager[None]:
    """What is drawn within the block is for light or for dark paper; outside of any block it is light."""
    return rc_context({**DEFAULTS, "figure.facecolor": PALETTES[name].paper})


def palette() -> Palette:
    """The colours of the paper that is drawn on."""
    return next(
        (palette for palette in PALETTES.values() if palette.paper == rcParams["figure.facecolor"]), PALETTES["light"]
    )


@contextlib.contextmanager
def styled() -> Iterator[Palette]:
    """Draw in our style within the block, on the paper that was asked for."""
    colours = palette()
    settings: dict[Any, Any] = {
        "figure.facecolor": colours.paper,
        "axes.facecolor": colours.paper,
        "text.color": colours.ink,
        "axes.labelcolor": colours.ink,
        "axes.edgecolor": colours.ink,
    }
    with rc_context({**DEFAULTS, **STYLE, **settings}):
        yield colours


def save(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure as PNG, its size in whole pixels: of one in part the paper would shine through."""
    width, height = (round(side * dpi) / dpi for side in figure.get_size_inches())
    figure.set_size_inches(width, height)
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if families := _families(text.get_text()):
            text.set_fontfamily(["DejaVu Sans", *families])
    with atomic_write(path) as temporary, rc_context({**DEFAULTS, "text.parse_math": False}):
        figure.savefig(temporary, format="png", dpi=dpi, metadata={"Software": None})


def panels(
    rows: int, columns: int, size: tuple[float, float], heights: Sequence[float] | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure of this size in inches, and its axes from the upper left on; rows may be of different heights."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    places = list(figure.subplots(rows, columns, squeeze=False, height_ratios=heights).flat)
    colours = palette()
    for axes in places:  # said here, because ticks come into being later, when the style no longer holds
        axes.tick_params(which="both", colors=colours.ink, grid_color=colours.faint, grid_linewidth=0.6)
    return figure, places


def page() -> tuple[Figure, Axes]:
    """A figure of one axes in inches, from its upper left corner; :func:`cut` gives it its size."""
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    return figure, axes


def set_page_size(figure: Figure, width: float, height: float, margin: float = 0.3) -> None:
    """Give a page its size: what is drawn, and a margin on the left and on the right."""
    figure.set_size_inches(width + 2 * margin, height)
    figure.axes[0].set(xlim=(-margin, width + margin), ylim=(height, 0), aspect="equal")


def picture(
    axes: Axes,
    pixels: Tensor,
    left: float,
    top: float,
    width: float,
    height: float,
    limit: float | None = None,
) -> None:
    """(H, W) pixels in a place of a page: an image, or signed numbers whose colours go from -limit to limit."""
    low, high = (None, None) if limit is None else (-limit or -1, limit or 1)
    cmap = palette().pixels if limit is None else palette().signed
    extent = (left, left + width, top + height, top)
    axes.imshow(pixels.numpy(), cmap=cmap, vmin=low, vmax=high, interpolation="nearest", extent=extent)


def frame(axes: Axes, left: float, top: float, width: float, height: float, colour: str, line: float) -> None:
    """A rectangle around a place of a page."""
    axes.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=colour, linewidth=line))


def readable(colour: str) -> str:
    """Ink or paper, whichever is easier to read on a colour; by the contrast of WCAG 2."""
    colours = palette()
    return max((colours.ink, colours.paper), key=lambda text: contrast(text, colour))


def contrast(one: str, other: str) -> float:
    """How well two colours are told apart by their lightness, as WCAG 2 has it: 1, not at all, to 21."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def fitted(pixels: Tensor, side: float) -> tuple[float, float]:
    """Width and height of (H, W) pixels in a square of this side."""
    height, width = pixels.shape
    return side * width / max(height, width), side * height / max(height, width)


def wrapped(text: str, inches: float) -> str:
    """A caption in as many lines as it needs to be no wider than this, at font size 8."""
    lines = _drawable(text).splitlines()
    limits = [14.5 * inches * len(line) / max(1, text_width(line)) for line in lines]
    return "\n".join(textwrap.fill(line, max(4, math.floor(limit))) for line, limit in zip(lines, limits, strict=True))


def shortened(names: Sequence[str], most: int = 30) -> list[str]:
    """Names of no more than so many characters, as they can be drawn."""
    return [_drawable(name if len(name) <= most else f"{name[: most - 1]}…") for name in names]


def text_width(text: str) -> int:
    """The width of a text in Latin characters: Chinese, Japanese and Korean ones take two."""
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in text)


# ---------------------------------------------------------------------------------------------------------------------
# Fonts: Matplotlib's own DejaVu Sans, and others of this machine for the characters that it lacks


def _drawable(text: str) -> str:
    """The text with each character that no font of this machine has as its escape, so that names stay distinct."""
    missing = {character for character in text if character != "\n" and _family(character) is None}
    return "".join(ascii(character)[1:-1] if character in missing else character for character in text)


def _families(text: str) -> list[str]:
    """The fonts that a text needs besides DejaVu Sans."""
    return sorted({_family(character) or "" for character in text if character != "\n"} - {""})


@functools.cache
def _family(character: str) -> str | None:
    """The font that has a character; empty: DejaVu Sans; None: no font has it, which is reported once for each script.

    Of several fonts a sans-serif one is chosen, by its name; so the choice depends on the installed fonts alone.
    """
    if not character.isprintable():
        return None
    if ord(character) in _characters(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))):
        return ""

    def preference(font: FontEntry) -> tuple[bool, bool, str, str]:
        return "CJK" not in font.name, "Sans" not in font.name, font.name, font.fname

    for font in sorted(_installed(), key=preference):
        if font.style != "normal" or font.weight not in (400, "normal") or font.name.startswith("Last Resort"):
            continue  # the last has a box for every character
        if ord(character) in _characters(font.fname):
            return font.name
    _report_missing(unicodedata.name(character, "an unknown script").split(" ")[0])
    return None


@functools.cache
def _installed() -> list[FontEntry]:
    """Matplotlib's fonts and this machine's, those included that were installed after Matplotlib listed them."""
    listed = {font.fname for font in fontManager.ttflist}
    for path in sorted(set(findSystemFonts()) - listed):
        with contextlib.suppress(OSError, RuntimeError):  # FreeType's error for a damaged file
            fontManager.addfont(path)
    return fontManager.ttflist


@functools.cache
def _characters(font: str) -> frozenset[int]:
    """The code points that a font file has glyphs for; none if it cannot be read."""
    try:
        return frozenset(FT2Font(font).get_charmap())
    except (OSError, RuntimeError):  # FreeType's error for a damaged file
        return frozenset()


@functools.cache
def _report_missing(script: str) -> None:
    east_asian = script in ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "FULLWIDTH", "IDEOGRAPHIC")
    package = "fonts-noto-cjk" if east_asian else "fonts-noto-core"
    print(
        f"figures: warning: no font on this machine has the {script} characters of these names, which are drawn as "
        f"codes; install one and draw again, on Debian: apt-get install {package}",
        file=sys.stderr,
        flush=True,
    )
