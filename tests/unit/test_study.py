"""Study files: what is read, overridden, found, kept and compared. Their errors: test_study_errors.py."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from resnet_core.data import DATASETS
from search_spaces.errors import StudyError
from search_spaces.parameters import Range
from search_spaces.spec import StudySpec
from search_spaces.study import (
    differences,
    find_study,
    from_json,
    identity,
    load_study,
    shipped_studies,
    study_hash,
    to_json,
)
from sweeps.study.stopping.cap import Cap
from sweeps.study.stopping.diverged import Diverged
from tests.study_files import RUNS, SPACE, Load, error_of, with_toml

ROOT = Path(__file__).parents[2]


# What is read


def test_a_space_is_read_in_the_files_order(load: Load) -> None:
    spec = load(SPACE)
    assert list(spec.space) == ["lr", "warmup", "end"]
    assert spec.space["lr"] == Range(low=1e-3, high=2e-3, log=True)
    assert spec.space["warmup"] == Range(low=1, high=8, int=True)


def test_runs_are_read_in_the_files_order(load: Load) -> None:
    spec = load(RUNS)
    assert [(run.name, run.changes) for run in spec.run] == [("a", {"shift": 0.1}), ("b", {"seed": 7})]


def test_defaults(load: Load) -> None:
    spec = load(SPACE)
    assert (spec.objective.target, spec.objective.sustained) == (0.92, 2)
    assert (spec.search.sampler, spec.search.seed, spec.search.retries) == ("tpe", 0, 1)
    assert spec.stopping.rules == {"diverged": Diverged()}
    assert (spec.stopping.control, spec.resources.cpus_per_trial, spec.resources.gpus_per_trial) == (0, 1, 0)


def test_a_spec_cannot_be_changed(load: Load) -> None:
    spec = load(SPACE)
    with pytest.raises(ValidationError, match="frozen"):
        spec.name = "other"  # type: ignore[misc]


def test_neither_space_nor_runs_is_one_run_named_like_the_study(load: Load) -> None:
    spec = load('name = "alone"\n[train]\nschedule = "[1e-3, 0] cos[0, 4]"')
    assert [(run.name, run.changes) for run in spec.listed] == [("alone", {})]


def test_a_whole_number_is_as_good_as_a_float(load: Load) -> None:
    assert load(SPACE, "objective.target=1", "train.l2=0").objective.target == 1.0


def test_the_grid_needs_no_trials(load: Load) -> None:
    text = SPACE.replace("trials = 3", 'sampler = "grid"')
    values = ("space.lr={choices=[1e-3]}", "space.end={low=10,high=12,step=0.5}")
    assert load(text, *values).search.trials is None


def test_reading_a_study_loads_no_large_library() -> None:
    code = """if True:
        import sys
        from search_spaces.study import find_study, load_study

        load_study(find_study("adamw_cosine"))
        print({"optuna", "torch", "ray", "mlflow", "numpy"} & set(sys.modules))
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# Overrides


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("search.trials=20", lambda spec: spec.search.trials == 20),
        (" search.trials = 20 ", lambda spec: spec.search.trials == 20),
        ("train.batch_size=32", lambda spec: spec.train["batch_size"] == 32),
        ("space.lr.low=1e-4", lambda spec: spec.space["lr"].low == 1e-4),
        ("search.sampler=random", lambda spec: spec.search.sampler == "random"),
        ('search.sampler="random"', lambda spec: spec.search.sampler == "random"),
        ("description=a = b", lambda spec: spec.description == "a = b"),
        ("space.shift={low=0,high=0.1}", lambda spec: spec.space["shift"] == Range(low=0, high=0.1)),
        ("stopping.cap={best=2,slack=1.5}", lambda spec: spec.stopping.rules["cap"] == Cap(best=2, slack=1.5)),
        ("resources.gpus_per_trial=1", lambda spec: spec.resources.gpus_per_trial == 1),
        (
            "train.schedule=[lr, 0] lin[lr, warmup] cos[0, end]",
            lambda spec: "warmup]" in spec.train["schedule"],
        ),
    ],
)
def test_an_override_sets_a_value(load: Load, override: str, value: Callable[[StudySpec], bool]) -> None:
    assert value(load(SPACE, override))


def test_overrides_are_applied_in_order(load: Load) -> None:
    spec = load(SPACE, "stopping.cap.best=2", "stopping.cap.slack=1.5", "stopping.cap.best=3")
    assert spec.stopping.rules["cap"] == Cap(best=3, slack=1.5)


def test_an_empty_override_removes_a_key(load: Load) -> None:
    text = SPACE + "[stopping]\ncap = { best = 2, slack = 1.5 }"
    assert "cap" not in load(text, "stopping.cap=").stopping.rules


@pytest.mark.parametrize("key", ["run.1.seed", "run[1].seed"])
def test_an_override_reaches_into_runs(load: Load, key: str) -> None:
    assert load(RUNS, f"{key}=9").run[1].changes == {"seed": 9}


def test_the_error_on_an_override_of_a_run_names_it(load: Load) -> None:
    message = error_of(load, RUNS, "run.1.seed=-9")
    assert message.endswith("(from --set run.1.seed=-9)")
    assert message.startswith("s.toml: run[1].seed = -9: expected ")


def test_an_empty_override_removes_a_run(load: Load) -> None:
    assert [run.name for run in load(RUNS, "run[0]=").run] == ["b"]


@pytest.mark.parametrize("override", ["search.trials", "=3", "", ".=3", "search..trials=3", "search.=3"])
def test_an_override_without_key_and_value_is_refused(load: Load, override: str) -> None:
    message = error_of(load, SPACE, override)
    assert message.startswith(f"--set {override}: expected KEY=VALUE with a dotted key, such as ")


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("name.x=3", "name.x to set"),
        ("name.x.y=3", "name.x.y to set"),
        ("name.sampled=", "name.sampled to take out"),
        ("run[2].seed=3", "run[2].seed to set"),
        ("run.a.seed=3", "run.a.seed to set"),
        ("run[2]=", "run[2] to take out"),
        ("stopping.capp=", "stopping.capp to take out"),
    ],
)
def test_an_override_of_a_key_that_cannot_exist_is_refused(load: Load, override: str, what: str) -> None:
    assert error_of(load, RUNS, override) == f"--set {override}: the file has no {what}"


def test_an_override_cannot_smuggle_in_other_keys(load: Load) -> None:
    spec = load(SPACE, 'description="a"\nname = "b"')
    assert (spec.name, spec.description) == ("sampled", '"a"\nname = "b"')


# Shipped studies


def test_the_shipped_studies_are_listed() -> None:
    assert shipped_studies() == [
        "adamw_cosine",
        "optimizers",
        "published/course_resnet9",
        "published/post1_batch_sizes",
        "published/post1_plateau",
        "published/post5",
        "published/post5_open_questions",
        "published/post5_run33",
        "published/report_datasets",
        "published/report_networks",
        "published/report_optimizers",
        "published/super_convergence",
        "quickstart",
        "recorded/cifar10",
        "recorded/digits",
    ]


@pytest.mark.parametrize("suffix", ["", ".toml"])
@pytest.mark.parametrize("name", shipped_studies())
def test_a_shipped_study_is_found_by_name_and_loads(name: str, suffix: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = load_study(find_study(name + suffix))
    named = {spec.train.get("data"), *(run.changes.get("data") for run in spec.run)} - {None}
    assert named
    assert named <= set(DATASETS)


def test_a_file_comes_ahead_of_a_shipped_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("quickstart").write_text(RUNS)
    assert load_study(find_study("quickstart")).name == "listed"


@pytest.mark.parametrize("text", ["../search_spaces/quickstart", "published/../quickstart", "./quickstart", ""])
def test_a_name_does_not_leave_the_folder(text: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError, match=r"no such file|expected a path"):
        find_study(text)


def test_what_is_not_found_lists_what_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError) as caught:
        find_study("quickstrat")
    assert str(caught.value) == (
        "quickstrat: no such file, and no study of that name ships with the project; "
        f"did you mean quickstart? expected a file or one of: {', '.join(shipped_studies())}"
    )


def test_a_folder_is_no_study_file(tmp_path):
    with pytest.raises(StudyError, match=f"^{tmp_path}: it is a folder, and no study"):
        find_study(str(tmp_path))


def test_a_study_file_whose_ending_is_missing_is_suggested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").touch()
    with pytest.raises(StudyError, match=r"did you mean mine\.toml\?"):
        find_study("mine")


# Kept, identified, compared


@pytest.mark.parametrize("name", shipped_studies())
def test_json_takes_a_study_there_and_back(name: str) -> None:
    spec = load_study(find_study(name))
    again = from_json(to_json(spec))
    assert again == spec
    assert list(again.space) == list(spec.space)
    assert study_hash(again) == study_hash(spec)


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"name": 3}', "stored study: name = 3: expected a string"), ("{", "stored study: not JSON: EOF")],
)
def test_json_that_holds_no_study_is_refused(text: str, message: str) -> None:
    with pytest.raises(StudyError) as caught:
        from_json(text)
    assert message in str(caught.value)


def test_identity_has_dotted_keys(load: Load) -> None:
    text = with_toml(SPACE, "search", "first = [{ lr = 1e-3 }]")
    values = identity(load(text, "stopping.cap={best=5,slack=1.2}"))
    wanted = {
        "space.lr.high": 2e-3,
        "space.warmup.int": True,
        "stopping.cap.best": 5,
        "search.first[0].lr": 1e-3,
        "train.schedule": "[0.8*lr, 0] lin[lr, +warmup] cos[1e-5, end]",
    }
    assert {key: values[key] for key in wanted} == wanted
    assert identity(load(RUNS))["run[1].seed"] == 7


@pytest.mark.parametrize(
    "override",
    [
        "description=other",
        "search.trials=99",
        "search.retries=5",
        "resources.cpus_per_trial=8",
        "resources.gpus_per_trial=0.5",
        "resources.shared_process=true",
        "resources.epoch_timeout=60",
    ],
)
def test_keys_without_influence_on_results_are_not_in_the_identity(load: Load, override: str) -> None:
    assert study_hash(load(SPACE, override)) == study_hash(load(SPACE))


def test_a_stored_study_has_an_epoch_timeout_only_where_it_is_set(load: Load) -> None:
    assert "epoch_timeout" not in to_json(load(SPACE))
    assert from_json(to_json(load(SPACE, "resources.epoch_timeout=60"))).resources.epoch_timeout == 60


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("name=other", 'name: "sampled" -> "other"'),
        ("space.lr.high=0.003", "space.lr.high: 0.002 -> 0.003"),
        ("space.warmup.high=9", "space.warmup.high: 8 -> 9"),
        ("train.split=pooled", 'train.split: (absent) -> "pooled"'),
        ("objective.target=0.9", "objective.target: 0.92 -> 0.9"),
        ("search.sampler=gp", 'search.sampler: "tpe" -> "gp"'),
        ("search.seed=1", "search.seed: 0 -> 1"),
        ("stopping.at_target=true", "stopping.at_target: false -> true"),
    ],
)
def test_differences_name_each_changed_key(load: Load, override: str, line: str) -> None:
    text = SPACE + "[stopping]\ncap = { best = 5, slack = 1.2 }"
    old, new = load(text), load(text, override)
    assert differences(old, new) == [line]
    assert study_hash(old) != study_hash(new)


def test_differences_show_a_removed_key_as_absent(load: Load) -> None:
    text = SPACE + "[stopping]\ncap = { best = 5, slack = 1.2 }"
    assert differences(load(text), load(text, "stopping.cap=")) == [
        "stopping.cap.best: 5 -> (absent)",
        "stopping.cap.slack: 1.2 -> (absent)",
    ]


def test_1_and_1_point_0_are_the_same_study(load: Load) -> None:
    assert differences(load(SPACE, "train.l2=0"), load(SPACE, "train.l2=0.0")) == []
    assert study_hash(load(SPACE, "train.l2=0")) == study_hash(load(SPACE, "train.l2=0.0"))


def test_long_values_that_differ_at_their_end_differ(load: Load) -> None:
    text = "[1e-3, 0]" + "".join(f" lin[1e-3, {epoch}]" for epoch in range(1, 20))
    old, new = (load(RUNS, f"train.schedule={text} cos[{end}, 30]") for end in ("1e-5", "2e-5"))
    assert len(differences(old, new)) == 1


def test_the_hash_is_twelve_hexadecimal_digits_and_stays() -> None:
    spec = StudySpec(name="x", train={"schedule": "[1e-3, 0] cos[1e-5, 4]"})
    assert study_hash(spec) == "7f5e461f7a65"
