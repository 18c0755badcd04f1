"""The MLflow UI over the runs of a checkout, in a real browser.

The pictures of it in docs/ are taken here, of the runs in this clone: `make repro`, `dvc exp run -S model=mlp`, and
`pytest tests/test_ui.py --screenshots docs`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Checkout, answering, free_port
from mlflow import MlflowClient
from mlflow.entities import Run
from playwright.sync_api import Browser, Page, expect

LOADED = 60_000  # milliseconds; the page is five megabytes of script, and the machine may be busy

Runs = tuple[Run, Run]

pytestmark = pytest.mark.xdist_group("ui")  # one server and one browser for all


@pytest.fixture(scope="module")
def shown(request: pytest.FixtureRequest) -> Checkout:
    """The checkout whose runs are shown."""
    if request.config.getoption("screenshots"):
        return Checkout(ROOT)
    compared: Checkout = request.getfixturevalue("compared")
    return compared


@pytest.fixture(scope="module")
def address(shown: Checkout) -> Iterator[str]:
    """Where `mnistflow ui` answers."""
    port = free_port()
    command = [sys.executable, "-m", "mnistflow", "ui", "--port", str(port)]
    environment = {**shown.environment, "PYTHONPATH": "src"}
    with answering(command, f"http://127.0.0.1:{port}/health", shown.folder, environment):
        yield f"http://127.0.0.1:{port}/#"


@pytest.fixture(scope="module")
def runs(shown: Checkout) -> Runs:
    """README's two: the default, and the same with another model."""
    client = MlflowClient(f"sqlite:///{shown.folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mnistflow")
    assert experiment is not None
    found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    return found["lenet5 · default"], found["mlp · default"]


@pytest.fixture(scope="module")
def page(browser: Browser) -> Page:
    """A page that waits for what it is to show."""
    context = browser.new_context(viewport={"width": 1500, "height": 700}, device_scale_factor=1)
    context.set_default_timeout(LOADED)
    expect.set_options(timeout=LOADED)
    # The assistant opens by itself, once, over what is to be seen.
    context.add_init_script("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
    return context.new_page()


@pytest.fixture
def picture(page: Page, pytestconfig: pytest.Config) -> Iterator[list[str]]:
    """Names to take pictures under, where they are asked for, of the page as a test leaves it."""
    names: list[str] = []
    yield names
    folder = pytestconfig.getoption("screenshots")
    for name in names if folder else ():
        page.mouse.move(0, 0)
        page.wait_for_timeout(2000)  # until nothing moves any more
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_the_table_shows_the_runs_with_their_figures_and_params(
    address: str, runs: Runs, page: Page, picture: list[str]
) -> None:
    page.goto(f"{address}/experiments/{runs[0].info.experiment_id}/runs?viewStateShareKey=all-runs")
    headings = page.get_by_role("columnheader")
    for name in ("test_accuracy", "best_val_accuracy", "parameters", "train_seconds", "model", "recipe", "dataset"):
        expect(headings.filter(has_text=re.compile(rf"^{name}$"))).to_be_visible()
    names = page.get_by_role("link", name=re.compile("· default$"))
    expect(names).to_have_count(2)
    best = sorted(runs, key=lambda run: -run.data.metrics["test_accuracy"])
    assert names.all_inner_texts() == [run.info.run_name for run in best]
    for run in runs:
        row = page.get_by_role("row").filter(has_text=f"{run.data.metrics['test_accuracy']}")
        expect(row).to_contain_text(f"{run.data.metrics['parameters']:.0f}")
        expect(row).to_contain_text(run.data.params["model"])
    picture.append("runs")


def test_two_runs_that_are_ticked_are_compared_with_their_curves(
    address: str, runs: Runs, page: Page, picture: list[str]
) -> None:
    page.goto(f"{address}/experiments/{runs[0].info.experiment_id}/runs?viewStateShareKey=all-runs")
    for run in runs:
        row = page.get_by_role("row").filter(has=page.get_by_role("link", name=run.info.run_name, exact=True))
        row.get_by_role("checkbox").first.check()
    page.get_by_role("button", name="Compare", exact=True).click()
    for run in runs:
        expect(page.get_by_role("link", name=run.info.run_id)).to_be_visible()
    expect(page.get_by_role("row", name="models.lenet5.padding")).to_contain_text("2")
    expect(page.get_by_role("row", name="models.mlp.dropout")).to_contain_text("0.0")

    # The table draws the rows in sight; the address of a metric further down differs in its name alone.
    first = page.get_by_role("link", name="best_val_accuracy", exact=True).get_attribute("href")
    assert first is not None
    link = first.replace("best_val_accuracy", "val_accuracy")
    page.goto(f"{address.removesuffix('#')}{link}")
    expect(page.get_by_role("heading", name="val_accuracy", level=2)).to_be_visible()
    chart = page.locator(".js-plotly-plot")
    expect(chart.locator(".scatterlayer .trace").first).to_be_attached()
    drawn = chart.evaluate("plot => plot.data.map(line => [line.name ?? '', [...(line.x ?? [])], [...(line.y ?? [])]])")
    for run in runs:
        expect(page.get_by_text(f"{run.info.run_name} (val_accuracy)")).to_be_visible()
        lines = [line[1:] for line in drawn if line[0].startswith(str(run.info.run_name))]
        assert lines  # the smoothed one, and that of the figures themselves
        for epochs, accuracies in lines:
            assert epochs == list(range(1, int(run.data.metrics["kept_epoch"]) + 1))
            assert accuracies[-1] == pytest.approx(run.data.metrics["val_accuracy"], rel=1e-3)
    picture.append("compare")


def test_a_figure_of_a_run_opens(address: str, runs: Runs, page: Page) -> None:
    run = runs[0].info
    page.goto(f"{address}/experiments/{run.experiment_id}/runs/{run.run_id}/artifacts/figures/confusion.png")
    image = page.get_by_role("img", name="figures/confusion.png")
    expect(image).to_be_visible()
    page.wait_for_function("image => image.naturalWidth > 300", arg=image.element_handle())


def test_the_page_of_a_run_says_what_it_is_and_where_it_fails(address: str, runs: Runs, page: Page) -> None:
    run = runs[0].info
    page.goto(f"{address}/experiments/{run.experiment_id}/runs/{run.run_id}")
    expect(page.get_by_role("heading", name=run.run_name)).to_be_visible()
    expect(page.get_by_text(f"mnistflow restore {run.run_id}")).to_be_visible()
    expect(page.get_by_text("Most often confused:")).to_be_visible()


def test_the_page_of_the_model_shows_its_signature(address: str, page: Page, picture: list[str]) -> None:
    page.goto(f"{address}/models/mnistflow/versions/1")
    for part in ("Inputs (1)", "Outputs (1)"):
        page.get_by_text(part, exact=True).click()
    expect(page.get_by_text("Tensor (dtype: uint8, shape: [-1,28,28])")).to_be_visible()
    expect(page.get_by_text("Tensor (dtype: float32, shape: [-1,10])")).to_be_visible()
    picture.append("model")
