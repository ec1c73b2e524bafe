import pytest

from resnet_core.objective import DEFAULT
from sweeps.tracking.note import Note

PARAMS = {"weight_decay": "0.18", "shift": "0.07", "lr_alpha": "0.001", "model": "resnet56v2"}


def note(trials: int = 0, description: str = "Which rate?", space: tuple[str, ...] = (), **params: list) -> Note:
    """Make a note of trials that have begun; ``params`` has a list of values by parameter, in the order of trials."""
    made = Note(description, DEFAULT, dict.fromkeys(space))
    for number in range(trials):
        own = {name.replace("space_", "space."): str(values[number]) for name, values in params.items()}
        made.begun(number, f"run-{number}", PARAMS | own)
    return made


def reach(made: Note, number: int, epoch: int | None, outcome: str = "reached") -> None:
    metrics = {"best_val_acc": 0.93, "best_epoch": 25.0, "epochs_run": 26.0}
    made.ended(number, metrics | ({"epochs_to_target": float(epoch)} if epoch else {}), {"outcome": outcome})


def header(made: Note) -> list[str]:
    return next(line for line in str(made).splitlines() if line.startswith("| trial")).strip("| ").split(" | ")


def rows(made: Note) -> list[list[str]]:
    lines = [line for line in str(made).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_before_a_trial_has_ended_it_is_the_description():
    assert str(note(2)) == "Which rate?"


def test_a_trial_that_ended_is_a_row():
    made = note(1)
    reach(made, 0, 19)
    assert rows(made) == [["run-0", "19", "25", "0.9300", "0.07", "0.18", "0.001", ">26", "26", "reached"]]


def test_the_fastest_comes_first():
    made = note(3)
    for number, epoch in enumerate((21, None, 19)):
        reach(made, number, epoch, "reached" if epoch else "exhausted")
    assert [row[:2] for row in rows(made)] == [["run-2", "19"], ["run-0", "21"], ["run-1", ">26"]]


def test_outcomes_are_counted():
    made = note(3)
    for number, outcome in enumerate(("reached", "crashed", "reached")):
        reach(made, number, 19, outcome)
    assert "**3 trials ended:** 2 reached, 1 crashed." in str(made)


def test_a_crashed_trial_is_no_row():
    made = note(1)
    reach(made, 0, None, "crashed")
    assert rows(made) == []


@pytest.mark.parametrize("description", ["", "λ" * 9000])
def test_mlflow_takes_it_however_long_the_study_is(description):
    made = note(400, description)
    for number in range(400):
        reach(made, number, 19 + number)
    assert len(str(made)) < 8000


def test_a_trial_that_begins_again_is_one_row():
    made = note(1)
    made.begun(0, "run-0", PARAMS)
    reach(made, 0, 19)
    assert len(rows(made)) == 1


def test_sampled_parameters_are_columns_under_their_own_names_in_the_order_of_the_space():
    made = note(2, space=("warmup", "decay"), space_decay=[8, 9], space_warmup=[1, 2])
    for number in range(2):
        reach(made, number, 19 + number)
    names = header(made)
    assert (names[:2], names.index("decay") - names.index("warmup")) == (["trial", "epochs_to_target"], 1)
    assert [row[names.index("decay")] for row in rows(made)] == ["8", "9"]


def test_what_is_the_same_in_all_trials_is_told_once():
    made = note(2, weight_decay=[0.1, 0.2])
    for number in range(2):
        reach(made, number, 19)
    assert "- The same in all trials: shift = 0.07, lr_alpha = 0.001." in str(made)
    assert "weight_decay" in header(made)
    assert "shift" not in header(made)


def test_settings_that_have_no_room_are_named():
    made = note(2, **{f"setting_{i:02d}": [1, 2] for i in range(20)})
    for number in range(2):
        reach(made, number, 19)
    names = header(made)
    assert {"epochs_to_target", "outcome"} <= set(names)
    assert (
        f"- Left out here: {', '.join(f'setting_{i:02d}' for i in range(20) if f'setting_{i:02d}' not in names)}."
        in str(made)
    )
