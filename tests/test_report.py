"""The report of a result, in a real browser that has no network.

The picture of it in docs/ is taken here, of the result in this clone: `make repro`, and
`pytest tests/test_report.py --screenshots docs`.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Checkout
from mlflow import MlflowClient
from playwright.sync_api import Browser, Page, Request

from mnistflow import figures
from mnistflow.config.paths import Paths
from mnistflow.core.documents import read_document, write_document
from mnistflow.core.files import md5, write_csv, write_json
from mnistflow.data.summary import DataSummary
from mnistflow.reports import report
from mnistflow.tracking import RunInfo
from mnistflow.training.history import Summary

AWKWARD = ('<b>&"', "<script>alert(1)</script>", "a class name of no fewer than fifty-four characters, so")
HISTORY = [
    {"epoch": n, "lr": 0.1, "train_loss": 1 / n, "val_loss": 1 / n, "val_accuracy": 0.9, "test_accuracy": ""}
    for n in (1, 2)
]
RUN = RunInfo("0123abcd", "lenet5 · <i>default", "FINISHED", "", "", {}, {}, {"dvc.experiment": "second"}, {})


def made(folder: Path, classes: tuple[str, ...] = AWKWARD, **changes: Any) -> Paths:
    """The files of a result, and a dvc.lock that names them."""
    paths = Paths(**{name: folder / path for name, path in vars(Paths.load(ROOT / "dvc.yaml")).items()})
    count = len(classes)
    named = [{"class": name, "precision": 0.9, "recall": 0.8, "f1": 0.85, "images": 10} for name in classes]
    bins = [{"low": 0.8, "high": 1.0, "images": 10 * count, "confidence": 0.9, "accuracy": 0.8}]
    matrix = [
        [8 if row == column else 2 * (column == (row + 1) % count) for column in range(count)] for row in range(count)
    ]
    shares = ("top2_accuracy", "macro_precision", "macro_recall", "macro_f1", "ece", "brier", "robust_accuracy")
    scores = {
        **dict.fromkeys(shares, 0.9),
        "accuracy": 0.8,
        "accuracy_low": 0.75,
        "accuracy_high": 0.84,
        "loss": 0.5,
        "images": 10 * count,
        "temperature": 1.25,
        "ece_unscaled": 0.01,
        "brier_unscaled": 0.3,
        "parameters": 61706,
        "multiply_adds": 416520,
        "classes": named,
        "confusion": matrix,
        "reliability": bins,
        "shift_accuracies": [],
        "device": "cpu",
    }
    write_json(paths.test_metrics, {**scores, **changes})
    data = read_document(ROOT / "metrics" / "preprocess.json", DataSummary)
    data = replace(data, dataset="folder", train_images=54000, validation_images=6000, test_images=10 * count)
    write_document(paths.data_metrics, data)
    summary = read_document(ROOT / "metrics" / "train.json", Summary)
    write_document(paths.train_metrics, replace(summary, epochs=2, kept_epoch=2, val_accuracy=0.9))
    write_csv(paths.history, HISTORY)
    rows = [("none", 0, 0, 0.8), ("noise", 1, 0.1, 0.7), ("noise", 2, 0.2, 0.6)]
    write_csv(
        paths.robustness,
        [dict(zip(("corruption", "strength", "amount", "accuracy"), row, strict=True)) for row in rows],
    )
    first, *others = report.FIGURES
    figures.save(figures.convolution(), paths.figures / f"{first}.png", dpi=60)
    for name in others:
        shutil.copy(paths.figures / f"{first}.png", paths.figures / f"{name}.png")
    paths.weights.parent.mkdir(parents=True)
    paths.weights.write_bytes(b"weights")
    stages = {
        "train": {
            "params": {
                "params.yaml": {
                    "model": "lenet5",
                    "models.lenet5": {"padding": 2, "dense_activation": None},
                    "datasets.folder": {"path": "/home/me", "size": 32},
                }
            },
            "outs": [{"path": paths.weights.as_posix(), "md5": md5(paths.weights)}],
        },
        "evaluate": {"outs": [{"path": paths.test_metrics.as_posix(), "md5": md5(paths.test_metrics)}]},
    }
    (folder / "dvc.lock").write_text(json.dumps({"stages": stages}), encoding="utf-8")
    return paths


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a result is made; the commands are given in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def opened(browser: Browser, text: str, place: Path, width: int, **context: Any) -> tuple[Page, list[str]]:
    """The page, and what it asked for: the file itself among it."""
    place.write_text(text, encoding="utf-8")
    page = browser.new_context(viewport={"width": width, "height": 900}, offline=True, **context).new_page()
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    page.on("request", note)
    page.goto(place.as_uri())
    return page, asked


@pytest.mark.parametrize("width", [390, 1100])
def test_the_page_needs_nothing_but_itself_and_fits_a_phone(
    folder: Path, browser: Browser, width: int, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = pytestconfig.getoption("screenshots")
    if pictures:
        pictures = pytestconfig.invocation_params.dir / pictures
        monkeypatch.chdir(ROOT)
    text = report.page(Paths.load() if pictures else made(folder), RUN, "")
    page, asked = opened(browser, text, folder / "report.html", width)
    if pictures and width > 1000:
        page.set_viewport_size({"width": width, "height": 1250})
        page.screenshot(path=pictures / "report.png")
    assert asked[0] == (folder / "report.html").as_uri()
    assert [url for url in asked[1:] if not url.startswith("data:")] == []
    sizes = page.evaluate("[...document.images].map(image => [image.complete, image.naturalWidth, image.alt])")
    assert len(sizes) == len(report.FIGURES)
    assert all(complete and wide > 0 for complete, wide, _ in sizes)
    assert {alt for *_, alt in sizes} == set(report.FIGURES.values())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.context.close()


def test_names_are_text_and_never_markup(folder: Path, browser: Browser) -> None:
    page, _ = opened(browser, report.page(made(folder), RUN, ""), folder / "report.html", 1280)
    assert page.locator("#classes td:first-child").all_inner_texts() == list(AWKWARD)
    assert page.locator("script, section b, i").count() == 0
    assert RUN.name in page.locator("#lineage").inner_text()
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_light_or_dark_as_its_reader_is(folder: Path, browser: Browser, scheme: Any) -> None:
    text = report.page(made(folder), None, "why not")
    page, _ = opened(browser, text, folder / "report.html", 1280, color_scheme=scheme)
    found = page.evaluate("getComputedStyle(document.body).backgroundColor")
    channels = [int(number) for number in re.findall(r"\d+", found)]
    assert max(channels) < 64 if scheme == "dark" else min(channels) > 192
    page.context.close()


def test_the_page_says_what_the_files_say(folder: Path, browser: Browser) -> None:
    paths = made(folder)
    page, _ = opened(browser, report.page(paths, RUN, ""), folder / "report.html", 1280)
    text_of_page = " ".join(page.locator("body").inner_text().split())
    for text in (
        "lenet5 · default on folder 80.00 % of 30 test images correct, 6 wrong;",
        "95 % interval 75.00 % to 84.00 %, for images like these",
        "61,706 parameters 416,520 multiply-adds per image",
        "models.lenet5.padding 2 models.lenet5.dense_activation null",
        f"{AWKWARD[0]} 10 80.00 % 90.00 % 85.00 %",
        f"{AWKWARD[0]} {AWKWARD[1]} 2 20.0 %",
        "On average, it assigns its prediction a probability of 90.0 % and is right in 80.0 % of cases",
        "temperature of 1.250, fitted on the validation images; without that, these would be 1.00 % and 0.3000.",
        "noise 70.0 % 60.0 %",
        "No commit: this folder is not a git repository.",
        "MLflow run 0123abcd, lenet5 · <i>default, DVC experiment second.",
        f"are those of dvc.lock: output MD5 {paths.weights.as_posix()} {md5(paths.weights)}",
        "mnistflow restore 0123abcd",
    ):
        assert text in text_of_page
    assert "datasets.folder.size 32" in text_of_page
    assert "/home/me" not in text_of_page
    page.context.close()


def test_missing_measurements_runs_and_locks_are_reported(folder: Path, browser: Browser) -> None:
    nothing: dict[str, Any] = dict.fromkeys(("temperature", "ece_unscaled", "brier_unscaled", "robust_accuracy"))
    paths = made(folder, **nothing)
    write_csv(paths.robustness, [{"corruption": "none", "strength": 0, "amount": 0, "accuracy": 0.8}])
    paths.weights.write_bytes(b"others")
    page, _ = opened(browser, report.page(paths, None, "the store is <away>"), folder / "report.html", 1280)
    text_of_page = " ".join(page.locator("body").inner_text().split())
    assert "not measured accuracy on corrupted images" in text_of_page
    assert "strength 1" not in text_of_page
    assert "temperature" not in text_of_page
    assert "No MLflow run: the store is <away>." in text_of_page
    assert "are not those of dvc.lock, which has:" in text_of_page
    (folder / "dvc.lock").unlink()
    assert "There is no <code>dvc.lock</code> to compare with." in report.page(paths, None, "")
    page.context.close()


def test_it_is_the_same_each_time_and_a_figure_that_is_missing_is_named(folder: Path) -> None:
    paths = made(folder)
    assert report.page(paths, RUN, "") == report.page(paths, replace(RUN), "")
    (paths.figures / "curves.png").unlink()
    with pytest.raises(ValueError, match=r"curves.png cannot be read: .*`dvc repro` draws it$"):
        report.page(paths, RUN, "")


COMMAND = (sys.executable, "-m", "mnistflow", "report")


def test_without_a_result_there_is_one_line(clean: Checkout) -> None:
    output = clean.run(*COMMAND, status=1, PYTHONPATH="src")
    assert output == "mnistflow: there is no result in this folder yet; `dvc repro` (or `make repro`) makes one\n"


def test_the_report_of_a_run_is_added_to_it_and_written_without_a_store_as_well(recorded: Checkout) -> None:
    output = recorded.mnistflow("report", "--output", "docs/result.html")
    assert output.startswith("written to docs/result.html\nadded to run ")
    client = MlflowClient(f"sqlite:///{recorded.folder / 'mlflow.db'}")
    (run,) = re.findall(r"added to run (\w+) as report/report.html", output)
    assert [file.path for file in client.list_artifacts(run, "report")] == ["report/report.html"]
    kept = Path(client.download_artifacts(run, "report/report.html", str(recorded.folder)))
    text = recorded.read("docs/result.html")
    assert kept.read_text(encoding="utf-8") == text
    assert str(recorded.folder) not in text
    assert f"MLflow run <code>{run}</code>" in text
    assert recorded.git("rev-parse", "HEAD").strip() in text
    assert "are those of <code>dvc.lock</code>" in text
    recorded.mnistflow("report")
    assert recorded.read("report.html") == text  # of the same run and commit: the same
    away = recorded.run(*COMMAND, PYTHONPATH="src", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert away.startswith("mnistflow: warning: http://127.0.0.1:9 does not answer")
    assert "written to report.html\nno MLflow run: the store did not answer" in away
    assert "127.0.0.1:9" not in recorded.read("report.html")  # where a store is goes to nobody
    assert recorded.git("status", "--porcelain") == "?? docs/result.html\n"
