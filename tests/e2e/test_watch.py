"""The page of a running study, as a browser shows it."""

import re
import shutil
import signal
import time

import psutil
import pytest

from tests.e2e.conftest import LONG, TRAIN
from tests.ports import free_port

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# More epochs than any test waits for, of a few hundredths of a second each.
ENDLESS = f"""
name = "endless"
description = "How long <b>this</b> takes"
[train]
{TRAIN.replace("train_limit = 100", "train_limit = 40").replace("val_limit = 50", "val_limit = 20")}
optimizer = "adamw"
schedule = "[lr, 0] lin[1e-5, +length]"
[space]
lr = {{ choices = [5e-3, 1e-3, 1e30] }}
length = {{ choices = [2, 3000] }}
[objective]
target = 0.99
[search]
trials = 4
sampler = "random"
first = [
  {{ lr = 5e-3, length = 2 }},
  {{ lr = 1e30, length = 2 }},
  {{ lr = 1e-3, length = 2 }},
  {{ lr = 5e-3, length = 3000 }},
]
"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Open a page; what its console says is in ``page.said``."""
    opened = []

    def open_page(address, **options):
        page = browser.new_page(viewport={"width": 1000, "height": 700}, **options)
        opened.append(page)
        page.set_default_timeout(LONG * 1000 / 2)
        page.said = []
        page.on("console", lambda message: page.said.append(message.text))
        page.goto(address)
        return page

    yield open_page
    for page in opened:
        page.close()


@pytest.fixture(scope="module")
def endless(sweeps, tmp_path_factory):
    """The home of a study that runs, with three trials that have ended and one that does not end."""
    folder = tmp_path_factory.mktemp("endless")
    (folder / "endless.toml").write_text(ENDLESS)
    running = sweeps.start("launch", folder / "endless.toml", "--home", folder / "home")
    running.until(lambda run: "trial 2: exhausted" in run.stderr and ("3", 1) in run.epochs)
    yield folder / "home"
    running.kill()


def start(sweeps, home, *arguments, port=0, name="endless"):
    """Start to serve a study; returns the command, and the address that it prints."""
    running = sweeps.start("watch", name, "--home", home, "--port", port, *arguments)
    running.until(lambda run: "Ctrl-C ends it" in run.stderr)
    return running, running.stdout.strip()


@pytest.fixture(scope="module")
def address(sweeps, endless):
    running, address = start(sweeps, endless)
    yield address
    running.kill()


def version(page):
    return page.evaluate("document.documentElement.dataset.version")


def until_renewed(page, before=None):
    """Wait until the page has another version than it has now, or than this one."""
    page.wait_for_function("before => document.documentElement.dataset.version !== before", arg=before or version(page))


def epoch(page):
    """The epoch at which the trial that runs is shown to be."""
    return int(page.inner_text("#running tr[data-trial='3'] td:nth-of-type(2)").split(" of ")[0])


def test_the_curves_grow_without_a_reload(open_page, address):
    page = open_page(address)
    page.evaluate("window.here = true")
    before = epoch(page)
    drawn = "document.querySelector('#running .spark polyline').getAttribute('points').split(' ').length"
    points = page.evaluate(drawn)
    for _ in range(2):
        until_renewed(page)
    assert epoch(page) > before
    assert page.evaluate(drawn) > points
    assert page.evaluate("window.here")
    assert page.said == []


def test_it_says_what_runs_what_ended_and_what_is_to_come(open_page, address):
    page = open_page(address)
    assert page.inner_text("#standing p").startswith("Running on ")
    facts = page.inner_text("#standing dl")
    assert "ended: 2 exhausted, 1 diverged · running: 1 · to come: 0" in facts
    assert re.search(r"Time left\s+about \S+ \w+: \d+ epochs of 1 running trial at", facts)
    rows = page.locator("#ended tbody tr").all_inner_texts()
    assert sorted(row.split()[0] for row in rows) == ["0", "1", "2"]
    (diverged,) = [row for row in rows if row.startswith("1")]
    assert "not finite" in diverged or "diverged" in diverged


def test_a_description_is_text(open_page, address):
    assert open_page(address).inner_text(".question") == "How long <b>this</b> takes"


def test_what_the_reader_does_survives_a_renewal(open_page, address):
    page = open_page(address)
    page.set_viewport_size({"width": 390, "height": 700})
    row = page.locator("#results tr[data-trial='2']")
    row.click()
    header = page.locator("#results th button").nth(0)
    header.click()
    header.click()
    order = page.evaluate("[...document.querySelectorAll('#results tbody tr')].map(row => row.dataset.trial)")
    assert order == ["3", "2", "1", "0"] or order == sorted(order, reverse=True)
    page.evaluate("document.querySelector('#results .table').scrollLeft = 40")
    top = row.bounding_box()["y"]
    until_renewed(page)
    on = page.evaluate("[...new Set([...document.querySelectorAll('.on')].map(mark => mark.dataset.trial))]")
    assert on == ["2"]
    assert page.evaluate("document.querySelector('#results th').getAttribute('aria-sort')") == "descending"
    again = page.evaluate("[...document.querySelectorAll('#results tbody tr')].map(row => row.dataset.trial)")
    assert again == order
    assert page.evaluate("document.querySelector('#results .table').scrollLeft") == 40
    assert page.evaluate("document.activeElement.closest('th')?.cellIndex") == 0
    assert row.bounding_box()["y"] == pytest.approx(top, abs=1)


def test_selected_text_stays_selected(open_page, address):
    page = open_page(address)
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#standing dd'))")
    said = page.evaluate("getSelection().toString()")
    shown = page.inner_text("#running")
    page.wait_for_function("before => document.querySelector('#running').innerText !== before", arg=shown)
    assert page.evaluate("getSelection().toString()") == said
    page.evaluate("getSelection().removeAllRanges()")
    until_renewed(page)


def test_a_page_that_is_hidden_asks_for_nothing(open_page, address):
    page = open_page("about:blank")
    page.clock.install()
    page.goto(address)
    page.evaluate("Object.defineProperty(document, 'hidden', { get: () => window.away, configurable: true })")
    page.evaluate("window.away = true")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.fast_forward(600_000)
    page.clock.fast_forward(600_000)
    assert asked == []
    with page.expect_response(f"{address}/"):
        page.evaluate("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")


def test_twenty_pages_see_the_same_and_cost_as_one(open_page, address):
    begun = time.monotonic()
    pages = [open_page(address) for _ in range(20)]
    shown = [version(page) for page in pages]
    first = int(shown[0].rpartition("-")[2])
    for page, before in zip(pages, shown, strict=True):
        until_renewed(page, before)
    last = max(int(version(page).rpartition("-")[2]) for page in pages)
    assert last - first <= (time.monotonic() - begun) / 2 + 1


def test_the_full_report_is_a_link_away(open_page, address):
    page = open_page(address)
    page.get_by_role("link", name="The full report").click()
    page.get_by_role("heading", name="How to repeat it").wait_for()
    assert page.said == []


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (800, "dark"), (390, "light"), (390, "dark")])
def test_nothing_overflows_the_page(open_page, address, width, scheme, tmp_path):
    page = open_page(address, color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_server_that_has_ended_is_told_of_until_it_is_back(sweeps, endless, open_page):
    port = free_port()
    running, address = start(sweeps, endless, port=port)
    assert address == f"http://127.0.0.1:{port}"
    page = open_page(address)
    shown = epoch(page)
    running.signal(signal.SIGINT)
    done = running.wait()
    assert (done.code, done.stdout, done.stderr) == (0, f"{address}\n", "Ctrl-C ends it\n")
    notice = page.locator("#connection")
    notice.wait_for(state="visible")
    assert notice.inner_text().startswith("No longer connected since ")
    assert epoch(page) >= shown  # what was there can still be read
    before = version(page)
    again, _ = start(sweeps, endless, port=port)
    notice.wait_for(state="hidden")
    assert version(page) != before
    again.kill()


def test_it_listens_on_this_machine_alone_and_at_a_low_priority(sweeps, endless):
    running, _ = start(sweeps, endless)
    (process,) = [one for one in running.family() if one.pid == running.pid]
    listening = [
        connection.laddr.ip for connection in process.net_connections() if connection.status == psutil.CONN_LISTEN
    ]
    assert listening == ["127.0.0.1"]
    assert process.nice() >= 10
    running.kill()


def test_of_a_study_that_has_ended_the_report_is_shown_and_nothing_more_is_asked(sweeps, launched, open_page):
    running, address = start(sweeps, launched.home, name="space")
    page = open_page("about:blank")
    page.clock.install()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    assert page.inner_text("#standing p").startswith("Complete: all its trials have ended.")
    page.get_by_role("heading", name="How to repeat it").wait_for()
    page.clock.fast_forward(600_000)
    assert asked == [f"{address}/"]
    running.kill()


def test_a_study_that_ends_while_it_is_watched_turns_into_its_report(sweeps, studies, cluster, home, open_page):
    launching = sweeps.start("launch", studies.listed, "--home", home, on=cluster)
    launching.until(lambda run: run.epochs)
    running, address = start(sweeps, home, name="listed")
    page = open_page(address)
    page.get_by_role("heading", name="How to repeat it").wait_for()
    assert page.inner_text("#standing p").startswith("Complete")
    assert version(page) == ""
    assert launching.wait().code == 0
    running.kill()
