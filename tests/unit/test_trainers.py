"""Trainers of one's own in study files: what their fields may be, and what is said of wrong ones."""

import textwrap
from pathlib import Path
from typing import Any

import pytest

from resnet_core.code import CodeError
from resnet_core.own_config import OwnConfig
from resnet_core.run import Run
from search_spaces.errors import StudyError
from search_spaces.space import longest_horizon, trial_config
from search_spaces.spec import StudySpec
from search_spaces.study import from_json, load_study, study_hash, to_json
from search_spaces.toml import to_toml
from search_spaces.trainers import RESERVED, OwnTrainer

CONFIG = """
    epochs: int = 4
    rate: float = 0.1
    seed: int = 0
"""
CODE = """
import enum
from dataclasses import dataclass, field
from typing import Any, Literal

from sweeps import Run, Schedule


class Kind(enum.Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass(frozen=True)
class Config:
{config}

def train(config: Config, run: Run):
    for epoch in run.epochs():
        yield {{"val_acc": 0.5}}
"""


def write(folder: Path, config: str = CONFIG, code: str = CODE) -> None:
    (folder / "own.py").write_text(code.format(config=textwrap.indent(textwrap.dedent(config), "    ")))


def read(folder: Path, tables: str = "", train: str = "", trainer: str = "own:train") -> StudySpec:
    """Read a study whose trainer is beside its file."""
    file = folder / "study.toml"
    file.write_text(f'name = "x"\n[train]\ntrainer = "{trainer}"\n{train}\n{tables}\n')
    return load_study(file)


def refused(folder: Path, *args: str, **options: str) -> str:
    with pytest.raises(StudyError) as error:
        read(folder, *args, **options)
    return str(error.value).replace(f"{folder / 'study.toml'}: ", "").replace(str(folder), "DIR")


def config(spec: StudySpec, **params: Any) -> dict[str, Any]:
    made = trial_config(spec, params)
    assert isinstance(made, OwnConfig)
    return made.to_dict()


# Fields


def test_fields_have_the_defaults_of_the_dataclass(tmp_path):
    write(
        tmp_path,
        """
        epochs: int = 3
        mode: Literal["a", "b"] = "a"
        kind: Kind = Kind.SMALL
        sizes: tuple[int, ...] = (1, 2)
        widths: list[float] = field(default_factory=list)
        note: str | None = None
        temperature: Schedule | None = None
        """,
    )
    assert config(read(tmp_path)) == {
        "epochs": 3,
        "mode": "a",
        "kind": "small",
        "sizes": [1, 2],
        "widths": [],
        "note": None,
        "temperature": None,
    }


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("rate: float", '"fast"', 'train.rate = "fast": expected a number'),
        ("flag: bool", "1", "train.flag = 1: expected true or false"),
        ("width: int", "1.5", "train.width = 1.5: expected a whole number"),
        ('mode: Literal["a", "b"]', '"c"', "train.mode = \"c\": expected 'a' or 'b'"),
        ("kind: Kind", '"huge"', "train.kind = \"huge\": expected 'small' or 'large'"),
        ("sizes: list[int]", "3", "train.sizes = 3: expected a list"),
    ],
)
def test_a_value_of_the_wrong_type_is_told_with_its_key(field, value, expected, tmp_path):
    write(tmp_path, f"{field}\nepochs: int = 2")
    assert refused(tmp_path, train=f"{field.partition(':')[0]} = {value}") == expected


def test_an_unknown_field_is_told_with_the_nearest_name(tmp_path):
    write(tmp_path)
    assert refused(tmp_path, train="rat = 0.1") == "train.rat = 0.1: unknown field; did you mean rate?"


def test_a_field_without_default_must_be_given(tmp_path):
    write(tmp_path, "width: int\nepochs: int = 2")
    expected = "train.width: missing; expected a whole number: Config of own:train has no default for it"
    assert refused(tmp_path) == expected


def test_a_parameter_that_no_field_and_no_schedule_uses_is_refused(tmp_path):
    write(tmp_path)
    found = refused(tmp_path, "[space]\nrat = { low = 0.1, high = 1.0 }\n[search]\ntrials = 2")
    assert found == "space.rat: nothing uses it; did you mean rate?"


def test_a_sampled_field_has_the_type_of_the_field(tmp_path):
    write(tmp_path)
    found = refused(tmp_path, "[space]\nepochs = { low = 1.5, high = 9.5 }\n[search]\ntrials = 2")
    assert found == "space.epochs.low = 1.5: expected int = true beside it: epochs is a whole number"


SAMPLED = "[space]\nrate = { low = 0.1, high = 1.0 }\n[search]\ntrials = 2"


def test_a_parameter_of_a_schedule_is_also_the_field_of_its_name(tmp_path):
    write(tmp_path, "rate: float\nschedule: Schedule")
    spec = read(tmp_path, SAMPLED, train='schedule = "[rate, 0] lin[0, 5]"')
    assert config(spec, rate=0.5) == {"rate": 0.5, "schedule": "[0.5, 0] lin[0, 5]"}


def test_a_parameter_of_a_schedule_has_the_type_of_its_field(tmp_path):
    write(tmp_path, "rate: int\nschedule: Schedule")
    found = refused(tmp_path, SAMPLED, train='schedule = "[rate, 0] lin[0, 5]"')
    assert found == "space.rate.low = 0.1: expected int = true beside it: rate is a whole number"


def test_a_parameter_that_config_refuses_is_told_alone(tmp_path):
    code = CODE.replace("Run, Schedule", "ConfigError, Run, Schedule")
    check = "def __post_init__(self):\n    if self.rate > 0.5: raise ConfigError('rate', self.rate, 'less')"
    write(tmp_path, f"rate: float\nepochs: int = 2\n{check}", code)
    assert refused(tmp_path, SAMPLED) == "space.rate.high = 1.0: expected less"


def test_a_study_gives_the_seed(tmp_path):
    write(tmp_path, "rate: float\nseed: int\nepochs: int = 2")
    assert trial_config(read(tmp_path, SAMPLED), {"rate": 0.5}, seed=7).seed == 7


@pytest.mark.parametrize("name", ["data", "model", "optimizer", "test", "model_options", "data_info"])
def test_keys_of_the_trainer_that_ships_mean_nothing_to_another(name, tmp_path):
    write(tmp_path, f"{name}: str\nepochs: int = 2")
    spec = read(tmp_path, f'[space]\n{name} = {{ choices = ["imagefolder:x", "nothing:here"] }}\n[search]\ntrials = 2')
    assert config(spec, **{name: "nothing:here"})[name] == "nothing:here"


def test_a_schedule_of_any_name_may_hold_parameters(tmp_path):
    write(tmp_path, "temperature: Schedule\nseed: int = 0")
    spec = read(
        tmp_path,
        "[space]\nhot = { low = 1.0, high = 2.0 }\n[search]\ntrials = 2",
        train='temperature = "[hot, 0] lin[0, 5]"',
    )
    assert config(spec, hot=1.5)["temperature"] == "[1.5, 0] lin[0, 5]"
    assert trial_config(spec, {"hot": 1.5}).horizon == 5


def test_the_longest_horizon_is_that_of_the_longest_choice(tmp_path):
    write(tmp_path)
    spec = read(tmp_path, "[space]\nepochs = { choices = [3, 9, 5] }\n[search]\ntrials = 2")
    assert longest_horizon(spec) == 9


def test_the_longest_horizon_considers_schedules_of_other_names(tmp_path):
    write(tmp_path, "temperature: Schedule\nseed: int = 0")
    texts = '["[1, 0] lin[0, 7]", "[1, 0] lin[0, 2]"]'
    spec = read(tmp_path, f"[space]\ntemperature = {{ choices = {texts} }}\n[search]\ntrials = 2")
    assert longest_horizon(spec) == 7


def test_a_run_without_a_length_is_refused(tmp_path):
    write(tmp_path, "rate: float = 0.1")
    expected = "Config of own:train to have a field `epochs`, or one of type Schedule: a run needs a length"
    assert refused(tmp_path).endswith(f"expected {expected}")


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_field_cannot_have_a_name_that_tables_use(name, tmp_path):
    write(tmp_path, f"epochs: int = 2\n{name}: int = 0")
    assert f"Config.{name} of own:train: expected another name; these are taken: " in refused(tmp_path)


def test_all_columns_of_the_store_and_the_results_are_taken():
    from analysis.store.loader import TRIAL_COLUMNS
    from analysis.tables.columns import RESULTS, SETTINGS

    columns = {column.name for column in RESULTS} - {column.name for column in SETTINGS}
    assert (columns | set(TRIAL_COLUMNS) | {"lr_alpha"}) <= RESERVED


# Errors in the user's code


def test_an_error_of_post_init_is_told_with_file_and_line(tmp_path):
    write(tmp_path, CONFIG + "    def __post_init__(self):\n        raise ValueError('rate too low')\n")
    assert refused(tmp_path).startswith("train: DIR/own.py, line ")
    assert refused(tmp_path).endswith(": ValueError: rate too low")


def test_post_init_does_not_end_the_program(tmp_path):
    write(tmp_path, CONFIG + "    def __post_init__(self):\n        raise SystemExit('rate too low')\n")
    assert refused(tmp_path).startswith("train: DIR/own.py, line ")
    assert refused(tmp_path).endswith(": sys.exit('rate too low') would end the program")


def test_seconds_per_epoch_does_not_end_the_program(tmp_path):
    write(tmp_path, code=f"{CODE}\ndef seconds_per_epoch(config, run):\n    raise SystemExit(3)\n")
    spec = read(tmp_path)
    with pytest.raises(CodeError, match=r"own\.py, line \d+: sys\.exit\(3\) would end the program"):
        spec.trainer.seconds_per_epoch(trial_config(spec, {}), Run())


def test_an_error_at_import_is_told_with_file_and_line(tmp_path):
    write(tmp_path, code="import math\n\nmath.pi.missing\n")
    assert refused(tmp_path) == 'train.trainer = "own:train": DIR/own.py, line 3: AttributeError: ' + (
        "'float' object has no attribute 'missing'"
    )


def test_a_syntax_error_is_told_with_file_and_line(tmp_path):
    write(tmp_path, code="\ndef train(:\n")
    assert refused(tmp_path).startswith('train.trainer = "own:train": DIR/own.py, line 2: SyntaxError: ')


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1", "has no train; it has: x"),
        ("train = 1", "own:train is of type int: expected a function train(config: Config, run: sweeps.Run)"),
        ("def train(run): ...", "with a dataclass Config; it has 1"),
        ("def train(config, run): ...", "config has no annotation"),
        ("def train(config: int, run): ...", "config is annotated with a whole number"),
        ("class C: ...\ndef train(config: C, run): ...", "config is annotated with C"),
        ("def train(a: int, b, c): ...", "with a dataclass Config; called with two: missing a required argument: 'c'"),
        ("def train(*, config: int, run): ...", "with a dataclass Config; called with two: too many positional"),
        ("async def train(a: int, b): ...", "own:train is async: expected a function, or a generator, that is not"),
        ("def train(config: 'Missing', run): ...", "config: Missing is not known"),
    ],
)
def test_what_is_no_trainer_is_refused(code, said, tmp_path):
    write(tmp_path, code=code)
    assert said in refused(tmp_path)


def test_a_missing_module_is_told_with_the_folder(tmp_path):
    assert "no module nothing: looked for nothing.py in DIR" in refused(tmp_path, trainer="nothing:train")


@pytest.mark.parametrize("hint", ["object()", "Kind | object()"])
def test_a_field_whose_type_no_file_can_give_is_refused(hint, tmp_path):
    write(tmp_path, f"epochs: int = 2\nodd: '{hint}' = None")
    assert "Config" in refused(tmp_path)


def test_a_field_whose_type_is_not_known_is_refused(tmp_path):
    write(tmp_path, "epochs: int = 2\nodd: 'Missing' = None")
    assert "Config of own:train: a type is not known: name 'Missing' is not defined" in refused(tmp_path)


@pytest.mark.parametrize("hint", ["dict[str, int]", "list[dict[str, int]]", "Other", "list[Other]", "list[Schedule]"])
def test_a_table_is_no_value_of_a_field(hint, tmp_path):
    other = "@dataclass\nclass Other:\n    a: int = 1\n\n\n@dataclass(frozen=True)"
    write(tmp_path, f"odd: {hint}\nepochs: int = 2", CODE.replace("@dataclass(frozen=True)", other))
    assert "Config.odd of own:train: a study file cannot give a " in refused(tmp_path)


@pytest.mark.parametrize("hint", ["Any", "list"])
def test_a_table_is_no_value_of_a_field_of_any_type(hint, tmp_path):
    write(tmp_path, f"odd: {hint}\nepochs: int = 2")
    assert refused(tmp_path, train="odd = [{ a = 1 }]") == "train.odd = [{ a = 1 }]: expected no table"


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("a: int = None", "its default is None: expected a whole number, or `| None` in its type"),
        ("a: int = 'many'", "its default is 'many': expected a whole number"),
        ("a: float = float('inf')", "its default is inf: expected a finite number"),
        ("a: float | None = float('inf')", "its default is inf: expected a finite number"),
        ("a: Schedule = None", "its default is None: expected a schedule"),
        ("a: Schedule = 'up'", "its default: expected '[', found 'up'"),
        ("a: list[int] = field(default_factory=lambda: 1 / 0)", "ZeroDivisionError: division by zero"),
        ("a: list[int] = field(default_factory=exit)", "sys.exit(None) would end the program"),
        ("seed: float = 0", "expected the type int: each trial has another seed"),
        ("seed: Literal[0, 1] = 0", "expected the type int: each trial has another seed"),
        ("epochs: float = 3", "expected the type int: it is how many epochs a trial has"),
    ],
)
def test_a_default_or_a_type_that_makes_no_trial_is_told_with_its_field(field, said, tmp_path):
    write(tmp_path, field if "epochs" in field else f"{field}\nepochs: int = 2")
    found = refused(tmp_path)
    assert found.startswith(f'train.trainer = "own:train": Config.{field.partition(":")[0]} of own:train: ')
    assert said in found


# What a study cannot do with a trainer of one's own


def test_trials_do_not_share_a_process(tmp_path):
    write(tmp_path)
    found = refused(tmp_path, "[resources]\nshared_process = true")
    assert found.startswith("resources.shared_process = true: expected false with own:train: trials in one process")


@pytest.mark.parametrize(
    ("tables", "key"), [("seeds = [0, 1]", "search.seeds"), ("finalists = {}", "search.finalists")]
)
def test_repeats_need_a_field_seed(tables, key, tmp_path):
    write(tmp_path, "epochs: int = 2")
    found = refused(tmp_path, f"[search]\n{tables}")
    assert found.startswith(key)
    assert "Config of own:train has no field `seed`" in found


# Stored studies


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("other: int = 1", "Config of own:train has no field rate, which the study has"),
        ("rate: int = 1", "Config.rate of own:train: the study has 0.1: expected a whole number"),
    ],
)
def test_a_config_that_has_changed_says_what_a_trial_has(field, said, tmp_path):
    write(tmp_path)
    made = trial_config(read(tmp_path), {})
    write(tmp_path, f"epochs: int = 4\n{field}\nseed: int = 0")
    with pytest.raises(CodeError, match=said):
        OwnTrainer("own:train").instance(made)


def test_a_stored_study_imports_no_code(tmp_path):
    write(tmp_path)
    text = to_json(read(tmp_path, train="rate = 0.3"))
    (tmp_path / "own.py").write_text("raise SystemExit('imported')")
    stored = from_json(text)
    assert config(stored) == {"epochs": 4, "rate": 0.3, "seed": 0}


def test_a_stored_study_that_names_a_library_does_not_import_it(tmp_path, monkeypatch):
    write(tmp_path)
    text = to_json(read(tmp_path)).replace("own:train", "antigravity:geohash")
    monkeypatch.setattr("importlib.import_module", lambda name: pytest.fail(f"{name} was imported"))
    assert from_json(text).trainer.name == "antigravity:geohash"


def test_the_identity_of_a_study_has_the_version_of_its_code(tmp_path):
    write(tmp_path)
    before = study_hash(read(tmp_path))
    write(tmp_path, code=CODE + "\n# changed\n")
    assert study_hash(read(tmp_path)) != before


def test_the_study_file_of_a_study_can_be_read_again(tmp_path):
    write(tmp_path)
    spec = read(tmp_path, train="rate = 0.3")
    (tmp_path / "again.toml").write_text(to_toml(spec))
    assert to_json(load_study(tmp_path / "again.toml")) == to_json(spec)
