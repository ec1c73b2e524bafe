"""From a search to its confirmation, a comparison, and a published study: through the command line."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

_SEARCH = """
name = "search"
[train]
model = "resnet11v2"
data = "digits"
split = "held-out"
image_size = 16
train_limit = 100
val_limit = 50
batch_size = 32
flip = false
schedule = "[5e-3, 0] lin[1e-3, 2]"
[objective]
target = 0.05
[[run]]
name = "plain"
[[run]]
name = "decayed"
weight_decay = 0.1
"""
_ONE_CYCLE = """run=[{name="one-cycle", schedule="[0.08, 0] lin[0.8, 41] lin[0.08, 82] lin[0.008, 95]"}]"""
_SMALL = ("model=resnet11v2", "data=digits", "image_size=16", "train_limit=100", "val_limit=50", "crop=0", "epochs=1")


class Confirmed(NamedTuple):
    home: Path
    said: str
    longer: str


@pytest.fixture(scope="module")
def confirmed(sweeps, cluster, tmp_path_factory) -> Confirmed:
    """A search of two runs, of which one is confirmed with one seed, then with two."""
    folder = tmp_path_factory.mktemp("confirm")
    home, file = folder / "home", folder / "search.toml"
    file.write_text(_SEARCH)
    at = ("--home", home)
    sweeps("launch", file, *at, on=cluster)
    first = sweeps("confirm", "search", "--trial", "plain", "--seeds", "1", *at, on=cluster)
    longer = sweeps("confirm", "search", "--trial", "plain", "--seeds", "2", *at, on=cluster)
    return Confirmed(home, first.stdout, longer.stdout)


def test_the_best_are_run_again_until_there_is_a_winner(sweeps, cluster, tmp_path):
    file, at = tmp_path / "search.toml", ("--home", tmp_path / "home")
    file.write_text(_SEARCH.replace('split = "held-out"', ""))
    searched = sweeps("launch", file, *at, on=cluster)
    assert "No winner yet: one run may be luck." in searched.stdout
    assert f"sweeps race search --home {tmp_path / 'home'}\n" in searched.stdout
    raced = sweeps("race", "search", "--top", "2", "--seeds", "2", *at, on=cluster)
    assert re.search(r"\nHow sure: winner of the finalists, \d of 2 runs at the target ", raced.stdout)
    best = sweeps.json("best", "search", *at)
    assert (best["winner"], best["run_again"]["runs"]) == (True, 2)
    status = sweeps.json("status", "search", *at)
    assert (status["state"], status["trials"]) == ("complete", 2)
    assert 3 <= status["finalists"] <= 4
    rows = sweeps.json("table", "search", *at)
    assert {row["trial"] for row in rows} >= {"plain", "decayed", "plain-s1000000", "decayed-s1000000"}
    assert sweeps("race", "search", "--top", "2", "--seeds", "2", *at, on=cluster).stdout == raced.stdout


def test_a_study_file_asks_for_finalists(sweeps, cluster, tmp_path):
    file, at = tmp_path / "search.toml", ("--home", tmp_path / "home")
    file.write_text(_SEARCH.replace('split = "held-out"', ""))
    asked = ("--set", "search.finalists={top=2,seeds=1}")
    assert sweeps.json("plan", file, *asked)["finalists_at_most"] == 2
    done = sweeps("launch", file, *asked, *at, on=cluster)
    assert re.search(r"\nHow sure: winner of the finalists, [01] of 1 runs at the target ", done.stdout)


def test_a_confirmation_sums_up_what_it_found(confirmed):
    assert "search-confirm confirms search trial plain" in confirmed.said
    assert re.search(r"reached 0\.05: \d of 1 runs, share ", confirmed.said)
    assert re.search(r"test accuracy after the last epoch: 0\.\d{4} \(n = 1\)", confirmed.said)


def test_seeds_are_added_to_a_confirmation(sweeps, confirmed):
    rows = sweeps.json("table", "search-confirm", "--home", confirmed.home)
    assert {row["trial"] for row in rows} == {"plain-s1000000", "plain-s1000001"}
    assert "(n = 2)" in confirmed.longer


def test_the_test_accuracy_is_in_each_epoch(sweeps, confirmed):
    epochs = sweeps.json("show", "search-confirm", "0", "--home", confirmed.home)["epochs"]
    assert [epoch["test_acc"] is None for epoch in epochs] == [False, False]
    assert "reached 0.05 on the test images: " in confirmed.said


def test_the_store_tells_the_phases_apart(store, confirmed):
    tags = [store(confirmed.home, name).launches[0].data.tags for name in ("search", "search-confirm")]
    assert [tag["phase"] for tag in tags] == ["search", "confirm"]
    assert tags[1]["confirms"] == "search trial plain"


def test_two_runs_of_a_search_are_compared(sweeps, confirmed, tmp_path):
    picture = tmp_path / "bands.png"
    at = ("--home", confirmed.home)
    shown = sweeps.json("compare", "search:plain", "search:decayed", "--plot", picture, *at)
    assert shown["paired_seeds"] == [0]
    assert any("exploratory" in note for note in shown["notes"])
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_search_is_compared_with_its_confirmation_only_where_asked(sweeps, confirmed):
    sides = ("compare", "search:plain", "search-confirm", "--home", confirmed.home)
    assert "--mix" in sweeps(*sides, code=2).stderr
    assert "no fair comparison" in sweeps(*sides, "--mix").stdout


def test_anything_frozen_cannot_be_set(sweeps, confirmed):
    done = sweeps("confirm", "search", "--set", "train.shift=0.1", "--home", confirmed.home, code=2)
    assert "expected resources.KEY=VALUE alone" in done.stderr


def test_a_confirmation_that_was_made_longer_after_a_look_says_so(confirmed):
    assert "seeds were added after runs had ended" not in confirmed.said
    assert "seeds were added after runs had ended: intervals assume a number of runs fixed" in confirmed.longer


@pytest.mark.parametrize("options", [
    ("search-confirm",), ("search", "--trial", "plain"),
], ids=["of the confirmation", "of the search"])  # fmt: skip
def test_a_claim_is_tested_on_the_runs_that_are_there(sweeps, cluster, confirmed, options):
    on = {"on": cluster} if len(options) > 1 else {}
    said = sweeps("confirm", *options, "--claim", "median <= 2", "--home", confirmed.home, **on).stdout
    assert "search-confirm confirms search trial plain" in said
    assert re.search(r'claim "median <= 2": not supported at 95%: \d of 2 runs', said)


@pytest.mark.parametrize(
    ("options", "said"),
    [(("--claim", "mean <= 2"), "--claim 'mean <= 2': expected median <= EPOCHS"),
     (("--until", "decided"), "expected --against OTHER too"),
     (("--until", "noon", "--against", "search:decayed"), "--until noon: expected decided"),
     (("--against", "search:decayed"), "expected --until decided too"),
     (("--against-as", "other"), "--against-as: expected --against OTHER too"),
     (("--until", "decided", "--against", "search:decayed", "--claim", "median <= 2"), "--claim: its test assumes"),
     (("--until", "decided", "--against", "search:decayed", "--seeds", "6"), "expected 9 or more"),
     (("--until", "decided", "--against", "search:decayed", "--trial", "plain"), "a name of its own with --against-as"),
     (("--until", "decided", "--against", "nowhere"), "no study 'nowhere'")],
)  # fmt: skip
def test_what_cannot_be_decided_or_claimed_is_refused(sweeps, confirmed, options, said):
    assert said in sweeps("confirm", "search", *options, "--home", confirmed.home, code=2).stderr


def test_two_trials_are_confirmed_in_pairs_until_it_is_decided(sweeps, cluster, tmp_path):
    """Or until there are as many pairs as may be; a second call runs nothing more."""
    file, at = tmp_path / "search.toml", ("--home", tmp_path / "home")
    still = _SEARCH.replace("weight_decay = 0.1", 'schedule = "[1e-12, 0] lin[1e-12, 2]"')
    file.write_text(still.replace("target = 0.05", "target = 0.2").replace("decayed", "still"))
    sweeps("launch", file, *at, on=cluster)
    asked = ("confirm", "search", "--trial", "plain", "--against", "search:still", "--against-as", "still-confirm",
             "--until", "decided", "--seeds", "10", "--no-report", *at)  # fmt: skip
    done = sweeps(*asked, on=cluster)
    assert "A is search trial plain, B is search trial still: A is faster in " in done.stdout
    assert "a sequential test decided the number of runs" in done.stdout
    assert re.search(r"A minus B, up to epoch 2 \((9|10) pairs of runs that share a seed\):", done.stdout)
    rows = [sweeps.json("table", name, *at) for name in ("search-confirm", "still-confirm")]
    seeds = [{row["trial"].rpartition("-")[2] for row in table} for table in rows]
    assert seeds[0] == seeds[1]
    again = sweeps(*asked, on=cluster)
    last = [line for line in done.stdout.splitlines() if line.startswith("A is ")][-1]
    assert [line for line in again.stdout.splitlines() if line.startswith("A is ")] == [last]
    assert len(sweeps.json("table", "search-confirm", *at)) == len(rows[0])


@pytest.mark.slow
def test_a_published_study_is_reproduced_beside_its_figures(sweeps, cluster, tmp_path):
    settings = [option for setting in _SMALL for option in ("--set", f"train.{setting}")]
    done = sweeps("reproduce", "super-convergence", "--home", tmp_path / "home", "--set", _ONE_CYCLE, *settings,
                  "--set", "resources.cpus_per_trial=1", on=cluster)  # fmt: skip
    assert re.search(r"^one-cycle +val_acc after the last epoch +0\.9130 +0\.\d{4}", done.stdout, re.MULTILINE)
    assert "model: resnet56v2 -> resnet11v2" in done.stdout
    (row,) = sweeps.json("table", "super-convergence", "--published", "--home", tmp_path / "home")
    assert (row["published_low"], row["runs"], row["inside"]) == (0.913, 1, None)


def test_what_is_not_published_is_not_reproduced(sweeps, tmp_path):
    done = sweeps("reproduce", "quickstart", "--home", tmp_path, code=2)
    assert "no published study; expected one of: " in done.stderr
    assert "post5" in done.stderr
