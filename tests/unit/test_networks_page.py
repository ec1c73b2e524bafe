"""The examples of docs/networks.md run."""

import re
import sys
from pathlib import Path

import pytest

from resnet_core import code
from resnet_core.data import DATASETS
from resnet_core.models import NETWORKS
from resnet_core.trainer import train
from search_spaces.space import trial_config
from search_spaces.study import load_study

PAGE = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()
BLOCKS = dict(re.findall(r"```(?:python|toml)\n# ([\w.]+)\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture
def study(tmp_path):
    for name, text in BLOCKS.items():
        (tmp_path / name).write_text(text)
    yield tmp_path / "study.toml"
    code.search()
    for name in BLOCKS:
        sys.modules.pop(name.removesuffix(".py"), None)


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.train_limit=100"],
        ["train.data=circles:CIRCLES"],
        ["train.data=circles:CIRCLES", "train.optimizer=signs:SignSGD", "train.optimizer_options={share=0.1}"],
        ["train.train_limit=100", "train.optimizer=torch.optim:RMSprop", "train.momentum=0.0"],
    ],
    ids=lambda overrides: overrides[-1],
)
def test_an_example_trains(study, overrides):
    config = trial_config(load_study(study, overrides), {"lr": 1e-3, "model_options.width": 16}, seed=0)
    assert [record.epoch for record in train(config, data_dir=Path("nowhere"))] == [1, 2, 3]


def test_every_data_set_and_network_that_ships_is_in_a_table():
    rows = re.findall(r"^\| `(\w+)`.*", PAGE, re.MULTILINE)
    assert {*DATASETS} <= {*rows}
    assert {name for name, network in NETWORKS.items() if network.family is None} <= {*rows}


@pytest.mark.parametrize("name", DATASETS)
def test_the_table_of_data_sets_is_true(name):
    spec = DATASETS[name]
    sizes = ", ".join(map(str, spec.image_sizes))
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}`"))
    assert row.endswith(f"| {spec.train_size:,} / {spec.test_size:,} | {spec.classes} | {sizes} | {spec.channels} |")
