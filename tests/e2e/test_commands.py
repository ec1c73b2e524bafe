"""The command line itself: its commands and options, and those of them that launch nothing."""

import json
import re
import subprocess

import pytest
import typer

from resnet_core.records import duration_text
from sweeps.cli import app
from tests.e2e.conftest import environment

# People's scripts hang on these. A new one is added here; one that goes, or changes its name, breaks somebody.
STORE = "--home --mlflow --ledger"
LAUNCH = f"--address --report --no-report {STORE} --data --quiet --verbose --debug"
OPTIONS = {
    "launch": f"--name --trials --set --fork --yes {LAUNCH}",
    "resume": f"--trials --changed-code {LAUNCH}",
    "race": f"--top --seeds {LAUNCH}",
    "stop": f"--all --wait --no-wait {STORE}",
    "confirm": f"--seeds --trial --as --against --against-as --until --claim --set {LAUNCH}",
    "reproduce": f"--seeds --name --set {LAUNCH}",
    "init": "--dataset --trainer",
    "studies": "--json",
    "plan": f"--name --trials --set --measure --like {STORE} --data --json",
    "simulate": "--from --model --trials --gpus --per-gpu --order --seed --repeats --seconds-per-epoch --epochs "
    f"--against --set {STORE} --json",
    "train": "--run --set --checkpoint --threads --device --data --json",
    "lr-range": "--run --set --from --to --epochs --shape --plot --threads --device --data --json",
    "status": f"--watch {STORE} --json",
    "ls": f"{STORE} --json",
    "best": f"--toml {STORE} --json",
    "show": f"--log {STORE} --json",
    "table": f"--view --target --levels --plot --figure --compare --published --trial {STORE} --format --json",
    "compare": f"--target --plot --mix {STORE} --json",
    "stopping": f"--keep {STORE} --format --json",
    "schedule": "--at --plot --json",
    "evaluate": f"--trial --code --split --out --device {STORE} --data --json",
    "predict": f"--trial --code --device {STORE} --json",
    "ui": f"--port --open --no-open {STORE}",
    "watch": f"--port --open --no-open {STORE} --debug",
    "doctor": f"--address {STORE} --data --json",
    "report": f"--out --attach {STORE}",
    "model": f"--out --force {STORE} --json",
    "export": f"--tensorboard --out --force {STORE}",
    "import": f"--name --study --set --metric --percent --from-zero --replace --dry-run {STORE} --json",
}
# Behind what is asked, in every command: how it runs, where things are, how it is shown.
ORDER = (
    {"--yes", "--watch", "--wait", "--no-wait", "--threads", "--device", "--address", "--report", "--no-report"},
    {*STORE.split(), "--data"},
    {"--format", "--json", "--quiet", "--verbose", "--debug"},
)
ARGUMENTS = {
    "launch": ["study"],
    "resume": ["name"],
    "race": ["name"],
    "stop": ["name"],
    "confirm": ["name"],
    "reproduce": ["study"],
    "init": ["name"],
    "studies": [],
    "plan": ["study"],
    "simulate": ["study"],
    "train": ["study"],
    "lr-range": ["study"],
    "status": ["name"],
    "ls": [],
    "best": ["name"],
    "show": ["name", "trial"],
    "table": ["name"],
    "compare": ["sides"],
    "stopping": ["name"],
    "schedule": ["text"],
    "evaluate": ["network"],
    "predict": ["network", "images"],
    "ui": ["name"],
    "watch": ["name"],
    "doctor": [],
    "report": ["name"],
    "model": ["name", "trial"],
    "export": ["name"],
    "import": ["file"],
}


def parameters(command):
    """The names of a command's options, in the order of its help, and of its arguments."""
    options = [
        option
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("-")
    ]
    return options, [parameter.name for parameter in command.params if parameter.param_type_name == "argument"]


COMMANDS = {name: parameters(command) for name, command in typer.main.get_command(app).commands.items()}


def test_commands_and_options_are_the_same_as_ever():
    assert {name: set(options) for name, (options, _) in COMMANDS.items()} == {
        name: set(options.split()) for name, options in OPTIONS.items()
    }
    assert {name: arguments for name, (_, arguments) in COMMANDS.items()} == ARGUMENTS


@pytest.mark.parametrize("command", OPTIONS)
def test_options_are_in_the_same_order_in_every_command(command):
    options = COMMANDS[command][0]
    places = [next((place for place, names in enumerate(ORDER, 1) if option in names), 0) for option in options]
    assert places == sorted(places), options


def test_help_lists_every_command(sweeps):
    said = sweeps("--help").stdout
    assert set(re.findall(r"^  ([a-z-]+)  ", said, re.MULTILINE)) >= set(OPTIONS)


@pytest.mark.parametrize("command", OPTIONS)
def test_every_option_is_explained(sweeps, command):
    said = sweeps(command, "--help").stdout
    for option in OPTIONS[command].split():
        assert re.search(rf"^  (--\S+ / )?{option}\b.*\S", said, re.MULTILINE), option


def test_schedule(sweeps):
    text = "[1.e-3,0]lin[1.2e-3,6] cos[1.e-5, +14] lin[6.e-6, 26]"
    canonical = "[1e-3, 0] lin[1.2e-3, 6] cos[1e-5, 20] lin[6e-6, 26]"
    assert sweeps.json("schedule", text, "--at", "0,3,20,99") == {
        "schedule": canonical,
        "at": [0.0, 3.0, 20.0, 99.0],
        "values": [1e-3, pytest.approx(1.1e-3), 1e-5, 6e-6],
    }
    knots = sweeps.json("schedule", text)
    assert (knots["at"], knots["values"]) == ([0, 6, 20, 26], [1e-3, 1.2e-3, 1e-5, 6e-6])
    said = sweeps("schedule", text, "--at", "3").stdout
    assert said == f"{canonical}\nepoch 3: 0.0011\n"


def test_schedule_is_drawn(sweeps, tmp_path):
    picture = tmp_path / "schedule.png"
    done = sweeps("schedule", "[1e-3, 0] cos[1e-5, 20]", "--plot", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert done.stdout.startswith("[1e-3, 0] cos[1e-5, 20]\n")


def test_plan(sweeps, studies):
    planned = sweeps.json("plan", studies.space)
    assert planned["study"] == "space"
    assert len(planned["trials"]) == 3
    first = planned["trials"][0]
    assert first["parameters"] == {"lr": 5e-3, "weight_decay": 0.1, "decay": 1, "shift": 0.0}
    assert first["config"]["schedule"] == "[2.5e-3, 0] lin[5e-3, 4] cos[5e-4, 5]"
    assert (planned["trials_in_all"], planned["device"]) == (6, "1 CPU thread(s)")
    assert 6 * 5 <= planned["epochs"] <= 6 * 28  # the shortest and the longest schedule
    assert 0 < planned["seconds_per_epoch"] < 60
    said = sweeps("plan", studies.space, "--trials", "2").stdout
    assert f"{planned['trainable_parameters']:,} trainable parameters" in said
    assert "2 trials" in said
    assert "peak 0.005, 5 epochs" in said


def test_the_study_file_of_the_best_configuration_goes_through_a_pipe_to_plan(sweeps, launched):
    at = f"--home {launched.home}"
    best = sweeps.json("best", "space", "--home", launched.home)
    line = f"{sweeps.command} best space --toml {at} | {sweeps.command} plan - --json"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=300, env=environment(None))
    planned = json.loads(done.stdout)
    assert [trial["config"] for trial in planned["trials"]] == [best["config"]], done.stderr


def test_best_prints_one_format(sweeps, launched):
    done = sweeps("best", "space", "--toml", "--json", "--home", launched.home, code=2)
    assert done.stderr == "sweeps: --toml: expected without --json: a study file is TOML\n"


def test_plan_like_an_earlier_study(sweeps, listed):
    planned = sweeps.json("plan", listed.file, "--like", "listed", "--home", listed.home)
    assert planned["device"] == "the machine of listed"
    assert planned["epochs"] == 4 * 8
    assert planned["with_stopping"]["epochs"] == 4 * 8  # none of its rules stops anything


def test_plan_measures_or_takes_what_was_measured(sweeps, studies):
    assert "expected one of them" in sweeps("plan", studies.space, "--measure", "--like", "space", code=2).stderr


RANDOM = ("--set", "search.sampler=random")


def test_simulate_tells_what_the_picks_of_a_study_and_of_others_are_worth(sweeps):
    against = ("--against", "random,optuna-asha", "--epochs", "400", "--repeats", "2")
    picks = sweeps.json("simulate", "adamw_cosine", *RANDOM, *against)["picks"]
    assert list(picks) == ["study", "random", "optuna-asha"]
    for worth in picks.values():
        assert worth["true_rmst"].keys() == worth["true_share"].keys() == {"value", "low", "high"}
        assert 15 < worth["true_rmst"]["value"] <= 38
    assert 0 <= picks["study"]["better_than_random"] <= 1
    assert picks["random"]["better_than_random"] is None
    text = sweeps("simulate", "recorded/digits", "--from", "recorded/digits", *against).stdout
    assert "pick of" in text
    assert "over its other recorded runs" in text


def test_simulate(sweeps):
    arguments = (
        "simulate",
        "adamw_cosine",
        *RANDOM,
        "--set",
        "search.finalists=",
        "--trials",
        "20",
        "--gpus",
        "2",
        "--repeats",
        "2",
    )
    made = sweeps.json(*arguments, "--seconds-per-epoch", "10")
    assert (made["study"], made["gpus"], made["repeats"], made["order"]) == ("adamw-cosine", 2, 2, "sampler")
    assert made["with_rules"]["trials"] == {"median": 20, "low": 20, "high": 20}
    assert made["with_rules"]["epochs"]["median"] <= made["without_rules"]["epochs"]["median"]
    assert {"rule", "mode", "stopped", "false_stops", "best_lost"} <= made["rules"][-1].keys()
    said = sweeps(*arguments).stdout
    assert "with no rule" in said
    assert "2 simulated studies on 2 GPUs" in said


def test_simulate_replays_a_study_of_the_store(sweeps, listed):
    made = sweeps.json("simulate", listed.file, "--from", "listed", "--home", listed.home, "--gpus", "1")
    assert (made["order"], made["with_rules"]["trials"]["median"]) == ("shuffled", 4)
    assert made["without_rules"]["epochs"]["median"] == 4 * 8


def test_an_exported_study_is_simulated_without_its_home(sweeps, listed, tmp_path):
    file, nowhere = tmp_path / "listed.jsonl.gz", tmp_path / "nowhere"
    said = sweeps("export", "listed", "--out", file, "--home", listed.home)
    assert said.stdout == f"sweeps simulate STUDY --from {file}\n"
    assert "4 trials recorded" in said.stderr
    simulated = ("simulate", listed.file, "--gpus", "1", "--from")
    of_file = sweeps.json(*simulated, file, "--home", nowhere)
    assert of_file["with_rules"] == approximately(
        sweeps.json(*simulated, "listed", "--home", listed.home)["with_rules"]
    )
    assert not nowhere.exists()
    assert "it is there; --force replaces it" in sweeps("export", "listed", "--out", file, code=2).stderr
    sweeps("export", "listed", "--out", file, "--force", "--home", listed.home)


def approximately(courses):
    """Seconds are rounded in a recording."""
    return {name: pytest.approx(course, rel=1e-4) for name, course in courses.items()}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "expected --out FILE.jsonl.gz, --tensorboard FOLDER, or both"),
        (("--force", "--tensorboard", "events"), "--force: expected with --out"),
        (("--out", "x.json"), "--out x.json: expected a name that ends in .jsonl.gz"),
        (("--out", "/nonexistent/x.jsonl.gz"), "no study 'absent'"),
    ],
)
def test_export_refuses(sweeps, arguments, said):
    assert said in sweeps("export", "absent", *arguments, code=2).stderr


def test_a_recording_that_ships_is_simulated_without_a_home(sweeps, tmp_path):
    nowhere = tmp_path / "nowhere"
    cap = ("--set", "stopping={cap={best=3,slack=1.2}}", "--trials", "20", "--home", nowhere)
    made = sweeps.json("simulate", "recorded/digits", "--from", "recorded/digits", *cap)
    assert made["with_rules"]["trials"]["median"] == 20
    assert made["with_rules"]["epochs"]["median"] < made["without_rules"]["epochs"]["median"]
    assert not nowhere.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--from", "x", "--model", "post5"), "--from and --model: expected one of them"),
        (("--model", "post6"), "--model post6: expected one of post5"),
        (
            ("--against", "random,asha"),
            "--against asha: expected some of first, random, optuna-median, optuna-asha, optuna-",
        ),
        (("--order", "sorted"), "--order sorted: expected sampler or shuffled"),
        (("--order", "shuffled"), "--order shuffled: a space has no list of trials to shuffle"),
        (("--seconds-per-epoch", "0"), "--seconds-per-epoch 0: expected seconds above 0"),
        (("--from", "absent"), "no study 'absent'"),
        (
            ("--from", "recorded/digit"),
            "--from recorded/digit: no such file; recordings that ship: recorded/cifar10, recorded/digits",
        ),
    ],
)
def test_simulate_refuses_wrong_arguments(sweeps, arguments, said):
    assert said in sweeps("simulate", "adamw_cosine", *arguments, code=2).stderr


def test_plan_of_the_named_network(sweeps):
    """ResNet56v2 has as many trainable parameters as in the published summaries: 1,663,338."""
    small = ("--set", "train.batch_size=2", "--set", "train.data=digits", "--set", "train.image_size=16")
    planned = sweeps.json("plan", "adamw_cosine", *small, "--set", "train.precision=fp32", "--trials", "1")
    assert planned["trainable_parameters"] == 1_663_338
    assert planned["trials"][0]["config"]["model"] == "resnet56v2"


def test_train_goes_on_from_its_checkpoint(sweeps, studies, tmp_path):
    checkpoint = tmp_path / "weights" / "run.pt"
    common = ("train", studies.listed, "--run", "decayed", "--checkpoint", checkpoint, "--set")
    first = sweeps(*common, "train.epochs=3")
    assert [line.split(" loss")[0] for line in first.stderr.splitlines() if line.startswith("epoch ")] == [
        f"epoch {epoch}/3" for epoch in (1, 2, 3)
    ]
    assert re.fullmatch(r"0\.2 (not )?reached .*; best val_acc 0\.\d{4} at epoch [123]\n", first.stdout)
    again = sweeps.json(*common, "train.epochs=3")
    assert [epoch["epoch"] for epoch in again["epochs"]] == [1, 2, 3]
    assert again["config"]["weight_decay"] == 0.1
    # Nothing was trained anew: the times are those of the first command.
    assert [duration_text(epoch["seconds"]) for epoch in again["epochs"]] == [
        " ".join(line.split()[-2:]) for line in first.stderr.splitlines() if line.startswith("epoch ")
    ]
    other = sweeps(*common, "train.epochs=4", code=1)
    assert f"checkpoint {checkpoint} is of another run (epochs differ); delete it to start anew" in other.stderr


@pytest.mark.slow
def test_train_makes_the_trial_that_a_launch_makes_also_after_a_kill(sweeps, listed, tmp_path):
    """Neither Ray, ledger and store nor a kill change anything in what is trained."""
    checkpoint = tmp_path / "run.pt"
    arguments = ("train", listed.file, "--run", "plain", "--checkpoint", checkpoint)
    running = sweeps.start(*arguments)
    running.until(lambda command: command.stderr.count("\nepoch ") >= 3)
    running.kill()
    continued = sweeps.json(*arguments)
    for metric, values in listed.store.curves()["plain-s0"].items():
        assert [epoch[metric] for epoch in continued["epochs"]] == values


_SET = ("train.optimizer='sgd'", "train.train_limit=100", "train.batch_size=16")
RISING = ("--epochs", "6", *(part for setting in _SET for part in ("--set", setting)))


def test_lr_range_suggests_bounds_and_draws_them(sweeps, studies, tmp_path):
    picture = tmp_path / "range.png"
    done = sweeps("lr-range", studies.listed, *RISING, "--plot", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert re.findall(r"^(\S+(?: acc)?) +[\d.e-]+ +\S", done.stdout, re.MULTILINE) == [
        "upper",
        "lower",
        "steepest",
        "best acc",
    ]


def test_lr_range_keeps_every_step(sweeps, studies):
    made = sweeps.json("lr-range", studies.listed, *RISING, "--from", "1e-5", "--to", "3", "--shape", "exp")
    assert made["config"]["schedule"] == "[1e-5, 0] exp[3, 6]"
    rates = [step["lr"] for step in made["steps"]]
    ratio = (3 / 1e-5) ** (1 / (6 * 7))  # 100 images are 7 steps of 16
    assert rates == pytest.approx([1e-5 * ratio**i for i in range(len(rates))])
    assert made["bounds"]["lower"] < made["bounds"]["upper"] < 3
    assert made["refused"] is None


@pytest.mark.slow
def test_lr_range_says_where_the_loss_broke(sweeps, studies):
    done = sweeps("lr-range", studies.listed, *RISING, "--from", "1e-3", "--to", "1e30", code=None)
    assert re.search(r"^stopped at step \d+, learning rate \S+: the loss is ", done.stderr, re.MULTILINE)


@pytest.mark.slow
def test_lr_range_that_ends_too_early_is_told_to_go_higher(sweeps, studies):
    # Steps enough that their average is calm, at a rate that moves nothing.
    many = ("--set", "train.train_limit=1000")
    done = sweeps("lr-range", studies.listed, *RISING, *many, "--to", "1e-5", code=1)
    assert re.search(r"^sweeps: no bound can be told: the loss .*: raise", done.stderr, re.MULTILINE)
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--from", "1", "--to", "0.1"),
            "--from 1 --to 0.1: expected two learning rates above 0, the second the higher",
        ),
        (("--shape", "cos"), "--shape cos: expected exp or lin"),
        (("--plot", "range.jpeg"), "--plot range.jpeg: cannot save a figure as this"),
    ],
)
def test_lr_range_refuses_wrong_arguments_before_it_trains(sweeps, studies, arguments, said):
    assert said in sweeps("lr-range", studies.listed, *arguments, code=2).stderr


def test_doctor(sweeps, tmp_path):
    home = tmp_path / "home"
    checks = {check["name"]: check for check in sweeps.json("doctor", "--home", home)}
    assert {"resnet-sweeps", "python", "torch", "ray", "optuna", "mlflow", "cpu", "gpu", "cifar10", "home"} <= set(
        checks
    )
    assert "fp32" in checks["bf16"]["found"] or checks["gpu"]["ok"]
    assert checks["home"] == {"name": "home", "ok": True, "found": str(home)}
    assert all(set(check) == {"name", "ok", "found"} for check in checks.values())


def test_doctor_says_no(sweeps, tmp_path):
    home = tmp_path / "file"
    home.write_text("in the way")
    done = sweeps("doctor", "--home", home, code=2)
    assert done.stderr == f"sweeps: --home {home}: expected a folder\n"


def test_home_and_data_are_taken_from_the_environment(sweeps, launched):
    done = sweeps("ls", "--json", env={"SWEEPS_HOME": str(launched.home)})
    assert [row["study"] for row in json.loads(done.stdout)] == ["space"]


def test_without_home_state_lies_in_runs(sweeps):
    assert re.fullmatch(r"no study in /\S+/runs\n", sweeps("ls").stdout)
