"""The name of a run and the description on its page, from the files of a result."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

from mnistflow.config.params import Params
from mnistflow.config.paths import Paths
from mnistflow.core.documents import read_document
from mnistflow.core.files import read_csv
from mnistflow.core.text import for_markdown
from mnistflow.evaluation.scores import read_scores
from mnistflow.training.history import Summary

__all__ = ["describe", "numbers", "run_name"]


NAMED = 4  # so many changed params are in a run's name


def run_name(chosen: Params, baseline: Params | None) -> str:
    """Model and recipe, and what else differs from the committed params.yaml: ``mlp · default lr=0.2 seed=1``."""
    name = f"{chosen.model} · {chosen.recipe}"
    if baseline is None:
        return name
    if chosen.dataset != baseline.dataset:
        name += f" on {chosen.dataset}"
    # What the committed file gives for the same choice; a block that it lacks is as new as its name says.
    same_choice = {
        "dataset": chosen.dataset,
        "model": chosen.model,
        "recipe": chosen.recipe,
        "datasets": {**chosen.datasets, **baseline.datasets},
        "models": {**chosen.models, **baseline.models},
        "recipes": {**chosen.recipes, **baseline.recipes},
    }
    now, before = chosen.selected(), baseline.model_copy(update=same_choice).selected()
    order = ("recipes", "models", "seed", "preprocess", "train", "datasets", "evaluate")
    changed = sorted(
        (path for path, value in now.items() if path in before and before[path] != value),
        key=lambda path: order.index(path.split(".")[0]) if path.split(".")[0] in order else len(order),
    )
    lasts = Counter(path.split(".")[-1] for path in now)
    for path in changed[:NAMED]:
        last = path.split(".")[-1]
        value = json.dumps(now[path]).replace(", ", "-").strip('"[]')
        name += f" {last if lasts[last] == 1 else path}={value}"
    return name + (" …" if len(changed) > NAMED else "")


def describe(run_id: str, paths: Paths) -> str:
    """What a result came to, as Markdown for the page of its run."""
    train, scores = read_document(paths.train_metrics, Summary), read_scores(paths.test_metrics)
    rows = read_csv(paths.predictions)
    wrong = Counter((row["label"], row["prediction"]) for row in rows if row["label"] != row["prediction"])
    lines = [
        f"**{scores.accuracy:.2%}** of {len(rows):,} test images correct, {wrong.total():,} wrong, "
        f"mean loss {scores.loss:.4f}."
    ]
    if train.val_accuracy is not None:
        lines += ["", f"Validation: {train.val_accuracy:.2%} after epoch {train.kept_epoch} of {train.epochs}."]
    if wrong:
        pairs = ", ".join(
            f"{for_markdown(label)} read as {for_markdown(other)} ({count})"
            for (label, other), count in wrong.most_common(5)
        )
        lines += ["", f"Most often confused: {pairs}."]
    lines += ["", f"Restore this result: `mnistflow restore {run_id}`", ""]
    lines += [f"![{name}](get-artifact?path=figures/{name}.png&run_uuid={run_id})" for name in ("curves", "confusion")]
    return "\n".join(lines)


def numbers(row: Mapping[str, object], names: tuple[str, ...]) -> dict[str, float]:
    """Those of the named values that are there."""
    return {name: float(str(row[name])) for name in names if row.get(name) not in (None, "")}
