"""How a stage script starts and ends."""

from __future__ import annotations

import argparse
import gc
import inspect
import sys
from collections.abc import Callable
from pathlib import Path

from mnistflow.params import ParamsError

__all__ = ["run"]


def run(main: Callable[[], None]) -> None:
    """Run a stage's ``main``.

    What the user can mend (a mistake in params.yaml, a damaged file, a missing device, a full disk, a diverged
    training) ends as one message on standard error with exit status 1; an interruption with 130. Anything else is a
    defect of ours and keeps its traceback.
    """
    gc.freeze()  # what is imported stays; to look through it for garbage would take a tenth of a small stage's time
    script = Path(inspect.getfile(main))
    argparse.ArgumentParser(
        prog=f"python stages/{script.name}",
        description=inspect.getdoc(inspect.getmodule(main)),
        epilog="Takes no arguments: reads params.yaml and dvc.yaml in the current folder. `dvc repro` runs all stages.",
    ).parse_args()
    try:
        main()
    except ParamsError as error:
        # `dvc exp run -S` may change the file in the second in which DVC wrote git's index; if its size stays the same,
        # git takes it for unchanged and the checkout below would do nothing.
        Path("params.yaml").touch()
        problems = "\n".join(f"  {problem}" for problem in error.problems)
        sys.exit(
            f"{script.stem}: params.yaml cannot be run:\n{problems}\n"
            "Mend it there, or go back to the committed one (it loses what you changed in it since): "
            "git checkout params.yaml"
        )
    except (ValueError, ArithmeticError, OSError) as error:
        sys.exit(f"{script.stem}: {error}")
    except KeyboardInterrupt:
        print(f"\n{script.stem}: interrupted; nothing half written is left", file=sys.stderr)
        sys.exit(130)
