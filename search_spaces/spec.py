"""StudySpec: a study file that has passed all checks."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from search_spaces.checks import study_problems
from search_spaces.errors import raise_problems
from search_spaces.tables import StudyTables


class StudySpec(StudyTables):
    """A study: fixed fields, and either a space to sample or listed runs.

    A study with neither has one listed run: ``[train]`` alone, under the name of the study.

    Attributes:
        name: name of the study and of its folder.
        description: a text for readers; no result depends on it.
        phase: ``search`` explores. ``confirm`` repeats one configuration with fresh seeds, stops no trial early, and
            may evaluate the test images after each epoch, without acting on the result.
        confirms: what a confirmation confirms: ``STUDY trial NAME``. A text for readers; no result depends on it.
        train: ``trainer``, and fields of its configuration that are fixed; schedules among them may name parameters.
        space: parameters in the file's order. One that a schedule names is the value in it, and that of the field with
            its name that a trainer of one's own may have; any other is a field of the trainer's configuration.
        objective: what is looked for in a trial: a metric, its goal and its target.
        search: how trials are chosen.
        stopping: which rules end a trial early.
        resources: the resources of one trial.
        keep: which trained networks outlive their trial.
        run: listed runs, in the file's order.
        code: what is known of the code that the file names; None where it names none. No key of a study file.

    Raises:
        pydantic.ValidationError: something is wrong; ``load_study`` and ``from_json`` raise a StudyError instead.
    """

    @model_validator(mode="after")
    def _check(self) -> Self:
        raise_problems(list(dict.fromkeys(study_problems(self))))
        return self
