"""Types of arguments, for argparse."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

__all__ = ["count", "host_name", "model", "port", "root_path"]


def host_name(text: str) -> str:
    """A host, ``name`` or ``name:port``, for argparse."""
    if not re.fullmatch(r"[\w.-]+(:\d+)?|\[[0-9a-fA-F:.]+\](:\d+)?", text):
        raise argparse.ArgumentTypeError(f"must be a host name such as example.org or example.org:8080, not {text!r}")
    return text


def root_path(text: str) -> str:
    """A path prefix, for argparse: without the slash at its end."""
    if not re.fullmatch(r"(/[\w.~%-]+)*/?", text):
        raise argparse.ArgumentTypeError(f"must be a path such as /proxy/8000, not {text!r}")
    return text.rstrip("/")


def port(text: str) -> int:
    """A port, for argparse."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 65535, not {text!r}")
    return int(text)


def model(text: str) -> str | Path:
    """A model, for argparse: a file, or the name of a run or of a version."""
    return Path(text) if text.endswith((".safetensors", ".onnx")) else text


def count(text: str) -> int:
    """A number above 0, for argparse."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, not {text!r}")
    return int(text)
