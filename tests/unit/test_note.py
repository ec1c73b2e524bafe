import pytest

from sweeps.tracking.note import Note

PARAMS = {"weight_decay": "0.18", "shift": "0.07", "lr_alpha": "0.001", "model": "resnet56v2"}


def note(trials: int = 0, description: str = "Which rate?") -> Note:
    made = Note(description, 0.92)
    for number in range(trials):
        made.begun(number, f"run-{number}", PARAMS)
    return made


def reach(made: Note, number: int, epoch: int | None, outcome: str = "reached") -> None:
    metrics = {"best_val_acc": 0.93, "best_epoch": 25.0, "epochs_run": 26.0}
    made.ended(number, metrics | ({"epochs_to_target": float(epoch)} if epoch else {}), {"outcome": outcome})


def rows(made: Note) -> list[list[str]]:
    lines = [line for line in str(made).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_before_a_trial_has_ended_it_is_the_description():
    assert str(note(2)) == "Which rate?"


def test_a_trial_that_ended_is_a_row():
    made = note(1)
    reach(made, 0, 19)
    assert rows(made) == [["run-0", "19", "0.9300", "25", "0.18", "0.07", "0.001", "26", "reached"]]


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
