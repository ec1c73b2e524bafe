"""TrialConfig: what it refuses and in which words, what it makes of schedules, how it travels."""

import re
from dataclasses import replace

import pytest

from resnet_core.config import OPTION_TABLES, SCHEDULE_FIELDS, TRIAL_CONFIG_FIELDS, ConfigError, TrialConfig
from resnet_core.data import DATASETS
from resnet_core.models import NETWORKS
from resnet_core.optim import OPTIMIZERS
from resnet_core.schedule import ScheduleError, parse

SCHEDULE = "[1e-3, 0] lin[1.2e-3, 6] cos[1e-5, 20]"
COUNT = "a whole number of 1 or more"
SEED = "a whole number from 0 to 2^32 - 1"
DEPTH = "resnetDv2 with a depth D = 9n+2 from 11 to 1001"
NOT_NEGATIVE = "a number of 0 or more"
SHARE = "0 <= value < 1"
SHIFT = "0 <= shift < 0.5"
INSIDE = "0 < value < 1"
COUNT_OR_NONE = "a whole number of 0 or more"
NAN, INF = float("nan"), float("inf")


def make(**fields: object) -> TrialConfig:
    return TrialConfig(**{"schedule": SCHEDULE, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value", "expected", "others"),
    [
        *(("model", name, DEPTH, {}) for name in ("vgg", "resnet2v2", "resnet14v2", "resnet57v2", "resnet1010v2", "")),
        ("model", "resnet56", DEPTH, {}),
        ("model", "resnet056v2", DEPTH, {}),
        ("data", "imagenet", "one of " + ", ".join(DATASETS), {}),
        ("split", "kfold", "one of official, pooled, held-out", {}),
        ("optimizer", "lion", "one of " + ", ".join(OPTIMIZERS), {}),
        ("precision", "fp16", "one of fp32, bf16", {}),
        ("image_size", 64, "16 or 32 for resnet56v2", {}),
        ("image_size", 8, "16 or 32 for resnet56v2", {"data": "digits"}),
        ("image_size", 16.0, "16 or 32 for resnet56v2", {"data": "digits"}),
        *(
            (field, value, COUNT, {})
            for field in ("train_limit", "val_limit", "batch_size", "epochs")
            for value in (0, -1, 1.5, 2.0, True, "3", NAN)
        ),
        *(
            (field, value, COUNT_OR_NONE, {})
            for field in ("plateau_patience", "plateau_cooldown", "bn_recalibration", "crop", "cutout")
            for value in (-1, 1.5, True, None)
        ),
        *((field, 17, "at most half of the image's side", {}) for field in ("crop", "cutout")),
        ("batch_size", None, COUNT, {}),
        *(("seed", value, SEED, {}) for value in (-1, 2**32, 0.0, False, "0", None)),
        *(
            (field, value, NOT_NEGATIVE, {})
            for field in ("weight_decay", "l2", "plateau_threshold", "plateau_min_lr")
            for value in (-1e-9, NAN, INF, True, "0.1", None)
        ),
        *(
            (field, value, SHARE, {})
            for field in ("momentum", "beta2", "ema")
            for value in (-0.1, 1, 1.0, NAN, False, "0.9", None)
        ),
        *(("eps", value, "a number above 0", {}) for value in (0, -1e-8, NAN, INF, True, None)),
        *(("shift", value, SHIFT, {}) for value in (-0.01, 0.5, 3.2, NAN, True, "0.1", None)),
        *(
            (field, value, "true or false", {})
            for field in ("nesterov", "flip", "conv_bias", "skip_conv_bias", "fused", "compile")
            for value in (0, 1, "yes", None)
        ),
        ("nesterov", True, "false unless the optimizer is sgd", {"optimizer": "adamw"}),
        (
            "weight_decay",
            0.1,
            "none where weight_decay_schedule is given",
            {"weight_decay_schedule": "[0.1, 0]"},
        ),
        *((field, value, INSIDE, {}) for field in ("plateau_factor", "bn_momentum") for value in (0, 1, NAN, True)),
        *(("padam_p", value, "0 < value <= 0.5", {}) for value in (0, 0.51, NAN, None)),
        ("shortcut_kernel", 2, "1 or 3", {}),
        ("bottleneck", 0.3, "0.25 or 0.5", {}),
        ("head", "sum", "one of average, max, flatten", {}),
        ("image_size", 16, "32 for vgg16", {"model": "vgg16", "data": "digits"}),
        *(
            (field, value, "none: resnet18 does not take it", {"model": "resnet18"})
            for field, value in {"bottleneck": 0.25, "shortcut_kernel": 3, "head": "max", "conv_bias": False}.items()
        ),
        ("skip_conv_bias", True, "none: resnet9 does not take it", {"model": "resnet9"}),
        ("skip_conv_bias", True, "false where conv_bias is false", {"conv_bias": False}),
        ("momentum", 0.8, "none where momentum_schedule is given", {"momentum_schedule": "[0.9, 0]"}),
        ("momentum_schedule", "[0.9, 0] lin[1, 5]", "values below 1", {}),
        ("schedule", "[1e-3, 0]", "a last epoch of 1 or more, or epochs beside it", {}),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(field, value, expected, others):
    with pytest.raises(ConfigError, match=re.escape(f"{field} = {value!r}: expected")) as caught:
        make(**others, **{field: value})
    assert expected in str(caught.value)
    assert caught.value.field == field
    assert caught.value.value is value or caught.value.value == value
    assert expected in caught.value.expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("model", 56), ("schedule", 0.001), ("data", ["digits"])),
        *(("weight_decay_schedule", 0.1), ("momentum_schedule", 0.9)),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(field, value):
    with pytest.raises(ConfigError, match=re.escape(f"{field} = {value!r}: expected")):
        make(**{field: value})


def test_nesterov_needs_momentum():
    # torch's SGD refuses this pair, and would do so only when the run starts.
    with pytest.raises(ConfigError):
        make(optimizer="sgd", nesterov=True, momentum=0.0)


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "resnet11v2"},
        {"model": "resnet1001v2"},
        {"data": "digits", "image_size": 16},
        {"data": "digits", "image_size": 32},
        {"train_limit": 1, "val_limit": 1, "batch_size": 1, "epochs": 1},
        {"train_limit": None, "val_limit": None, "epochs": None},
        {"seed": 2**32 - 1},
        {"weight_decay": 0, "l2": 0, "momentum": 0, "beta2": 0, "shift": 0},
        {"eps": 1e-300, "shift": 0.49, "momentum": 0.999, "beta2": 0.9999},
        {"optimizer": "sgd", "nesterov": True},
        {"weight_decay_schedule": "[0.1, 0] lin[0, 5]", "weight_decay": 0.0},
        {"momentum_schedule": "[0.95, 0] lin[0.8, 5]", "optimizer": "sgd", "nesterov": True},
        *({"model": model, "bn_momentum": 0.9} for model, network in NETWORKS.items() if network.family is None),
        {"bottleneck": 0.25, "shortcut_kernel": 3, "head": "flatten", "conv_bias": False},
        {"plateau_factor": 0.5, "plateau_patience": 0, "padam_p": 0.5, "crop": 16, "cutout": 16},
    ],
    ids=str,
)
def test_values_on_the_bounds_are_taken(fields):
    config = make(**fields)
    assert {name: getattr(config, name) for name in fields} == fields


@pytest.mark.parametrize("field", SCHEDULE_FIELDS)
def test_a_schedule_out_of_the_notation_shows_its_place(field):
    with pytest.raises(ScheduleError, match=r"\^"):
        make(**{field: "[1e-3, 0] line[0, 5]"})


@pytest.mark.parametrize("field", SCHEDULE_FIELDS)
def test_schedules_are_kept_as_canonical_text(field):
    loose = "[1.e-3,0]  lin [0.0012 , +6] cos[1e-5,+14]"
    config = make(**{field: loose})
    assert getattr(config, field) == str(parse(loose)) != loose


def test_configs_whose_schedules_differ_in_spelling_only_are_equal():
    one, other = make(schedule="[1e-3, 0] lin[0, 5]"), make(schedule="[0.001,0]lin[0,+5.0]")
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.parametrize(
    ("schedule", "epochs", "horizon"),
    [
        ("[1e-3, 0] lin[0, 5]", None, 5),
        ("[1e-3, 0] lin[0, 4.5]", None, 5),
        ("[1e-3, 0] lin[0, 0.2]", None, 1),
        ("[1e-3, 0] lin[0, 5]", 3, 3),
        ("[1e-3, 0] lin[0, 5]", 8, 8),
        ("[1e-3, 0]", 2, 2),
    ],
)
def test_the_horizon_is_epochs_or_the_end_of_the_schedule(schedule, epochs, horizon):
    assert make(schedule=schedule, epochs=epochs).horizon == horizon


def test_lr_alpha_is_the_peak_of_the_schedule():
    assert make().lr_alpha == 1.2e-3


def test_lr_schedule_is_the_schedule_parsed():
    assert make().lr_schedule == parse(SCHEDULE)


def test_wd_schedule_is_none_where_decay_is_constant():
    assert make(weight_decay=0.1).wd_schedule is None


def test_the_schedules_are_had_parsed():
    text = "[0.2, 0] cos[0, 6]"
    config = make(weight_decay_schedule=text, momentum_schedule=text)
    assert config.wd_schedule == config.mom_schedule == parse(text)


FULL = {
    **{"schedule": SCHEDULE, "model": "resnet20v2", "bottleneck": 0.25, "shortcut_kernel": 3, "head": "max"},
    **{"conv_bias": True, "skip_conv_bias": True, "bn_momentum": 0.95, "data": "digits", "split": "held-out"},
    **{"image_size": 16, "fused": False},
    **{"train_limit": 100, "val_limit": 50, "batch_size": 32, "optimizer": "sgd", "weight_decay": 0.0},
    **{"weight_decay_schedule": "[0.1, 0] lin[0, 6]", "l2": 1e-4, "momentum": 0.9, "beta2": 0.99},
    **{"momentum_schedule": "[0.95, 0] lin[0.8, 6]", "eps": 1e-8, "padam_p": 0.25, "nesterov": True},
    **{"plateau_factor": 0.5, "plateau_patience": 5, "plateau_threshold": 1e-3, "plateau_cooldown": 1},
    **{"plateau_min_lr": 5e-7, "ema": 0.999, "bn_recalibration": 1000, "shift": 0.07, "flip": False},
    **{"crop": 4, "cutout": 8, "epochs": 7, "seed": 3, "precision": "bf16", "compile": True, "test": True},
}


def test_a_dict_makes_the_config_and_the_config_the_dict():
    config = TrialConfig.from_dict(FULL)
    assert config.to_dict() == {**FULL, "schedule": str(parse(SCHEDULE))}
    assert TrialConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("split", ["official", "pooled"])
def test_only_the_held_out_split_can_be_tested(split):
    with pytest.raises(ConfigError, match=r"test = True: expected false with split = .*held-out"):
        make(split=split, test=True)


def test_a_rate_of_0_throughout_has_no_plateau():
    with pytest.raises(ConfigError, match=r"plateau_factor = 0\.5: expected none: a learning rate of 0 throughout"):
        TrialConfig(schedule="[0, 0] lin[0, 3]", plateau_factor=0.5)


def test_from_dict_refuses_a_name_that_is_no_field():
    with pytest.raises(ConfigError, match=r"learning_rate = 0\.1: expected a field of TrialConfig: .*weight_decay"):
        TrialConfig.from_dict({"schedule": SCHEDULE, "learning_rate": 0.1})


def test_the_field_names_are_those_of_the_dict():
    assert make().to_dict().keys() == TRIAL_CONFIG_FIELDS - set(OPTION_TABLES) == FULL.keys()


OTHERS = {"schedule": "[1, 0] lin[0, 2]", "data": "cifar10", "optimizer": "adamw", "weight_decay": 0.1, "momentum": 0.8}
OTHERS |= {"split": "pooled", "conv_bias": False}


@pytest.mark.parametrize(("field", "value"), [*{**FULL, **OTHERS}.items()])
def test_every_field_counts_for_equality_and_hash(field, value):
    base = make(data="digits", optimizer="sgd", split="held-out")
    changed = replace(base, **{field: value})
    assert changed != base
    assert len({base, changed, replace(base)}) == 2


def test_a_config_cannot_be_changed():
    with pytest.raises(AttributeError):
        make().seed = 1  # type: ignore[misc]
