"""How every stage starts and ends. A stage script imports this before anything that takes long to import."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # the library of this checkout

from mnistflow.pipeline.stage import begin, run, start_fork_server

__all__ = ["run"]

begin()
if Path(sys.argv[0]).name == "check.py":  # the first stage, which imports little
    start_fork_server()
