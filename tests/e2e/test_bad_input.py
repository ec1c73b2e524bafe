"""What is wrong is said on stderr, before anything starts; and an error in one trial stays in that trial."""

import shutil
import socket

import pytest

# A proxy that is not there: whatever would be downloaded cannot be.
OFFLINE = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")


@pytest.fixture
def refused(sweeps, home):
    """Run a command that must fail and leave nothing behind; return what it said on stderr."""

    def run(*arguments: object, code: int = 2, **options: object) -> str:
        at = () if arguments[0] in ("schedule", "plan", "train") else ("--home", home)
        done = sweeps(*arguments, *at, code=code, **options)
        assert done.stdout == ""
        assert not home.exists()
        return done.stderr

    return run


def test_unknown_key(refused, studies, tmp_path):
    study = tmp_path / "study.toml"
    study.write_text(studies.text["space"].replace("sampler =", "sampel ="))
    assert refused("launch", study) == (
        f'sweeps: {study}: search.sampel = "random": unknown key; did you mean sampler?\n'
    )


def test_schedule_whose_epochs_fall(refused, studies):
    said = refused("launch", studies.listed, "--set", "train.schedule=[1e-3, 0] lin[1e-4, 5] cos[1e-5, 3]")
    first, text, caret = said.splitlines()
    assert "train.schedule: expected an epoch after 5, found 3" in first
    assert text == "[1e-3, 0] lin[1e-4, 5] cos[1e-5, 3]"
    assert caret == " " * text.index("3]") + "^"


def test_schedule_with_a_parameter_that_is_none(refused, studies):
    said = refused("launch", studies.space, "--set", "train.schedule=[lr, 0] cos[rate, +decay]")
    first, text, caret = said.splitlines()
    assert "train.schedule: no parameter 'rate'; known: decay, lr, shift, weight_decay" in first
    assert caret == " " * text.index("rate") + "^"


def test_several_errors_are_all_said(refused, studies):
    said = refused(
        "launch", studies.listed, "--set", "search.tirals=3", "--set", "objective.target=92", "--set", "train.l2=-1"
    )
    assert [line for line in said.splitlines() if "search.tirals = 3" in line and "trials" in line]
    assert [line for line in said.splitlines() if "objective.target = 92" in line]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("search.trials", "--set search.trials: expected KEY=VALUE with a dotted key, such as search.trials=20"),
        ("search.retries=none", 'search.retries = "none": expected a whole number'),
        ("run[7].name=x", "--set run[7].name=x: the file has no run[7].name to set"),
        ("train.model=resnet12v2", "resnet56v2"),
        ("train.image_size=64", "train.image_size = 64: expected 16 or 32 for resnet11v2"),
        ("train.batch_size=0", "train.batch_size = 0: expected a whole number of 1 or more"),
    ],
)
def test_set_that_is_wrong(refused, studies, change, said):
    assert said in refused("launch", studies.listed, "--set", change)


@pytest.mark.parametrize("name", ["../escape", "/tmp/escape", "", ".", "a/b", "a b"])
def test_name_that_would_leave_home(refused, studies, name):
    if name:
        said = refused("launch", studies.listed, "--name", name)
    else:
        said = refused("launch", studies.listed, "--set", 'name=""')
    assert f'name = "{name}": expected 1 to 64 ASCII letters' in said


@pytest.mark.parametrize("name", ["../../etc", "a/b"])
def test_no_command_reads_outside_of_home(sweeps, launched, name):
    for command in ("status", "stop", "table"):
        done = sweeps(command, name, "--home", launched.home, code=2)
        assert name in done.stderr
        assert done.stdout == ""


def test_file_that_is_not_there(refused):
    said = refused("launch", "nothing.toml")
    assert said.startswith("sweeps: nothing.toml: no such file, and no study of that name ships with the project;")
    assert "quickstart" in said


def test_file_that_is_no_toml(refused, tmp_path):
    study = tmp_path / "study.toml"
    study.write_text("name = \n")
    assert f"sweeps: {study}: not TOML" in refused("launch", study)


@pytest.mark.parametrize(
    "arguments",
    [
        ("launch",),
        ("nothing",),
        ("launch", "quickstart", "--trials", "0"),
        ("launch", "quickstart", "--no-such-option"),
    ],
)
def test_command_line_that_is_wrong(sweeps, arguments):
    done = sweeps(*arguments, code=2)
    assert done.stdout == ""
    assert done.stderr
    assert "--debug" not in done.stderr


def test_more_cores_than_there_are(refused, studies):
    said = refused("launch", studies.listed, "--set", "resources.cpus_per_trial=999")
    assert "resources.cpus_per_trial = 999: there are " in said
    assert "--set resources.cpus_per_trial=" in said


def test_gpus_where_there_are_none(refused, studies):
    said = refused("launch", studies.listed, "--set", "resources.gpus_per_trial=1", env={"CUDA_VISIBLE_DEVICES": ""})
    assert said == (
        "sweeps: resources.gpus_per_trial = 1: there are 0 GPUs; "
        "use --set resources.gpus_per_trial=0 to run on CPU cores\n"
    )


@pytest.mark.parametrize(
    ("option", "env", "where"),
    [
        (("--address", "127.0.0.1:9"), {}, "'127.0.0.1:9': "),
        ((), {"RAY_ADDRESS": "127.0.0.1:9"}, "'127.0.0.1:9' (RAY_ADDRESS): "),
    ],
)
def test_cluster_that_is_not_there(refused, studies, option, env, where):
    said = refused("launch", studies.listed, *option, code=1, env=env)
    assert said.startswith(f"sweeps: cannot reach the Ray cluster at {where}")
    assert said.endswith("; --address local starts one on this machine\n") == bool(env)
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("command", [("ui",), ("watch", "space")], ids=" ".join)
def test_a_port_that_is_taken(sweeps, launched, command):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        said = sweeps(*command, "--port", port, "--home", launched.home, code=2).stderr
    assert said == (
        f"sweeps: port {port} of 127.0.0.1 cannot be had: Address already in use; take another with --port\n"
    )


@pytest.mark.parametrize(
    ("option", "env", "which"),
    [
        (("--address", "head"), {}, "'head'"),
        (("--address", "http://head:8265"), {}, "'http://head:8265'"),
        ((), {"RAY_ADDRESS": "garbage"}, "'garbage' (RAY_ADDRESS)"),
    ],
)
def test_what_is_no_address_of_a_cluster(refused, studies, option, env, which):
    said = refused("launch", studies.listed, *option, env=env)
    instead = "; --address local starts one on this machine" if env else ""
    assert said == f"sweeps: the Ray cluster at {which}: expected HOST:PORT, such as head:6379, or auto{instead}\n"


def test_cifar10_that_cannot_be_had(refused, studies, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    changes = ("--set", "train.data=cifar10", "--set", "train.image_size=32")
    said = refused("launch", studies.listed, *changes, "--data", empty, code=1, env=OFFLINE)
    assert said.startswith(f"sweeps: CIFAR-10 is not in {empty}")
    assert "--data" in said
    assert "SWEEPS_DATA" in said
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("command", ["resume", "stop", "table", "best", "status", "show", "ui", "watch"])
def test_home_without_a_study(refused, command):
    name = () if command == "ui" else ("nothing",)
    trial = ("0",) if command == "show" else ()
    assert refused(command, *name, *trial)


@pytest.mark.parametrize("command", ["resume", "stop", "table", "best", "status", "show", "watch"])
def test_study_that_is_not_there(sweeps, launched, command):
    trial = ("0",) if command == "show" else ()
    done = sweeps(command, "nothing", *trial, "--home", launched.home, code=2)
    assert done.stdout == ""
    assert "no study 'nothing'" in done.stderr
    assert "space" in done.stderr
    assert {path.name for path in (launched.home / "studies").iterdir()} == {"space"}


def test_trial_that_is_not_there(sweeps, launched):
    done = sweeps("show", "space", "77", "--home", launched.home, code=2)
    assert done.stderr == "sweeps: no trial '77' in study 'space'; there are: 0, 1, 2, 3, 4, 5\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--format", "nope"), "--format nope: expected text, markdown, csv or latex"),
        (("--target", "92"), "--target 92: expected an accuracy above 0 and at most 1"),
        (("--view", "price"), "--view price: expected results, statistics, ladder, importance, noise, cost or"),
        (("--view", "cost", "--target", "0.9"), "--target 0.9: expected with --view results or statistics only"),
        (("--levels", "0.9"), "--levels 0.9: expected with --view transitions or ladder only"),
        (("--view", "ladder", "--levels", "0.9,0.9"), "expected every level once"),
        (("--plot", "a.png", "--figure", "pie"), "--figure pie: expected curves, slices"),
        (("--figure", "slices"), "--figure: expected --plot FILE beside it"),
        (("--plot", "a.png", "--figure", "slices", "--compare"), "expected without --compare and --trial"),
        (("--view", "transitions", "--levels", "0.9;0.8"), "--levels 0.9;0.8: expected values of the metric"),
        (("--view", "transitions", "--levels", "0.9,0.9"), "expected every level once"),
        (("--compare",), "--compare: expected --plot FILE beside it"),
        (("--plot", "curves.doc"), "expected one of .png, .pdf, .svg"),
        (("--plot", "no/such/folder/curves.png"), "no/such/folder"),
        (("--plot", "curves.png", "--trial", "77"), "--trial 77: expected one of "),
    ],
)
def test_table_that_cannot_be(sweeps, launched, options, said):
    done = sweeps("table", "space", "--home", launched.home, *options, code=2)
    assert said in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("[1e-3, 0] sin[1e-4, 5]", (), "expected a segment (lin, cos, hcos, exp, step) or the end, found 'sin'"),
        ("[1e-3, 1] lin[1e-4, 5]", (), "[1e-3, 1] lin[1e-4, 5]\n       ^"),
        ("[1e-3, 0] lin[1e-4, 5", (), "[1e-3, 0] lin[1e-4, 5\n"),
        ("[1e-3, 0] lin[-1e-4, 5]", (), "              ^"),
        ("[lr, 0] lin[1e-4, 5]", (), "[lr, 0] lin[1e-4, 5]\n ^"),
        ("", (), "expected"),
        ("[1e-3, 0] lin[1e-4, 5]", ("--at", "soon"), "--at soon: expected epochs of 0 or more"),
        ("[1e-3, 0] lin[1e-4, 5]", ("--at", "-1"), "--at -1: expected epochs of 0 or more"),
    ],
)
def test_schedule_that_is_none(refused, text, options, said):
    assert said in refused("schedule", text, *options)


def test_launching_a_changed_file_under_the_same_name(sweeps, launched, copied):
    before = sweeps.json("status", "space", "--home", copied)
    done = sweeps("launch", launched.file, "--home", copied, "--set", "space.shift.high=0.2", code=2)
    assert done.stderr.splitlines() == [
        "sweeps: study 'space' exists and asks something else:",
        "  space.shift.high: 0.1 -> 0.2",
        "Launch the changed file under another --name, or continue the old one with `sweeps resume space`.",
    ]
    assert done.stdout == ""
    assert sweeps.json("status", "space", "--home", copied) == before


def test_an_error_in_one_trial_leaves_the_others_alone(sweeps, store, crashed):
    home, done = crashed
    assert "trial 1: " in done.stderr
    assert "no checkpoint can be read" in done.stderr
    assert "started again" in done.stderr
    assert "given up" in done.stderr
    assert f"some trials crashed; try them again with:  sweeps resume grid --home {home}" in done.stdout
    assert "1 crashed. Crashed: " in " ".join(done.stdout.split())
    status = sweeps.json("status", "grid", "--home", home)
    assert (status["crashed"], status["exhausted"] + status["reached"], status["trials"]) == (1, 3, 4)
    states = [trial.state.name for trial in store(home, "grid").optuna().get_trials()]
    assert sorted(states) == ["COMPLETE", "COMPLETE", "COMPLETE", "FAIL"]
    run = store(home, "grid").trials["1"]
    assert (run.info.status, run.data.tags["outcome"]) == ("FAILED", "crashed")
    assert "no checkpoint can be read" in run.data.tags["stop_reason"]


def test_show_prints_the_traceback(sweeps, crashed):
    home, _ = crashed
    shown = sweeps.json("show", "grid", "1", "--home", home)
    assert shown["result"]["outcome"] == "crashed"
    assert "Traceback (most recent call last)" in shown["error"]
    assert "resnet_core" in shown["error"]
    assert shown["error"].strip().splitlines()[-1].startswith("resnet_core.checkpoint.CheckpointError: no checkpoint")
    text = sweeps("show", "grid", "1", "--home", home).stdout
    assert "CheckpointError: no checkpoint can be read" in text
    assert "Traceback (most recent call last)" in text


@pytest.mark.slow
def test_resume_tries_a_crashed_trial_again(sweeps, store, crashed, cluster, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(crashed[0], home)
    (home / "studies" / "grid" / "checkpoints" / "00001.pt").unlink(missing_ok=True)
    done = sweeps("resume", "grid", "--home", home, on=cluster)
    assert "crashed; try them again" not in done.stdout
    after = store(home, "grid")
    after.assert_whole(trials=4)
    trials = after.optuna().get_trials()
    assert len(trials) == 5
    # The same point with the same seed under the same name, and so the whole grid.
    assert trials[4].params == trials[1].params
    again, crashed_one = after.trials["1"], store(crashed[0], "grid").trials["1"]
    assert again.data.tags["sweeps.trial"] == "4"
    assert again.data.params == crashed_one.data.params
    points = {(trial.params["lr"], trial.params["momentum"]) for trial in trials}
    assert points == {(0.05, 0.0), (0.05, 0.9), (0.01, 0.0), (0.01, 0.9)}
    assert sweeps.json("status", "grid", "--home", home)["state"] == "complete"
    assert {row["trial"] for row in sweeps.json("table", "grid", "--home", home)} == {"0", "1", "2", "3"}
