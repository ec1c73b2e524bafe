"""The example of a network, a data set and an optimizer of one's own, at the size of CIFAR-100."""

import sys
from pathlib import Path

import pytest

from resnet_core import code
from resnet_core.config import epoch_sizes
from resnet_core.trainer import train
from search_spaces.space import trial_config
from search_spaces.study import load_study
from sweeps.inspection.plan import plan

STUDY = Path(__file__).parents[2] / "examples" / "made_images" / "study.toml"
PARAMS = {"lr": 1e-3, "weight_decay": 0.1, "model_options.width": 16}


@pytest.fixture(autouse=True)
def _forgotten():
    yield
    code.search()
    sys.modules.pop("made_images", None)


def test_it_is_planned_at_the_size_of_cifar100():
    planned = plan(load_study(STUDY), count=1)
    assert planned.parameters > 0
    assert planned.seconds_per_epoch > 0
    config = planned.samples[0].config
    assert epoch_sizes(config) == (45_000, 5_000)
    assert config.data_info.classes == 100


@pytest.mark.slow
def test_it_learns_far_more_than_chance_in_two_epochs():
    limits = ["train.train_limit=20000", "train.val_limit=2000", "train.epochs=2"]
    config = trial_config(load_study(STUDY, limits), PARAMS, seed=0)
    records = list(train(config, data_dir=Path("nowhere")))
    assert records[-1].val_acc > 0.1  # chance is 0.01
    assert records[-1].val_top5_acc > records[-1].val_acc
