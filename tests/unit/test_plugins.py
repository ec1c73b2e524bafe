"""Rules and samplers of installed packages."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_core.code import CodeError
from search_spaces.plugins import OwnRule, find_sampler
from search_spaces.study import from_json, to_json
from sweeps.study.stopping.rules import rules_of

ROOT = Path(__file__).parents[2]
RULE = """
from pydantic import Field

from sweeps.study.stopping.base import StoppingRule


class TooSlow(StoppingRule):
    \"\"\"Ends a trial after so many epochs.

    Attributes:
        epochs: a trial ends after so many.
    \"\"\"

    name = "too_slow"
    epochs: int = Field(default=10, ge=1)

    def reason_to_stop(self, trial, study):
        return f"stopped at epoch {trial.epoch}: too slow" if trial.epoch >= self.epochs else None


class AnotherCap(TooSlow):
    name = "cap"
"""
SAMPLER = """
from search_spaces.plugins import Sampler
from sweeps.ledger.samplers import SAMPLERS

PLUGGED = Sampler("plugged", SAMPLERS[0].make)
"""


@pytest.fixture
def run(tmp_path):
    """Run code beside an installed package with these entry points; return what it prints and its errors."""

    def run_code(points: str, code: str) -> tuple[str, str]:
        (tmp_path / "mine.py").write_text(RULE + SAMPLER)
        info = tmp_path / "mine-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
        (info / "entry_points.txt").write_text(points)
        head = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        done = subprocess.run([sys.executable, "-c", head + code], cwd=ROOT, capture_output=True, text=True)
        return done.stdout, done.stderr

    return run_code


def test_a_rule_of_another_package_is_read_asked_stored_and_documented(run):
    out, err = run(
        "[sweeps.rules]\ntoo_slow = mine:TooSlow\n",
        """if True:
        import json
        from docs.study_file import rule_tables
        from search_spaces.errors import StudyError
        from search_spaces.study import from_json, parse_study, to_json
        from search_spaces.spec import StudySpec
        from sweeps.study.stopping.rules import rules_of

        study = {"name": "x", "train": {"schedule": "[1e-3, 0] cos[1e-5, 4]"}}
        spec = parse_study({**study, "stopping": {"too_slow": {"epochs": 3}}}, "s.toml")
        print([(rule.name, dict(rule)) for rule in rules_of(spec)])
        print(from_json(to_json(spec)) == spec)
        print("| `too_slow.epochs` | `10` | a trial ends after so many |" in rule_tables())
        try:
            parse_study({**study, "stopping": {"too_slow": {"epochs": 0}}}, "s.toml")
        except StudyError as error:
            print(error)
        """,
    )
    assert (err, out.splitlines()) == (
        "",
        [
            "[('diverged', {}), ('too_slow', {'epochs': 3})]",
            "True",
            "True",
            "s.toml: stopping.too_slow.epochs = 0: expected at least 1",
        ],
    )


def test_a_stored_study_is_read_without_the_package_of_its_plugins(run):
    text, err = run(
        "[sweeps.rules]\ntoo_slow = mine:TooSlow\n[sweeps.samplers]\nplugged = mine:PLUGGED\n",
        """if True:
        from search_spaces.study import parse_study, to_json

        study = {
            "name": "x",
            "train": {"schedule": "[lr, 0] cos[1e-5, 4]"},
            "space": {"lr": {"low": 0.1, "high": 1}},
            "search": {"trials": 2, "sampler": "plugged"},
            "stopping": {"too_slow": {"epochs": 3}, "shadow": ["too_slow"]},
        }
        print(to_json(parse_study(study, "s.toml")))
        """,
    )
    assert err == ""
    spec = from_json(text)
    assert spec.search.sampler == "plugged"
    assert spec.stopping.rules["too_slow"] == OwnRule(reference="too_slow", settings={"epochs": 3})
    assert json.loads(to_json(spec)) == json.loads(text)
    with pytest.raises(CodeError, match=re.escape("no installed package offers too_slow (sweeps.rules)")):
        rules_of(spec)
    with pytest.raises(CodeError, match=re.escape("no installed package offers plugged (sweeps.samplers)")):
        find_sampler(spec.search.sampler)


def test_a_rule_that_a_study_leaves_off_changes_neither_its_json_nor_its_hash(run):
    code = """if True:
        from search_spaces.spec import StudySpec
        from search_spaces.study import study_hash, to_json

        spec = StudySpec(name="x", train={"schedule": "[1e-3, 0] cos[1e-5, 4]"})
        print(study_hash(spec), "too_slow" in to_json(spec))
    """
    assert run("[sweeps.rules]\ntoo_slow = mine:TooSlow\n", code) == ("7f5e461f7a65 False\n", "")


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (
            "[sweeps.rules]\nmine = mine:AnotherCap\n",
            "sweeps.rules: the plug-in mine is not used (mine:AnotherCap of the package mine 1): 'cap' is the name of "
            "another one",
        ),
        (
            "[sweeps.rules]\nmine = gone.away:Rule\n",
            "sweeps.rules: the plug-in mine is not used (gone.away:Rule of the package mine 1): "
            "ModuleNotFoundError: No module named 'gone'",
        ),
        (
            "[sweeps.samplers]\nmine = mine:TooSlow\n",
            "sweeps.samplers: the plug-in mine is not used (mine:TooSlow of the package mine 1): it is the class "
            "TooSlow; expected a search_spaces.plugins.Sampler",
        ),
    ],
    ids=["of a name that is taken", "that is gone", "of another kind"],
)
def test_a_plugin_that_cannot_be_used_is_left_out(run, points, said):
    code = """if True:
        from search_spaces.study import find_study, load_study
        print(load_study(find_study("quickstart")).name)
    """
    assert run(points, code) == ("quickstart\n", said + "\n")


def test_none_of_two_plugins_of_one_name_is_used(run, tmp_path):
    other = tmp_path / "other-2.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 2\n")
    (other / "entry_points.txt").write_text("[sweeps.trainers]\ntrain = other:train\n")
    code = "from resnet_core.code import installed; print(installed('sweeps.trainers')); installed('sweeps.trainers')"
    out, err = run("[sweeps.trainers]\ntrain = mine:train\n", code)
    assert out == "{}\n"
    assert err.startswith("sweeps.trainers: none of the plug-ins 'train' is used, since there are several: ")
    assert "mine:train of the package mine 1" in err
    assert "other:train of the package other 2" in err
    assert err.count("\n") == 1


def test_a_sampler_of_another_package_can_be_named(run):
    code = """if True:
        from search_spaces.study import find_study, load_study
        print(load_study(find_study("quickstart"), ["search.sampler=plugged"]).search.sampler)
    """
    assert run("[sweeps.samplers]\nqmc = mine:PLUGGED\n", code) == ("plugged\n", "")
