"""Commands about the result in this folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mnistflow.cli.output import paths_with_result
from mnistflow.config.forms import ParamsError
from mnistflow.config.params import load
from mnistflow.core.documents import read_document
from mnistflow.data.summary import DataSummary
from mnistflow.evaluation.scores import read_scores
from mnistflow.training.history import Summary

__all__ = ["gate", "report", "show", "verify"]


NEXT = """\
Next:
  make ui                                    compare runs in the browser
  {activate}
  dvc exp run -S model=mlp                   another model
  dvc exp run -S recipes.default.epochs=3    another training
  dvc exp run -S dataset=digits -S recipes.default.epochs=60
                                             another data set, without a network
  dvc exp show                               all experiments in the terminal
  mnistflow study list                       questions that many experiments answer together
"""


def show() -> None:
    """Print the result in this folder, and what to try next."""
    paths = paths_with_result()
    data, train = read_document(paths.data_metrics, DataSummary), read_document(paths.train_metrics, Summary)
    scores = read_scores(paths.test_metrics)
    wrong = round(scores.images * (1 - scores.accuracy))
    lines = {
        "test accuracy": f"{scores.accuracy:.2%} ({wrong:,} of {scores.images:,} wrong), mean loss {scores.loss:.4f}",
        "validation accuracy": "not monitored"
        if train.val_accuracy is None
        else f"{train.val_accuracy:.2%} after epoch {train.kept_epoch} of {train.epochs}",
        "network": f"{train.parameters:,} parameters, trained on {train.device}",
        "weights": str(paths.weights),
        "figures": f"{paths.figures}{os.sep}*.png",
    }
    print(f"\n{train.model} · {train.recipe} on {data.dataset}")
    for name, text in lines.items():
        print(f"  {name:<20} {text}")
    activate = os.path.relpath(Path(sys.prefix, "bin", "activate"))
    print("\n" + NEXT.format(activate=f". {activate:<40} then:"), end="")


def gate() -> None:
    """Check the result in this folder against evaluate.gates in params.yaml; exit with status 1 if a gate fails.

    A command, not a stage: DVC does not record an experiment in which a stage fails.
    """
    from mnistflow.evaluation import gates

    paths = paths_with_result()
    if problems := gates.gate_problems(load().evaluate.gates):
        raise ParamsError(problems)
    leakage = read_document(paths.data_metrics, DataSummary).leakage
    verdicts = gates.judge(load().evaluate.gates, read_scores(paths.test_metrics), leakage)
    if not verdicts:
        print("no gate is set; evaluate.gates in params.yaml lists all gates")
        return
    print("\n".join(map(str, verdicts)), flush=True)
    failed = [verdict.gate for verdict in verdicts if not verdict.passed]
    if failed:
        raise ValueError(f"{len(failed)} of {len(verdicts)} gates failed: {', '.join(failed)}")


def report(output: Path) -> None:
    """Write a self-contained HTML report on the result in this folder, and attach it to its MLflow run."""
    from mnistflow import tracking  # here, because they take seconds to import
    from mnistflow.core.files import atomic_write
    from mnistflow.experiments import lineage
    from mnistflow.reports.report import page

    paths, settings = paths_with_result(), load().tracking
    recorded, unrecorded = None, "tracking.enabled in params.yaml is false"
    if settings.enabled:
        try:
            recorded = lineage.run_of_workspace()
            unrecorded = "no run matched this result and params.yaml when this page was written"
        except ValueError as error:
            print(f"mnistflow: warning: {error}", file=sys.stderr)
            unrecorded = "the store did not answer when this page was written"
    text = page(paths, recorded, unrecorded)
    with atomic_write(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"written to {output}", flush=True)
    if recorded is None:
        print(f"no MLflow run: {unrecorded}; `mnistflow track` records it")
        return
    try:
        place = tracking.attach(settings, recorded.id, text, "report/report.html")
    except ValueError as error:  # the page is there all the same
        print(f"mnistflow: warning: not added to run {recorded.id}: {error}", file=sys.stderr)
    else:
        print(f"added to run {recorded.id} as {place}")


def verify() -> None:
    """Run the committed pipeline from scratch in a temporary clone, and compare every output byte for byte."""
    from mnistflow.experiments import verification  # here, because it takes seconds to import

    compared = verification.verify()
    width = max(len(output.path) for output in compared)
    print()
    for output in compared:
        outcome = "the same" if output.is_same else f"DIFFERENT: MD5 {output.one} in dvc.lock, {output.other} now"
        print(f"  {output.stage:<10}  {output.path:<{width}}  {outcome}")
    different = [output for output in compared if not output.is_same]
    if different:
        first = different[0]
        raise ValueError(
            f"{len(different)} of {len(compared)} outputs differ. The first difference is in "
            f"{first.stage}: from {'the same' if first.from_the_same else 'different'} inputs it produced a different "
            f"{first.path}. A different kind of processor or version of PyTorch rounds differently"
        )
    print(f"\nAll {len(compared)} outputs are identical, byte for byte.")
