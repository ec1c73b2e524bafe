"""MLflow's UI on a study that was launched, as people see it in a browser."""

import json
import shutil
import time
import urllib.request
from urllib.error import URLError
from urllib.parse import quote

import psutil
import pytest

from tests.ports import free_port

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def ui(sweeps, launched):
    """The address of the UI, and the processes that serve it."""
    others = {"MLFLOW_STATIC_PREFIX": "/prefix", "MLFLOW_SERVER_ALLOWED_HOSTS": "elsewhere"}
    port = free_port()
    running = sweeps.start("ui", "--port", port, "--home", launched.home, env=others)
    address = f"http://127.0.0.1:{port}"
    running.until(lambda _: _answers(f"{address}/health"))
    running.until(lambda _: f"MLflow's UI: {address} (Ctrl-C ends it)" in running.stderr)
    running.until(lambda _: "study space: " in running.stderr)
    yield address, running
    running.clean_up()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200
    except (URLError, OSError):
        time.sleep(0.2)
        return False


@pytest.fixture(scope="module")
def page(ui):
    """A page of a browser that reaches nothing but the UI."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        opened = browser.new_page(viewport={"width": 1800, "height": 1000})
        opened.set_default_timeout(300_000)
        yield opened
        browser.close()


@pytest.fixture
def runs(ui, page, launched):
    """Open the study's runs, with these options in the address."""

    def go(**options: str) -> None:
        page.goto("about:blank")
        # MLflow's other face, for agents, knows nothing of training.
        options = {"workflowType": "machine_learning", **options}
        text = "&".join(f"{key}={quote(value)}" for key, value in options.items())
        page.goto(f"{ui[0]}/#/experiments/{launched.store.experiment.experiment_id}/runs?{text}")
        page.wait_for_selector(".ag-row a")

    return go


def _names(page) -> list[str]:
    return [link.inner_text().strip() for link in page.query_selector_all(".ag-row a[href*='/runs/']")]


def test_it_listens_on_this_machine_alone(ui):
    _, running = ui
    listening = [
        connection.laddr.ip
        for process in running.family()
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert set(listening) == {"127.0.0.1"}


def test_the_address_that_it_prints_shows_a_curve_of_every_trial(ui, page, launched):
    _, running = ui
    page.goto(running.stderr.rpartition("study space: ")[2].split()[0])
    data = "Array.from(document.querySelectorAll('.js-plotly-plot')).flatMap(plot => plot.data ?? [])"
    lines = f"{data}.filter(line => line.type == 'scatter')"
    ran = [name for name, run in launched.store.trials.items() if run.data.metrics.get("epochs_run")]
    page.wait_for_function(f"new Set({lines}.map(line => line.name)).size == {len(ran)}")
    assert set(page.evaluate(f"{lines}.map(line => line.name)")) == set(ran)


def test_the_charts_begin_with_the_curves_under_their_target(ui, page):
    _, running = ui
    page.goto("about:blank")
    page.goto(running.stderr.rpartition("study space: ")[2].split()[0])
    page.wait_for_selector("text=Target: val_acc 0.2")
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot').length >= 2")
    kinds = "Array.from(document.querySelectorAll('.js-plotly-plot')).map(plot => plot.data?.[0]?.type)"
    page.wait_for_function(f"{kinds}.slice(0, 2).join() == 'scatter,bar'")


def test_trials_lie_under_their_study(page, runs, tmp_path):
    runs(orderByKey="attributes.start_time", orderByAsc="false")
    assert _names(page) == ["space"]
    page.locator(".ag-row", has=page.locator("a")).first.locator("button").first.click()
    page.wait_for_function("document.querySelectorAll(\".ag-row a[href*='/runs/']\").length == 7")
    assert sorted(_names(page)[1:]) == list("012345")
    assert _names(page)[0] == "space"
    page.screenshot(path=tmp_path / "nested.png")


def test_trials_can_be_sorted_by_epochs_to_target(page, runs, launched, tmp_path):
    runs(orderByKey="metrics.`epochs_to_target`", orderByAsc="true")
    reached = {
        name: run.data.metrics["epochs_to_target"]
        for name, run in launched.store.trials.items()
        if "epochs_to_target" in run.data.metrics
    }
    shown = [name for name in _names(page) if name in reached]
    assert [reached[name] for name in shown] == sorted(reached.values())
    assert _names(page)[: len(reached)] == shown
    page.get_by_role("button", name="Columns").first.click()
    page.get_by_text("epochs_to_target", exact=True).last.click()
    page.keyboard.press("Escape")
    column = "[col-id='metrics.`epochs_to_target`']"
    page.wait_for_selector(f".ag-header-cell{column}")
    cells = [cell.inner_text() for cell in page.query_selector_all(f".ag-cell{column}")]
    assert cells == [f"{reached[name]:g}" for name in shown] + ["-"] * (7 - len(shown))
    page.screenshot(path=tmp_path / "sorted.png")


def test_three_trials_are_compared(page, runs, tmp_path):
    runs(orderByKey="metrics.`epochs_to_target`", orderByAsc="true")
    for name in "013":
        row = page.locator(".ag-row", has=page.locator(f"span:text-is('{name}')")).first
        row.locator("input.ag-checkbox-input").click()
    page.get_by_role("button", name="Compare").first.click()
    page.get_by_text("Comparing 3 Runs from 1 Experiment").first.wait_for()
    page.get_by_text("lr_alpha").first.wait_for()
    page.screenshot(path=tmp_path / "compared.png", full_page=True)


def test_a_view_with_the_columns_that_tell_trials_apart_is_a_click_away(page, runs, launched, tmp_path):
    page.set_viewport_size({"width": 3000, "height": 900})  # the table has no cells for columns that are out of sight
    runs()
    page.get_by_role("button", name="Views").first.click()
    page.get_by_role("menuitem", name="Epochs to target").first.click()
    page.wait_for_selector(".ag-header-cell[col-id='metrics.`best_val_acc`']")
    shown = {cell.get_attribute("col-id") for cell in page.query_selector_all(".ag-header-cell")}
    assert {"metrics.`epochs_to_target`", "params.`weight_decay`", "params.`space.decay`", "tags.`outcome`"} <= shown
    page.wait_for_function("document.querySelectorAll(\".ag-row a[href*='/runs/']\").length == 6")
    best = min(
        (run.data.metrics["epochs_to_target"], name)
        for name, run in launched.store.trials.items()
        if "epochs_to_target" in run.data.metrics
    )
    # Rows that were there before keep their place in the document: what is on top has the first index.
    page.locator(f".ag-row[row-index='0'] span:text-is('{best[1]}')").first.wait_for()
    page.screenshot(path=tmp_path / "view.png")


def test_the_studys_run_shows_its_question_and_its_trials(ui, page, launched, tmp_path):
    (parent,) = launched.store.launches
    page.goto(f"{ui[0]}/#/experiments/{parent.info.experiment_id}/runs/{parent.info.run_id}")
    page.get_by_text("How a ResNet11v2 comes to know a handful of digits").first.wait_for()
    page.get_by_text("6 trials ended").first.wait_for()
    page.locator("td", has_text="reached").first.wait_for()
    page.screenshot(path=tmp_path / "note.png", full_page=True)


def test_the_report_opens_in_the_ui(ui, page, launched, tmp_path):
    (parent,) = launched.store.launches
    page.goto(f"{ui[0]}/#/experiments/{parent.info.experiment_id}/runs/{parent.info.run_id}/artifacts/report.html")
    page.frame_locator("iframe").get_by_text("How to repeat it").first.wait_for()
    page.screenshot(path=tmp_path / "report.png")


def test_the_best_trials_have_their_curves(launched):
    client, trials = launched.store.client, launched.store.trials
    ran = [run for run in trials.values() if run.data.metrics.get("epochs_run")]
    assert {file.path for run in ran for file in client.list_artifacts(run.info.run_id)} == {"curves.png"}


def test_curves_of_three_trials_are_drawn(ui, page, launched, tmp_path):
    trials, experiment = launched.store.trials, launched.store.experiment.experiment_id
    ids = quote(json.dumps([trials[name].info.run_id for name in "013"]))
    experiments, metric, metrics = quote(json.dumps([experiment])), quote('"val_acc"'), quote('["val_acc"]')
    page.goto(
        f"{ui[0]}/#/metric?runs={ids}&metric={metric}&experiments={experiments}&plot_metric_keys={metrics}&x_axis=step"
    )
    for name in "013":
        page.get_by_text(f"{name} (val_acc)").first.wait_for()
    lines = "Array.from(document.querySelector('.js-plotly-plot')?.data ?? []).map(line => Array.from(line.y ?? []))"
    page.wait_for_function(f"{lines}.filter(y => y.length).length >= 3")
    drawn = page.evaluate(lines)
    curves = launched.store.curves()
    assert all(curves[name]["val_acc"] in drawn for name in "013")
    page.screenshot(path=tmp_path / "curves.png")
