"""The published studies against the published figures."""

import csv
import math
from importlib import resources

import pytest

from resnet_core.config import TrialConfig
from resnet_core.schedule import parse
from search_spaces.space import listed_runs, trial_config
from search_spaces.study import find_study, load_study

STEPS = math.ceil(50_000 / 512)


def configs(study: str) -> dict[str, TrialConfig]:
    """The configs of a published study by run."""
    spec = load_study(find_study(f"published/{study}"))
    return {run.name: trial_config(spec, {}, seed=run.seed, run=run.name) for run in listed_runs(spec)}


def figures(name: str) -> list[dict[str, str]]:
    text = (resources.files("search_spaces.published") / f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def changes(config: TrialConfig, other: TrialConfig) -> set[str]:
    return {name for name, value in config.to_dict().items() if other.to_dict()[name] != value}


# Post I


@pytest.mark.parametrize(
    ("epoch", "lr"), [(81, 1e-3), (82, 1e-4), (121, 1e-4), (122, 1e-5), (162, 1e-6), (182, 5e-7), (200, 5e-7)]
)
def test_post1_cuts_the_rate_after_atienzas_epochs(epoch, lr):
    """His epochs 80, 120, 160, 180, counted from 0, are the 81st, 121st, 161st, 181st."""
    values = configs("post1_batch_sizes")["bs32"].lr_schedule.epoch_values(epoch - 1, 1563)
    assert [min(values), max(values)] == pytest.approx([lr, lr])


def test_post1_has_no_transition_ahead_of_its_first_cut():
    first = parse("[1, 0] step[0, 81]")  # the cut, and so the 82nd epoch is the first of the lower rate
    assert min(int(row["epochs_to_091"]) for row in figures("post1_batch_sizes")) == first.last_epoch + 1


def test_post1_has_the_published_batch_sizes():
    published = [int(row["batch_size"]) for row in figures("post1_batch_sizes")]
    assert [config.batch_size for config in configs("post1_batch_sizes").values()] == published == [32, 64, 128]


def test_post1_is_atienzas_recipe():
    config = configs("post1_batch_sizes")["bs32"]
    recipe = (config.optimizer, config.l2, config.weight_decay, config.shift, config.flip, config.split, config.horizon)
    assert recipe == ("adam", 1e-4, 0.0, 0.1, True, "official", 200)


def test_the_plateau_takes_the_schedules_place_and_nothing_else_changes():
    (plateau,) = configs("post1_plateau").values()
    changed = changes(plateau, configs("post1_batch_sizes")["bs32"])
    assert changed == {"schedule", "plateau_factor", "plateau_patience", "plateau_min_lr"}


def test_the_plateau_is_atienzas():
    (plateau,) = configs("post1_plateau").values()
    rule = (plateau.plateau_factor, plateau.plateau_patience, plateau.plateau_cooldown, plateau.plateau_min_lr)
    assert rule == (pytest.approx(math.sqrt(0.1)), 5, 0, 5e-7)


# Post V


@pytest.mark.parametrize("row", figures("post5"), ids=lambda row: f"run{row['run']}")
def test_post5_has_the_published_run(row):
    assert configs("post5")[f"run{int(row['run']):02d}"] == TrialConfig(
        schedule=row["schedule"],
        split="pooled",
        batch_size=64,
        optimizer="adamw",
        weight_decay=float(row["weight_decay"]),
        l2=float(row["l2"]),
        shift=float(row["shift"]),
        seed=int(row["run"]),
    )


def test_post5_has_34_runs_and_no_more():
    assert list(configs("post5")) == [f"run{number:02d}" for number in range(1, 35)]


def test_post5_peaks_at_the_published_rates():
    published = [float(row["lr_alpha"]) for row in figures("post5")]
    assert [config.lr_alpha for config in configs("post5").values()] == published


def test_the_published_figures_name_those_that_reached_092():
    reached = [row["run"] for row in figures("post5") if float(row["val_acc"]) >= 0.92]
    assert reached == [row["run"] for row in figures("post5") if row["epochs_to_092"]]


def test_the_published_figures_have_run_33_at_epoch_19():
    row = figures("post5")[32]
    assert (row["run"], row["epochs_to_092"], row["val_acc_best"], row["epoch_best"]) == ("33", "19", "0.9222", "25")


def test_the_baseline_of_the_open_questions_is_run_33():
    assert configs("post5_open_questions")["baseline"] == configs("post5")["run33"]


@pytest.mark.parametrize(
    ("run", "changed"),
    [
        ("wd-schedule", {"weight_decay", "weight_decay_schedule"}),
        ("momentum-schedule", {"momentum_schedule"}),
        ("ema", {"ema"}),
        ("bn-momentum", {"bn_momentum"}),
        ("bn-recalibration", {"bn_recalibration"}),
        ("bottleneck", {"bottleneck"}),
        ("shortcut-kernel", {"shortcut_kernel"}),
        ("head-max", {"head"}),
        ("head-flatten", {"head"}),
        ("no-conv-bias", {"conv_bias"}),
        ("batch-128", {"batch_size"}),
        ("sgd", {"optimizer", "schedule", "weight_decay"}),
    ],
)
def test_an_open_question_changes_one_thing(run, changed):
    found = configs("post5_open_questions")
    assert changes(found[run], found["baseline"]) == changed


def test_sgd_decays_as_much_a_step_as_run_33():
    found = configs("post5_open_questions")
    decays = [found[run].lr_alpha * found[run].weight_decay for run in ("sgd", "baseline")]
    assert decays[0] == pytest.approx(decays[1])


# The report


def test_the_report_has_its_optimizers():
    settings = {run: (c.optimizer, c.lr_alpha, c.weight_decay) for run, c in configs("report_optimizers").items()}
    assert settings == {
        "adam": ("adam", 1e-3, 0.0),
        "nadam": ("nadam", 1e-3, 0.0),
        "amsgrad": ("amsgrad", 1e-3, 0.0),
        "adamw": ("adamw", 1e-3, 1e-4),
        "adamw-tfa": ("adamw", 1e-3, 0.1),
        "sgd": ("sgd", 1e-3, 0.0),
        "padam": ("padam", 0.1, 5e-4),
    }


@pytest.mark.parametrize("study", ["report_optimizers", "report_networks"])
def test_the_report_trains_without_augmentation(study):
    used = {(c.flip, c.shift, c.crop, c.cutout, c.batch_size, c.horizon) for c in configs(study).values()}
    assert used == {(False, 0.0, 0, 0, 128, 200)}


def test_the_networks_left_undone_are_there():
    assert {config.model for config in configs("report_networks").values()} == {"vgg16", "densenet121"}


# Super-convergence


@pytest.mark.parametrize(("epoch", "lr"), [(0, 0.08), (20.5, 0.44), (41, 0.8), (82, 0.08), (95, 0.008)])
def test_one_cycle_rises_falls_and_annihilates(epoch, lr):
    assert configs("super_convergence")["one-cycle"].lr_schedule.value(epoch) == pytest.approx(lr)


@pytest.mark.parametrize(("epoch", "momentum"), [(0, 0.95), (41, 0.8), (82, 0.95), (95, 0.95)])
def test_the_momentum_cycles_against_the_rate(epoch, momentum):
    assert configs("super_convergence")["one-cycle-momentum"].mom_schedule.value(epoch) == pytest.approx(momentum)


def test_one_cycle_takes_the_published_iterations():
    assert configs("super_convergence")["one-cycle"].horizon * STEPS == 9310


def test_the_long_stepwise_run_takes_the_iterations_compared_with():
    assert configs("super_convergence")["stepwise-653"].horizon * STEPS == pytest.approx(64_000, rel=1e-3)


def test_the_triangles_follow_the_formula():
    schedule, size = configs("super_convergence")["triangular"].lr_schedule, 9.5
    for epoch in (0, 3, 9.5, 15, 19, 47, 94):
        cycle = math.floor(1 + epoch / (2 * size))
        x = abs(epoch / size - 2 * cycle + 1)
        assert schedule.value(epoch) == pytest.approx(0.08 + (0.8 - 0.08) * max(0, 1 - x))


def test_all_of_super_convergence_is_sgd_at_batch_size_512():
    assert {(c.optimizer, c.batch_size) for c in configs("super_convergence").values()} == {("sgd", 512)}


def test_the_courses_run_is_the_exercise():
    (config,) = configs("course_resnet9").values()
    schedule = config.lr_schedule
    assert (config.crop, config.cutout, config.flip, config.batch_size, config.horizon) == (4, 8, True, 512, 24)
    assert (schedule.peak_epoch, schedule.value(24)) == (5, schedule.start)  # no annihilation
