"""The report, read as a browser reads it: its numbers, what it leaves out and why, and that it needs nothing else."""

import base64
import hashlib
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pandas as pd
import pytest

from analysis.report.document import BestNetwork, Reproduction, build_report
from analysis.report.page import Block
from analysis.statistics.estimates import share_reached
from analysis.tables.cost import build_cost
from analysis.tables.stopping import build_stopping, histories
from analysis.tables.summary import build_summary, readable
from analysis.tables.trials import build_table

CURVE = {"val_accs": [0.5, 0.93, 0.94], "outcome": "reached", "epoch_best": 3}
RAN = {"would_stop": None, "stopped_by": None, "start_time": pd.Timestamp(0, tz="UTC"), "end_time": pd.NaT, "seed": 0}
FAST = RAN | CURVE
SLOW = FAST | {"val_accs": [0.5, 0.6, 0.95], "seed": 1, "weight_decay": 0.1}
MISS = FAST | {"val_accs": [0.5, 0.6, 0.7], "outcome": "exhausted", "seed": 2, "weight_decay": 0.3}
PRUNED = MISS | {"outcome": "pruned", "stopped_by": "cap", "stop_reason": "stopped <b>", "would_stop": '{"cap": 3}'}
ENVIRONMENT = {"torch": "2.11.0", "device": "cpu"}
REPEAT = Reproduction('name = "made"\n', "sweeps launch made.toml", "The same trials run.")


class Read(HTMLParser):
    """A report taken apart: by section its text, its tables (rows of cells) and its images."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: dict[str, str] = {}
        self.tables: dict[str, list[list[list[str]]]] = {}
        self.images: dict[str, list[dict[str, str | None]]] = {}
        self.addresses: list[str] = []
        self.titles: list[str] = []
        self.open: list[str] = []
        self.section = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag != "use":  # of a shape in the figure
            self.addresses += [given[name] for name in ("src", "href", "data", "action") if given.get(name)]
        if tag == "section":
            self.section = given["id"]
            self.text[self.section], self.tables[self.section], self.images[self.section] = "", [], []
        if tag == "table":
            self.tables[self.section].append([])
        if tag == "tr":
            self.tables[self.section][-1].append([])
        if tag in ("td", "th"):
            self.tables[self.section][-1][-1].append("")
        if tag == "svg":
            self.images[self.section].append(given)
        if tag not in ("meta", "link", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """A shape of a figure."""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"{tag} closed in the wrong place"
        if tag == "section":
            self.section = ""

    def handle_data(self, data):
        if self.section:
            self.text[self.section] += data
            if self.open[-1] in ("td", "th"):
                self.tables[self.section][-1][-1][-1] += data
            if self.open[-1] == "h2":
                self.titles.append(data)

    def rows(self, section: str, place: int = 0) -> list[dict[str, str]]:
        head, *body = self.tables[section][place]
        return [dict(zip(head, row, strict=True)) for row in body]


@pytest.fixture
def drawn() -> None:
    """Asked for by a test that looks at images: to draw them takes three quarters of a report's time."""


@pytest.fixture(autouse=True)
def images(request, monkeypatch) -> str:
    """Whether figures are drawn, or made and not drawn."""
    if "drawn" in request.fixturenames:
        return "drawn"
    monkeypatch.setattr(
        "analysis.report.document.figure_block",
        lambda _, key, caption: Block("figure", f'<svg id="{key}"></svg>', caption),
    )
    return "not drawn"


@pytest.fixture(scope="module")
def made() -> dict[str, Read]:
    """Reports by what they were made of, each of which takes a while."""
    return {}


@pytest.fixture
def read(make_study, made, images):
    def read(*trials: dict, repeat: Reproduction | None = REPEAT, **changes) -> Read:
        key = repr((trials, repeat, changes, images))
        if key not in made:
            made[key] = Read(build_report(replace(make_study(*trials), **changes), repeat))
        return made[key]

    return read


def test_every_tag_is_closed_where_it_was_opened(read):
    assert read(SLOW, MISS, FAST).open == []


def test_the_trials_are_those_of_the_table(read, make_study):
    table = build_table(make_study(SLOW, MISS, FAST))
    rows = read(SLOW, MISS, FAST).rows("results")
    assert [row["trial"] for row in rows] == table["trial"].tolist()
    assert list(rows[0])[:2] == ["trial", "epochs_to_target"]


@pytest.mark.parametrize("name", ["val_acc", "val_acc_best", "final_val_loss"])
def test_accuracies_and_losses_are_those_of_the_table(read, make_study, name):
    table = build_table(make_study(SLOW, MISS, FAST))
    assert [row[name] for row in read(SLOW, MISS, FAST).rows("results")] == [f"{value:.4f}" for value in table[name]]


def test_what_differs_is_a_column_and_what_does_not_a_sentence(read):
    page = read(SLOW, MISS, FAST)
    assert {"weight_decay", "outcome"} <= set(page.rows("results")[0])
    assert "The same in all trials: shift = 0.07, l2 = 0, lr_alpha = 0.0012" in page.text["results"]


def test_the_table_of_a_study_of_many_settings_is_as_wide_as_a_page(read):
    many = [trial | {f"setting_{i}": i * number for i in range(1, 21)} for number, trial in enumerate((SLOW, FAST))]
    names = list(read(*many).rows("results")[0])
    assert (len(names), {"epochs_to_target", "outcome"} <= set(names)) == (13, True)


def test_epochs_to_target_are_those_of_the_table(read):
    assert [row["epochs_to_target"] for row in read(SLOW, MISS, FAST).rows("results")] == ["2", "3", ">3"]


def test_the_headline_names_the_best_trial(read):
    said = read(SLOW, MISS, FAST).text["headline"]
    assert "Trial trial-2 reached 0.92 at epoch 2 (sustained from epoch 2)." in said


@pytest.mark.parametrize(
    ("val_accs", "said"),
    [
        ([0.5, 0.93], "reached 0.92 at epoch 2 (whether that was sustained is not known: it ended there)."),
        ([0.5, 0.93, 0.91], "reached 0.92 at epoch 2 (not sustained in the 3 epochs that it ran)."),
    ],
)
def test_not_sustained_is_said_only_where_it_is_known(read, val_accs, said):
    assert said in read(FAST | {"val_accs": val_accs, "outcome": "reached"}).text["headline"]


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ([{"shift": 0.1}], "Exploratory: the best of 2 trials is flattered by having been chosen for its result."),
        ([], "Exploratory: 1 run of one configuration."),
        ([{"seed": 1}], "Exploratory: 2 runs of one configuration."),
    ],
)
def test_the_headline_of_a_search_says_what_is_exploratory_about_it(read, others, said):
    headline = read(FAST, *({**FAST, **other} for other in others)).text["headline"]
    assert said in headline
    assert ("flattered" in headline) == ("no chance of any one configuration" in headline) == ("best of" in said)


def test_the_headline_of_repeated_runs_is_their_share_and_median_with_intervals(read, make_study):
    trials = [FAST | {"seed": seed} for seed in range(3)]
    share = share_reached(3, 3)
    said = read(*trials, phase="confirm", confirms="made trial 7").text["headline"].split("\n")
    assert said[2].startswith(f"trial-0: 3 of 3 runs reached 0.92, a share of {share}; median 2 [1, ∞] epochs")
    assert "A confirmation of made trial 7: fresh seeds, nothing was pruned." in said


def test_the_headline_of_a_confirmation_has_its_accuracies(read):
    said = read(FAST | {"horizon": 3}, SLOW | {"horizon": 3}, phase="confirm").text["headline"]
    assert "Validation accuracy after the last epoch: 0.9450 ± 0.0071 (n = 2)" in said
    assert "Test accuracy" not in said


def test_the_headline_of_a_confirmation_has_the_test_accuracy_where_there_is_one(make_study):
    study = replace(make_study(FAST, SLOW), phase="confirm", split="held-out")
    study.epochs["test_acc"] = [float("nan"), float("nan"), 0.90, float("nan"), float("nan"), 0.92]
    said = Read(build_report(study)).text["headline"]
    assert "Test accuracy after the last epoch: 0.9100 ± 0.0141 (n = 2)." in said


def test_the_headline_of_single_runs_gives_the_share_with_its_interval(read):
    assert f"1 of 2 trials reached it, a share of {share_reached(1, 2)} (95" in read(FAST, MISS).text["headline"]


def test_statistics_are_those_of_the_summary(read, make_study):
    trials = FAST, FAST | {"seed": 1}, FAST | {"seed": 2, "val_accs": [0.1, 0.2, 0.3]}
    (row,) = readable(build_summary(make_study(*trials))).to_dict("records")
    (shown,) = read(*trials).rows("statistics")
    assert {name: shown[name] for name in ("share", "median", "restricted_mean")} == {
        name: row[name] for name in ("share", "median", "restricted_mean")
    }


def test_without_repeated_runs_statistics_are_left_out_with_the_reason(read):
    assert "Left out: no configuration has run more than once" in read(FAST).text["statistics"]


def test_importances_that_are_refused_are_left_out_with_the_reason(read):
    assert "Left out: study 'made' sampled no parameter" in read(FAST, MISS).text["importance"]


@pytest.mark.usefixtures("drawn")
def test_importances_are_those_of_the_table(read, make_study):
    sampled = [
        FAST | {"val_accs": [0.5, 0.9 - i / 100], "space.lr": 1e-3 * (i + 1), "space.shift": 0.01 * (i % 5)}
        for i in range(24)
    ]
    report = read(*sampled)
    assert [row["parameter"] for row in report.rows("importance")] == ["lr", "shift"]
    assert [image["role"] for image in report.images["importance"]] == ["img"]


def test_of_many_trials_the_best_are_listed(read):
    report = read(*[FAST | {"seed": seed} for seed in range(41)])
    assert len(report.rows("results")) == 40
    assert "The best 40 of 41" in report.text["results"]


def test_the_headline_says_where_no_trial_reached_the_target(read):
    assert "No trial reached 0.92; the best, trial-0, came to 0.7000 at epoch 3." in read(MISS).text["headline"]


def test_the_headline_says_where_no_trial_has_finished_an_epoch(read):
    assert "No trial has finished an epoch yet." in read(FAST | {"val_accs": [], "outcome": None}).text["headline"]


def test_the_headline_says_that_every_trial_crashed(read):
    crashed = FAST | {"outcome": "crashed", "stop_reason": "mlp.py, line 5: KeyError: 'x'"}
    assert "Every trial crashed: mlp.py, line 5: KeyError: 'x'; sweeps show" in read(crashed).text["headline"]


def test_the_headline_says_that_trials_still_run(read):
    said = "1 trials have not ended: these figures are of an unfinished study."
    assert said in read(FAST, MISS | {"outcome": None}).text["headline"]
    assert said not in read(FAST, MISS).text["headline"]


def test_the_headline_of_a_confirmation_that_has_no_ended_run_has_no_accuracies(read):
    said = read(FAST | {"outcome": None}, phase="confirm").text["headline"]
    assert "A confirmation of a frozen configuration" in said
    assert "Validation accuracy" not in said


@pytest.mark.parametrize(
    ("other", "said"), [({}, "yes: the validation images are the test set's"), ({"split": "held-out"}, "no")]
)
def test_the_protocol_says_whether_anything_was_chosen_on_the_test_set(read, other, said):
    rows = {row["setting"]: row["value"] for row in read(FAST | other, **other).rows("protocol")}
    assert rows["chosen on the test set"].startswith(said)


def test_what_stopping_saved_is_that_of_the_table_of_rules(read, make_study):
    rules = {"cap": "active"}
    built = build_stopping(histories(make_study(FAST, PRUNED)), 0.92, 5, rules)
    rows = read(FAST, PRUNED, stopping_rules=rules).rows("stopping")
    assert [row["epochs_saved"] for row in rows] == [str(value) for value in built["epochs_saved"]]


def test_without_a_rule_the_section_on_stopping_says_so(measured):
    assert "no stopping rule was on" in measured.text["stopping"]


def test_the_cost_is_that_of_the_table_of_costs(read, make_study):
    cost = build_cost(make_study(FAST, MISS))
    report = read(FAST, MISS)
    assert f"{cost['epochs_run'].sum()} epochs of training took 1 min" in report.text["cost"]
    assert [row["time_per_epoch"] for row in report.rows("cost")] == ["10 s", "10 s"]


def test_energy_that_was_not_measured_is_left_out_with_the_reason(read):
    report = read(FAST)
    assert "Energy is left out: not every epoch has a power reading" in report.text["cost"]
    assert "energy_wh" not in report.rows("cost")[0]


@pytest.mark.parametrize(("seconds", "said"), [(1800, "30 min"), (9000, "2.5 h")])
def test_the_cost_has_the_time_from_the_first_start_to_the_last_end(read, seconds, said):
    study = read(FAST | {"end_time": pd.Timestamp(seconds, unit="s", tz="UTC")})
    assert f", within {said} from the first trial's start to the last's end." in study.text["cost"]


@pytest.fixture
def measured(read):
    """The report of four runs on a machine that is known, with power readings and without rules."""
    trials = [FAST | {"seed": seed, "power_watts": [100.0] * 3} for seed in (0, 1, 2, 7)]
    return read(*trials, environment=ENVIRONMENT, stopping_rules={})


def test_energy_that_was_measured_is_added_up(measured):
    assert "and 0.00333 kWh" in measured.text["cost"]


def test_the_environment_is_the_stores(measured):
    assert {row["what"]: row["value"] for row in measured.rows("environment")} == ENVIRONMENT


def test_the_study_file_is_there_as_it_is(read):
    assert 'name = "made"\n' in read(FAST).text["repeat"]


def test_the_seeds_are_told(measured):
    assert "Seeds of the trials: 0-2, 7." in measured.text["repeat"]


def test_without_the_ledger_how_to_repeat_it_is_left_out_with_the_reason(read):
    assert "Left out: the ledger that holds the study file is not here." in read(FAST, repeat=None).text["repeat"]


def test_a_study_without_a_trial_has_a_report_that_says_so(read):
    report = read()
    assert report.text["headline"].split("\n")[2] == "No trial has run yet."
    assert not any(report.images.values())


@pytest.mark.usefixtures("drawn")
def test_figures_are_inside_the_file(read):
    images = [image for images in read(SLOW, MISS, FAST).images.values() for image in images]
    assert len(images) >= 2
    assert all(image["role"] == "img" and image["aria-label"] for image in images)


@pytest.mark.usefixtures("drawn")
def test_no_id_is_given_twice(make_study):
    ids = re.findall(r' id="([^"]+)"', build_report(make_study(SLOW, MISS, FAST)))
    assert len(ids) == len(set(ids)) > 20


def test_the_rows_of_trials_have_their_numbers(make_study):
    html = build_report(make_study(SLOW, MISS, FAST))
    (order,) = re.findall('<main id="content" data-order="([^"]*)">', html)
    rows = re.findall(r'<tr data-trial="(\d+)"><th scope="row" class="text">(trial-\d)</th>', html)
    assert order == "2 0 1"
    assert rows[:3] == [("2", "trial-2"), ("0", "trial-0"), ("1", "trial-1")]


def test_the_script_is_the_one_that_the_policy_allows(make_study):
    html = unescape(build_report(make_study(FAST)))
    (script,) = re.findall("<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'; connect-src 'none'" in html


def test_the_legend_names_published_runs_and_the_best_trials(make_study):
    schedules = ["[1e-3, 0] cos[1e-5, 30]", "[8e-4, 0] lin[1e-3, 12] cos[1e-5, 20]"]
    published = pd.DataFrame(
        {"run": [7, 33], "epoch": [30, 19], "val_acc": [0.92, 0.92], "schedule": schedules, "epochs_to_092": [30, 19]}
    )
    report = Read(build_report(make_study(FAST), published=published))
    assert "Diamonds: 2 published runs" in report.text["curves"]


@pytest.mark.usefixtures("drawn")
def test_nothing_outside_of_the_file_is_named(read):
    assert all(re.match("data:|#", address) for address in read(SLOW, MISS, FAST).addresses)


def test_the_contents_name_every_section(read):
    report = read(SLOW, MISS, FAST)
    skip, *named = [address.removeprefix("#") for address in report.addresses if address.startswith("#")]
    assert (skip, named) == ("content", list(report.text))


def test_of_single_mistakes_none_is_the_most_frequent(make_study):
    network = BestNetwork("trial-0", 3, ("cat", "dog"), ((8, 1), (1, 9)))
    assert "Most often" not in Read(build_report(make_study(FAST), network=network)).text["network"]


def test_the_best_networks_confusions_are_told_and_drawn(make_study):
    network = BestNetwork("trial-0", 3, ("cat", "dog", "frog"), ((8, 2, 0), (1, 9, 0), (5, 0, 5)))
    report = Read(build_report(make_study(FAST), network=network))
    said = report.text["network"]
    assert "Trial trial-0 after epoch 3: 22 of 30 validation images right." in said
    assert "Most often taken for another: frog for cat, 5 times." in said
    assert len(report.images["network"]) == 1


def test_without_a_kept_network_its_confusions_are_left_out_with_the_reason(read):
    assert "Left out: no kept network says how often which class was taken for which." in read(FAST).text["network"]


def test_commands_in_sentences_are_set_as_code(make_study):
    html = build_report(make_study(SLOW, FAST), REPEAT)
    assert "<code>sweeps confirm" in html
    assert "`" not in html.partition("<script>")[0]


def test_what_a_study_file_says_cannot_become_html(make_study):
    study = replace(make_study(FAST | {"trial": "<i>x</i>"}), description="<script>alert(1)</script>")
    html = build_report(study, Reproduction("<b>", "<u>"))
    assert html.count("<script") == 1
    assert not re.search("<i>|<b>|<u>", html)


@pytest.mark.usefixtures("drawn")
def test_the_same_study_makes_the_same_file(make_study):
    made = pd.Timestamp(0, tz="UTC").to_pydatetime()
    first, second = (build_report(make_study(FAST, MISS), REPEAT, made=made) for _ in range(2))
    assert first == second
