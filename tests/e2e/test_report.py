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
    sizes = page.evaluate("[...document.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect().height)")
    assert len(sizes) >= 6
    assert min(sizes) > 100


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
@pytest.mark.parametrize(("media", "width"), [("screen", 1400), ("screen", 800), ("screen", 390), ("print", 688)])
def test_nothing_overflows_the_page(opened, media, width):
    page, _, _ = opened
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(media=media)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.fixture
def page(opened):
    """The report in a browser of its own, as wide as a laptop's."""
    fresh = opened[0].context.browser.new_page(viewport={"width": 1280, "height": 900})
    fresh.goto(opened[0].url)
    yield fresh
    fresh.close()


def highlighted(page):
    """The trials that are highlighted, and the sections in which they are."""
    return page.evaluate("""() => {
        const on = [...document.querySelectorAll('.on')];
        const all = of => [...new Set(on.map(of))];
        return [all(mark => mark.dataset.trial), all(mark => mark.closest('section').id)];
    }""")


def trial_named(page, number):
    return page.locator(f"#results tr[data-trial='{number}'] th").inner_text()


@in_browser
def test_a_trial_under_the_mouse_is_named_and_highlighted_in_all_figures_and_tables(page):
    dot = page.locator("#slices use[data-trial='0']").first
    dot.scroll_into_view_if_needed()
    dot.hover()
    trials, sections = highlighted(page)
    assert trials == ["0"]
    assert {"curves", "results", "parallel", "slices", "trials", "progress", "cost"} <= set(sections)
    told = page.locator("#tip").inner_text()
    assert told.startswith(f"trial {trial_named(page, 0)}: 0.2 at epoch ")
    assert re.search(r", best 0\.\d{4}; ", told)


@in_browser
def test_the_mouse_need_not_be_on_a_thin_curve_itself(page):
    curve = page.locator("#parallel path[data-trial='0']").first
    curve.scroll_into_view_if_needed()
    x, y = curve.evaluate("""curve => {
        const at = curve.getPointAtLength(curve.getTotalLength() * 0.1).matrixTransform(curve.getScreenCTM());
        return [at.x, at.y];
    }""")
    page.mouse.move(x, y + 5)
    assert highlighted(page)[0] == ["0"]
    page.mouse.move(2, 2)
    assert highlighted(page)[0] == []
    assert not page.locator("#tip").is_visible()


@in_browser
def test_a_click_keeps_a_trial_highlighted_until_it_is_given_up(page):
    row = page.locator("#results tr[data-trial='2']")
    row.click()
    page.mouse.move(2, 2)
    assert highlighted(page)[0] == ["2"]
    page.keyboard.press("Escape")
    assert highlighted(page)[0] == []


@in_browser
def test_arrow_keys_go_through_a_figures_trials_from_the_best(page):
    ranked = page.locator("main").get_attribute("data-order").split()
    page.locator("#parallel .drawing").focus()
    seen = []
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
        seen += highlighted(page)[0]
    drawn = page.evaluate("[...document.querySelectorAll('#parallel [data-trial]')].map(mark => mark.dataset.trial)")
    order = [number for number in ranked if number in drawn]
    assert seen == [order[0], order[1], order[0]]
    page.wait_for_selector("#tip:not(:empty)")
    assert page.locator("#tip").inner_text().startswith(f"trial {trial_named(page, order[0])}: ")


@in_browser
def test_arrow_keys_go_through_a_tables_rows(page):
    page.locator("#results .table").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    second = page.locator("#results tbody tr").nth(1).get_attribute("data-trial")
    assert highlighted(page)[0] == [second]


@in_browser
def test_the_keyboard_reaches_every_figure_table_and_header_once(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    reached = page.evaluate("document.querySelectorAll('a, button, [tabindex]').length")
    figures = page.locator("svg").count()
    tables = page.locator("table").count()
    headers = page.locator("th button").count()
    links = page.locator("a").count()
    assert reached == figures + tables + headers + links
    at = "document.activeElement.closest('section')?.id"
    sections = {page.evaluate(at) for _ in range(reached - 1) if page.keyboard.press("Tab") is None}
    stops = page.evaluate("[...document.querySelectorAll('[tabindex]')].map(box => box.closest('section').id)")
    assert sections - {None} == set(stops)
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def column(page, name):
    """The texts of a column of the table of trials, from top to bottom."""
    return page.evaluate(
        """name => {
        const table = document.querySelector('#results table');
        const heads = [...table.tHead.rows[0].cells].map(cell => cell.textContent);
        return [...table.tBodies[0].rows].map(row => row.cells[heads.indexOf(name)].textContent);
    }""",
        name,
    )


def rank(text):
    """Where a text of epochs to target belongs: >9 behind 9 and ahead of 10, and - at the end."""
    return float(text.removeprefix(">")) + 0.5 * text.startswith(">") if text != "-" else float("inf")


@in_browser
def test_the_table_sorts_by_a_header(page):
    header = page.locator("#results th", has_text=re.compile("^epochs_to_target$"))
    header.locator("button").press("Enter")
    rising = column(page, "epochs_to_target")
    assert rising == sorted(rising, key=rank)
    assert {text[0] for text in rising} >= {">", "-"}
    assert header.get_attribute("aria-sort") == "ascending"
    header.locator("button").press("Enter")
    falling = column(page, "epochs_to_target")
    known = [text for text in falling if text != "-"]
    assert falling == sorted(known, key=rank, reverse=True) + ["-"] * falling.count("-")
    assert header.get_attribute("aria-sort") == "descending"


@in_browser
def test_texts_sort_as_texts_and_one_column_is_sorted_at_a_time(page):
    page.locator("#results th", has_text="outcome").locator("button").click()
    outcomes = column(page, "outcome")
    assert outcomes == sorted(outcomes)
    page.locator("#results th", has_text=re.compile("^trial$")).locator("button").click()
    assert page.locator("#results th[aria-sort]").all_inner_texts() == ["trial"]


@in_browser
def test_on_a_dark_screen_it_is_dark_and_on_paper_white(page):
    def colours():
        return page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")

    light = colours()
    page.emulate_media(color_scheme="dark")
    assert light == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    assert colours() == ["rgb(21, 25, 29)", "rgb(245, 245, 242)"]
    tick = "getComputedStyle(document.querySelector('svg text').parentNode).fill"
    assert page.evaluate(tick) == "rgb(245, 245, 242)"
    page.emulate_media(color_scheme="dark", media="print")
    assert colours() == light


@in_browser
def test_on_a_phone_text_in_figures_is_ten_pixels_high_or_more(page):
    page.set_viewport_size({"width": 390, "height": 800})
    sizes = page.evaluate("""[...document.querySelectorAll('svg text')].map(text => {
        const { b, d } = text.getScreenCTM();  // an upright text is turned
        return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(b, d);
    })""")
    assert min(sizes) >= 9.9
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@in_browser
def test_without_scripts_it_can_be_read_and_names_its_trials(opened):
    context = opened[0].context.browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(opened[0].url)
    assert page.locator("#results tbody tr").count() == 6
    assert page.locator("th button").count() == 0
    assert "0.2 at epoch" in page.locator("#slices use[data-trial='0'] title").first.text_content()
    context.close()


@in_browser
def test_it_prints_on_paper_with_nothing_cut(page):
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 688, "height": 1000})  # A4 without its margins, in CSS pixels
    cut = page.evaluate("""[...document.querySelectorAll('svg, table, pre')].filter(
        box => box.getBoundingClientRect().right > innerWidth + 1).map(box => box.outerHTML.slice(0, 80))""")
    assert cut == []
    printed = page.pdf(format="A4", print_background=True)
    assert printed.startswith(b"%PDF-")
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type/Page/") + printed.count(b"/Type /Page ") >= 2


@in_browser
def test_its_images_have_labels_and_its_tables_captions_and_scopes(page):
    assert page.evaluate("[...document.querySelectorAll('svg')].every(s => s.role === 'img' && s.ariaLabel)")
    assert page.evaluate("[...document.querySelectorAll('table')].every(t => t.caption && t.caption.textContent)")
    assert page.evaluate("[...document.querySelectorAll('th')].every(th => th.scope === 'col' || th.scope === 'row')")


def test_a_file_of_another_kind_is_refused(sweeps, launched):
    done = sweeps("report", "space", "--home", launched.home, "--out", "report.pdf", code=2)
    assert "expected a name that ends in .html" in done.stderr
