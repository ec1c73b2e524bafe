"""The report of a study that was launched, as the command writes it and a browser opens it."""

import html
import re
import shutil
import tomllib

import pytest

import analysis
from search_spaces.study import load_study, study_hash

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def in_browser(test):
    needs = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
    return pytest.mark.browser(needs(test))


@pytest.fixture(scope="module")
def report(sweeps, launched, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "space.html"
    assert sweeps("report", "space", "--home", launched.home, "--out", path).stdout.strip() == str(path)
    return path


@pytest.fixture(scope="module")
def opened(report):
    """The report in a browser, the addresses that it asked for, and what its console said."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        asked, said = [], []
        page.on("console", lambda message: said.append(message.text))

        def refuse(route):
            if route.request.url.startswith("data:") or route.request.url == report.as_uri():
                route.continue_()
            else:
                asked.append(route.request.url)
                route.abort()

        page.route("**/*", refuse)
        page.goto(report.as_uri(), wait_until="load")
        yield page, asked, said
        browser.close()


def test_its_study_file_asks_what_was_asked(report, launched, tmp_path):
    blocks = [
        html.unescape(text) for text in re.findall("<pre><code>(.*?)</code></pre>", report.read_text(), re.DOTALL)
    ]
    (text,) = [block for block in blocks if "[train]" in block]
    assert tomllib.loads(text)["name"] == "space"
    path = tmp_path / "space.toml"
    path.write_text(text)
    assert study_hash(load_study(path)) == study_hash(load_study(launched.file))


@in_browser
def test_it_asks_for_nothing_outside_of_itself(opened):
    _, asked, said = opened
    assert (asked, said) == ([], [])


@in_browser
def test_its_figures_are_shown(opened):
    page, _, _ = opened
    widths = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth)")
    assert widths
    assert all(widths)


@in_browser
def test_its_rows_are_those_of_the_table(opened, launched):
    page, _, _ = opened
    rows = page.evaluate(
        "[...document.querySelectorAll('#results tbody tr')].map(row => [...row.cells].map(cell => cell.innerText))"
    )
    table = analysis.build_table(analysis.load(launched.home / "mlflow.db", "space"))
    assert [row[0] for row in rows] == table["trial"].tolist()
    assert [row[-1] for row in rows] == table["outcome"].tolist()


@in_browser
@pytest.mark.parametrize(("media", "width"), [("screen", 1280), ("screen", 600), ("print", 688)])
def test_nothing_overflows_the_page(opened, media, width):
    page, _, _ = opened
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(media=media)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_file_of_another_kind_is_refused(sweeps, launched):
    done = sweeps("report", "space", "--home", launched.home, "--out", "report.pdf", code=2)
    assert "expected a name that ends in .html" in done.stderr
