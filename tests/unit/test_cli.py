"""What the command line does as any other: its version, its help, completion in a shell, a first study file."""

import contextlib
import json
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import sweeps.cli
from resnet_core import code
from resnet_core.data import DATASETS
from search_spaces.errors import StudyError
from search_spaces.study import shipped_studies
from sweeps import load_study
from sweeps.api import open_home
from sweeps.cli import app
from sweeps.cli.app import print_message
from sweeps.cli.training import device_of
from sweeps.errors import InputError
from sweeps.ledger.ledger import Ledger
from sweeps.version import code_version
from tests.studies import sampled_study


def run(*arguments: str, **env: str) -> str:
    """What a command prints; what it raises is raised."""
    done = CliRunner().invoke(app, arguments, env=env, prog_name="sweeps")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def test_version_is_that_of_the_package_with_its_commit():
    assert run("--version") == f"sweeps {code_version()}\n"


@pytest.mark.parametrize("command", [(), ("launch",), ("schedule",)])
def test_h_is_help(command):
    assert run(*command, "-h") == run(*command, "--help")


def completed(line: str) -> list[str]:
    """What bash offers behind a line."""
    words = line.split(" ")
    env = {"_SWEEPS_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    return run(**env).splitlines()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder that a command runs in, with its home, two study files and a folder of others."""
    monkeypatch.chdir(tmp_path)
    for name in ("runs/studies/alpha", "runs/studies/beta", "other/studies/gamma", "quick"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("quick.toml", "quick/more.toml", "quick.txt"):
        (tmp_path / name).touch()
    return tmp_path


def test_commands_and_options_are_completed():
    assert completed("sweeps la") == ["launch"]
    assert completed("sweeps launch --fo") == ["--fork"]
    assert completed("sweeps table NAME --view l") == ["ladder"]


@pytest.mark.usefixtures("folder")
def test_studies_to_launch_are_those_that_ship_and_study_files():
    assert completed("sweeps launch quick") == ["quickstart", "quick/", "quick.toml"]
    assert completed("sweeps plan quick/") == ["quick/more.toml"]
    assert set(shipped_studies()) <= set(completed("sweeps launch "))


def test_names_are_those_of_the_studies_in_the_home_folder(folder):
    assert completed("sweeps table ") == ["alpha", "beta"]
    assert completed("sweeps status al") == ["alpha"]
    assert completed(f"sweeps resume --home {folder / 'other'} ") == ["gamma"]


def test_completing_does_without_what_takes_seconds_to_import():
    code = """if True:
        import atexit, os, sys
        os.environ |= {"_SWEEPS_COMPLETE": "complete_bash", "COMP_WORDS": "sweeps table a", "COMP_CWORD": "2"}
        atexit.register(lambda: print(*sys.modules))
        sys.argv[0] = "sweeps"
        from sweeps.cli import main
        main()
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "ray", "optuna", "mlflow", "pandas", "numpy"} & set(done.stdout.split())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_shown(shell, monkeypatch):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")  # it is pytest that started this
    assert "_SWEEPS_COMPLETE" in run("--show-completion", shell)


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.usefixtures("folder")
def test_init_writes_a_valid_study_of_its_name(dataset):
    assert run("init", "mine", "--dataset", dataset) == "mine.toml\n"
    study = load_study("mine.toml")
    assert (study.name, study.train["data"]) == ("mine", dataset)


def test_a_study_that_init_wrote_explains_each_of_its_tables(folder):
    run("init", "mine")
    lines = (folder / "mine.toml").read_text().splitlines()
    tables = [i for i, line in enumerate(lines) if line.startswith("[")]
    assert len(tables) == 6
    assert all(lines[i - 1].startswith(f"# {lines[i]} ") for i in tables)
    assert max(map(len, lines)) <= 120


def test_init_overwrites_nothing(folder):
    (folder / "mine.toml").write_text("kept")
    with pytest.raises(InputError, match=r"mine\.toml: it is there already"):
        run("init", "mine")
    assert (folder / "mine.toml").read_text() == "kept"


@pytest.mark.usefixtures("folder")
def test_init_refuses_a_name_that_no_study_can_have():
    with pytest.raises(StudyError, match='name = "a/b"'):
        run("init", "a/b")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("dataset", ["mnist", ""])
def test_init_knows_the_data_sets_that_ship(dataset):
    with pytest.raises(InputError, match=f"--dataset {dataset}: expected cifar10, "):
        run("init", "mine", "--dataset", dataset)


OWN_TRAINER = """
from dataclasses import dataclass
from typing import Literal
from sweeps import Run, Schedule

@dataclass(frozen=True)
class Config:
    {fields}

def train(config: Config, run: Run):
    yield {{"val_acc": 0.5}}
"""


def own_trainer(folder, *fields):
    (folder / "own.py").write_text(OWN_TRAINER.format(fields="\n    ".join(fields)))


def test_init_lists_the_fields_of_a_trainer_with_types_and_defaults(folder):
    own_trainer(folder, "decay: Schedule", "schedule: Schedule", "hidden: int = 64", "kind: Literal['a', 'b'] = 'a'")
    assert run("init", "mine", "--trainer", "own:train") == "mine.toml\n"
    lines = (folder / "mine.toml").read_text().splitlines()
    assert 'schedule = "[lr, 0] lin[0, 10]"' in lines
    assert "# hidden = 64  # a whole number" in lines
    assert '# kind = "a"  # one of a, b' in lines
    assert max(map(len, lines)) <= 120
    study = load_study("mine.toml")
    assert study.train.keys() == {"trainer", "decay", "schedule"}
    assert study.space.keys() == {"lr"}


def test_init_varies_a_number_of_a_trainer_without_schedules(folder):
    own_trainer(folder, "epochs: int", "rate: float = 0.5", "depth: int = 1", "seed: int = 7")
    run("init", "mine", "--trainer", "own:train")
    study = load_study("mine.toml")
    assert study.train["epochs"] == 10
    assert study.space.keys() == {"rate"}


def test_a_field_that_needs_a_value_is_named_by_init_and_missed_by_plan(folder):
    own_trainer(folder, "schedule: Schedule", "width: int")
    run("init", "mine", "--trainer", "own:train")
    assert "# width =  # a whole number; it has no default" in (folder / "mine.toml").read_text().splitlines()
    with pytest.raises(InputError, match=r"train\.width: missing"):
        load_study("mine.toml")


def test_init_says_where_it_looked_for_a_trainer(folder):
    with pytest.raises(
        InputError, match=rf"--trainer absent:train: no module absent: looked for absent\.py in {folder}"
    ):
        run("init", "mine", "--trainer", "absent:train")
    assert not (folder / "mine.toml").exists()


def test_studies_are_those_that_ship():
    assert [row["study"] for row in json.loads(run("studies", "--json"))] == shipped_studies()
    assert "quickstart " in run("studies")


def main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Run the command as a shell does."""
    monkeypatch.setattr(sys, "argv", ["sweeps", *arguments])
    with pytest.raises(SystemExit):
        sweeps.cli.main()


NETS = """
from torch import nn


class Fails(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.out = nn.LazyLinear(classes)

    def forward(self, x):
        if self.training:
            raise ValueError("no training")
        return self.out(x.flatten(1))
"""
TRAINED = """
name = "one"
[train]
model = "one:Fails"
data = "digits"
schedule = "[1, 0] lin[0, 1]"
"""


@pytest.fixture
def failing(tmp_path, monkeypatch):
    """A folder with a study of a network that fails in training."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.py").write_text(NETS)
    (tmp_path / "one.toml").write_text(TRAINED)
    yield tmp_path
    code.search()
    sys.modules.pop("one", None)


def test_an_error_in_the_users_code_is_told_with_its_file_and_line(failing, monkeypatch, capsys):
    main(monkeypatch, "train", "one.toml")
    assert f"sweeps: {failing / 'one.py'}, line 12: ValueError: no training" in capsys.readouterr().err.splitlines()


def test_ctrl_c_that_becomes_another_error_is_no_error(monkeypatch, capsys):
    def command(**_options: object) -> None:
        with contextlib.suppress(KeyboardInterrupt):  # as in a module that is being imported
            signal.raise_signal(signal.SIGINT)
        raise AttributeError("module 'numpy' has no attribute 'ndarray'")

    monkeypatch.setattr("sweeps.cli.app", command)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit, match=r"^130$"):
            sweeps.cli.main()
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == ""


def test_show_says_why_it_has_no_epochs(tmp_path, monkeypatch, capsys):
    study = sampled_study()
    Ledger.create(open_home(tmp_path).ledger_uri, study).ask()
    (tmp_path / "mlflow.db").write_text("no database")
    monkeypatch.setattr("sys.argv", ["sweeps", "show", study.name, "0", "--home", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"^0$"):
        sweeps.cli.main()
    said = capsys.readouterr()
    assert said.out.startswith("trial 0")
    assert said.err == f"no epochs: {tmp_path}/mlflow.db: not an MLflow database: file is not a database\n"


def test_the_name_of_an_emoji_stays_text(capsys):
    print_message("nets:one: a network")
    assert capsys.readouterr().err == "nets:one: a network\n"


@pytest.mark.parametrize(
    ("device", "gpus", "found"),
    [("", 0, "cpu"), ("", 1, "cuda"), ("cpu", 1, "cpu"), ("cuda", 1, "cuda"), ("cuda:1", 2, "cuda:1")],
)
def test_a_device_is_that_which_was_named_or_a_gpu_if_there_is_one(device, gpus, found):
    assert device_of(device, gpus) == found


@pytest.mark.parametrize(
    ("device", "gpus", "said"),
    [
        ("cuda", 0, "--device cuda: torch finds no GPUs here; use --device cpu"),
        ("cuda:1", 1, "--device cuda:1: torch finds 1 GPUs here; use --device cpu"),
        ("tpu", 1, "--device tpu: expected cpu or cuda"),
    ],
)
def test_a_device_that_is_not_there_is_refused(device, gpus, said):
    with pytest.raises(InputError, match=f"^{said}$"):
        device_of(device, gpus)


def test_a_current_folder_that_is_gone_is_told_in_a_line(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    code = f"import os, sweeps.cli; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); sweeps.cli.main()"
    done = subprocess.run([sys.executable, "-c", code, "ls"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "sweeps: the current folder was deleted; change to another with cd\n")
