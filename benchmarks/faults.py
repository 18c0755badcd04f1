"""The faults that docs/reliability.md counts: kills, damaged files, mistakes in params.yaml.

    python -m benchmarks.faults [--kills 20] [--only kills|commands|damages|mistakes]

In a clone of HEAD, on scikit-learn's digits: training is killed at random moments for each model of params.yaml, the
other stages half as often, DVC itself as often as these; each is repeated until it is done, and what it leaves is held
against what it leaves undisturbed. The commands that write are killed in the same way. Then files are damaged in every
way of tests/damage.py, and params.yaml is changed in one place at a time. The tables go into docs/reliability.md.
Anything that is not as promised ends it at once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks import ROOT

sys.path.insert(0, str(ROOT / "tests"))

from conftest import Checkout
from faults import (
    COMMANDS,
    SIGNALS,
    assert_whole,
    attempt,
    children,
    kill_command,
    killed_until_done,
    stage_command,
    start,
    wait_until_gone,
)
from hypothesis import HealthCheck, given, settings
from test_mistakes import mutations
from tqdm import tqdm

from mnistflow.checks.problems import problems
from mnistflow.config.params import load
from mnistflow.core.files import atomic_write

DOCUMENT = ROOT / "docs" / "reliability.md"
EPOCHS = {"compact": 3}  # it takes ten times as long as the others


def main() -> None:
    """Do it all, and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="of each training (default: %(default)s)")
    parser.add_argument("--mistakes", type=int, default=500, help="in params.yaml (default: %(default)s)")
    parser.add_argument("--only", choices=("kills", "commands", "damages", "mistakes"), help="one of the tables")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if arguments.only in (None, "kills", "damages"):
            checkout = prepared(Path(name, "clone"))
        tables: dict[str, Callable[[], list[str]]] = {
            "kills": lambda: killed(checkout, arguments.kills),
            "commands": lambda: killed_commands(prepared(Path(name, "recorded"), tracking=True), arguments.kills // 2),
            "damages": lambda: damages(checkout, Path(name, "outcomes.json")),
            "mistakes": lambda: mistakes(arguments.mistakes),
        }
        for mark, table in tables.items():
            if arguments.only in (None, mark):
                lines = table()
                print("\n".join(lines), end="\n\n")
                replace(mark, lines)


def prepared(folder: Path, *, tracking: bool = False) -> Checkout:
    """A clone in which the pipeline has run on digits, with MLflow or without."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    checkout = Checkout(folder)
    for old, new in (
        ("dataset: mnist", "dataset: digits"),
        ("enabled: true", "enabled: false"),
        ("dpi: 110", "dpi: 50"),
        ("checkpoint_every: 30.0", "checkpoint_every: 0.1"),
    ):
        if not (tracking and old.startswith("enabled")):
            checkout.replace("params.yaml", old, new)
    checkout.dvc("repro")
    return checkout


def killed(checkout: Checkout, kills: int) -> list[str]:
    """Kill each stage, and DVC."""
    lines = ["| what was killed | times | of them SIGKILL, SIGTERM, Ctrl-C | resumed from a checkpoint | in the end |"]
    lines += ["|---|---|---|---|---|"]
    params = checkout.read("params.yaml")
    for model in tqdm([*load().models], desc="training", unit="model"):
        text = params.replace("model: lenet5", f"model: {model}").replace(
            "epochs: 6", f"epochs: {EPOCHS.get(model, 6)}"
        )
        (checkout.folder / "params.yaml").write_text(text, encoding="utf-8")
        tried = list(killed_until_done(checkout, "train", kills, seed=0))[1:]
        resumed = sum("train: resumes" in attempt.output for attempt in tried)
        lines.append(f"| training {model} | {kills} | {thirds(kills)} | {resumed} of {kills} | the same bytes |")
    (checkout.folder / "params.yaml").write_text(params, encoding="utf-8")
    checkout.dvc("repro")
    for stage in tqdm(["download", "preprocess", "evaluate", "plot"], desc="other stages", unit="stage"):
        list(killed_until_done(checkout, stage, kills // 2, seed=0))
        lines.append(f"| {stage} | {kills // 2} | {thirds(kills // 2)} | | the same bytes |")
    lines.append(killed_dvc(checkout, kills // 2))
    return lines


def killed_commands(checkout: Checkout, kills: int) -> list[str]:
    """Kill each command that writes."""
    checkout.git("add", "--all")
    checkout.git("commit", "--quiet", "--message", "result")
    checkout.dvc("exp", "run", "-S", "model=mlp", "--name", "with-mlp")
    lines = ["| what was killed | signals | of them before it had ended | when it is run again |", "|---|---|---|---|"]
    return lines + [
        killed_command(checkout, arguments, kills) for arguments in tqdm(COMMANDS, desc="commands", unit="command")
    ]


def killed_command(checkout: Checkout, arguments: list[str], kills: int) -> str:
    """Kill a command of mnistflow; it must do its work when it is run again."""
    numbers = random.Random(0)
    moments = [(SIGNALS[number % len(SIGNALS)], numbers.uniform(0.3, 5)) for number in range(kills)]
    killed = kill_command(checkout, arguments, moments)
    return f"| `mnistflow {arguments[0]}` | {kills} | {killed} | it does all of its work |"


def thirds(kills: int) -> str:
    """How often each of three signals was sent, in turn."""
    return ", ".join(str(len(range(first, kills, 3))) for first in range(3))


def killed_dvc(checkout: Checkout, kills: int) -> str:
    """Kill `dvc repro` itself while the whole pipeline runs; its stage must end with it."""
    numbers = random.Random(0)
    # A param that train, evaluate and plot depend on is other than before, and then as it was.
    expected = checkout.read("dvc.lock")
    command = ["dvc", "repro", "--force"]
    started = time.perf_counter()
    checkout.run(*command)
    seconds = time.perf_counter() - started
    assert checkout.read("dvc.lock") == expected
    sent: Counter[signal.Signals] = Counter()
    while sent.total() < kills:
        number = (signal.SIGKILL, signal.SIGTERM)[sent.total() % 2]
        process = start(checkout, command)
        try:
            process.communicate(timeout=numbers.uniform(1, seconds))
            continue  # it was done before
        except subprocess.TimeoutExpired:
            stages = children(process.pid)
            process.send_signal(number)
            process.communicate(timeout=60)
        wait_until_gone(stages)
        assert_whole(checkout)
        sent[number] += 1
    checkout.dvc("repro")
    assert checkout.read("dvc.lock") == expected
    assert checkout.dvc("status").strip() == "Data and pipelines are up to date."
    return (
        f"| `dvc repro` | {kills} | {sent[signal.SIGKILL]}, {sent[signal.SIGTERM]}, 0 | | the same dvc.lock, "
        "no stage left running |"
    )


def damages(checkout: Checkout, written: Path) -> list[str]:
    """Damage every file."""
    raw = ROOT / "data" / "raw" / "mnist"
    if raw.is_dir():
        shutil.copytree(raw, checkout.folder / "data" / "raw" / "mnist")
    begun = attempt(checkout, stage_command("train"), begins="epoch 2/6", kill=signal.SIGTERM)
    assert begun.status == 143, begun.output
    checkout.run(sys.executable, str(ROOT / "tests" / "damage.py"), str(written))
    table: dict[tuple[str, str], list[str]] = {}
    for outcome in json.loads(written.read_text(encoding="utf-8")):
        kind = outcome["kind"]
        assert not outcome["has_traceback"], outcome
        assert not outcome["ran_a_pickle"], outcome
        assert outcome["status"] == (0 if kind["harmless"] else 1), outcome
        file = "a checkpoint" if len(Path(kind["file"]).stem) == 16 else f"`{kind['file']}`"
        end = "set aside or ignored, and the stage continues" if kind["harmless"] else "refused"
        table.setdefault((f"{kind['stage']} reads {file}", end), []).append(kind["what"])
    count = sum(map(len, table.values()))
    lines = [f"{count} kinds:", "", "| what reads what | damaged how | outcome |", "|---|---|---|"]
    return lines + [f"| {who} | {', '.join(kinds)} | {end} |" for (who, end), kinds in table.items()]


def mistakes(count: int) -> list[str]:
    """Change params.yaml in one place at a time."""
    seen: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as name:
        os.environ["DVC_ROOT"] = name
        path = Path(name, "params.yaml")
        shutil.copy(ROOT / "params.yaml", path)
        problems(path)  # imports what it needs

        @given(mutation=mutations())
        @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        def check(mutation: tuple[str, str]) -> None:
            nonlocal slowest
            path.write_text(mutation[0], encoding="utf-8")
            started = time.perf_counter()
            try:
                refused = bool(problems(path))
            except ValueError:
                refused = True
            slowest = max(slowest, time.perf_counter() - started)
            seen["refused" if refused else "fine"] += 1

        check()
    return [
        f"{seen.total():,} changes: {seen['refused']:,} refused, {seen['fine']:,} harmless, none a traceback; the "
        f"slowest answer took {slowest:.1f} s, PyTorch's import apart."
    ]


def replace(mark: str, lines: list[str]) -> None:
    """Put lines between the two marks of a name in the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    opening, closing = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
    before, _, rest = text.partition(opening)
    _, _, after = rest.partition(closing)
    with atomic_write(DOCUMENT) as temporary:
        temporary.write_text(f"{before}{opening}" + "\n".join(lines) + f"\n{closing}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
