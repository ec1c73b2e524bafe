"""Commands that repeat: a search's winner with fresh seeds, and published runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sweeps.cli.common import (
    DATA,
    HOME,
    AddressOption,
    DataOption,
    DebugOption,
    HomeOption,
    LedgerOption,
    MlflowOption,
    NameArgument,
    NameOption,
    ReportOption,
    SetOption,
    app,
    open_home,
    read_study,
    stderr,
)
from sweeps.cli.running import run_study
from sweeps.errors import InputError


@app.command()
def confirm(
    name: NameArgument,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many fresh seeds, in all.")] = 10,
    trial: Annotated[
        str, typer.Option("--trial", help="Which trial, by name or number.", show_default="the best")
    ] = "",
    new_name: Annotated[
        str, typer.Option("--as", metavar="NEW", help="Name of the confirmation.", show_default="NAME-confirm")
    ] = "",
    changes: Annotated[
        list[str],
        typer.Option("--set", metavar="resources.KEY=VALUE", help="Change what one run takes; all else is frozen."),
    ] = [],  # noqa: B006
    address: AddressOption = None,
    home: HomeOption = HOME,
    mlflow: MlflowOption = "",
    ledger: LedgerOption = "",
    report: ReportOption = True,
    data: DataOption = DATA,
    debug: DebugOption = False,
) -> None:
    """Repeat a trial's configuration with fresh seeds, stop none early, and say how sure its result is."""
    from sweeps.confirm import confirmation

    where = open_home(home, mlflow, ledger)
    spec = confirmation(where, name, seeds, trial=trial, new_name=new_name, resources=_resources(changes))
    count = len(spec.search.seeds or [])
    stderr.print(
        f"{spec.name}: {spec.confirms}, {count} seeds from {(spec.search.seeds or [0])[0]} on",
        *(() if spec.train["test"] else (f"; no test accuracy: {_split(spec.train)} has no untouched images",)),
        sep="",
        highlight=False,
        soft_wrap=True,
    )
    run_study(where, data, address, debug, spec.name, lambda launch: launch.start(spec), report=report)


@app.command()
def reproduce(
    study: Annotated[str, typer.Argument(help="A published study: post5, post1_batch_sizes, super_convergence …")],
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="Repeat each run so often.", show_default="once, as shipped")
    ] = None,
    name: NameOption = "",
    changes: SetOption = [],  # noqa: B006
    address: AddressOption = None,
    home: HomeOption = HOME,
    mlflow: MlflowOption = "",
    ledger: LedgerOption = "",
    report: ReportOption = True,
    data: DataOption = DATA,
    debug: DebugOption = False,
) -> None:
    """Run, or continue, a published study, and print the published figures beside ours."""
    import analysis
    from sweeps.published import published_rows

    repeated = [f"search.seeds={list(range(seeds))}"] if seeds else []
    spec = read_study(_published(study), name, None, [*repeated, *changes])

    def beside(found: analysis.Study) -> str:
        built = analysis.build_published(found, published_rows(found.name))
        return analysis.render(analysis.published_text(built), "text", notes=analysis.published_footnotes(found, built))

    where = open_home(home, mlflow, ledger)
    run_study(*(where, data, address, debug, spec.name), lambda launch: launch.start(spec), report=report, table=beside)


def _published(study: str) -> str:
    """Return a published study by its name, with or without the folder, with - or _."""
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


def _split(train: dict[str, Any]) -> str:
    return f"the {train['split']} split"
