"""Mutation testing: change one thing of a module at a time, and see whether its tests notice.

``python -m tests.mutants`` tries every mutant of every module in modules.toml, ``python -m tests.mutants
sweeps/study/outcomes.py`` those of one, ``--survivors`` those that no test noticed last time. A mutant that changes
nothing that anybody can see stands in equivalent.toml, with the reason, and is not counted. Mutants are made by Cosmic
Ray.

Prints the share killed per module, and the survivors as lines before and after; exits with 1 where a module's share is
below 90 %.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import ctypes
import difflib
import fcntl
import gc
import importlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.exception_replacer import ExceptionReplacer
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator
from parso.python.tree import PythonNode

from tests.migrations import keep_mlflow_tables, keep_scripts

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
RESULTS = ROOT / "build" / "mutants" / "results.json"
LOG = Path("log.txt")  # of what ran last, in the copy of the tree
GOAL = 0.9
# One replacement each way; Cosmic Ray's others (+ by every other operator, say) are mostly noticed alike.
OPERATORS = """
    AddNot ReplaceUnaryOperator_Delete_Not ReplaceUnaryOperator_Delete_Invert ReplaceUnaryOperator_USub_UAdd
    ReplaceAndWithOr ReplaceOrWithAnd ReplaceTrueWithFalse ReplaceFalseWithTrue
    ReplaceComparisonOperator_Lt_LtE ReplaceComparisonOperator_Lt_GtE
    ReplaceComparisonOperator_LtE_Lt ReplaceComparisonOperator_LtE_Gt
    ReplaceComparisonOperator_Gt_GtE ReplaceComparisonOperator_Gt_LtE
    ReplaceComparisonOperator_GtE_Gt ReplaceComparisonOperator_GtE_Lt
    ReplaceComparisonOperator_Eq_NotEq ReplaceComparisonOperator_NotEq_Eq
    ReplaceComparisonOperator_Is_IsNot ReplaceComparisonOperator_IsNot_Is
    ReplaceBinaryOperator_Add_Sub ReplaceBinaryOperator_Sub_Add
    ReplaceBinaryOperator_Mul_Div ReplaceBinaryOperator_Div_Mul
    ReplaceBinaryOperator_FloorDiv_Div ReplaceBinaryOperator_Mod_Mul ReplaceBinaryOperator_Pow_Mul
    ReplaceBinaryOperator_BitOr_BitAnd ReplaceBinaryOperator_BitAnd_BitOr
    ReplaceBreakWithContinue ReplaceContinueWithBreak
    NumberReplacer ZeroIterationForLoop ExceptionReplacer RemoveDecorator
""".split()  # noqa: SIM905
OURS = ("resnet_core", "search_spaces", "sweeps", "analysis", "tests", "conftest")
MOST_BYTES = 8 << 30  # of a process that tries a mutant: an endless loop may fill a list


@dataclass(frozen=True, order=True)
class Mutant:
    """One change to one module, and what came of it.

    Attributes:
        module: path from the root of the repository.
        line: 1-based.
        operator: Cosmic Ray's name of the change.
        occurrence: at which place in the module, in Cosmic Ray's count.
        was: the changed lines before, stripped.
        becomes: the same after.
        killed: whether a test failed.
    """

    module: str
    line: int
    operator: str
    occurrence: int
    was: str = ""
    becomes: str = ""
    killed: bool = False


class DottedExceptionReplacer(ExceptionReplacer):  # type: ignore[misc]
    """Cosmic Ray's operator, which takes the name of an exception with a dot for something else."""

    @staticmethod
    def _name_nodes(node: PythonNode) -> list[Any]:
        caught = node.children[1]
        if caught.type != "atom":  # not in brackets
            return [caught]
        listed = caught.children[1]
        return listed.children[::2] if listed.type == "testlist_comp" else [listed]

    def mutate(self, node: PythonNode, index: int) -> PythonNode:
        name = self._name_nodes(node)[index]
        leaf, end = name.get_first_leaf(), name.get_last_leaf()
        leaf.value = "CosmicRayTestingException"
        while leaf is not end:
            leaf = leaf.get_next_leaf()
            leaf.value = ""
        return node


def operator_of(name: str) -> Operator:
    """Return the operator of a name in ``OPERATORS``."""
    return DottedExceptionReplacer() if name == "ExceptionReplacer" else get_operator(f"core/{name}")()


def mutants(module: str) -> Iterator[Mutant]:
    """Yield the mutants of a module, but for those that tests are not there to notice.

    Left out are changes to annotations, which nobody evaluates, to ``frozen=True``, which mypy holds, and to the star
    before parameters that have to be named, which Cosmic Ray takes for a product.
    """
    source = (ROOT / module).read_text()
    lines = source.splitlines()
    left_out = list(_left_out(ast.parse(source)))
    tree = get_ast(source)
    for name in OPERATORS:
        operator = operator_of(name)
        places = (place for node in ast_nodes(tree) for place in operator.mutation_positions(node))
        for occurrence, (start, end) in enumerate(places):
            star = lines[start[0] - 1][start[1] : start[1] + 2] == "*,"
            if not star and not any(first <= start and end <= last for first, last in left_out):
                yield Mutant(module, start[0], name, occurrence)


def _left_out(tree: ast.AST) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for node in ast.walk(tree):
        frozen = node.value if isinstance(node, ast.keyword) and node.arg == "frozen" else None
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None), frozen):
            if part is not None:
                yield (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)


def prepare() -> None:
    """Have the processes to come run on one thread, so that a fork is safe, and make the tables of databases once."""
    # Tests run beside each other, and small tensors are slower on many threads.
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    os.environ |= {"SWEEPS_REPORT": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}
    keep_scripts()
    keep_mlflow_tables()


def start_worker(folder: Path) -> None:
    """Go to a copy of what git knows, as it is now; end when the process that asked does, be it killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    place = folder / str(os.getpid())
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place / name)
    os.chdir(place)
    os.environ["PYTHONPATH"] = str(place)
    sys.path[:] = [str(place), *(entry for entry in sys.path if Path(entry or ROOT).resolve() != ROOT)]
    for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
        del sys.modules[name]


class Executed:
    """A plugin of pytest's that notes which statements each test executes, and how long the test takes.

    ``noting`` makes the source that tells; tracing each call of all that is imported would take several times as long.
    """

    def __init__(self) -> None:
        self._lines: set[int] = builtins.__dict__.setdefault("_executed", set())
        self._of_fixtures: dict[str, set[int]] = {}  # what tests share, such as those of a module
        self.tests: list[tuple[str, float, list[int]]] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Iterator[Any]:
        before = set(self._lines)
        self._lines.clear()
        try:
            return (yield)
        finally:
            if fixturedef.scope != "function":
                self._of_fixtures.setdefault(fixturedef.argname, set()).update(self._lines)
            self._lines |= before

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Function) -> Iterator[None]:
        self._lines.clear()
        started = time.monotonic()
        try:
            return (yield)
        finally:
            # What it shares was executed ahead of the first test that asks for it, and is what each of them looks at.
            shared = (self._of_fixtures.get(name, set()) for name in item.fixturenames)
            lines = self._lines.union(*shared)
            self.tests.append((item.nodeid, time.monotonic() - started, sorted(lines)))


def noting(source: str) -> str:
    """Return a module's source with a note of its line before each statement inside of a function."""
    tree = ast.parse(source)
    blocks = {
        id(block): block
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        for field in ("body", "orelse", "finalbody")
        if isinstance(block := getattr(node, field, None), list)
    }
    for block in blocks.values():
        noted = []
        for statement in block:
            text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)  # a docstring
            noted += [] if text else ast.parse(f"_executed.add({statement.lineno})").body
            noted.append(statement)
        block[:] = noted
    imports = ast.parse("import builtins\n_executed = builtins.__dict__.setdefault('_executed', set())").body
    after = [i for i, node in enumerate(tree.body) if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    tree.body[after[0] + 1 : after[0] + 1] = imports
    return ast.unparse(ast.fix_missing_locations(tree))


@dataclass(frozen=True)
class Guards:
    """The tests of a module.

    Attributes:
        files: where they are.
        tests: node id and seconds of each, the quickest first, and the lines of the module that it executes.
    """

    files: list[str]
    tests: list[tuple[str, float, list[int]]]

    def of(self, statement: int) -> tuple[list[str], float]:
        """Return the tests that execute the statement at a line, and their seconds; all of them where there is none."""
        chosen = [test for test in self.tests if statement in test[2]]
        return [test for test, *_ in chosen] or self.files, sum(seconds for _, seconds, _ in chosen or self.tests)


def find_guards(module: str, files: list[str]) -> Guards:
    """Return the tests of a module, after a run of it as it is.

    Raises:
        RuntimeError: a test fails.
    """
    noted, path = Path("executed.json"), Path(module)
    source = path.read_text()
    path.write_text(noting(source))
    if not passes(module, files, 900.0, noted):
        raise RuntimeError(f"tests of {module} fail without a mutant:\n{LOG.read_text()}")
    path.write_text(source)
    tests, imported = json.loads(noted.read_text())
    # What a process has imported, those that it forks need not; of ours nothing, since the mutant is to be imported.
    for name in imported:
        if name.partition(".")[0] not in OURS:
            with suppress(ImportError):
                importlib.import_module(name)
    gc.freeze()  # pytest collects garbage at its end
    return Guards(files, sorted(tests, key=lambda test: test[1]))


def try_mutant(mutant: Mutant, guards: Guards) -> Mutant:
    """Return a mutant with what came of it, tried in this process's own copy of the tree."""
    path = Path(mutant.module)
    source = path.read_text()
    mutated = mutate_code(source, operator_of(mutant.operator), mutant.occurrence)
    changed = list(difflib.unified_diff(source.splitlines(), (mutated or source).splitlines(), n=0, lineterm=""))[2:]
    was, becomes = (" ".join(line[1:].strip() for line in changed if line[0] == sign).strip() for sign in "-+")
    if mutant.was and (was, becomes) != (mutant.was, mutant.becomes):
        raise RuntimeError(f"{mutant.module} has changed since its mutants were tried: try all of them again")
    tests, seconds = guards.of(_statement(ast.parse(source), mutant.line))
    try:
        path.write_text(mutated)
        # What runs beside it may slow it; a loop that never ends is killed, too.
        killed = not passes(mutant.module, tests, 5 + 4 * seconds)
    finally:
        path.write_text(source)
    return replace(mutant, was=was, becomes=becomes, killed=killed)


def _statement(tree: ast.Module, line: int) -> int:
    """Return the first line of the innermost statement of a function at a line; 0 where it is executed on import."""
    found = 0
    for node in ast.walk(tree):  # outer ones first
        if isinstance(node, ast.FunctionDef):
            for statement in ast.walk(node):
                if isinstance(statement, ast.stmt) and statement is not node:
                    body = getattr(statement, "body", None)
                    end = body[0].lineno - 1 if body else statement.end_lineno
                    if statement.lineno <= line <= max(end, statement.lineno):
                        found = statement.lineno
    return found


def passes(module: str, tests: list[str], seconds: float, executed: Path | None = None) -> bool:
    """Return whether tests pass in time, in a process of their own; note what they execute, and compile them."""
    # Two mutants of one second and one length are the same to Python's cache.
    for compiled in Path(module).parent.glob(f"__pycache__/{Path(module).stem}.*"):
        compiled.unlink()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
            log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.dont_write_bytecode = executed is None
            options = "-x -p no:cacheprovider -p no:xdist --hypothesis-profile=ci --basetemp=scratch"
            plugin = Executed()
            status = pytest.main([*options.split(), "-m", "not slow", *tests], [plugin] if executed else [])
            if executed:
                executed.write_text(json.dumps([plugin.tests, list(sys.modules)]))
            sys.stdout.flush()
        except BaseException:
            status = 1
        os._exit(int(status))
    until = time.monotonic() + seconds
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < until:
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it started, too
    if ended[0] == 0:
        os.waitpid(child, 0)
        return False
    return os.waitstatus_to_exitcode(ended[1]) == 0


def main() -> int:
    """Try mutants and print what came of them."""
    tests: dict[str, list[str]] = tomllib.loads((HERE / "modules.toml").read_text())
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="of modules.toml; all of them unless given")
    parser.add_argument("--survivors", action="store_true", help="only those that no test noticed last time")
    parser.add_argument("--sample", type=int, metavar="N", help="of each module N mutants, the same every time")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    unknown = set(asked.modules) - set(tests)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: not in {HERE / 'modules.toml'}")
    tried_before = {mutant.module for mutant in _read_results()}
    if asked.survivors and (never := set(asked.modules or tests) - tried_before):
        parser.error(f"{', '.join(sorted(never))}: not tried yet, so none is known to survive")
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder = Path(name)
        prepare()
        with ProcessPoolExecutor(
            asked.processes, multiprocessing.get_context("fork"), initializer=start_worker, initargs=(folder,)
        ) as pool:
            for module in asked.modules or tests:
                started = time.monotonic()
                guards = pool.submit(find_guards, module, tests[module]).result()
                old = [mutant for mutant in _read_results() if mutant.module == module]
                wanted = [mutant for mutant in old if not mutant.killed] if asked.survivors else list(mutants(module))
                if asked.sample is not None:
                    wanted = random.Random(0).sample(wanted, min(asked.sample, len(wanted)))
                print(f"{module}: {len(wanted)} mutants to try", file=sys.stderr, flush=True)
                tried = [pool.submit(try_mutant, mutant, guards) for mutant in wanted]
                done = [one.result() for one in tried] + [mutant for mutant in old if mutant.killed and asked.survivors]
                _keep_results(module, done)
                print(f"{module}: {len(wanted)} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return report([mutant for mutant in _read_results() if mutant.module in (asked.modules or tests)])


def _read_results() -> list[Mutant]:
    return [Mutant(**values) for values in json.loads(RESULTS.read_text())] if RESULTS.exists() else []


def _keep_results(module: str, done: list[Mutant]) -> None:
    """Put a module's results in place of those that it had; other runs may do so at the same time."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with RESULTS.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        results = sorted([mutant for mutant in _read_results() if mutant.module != module] + done)
        partial = RESULTS.with_suffix(".partial")
        partial.write_text(json.dumps([asdict(mutant) for mutant in results], indent=1))
        partial.replace(RESULTS)


def report(results: list[Mutant]) -> int:
    """Print the table and the survivors; return 1 where a module's share of mutants killed is below the goal."""
    equivalent = {
        (module, entry["was"], entry["becomes"])
        for module, entries in tomllib.loads((HERE / "equivalent.toml").read_text()).items()
        for entry in entries
    }
    alive = [m for m in results if not m.killed]
    survivors = [m for m in alive if (m.module, m.was, m.becomes) not in equivalent]
    counted, left = Counter(m.module for m in results), Counter(m.module for m in survivors)
    same = Counter(m.module for m in alive) - left
    print("| module | mutants | equivalent | killed | of those not equivalent |\n| --- | ---: | ---: | ---: | ---: |")
    below = 0
    for module, number in counted.items():
        real = number - same[module]
        share = (real - left[module]) / real if real else 1.0
        below += share < GOAL
        print(f"| `{module}` | {number} | {same[module]} | {real - left[module]} | {share:.1%} |")
    for m in survivors:
        print(f"\n{m.module}:{m.line} {m.operator}\n  - {m.was}\n  + {m.becomes}")
    dead = {(m.module, m.was, m.becomes) for m in results if m.killed}
    for module, was, becomes in sorted(equivalent & dead):
        print(f"\n{module}: listed as equivalent, and killed:\n  - {was}\n  + {becomes}")
    return int(below > 0)


if __name__ == "__main__":
    sys.exit(main())
