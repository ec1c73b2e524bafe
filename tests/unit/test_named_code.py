"""Rules and samplers that a study file names as ``module:object``, and the settings of samplers."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.samplers import QMCSampler, TPESampler

from resnet_core import code
from resnet_core.records import Outcome
from search_spaces.errors import StudyError
from search_spaces.plugins import find_sampler
from search_spaces.spec import StudySpec
from search_spaces.study import differences, from_json, load_study, study_hash, to_json
from sweeps.errors import SweepError
from sweeps.ledger.conditional import SeparateSampler
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.samplers import make_sampler, sampler_notes
from sweeps.study.judge import Judge
from sweeps.study.outcomes import Result
from sweeps.study.stopping.rules import rule_modes, rules_of
from sweeps.study.trials import ActiveTrial
from tests.studies import epoch_records, fixed_study, sampled_study

MODULE = '''
from optuna.samplers import GridSampler, RandomSampler, TPESampler
from pydantic import Field

import sweeps
from search_spaces.plugins import Sampler


class Enough(sweeps.StoppingRule):
    """Ends a trial after a number of epochs."""

    order = -1
    epochs: int = Field(default=9, ge=1)

    def reason_to_stop(self, trial, study):
        return "enough" if trial.epoch >= self.epochs else None


class Wrong(sweeps.StoppingRule):
    """Returns what is no reason, or fails."""

    returned: str = "fails"

    def reason_to_stop(self, trial, study):
        if self.returned == "exits":
            raise SystemExit(3)
        return {"yes": True, "no": False, "number": 3}[self.returned]


class Unfinished(sweeps.StoppingRule):
    """Lacks its method."""


def tpe(seed: int, startup: int) -> TPESampler:
    return TPESampler(seed=seed, n_startup_trials=startup)


def nothing():
    return 3


def exits():
    raise SystemExit(3)


class Fails(RandomSampler):
    """Fails where it is asked for the number of a trial, or told of one."""

    def __init__(self, before: int = -1, after: int = -1):
        super().__init__()
        self.before, self.after = before, after

    def before_trial(self, study, trial):
        if trial.number == self.before:
            raise KeyError("before")

    def after_trial(self, study, trial, state, values):
        if trial.number == self.after:
            raise KeyError("after")


class Outside(RandomSampler):
    def __init__(self, value: str | float):
        super().__init__()
        self.value = value

    def sample_independent(self, study, trial, param_name, param_distribution):
        if self.value == "exit":
            raise SystemExit
        return self.value


MINE = Sampler("mine", lambda seed, trials, startup=5: TPESampler(seed=seed, n_startup_trials=startup))
'''
STUDY = """
name = "x"
[train]
schedule = "[lr, 0] lin[0, 4]"
[space]
lr = { low = 1e-3, high = 1e-2, log = true }
shift = { low = 0.0, high = 0.2 }
crop = { low = 0, high = 4, int = true }
[search]
trials = 30
"""
CONDITION = "space.momentum={low=0.8,high=0.99,when={optimizer='sgd'}}"
OPTIMIZER = "space.optimizer={choices=['adam','sgd']}"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a study file and the code beside it; the code is not imported afterwards."""
    (tmp_path / "study.toml").write_text(STUDY)
    (tmp_path / "own_code.py").write_text(MODULE)
    yield tmp_path
    code.search()


def load(folder: Path, *changes: str) -> StudySpec:
    return load_study(folder / "study.toml", changes)


def error_of(folder: Path, *changes: str) -> str:
    with pytest.raises(StudyError) as error:
        load(folder, *changes)
    return str(error.value).replace(f"{folder}/study.toml: ", "").replace(str(folder), "FOLDER")


# Rules


def test_a_rule_of_ones_own_is_asked_in_its_order(folder: Path) -> None:
    rules = rules_of(load(folder, "stopping.own_code:Enough={epochs=3}", "stopping.cap={best=1,slack=1}"))
    assert [rule.name for rule in rules] == ["own_code:Enough", "diverged", "cap"]
    assert dict(rules[0]) == {"epochs": 3}


def test_its_settings_are_part_of_the_identity_where_they_are_given(folder: Path) -> None:
    plain, own, three = (
        load(folder, *changes)
        for changes in ([], ["stopping.own_code:Enough=true"], ["stopping.own_code:Enough={epochs=3}"])
    )
    assert [line for line in differences(plain, own) if line.startswith("stopping")] == [
        "stopping.own_code:Enough: (absent) -> true"
    ]
    assert "stopping.own_code:Enough.epochs: (absent) -> 3" in differences(own, three)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("yes", "reason_to_stop has returned True; expected the reason why the trial ends, a text, or None"),
        ("no", "reason_to_stop has returned False; expected"),
        ("number", "reason_to_stop has returned 3; expected"),
        ("fails", r".*own_code\.py, line \d+: KeyError: 'fails'"),
        ("exits", r".*own_code\.py, line \d+: sys\.exit\(3\) would end"),
    ],
)
def test_a_rule_that_gives_no_reason_or_fails_is_told_by_its_name(folder: Path, returned: str, said: str) -> None:
    spec = load(folder, f"stopping.own_code:Wrong.returned={returned}")
    job = Ledger.preview(spec).ask()
    trial = ActiveTrial(job, control=False, records=epoch_records([0.5]))
    with pytest.raises(SweepError, match=f"stopping rule own_code:Wrong: {said}"):
        Judge(spec).stop(trial)


def test_it_may_run_in_shadow(folder: Path) -> None:
    spec = load(folder, "stopping.own_code:Enough=true", "stopping.shadow=['own_code:Enough']")
    assert rule_modes(spec) == {"diverged": "active", "own_code:Enough": "shadow"}


def test_false_leaves_it_out(folder: Path) -> None:
    assert study_hash(load(folder, "stopping.own_code:Enough=false")) == study_hash(load(folder))


def test_a_stored_study_is_read_without_its_rules_and_its_sampler(folder: Path) -> None:
    spec = load(folder, "stopping.own_code:Enough={epochs=3}", "search.sampler=own_code:MINE")
    text = to_json(spec)
    (folder / "own_code.py").write_text("raise RuntimeError('imported')")
    stored = from_json(text)
    assert to_json(stored) == text
    assert study_hash(stored) == study_hash(spec)
    assert stored.is_sampled


def test_a_ledger_is_read_without_its_sampler(folder: Path) -> None:
    uri = f"sqlite:///{folder / 'optuna.db'}"
    ledger = Ledger.create(uri, load(folder, "search.sampler=own_code:MINE"))
    job = ledger.ask()
    (folder / "own_code.py").write_text("raise RuntimeError('imported')")
    again = Ledger.open(uri, "x")
    assert [entry.job for entry in again.entries()] == [job]
    assert again.remaining() == 29
    with pytest.raises(code.CodeError, match="imported"):
        again.ask()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("own_code:Enough={epochs=0}", "stopping.own_code:Enough.epochs = 0: expected at least 1"),
        ("own_code:Enough={epcohs=1}", "stopping.own_code:Enough.epcohs = 1: unknown key; did you mean epochs?"),
        ("own_code:Enough=3", "stopping.own_code:Enough = 3: expected a table of the rule's settings, or true"),
        (
            "own_code:Unfinished=true",
            "stopping.own_code:Unfinished: own_code:Unfinished is abstract: it lacks reason_to_stop",
        ),
        (
            "own_code:tpe=true",
            "stopping.own_code:tpe: own_code:tpe is of type function; expected a subclass of sweeps.StoppingRule",
        ),
        (
            "none:Rule=true",
            'stopping.none:Rule = "none:Rule": no module none: looked for none.py in FOLDER, then on Python\'s path',
        ),
    ],
)
def test_a_wrong_rule_is_named_with_its_key(folder: Path, change: str, expected: str) -> None:
    line, *_ = error_of(folder, f"stopping.{change}").splitlines()
    assert line.partition(" (from --set")[0] == expected


# Samplers


def ask(spec: StudySpec, count: int) -> list[dict[str, Any]]:
    """Ask for trials, and end each one."""
    ledger, params = Ledger.preview(spec), []
    for _ in range(count):
        job = ledger.ask()
        params.append(job.params)
        ledger.tell(job.number, Result(Outcome.REACHED, 4, job.params["shift"]))
    return params


@pytest.mark.parametrize(
    "changes",
    [
        ["search.sampler=own_code:tpe", "search.sampler_options.startup=3"],
        ["search.sampler=own_code:MINE", "search.sampler_options.startup=3"],
        ["search.sampler=optuna.samplers:TPESampler", "search.sampler_options.n_startup_trials=3"],
    ],
)
def test_each_form_of_a_sampler_gets_its_settings(folder: Path, changes: list[str]) -> None:
    made = make_sampler(load(folder, *changes), [])
    assert isinstance(made, TPESampler)
    assert made._n_startup_trials == 3


def test_any_sampler_of_optunas_proposes_trials(folder: Path) -> None:
    spec = load(folder, "search.sampler=optuna.samplers:QMCSampler", "search.sampler_options.scramble=true")
    assert isinstance(make_sampler(spec, []), QMCSampler)
    assert len({tuple(params.values()) for params in ask(spec, 12)}) == 12
    assert ask(spec, 3) == ask(spec, 3)  # with the study's seed


def test_a_sampler_that_ships_takes_settings(folder: Path) -> None:
    made = make_sampler(load(folder, "search.sampler_options={n_startup_trials=3, n_ei_candidates=5}"), [])
    assert isinstance(made, TPESampler)
    assert (made._n_startup_trials, made._n_ei_candidates) == (3, 5)


def test_settings_are_part_of_the_identity_where_they_are_given(folder: Path) -> None:
    plain, three = load(folder), load(folder, "search.sampler_options.n_startup_trials=3")
    assert differences(plain, three) == ["search.sampler_options.n_startup_trials: (absent) -> 3"]


def test_a_sampler_that_may_ignore_pruned_trials_is_said_to(folder: Path) -> None:
    assert sampler_notes(load(folder)) == []
    (note,) = sampler_notes(load(folder, "search.sampler=optuna.samplers:NSGAIISampler", "search.trials=60"))
    assert "are told to it as completed" in note
    assert find_sampler("optuna.samplers:NSGAIISampler").ignores_pruned


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            ["sampler=own_code:tpe"],
            "sampler_options.startup: missing; expected a value, since own_code:tpe requires it",
        ),
        (
            ["sampler_options.n_startup_trails=3"],
            "sampler_options.n_startup_trails = 3: unknown setting; did you mean n_startup_trials?",
        ),
        (["sampler_options.n_startup_trials=a"], 'sampler_options.n_startup_trials = "a": expected a whole number'),
        (["sampler_options.seed=3"], "sampler_options.seed = 3: expected none: search.seed is the seed of the sampler"),
        (
            ["sampler=own_code:nothing"],
            "sampler: own_code:nothing returned a value of type int; expected a sampler of Optuna's",
        ),
        (
            ["sampler=own_code:exits"],
            "sampler: own_code:exits cannot be made: FOLDER/own_code.py, line LINE: sys.exit(3) would end the program",
        ),
        (
            ["sampler=own_code:GridSampler"],
            'sampler: own_code:GridSampler tries every value; expected sampler = "grid", which does that here',
        ),
        (
            ["sampler=optuna.samplers:QMCSampler", "sampler_options.qmc_type=x"],
            'sampler_options = { qmc_type = "x" }: optuna.samplers:QMCSampler does not take it: ValueError: '
            "The `qmc_type='x'` is invalid. Choose either `halton` or `sobol`.",
        ),
        (
            ["sampler=optunahub:samplers/auto_sampler"],
            "sampler: optunahub:samplers/auto_sampler needs the package "
            "optunahub; expected it installed: pip install optunahub",
        ),
    ],
)
def test_a_wrong_sampler_is_named_with_its_key(folder: Path, changes: list[str], expected: str) -> None:
    line, *_ = error_of(folder, *(f"search.{change}" for change in changes)).splitlines()
    said = re.sub(r"line \d+", "line LINE", line.partition(" (from --set")[0])
    assert said == f"search.{expected}"


def test_a_sampler_that_fails_before_a_trial_is_told_with_its_line(folder: Path) -> None:
    ledger = Ledger.preview(load(folder, "search.sampler=own_code:Fails", "search.sampler_options.before=1"))
    ledger.ask()
    with pytest.raises(SweepError, match=r"Fails with { \w+ = \d }: .*own_code\.py, line \d+: KeyError: 'before'"):
        ledger.ask()


def test_a_sampler_that_fails_after_a_trial_is_told_with_its_line(folder: Path) -> None:
    ledger = Ledger.preview(load(folder, "search.sampler=own_code:Fails", "search.sampler_options.after=0"))
    with pytest.raises(SweepError, match=r"Fails with { \w+ = \d }: .*own_code\.py, line \d+: KeyError: 'after'"):
        ledger.tell(ledger.ask().number, Result(Outcome.CRASHED, []))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("5.0", "it proposes lr = 5.0; expected .*0.001"),
        ("x", "ValueError: 'x' is not a valid type"),
        ("exit", r"own_code\.py, line \d+: sys\.exit\(None\) would end"),
    ],
)
def test_a_sampler_that_proposes_no_value_of_the_space_is_told(folder: Path, value: str, said: str) -> None:
    ledger = Ledger.preview(load(folder, "search.sampler=own_code:Outside", f"search.sampler_options.value={value}"))
    with pytest.raises(SweepError, match=f"sampler own_code:Outside with .*: .*{said}"):
        ledger.ask()


def test_a_setting_that_a_sampler_refuses_late_is_told(folder: Path) -> None:
    ledger = Ledger.preview(load(folder, "search.sampler=cmaes", "search.sampler_options.popsize=0"))
    ledger.tell(ledger.ask().number, Result(Outcome.REACHED, 4, 3.0))
    with pytest.raises(SweepError, match=r"sampler cmaes with { popsize = 0 }: AssertionError: popsize must be"):
        ledger.ask()


def test_a_study_without_sampled_trials_takes_no_settings(folder: Path) -> None:
    (folder / "study.toml").write_text('name = "x"\n[train]\nschedule = "[1, 0] lin[0, 4]"\n')
    assert error_of(folder, "search.sampler_options.n_startup_trials=3").startswith(
        "search.sampler_options: expected none: no sampler draws, since the trials are listed"
    )


HUB = """
import sys
from types import ModuleType

from optuna.samplers import RandomSampler


def load_module(package):
    if package != "samplers/plain":
        raise ValueError(f"no package {package}")
    module = ModuleType("plain")
    module.PlainSampler = type("PlainSampler", (RandomSampler,), {})
    module.__all__ = ["PlainSampler"]
    return module
"""


def test_a_sampler_of_optunahub_is_the_class_of_its_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of OptunaHub is downloaded, so this one stands in for the library optunahub."""
    (folder / "optunahub.py").write_text(HUB)
    monkeypatch.syspath_prepend(folder)
    assert type(make_sampler(load(folder, "search.sampler=optunahub:samplers/plain"), [])).__name__ == "PlainSampler"
    assert "expected one of: optunahub:samplers/plain:PlainSampler" in error_of(
        folder, "search.sampler=optunahub:samplers/plain:Other"
    )
    assert "could not be loaded from OptunaHub" in error_of(folder, "search.sampler=optunahub:samplers/none")


def test_a_package_of_optunahub_without_its_folder_is_told_what_is_expected(folder: Path) -> None:
    expected = "expected optunahub:PACKAGE, such as optunahub:samplers/auto_sampler (pip install optunahub)"
    assert expected in error_of(folder, "search.sampler=optunahub:auto")


# Samplers and conditional parameters


def test_tpe_draws_conditional_parameters_in_groups(folder: Path) -> None:
    made = make_sampler(load(folder, OPTIMIZER, CONDITION), [])
    assert isinstance(made, TPESampler)
    assert made._group
    assert sampler_notes(load(folder, OPTIMIZER, CONDITION)) == []
    assert not make_sampler(load(folder, OPTIMIZER), [])._group  # type: ignore[attr-defined]


@pytest.mark.parametrize("sampler", ["gp", "cmaes", "optuna.samplers:QMCSampler"])
def test_another_sampler_draws_each_of_them_by_itself_and_says_so(folder: Path, sampler: str) -> None:
    spec = load(folder, OPTIMIZER, CONDITION, f"search.sampler={sampler}")
    assert isinstance(make_sampler(spec, []), SeparateSampler)
    assert sampler_notes(spec)[0].startswith(f"{sampler} learns nothing about momentum, which some trials do not have")


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "random", "optuna.samplers:QMCSampler"])
def test_every_sampler_proposes_conditional_trials(folder: Path, sampler: str) -> None:
    spec = load(folder, OPTIMIZER, CONDITION, f"search.sampler={sampler}")
    for params in ask(spec, 14):
        assert ("momentum" in params) == (params["optimizer"] == "sgd")


def test_cma_es_keeps_its_model_when_a_trial_lacks_a_parameter(folder: Path) -> None:
    """Without SeparateSampler, it takes the parameters of the first trials for those of all, and draws at random."""
    spec = load(folder, OPTIMIZER, CONDITION, "search.sampler=cmaes", "search.first=[{optimizer='sgd',momentum=0.9}]")
    study = optuna.create_study()
    ledger = Ledger(study, spec)
    for _ in range(20):
        job = ledger.ask()
        ledger.tell(job.number, Result(Outcome.REACHED, 4, job.params["shift"]))
    drawn = [trial for trial in study.trials if any(key.startswith("cma:generation") for key in trial.system_attrs)]
    assert len(drawn) >= 15


# What a sampler does not do, and trials that repeat others


@pytest.mark.parametrize("sampler", ["cmaes", "optuna.samplers:CmaEsSampler"])
def test_cmaes_says_that_it_draws_choices_at_random(folder: Path, sampler: str) -> None:
    notes = sampler_notes(load(folder, OPTIMIZER, f"search.sampler={sampler}"))
    assert any(f"{sampler} learns about numbers alone, and draws optimizer at random" in note for note in notes)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_a_sampler_that_learns_about_choices_says_nothing_of_them(folder: Path, sampler: str) -> None:
    assert not any(
        "at random in" in note for note in sampler_notes(load(folder, OPTIMIZER, f"search.sampler={sampler}"))
    )


@pytest.mark.parametrize("sampler", ["tpe", "gp", "optuna.samplers:TPESampler"])
@pytest.mark.parametrize(("trials", "told"), [(10, True), (11, False)])
def test_a_sampler_that_never_gets_to_learn_says_so(folder: Path, sampler: str, trials: int, told: bool) -> None:
    notes = sampler_notes(load(folder, f"search.sampler={sampler}", f"search.trials={trials}"))
    assert any("draws its first 10 trials at random" in note for note in notes) is told


@pytest.mark.parametrize(
    ("sampler", "most", "setting"),
    [
        ("optuna.samplers:NSGAIISampler", 50, "population_size"),
        ("cmaes", 1 + 7, "n_startup_trials and popsize"),  # with three numbers it has generations of seven
        ("optuna.samplers:CmaEsSampler", 1 + 7, "n_startup_trials and popsize"),
    ],
)
def test_a_sampler_of_generations_says_where_the_first_one_never_ends(
    folder: Path, sampler: str, most: int, setting: str
) -> None:
    study = functools.partial(load, folder, f"search.sampler={sampler}")
    told = f"draws its first {most} trials at random, and the study has {most}: it learns nothing; ask for more trials,"
    assert any(f"{told} or set {setting} in" in note for note in sampler_notes(study(f"search.trials={most}")))
    assert not any("learns nothing;" in note for note in sampler_notes(study(f"search.trials={most + 1}")))


def test_trials_that_run_at_once_are_drawn_before_the_sampler_learns(folder: Path) -> None:
    """The first ten trials and the seven that begin while the tenth of them runs are random."""
    (note,) = sampler_notes(load(folder, "search.trials=17"), at_once=8)
    assert "until 10 have ended, and with 8 at once all 17 of the study have begun by then: it learns nothing" in note
    assert sampler_notes(load(folder, "search.trials=18"), at_once=8) == []
    study = optuna.create_study()
    ledger = Ledger(study, load(folder, "search.trials=18"))
    running = [ledger.ask() for _ in range(8)]
    for _ in range(10):  # the last one is asked for when ten have ended
        ended = running.pop(0)
        ledger.tell(ended.number, Result(Outcome.REACHED, 4, ended.params["lr"]))
        running.append(ledger.ask())
    learnt = [trial.number for trial in study.trials if any("relative" in key for key in trial.system_attrs)]
    assert learnt == [17]


def test_a_single_choice_is_drawn_by_nobody(folder: Path) -> None:
    notes = sampler_notes(load(folder, "space.optimizer={choices=['sgd']}", "search.sampler=cmaes"))
    assert not any("optimizer" in note for note in notes)


def test_settings_that_optuna_deprecates_are_taken_without_its_warning(
    folder: Path, recwarn: pytest.WarningsRecorder
) -> None:
    make_sampler(load(folder, "search.sampler_options.prior_weight=2.0"), [])
    make_sampler(load(folder, "search.sampler=cmaes", "search.sampler_options.sigma0=0.1"), [])
    assert not recwarn.list


def test_the_setting_says_how_many_trials_are_random(folder: Path) -> None:
    changes = ("search.trials=5", "search.sampler_options.n_startup_trials=4")
    assert sampler_notes(load(folder, *changes)) == []


TWO_BY_THREE = {"choices": ["adam", "sgd"]}, {"low": 1, "high": 3, "int": True, "when": {"optimizer": "sgd"}}


@pytest.mark.parametrize(
    ("space", "distinct"),
    [
        ({"optimizer": TWO_BY_THREE[0]}, 2),
        ({"optimizer": TWO_BY_THREE[0], "batch_size": {"low": 16, "high": 32, "step": 8, "int": True}}, 6),
        ({"optimizer": TWO_BY_THREE[0], "batch_size": TWO_BY_THREE[1]}, 4),
    ],
)
def test_trials_that_repeat_others_are_told(space: dict[str, Any], distinct: int) -> None:
    train = {"schedule": "[1e-3, 0] lin[0, 4]", "seed": 3}
    (note,) = sampler_notes(sampled_study(train=train, space=space, trials=10))
    assert note.startswith(
        f"the space has {distinct} different configurations, and the study 10 trials: all trials have"
    )
    assert f"so {10 - distinct} or more repeat others" in note


@pytest.mark.parametrize(("trials", "told"), [(4, False), (5, True), (6, True)])
def test_draws_that_are_likely_to_repeat_others_are_told(trials: int, told: bool) -> None:
    """Of four draws from six values, 0.9 are expected to repeat an earlier one; of five, 1.4."""
    train = {"schedule": "[1e-3, 0] lin[0, 4]", "seed": 3}
    space = {"optimizer": TWO_BY_THREE[0], "batch_size": {"low": 16, "high": 32, "step": 8, "int": True}}
    notes = sampler_notes(sampled_study(train=train, space=space, trials=trials))
    assert (
        any('or more repeat others; leave the seed out of [train], or take sampler = "grid"' in n for n in notes)
        is told
    )


def test_first_trials_that_are_there_twice_are_told() -> None:
    train, first = {"schedule": "[lr, 0] lin[1e-5, 4]", "seed": 3}, [{"lr": 1e-3}, {"lr": 2e-3}, {"lr": 1e-3}]
    search = {"trials": 4, "sampler": "random", "first": first}
    (note,) = sampler_notes(sampled_study(train=train, search=search))
    assert note.startswith("search.first[2] is there twice: all trials have the same seed")
    assert sampler_notes(sampled_study(train={"schedule": train["schedule"]}, search=search)) == []


def test_trials_with_seeds_of_their_own_repeat_nothing() -> None:
    train = {"schedule": "[1e-3, 0] lin[0, 4]"}
    assert sampler_notes(sampled_study(train=train, space={"optimizer": TWO_BY_THREE[0]}, trials=10)) == []


def test_a_continuous_space_repeats_nothing() -> None:
    train = {"schedule": "[lr, 0] lin[1e-5, 4]", "seed": 3}
    assert sampler_notes(sampled_study(train=train, trials=10)) == []


def test_listed_runs_that_are_equal_are_told() -> None:
    runs = [{"name": "a"}, {"name": "b", "optimizer": "sgd"}, {"name": "c"}]
    assert sampler_notes(fixed_study(run=runs)) == ["listed again, with the same settings and the same seed: c"]
