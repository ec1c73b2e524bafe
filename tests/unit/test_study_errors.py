"""Study files that are wrong: every error names file, key, value and what was expected."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from resnet_core.config import OPTIMIZER_EXPECTED
from search_spaces.errors import StudyError
from search_spaces.parameters import Choices
from search_spaces.plugins import samplers
from search_spaces.space import trial_count
from search_spaces.spec import StudySpec
from search_spaces.study import load_study
from search_spaces.tables import check_name
from tests.study_files import RUNS, SPACE, Load, error_of, with_toml

RULE_OFF = "expected a table of the rule's settings; leave the key out where the rule is off"

# Tables, keys, types, bounds


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("serach=3", "serach = 3: unknown key; did you mean search?"),
        ("search.trails=3", "search.trails = 3: unknown key; did you mean trials?"),
        ("objective.goals=3", "objective.goals = 3: unknown key; did you mean goal?"),
        ("stopping.cpa=3", "stopping.cpa = 3: unknown key; did you mean cap?"),
        ("stopping.asha={reductoin=3}", "stopping.asha.reductoin = 3: unknown key; did you mean reduction?"),
        ("stopping.patience={min_dleta=0}", "stopping.patience.min_dleta = 0: unknown key; did you mean min_delta?"),
        (
            "resources.cpu_per_trial=3",
            "resources.cpu_per_trial = 3: unknown key; did you mean cpus_per_trial?",
        ),
        ("space.lr.hgih=3", "space.lr.hgih = 3: unknown key; did you mean high?"),
        ("space.lr={choices=[1],low=2}", "space.lr.low = 2: unknown key; expected one of: choices, when"),
        ("train.bacth_size=3", "train.bacth_size = 3: unknown field; did you mean batch_size?"),
        ("train.batch_size=64.5", "train.batch_size = 64.5: expected a whole number"),
        ("train.batch_size=true", "train.batch_size = true: expected a whole number"),
        ("train.flip=1", "train.flip = 1: expected true or false"),
        (
            "train.optimizer=lion",
            f'train.optimizer = "lion": expected {OPTIMIZER_EXPECTED}',
        ),
        ("train.weight_decay=inf", "train.weight_decay = inf: expected a finite number"),
        ("train=3", "train = 3: expected a table"),
        ("space=3", "space = 3: expected a table"),
        ("space.lr=3", "space.lr = 3: expected { low = ..., high = ... } or { choices = [...] }"),
        ("space.lr.low=a", 'space.lr.low = "a": expected a number'),
        ("space.lr.low=true", "space.lr.low = true: expected a number"),
        ("space.lr.low=nan", "space.lr.low = nan: expected a finite number"),
        ("space.lr.high=1e-3", "space.lr.high = 0.001: expected more than low = 0.001"),
        ("space.lr.low=0", "space.lr.low = 0: expected more than 0, because log = true"),
        ("space.lr.step=1e-4", "space.lr.step = 0.0001: expected none, because log = true"),
        ("space.warmup.high=8.5", "space.warmup.high = 8.5: expected a whole number, because int = true"),
        ("space.warmup.step=0.5", "space.warmup.step = 0.5: expected a whole number, because int = true"),
        (
            "space.warmup.high=9007199254740994",
            "space.warmup.high = 9007199254740994: expected at most 9007199254740992 on either side of 0: Optuna keeps "
            "whole numbers as 64-bit floats",
        ),
        ("space.end.step=0", "space.end.step = 0: expected more than 0"),
        ("space.lr={choices=[]}", "space.lr.choices = []: expected one value or more"),
        ("space.lr={choices=[1,1.0]}", "space.lr.choices = [1, 1.0]: expected every value once"),
        (
            "space.lr={choices=[1,[]]}",
            "space.lr.choices[1] = []: expected true, false, a finite number or a string",
        ),
        ("objective.target=92", "objective.target = 92: expected an accuracy above 0 and at most 1; false for none"),
        ("objective.target=0", "objective.target = 0: expected an accuracy above 0 and at most 1; false for none"),
        ("objective.sustained=0", "objective.sustained = 0: expected at least 1"),
        (
            "resources={gpus_per_trial=0.6,shared_process=true}",
            "resources.shared_process = true: expected false where a GPU has one trial; it is for shares up to 0.5",
        ),
        ("resources.epoch_timeout=0", "resources.epoch_timeout = 0: expected more than 0"),
        (
            "resources={gpus_per_trial=0.5,shared_process=true,epoch_timeout=60}",
            "resources.epoch_timeout = 60.0: expected none with shared_process = true: to end one trial would end all "
            "trials of its process",
        ),
        ("search.trials=0", "search.trials = 0: expected at least 1"),
        ("search.trials=2.5", "search.trials = 2.5: expected a whole number"),
        ("search.sampler=t", f'search.sampler = "t": expected {", ".join(map(repr, samplers()))} or "module:object"'),
        (
            "search.sampler=TPE",
            f'search.sampler = "TPE": expected {", ".join(map(repr, samplers()))} or "module:object"; '
            "did you mean tpe?",
        ),
        (
            "space.lr={low=-1e308,high=1e308}",
            "space.lr.high = 1e+308: expected less: high - low must be below 1.8e308, the largest number of 64 bits",
        ),
        ("search.seed=-1", "search.seed = -1: expected at least 0"),
        (
            "train.batch_size=9223372036854775808",
            "train.batch_size = 9223372036854775808: expected a whole number below 2^63: "
            "TOML and torch have no larger ones",
        ),
        ("search.retries=-1", "search.retries = -1: expected at least 0"),
        ("search.seeds=[]", "search.seeds = []: expected one value or more"),
        ("search.first=[3]", "search.first[0] = 3: expected a table"),
        ("stopping.diverged=1", "stopping.diverged = 1: expected true or false"),
        ("stopping.control=1", "stopping.control = 1: expected less than 1"),
        ("stopping.cap=3", f"stopping.cap = 3: {RULE_OFF}"),
        ("stopping.asha=false", f"stopping.asha = false: {RULE_OFF}"),
        ("stopping.cap={best=0,slack=1}", "stopping.cap.best = 0: expected at least 1"),
        ("stopping.cap={best=1,slack=0.9}", "stopping.cap.slack = 0.9: expected at least 1"),
        ("stopping.cannot_reach={after=0}", "stopping.cannot_reach.after = 0: expected more than 0"),
        ("stopping.cannot_reach={after=1}", "stopping.cannot_reach.after = 1: expected less than 1"),
        ("stopping.cannot_reach={margin=-0.1}", "stopping.cannot_reach.margin = -0.1: expected at least 0"),
        ("stopping.cannot_reach={trials=0}", "stopping.cannot_reach.trials = 0: expected at least 1"),
        ("stopping.asha={reduction=1}", "stopping.asha.reduction = 1: expected at least 2"),
        ("stopping.asha={reduction=2.5}", "stopping.asha.reduction = 2.5: expected a whole number"),
        ("stopping.median=true", f"stopping.median = true: {RULE_OFF}"),
        ("stopping.patience={epochs=0}", "stopping.patience.epochs = 0: expected at least 1"),
        ("stopping.shadow=asha", 'stopping.shadow = "asha": expected a list'),
        ("resources.cpus_per_trial=0", "resources.cpus_per_trial = 0: expected at least 1"),
        (
            "resources.gpus_per_trial=2",
            "resources.gpus_per_trial = 2.0: "
            "expected 1 at most: a trial trains on one GPU, and further ones train other trials",
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_what_was_expected(load: Load, override: str, line: str) -> None:
    assert error_of(load, SPACE, override) == f"s.toml: {line} (from --set {override})"


def test_the_upper_end_lies_on_a_step(load: Load) -> None:
    message = error_of(load, SPACE, "space.end.step=0.7")
    assert message == "s.toml: space.end.high = 12: expected whole steps above low, such as 11.4 or 12.1"


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("name=", "name: missing; expected a string: the name of the study or run (from --set name=)"),
        ("space.lr.high=", "space.lr.high: missing; expected a number: the largest value"),
        ("stopping.cap.best=2", "stopping.cap.slack: missing; expected a number of at least 1"),
        (
            "search.trials=",
            "search.trials: missing; expected how many trials to run, a whole number of at least 1",
        ),
        (
            "train.schedule=",
            "train.schedule: missing; expected a learning rate over epochs, such as "
            '"[1e-3, 0] cos[1e-5, 20]" (from --set train.schedule=)',
        ),
    ],
)
def test_a_missing_value_is_named_with_what_was_expected(load: Load, override: str, line: str) -> None:
    assert error_of(load, SPACE, override).startswith(f"s.toml: {line}")


def test_an_error_of_the_file_itself_has_no_note_on_set(load: Load) -> None:
    text = with_toml(SPACE, "search", "seed = -1")
    assert error_of(load, text) == "s.toml: search.seed = -1: expected at least 0"


def test_a_long_value_is_cut(load: Load) -> None:
    message = error_of(load, with_toml(SPACE, "train", f'model = ["{"x" * 500}"]'))
    assert "train.model" in message
    assert len(message) < 200


def test_all_errors_are_listed_one_a_line(load: Load) -> None:
    text = with_toml(with_toml(SPACE, "search", "seed = -1"), "train", "shfit = 0.1\nflip = 1")
    assert error_of(load, text).splitlines() == [
        "s.toml: train.shfit = 0.1: unknown field; did you mean shift?",
        "s.toml: train.flip = 1: expected true or false",
        "s.toml: search.seed = -1: expected at least 0",
    ]


def test_all_values_that_make_no_trial_are_listed(load: Load) -> None:
    text = with_toml(RUNS, "train", "batch_size = 0\nbeta2 = 2")
    assert error_of(load, text).splitlines() == [
        "s.toml: train.batch_size = 0: expected a whole number of 1 or more",
        "s.toml: train.beta2 = 2: expected 0 <= value < 1",
    ]


def test_a_spec_made_in_code_is_checked_as_well() -> None:
    with pytest.raises(ValidationError, match=r"search\.trials: missing"):
        StudySpec(name="x", train={"schedule": "[1, 0] lin[shift, 3]"}, space={"shift": Choices(choices=[1])})


# Parameters and schedules


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (
            "x = { low = 0, high = 1 }",
            "space.x: nothing uses it; expected a field of TrialConfig, or a name that a schedule uses",
        ),
        ("shfit = { low = 0, high = 1 }", "space.shfit: nothing uses it; did you mean shift?"),
        (
            "batch_size = { low = 16, high = 32 }",
            "space.batch_size.low = 16: expected int = true beside it: batch_size is a whole number",
        ),
        (
            "optimizer = { low = 1, high = 2 }",
            "space.optimizer.low = 1: expected a string",
        ),
        (
            'optimizer = { choices = ["sgd", "adamm"] }',
            f'space.optimizer.choices[1] = "adamm": expected {OPTIMIZER_EXPECTED}',
        ),
    ],
)
def test_a_parameter_must_be_used(load: Load, lines: str, line: str) -> None:
    assert error_of(load, with_toml(SPACE, "space", lines)) == f"s.toml: {line}"


def test_a_parameter_cannot_be_fixed_as_well(load: Load) -> None:
    text = with_toml(with_toml(SPACE, "train", "shift = 0.1"), "space", "shift = { low = 0, high = 0.1 }")
    expected = (
        "s.toml: train.shift = 0.1: expected it in [train] or in [space], not in both, unless it has a `when` there"
    )
    assert error_of(load, text) == expected


def test_a_schedule_that_is_not_in_the_notation_keeps_its_caret(load: Load) -> None:
    message = error_of(load, SPACE, "train.schedule=[lr, 0] con[1, 3]")
    assert message.splitlines() == [
        "s.toml: train.schedule: expected a segment (lin, cos, hcos, exp, step) or the end, found 'con' "
        "(from --set train.schedule=[lr, 0] con[1, 3])",
        "[lr, 0] con[1, 3]",
        "        ^",
    ]


def test_a_schedule_that_names_no_parameter_shows_where_and_which_there_are(load: Load) -> None:
    message = error_of(load, SPACE, "train.schedule=[lr, +warmup] cos[0, 3]", "train.schedule=[lr, 0] cos[0, +wurm]")
    assert message.splitlines() == [
        "s.toml: train.schedule: no parameter 'wurm'; known: end, lr, warmup "
        "(from --set train.schedule=[lr, 0] cos[0, +wurm])",
        "[lr, 0] cos[0, +wurm]",
        "               ^",
    ]


def test_the_schedule_of_a_listed_run_has_no_parameters(load: Load) -> None:
    message = error_of(load, RUNS + 'schedule = "[lr, 0]"')
    assert message.startswith("s.toml: run[1].schedule: no parameter 'lr'; known: none\n[lr, 0]\n ^")


def test_a_parameter_of_a_schedule_is_a_number(load: Load) -> None:
    message = error_of(load, SPACE, 'space.lr={choices=[1e-3, "b"]}')
    assert 'space.lr.choices = [0.001, "b"]: expected numbers, because a schedule uses it' in message


def test_an_epoch_is_above_zero(load: Load) -> None:
    message = error_of(load, SPACE, "space.warmup.low=0")
    assert "space.warmup.low = 0: expected more than 0, because a schedule uses it as an epoch" in message


def test_epochs_that_do_not_rise_somewhere_in_the_space_are_found(load: Load) -> None:
    # At neither all lowest nor all highest values: warmup at its highest, end at its lowest.
    message = error_of(load, SPACE.replace("low = 10", "low = 8"))
    assert message.splitlines() == [
        "s.toml: train.schedule: at lr = 0.001, warmup = 8, end = 8: "
        "expected an epoch after 8, found 8 from end with end = 8",
        "[0.8*lr, 0] lin[lr, +warmup] cos[1e-5, end]",
        "                                       ^",
    ]


def test_a_field_at_the_end_of_its_range_must_make_a_trial(load: Load) -> None:
    message = error_of(load, with_toml(SPACE, "space", "shift = { low = 0, high = 0.6 }"))
    assert message == "s.toml: space.shift.high = 0.6: expected a share of the image, 0 <= shift < 0.5"


def test_choices_that_do_not_go_with_a_fixed_field_are_named(load: Load) -> None:
    text = with_toml(with_toml(SPACE, "train", "nesterov = true"), "space", 'optimizer = { choices = ["sgd", "adam"] }')
    expected = 'train.nesterov = true: expected false unless the optimizer is sgd with momentum (at optimizer = "adam")'
    assert error_of(load, text) == f"s.toml: {expected}"


def test_a_schedule_without_length_is_found(load: Load) -> None:
    message = error_of(load, 'name = "x"\n[train]\nschedule = "[1e-3, 0]"')
    assert message.startswith('s.toml: train.schedule = "[1e-3, 0]": expected a last epoch of 1 or more')


def test_a_space_with_very_many_corners_is_looked_at_in_part(load: Load) -> None:
    many = "\n".join(f"e{i} = {{ low = 1, high = 2, int = true }}" for i in range(20))
    schedule = "[1, 0]" + "".join(f" lin[1, +e{i}]" for i in range(20))
    text = f'name = "x"\n[train]\nschedule = "{schedule}"\n[space]\n{many}\n[search]\ntrials = 1'
    assert load(text).space.keys() == {f"e{i}" for i in range(20)}
    assert "space.shift.high = 0.5" in error_of(load, with_toml(text, "space", "shift={low=0,high=0.5}"))


def test_a_choice_that_another_field_forbids_is_named_with_its_key(load: Load) -> None:
    message = error_of(load, with_toml(SPACE, "space", "image_size = { choices = [32, 8] }"))
    assert "s.toml: space.image_size.choices = 8: expected 16 or 32 for resnet56v2" in message


# Search, first, runs, names


@pytest.mark.parametrize(
    ("first", "line"),
    [
        ("{ lr = 1 }", "search.first[0].lr = 1: expected a number from 0.001 to 0.002"),
        ("{}, { lrr = 1e-3 }", "search.first[1].lrr = 0.001: unknown parameter; did you mean lr?"),
        ("{ warmup = 2.5 }", "search.first[0].warmup = 2.5: expected a whole number from 1 to 8"),
        ("{ end = true }", "search.first[0].end = true: expected a number from 10 to 12"),
    ],
)
def test_first_trials_lie_in_the_space(load: Load, first: str, line: str) -> None:
    assert error_of(load, with_toml(SPACE, "search", f"first = [{first}]")) == f"s.toml: {line}"


@pytest.mark.parametrize(
    ("stopping", "line"),
    [
        ('shadow = ["ahsa"]', 'shadow[0] = "ahsa": unknown rule; did you mean asha?'),
        (
            'shadow = ["diverged", "asha"]',
            'shadow[1] = "asha": expected a rule that is switched on; set asha beside it, or leave it out here',
        ),
        ('diverged = false\nshadow = ["diverged"]', 'shadow[0] = "diverged": expected a rule that is switched on; '),
        ('asha = {}\nshadow = ["asha", "asha"]', 'shadow[1] = "asha": expected every rule once'),
        ("freeze = true", "freeze = true: expected false, or forecast beside it"),
        ('forecast = {}\nshadow = ["forecast"]\nfreeze = true', "freeze = true: expected false, or forecast beside it"),
        ("forecast = { chance = 0.5 }\nfreeze = true", "freeze = true: expected false where forecast.chance is 0.5 or"),
        ('cap = { best = 1, slack = 1, per = "optimiser" }', 'cap.per = "optimiser": unknown field or parameter; did'),
        ('cap = { best = 1, slack = 1, per = "warmpu" }', 'cap.per = "warmpu": unknown field or parameter; did you'),
    ],
)
def test_a_stopping_table_that_names_something_unknown_or_off_is_refused(load: Load, stopping: str, line: str) -> None:
    assert error_of(load, SPACE + "[stopping]\n" + stopping).startswith(f"s.toml: stopping.{line}")


def test_a_cap_may_be_per_field_and_per_parameter(load: Load) -> None:
    for per in ("optimizer", "warmup"):
        text = f'[stopping]\ncap = {{ best = 1, slack = 1, per = "{per}" }}'
        assert load(SPACE + text).stopping.rules["cap"].group_by == per


def test_first_trials_may_be_partial(load: Load) -> None:
    text = with_toml(SPACE, "search", "first = [{ lr = 1e-3 }, { warmup = 3, end = 10 }]")
    assert load(text).search.first == [{"lr": 1e-3}, {"warmup": 3, "end": 10}]


def test_first_values_lie_on_the_steps_and_among_the_choices(load: Load) -> None:
    space = "shift = { low = 0, high = 0.3, step = 0.1 }\nflip = { choices = [true, false] }"
    text = with_toml(SPACE, "space", space)
    assert load(with_toml(text, "search", "first = [{ shift = 0.3, flip = false }, { shift = 0.20000000000000001 }]"))
    message = error_of(load, with_toml(text, "search", "first = [{ shift = 0.25, flip = 0 }]"))
    assert message.splitlines() == [
        "s.toml: search.first[0].shift = 0.25: expected a number from 0 to 0.3 in steps of 0.1",
        "s.toml: search.first[0].flip = 0: expected one of true, false",
    ]


def test_the_grid_needs_single_values(load: Load) -> None:
    lines = error_of(load, SPACE, "search.sampler=grid").splitlines()
    assert [line.partition(":")[2].partition(" =")[0] for line in lines] == [" space.lr", " space.end"]
    assert 'expected a step, int = true or choices: sampler = "grid" tries every value' in lines[0]


FINE = """
name = "fine"
[train]
schedule = "[lr, 0] cos[1e-5, 4]"
[space]
lr = { low = 1e-3, high = 1, step = 1e-12 }
flip = { choices = [true, false] }
[search]
sampler = "grid"
trials = 3
"""


def test_a_grid_of_far_too_many_points_is_refused_without_listing_them(load: Load) -> None:
    assert error_of(load, FINE) == (
        "s.toml: space: the grid has more than 100,000 points; expected fewer, such as a larger step or fewer values "
        'of lr (999,000,000,001 values), or sampler = "random", which lists no points'
    )


def test_a_condition_on_one_of_far_too_many_values_is_refused_without_listing_them(load: Load) -> None:
    text = with_toml(FINE, "space", "shift = { choices = [0.1, 0.2], when = { lr = 1e-3 } }")
    message = error_of(load, text, "search.sampler=random")
    assert message.startswith("s.toml: space.shift.when.lr: lr is ")
    assert message.endswith("int = true or a step and at most 100,000 values: a number is hardly ever drawn twice")


def test_a_grid_is_counted_without_the_combinations_that_conditions_leave_out(load: Load) -> None:
    parameters = "\n".join(
        f"{field} = {{ low = 0, high = 0.98, step = 0.02, when = {{ batch_size = {size} }} }}"
        for size, field in enumerate(("weight_decay", "l2", "ema", "momentum"), start=1)
    )
    space = f"batch_size = {{ low = 1, high = 4, int = true }}\n{parameters}"
    text = f'name = "many"\n[train]\nschedule = "[1e-3, 0] cos[1e-5, 4]"\n[space]\n{space}\n[search]\nsampler = "grid"'
    assert trial_count(load(text)) == 200  # and not 4 * 50**4


def test_a_space_is_not_repeated_with_seeds(load: Load) -> None:
    expected = "s.toml: search.seeds = [1]: expected none with a [space]: seeds repeat [[run]] tables"
    assert error_of(load, with_toml(SPACE, "search", "seeds = [1]")) == expected


def test_listed_runs_say_how_many_trials_there_are(load: Load) -> None:
    message = error_of(load, RUNS + "[search]\ntrials = 4\nseeds = [1, 2]")
    expected = "none: without a [space] there are runs x seeds = 4 trials"
    assert message == f"s.toml: search.trials = 4: expected {expected}"


def test_seeds_come_once(load: Load) -> None:
    message = error_of(load, RUNS + "[search]\nseeds = [1, 1]")
    assert message == "s.toml: search.seeds = [1, 1]: expected every seed once"


def test_a_space_and_runs_do_not_go_together(load: Load) -> None:
    message = error_of(load, SPACE + '[[run]]\nname = "a"')
    assert message == "s.toml: run: expected [space] or [[run]] tables, not both"


def test_one_pair_of_brackets_around_run_is_not_enough(load: Load) -> None:
    message = error_of(load, SPACE + '[run]\nname = "a"')
    assert message == 's.toml: run = { name = "a" }: expected [[run]] tables, in two pairs of brackets'


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("weight_decya = 1", "run[1].weight_decya = 1: unknown field; did you mean weight_decay?"),
        ('weight_decay = "1"', 'run[1].weight_decay = "1": expected a number'),
        ("weight_decay = -1", "run[1].weight_decay = -1: expected a number of 0 or more"),
    ],
)
def test_a_wrong_field_of_a_run_is_named(load: Load, line: str, expected: str) -> None:
    assert error_of(load, RUNS + line) == f"s.toml: {expected}"


def test_a_run_without_a_schedule_is_named(load: Load) -> None:
    text = RUNS.replace('schedule = "[1e-3, 0] cos[1e-5, 4]"', "") + 'schedule = "[1e-3, 0] cos[1e-5, 4]"'
    assert error_of(load, text).startswith("s.toml: run[0].schedule: missing; expected a learning rate")


def test_run_names_are_unique(load: Load) -> None:
    message = error_of(load, RUNS.replace('"b"', '"a"'))
    assert message == 's.toml: run[1].name = "a": expected a name of its own; run[0] has this one'


@pytest.mark.parametrize("name", ["a", "A1", "33", "post5-run33", "a.b_c-d", "x" * 64])
def test_a_valid_name_is_returned(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a..b", "-a", "_a", "a/b", "a\\b", "/a", "a b", "é", "a\n", "a\0", "x" * 65]
)
def test_a_name_that_cannot_be_a_folders_is_refused(name: str) -> None:
    with pytest.raises(StudyError, match="expected 1 to 64 ASCII letters, digits"):
        check_name(name)


@pytest.mark.parametrize(
    ("text", "key"),
    [(SPACE.replace("sampled", "a/b"), "name"), (RUNS.replace('"b"', '"a/b"'), "run[1].name")],
)
def test_names_in_a_file_are_checked(load: Load, text: str, key: str) -> None:
    message = error_of(load, text)
    assert message.startswith(f's.toml: {key} = "a/b": expected 1 to 64 ASCII letters, digits')


# Files


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"nothing\.toml: no such file; expected a study file"):
        load_study(tmp_path / "nothing.toml")


def test_a_folder_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="expected a study file"):
        load_study(tmp_path)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('name = "x"\ntrials = \n', "at line 2, column 10"),
        ('name = "x"\n[search', "at line 2, column 8, the end of the file"),
        ("name = \u201cx\u201d", "at line 1, column 8): there is a LEFT DOUBLE QUOTATION MARK"),
        ("name = 1\n\u00a0trials = 2", "at line 2, column 1): there is a NO-BREAK SPACE"),
    ],
)
def test_a_syntax_error_is_placed(load: Load, text: str, place: str) -> None:
    message = error_of(load, text)
    assert message.startswith("s.toml: not TOML: ")
    assert place in message


def test_a_file_that_is_not_utf8_is_named_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_bytes(b'name = "x"\n# \xe9\n')
    with pytest.raises(StudyError, match=r"s\.toml: not UTF-8 in line 2; save it as UTF-8"):
        load_study(tmp_path / "s.toml")


@pytest.mark.parametrize(
    ("path", "said"),
    [("", "not an empty text"), ("~nobody-of-this-name/x", "no home folder of"), ("file:///x", "not a URI")],
)
def test_a_folder_of_images_is_a_path_as_people_type_them(load: Load, path: str, said: str) -> None:
    assert said in error_of(load, f'[train]\ndata = "imagefolder:{path}"')
