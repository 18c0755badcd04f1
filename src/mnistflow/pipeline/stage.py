"""How stage scripts and commands start and end: signals, error messages, exit status."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from mnistflow.pipeline import fork_server

__all__ = ["STUDY", "Interrupted", "Stop", "begin", "run", "start_fork_server", "stoppable"]

STUDY = "MNISTFLOW_STUDY"  # in the environment of an experiment: the process of its study
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal that asks to end; says what is left, and what to do."""

    def __init__(self, number: int, message: str = "no partial files are left") -> None:
        self.number = number
        super().__init__(message)


class Stop:
    """Whether a signal has asked to end."""

    def __init__(self) -> None:
        self.number: int | None = None

    @property
    def is_asked(self) -> bool:
        """Whether it has."""
        return self.number is not None

    def now(self, message: str) -> None:
        """End here, if that was asked.

        Args:
            message: what is left, and what to do.

        Raises:
            Interrupted: it was.
        """
        if self.number is not None:
            raise Interrupted(self.number, message)


def begin(name: str | None = None) -> None:
    """Prepare this process; called before anything that takes long to import.

    From here on, Ctrl-C and SIGTERM end the process with one line and status 130 or 143; :func:`run` installs its own
    handlers. Printing never fails: characters that the terminal's encoding lacks are escaped. Garbage collection is off
    during imports, where it would take a tenth of the time of a small stage.

    Args:
        name: of the process in its messages; by default that of its script.
    """
    gc.disable()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def end(number: int, _: FrameType | None) -> None:
        message = f"\n{name or Path(sys.argv[0]).stem}: interrupted; no partial files are left\n"
        os.write(2, message.encode("ascii", "backslashreplace"))
        os._exit(128 + number)  # in the middle of an import, an exception would be a traceback, or be lost

    for number in SIGNALS:
        signal.signal(number, end)
    if name is None and (process := fork_server.process_for(_dvc())):
        fork_server.hand_over(process, _end_with_dvc)


def start_fork_server() -> None:
    """Start the fork server of the stages that DVC starts after this one; it ends with DVC."""
    dvc = _dvc()
    if dvc is not None:
        fork_server.start(dvc)


def run(main: Callable[[], None]) -> None:
    """Run a stage's ``main``.

    Errors that the user can fix (a mistake in params.yaml, a damaged file, a missing device, a full disk, diverged
    training) end as one message on standard error with exit status 1; Ctrl-C gives 130, SIGTERM 143. Any other
    exception is a bug and keeps its traceback. When the DVC process that started the stage dies, for any reason, the
    stage ends too (on Linux), so nothing keeps running beside the next run.
    """
    import argparse  # here, as the others, because `begin` is not to wait for them
    import inspect

    from mnistflow.config.forms import ParamsError

    gc.freeze()
    gc.set_threshold(100_000)
    gc.enable()
    script = Path(inspect.getfile(main))
    argparse.ArgumentParser(
        prog=f"python stages/{script.name}",
        description=inspect.getdoc(inspect.getmodule(main)),
        epilog="Takes no arguments: reads params.yaml and dvc.yaml in the current folder. `dvc repro` runs all stages.",
    ).parse_args()
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    try:
        _end_with_dvc()
        main()
    except ParamsError as error:
        # `dvc exp run -S` may change the file in the second in which DVC wrote git's index; if its size stays the same,
        # git takes it for unchanged and the checkout below would do nothing.
        Path("params.yaml").touch()
        problems = "\n".join(f"  {problem}" for problem in error.problems)
        sys.exit(
            f"{script.stem}: params.yaml is invalid:\n{problems}\n"
            "Fix it, or restore the committed version (which discards your changes to this file): "
            "git checkout params.yaml"
        )
    except (ValueError, ArithmeticError, OSError) as error:
        sys.exit(f"{script.stem}: {error}")
    except MemoryError as error:
        sys.exit(f"{script.stem}: {_out_of_memory(script.stem, error)}")
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        sys.exit(f"{script.stem}: {_out_of_memory(script.stem, error)}")
    except Interrupted as asked:
        print(f"\n{script.stem}: interrupted; {asked}", file=sys.stderr)
        sys.exit(128 + asked.number)
    finally:
        # It has ended; a signal while Python does would make a stage that is done one that failed.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """Let the block end where it is ready to: a signal is only noted, and a Ctrl-C after it ends the block anyway.

    A SIGTERM after it does not: it comes by itself when the DVC that Ctrl-C has reached as well dies first.
    """
    stop = Stop()

    def note(number: int, frame: FrameType | None) -> None:
        if stop.is_asked and number == signal.SIGINT:
            _interrupt(number, frame)
        stop.number = stop.number or number

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, _: FrameType | None) -> None:
    raise Interrupted(number)


def _end_with_dvc() -> None:
    """Take SIGTERM when the DVC that started the stage dies, or the study that started DVC: killed, it would leave the
    stage running.
    """
    dvc = _dvc()
    if dvc is None:
        return
    try:
        deaths = [os.pidfd_open(dvc)]
    except OSError:  # it has died, or is another user's, or this is a Linux before 5.3
        return
    if STUDY in os.environ:
        try:
            deaths.append(os.pidfd_open(int(os.environ[STUDY])))
        except (OSError, ValueError):  # it died before this stage was started
            os.kill(os.getpid(), signal.SIGTERM)

    def watch() -> None:
        select.select(deaths, [], [])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _dvc() -> int | None:
    """The process of the DVC that has started this stage, if one has.

    DVC starts a stage through a shell, which may stay between the two. What it starts finds DVC_STAGE in its
    environment; so DVC is the nearest ancestor that does not. None elsewhere than on Linux.
    """
    if sys.platform != "linux" or "DVC_STAGE" not in os.environ:
        return None
    ancestor = os.getpid()
    try:
        while b"DVC_STAGE=" in Path(f"/proc/{ancestor}/environ").read_bytes():
            ancestor = int(Path(f"/proc/{ancestor}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # another user's
        return None
    return ancestor


# PyTorch's allocators raise a plain RuntimeError on a CPU, torch.OutOfMemoryError (a RuntimeError) on a GPU.
def _is_out_of_memory(error: RuntimeError) -> bool:
    return type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)


def _out_of_memory(stage: str, error: Exception) -> str:
    ways = {
        "train": "lower batch_size in the recipe, or choose a smaller model",
        "evaluate": "lower evaluate.batch_size",
    }
    first = str(error).strip().partition("\n")[0]
    detail = f" ({first})" if first else ""
    return f"out of memory{detail}; {ways.get(stage, 'use smaller images or a smaller model')}"
