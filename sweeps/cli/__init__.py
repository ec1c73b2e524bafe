"""The ``sweeps`` command. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import gc
import logging
import sys

import typer

from resnet_core.config import ConfigError
from resnet_core.schedule import ScheduleError
from search_spaces.study import StudyError

# Each adds its commands, in the order of --help.
from sweeps.cli import running, confirming, planning, looking, tables, reporting  # isort: skip  # noqa: F401
from sweeps.cli.common import DONE, FAILED, INTERRUPTED, WRONG_INPUT, app, stderr
from sweeps.errors import SweepError

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
        said = f"{record.levelname} {record.getMessage()}"
        if not record.exc_info:
            return said
        reason = str(record.exc_info[1]).splitlines()
        return ": ".join([said, *reason[:1]])


def _complain(error: Exception, code: int, debug: bool) -> int:
    if debug:
        stderr.print_exception()
    text = str(error).strip() or type(error).__name__
    # Errors that are not ours say little by their text alone.
    ours = type(error).__module__.split(".")[0] in ("sweeps", "search_spaces", "resnet_core", "analysis")
    typer.echo(
        f"sweeps: {text}" if ours else f"sweeps: {type(error).__name__}: {text} (--debug shows where)",
        err=True,
    )
    return code
