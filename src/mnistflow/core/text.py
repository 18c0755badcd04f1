"""Escaping of user-supplied text (file, class and run names) for terminals, spreadsheets and Markdown."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["for_markdown", "for_spreadsheet", "for_terminal", "from_spreadsheet"]

# Characters that change the direction of what follows them; a terminal would show the rest of the line reversed.
DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
FORMULA = "=+-@\t\r"  # a spreadsheet takes a cell that begins with one of these for a formula
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)", re.ASCII | re.IGNORECASE)


def for_terminal(text: str) -> str:
    """The text with control characters, lone surrogates and changes of direction as escapes."""
    return "".join(
        ascii(character)[1:-1]
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in DIRECTIONS
        else character
        for character in text
    )


def for_spreadsheet(text: str) -> str:
    """A cell of a table, with an apostrophe before what a spreadsheet would take for a formula; numbers stay.

    See CSV injection in the OWASP documentation. :func:`from_spreadsheet` takes the apostrophe away again.
    """
    formula = text.lstrip("'")[:1] in FORMULA and text.lstrip("'") and not NUMBER.fullmatch(text)
    return f"'{text}" if formula else text


def from_spreadsheet(cell: str) -> str:
    """The text that :func:`for_spreadsheet` made a cell of."""
    rest = cell.lstrip("'")
    return cell[1:] if cell.startswith("'") and rest and rest[0] in FORMULA else cell


def for_markdown(text: str) -> str:
    """The text as a Markdown document shows it unchanged: no emphasis, link, HTML or line break."""
    plain = for_terminal(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~$^])", r"\\\1", plain)
