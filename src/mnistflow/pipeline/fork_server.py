"""A fork server: a process that has imported what stages need, and forks for each of them.

To import PyTorch, MLflow and Matplotlib takes longer than a small experiment trains, and each stage would do it again.
A study starts one fork server for all its experiments; elsewhere the stage `check` does, for the stages that DVC starts
after it. A stage that finds one hands itself over: its script, folder, environment and open files go there, a fork runs
the script, and the stage waits for the exit status of the fork and passes signals on. Only third-party packages are
imported beforehand: a fork imports this library from the checkout that its script belongs to. When the stage or the
fork server dies, so does the fork. On Linux only; elsewhere, and where the fork server is gone, a stage starts by
itself.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import ctypes
import importlib
import json
import os
import runpy
import secrets
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

__all__ = ["hand_over", "name_of", "process_for", "start", "started"]

NAME = "MNISTFLOW_FORK_SERVER"  # in the environment of a stage of a study: the name of its fork server
# In the order in which stages need them: a script that comes early is forked before the last is there.
PACKAGES = ("numpy", "torch", "safetensors.torch", "pydantic", "yaml", "filelock", "tqdm", "PIL.Image")
LATER_PACKAGES = (  # once a script has come; where `check` refuses, or nothing but it runs, none does
    "torch._dynamo",  # by every optimizer
    "mlflow", "mlflow.entities", "mlflow.store.tracking.sqlalchemy_store", "mlflow.pyfunc", "matplotlib.figure",
    "matplotlib.backends.backend_agg", "matplotlib.font_manager", "onnx", "onnxscript", "onnxruntime",
)  # fmt: skip
FILES = 3  # standard input, output and error
MAX_BYTES = 2**20  # of a request
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@contextlib.contextmanager
def started(environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Start a fork server, which ends with the block; one that the environment leads to already is used instead.

    Args:
        environment: of the fork server. What packages read when they are imported holds for all stages.

    Yields:
        What leads stages there, for their environment; nothing where there is no fork server.
    """
    if sys.platform != "linux" or environment.get(NAME):
        yield {}
        return
    name = f"study-{secrets.token_hex(8)}"
    process = _process(name, os.getpid(), environment)
    try:
        yield {NAME: name}
    finally:
        process.kill()
        process.wait()


def start(owner: int, environment: Mapping[str, str] = os.environ) -> subprocess.Popen[bytes] | None:
    """Start a fork server for the stages that another process will start; it ends with that one.

    Args:
        owner: the ID of the other process: DVC.
        environment: of the fork server. What packages read when they are imported holds for all stages.

    Returns:
        The fork server; None where there cannot be one, or stages are led to another one.
    """
    if sys.platform == "linux" and NAME not in os.environ:
        with contextlib.suppress(OSError):  # no memory for it, or the name is taken: the stages start by themselves
            return _process(name_of(owner), owner, environment)
    return None


def name_of(owner: int) -> str:
    """The name of what :func:`start` starts; an owner's ID is unique only within its namespace (its container)."""
    return f"of-{Path('/proc/self/ns/pid').stat().st_ino}-{owner}"


def process_for(dvc: int | None) -> socket.socket | None:
    """A connection to the fork server that a stage can be handed over to, if there is one.

    Args:
        dvc: the process ID of the DVC that has started the stage.
    """
    name = os.environ.get(NAME) or (None if dvc is None else name_of(dvc))
    if name is None or sys.platform != "linux":
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(_address(name))
        if _is_ours(connection):
            return connection
    except OSError:
        pass
    connection.close()
    return None


def _process(name: str, owner: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A fork server that serves a socket until its owner dies; in a session of its own, because Ctrl-C in a terminal is
    for who waits for its forks.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(_address(name))
        listener.listen(64)  # stages that come before the imports are done wait
        file = listener.fileno()
        library = str(Path(__file__).resolve().parents[2])  # where `-m` finds this module
        paths = [library, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
        return subprocess.Popen(
            [sys.executable, "-m", __name__, str(file), str(owner)],
            env={**environment, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[file],
            start_new_session=True,
        )


def _address(name: str) -> str:
    """Of the socket, in Linux's abstract namespace: it is not a file, and goes with its process."""
    return f"\0mnistflow-{name}"


def _is_ours(connection: socket.socket) -> bool:
    """Whether the other end is a process of this user; every user can open a socket of any name."""
    _, user, _ = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    )
    return bool(user == os.getuid())


def hand_over(process: socket.socket, before: Callable[[], None]) -> None:
    """Let a fork server run this script, and exit as it does.

    Returns only where it has just ended; the stage then starts by itself.

    Args:
        process: a connection to the fork server, which is closed.
        before: called once the script runs there, before this process waits.
    """
    environment = {name: value for name, value in os.environ.items() if name != NAME}
    data = json.dumps({"arguments": sys.argv, "folder": str(Path.cwd()), "environment": environment}).encode()
    rights = array.array("i", range(FILES))
    with process:
        try:
            process.sendmsg([len(data).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            process.sendall(data)
            answers = process.makefile()
            child = int(answers.readline() or 0)
        except OSError:
            return
        if not child:
            return

        def forward(number: int, _: object) -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)

        def pause(*_: object) -> None:
            forward(signal.SIGSTOP, None)
            os.kill(os.getpid(), signal.SIGSTOP)  # goes on from here when it is continued
            forward(signal.SIGCONT, None)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, forward)
        signal.signal(signal.SIGTSTP, pause)  # Ctrl-Z
        before()
        status = answers.readline()
        os._exit(int(status) if status else 1)  # without a status, the process has died, and the script with it


def _serve(file: int, owner: int) -> None:
    """Import, and fork for each script that is asked for at a listening socket, until the owner of this process dies
    and no fork is left.
    """
    with contextlib.suppress(OSError), socket.socket(fileno=file) as listener:
        death = os.pidfd_open(owner)
        os.environ["MPLBACKEND"] = "agg"
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        missing, later = list(PACKAGES), list(LATER_PACKAGES)
        running: dict[int, tuple[int, socket.socket]] = {}  # by the descriptor of its death: a child, and who waits
        owners = [death]
        while owners or running:
            connections = {waiting.fileno(): end for end, (_, waiting) in running.items()}
            listening = [listener.fileno()] if owners else []
            ready, _, _ = select.select([*owners, *listening, *running, *connections], [], [], 0 if missing else None)
            for source in ready:
                if source == death:
                    owners, missing, later = [], [], []
                elif source == listener.fileno():
                    connection, _ = listener.accept()
                    if not _is_ours(connection):
                        connection.close()
                    elif started_child := _start(connection, [listener, *(waiting for _, waiting in running.values())]):
                        running[os.pidfd_open(started_child)] = (started_child, connection)
                        missing, later = missing + later, []
                elif source in running:
                    _ended(source, *running.pop(source))
                elif connections[source] in running:  # who waited has died, or said more than there is to say
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(running[connections[source]][0], signal.SIGKILL)
            if missing and not ready:
                with contextlib.suppress(ImportError):  # whatever needs it says so
                    importlib.import_module(missing.pop(0))
    os._exit(0)  # without a second in which Python takes all these modules apart


def _start(connection: socket.socket, others: list[socket.socket]) -> int | None:
    """Fork for the script that a connection asks for; None if it is gone already."""
    try:
        head, ancillary, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(FILES * array.array("i").itemsize))
        size = int.from_bytes(head, "big")
        data = b""
        while 0 < size <= MAX_BYTES and len(data) < size and (part := connection.recv(size - len(data))):
            data += part
        request = json.loads(data)
    except (OSError, ValueError):
        connection.close()
        return None
    files = array.array("i")
    files.frombytes(ancillary[0][2])
    child = os.fork()
    if child:
        for file in files:
            os.close(file)
        with contextlib.suppress(OSError):  # who waited has died, which is noticed next
            connection.sendall(f"{child}\n".encode())
        return child
    status = 1
    try:
        for other in (connection, *others):
            other.close()
        _die_with_parent(signal.SIGKILL)
        status = _run(request["arguments"], request["folder"], request["environment"], list(files))
    finally:
        os._exit(status)


def _run(arguments: list[str], folder: str, environment: dict[str, str], files: list[int]) -> int:
    """Run a script in this process as if Python had been started for it; returns the exit status."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    encoding = environment.get("PYTHONIOENCODING", "").partition(":")[0] or None
    lines = {2} | ({1} if environment.get("PYTHONUNBUFFERED") else set())  # written line by line
    # Anew: those that there are remember what kind of file they were opened for.
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, 1 if number in lines else -1, encoding=encoding, closefd=False)  # noqa: SIM115 - for good
        for number, mode in enumerate("rww")
    )
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # what was read of the environment before
    time.tzset()
    sys.argv = arguments
    sys.path[0] = str(Path(arguments[0]).resolve().parent)
    package = __name__.partition(".")[0] if __name__ != "__main__" else "mnistflow"
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]
    try:
        runpy.run_path(arguments[0], run_name="__main__")
        status = 0
    except SystemExit as error:
        status = _status(error.code)
    except BaseException:  # noqa: BLE001 - as Python does with what nobody catches
        _flush()
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()  # noqa: SLF001 - this process ends by os._exit, because what it was forked in goes on
    _flush()
    return status


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def _status(code: object) -> int:
    """The exit status that a SystemExit stands for; a text is printed."""
    if code is None or isinstance(code, int):
        return code or 0
    _flush()
    print(code, file=sys.stderr)
    return 1


def _ended(death: int, child: int, waiting: socket.socket) -> None:
    """Tell who waits for a child how it ended."""
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    with contextlib.suppress(OSError):
        waiting.sendall(f"{code if code >= 0 else 128 - code}\n".encode())
    waiting.close()
    os.close(death)


def _die_with_parent(number: signal.Signals) -> None:
    """Get a signal when the process that started this one dies, however that comes about."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number.value)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
