"""What things cost, side by side: ``python -m benchmarks.loop`` and the like, from the project's folder."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
