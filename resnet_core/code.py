"""Code that a study file names as ``module:object``: found, imported, and told apart from another version of itself.

A module is looked for beside the study file first, then on Python's path. Nothing here is called for a name that was
read from a store or a checkpoint: such a name is data.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import itertools
import logging
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)
_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
EXPECTED = '"module:object", such as "mlp:train" for the object train of mlp.py beside the study file'
_DIGITS = 12
_MOST_NAMES = 30  # in a message
OURS = ("resnet_core", "search_spaces", "sweeps", "analysis")
"""The packages of this project. Their code has the version of the project."""


class CodeError(RuntimeError):
    """Code that a study file names cannot be used; the message says where it was looked for, or its file and line."""


class CodeExitError(RuntimeError):
    """Code that a study file names has called ``sys.exit``; the traceback leads to its line."""


@dataclass(frozen=True)
class Source:
    """Where the code of a reference is.

    Attributes:
        reference: ``module:object``.
        folder: the folder that its module was found in; None for an installed package.
        files: the files that it consists of, as POSIX paths below the folder; empty for an installed package.
        version: ``sha256:`` and 12 hexadecimal digits of a hash of the files; or the package's name and version.
    """

    reference: str
    folder: Path | None
    files: tuple[str, ...]
    version: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; ``from_dict`` takes them back."""
        return {
            "reference": self.reference,
            "folder": None if self.folder is None else str(self.folder),
            "files": list(self.files),
            "version": self.version,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Source:
        """Return the source that ``to_dict`` described."""
        folder = None if values["folder"] is None else Path(values["folder"])
        return cls(values["reference"], folder, tuple(values["files"]), values["version"])

    def __str__(self) -> str:
        if self.folder is None:
            return self.version
        return f"{', '.join(str(self.folder / file) for file in self.files)} ({self.version})"


_folders: list[Path] = []  # where modules are looked for, ahead of Python's path
_added: list[str] = []  # the entries of Python's path that `search` has added
_read: dict[Path, bytes] = {}  # the files of modules that were imported from these folders, as they were read
_came_with: dict[str, frozenset[str]] = {}  # for each module that was imported here, those that its import has loaded


def is_reference(text: object) -> bool:
    """Return whether a text has the form ``module:object``.

    >>> is_reference("mlp:train"), is_reference("package.module:Class.method"), is_reference("adamw")
    (True, True, False)
    """
    return isinstance(text, str) and _REFERENCE.fullmatch(text) is not None


def search(*folders: Path) -> None:
    """Look for modules in these folders, in this order, ahead of Python's path; earlier calls are forgotten.

    What a module imports later, inside a function or in a process that it starts, is looked for behind Python's path:
    so it hides no other module.
    """
    for entry in _added:
        with contextlib.suppress(ValueError):  # the user's code has taken it out
            sys.path.remove(entry)
    _folders[:] = [folder.resolve() for folder in folders]
    _added[:] = map(str, _folders)
    sys.path += _added


def load(reference: str) -> Any:
    """Return the object that a reference names; its module is imported, again if its file has changed since.

    Raises:
        CodeError: there is no such module or object, or the module raises an error when it is imported.

    >>> load("math:pi")
    3.141592653589793
    """
    if not is_reference(reference):
        raise CodeError(f"{reference!r}: expected {EXPECTED}")
    module_name, _, path = reference.partition(":")
    if module_name == "__main__":
        raise CodeError(f"{reference}: a script or a notebook is no module that trials can import; expected {EXPECTED}")
    found: Any = _import(module_name)
    where = f"{module_name} ({_file_of(module_name)})"
    for part in path.split("."):
        try:
            if not hasattr(found, part):
                raise CodeError(f"{where} has no {part}; it has: {_names_in(found)}")
            found, where = getattr(found, part), f"{part} of {where}"
        except CodeError:
            raise
        except Exception as error:  # a property, or a function __getattr__ of the module
            raise CodeError(describe(error)) from error
    return found


def _names_in(found: Any) -> str:
    """Return what a reference to something in a module or a class can name, in words."""
    values = getattr(found, "__dict__", {})
    names = [name for name, value in values.items() if not name.startswith("_") and not inspect.ismodule(value)]
    more = f", and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return (", ".join(names[:_MOST_NAMES]) or "none") + more


def _import(name: str) -> Any:
    top = name.partition(".")[0]
    folder = next((folder for folder in _folders if _holds(folder, top)), None)
    if folder is not None:
        _forget_changed(folder, top)
    loaded, ahead = set(sys.modules), list(map(str, _folders))
    sys.path[:0] = ahead
    importlib.invalidate_caches()
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for the results of commands
            module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            looked = " or ".join(map(str, _folders)) or "the current folder"
            hint = f"; write {name.removesuffix('.py')}, without .py" if name.endswith(".py") else ""
            raise CodeError(f"no module {name}: looked for {top}.py in {looked}, then on Python's path{hint}") from None
        raise CodeError(describe(error)) from error
    except Exception as error:
        raise CodeError(describe(error)) from error
    except SystemExit as error:
        raise CodeError(f"{name} ends the program when it is imported: {describe(error)}") from error
    finally:
        for entry in ahead:  # what the module has added stays
            with contextlib.suppress(ValueError):
                sys.path.remove(entry)
        _remember()
    if name not in loaded:
        _came_with[name] = frozenset(sys.modules.keys() - loaded)
    return module


def _holds(folder: Path, top: str) -> bool:
    return (folder / f"{top}.py").is_file() or (folder / top).is_dir()


def _forget_changed(folder: Path, top: str) -> None:
    """Take modules out of ``sys.modules`` whose file has changed, or that hide a module of ``folder``.

    A module that was imported from another study's folder is taken out too.

    Raises:
        CodeError: the module has the name of a module of Python or of a package.
    """
    at = _path_of(sys.modules.get(top))
    mine = next((file for file in (folder / f"{top}.py", folder / top / "__init__.py") if file.is_file()), None)
    # Python and packages import their modules by these names, at any time, and would get the user's.
    other = _installed_at(top)
    if other is None and at is not None and at not in _read and not at.is_relative_to(folder):
        other = str(at)
    if mine is not None and other is not None:
        raise CodeError(f"{mine} has the name of another module, {other}: give it another name, or uninstall that one")
    if other is not None:  # a folder without __init__.py hides no module
        return
    changed = [path for path, text in _read.items() if not path.is_file() or path.read_bytes() != text]
    if not changed and (at is None or at.is_relative_to(folder)):
        return
    for name, module in list(sys.modules.items()):
        if _path_of(module) in _read:
            del sys.modules[name]
            _came_with.pop(name, None)
    _read.clear()


def _remember() -> None:
    """Note the files of the modules that were imported from the folders."""
    below = tuple(f"{folder}{os.sep}" for folder in _folders)
    for module in list(sys.modules.values()):
        path = _path_of(module)
        if str(path).startswith(below) and path is not None and path not in _read and not _is_installed(path):
            _read[path] = path.read_bytes()


def _path_of(module: Any) -> Path | None:
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py") or not Path(file).is_absolute():
        return None  # built in, or a name that a package has made up
    return _resolved(file)


@functools.cache  # thousands of modules are asked for theirs at every load
def _resolved(file: str) -> Path:
    folder, name = os.path.split(file)
    return Path(file).resolve() if os.path.islink(file) else _resolved_folder(folder) / name  # noqa: PTH114  # faster


@functools.cache
def _resolved_folder(folder: str) -> Path:
    return Path(folder).resolve()


def _file_of(module: str) -> str:
    return str(_path_of(sys.modules.get(module)) or "built in")


def _installed_at(top: str) -> str | None:
    """Return where Python or an installed package has a module or a package of this name; None where none has."""
    if top in sys.builtin_module_names:
        return "built in"
    spec = importlib.machinery.PathFinder.find_spec(top, list(map(str, _installed_folders())))
    return None if spec is None else spec.origin


def _is_installed(path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in _installed_folders())


@functools.cache
def _installed_folders() -> frozenset[Path]:
    paths = sysconfig.get_paths()
    return frozenset(Path(paths[key]).resolve() for key in ("stdlib", "purelib", "platlib"))


def source(reference: str, unversioned: Sequence[str] = ()) -> Source:
    """Return where the code of a reference is, and its version. The reference must have been loaded.

    The version of a module that no package installed is the hash of its file and of the files that it imports from its
    folder or below. What else the process has loaded from there, such as the code of another study, does not count. The
    version of a module in a package is that of the package.

    Args:
        reference: ``module:object``.
        unversioned: packages whose version is left out, since it is recorded elsewhere.
    """
    name = reference.partition(":")[0]
    path = _path_of(sys.modules[name])
    top = name.partition(".")[0]
    if top in OURS or path is None or _is_installed(path):
        return Source(reference, None, (), _package_version(top, unversioned))
    folder = path.parents[name.count(".") + (path.name == "__init__.py")]
    files = tuple(sorted(file.relative_to(folder).as_posix() for file in _files(name, folder)))
    return Source(reference, folder, files, version_of(folder, files))


def _files(name: str, folder: Path) -> set[Path]:
    """Return the file of a module, and those of the modules that it imports from a folder, and that these import."""
    found: set[Path] = set()
    left = [*_with_packages(name), *_came_with.get(name, ())]
    seen = set()
    while left:
        one = left.pop()
        file = _path_of(sys.modules.get(one))
        if one in seen or file is None or not file.is_relative_to(folder):
            continue
        seen.add(one)
        if not _is_installed(file) and _is_users(file):
            found.add(file)
            package = getattr(sys.modules[one], "__package__", None) or ""
            left += _imports(_read.get(file) or file.read_bytes(), package)
    return found


def _imports(text: bytes, package: str = "") -> Iterator[str]:
    """Yield the names in the import statements of a module that run when it is imported, each with its packages.

    Among them are names that are no modules, since ``from a import b`` does not say what b is.

    Args:
        text: the module's file.
        package: the package that it is in.
    """
    left: list[ast.AST] = [ast.parse(text)]
    while left:
        node = left.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_packages(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            for alias in node.names:
                yield from _with_packages(f"{base}.{alias.name}")
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            left += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            left += ast.iter_child_nodes(node)


def imported_by(source: Source) -> set[str]:
    """Return the names that the files of a source import, as they stand in its import statements; none is imported.

    A file that cannot be read, or is no Python, has none.
    """
    found: set[str] = set()
    for file in source.files:
        with contextlib.suppress(OSError, SyntaxError, ValueError):
            found.update(_imports((source.folder or Path()).joinpath(file).read_bytes()))
    return found


def _with_packages(name: str) -> Iterator[str]:
    """Yield the name of a module and those of the packages that it is in.

    >>> list(_with_packages("nets.small.one"))
    ['nets', 'nets.small', 'nets.small.one']
    """
    yield from itertools.accumulate(name.split("."), "{}.{}".format)


def current(source: Source) -> Source:
    """Return a source with the version that it has now; nothing is imported.

    Raises:
        OSError: a file is gone or cannot be read.
        CodeError: the package is gone.
    """
    if source.folder is not None:
        version = version_of(source.folder, source.files)
    elif " " in source.version:
        package = source.version.split(" ")[0]
        try:
            version = f"{package} {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            raise CodeError(f"the package {package} is not installed") from None
    else:
        version = source.version
    return replace(source, version=version)


def _is_users(file: Path) -> bool:
    """Return whether a file is no part of this project, which may be installed from its repository."""
    here = Path(__file__).resolve().parents[1]
    return not any(file.is_relative_to(here / package) for package in OURS)


def version_of(folder: Path, files: Iterable[str]) -> str:
    """Return the version of files below a folder: ``sha256:`` and digits of a hash of their names and contents.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for file in sorted(files):
        text = (folder / file).read_bytes()
        digest.update(f"{file}\0{len(text)}\0".encode() + text)
    return f"sha256:{digest.hexdigest()[:_DIGITS]}"


def _package_version(top: str, unversioned: Sequence[str]) -> str:
    names = importlib.metadata.packages_distributions().get(top, [])
    if top in sys.stdlib_module_names or not names:
        return "python"
    return names[0] if names[0] in unversioned else f"{names[0]} {importlib.metadata.version(names[0])}"


def describe(error: BaseException) -> str:
    """Return an error in code that a study file names: its file and line, then what was raised.

    An error of this project's own, such as a metric that is missing, is its message, without its class.
    """
    frame = _users_frame(error)
    is_ours = type(error).__module__.partition(".")[0] in OURS
    said = str(error) if is_ours else "".join(traceback.format_exception_only(error)).strip()
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    return said if frame is None else f"{frame.filename}, line {frame.lineno}: {said}"


def is_users(error: BaseException) -> bool:
    """Return whether an error was raised in code that a study file names, or in what that code called."""
    return _users_frame(error) is not None


def _users_frame(error: BaseException) -> traceback.FrameSummary | None:
    """Return the last frame of an error that is in the user's code."""
    return next((f for f in reversed(traceback.extract_tb(error.__traceback__)) if _is_theirs(f.filename)), None)


def called(function: Any) -> Any:
    """Return the function that runs where an object is called: that of a partial, or an object's ``__call__``."""
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    return function if inspect.isroutine(function) else function.__call__


@contextlib.contextmanager
def not_exiting() -> Iterator[None]:
    """Convert ``sys.exit`` in the user's code to an error at its line.

    Raises:
        CodeExitError: the code has called ``sys.exit``.
    """
    try:
        yield
    except SystemExit as error:
        if vars(error):  # Ray marks the one that ends a worker, as at SIGTERM
            raise
        raise CodeExitError(f"sys.exit({error.code!r}) would end the program").with_traceback(
            error.__traceback__
        ) from None


def users_traceback(error: BaseException) -> str:
    """Return the traceback of an error without the frames of this project that come before the user's code.

    Its last line is the error in short, with its file and line. An error of another package that was raised without
    the user's code keeps its whole traceback.
    """
    frames = error.__traceback__
    while frames is not None and not _is_theirs(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    whole = "".join(traceback.format_exception(type(error), error, frames or error.__traceback__))
    if frames is None:
        return whole
    file, separator, said = describe(error).partition(", line ")
    summary = f"{Path(file).name}{separator}{said}".splitlines()[0]
    return f"{whole}{summary}\n"


def _is_theirs(filename: str) -> bool:
    path = Path(filename)
    return path.suffix == ".py" and path.is_absolute() and not _is_installed(path.resolve()) and _is_users(path)


def installed(group: str) -> Mapping[str, importlib.metadata.EntryPoint]:
    """Return the plug-ins that installed packages offer in an entry-point group, by name; none is imported.

    Where two packages offer different objects under one name, neither is returned, and a warning names both.
    """
    found: dict[str, importlib.metadata.EntryPoint] = {}
    twice: dict[str, list[str]] = {}
    for entry in importlib.metadata.entry_points(group=group):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            twice.setdefault(entry.name, [offer(other)]).append(offer(entry))
    for name, offers in twice.items():
        warn_once(f"{group}: none of the plug-ins {name!r} is used, since there are several: {', '.join(offers)}")
    return {name: entry for name, entry in found.items() if name not in twice}


def offer(entry: importlib.metadata.EntryPoint) -> str:
    """Return a plug-in and the package that offers it, in words."""
    package = f" of the package {entry.dist.name} {entry.dist.version}" if entry.dist is not None else ""
    return f"{entry.value}{package}"


@functools.cache
def warn_once(text: str) -> None:
    """Log a warning, once in this process."""
    _log.warning("%s", text)
