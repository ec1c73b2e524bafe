"""The public names of the package, and what they do without a launch."""

import re
import subprocess
import sys
from inspect import getdoc
from pathlib import Path

import pytest

import sweeps

QUICK = {
    "name": "quick",
    "train": {"model": "resnet11v2", "data": "digits", "image_size": 16, "schedule": "[lr, 0] lin[0, 2]"},
    "space": {"lr": {"low": 1e-3, "high": 1e-2}},
    "search": {"trials": 3},
}


def test_importing_it_loads_nothing_that_takes_seconds():
    code = "import sys, sweeps; sweeps.load_study('quickstart'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"torch", "ray", "optuna", "mlflow", "pandas", "numpy", "rich"} & set(done.stdout.split())


@pytest.mark.parametrize("name", sweeps.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getdoc(getattr(sweeps, name))


def test_a_study_is_loaded_from_a_shipped_name_a_file_a_mapping_and_a_study(tmp_path):
    file = tmp_path / "quick.toml"
    file.write_text(
        'name = "quick"\n[train]\nmodel = "resnet11v2"\ndata = "digits"\nimage_size = 16\n'
        'schedule = "[lr, 0] lin[0, 2]"\n[space]\nlr = { low = 1e-3, high = 1e-2 }\n[search]\ntrials = 3\n'
    )
    study = sweeps.load_study(QUICK)
    assert sweeps.load_study(file) == sweeps.load_study(str(file)) == sweeps.load_study(study) == study
    assert sweeps.load_study("quickstart").name == "quickstart"


@pytest.mark.parametrize("study", [QUICK, sweeps.load_study(QUICK)], ids=["mapping", "study"])
def test_changes_are_those_of_the_command_line_and_leave_what_was_given_alone(study):
    changed = sweeps.load_study(
        study, name="other", trials=5, changes=["train.batch_size=16", "stopping.diverged=false"]
    )
    assert (changed.name, changed.search.trials, changed.train["batch_size"]) == ("other", 5, 16)
    assert sweeps.load_study(study) == sweeps.load_study(QUICK)


@pytest.mark.parametrize(
    ("study", "arguments", "said"),
    [
        ("absent", {}, "absent: no such file, and no study of that name ships"),
        ({"name": "any"}, {}, "study: train.schedule: missing"),
        (QUICK | {"train": {"schedule": "[lr, 0] lin[oops"}}, {}, "train.schedule"),
        (QUICK, {"name": "a/b"}, "a/b"),
        (QUICK, {"trials": 0}, "search.trials = 0"),
    ],
)
def test_what_is_wrong_with_a_study_is_an_input_error(study, arguments, said):
    with pytest.raises(sweeps.InputError) as error:
        sweeps.load_study(study, **arguments)
    assert said in str(error.value)


def test_a_launch_of_a_wrong_study_writes_nothing(tmp_path):
    home = tmp_path / "home"
    with pytest.raises(sweeps.InputError):
        sweeps.launch(QUICK, changes=["train.optimizer=none"], home=home)
    assert not home.exists()


def test_resume_says_that_there_is_no_such_study(tmp_path):
    with pytest.raises(sweeps.InputError, match="no study 'absent'"):
        sweeps.resume("absent", home=tmp_path)


def test_results_of_a_study_that_is_not_there_are_an_input_error(tmp_path):
    with pytest.raises(sweeps.InputError, match=r"mlflow\.db"):
        sweeps.load_results("absent", home=tmp_path)


def test_results_are_read_from_the_home_that_the_environment_names(store, monkeypatch):
    launch = store.launch("results")
    store.trial(launch, 0, [0.5, 0.93], "reached")
    monkeypatch.setenv("SWEEPS_HOME", str(store.path.parent))
    results = sweeps.load_results("results", metrics=["val_acc"])
    assert results.epochs["val_acc"].tolist() == [0.5, 0.93]
    assert "loss" not in results.epochs


def test_the_page_of_the_documentation_has_every_public_name():
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^::: sweeps\.(\w+)$", page, re.MULTILINE)) == sorted(sweeps.__all__)


def test_a_notebook_gets_the_progress_as_lines_of_text(monkeypatch, tmp_path):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert not sweeps.api.open_launcher(sweeps.api.open_home(tmp_path)).console.is_jupyter
