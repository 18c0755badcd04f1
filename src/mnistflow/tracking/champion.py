"""The registered model: its champion is the best run on validation. Only a champion has a model in MLflow."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mnistflow.config.params import Tracking
from mnistflow.tracking import tags
from mnistflow.tracking.archive import Export, log_model
from mnistflow.tracking.artifacts import weights_of
from mnistflow.tracking.store import connect, failure, lock

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["ALIAS", "champion_run", "consider", "promote", "reason_to_promote", "run_of_version"]

ALIAS = "champion"
VALIDATION = "val_accuracy"  # as a tag of a version


def reason_to_promote(client: MlflowClient, tracking: Tracking, dataset: str, accuracy: float | None) -> str | None:
    """Why a result becomes the champion: it beats the champion on validation; None if it does not.

    A result without a validation split never does, and neither does one on another data set than the champion's: there
    is nothing to compare.

    Args:
        client: of the store.
        tracking: names the registered model; where it names none, nothing becomes its champion.
        dataset: of the result.
        accuracy: on validation, of the weights that were kept, 0 to 1.
    """
    name = tracking.registered_model
    if name is None or accuracy is None:
        return None
    champion = _champion(client, name)
    if champion is None:
        return f"first run with a validation split: {accuracy:.2%}"
    other = float(champion.tags.get(VALIDATION, math.inf))
    if champion.tags.get("dataset") != dataset or accuracy <= other:
        return None
    return f"validation {accuracy:.2%} against {other:.2%} of version {champion.version}"


def consider(
    client: MlflowClient, tracking: Tracking, run: Run, accuracy: float | None, graph: Callable[[], Path]
) -> None:
    """Register the model of a complete run as the champion, if :func:`reason_to_promote` gives a reason.

    Args:
        client: of the store.
        tracking: names the registered model.
        run: that is complete, but for its model.
        accuracy: on validation, of the weights that were kept, 0 to 1.
        graph: gives the file with the ONNX graph of its weights.
    """
    name, dataset = tracking.registered_model, run.data.params["dataset"]
    if name is None or reason_to_promote(client, tracking, dataset, accuracy) is None:
        return
    with lock("champion"):
        reason = reason_to_promote(client, tracking, dataset, accuracy)  # another run may have been faster
        if reason is None:
            return
        version = _set_champion(client, name, with_model(client, run, graph), accuracy, reason)
    print(f"tracking: version {version.version} of the registered model {name} is its {ALIAS} ({reason})")


def promote(tracking: Tracking, run_id: str) -> str:
    """Make the model of a run the champion by hand; log it and register it if it is not.

    Returns:
        Its URI.

    Raises:
        ValueError: nothing is registered here, the run has no result, or the store does not answer.
    """
    name = tracking.registered_model
    if name is None:
        raise ValueError("tracking.registered_model in params.yaml is null; set it to the name of the registered model")
    try:
        client, _ = connect(tracking)
        run = client.get_run(run_id)
        if run.info.status == "FINISHED" and tags.WEIGHTS in run.data.tags:
            with contextlib.ExitStack() as stack, lock("champion"):
                run = with_model(client, run, lambda: stack.enter_context(Export(weights_of(tracking, run_id))).wait())
                champion = _champion(client, name)
                instead = "" if champion is None else f", instead of version {champion.version}"
                _set_champion(client, name, run, _validation(client, run), f"promoted by hand{instead}")
            return f"models:/{name}@{ALIAS}"
    except Exception as error:
        raise ValueError(failure(tracking, f"could not promote run {run_id}", error)) from error
    raise ValueError(f"run {run_id} is {run.info.status.lower()}: it has no result to promote")


def with_model(client: MlflowClient, run: Run, graph: Callable[[], Path]) -> Run:
    """The run with its model, which is logged if it is not yet."""
    return run if tags.MODEL in run.data.tags else log_model(client, run, graph())


def champion_run(client: MlflowClient, tracking: Tracking) -> str | None:
    """The id of the run whose model is the champion."""
    name = tracking.registered_model
    champion = None if name is None else _champion(client, name)
    return None if champion is None else str(champion.run_id)


def run_of_version(tracking: Tracking, uri: str) -> str:
    """The id of the run of a registered version.

    Args:
        tracking: the store.
        uri: ``models:/name@alias`` or ``models:/name/version``.

    Raises:
        ValueError: it is not of this form, or the store does not answer, or has no such version.
    """
    match = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/([0-9]+))", uri)
    if match is None:
        raise ValueError(f"{uri!r} is not a version; use models:/NAME@ALIAS or models:/NAME/VERSION")
    name, alias, version = match.groups()
    try:
        client, _ = connect(tracking)
        entry = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, version)
        return str(entry.run_id)
    except Exception as error:
        raise ValueError(failure(tracking, f"has no {uri}:", error)) from error


def _set_champion(client: MlflowClient, name: str, run: Run, accuracy: float | None, reason: str) -> ModelVersion:
    """Give the alias to the version of a run, which is made if there is none yet."""
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name)
    uri = run.data.tags[tags.MODEL]
    there = client.search_model_versions(f"name = '{name}' AND run_id = '{run.info.run_id}'")
    model_id = uri.removeprefix("models:/")
    version = there[0] if there else client.create_model_version(name, uri, run.info.run_id, model_id=model_id)
    test = run.data.metrics.get("test_accuracy")
    version_tags = {
        "decision": reason,
        "dataset": run.data.params.get("dataset"),
        VALIDATION: accuracy,
        "test_accuracy": test,
    }
    for tag, value in version_tags.items():
        if value is not None:
            client.set_model_version_tag(name, version.version, tag, str(value))
    client.update_model_version(name, version.version, f"{run.info.run_name}: {reason}.")
    client.set_registered_model_alias(name, ALIAS, version.version)
    return version


def _champion(client: MlflowClient, name: str) -> ModelVersion | None:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, ALIAS)
    except MlflowException:  # no such model, or no such alias
        return None


def _validation(client: MlflowClient, run: Run) -> float | None:
    """The accuracy on the validation split of the weights that were kept."""
    kept = run.data.metrics.get("kept_epoch")
    history = client.get_metric_history(run.info.run_id, "val_accuracy") if kept is not None else []
    return next((metric.value for metric in history if metric.step == kept), None)
