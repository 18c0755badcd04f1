"""The record in MLflow: one run for one pipeline result.

Files are the truth and MLflow is a view of them: everything recorded here, durations aside, is read from the files
that the pipeline leaves, so that it can be recorded afterwards as well. A store that cannot be reached therefore
costs a warning and nothing else. An observer: no stage depends on it, so a change here runs nothing again.

The only user of MLflow. Imports `pipeline`, `export` and all below.
"""

from mnistflow.tracking import tags
from mnistflow.tracking.artifacts import attach, graph_of, predictions, weights_of
from mnistflow.tracking.champion import promote, run_of_version
from mnistflow.tracking.record import Origin, Record, committed_params, record_result, record_training
from mnistflow.tracking.runs import (
    RunInfo,
    RunSummary,
    as_mlflow_params,
    find,
    find_run_of_result,
    listed,
    name_experiments,
    name_study,
    parse_commit,
    recorded,
    result_key,
)
from mnistflow.tracking.store import connect, failure, keep_ui_port, lock, repair_locations, shown_uri, store_uri

__all__ = [
    "Origin",
    "Record",
    "RunInfo",
    "RunSummary",
    "as_mlflow_params",
    "attach",
    "committed_params",
    "connect",
    "failure",
    "find",
    "find_run_of_result",
    "graph_of",
    "keep_ui_port",
    "listed",
    "lock",
    "name_experiments",
    "name_study",
    "parse_commit",
    "predictions",
    "promote",
    "record_result",
    "record_training",
    "recorded",
    "repair_locations",
    "result_key",
    "run_of_version",
    "shown_uri",
    "store_uri",
    "tags",
    "weights_of",
]
