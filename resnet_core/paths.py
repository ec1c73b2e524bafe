"""What people type and write: paths, as absolute paths or URIs, and text files. Standard library only."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

from resnet_core.uris import server_uri

NO_CURRENT_FOLDER = "the current folder was deleted; change to another with cd"
_MOST_TEXT = 16 * 2**20  # bytes; a device such as /dev/zero has no end
_MOST_PATH = 490  # bytes; with the names of files in the folder SQLite takes 512
_URI = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
_SQLITE = re.compile(r"sqlite(?:\+pysqlite)?:///", re.IGNORECASE)
# What libraries do not take as it is in the path of a URI: control characters, and those with a meaning there.
_QUOTED = re.compile(r"[\x00-\x1f\x7f%?#]")


class PathError(ValueError):
    """A typed path cannot be used; the message says what was expected."""


class TextError(ValueError):
    """A file is not text in UTF-8; the message says what to do."""


def write_whole(path: Path, content: bytes) -> None:
    """Write a file completely or not at all: until all is written, an existing file stays as it was.

    Raises:
        OSError: the file cannot be written.
    """
    target = path.resolve()  # of a link, the file that it names is replaced
    aside = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        aside.write_bytes(content)
        aside.replace(target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def check_target(path: Path) -> None:
    """Check, before the work for it begins, whether a file can be written; whether the disk has space is not known yet.

    Raises:
        OSError: it cannot be written: there is no folder for it, it is a folder, or this user may not write there.
    """
    target = path.resolve()
    if target.is_dir():
        number = errno.EISDIR
    elif not target.parent.is_dir():
        number = errno.ENOTDIR if target.parent.exists() else errno.ENOENT
    else:
        number = 0 if os.access(target.parent, os.W_OK | os.X_OK) else errno.EACCES
    if number:
        raise OSError(number, os.strerror(number), str(path))


def expanded(typed: str | Path) -> Path:
    """Return the path that a person means: ``~`` and ``~user`` are home folders.

    Raises:
        PathError: the text is empty, a URI, or has a NUL byte; or there is no such user.

    >>> expanded("runs/x.html")
    PosixPath('runs/x.html')
    """
    text = str(typed)
    if not text.strip():
        raise PathError("expected a path, not an empty text")
    if _URI.match(text):
        raise PathError("expected a path, not a URI")
    if "\0" in text:
        raise PathError("expected a path without a NUL byte")
    path = os.path.expanduser(text)  # noqa: PTH111  # Path's may raise
    if path.startswith("~"):
        user = text.split("/")[0]
        raise PathError(f"no home folder of {user} is known; ./{text} is a file or folder of this name")
    found = Path(path)
    return found.absolute() if str(found).startswith("~") else found  # of ./~x, Path keeps ~x, which means another


def typed_path(typed: str | Path) -> Path:
    """Return the same path as `expanded`, absolute; links are followed.

    Raises:
        PathError: as `expanded`; or the path is relative, and the current folder was deleted.

    >>> typed_path("/data/../runs")
    PosixPath('/runs')
    """
    path = expanded(typed)
    try:
        return path.resolve()
    except FileNotFoundError:
        raise PathError(NO_CURRENT_FOLDER) from None
    except (OSError, RuntimeError) as error:  # a loop of links
        raise PathError(f"no usable path: {error}") from None


def database_path(typed: str | Path) -> Path:
    """Return the same path as `typed_path`, for a SQLite file or the folder that holds it.

    Raises:
        PathError: as `typed_path`; or the path is too long for SQLite, or not in UTF-8.
    """
    path = typed_path(typed)
    try:
        length = len(str(path).encode())
    except UnicodeEncodeError:
        raise PathError("expected a path in UTF-8, which databases can keep") from None
    if length > _MOST_PATH:
        raise PathError(f"expected a path of at most {_MOST_PATH} bytes, not {length}: SQLite opens no longer ones")
    return path


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file that a person wrote, as `decoded` does.

    Raises:
        OSError: the file cannot be read.
        TextError: the file is not text in UTF-8.
    """
    with path.open("rb") as file:
        content = file.read(_MOST_TEXT + 1)
    if len(content) > _MOST_TEXT:
        raise TextError(f"larger than {_MOST_TEXT // 2**20} MiB; expected a text that a person wrote")
    return decoded(content)


def decoded(content: bytes) -> str:
    """Return the text in the bytes of a file in UTF-8, its lines ended by newlines, without a byte order mark.

    Raises:
        TextError: they are not text in UTF-8.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise TextError("the text is in UTF-16; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TextError(f"not UTF-8 in line {line}; save it as UTF-8") from None
    if "\0" in text:
        raise TextError("it has NUL bytes, so it is no text, or one in UTF-16; save it as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def sqlite_uri(path: Path) -> str:
    """Return the URI of a SQLite file, as SQLAlchemy and MLflow take it.

    Where a character must be quoted, the driver is named: MLflow makes the folder of any other URI as it is written.

    >>> sqlite_uri(Path("/runs/optuna.db"))
    'sqlite:////runs/optuna.db'
    >>> sqlite_uri(Path("/100%/optuna.db"))
    'sqlite+pysqlite:////100%25/optuna.db'
    """
    quoted = _QUOTED.sub(lambda found: quote(found[0], safe=""), str(path))
    return f"sqlite:///{quoted}" if quoted == str(path) else f"sqlite+pysqlite:///{quoted}"


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a SQLite URI as it is written; None for other URIs.

    Raises:
        PathError: the URI names no file, or has something behind a question mark.

    >>> sqlite_path("sqlite:////100%25/optuna.db")
    PosixPath('/100%/optuna.db')
    """
    prefix = _SQLITE.match(uri)
    if prefix is None:
        return None
    quoted = uri[prefix.end() :]
    if "?" in quoted:
        raise PathError("expected sqlite:////FILE without options; write %3F for a question mark in a file's name")
    if not quoted or quoted == ":memory:":
        raise PathError("expected sqlite:////FILE")
    return Path(unquote(quoted))


def typed_uri(typed: str) -> str:
    """Return the URI that a person means: the file of a SQLite URI with its absolute path, a server without its pages.

    Spaces around it are left out, and the kind may be in upper case.

    Raises:
        PathError: the path or the address cannot be used.
    """
    typed = typed.strip()
    if not typed:
        raise PathError("expected an address, not an empty text")
    path = sqlite_path(typed)
    if path is not None:
        return sqlite_uri(database_path(path))
    try:
        return server_uri(typed)
    except ValueError as error:
        raise PathError(str(error)) from None
