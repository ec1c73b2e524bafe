"""The page of a running study: what it shows of trials that run and of those that have ended."""

import math
import re

import pandas as pd
import pytest

from analysis.report.live import Standing, build_live, spark_line

RUNS = {"would_stop": None, "stopped_by": None, "start_time": pd.Timestamp(0, tz="UTC"), "end_time": pd.NaT, "seed": 0}
RUNNING = RUNS | {"val_accs": [0.5, 0.6], "space.lr": 0.00123456, "outcome": None}
REACHED = RUNS | {"val_accs": [0.5, 0.93], "outcome": "reached", "end_time": pd.Timestamp(2, tz="UTC")}
PRUNED = REACHED | {
    "val_accs": [0.5, 0.4],
    "outcome": "pruned",
    "stop_reason": "too <b>slow</b>",
    "end_time": pd.Timestamp(3, tz="UTC"),
}


def page(study, *facts, **standing) -> str:
    return build_live("made", study, Standing("Running.", tuple(facts), **standing), "v1")


def section(html: str, key: str) -> str:
    return html.partition(f'<section id="{key}"')[2].partition("</section>")[0]


def cells(html: str, trial: int) -> list[str]:
    """The texts of a trial's row."""
    row = html.partition(f'<tr data-trial="{trial}">')[2].partition("</tr>")[0]
    return [re.sub("<[^>]*>", "", cell) for cell in re.findall("<t[hd].*?>(.*?)</t[hd]>", row, re.DOTALL)]


def test_a_trial_that_runs_has_its_epoch_value_curve_and_parameters(make_study):
    found = section(page(make_study(RUNNING, REACHED)), "running")
    assert cells(found, 0) == ["trial-0", "", "2 of 6", "0.6000", "", "lr 0.001235"]
    assert cells(found, 1) == []
    assert found.count("<svg") == 1


def test_a_trial_without_an_epoch_has_none_yet(make_study):
    assert cells(section(page(make_study(RUNNING | {"val_accs": []}, RUNNING)), "running"), 0)[2:5] == [
        "0 of 6",
        "-",
        "",
    ]


def test_a_trial_that_waits_does_not_run(make_study):
    assert "No trial runs now." in section(page(make_study(RUNNING), waiting=frozenset({0})), "running")


def test_those_that_ended_last_come_first_with_the_reason(make_study):
    found = section(page(make_study(RUNNING, REACHED, PRUNED)), "ended")
    assert cells(found, 1) == ["trial-1", "reached", "2", "0.9300", "reached 0.92 at epoch 2"]
    assert cells(found, 2) == ["trial-2", "pruned", "2", "0.5000", "too &lt;b&gt;slow&lt;/b&gt;"]
    assert re.findall('data-trial="(.)"', found) == ["2", "1"]


def test_while_none_has_ended_that_is_said(make_study):
    assert "No trial has ended yet." in section(page(make_study(RUNNING)), "ended")


def test_the_curves_of_all_trials_can_be_told_apart(make_study):
    found = section(page(make_study(RUNNING, REACHED, PRUNED)), "curves")
    assert set(re.findall('data-trial="(.)"', found)) == {"0", "1", "2"}


def test_the_table_has_all_trials(make_study):
    found = section(page(make_study(RUNNING, REACHED, PRUNED)), "results")
    assert {cells(found, trial)[0] for trial in range(3)} == {"trial-0", "trial-1", "trial-2"}


def test_what_the_study_says_of_itself_is_text(make_study):
    html = page(make_study(RUNNING), ("Time <left>", "5 min & `more`"), troubles=("Since <now> it is away.",))
    found = section(html, "standing")
    assert "<dt>Time &lt;left&gt;</dt><dd>5 min &amp; <code>more</code></dd>" in found
    assert "Since &lt;now&gt; it is away. It is tried again." in found


def test_a_page_of_a_study_that_runs_asks_its_server(make_study):
    html = page(make_study(RUNNING))
    assert '<html lang="en" data-version="v1">' in html
    assert "connect-src &#39;self&#39;" in html


def test_a_page_of_a_study_that_has_ended_is_its_report_and_asks_nobody(make_study):
    html = page(make_study(REACHED, PRUNED), ended=True)
    assert "data-version=" not in html.partition("<head>")[0]
    assert "connect-src &#39;none&#39;" in html
    assert "fetch(" not in html
    assert section(html, "protocol")
    assert "This page is not renewed any more" in section(html, "standing")


def test_it_goes_on_asking_where_something_could_not_be_read(make_study):
    assert 'data-version="v1"' in page(make_study(REACHED), ended=True, troubles=("The store is away.",))


def test_a_study_that_nothing_is_known_of_has_a_page():
    html = page(None, ("Trials", "to come: 4"))
    assert "to come: 4" in section(html, "standing")
    assert 'data-version="v1"' in html


def points(svg: str) -> list[tuple[float, float]]:
    return [tuple(map(float, point.split(","))) for point in re.search('points="(.*?)"', svg)[1].split()]


def test_a_small_curve_spans_its_schedule():
    (first, last) = points(spark_line([0.0, 1.0], 11, None))
    assert first == (3, 29)  # at the left, at the bottom
    assert last == (pytest.approx(3 + 154 / 10, abs=0.01), 3)


def test_a_small_curve_has_its_target_in_sight():
    svg = spark_line([0.1, 0.2], 4, 0.5)
    assert min(y for _, y in points(svg)) > 3
    assert 'class="aim" d="M3,3H157"' in svg


@pytest.mark.parametrize("values", [[], [math.nan], [math.inf, math.nan]])
def test_without_a_finite_value_there_is_no_small_curve(values):
    assert spark_line(values, 4, 0.5) == ""


def test_what_is_not_finite_is_left_out_of_a_small_curve():
    assert len(points(spark_line([0.1, math.nan, 0.3], math.nan, None))) == 2


def test_a_small_curve_of_one_value_is_a_dot_in_the_middle():
    assert points(spark_line([0.5], 1, None)) == [(3, 16)]
