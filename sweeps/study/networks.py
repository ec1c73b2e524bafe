"""The trained networks that a study keeps in the home folder of one driver.

After each epoch a trial writes its network beside its checkpoint. When trials end, `Networks.settle` moves those of the
best of them to the study's folder ``models``, and removes the others. It does all that from the results and from what
lies there; so whatever a killed launch left is settled by the next one.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Collection, Mapping
from pathlib import Path

from resnet_core.network_file import SUFFIX, About, NetworkFileError, read_about, sync
from resnet_core.objective import Objective
from resnet_core.paths import write_whole
from resnet_core.records import Outcome
from search_spaces.spec import StudySpec
from search_spaces.tables import Keep
from sweeps.home import Home
from sweeps.study.outcomes import Result

_log = logging.getLogger(__name__)
_BESIDE = ".json"
_ENDED_WELL = (Outcome.REACHED, Outcome.EXHAUSTED, Outcome.PRUNED)


def best_trials(results: Mapping[int, Result], objective: Objective, keep: Keep) -> list[int]:
    """Return the numbers of the trials whose networks a study keeps, the best first.

    Trials that came to the target are first, by epochs to target, then by the metric's value after their last epoch,
    which is that of the network, then by number. Trials that diverged or crashed are left out.
    """

    def rank(number: int) -> tuple[float, float, int]:
        result = results[number]
        value = result.values[-1] if result.values else math.nan
        cost = -value if objective.goal == "max" else value
        return result.epochs_to_target or math.inf, math.inf if math.isnan(cost) else cost, number

    well = [number for number, result in results.items() if result.outcome in _ENDED_WELL]
    return sorted(well, key=rank) if keep.all else heapq.nsmallest(keep.best, well, key=rank)


class Networks:
    """The networks of a study's trials.

    Args:
        home: this driver's home folder.
        spec: the study.
    """

    def __init__(self, home: Home, spec: StudySpec) -> None:
        self._home, self._spec = home, spec
        self._written, self._kept = home.network(spec.name, 0).parent, home.models(spec.name)

    def settle(self, names: Mapping[int, str], results: Mapping[int, Result], frozen: Collection[int]) -> None:
        """Keep the networks of the best trials that have ended; remove those of the others.

        Args:
            names: the trials' names, by number.
            results: the results of the trials that have ended, of all drivers.
            frozen: the trials among them that may go on: their networks stay where they are.

        Raises:
            OSError: the disk is full, for example.
        """
        if not self._written.is_dir():
            return
        wanted = {names[number] for number in best_trials(results, self._spec.objective, self._spec.keep)}
        # First: the folder never has more than it should. A network goes ahead of its configuration.
        for path in sorted(self._kept.glob("*"), reverse=True):
            is_kept = path.suffix in (SUFFIX, _BESIDE) and path.stem in wanted
            if not is_kept and path.suffix in (SUFFIX, _BESIDE, ".partial"):
                path.unlink(missing_ok=True)
        for path in sorted(self._written.glob(f"*{SUFFIX}*")):
            number = path.name.partition(".")[0]
            if not number.isdecimal() or int(number) not in results or int(number) in frozen:
                continue
            if path.suffix == SUFFIX and names[int(number)] in wanted:
                self._keep(path, names[int(number)], results[int(number)])
            path.unlink(missing_ok=True)

    def remove(self, number: int) -> None:
        """Remove the network of a trial that another driver has taken over."""
        self._home.network(self._spec.name, number).unlink(missing_ok=True)

    def _keep(self, path: Path, name: str, result: Result) -> None:
        """Move a trial's network to those that are kept, if it is that of the ended trial."""
        try:
            about = read_about(path)
        except NetworkFileError as error:
            _log.warning("the network of trial %s is not kept: %s", name, error)
            return
        if not _is_of(about, result):
            return
        target = self._home.model(self._spec.name, name)
        target.parent.mkdir(exist_ok=True)
        sync(path)
        # The network last: where it is, its configuration is beside it.
        write_whole(target.with_suffix(_BESIDE), about.to_json(indent=1).encode())
        path.rename(target)
        sync(target)


def _is_of(about: About, result: Result) -> bool:
    """Return whether a network is that of a trial's last epoch or, of a trainer of one's own, of any epoch.

    It is not where another driver went on with the trial, so that this one has an earlier network.
    """
    if not 1 <= about.epoch <= len(result.values) or (about.trainer is None and about.epoch != result.epochs_run):
        return False
    recorded = result.values[about.epoch - 1]
    return about.value == recorded or (math.isnan(about.value) and math.isnan(recorded))


def kept_networks(home: Home, study: str) -> dict[str, Path]:
    """Return the networks that a study has kept in a home folder, by name of the trial."""
    return {path.stem: path for path in sorted(home.models(study).glob(f"*{SUFFIX}"))}
