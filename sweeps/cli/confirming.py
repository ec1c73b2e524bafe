"""Commands that repeat runs: those of a trial with fresh seeds, or those of a published study."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

import sweeps
from sweeps.cli.app import CRASHES, INTERRUPTED, command, print_result
from sweeps.cli.launching import attach_report_to, confirmation_text, run_study
from sweeps.cli.options import LaunchOptions, NameArgument, NameOption, SetOption
from sweeps.errors import InputError
from sweeps.home import Home

if TYPE_CHECKING:
    from analysis import Study
    from analysis.statistics.claims import Claim
    from analysis.statistics.sequential import SequentialTest
    from sweeps.ledger.confirmations import Side

_MOST_PAIRS = 40
_MORE_PAIRS = 4  # pairs added before each further test: a launch takes seconds, a run takes minutes


@command()
def confirm(
    name: NameArgument,
    *,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds",
            min=1,
            help="How many fresh seeds, in all; with --until, at most.",
            show_default=f"10, or as many as it has; with --until {_MOST_PAIRS}",
        ),
    ] = None,
    trial: Annotated[
        str, typer.Option("--trial", help="Which trial, by name or number.", show_default="the best")
    ] = "",
    new_name: Annotated[
        str, typer.Option("--as", metavar="NEW", help="Name of the confirmation.", show_default="NAME-confirm")
    ] = "",
    against: Annotated[
        str,
        typer.Option(
            "--against", metavar="OTHER", help="With --until: confirm this trial too, STUDY or STUDY:TRIAL, in pairs."
        ),
    ] = "",
    against_name: Annotated[
        str,
        typer.Option("--against-as", metavar="NEW", help="Name of OTHER's confirmation.", show_default="OTHER-confirm"),
    ] = "",
    until: Annotated[
        str, typer.Option("--until", metavar="decided", help="Add seeds until a sequential test decides.")
    ] = "",
    claim: Annotated[
        str,
        typer.Option(
            "--claim", help="Test a claim: 'median <= EPOCHS' or 'share(EPOCHS) >= SHARE'. NAME may be a confirmation."
        ),
    ] = "",
    changes: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="resources.KEY=VALUE",
            help="Change what one run takes; all else is frozen.",
            default_factory=list,
            show_default=False,
        ),
    ],
    options: LaunchOptions,
) -> None:
    """Repeat a trial's configuration with fresh seeds.

    No run is stopped early. At the end, the command says how sure the result is.
    """
    from sweeps.ledger.confirmations import Side, confirmation

    claimed = _claim(claim)
    home = options.store.open()
    _check_sequential(against, against_name, until, claim)
    resources = _resources(changes)
    if until or claim:
        _check_target(home, name, "--until" if until else "--claim")
    if until:
        other, _, other_trial = against.partition(":")
        sides = Side(name, trial, new_name), Side(other, other_trial, against_name, "--against-as")
        _until_decided(options, *sides, seeds or _MOST_PAIRS, resources)
        return
    if claimed is not None and _is_confirmation(home, name):
        study = options.store.results(name)
        print_result(confirmation_text(study))
        print_result(_verdict(study, claimed))
        return
    spec = confirmation(home, name, seeds, trial=trial, new_name=new_name, resources=resources)
    fresh = spec.search.seeds or [0]
    untested = (
        f"; no test accuracy: the {spec.train['split']} split has no untouched images"
        if "trainer" not in spec.train and spec.train["test"] is False
        else ""
    )
    options.tell(f"{spec.name}: {spec.confirms}, {len(fresh)} seeds from {fresh[0]} on{untested}")
    run_study(
        options,
        spec.name,
        lambda: sweeps.launch(spec, **options.to_arguments()),
        verdict=None if claimed is None else lambda study: _verdict(study, claimed),
    )


@command()
def reproduce(
    study: Annotated[str, typer.Argument(help="A published study: post5, post1_batch_sizes, super_convergence …")],
    *,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", min=1, help="How many runs there are of each.", show_default="once, as shipped"),
    ] = None,
    name: NameOption = "",
    changes: SetOption,
    options: LaunchOptions,
) -> None:
    """Run a published study, or continue it.

    At the end, the published figures are printed beside those of the runs.
    """
    import analysis
    from search_spaces.figures import published_rows

    repeated = [f"search.seeds={list(range(seeds))}"] if seeds else []
    spec = sweeps.load_study(_published(study), name=name, changes=[*repeated, *changes])

    def beside(found: analysis.Study) -> str:
        built = analysis.build_published(found, published_rows(found.name))
        return analysis.render(analysis.published_text(built), "text", notes=analysis.published_footnotes(found, built))

    run_study(options, spec.name, lambda: sweeps.launch(spec, **options.to_arguments()), table=beside)


def _check_sequential(against: str, against_name: str, until: str, claim: str) -> None:
    """Check that the options are compatible."""
    if until not in ("", "decided"):
        raise InputError(f"--until {until}: expected decided")
    if until and not against:
        raise InputError("--until decided: expected --against OTHER too, the trial that it is to be decided against")
    if against and not until:
        raise InputError("--against: expected --until decided too; `sweeps compare` compares what is there")
    if against_name and not against:
        raise InputError("--against-as: expected --against OTHER too")
    if claim and until:
        raise InputError(
            "--claim: its test assumes a number of runs fixed in advance, and --until decides it by looking; test the "
            "claim in a confirmation of its own (--as)"
        )


def _claim(text: str) -> Claim | None:
    from analysis.statistics.claims import parse_claim

    try:
        return parse_claim(text) if text else None
    except ValueError as error:
        raise InputError(f"--claim {error}") from error


def _verdict(study: Study, claim: Claim) -> str:
    """Test a claim with the runs that have ended, and return the result as a sentence."""
    from analysis.statistics.claims import check_claim
    from analysis.tables.summary import ended_runs

    found = ended_runs(study)
    if found.empty:
        return f'claim "{claim.text}": no run has ended yet'
    return str(check_claim(claim, found["epochs_to_target"].tolist()))


def _check_target(home: Home, name: str, option: str) -> None:
    """Refuse an option that asks about epochs to the target where the study has none."""
    from sweeps.ledger.ledger import Ledger

    if Ledger.read(home.ledger_uri, name).spec.objective.target is None:
        raise InputError(f"{option}: expected a study with a target; {name!r} has none")


def _is_confirmation(home: Home, name: str) -> bool:
    from sweeps.ledger.ledger import Ledger

    return Ledger.read(home.ledger_uri, name).spec.phase == "confirm"


def _until_decided(options: LaunchOptions, a: Side, b: Side, most: int, resources: dict[str, Any]) -> None:
    """Confirm two trials on more and more seeds until the sequential test decides, or there are ``most`` pairs.

    The function stores nothing itself: its state is the two confirmations, so after a kill the same command continues.
    """
    from analysis.statistics.sequential import fewest_pairs
    from analysis.tables.comparison import compare_two, configuration_runs
    from sweeps.execution.launch import LaunchStatus
    from sweeps.ledger.confirmations import paired

    wanted = fewest_pairs()
    if most < wanted:
        raise InputError(
            f"--seeds {most}: the test decides after {wanted} pairs at the earliest; expected {wanted} or more"
        )
    home, launcher = options.store.open(), options.open_launcher()
    while True:
        pairs = paired(home, a, b, wanted, resources=resources)
        for spec in (pairs.a, pairs.b):
            options.tell(f"{spec.name}: {spec.confirms}, {len(spec.search.seeds or [])} seeds")
            end = launcher.start(spec, sequential=True)
            if end is not LaunchStatus.FINISHED:
                why = "some trials crashed" if end is LaunchStatus.CRASHED else "interrupted"
                print_result(f"{why} in {spec.name}; the same command continues it")
                raise typer.Exit(CRASHES if end is LaunchStatus.CRASHED else INTERRUPTED)
        studies = [options.store.results(spec.name) for spec in (pairs.a, pairs.b)]
        test = _test(studies[0], studies[1], pairs.seeds)
        print_result(f"A is {pairs.a.confirms}, B is {pairs.b.confirms}: {test}")
        sys.stdout.flush()
        if test.faster is not None or len(pairs.seeds) >= most:
            break
        wanted = min(most, len(pairs.seeds) + _MORE_PAIRS)
    for study in studies:
        print_result(confirmation_text(study))
    print_result(str(compare_two(configuration_runs(studies[0]), configuration_runs(studies[1]))))
    if test.faster is None:
        print_result(f"not decided after {test.pairs} pairs; the same command with more --seeds continues")
    sys.stdout.flush()
    if options.report:
        for study in studies:
            attach_report_to(home, study)


def _test(a: Study, b: Study, seeds: list[int]) -> SequentialTest:
    """Return the sequential test of the pairs of runs, in the order of their seeds.

    As in `compare_two`, a run that has not reached the target by the end of the shorter schedule counts as a miss.
    """
    from analysis.statistics.sequential import sequential_test
    from analysis.tables.comparison import configuration_runs

    arms = configuration_runs(a), configuration_runs(b)
    budget = min(arm.horizon for arm in arms)
    of_a, of_b = (
        {seed: epochs if epochs <= budget else math.inf for seed, epochs in zip(arm.seeds, arm.epochs, strict=True)}
        for arm in arms
    )
    return sequential_test([of_a[seed] for seed in seeds], [of_b[seed] for seed in seeds])


def _published(study: str) -> str:
    """Return the full name of a shipped study; ``study`` may omit the folder, and use - for _."""
    from search_spaces.study import shipped_studies

    names = [name for name in shipped_studies() if name.startswith("published/")]
    wanted = f"published/{study.removeprefix('published/').removesuffix('.toml').replace('-', '_')}"
    if wanted not in names:
        known = ", ".join(name.removeprefix("published/") for name in names)
        raise InputError(f"{study}: no published study; expected one of: {known}")
    return wanted


def _resources(changes: list[str]) -> dict[str, Any]:
    """Return the keys of [resources] that --set changes."""
    import tomllib

    changed = {}
    for change in changes:
        key, equals, text = (part.strip() for part in change.partition("="))
        table, _, name = key.partition(".")
        if table != "resources" or not name or not equals:
            raise InputError(
                f"--set {change}: expected resources.KEY=VALUE alone; a confirmation freezes the configuration, the "
                "target and the rest of the study it confirms"
            )
        try:
            changed[name] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            raise InputError(f"--set {change}: {text or 'nothing'} is no TOML value; expected a number") from None
    return changed
