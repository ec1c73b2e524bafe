"""What a launch says when it has ended, on one screen: the result, how sure it is, what it cost, and what to do next.

All of it is read from the ledger. `sweeps table` has every trial with all of its columns.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from analysis.statistics.estimates import share_reached
from analysis.tables.columns import setting, value_columns
from resnet_core.config import TrialConfig
from resnet_core.objective import Objective
from resnet_core.records import Outcome, duration_text
from search_spaces.spec import StudySpec
from sweeps.home import Home
from sweeps.inspection.best import BestTrial, best_of
from sweeps.inspection.kept_networks import kept
from sweeps.ledger.ledger import Ledger
from sweeps.study.outcomes import Result
from sweeps.study.ranking import Configuration, Ranking, ranking
from sweeps.study.trials import Entry, crashes

_BEST = 5  # configurations in the table
_WIDEST = 100  # columns; longer lines of text are hard to read
_LABEL = 10  # columns of the word before a text
_GAP = "  "
_ENDED = {
    Outcome.EXHAUSTED: "ended below the target",
    Outcome.PRUNED: "pruned",
    Outcome.DIVERGED: "diverged",
    Outcome.CRASHED: "crashed",
}


def end_screen(home: Home, ledger: Ledger, width: int, *, store: str = "", driver: str = "", server: str = "") -> str:
    """Return the end of a search as text of at most 24 lines of 80 columns, for a study with short names.

    Args:
        home: the home folder.
        ledger: the study's ledger.
        width: columns of the terminal.
        store: the options of commands that look at the study, such as `` --home x``.
        driver: the options of commands that run it.
        server: the address of MLflow's server, if the study is logged on one.
    """
    spec, entries = ledger.spec, ledger.entries()
    ranked = ranking(spec, entries)
    best = best_of(home, ledger, entries, ranked)
    texts = [("Result:", _result(spec, entries, best))]
    if best is not None:
        texts.append(("How sure:", " ".join(_confidence(best, ranked))))
    texts.append(("Cost:", _cost(ledger, entries)))
    lines = [] if best is None else [*_table(spec, ranked, width), ""]
    for label, text in texts:
        lines += _labelled(label, text, width)
    following = _next(home, ledger, best, len(ranked.configurations), store, driver, server)
    labels = ["Next:", *[""] * len(following)]
    longest = max(len(what) for what, _ in following)
    lines += [
        f"{label:<{_LABEL}}{what:<{longest}}{_GAP}{command}"
        for label, (what, command) in zip(labels, following, strict=False)
    ]
    return "\n".join(lines)


def _labelled(label: str, text: str, width: int) -> list[str]:
    wrapper = textwrap.TextWrapper(min(width, _WIDEST), subsequent_indent=" " * _LABEL, break_on_hyphens=False)
    return wrapper.wrap(f"{label:<{_LABEL}}{text}")


def _result(spec: StudySpec, entries: Sequence[Entry], best: BestTrial | None) -> str:
    sought = spec.objective
    ended = [entry.result for entry in entries if entry.result is not None]
    counts = {outcome: sum(result.outcome is outcome for result in ended) for outcome in Outcome}
    said = [f"{counts[outcome]} {words}" for outcome, words in _ENDED.items() if counts[outcome]]
    if sought.target is None:
        said = [text.replace("ended below the target", "trained to the end") for text in said]
    else:
        below = "below" if sought.goal == "max" else "above"
        said = [text.replace("below", below) for text in said]
        said.insert(0, f"{counts[Outcome.REACHED]} of {len(ended)} trials reached {_target(sought)}")
    text = ", ".join(said) + "." if said else "no trial has ended."
    why = crashes(spec.name, entries)
    if best is not None and best.entry.result is not None:
        text = f"trial {best.entry.job.name} is best: {_did(best.entry.result, sought)}. {text}"
    return text if why is None else f"{text} {why[:1].upper()}{why[1:]}."


def _target(sought: Objective) -> str:
    return f"{sought.metric} {sought.target:g}"


def _did(result: Result, sought: Objective) -> str:
    if result.epochs_to_target is not None:
        return f"{_target(sought)} at epoch {result.epochs_to_target}"
    shown = "none" if result.best_value is None else sought.shown(result.best_value)
    return f"{sought.metric} {shown} at epoch {result.best_epoch}"


def _confidence(best: BestTrial, ranked: Ranking) -> list[str]:
    """Return what is known of repeats, and of the second best."""
    said = [f"{name}: {_share(reached, runs, best.objective)}." for name, (reached, runs) in best.confirmed_by.items()]
    first = ranked.best
    runs, reached = best.reruns
    if runs:
        place = "winner of the finalists" if best.raced else "ahead of the finalists so far"
        said.append(f"{place}, {_share(reached, runs, best.objective)} with fresh seeds.")
    elif first is not None and len(first.runs) > 1:
        crossed = sum(run.result is not None and run.result.epochs_to_target is not None for run in first.runs)
        said.append(f"its configuration: {_share(crossed, len(first.runs), best.objective)}.")
    elif not said:
        single = all(len(one.runs) == 1 for one in ranked.configurations)
        said.append(f"one run{' each' if single else ''}: exploratory. No winner yet: one run may be luck.")
    if best.second is not None and best.second_chance is not None:
        said.append(f"Trial {best.second} is better with a chance of {best.second_chance:.0%}.")
    config = best.entry.job.config
    if isinstance(config, TrialConfig) and config.split == "official":
        said.append("Chosen on the test images (split official).")
    return said


def _share(reached: int, runs: int, sought: Objective) -> str:
    if sought.target is None:
        return f"{runs} runs"
    share = share_reached(reached, runs)
    return f"{reached} of {runs} runs at the target (95 % interval {share.low:.0%} to {share.high:.0%})"


def _cost(ledger: Ledger, entries: Sequence[Entry]) -> str:
    results = [entry.result for entry in entries if entry.result is not None]
    epochs, saved = sum(result.epochs_run for result in results), sum(result.epochs_saved for result in results)
    text = f"{epochs} epochs"
    span = ledger.span()
    if span is not None:
        text += f" within {duration_text(span.total_seconds())}"
    if saved:
        text += f"; stopping early saved {saved} more ({saved / (epochs + saved):.0%} of {epochs + saved})"
    return f"{text}."


def _next(
    home: Home,
    ledger: Ledger,
    best: BestTrial | None,
    configurations: int,
    store: str,
    driver: str,
    server: str,
) -> list[tuple[str, str]]:
    """Return the commands that follow, each with what it does."""
    spec, name = ledger.spec, ledger.spec.name
    if best is None:
        return [("what went on", f"sweeps status {name}{store}")]
    found = [
        ("all trials", f"sweeps table {name}{store}"),
        ("one page of it all", f"sweeps report {name}{store}"),
    ]
    if "seed" in spec.trainer.fields and not best.imported:
        if best.raced or "seed" in spec.space or configurations < 2:
            found.append(("is it luck?", f"sweeps confirm {name}{driver}"))
        else:
            found.append(("which is really best?", f"sweeps race {name}{driver}"))
    found.append(("the best as a study file", f"sweeps best {name} --toml{store}"))
    networks = [network.trial for network in kept(home, ledger)]
    if networks:
        trial = best.entry.job.name if best.entry.job.name in networks else networks[0]
        found.append(("a network it trained", f"sweeps model {name} {trial}{store}"))
    return [*found, ("every curve, in MLflow", server or f"sweeps ui {name}{store}")]


def _table(spec: StudySpec, ranked: Ranking, width: int) -> list[str]:
    """Return the best configurations: as many columns as fit, the parameters last."""
    sought = spec.objective
    first = [one for one in ranked.configurations if one is ranked.best]
    shown = [*first, *(one for one in ranked.configurations if one not in first)][:_BEST]
    columns = [("trial", [one.runs[0].job.name for one in shown])]
    if any(len(one.runs) > 1 for one in ranked.configurations):
        columns.append(("runs", [str(len(one.runs)) for one in shown]))
    if sought.target is not None:
        columns.append(("epochs_to_target", [_crossing(one) for one in shown]))
    columns.append((value_columns(sought.metric)[1].name, [_best_value(one, sought) for one in shown]))
    if ranked.has_enough_data:
        columns.append(("expected", [_expected(one, sought) for one in shown]))
    for name in dict.fromkeys(name for one in shown for name in one.runs[0].job.params):
        values = [one.runs[0].job.params.get(name) for one in shown]
        columns.append((name, ["-" if value is None else setting(name).shown(value) for value in values]))
    sizes = [max(map(len, [heading, *cells])) for heading, cells in columns]
    kept: list[list[str]] = []
    room = width + len(_GAP)
    for (heading, cells), size in zip(columns, sizes, strict=True):
        if heading == "trial" or size + len(_GAP) <= room:
            kept.append([text.rjust(size) if kept else text.ljust(size) for text in (heading, *cells)])
            room -= size + len(_GAP)
    return [_GAP.join(row).rstrip() for row in zip(*kept, strict=True)]


def _crossing(one: Configuration) -> str:
    result = one.runs[0].result
    if result is None or result.outcome is Outcome.DIVERGED:
        return "-"
    return f">{result.epochs_run}" if result.epochs_to_target is None else str(result.epochs_to_target)


def _best_value(one: Configuration, sought: Objective) -> str:
    result = one.runs[0].result
    return "-" if result is None or result.best_value is None else sought.shown(result.best_value)


def _expected(one: Configuration, sought: Objective) -> str:
    if sought.target is not None:
        return f"{one.expected:.1f} ± {one.sd:.1f}"
    return f"{sought.shown(sought.score(0.0 - one.expected))} ± {one.sd:.2g}"
