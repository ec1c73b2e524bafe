"""StudySpec: what a study file asks, checked as far as can be before anything starts."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from search_spaces.checks import study_problems
from search_spaces.errors import raise_problems
from search_spaces.tables import StudyTables


class StudySpec(StudyTables):
    """A study: fixed fields, and either a space to sample or listed runs.

    With neither it is one listed run of ``[train]`` alone, named like the study.

    Attributes:
        name: its name, and so its folder's.
        description: for people; determines nothing.
        phase: ``search`` explores; ``confirm`` repeats one frozen configuration with fresh seeds, stops no trial
            early, and may have the test set evaluated after each epoch, which nothing acts upon.
        confirms: in a confirmation, what it confirms: ``STUDY trial NAME``. For people; determines nothing.
        train: fields of TrialConfig that are fixed; schedules among them may name parameters.
        space: parameters in the file's order. One that a schedule names goes into schedules and nowhere
            else; any other is a field of TrialConfig.
        objective: what counts as reached.
        search: how trials are chosen.
        stopping: which rules end a trial early.
        resources: what one trial takes.
        run: listed runs, in the file's order.

    Raises:
        pydantic.ValidationError: something is wrong; ``load_study`` and ``from_json`` make it a StudyError.
    """

    @model_validator(mode="after")
    def _check(self) -> Self:
        raise_problems(list(dict.fromkeys(study_problems(self))))
        return self
