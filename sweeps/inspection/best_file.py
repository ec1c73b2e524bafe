"""The study file of one trial's configuration: to run it, change it, or search around it."""

from __future__ import annotations

import textwrap

from search_spaces.space import fixed_fields
from search_spaces.spec import StudySpec
from search_spaces.stopping import Stopping
from search_spaces.tables import Search
from search_spaces.toml import to_toml
from sweeps.errors import InputError
from sweeps.home import Home
from sweeps.inspection.best import BestTrial
from sweeps.ledger.ledger import Ledger
from sweeps.study.code import places
from sweeps.study.outcomes import describe_result

_LONGEST_NAME = 64
_WIDTH = 98  # characters of a comment's text


def best_study_file(home: Home, ledger: Ledger, best: BestTrial) -> str:
    """Return the text of a study file that runs the best configuration once, as its best trial ran.

    Every field is fixed, the seed too, and nothing is searched. Comments say where it comes from, how it did, how sure
    that is, and where code of the user's own has to be.

    Raises:
        InputError: the study was imported: what its trials trained is known only as far as the imported file says.
    """
    if best.imported:
        raise InputError(
            f"--toml: study {best.study!r} was imported: what its trials trained is known only as far as its file says"
        )
    spec = _fixed(ledger.spec, best)
    result = best.entry.result
    assert result is not None
    job, sought = best.entry.job, best.objective
    told = [
        f"The best configuration of study {best.study}: trial {job.name}, {describe_result(result, sought)}, "
        f"of {result.epochs_run} epochs. Target: {sought.target_words}.",
        *best.evidence(),
        *(
            f"It runs {name}, the code of {place}. Save this file in that folder, or copy the code beside it."
            for name, place in places(home, ledger.spec).items()
        ),
        f"sweeps launch FILE runs it once more. Values may be changed, and parameters put into a [space]: "
        f"then give it another name than {spec.name}.",
    ]
    wrapper = textwrap.TextWrapper(_WIDTH, break_on_hyphens=False, break_long_words=False)  # a path is kept whole
    comments = [line for text in told for line in wrapper.wrap(_printable(text))]
    return "".join(f"# {line}\n" for line in comments) + "\n" + to_toml(spec)


def _printable(text: str) -> str:
    """Escape what no comment of TOML may have, and a folder's name may."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _fixed(source: StudySpec, best: BestTrial) -> StudySpec:
    job = best.entry.job
    values = {
        "name": f"{source.name[: max(1, _LONGEST_NAME - 1 - len(job.name))]}-{job.name}"[:_LONGEST_NAME],
        "description": f"The configuration of {source.name} trial {job.name}",
        "train": fixed_fields(source, job.config),
        "objective": source.objective,
        "resources": source.resources,
        "keep": source.keep,
        "code": source.code,
    }
    if source.phase == "confirm":  # a search may not look at test images
        frozen = {"stopping": Stopping(rules={}), "search": Search(seeds=[job.config.seed or 0])}
        values |= {"phase": "confirm", "confirms": source.confirms, **frozen}
    return StudySpec.model_validate(values, context={"trainer": source.trainer})
