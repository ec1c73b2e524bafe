"""Every published study, launched through the command line on a handful of digits for an epoch."""

import pytest

from search_spaces.study import find_study, load_study, shipped_studies

pytestmark = pytest.mark.slow

PUBLISHED = [name for name in shipped_studies() if name.startswith("published/")]
SMALL = (
    *("train.data=digits", "train.image_size=16", "train.train_limit=48", "train.val_limit=24", "train.epochs=1"),
    "resources.cpus_per_trial=1",
)
SHALLOW = "train.model=resnet11v2"
# What else makes a study small, and how many of its runs are launched where the others add nothing.
SMALLER = {
    "published/post1_batch_sizes": [SHALLOW],
    "published/post1_plateau": [SHALLOW, "train.epochs=3", "train.plateau_patience=0"],
    "published/post5": [SHALLOW],
    "published/post5_open_questions": [SHALLOW],
    "published/report_optimizers": [SHALLOW],
    "published/report_datasets": [SHALLOW, "run[0].data=digits", "run[1].data=digits"],
    "published/report_networks": ["train.image_size=32", "train.train_limit=16"],  # VGG-16 takes no other size
    "published/super_convergence": [SHALLOW],
}
FIRST = {"published/post1_batch_sizes": 1, "published/post5": 2, "published/super_convergence": 2}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """One home for all: making its databases takes longer than a study this small."""
    return tmp_path_factory.mktemp("published") / "home"


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_study_runs_to_its_end(sweeps, store, cluster, home, name):
    spec = load_study(find_study(name))
    runs = spec.run[: FIRST.get(name)]
    changes = [*SMALL, *SMALLER.get(name, [])]
    # Runs are taken out from the end: those ahead keep their places.
    changes += [f"run[{place}]=" for place in reversed(range(len(runs), len(spec.run)))]
    options = [text for change in changes for text in ("--set", change)]

    sweeps("launch", name, "--home", home, *options, on=cluster)

    left = store(home, spec.name)
    left.assert_whole(trials=len(runs))
    assert list(left.trials) == [run.name for run in runs]
    epochs = 3 if "plateau" in name else 1
    assert {trial.data.metrics["epochs_run"] for trial in left.trials.values()} == {epochs}
