"""From a result to its run and back, through the real DVC and MLflow, on scikit-learn's digits."""

from __future__ import annotations

import re
import shutil
from typing import Any

from conftest import Checkout
from test_tracking import record, runs_of

from mnistflow.core.files import sha256


def records(checkout: Checkout) -> list[dict[str, Any]]:
    """All runs without their ids, the newest last; also in the texts that name them."""
    client, runs = runs_of(checkout)
    numbers = {run.info.run_id: f"run {number}" for number, run in enumerate(reversed(runs))}
    found = []
    for run in reversed(runs):
        each = record(client, run)
        each["durations"] = {
            name: value for name, value in run.data.metrics.items() if name.endswith(("seconds", "images_per_second"))
        }
        for tag, text in each["tags"].items():
            for run_id, name in numbers.items():
                text = text.replace(run_id, name)
            each["tags"][tag] = text
        found.append(each)
    return found


def test_a_run_leads_to_its_files_and_an_empty_store_is_filled_again(recorded: Checkout) -> None:
    # Other evaluation, same weights: trained by the first run, and complete although all comes out the same.
    output = recorded.dvc("exp", "run", "-S", "evaluate.batch_size=100", "--name", "another")
    assert "Stage 'train' didn't change, skipping" in output
    client, (other, first) = runs_of(recorded)
    assert other.info.run_name == "lenet5 · default evaluate.batch_size=100"
    assert [run.info.status for run in (first, other)] == ["FINISHED", "FINISHED"]
    assert other.data.tags["mnistflow.trained_by"] == first.info.run_id
    assert "mnistflow.trained_by" not in first.data.tags
    assert record(client, other)["files"] == record(client, first)["files"]
    assert record(client, other)["models"] == 0

    # The first has the better name, but both are as good: it stays the champion until someone decides otherwise.
    champion = client.get_model_version_by_alias("mnistflow", "champion")
    assert champion.run_id == first.info.run_id
    assert champion.tags["decision"].startswith("first run with a validation split: ")
    assert "models:/mnistflow@champion" in recorded.mnistflow("promote", "another")
    promoted = client.get_model_version_by_alias("mnistflow", "champion")
    assert (promoted.run_id, promoted.tags["decision"]) == (
        other.info.run_id,
        "promoted by hand, instead of version 1",
    )
    assert record(client, client.get_run(other.info.run_id))["models"] == 1

    shown = recorded.mnistflow("compare", "lenet5 · default", "another", "--figure", "side-by-side.png")
    assert re.search(r"^\| evaluate\.batch_size +\| 1000 +\| 100 +\|$", shown, re.MULTILINE)
    sentence = (
        "Of the same 360 test images, lenet5 · default reads 0 right that lenet5 · default evaluate.batch_size=100 "
    )
    assert sentence in shown.replace("\n", " ")
    assert shown.count("the difference is not significant.") == 1
    assert "recipes.default.lr" not in shown
    assert (recorded.folder / "side-by-side.png").stat().st_size > 1000

    # Back to the first, which is a commit, and to the other, which is an experiment.
    refused = recorded.mnistflow("restore", first.info.run_id, status=1)
    assert "uncommitted changes would be lost: params.yaml" in refused
    assert "there is no run 'none'; the newest are:\n  " in recorded.mnistflow("restore", "none", status=1)
    recorded.git("checkout", "--quiet", "params.yaml")
    assert ": commit " in recorded.mnistflow("restore", first.info.run_id[:8])
    assert recorded.git("status", "--porcelain") == "?? side-by-side.png\n"
    assert recorded.mnistflow("run").startswith(first.info.run_id)
    assert ": DVC experiment another;" in recorded.mnistflow("restore", "another")
    assert sha256(recorded.folder / "models/model.safetensors") == other.data.tags["mnistflow.weights"]

    # All of it again from what DVC and git hold.
    recorded.git("checkout", "--quiet", ".")
    recorded.dvc("checkout", "--quiet")
    before = records(recorded)
    moved = Checkout(recorded.folder.rename(recorded.folder.with_name("moved")))  # no path is part of it
    (moved.folder / "mlflow.db").unlink()
    shutil.rmtree(moved.folder / "mlruns")
    assert "`mnistflow track` records it" in moved.mnistflow("run", status=1)
    assert "1 more experiments recorded" in moved.mnistflow("track", "--all")
    after = records(moved)
    assert after[0]["tags"].pop("mlflow.source.git.commit") != before[0]["tags"].pop("mlflow.source.git.commit")
    # That the other one was promoted by hand is in no file, so it has no model there.
    assert [run.pop("models") for run in before] == [1, 1]
    assert [run.pop("models") for run in after] == [1, 0]
    assert after == before
    assert "0 more experiments recorded" in moved.mnistflow("track", "--all")
    assert {key: value for key, value in records(moved)[1].items() if key != "models"} == after[1]
    assert len(records(moved)) == 2


def test_an_experiment_is_found_by_the_name_that_it_has_now(recorded: Checkout) -> None:
    _, (run,) = runs_of(recorded)
    recorded.dvc("exp", "save", "--name", "saved")
    assert recorded.mnistflow("restore", "saved").startswith(run.info.run_id)
    recorded.dvc("exp", "rename", "saved", "renamed")
    refused = recorded.mnistflow("restore", "saved", status=1)
    assert f"{run.info.run_id}  lenet5 · default  renamed" in refused
    assert "did you mean" not in refused

    # The tag, which the UI shows, follows.
    assert f"renamed: now the name of run {run.info.run_id}" in recorded.mnistflow("track", "--all")
    _, (run,) = runs_of(recorded)
    assert run.data.tags["dvc.experiment"] == "renamed"

    # One that was never recorded says so, and does not lead to whatever had its name before.
    recorded.replace("params.yaml", "max_shift: 0", "max_shift: 2")
    recorded.git("commit", "--quiet", "--all", "--message", "other params")
    commit = recorded.git("rev-parse", "HEAD").strip()
    (ref,) = recorded.git("for-each-ref", "--format=%(refname)", "refs/exps/*/*/renamed").split()
    recorded.git("update-ref", ref, commit)
    assert "experiment 'renamed' is not recorded" in recorded.mnistflow("restore", "renamed", status=1)

    # Nothing of what another git holds is touched.
    (recorded.folder / ".git" / "index.lock").touch()
    refused = recorded.mnistflow("restore", run.info.run_id, status=1)
    assert "another git command is running here" in refused
    assert len(refused.splitlines()) == 1
