"""What every study that ships keeps to."""

import re

import pytest

from resnet_core.config import TrialConfig
from search_spaces.space import listed_runs, trial_config
from search_spaces.study import find_study, load_study, shipped_studies
from sweeps.inspection.plan import plan

PUBLISHED = [name for name in shipped_studies() if name.startswith("published/")]
SMALL = ["train.train_limit=64", "train.val_limit=32", "train.epochs=1", "resources.cpus_per_trial=1"]


@pytest.mark.parametrize("name", shipped_studies())
def test_a_study_is_valid_and_every_listed_run_makes_a_config(name):
    spec = load_study(find_study(name))
    runs = listed_runs(spec) if spec.listed else []
    configs = [trial_config(spec, {}, seed=run.seed, run=run.name) for run in runs]
    assert spec.space or all(isinstance(config, TrialConfig) for config in configs)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_study_lists_its_runs(name):
    assert load_study(find_study(name)).run


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_study_says_at_its_top_where_it_comes_from(name):
    assert find_study(name).read_text(encoding="utf-8").startswith("# Source: ")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_study_has_a_name_of_its_own_and_a_description(name):
    spec = load_study(find_study(name))
    assert (spec.name.replace("-", "_"), bool(spec.description)) == (name.removeprefix("published/"), True)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_study_can_be_shortened_by_one_setting(name):
    spec = load_study(find_study(name), SMALL)
    sizes = {
        (config.horizon, config.train_limit, config.val_limit)
        for config in (trial_config(spec, {}, run=run.name) for run in spec.run)
    }
    assert sizes == {(1, 64, 32)}


@pytest.mark.parametrize("name", shipped_studies())
def test_a_study_is_planned(name):
    # Sizes that change nothing in what a plan checks, but the time it takes to time it.
    small = [*SMALL, "train.data=digits"] if name in PUBLISHED else ["resources.cpus_per_trial=1"]
    spec = load_study(find_study(name), [*small, "train.batch_size=2"])
    assert plan(spec, count=1).parameters > 0


def test_every_recipe_is_in_the_documentation(pytestconfig):
    text = (pytestconfig.rootpath / "docs" / "recipes.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(published/\w+)`", text))
    assert named == set(PUBLISHED)
