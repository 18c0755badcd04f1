"""Draw docs/convolution.png, how a convolution works: ``python docs/draw_convolution.py``."""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "src"))

from mnistflow import figures  # noqa: E402

if __name__ == "__main__":
    figures.save(figures.convolution(), DOCS / "convolution.png", dpi=110)
