"""The ``sweeps`` command. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import gc
import logging
import sys

import typer

from resnet_core.config import ConfigError
from resnet_core.schedule import ScheduleError
from resnet_core.uris import without_password
from search_spaces.errors import StudyError

# Each adds its commands, in the order of --help.
from sweeps.cli import launching, confirming, planning, training, inspecting, tables, exchange  # isort: skip  # noqa: F401
from sweeps.cli.app import DONE, FAILED, INTERRUPTED, WRONG_INPUT, app, stderr
from sweeps.errors import SweepError, reason_of

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line: one line for an error, unless --debug asks for its traceback."""
    gc.set_threshold(20_000, 50, 100)  # with Python's own, a tenth of a start is spent looking for garbage
    debug = "--debug" in sys.argv
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s") if debug else _OneLine())
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, handlers=[handler])
    logging.getLogger("sweeps").setLevel(logging.DEBUG if debug else logging.WARNING)
    try:
        # A command that ends by typer.Exit has its code returned; any other returns None.
        code = app(standalone_mode=False) or DONE
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except (StudyError, ConfigError, ScheduleError) as error:
        code = _complain(error, WRONG_INPUT, debug)
    except SweepError as error:
        code = _complain(error, error.exit_code, debug)
    except Exception as error:
        # What typer says of wrong arguments is an exception of the click it uses, installed or its own.
        usage = getattr(error, "show", None)
        if usage is not None:
            usage()
            code = WRONG_INPUT
        else:
            code = _complain(error, FAILED, debug)
    sys.exit(code)


class _OneLine(logging.Formatter):
    """Tells of an error in a line: SQLAlchemy logs connections that broke with their tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        said = record.getMessage().strip().splitlines()[:1]
        error = record.exc_info[1] if record.exc_info else None
        reason = [] if error is None else [reason_of(error)]
        return f"{record.levelname} {without_password(': '.join([*said, *reason]))}"


def _complain(error: Exception, code: int, debug: bool) -> int:
    if debug:
        stderr.print_exception()
    # Errors that are not ours say little by their text alone, or much more than a line.
    ours = type(error).__module__.split(".")[0] in ("sweeps", "search_spaces", "resnet_core", "analysis")
    typer.echo(
        f"sweeps: {error}" if ours else f"sweeps: {type(error).__name__}: {reason_of(error)} (--debug shows where)",
        err=True,
    )
    return code
