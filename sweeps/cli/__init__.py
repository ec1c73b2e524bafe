"""The ``sweeps`` command. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import gc
import logging
import signal
import sys

import typer

from resnet_core.code import describe, is_users
from resnet_core.config import ConfigError
from resnet_core.schedule import ScheduleError
from resnet_core.uris import without_password
from search_spaces.errors import StudyError

# Each module adds its commands to the application; --help lists them in this order.
from sweeps.cli import launching, confirming, planning, training, inspecting, tables, evaluating, exchange  # isort: skip  # noqa: F401
from sweeps.cli.app import DONE, FAILED, INTERRUPTED, WRONG_INPUT, app, stderr
from sweeps.errors import SweepError, reason_of
from sweeps.execution import streams

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line. An error is printed as one line; --debug adds its traceback."""
    gc.set_threshold(
        20_000, 50, 100
    )  # with Python's defaults, the garbage collector takes a tenth of a command's start-up time
    streams.prepare()
    debug = "--debug" in sys.argv
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s") if debug else _OneLine())
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, handlers=[handler])
    logging.getLogger("sweeps").setLevel(logging.DEBUG if debug else logging.WARNING)
    interrupt = _Interrupt()
    if not debug:  # it warns where it cannot keep a cache in the user's home folder, and does without
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        # app returns the code of typer.Exit, and None if a command simply ends.
        code = app(standalone_mode=False) or DONE
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except (StudyError, ConfigError, ScheduleError) as error:
        code = _print_error(error, WRONG_INPUT, debug)
    except SweepError as error:
        code = _print_error(error, error.exit_code, debug)
    except Exception as error:
        # An error in the arguments is an exception of click: of typer's copy of click, or of another copy.
        usage = getattr(error, "show", None)
        if interrupt.came:
            code = INTERRUPTED
        elif usage is not None:
            usage()
            code = WRONG_INPUT
        else:
            code = _print_error(error, FAILED, debug)
    lost = streams.lost_output()
    if lost is not None:
        print(f"sweeps: results could not be written to standard output: {lost.strerror}", file=sys.stderr)
        code = code or FAILED
    gc.freeze()  # at its end Python would look through all that Ray, torch and MLflow have made, for seconds
    sys.exit(code)


class _Interrupt:
    """Notes that Ctrl-C was pressed; of a module that was just being imported, it can become another error.

    Attributes:
        came: whether it was pressed.
    """

    def __init__(self) -> None:
        self.came = False
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell has the background ignore it
            signal.signal(signal.SIGINT, self._take)

    def _take(self, _number: int, _frame: object) -> None:
        self.came = True
        raise KeyboardInterrupt


class _OneLine(logging.Formatter):
    """Formats a message as one line; SQLAlchemy logs a broken connection with its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        said = record.getMessage().strip().splitlines()[:1]
        error = record.exc_info[1] if record.exc_info else None
        reason = [] if error is None else [reason_of(error)]
        return f"{record.levelname} {without_password(': '.join([*said, *reason]))}"


def _print_error(error: Exception, code: int, debug: bool) -> int:
    """Print an error on stderr, and return the exit code."""
    if debug:
        stderr.print_exception()
    # The message of another package's error is unclear without its type, or fills a page.
    ours = type(error).__module__.split(".")[0] in ("sweeps", "search_spaces", "resnet_core", "analysis")
    if ours:
        said = str(error)
    elif is_users(error):  # such as a network that fails in the middle of its training
        said = describe(error)
    elif isinstance(error, OSError) and error.filename is not None:
        said = f"{error.filename}: {error.strerror} (--debug shows where)"
    else:
        said = f"{type(error).__name__}: {reason_of(error)} (--debug shows where)"
    print(f"sweeps: {said}", file=sys.stderr)
    return code
