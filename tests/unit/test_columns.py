"""The columns of the table of results: those of every study, and those that a study adds."""

import csv
import io
import json
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.tables.columns import ALWAYS, RESULTS, SETTING, SETTINGS, Kind, column_named, most_important
from analysis.tables.rendering import render
from analysis.tables.trials import COLUMNS, build_table

REACHED = {"val_accs": [0.5, 0.93], "outcome": "reached"}
SAMPLED = (
    REACHED | {"space.warmup": 1, "space.decay": 8, "space.weight_decay": 0.1, "weight_decay": 0.1, "shift": 0.07},
    REACHED | {"space.warmup": 2, "space.decay": 8, "space.weight_decay": 0.2, "weight_decay": 0.2, "shift": 0.07},
)


def added(table: pd.DataFrame) -> list[str]:
    return [name for name in table if name not in COLUMNS]


def header(text: str) -> list[str]:
    return text.splitlines()[0].split()


# What a study adds


def test_every_sampled_parameter_is_a_column_ahead_of_the_schedule(make_study):
    names = list(build_table(make_study(*SAMPLED)))
    assert names[names.index("lr_alpha") :][:4] == ["lr_alpha", "warmup", "decay", "schedule"]


def test_the_published_columns_keep_their_order(make_study):
    assert tuple(name for name in build_table(make_study(*SAMPLED)) if name in COLUMNS) == COLUMNS


def test_a_sampled_parameter_has_its_values(make_study):
    assert build_table(make_study(*SAMPLED))["warmup"].tolist() == [1, 2]


def test_sampled_parameters_come_in_the_order_of_the_space(make_study):
    study = replace(make_study(*SAMPLED), space={"decay": {}, "weight_decay": {}, "warmup": {}})
    assert added(build_table(study)) == ["decay", "warmup"]


def test_a_sampled_field_that_has_a_column_is_not_added_again(make_study):
    table = build_table(make_study(*SAMPLED))
    assert "space.weight_decay" not in table
    assert "weight_decay" in table.attrs["sampled"]


NAMES = st.sampled_from(
    [*COLUMNS, "batch_size", "optimizer", "momentum", "cutout", "warmup", "plateau", "seed", "hours"]
)
VALUES = st.one_of(
    *(st.lists(some, min_size=3, max_size=3) for some in (st.integers(0, 9), st.floats(0, 1), st.sampled_from("abc")))
)


@pytest.mark.parametrize("style", ["text", "markdown", "latex", "html", "csv", "json"])
@given(space=st.dictionaries(NAMES, VALUES.filter(lambda values: len(set(map(str, values))) > 1), min_size=1))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_every_sampled_parameter_that_varies_is_in_the_table(make_study, style, space):
    """Whatever its name is, also that of a result."""
    trials = [REACHED | {f"space.{name}": values[i] for name, values in space.items()} for i in range(3)]
    table = build_table(replace(make_study(*trials), space={key: {} for key in space}))
    for name, values in space.items():
        held = [table[column].tolist() for column in (f"space.{name}", name) if column in table]
        assert values == held[0]
    text = render(table, style).replace("\\_", "_").replace("<wbr>", "")
    assert all(name in text for name in space)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_sampled_parameter_without_room_is_said_to_be_left_out(make_study, width):
    space = [f"parameter_{i}" for i in range(12)]
    trials = [REACHED | {f"space.{name}": i + place for place, name in enumerate(space)} for i in range(2)]
    text = render(build_table(make_study(*trials)), "text", width=width)
    said = text.splitlines()[0].split() + text.partition("Left out to fit the width: ")[2].rstrip(".\n").split(", ")
    assert set(space) <= set(said)


def test_a_schedules_parameter_of_a_columns_name_stands_beside_that_column(make_study):
    trials = [REACHED | {"space.lr_alpha": 6e-4, "lr_alpha": 1.2e-3}] * 2
    assert build_table(make_study(*trials))["space.lr_alpha"].tolist() == [6e-4, 6e-4]


def test_a_schedules_parameter_wins_over_a_field_of_its_name(make_study):
    trials = [REACHED | {"space.momentum": value, "momentum": 0.9} for value in (0.8, 0.95)]
    assert build_table(make_study(*trials))["momentum"].tolist() == [0.8, 0.95]


def test_a_setting_in_which_trials_differ_is_a_column(make_study):
    assert added(build_table(make_study(REACHED, REACHED | {"batch_size": 128}))) == ["batch_size"]


def test_a_setting_that_some_trials_lack_makes_no_difference(make_study):
    assert added(build_table(make_study(REACHED, REACHED | {"flip": True}))) == []


def test_a_crashed_trial_makes_no_difference(make_study):
    crashed = {"val_accs": [], "outcome": "crashed", "batch_size": 128}
    assert added(build_table(make_study(REACHED, REACHED, crashed))) == []


@pytest.mark.parametrize(("extra", "names"), [({}, ["seed"]), ({"space.lr": 1e-3}, ["lr"])])
def test_a_seed_is_a_column_where_runs_are_listed(make_study, extra, names):
    trials = [REACHED | {"seed": seed} | extra for seed in (1, 2)]
    assert added(build_table(make_study(*trials))) == names


@pytest.mark.parametrize(
    ("values", "dtype"),
    [((1, 2), "Int64"), ((1, 2.5), "float64"), (("a", 2), "object"), ((True, False), "object")],
)
def test_a_setting_keeps_the_kind_of_its_values(make_study, values, dtype):
    table = build_table(make_study(*(REACHED | {"setting": value} for value in values)))
    assert (table["setting"].dtype, table["setting"].tolist()) == (dtype, list(values))


# What is the same in all trials


def test_people_read_once_what_is_the_same_in_all_trials(make_study):
    text = render(build_table(make_study(*SAMPLED)), "text")
    assert "\nThe same in all trials: shift = 0.07, l2 = 0, lr_alpha = 0.0012, schedule = [1e-3, 0] lin" in text
    assert not {"shift", "l2", "schedule"} & set(header(text))


def test_a_sampled_parameter_stays_a_column(make_study):
    assert "decay" in header(render(build_table(make_study(*SAMPLED)), "text"))


@pytest.mark.parametrize("style", ["markdown", "latex", "html"])
def test_every_form_for_people_tells_what_is_the_same(make_study, style):
    told = render(build_table(make_study(*SAMPLED)), style)
    assert "The same in all trials: shift = 0.07" in told


def test_csv_and_json_keep_what_is_the_same_as_a_column(make_study):
    table = build_table(make_study(*SAMPLED))
    rows = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    assert [row["shift"] for row in rows] == ["0.07", "0.07"]
    assert [row["shift"] for row in json.loads(render(table, "json"))] == [0.07, 0.07]


def test_a_setting_that_no_trial_has_is_not_shown(make_study):
    text = render(build_table(make_study(REACHED | {"l2": None}, REACHED | {"l2": None})), "text")
    assert "l2" not in text


def test_some_rows_of_a_table_tell_what_is_the_same_in_all_trials(make_study):
    table = build_table(make_study(REACHED, REACHED | {"weight_decay": 0.3}))
    assert "weight_decay" in header(render(table.head(1), "text"))


# What is left out


@pytest.mark.parametrize("width", [80, 120])
def test_what_was_asked_is_left_out_after_other_results(make_study, width):
    names = header(render(build_table(make_study(*SAMPLED)), "text", width=width))
    assert {"trial", "weight_decay", "warmup", "decay", "epochs_to_target", "outcome"} <= set(names)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_study_of_twenty_settings_fits(make_study, width):
    trials = [REACHED | {f"setting_{i}": i * number for i in range(1, 21)} for number in range(3)]
    text = render(build_table(make_study(*trials)), "text", width=width)
    assert {"trial", "epochs_to_target", "outcome"} <= set(header(text))
    assert max(map(len, text.split("\n\n")[0].splitlines())) <= width


def test_sampled_parameters_matter_more_than_settings_that_differ(make_study):
    trials = [REACHED | {"space.z": i, **{f"a{k}": i for k in range(20)}} for i in range(2)]
    table = build_table(make_study(*trials))
    names = most_important(list(table), table.attrs["sampled"], 6)
    assert "z" in names


def test_a_quick_look_has_no_long_texts():
    assert most_important(["trial", "schedule", "stop_reason", "outcome"], (), 9) == ["trial", "outcome"]


# What is known of a column


def test_names_are_unique():
    assert len(set(COLUMNS)) == len(COLUMNS)
    assert len({column.name for column in SETTINGS}) == len(SETTINGS)


@pytest.mark.parametrize("name", ["trial", "epochs_to_target", "outcome"])
def test_some_columns_are_never_left_out(name):
    assert column_named(name).importance == ALWAYS


def test_every_column_of_results_reads_its_value():
    assert [column.name for column in RESULTS if column.read is None] == []


def test_a_level_is_a_crossing():
    assert column_named("0.925").kind is Kind.CROSSING


@pytest.mark.parametrize("name", ["batch_size", "momentum"])
def test_a_setting_that_another_table_has_too_matters_as_a_setting(name):
    assert column_named(name, settings=True).importance == SETTING
