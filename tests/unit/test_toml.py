import tomllib

import pytest

from search_spaces.spec import StudySpec
from search_spaces.study import find_study, load_study, shipped_studies
from search_spaces.toml import to_toml
from sweeps.study.stopping.cannot_reach import CannotReach

SPACE = {
    "name": "made",
    "train": {"schedule": "[lr, 0] lin[1e-5, 4]", "epochs": 5},
    "space": {"lr": {"low": 1e-4, "high": 1e-2, "log": True}, "shift": {"low": 0, "high": 0.2, "step": 0.1}},
    "search": {"trials": 9, "first": [{"lr": 1e-3, "shift": 0.1}, {}]},
    "stopping": {"diverged": False, "cannot_reach": {}, "cap": {"best": 2, "slack": 1.5}, "shadow": ["cap"]},
}


def read_back(spec, tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(to_toml(spec), encoding="utf-8")
    return load_study(path)


@pytest.mark.parametrize("name", shipped_studies())
def test_a_shipped_study_is_read_back_as_it_was(name, tmp_path):
    spec = load_study(find_study(name))
    assert read_back(spec, tmp_path) == spec


def test_rules_and_first_trials_are_read_back(tmp_path):
    spec = StudySpec.model_validate(SPACE)
    assert read_back(spec, tmp_path) == spec


def test_a_rule_with_its_default_settings_stays_switched_on(tmp_path):
    assert read_back(StudySpec.model_validate(SPACE), tmp_path).stopping.rules["cannot_reach"] == CannotReach()


def test_what_has_its_default_value_is_left_out():
    spec = StudySpec.model_validate({"name": "plain", "train": {"schedule": "[1e-3, 0] lin[1e-5, 4]"}})
    assert tomllib.loads(to_toml(spec)) == {"name": "plain", "train": {"schedule": spec.train["schedule"]}}


@pytest.mark.parametrize("text", ['say "λ"', "back\\slash", "two\nlines", "\x7f\x00\x1f", "e\u0301 ✓ 𝄞"])
def test_any_description_is_read_back(text, tmp_path):
    spec = StudySpec.model_validate(
        {"name": "said", "description": text, "train": {"schedule": "[1e-3, 0] lin[1e-5, 4]"}}
    )
    assert read_back(spec, tmp_path).description == text


def test_ranges_stand_on_one_line_each():
    assert "lr = { low = 0.0001, high = 0.01, log = true }" in to_toml(StudySpec.model_validate(SPACE)).splitlines()
