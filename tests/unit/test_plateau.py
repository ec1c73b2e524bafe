"""The plateau rule against torch's own on a constant learning rate."""

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from resnet_core.config import TrialConfig
from resnet_core.plateau import Plateau

LOSSES = [1.0, 0.9, 0.91, 0.92, 0.95, 0.90005, 0.9, 0.89, 0.9, 0.9, 0.9, 0.9, 0.9, float("nan"), 0.9, 0.1, 0.2, 0.3]


def make(schedule: str = "[1e-3, 0]", **fields: object) -> Plateau:
    values = {"plateau_factor": 0.3, "plateau_patience": 2, "epochs": 5}
    return Plateau(TrialConfig(schedule, **{**values, **fields}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"plateau_patience": 0},
        {"plateau_threshold": 0.1},
        {"plateau_cooldown": 2},
        {"plateau_min_lr": 2e-4},
    ],
    ids=str,
)
def test_the_learning_rate_is_the_one_torch_sets(fields):
    rule = make(**fields)
    sgd = torch.optim.SGD([torch.zeros(1)], lr=1e-3)
    options = {name.removeprefix("plateau_"): value for name, value in fields.items()}
    torchs = ReduceLROnPlateau(sgd, **{"factor": 0.3, "patience": 2, **options})
    for loss in LOSSES:
        rule.step(loss)
        torchs.step(loss)
        assert 1e-3 * rule.scale == pytest.approx(sgd.param_groups[0]["lr"], rel=1e-12)
    assert rule.scale < 1


def test_a_rule_that_is_carried_over_goes_on_as_it_was():
    one, other = make(), make()
    for loss in LOSSES[:6]:
        one.step(loss)
    other.load_state_dict(one.state_dict())
    for loss in LOSSES[6:]:
        one.step(loss)
        other.step(loss)
        assert other.scale == one.scale
