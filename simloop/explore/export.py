"""Export of a failure as a script that reproduces it on stock asyncio, without simloop: the same events arrive from
outside."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simloop.errors import SimulationError, limit_met
from simloop.explore import standalone
from simloop.explore.signature import signature_of
from simloop.kernel.clock import BOOT_NS
from simloop.loop.stock_loop import Arrivals
from simloop.sources import is_library, is_stdlib

if TYPE_CHECKING:
    from simloop.choices.choices import Choices
    from simloop.choices.schedule import Schedule
    from simloop.simulation.outcome import Outcome


class ExportError(SimulationError):
    """Raised for a failure that no script can reproduce. The message says why."""


# Real seconds that a script may take.
_PATIENCE = 60.0
_WIDTH, _INDENT = 120, " " * 4


def export(
    execute: Callable[[Choices], Outcome],
    schedule: Schedule,
    error: BaseException,
    function: Callable[..., Any] | None,
    token: str,
) -> str:
    """Return a script that fails on stock asyncio with the same error as the test `function` under `schedule`. It was
    run once to check that. Raises `ExportError` if there is no such script."""
    if limit_met(error):
        raise ExportError(limit_met(error))
    choices = schedule.choices()
    choices.stock = arrivals = Arrivals()
    found = execute(choices).exception
    if found is None or signature_of(found) != signature_of(error):
        raise ExportError("it does not fail so on stock asyncio's own loop: see --sim-prove")
    if choices.drew_entropy:
        arrivals.foreign.append("random numbers")
    if arrivals.foreign:
        raise ExportError(f"a script has TCP, timers and cancellation, and this test needs {arrivals.foreign[0]}")
    text = _script(arrivals, function, error, token)
    _check(text, type(error).__name__)
    return text


def _script(arrivals: Arrivals, function: Callable[..., Any] | None, error: BaseException, token: str) -> str:
    docstring = (standalone.__doc__ or "").strip()
    source = inspect.getsource(standalone).partition('"""\n')[2].lstrip("\n")
    source = re.sub(r"  # type: ignore.*", "", source)
    if not inspect.isfunction(function):
        raise ExportError("the test is no function")
    arguments = list(inspect.signature(function).parameters)
    if arguments not in ([], ["sim"]):
        raise ExportError(f"{function.__name__} has fixtures or parameters")
    test = "\n\n".join(_pieces(function, arguments))
    call = f"lambda: {function.__name__}(simloop)" if arguments else function.__name__
    entries = (
        f"({time - BOOT_NS}, {seen}, {cancelled})" if seen or cancelled else f"{time - BOOT_NS}"
        for time, seen, cancelled in arrivals.polls
    )
    polls = textwrap.fill(", ".join(entries), _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
    return f'''"""{function.__name__}() fails with {type(error).__name__}.

{docstring}

Written by simloop from {token}
"""

{source.rstrip()}


# --- the program --------------------------------------------------------------------------------------

{test}

# --- the arrivals -------------------------------------------------------------------------------------

POLLS = [
{polls}
]

if __name__ == "__main__":
    run({call}, POLLS)
'''


def _pieces(function: Callable[..., Any], arguments: list[str]) -> Iterator[str]:
    """Yield the source of a test function and of the statements in its module that it refers to, in the order of the
    module."""
    name = getattr(function, "__qualname__", "?")
    if name != getattr(function, "__name__", ""):
        raise ExportError(f"{name} is no function of a module")
    module = sys.modules[function.__module__]
    source = inspect.getsource(module)
    lines = source.splitlines()
    defined: dict[str, ast.stmt] = {}
    tree = ast.parse(source)
    for statement in tree.body:
        for defining in _names_defined(statement):
            defined[defining] = statement
    needed: set[ast.stmt] = set()
    todo = [name]
    while todo:
        found = defined.get(todo.pop())
        if found is None or found in needed:
            continue
        statement = found
        needed.add(statement)
        nodes: list[ast.AST] = [statement]
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)) and statement is defined[name]:
            nodes = [*statement.body]
        todo += [node.id for each in nodes for node in ast.walk(each) if isinstance(node, ast.Name)]
    if arguments or any(map(_imports_simloop, needed)):
        yield _STAND_IN
    roots = _roots(needed, module)
    if roots:
        yield f"# Where its own modules are.\nsys.path[:0] = {roots!r}"
    for statement in tree.body:
        if statement not in needed:
            continue
        if _imports_simloop(statement):
            continue
        # Decorators are pytest's, or simloop's.
        first = statement.lineno
        if statement is not defined[name] and getattr(statement, "decorator_list", None):
            first = statement.decorator_list[0].lineno  # type: ignore[attr-defined]
        yield "\n".join(lines[first - 1 : statement.end_lineno])


# Which tasks are cancelled, the script knows.
_STAND_IN = """
class simloop:
    # Where the test says which tasks may be cancelled.

    @classmethod
    def current(cls):
        return cls

    @staticmethod
    def may_cancel(task):
        pass
"""


def _names_defined(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield statement.name
    elif isinstance(statement, (ast.Import, ast.ImportFrom)):
        for alias in statement.names:
            yield (alias.asname or alias.name).partition(".")[0]
    else:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id


def _imports_simloop(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Import) and any(alias.name == "simloop" for alias in statement.names)


def _roots(statements: set[ast.stmt], module: Any) -> list[str]:
    """Return the folders from which the user's own modules are imported, to put on the script's `sys.path`."""
    roots = []
    for statement in statements:
        names = []
        if isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            if statement.level:
                raise ExportError(f"{module.__name__} has relative imports")
            names = [statement.module or ""]
        for name in names:
            top = name.partition(".")[0]
            file = getattr(sys.modules.get(top), "__file__", None)
            if file is None or top == "simloop" or is_stdlib(file) or is_library(file):
                continue
            path = Path(file)
            roots.append(str(path.parent.parent if path.name == "__init__.py" else path.parent))
    return sorted(set(roots))


# Prints the name of the class of what a script raises.
_NAME_OF_ERROR = """
import runpy, sys
try:
    runpy.run_path(sys.argv[1], run_name="__main__")
except BaseException as error:
    print(type(error).__name__)
"""


def _check(script: str, error: str) -> None:
    """Run a script, and raise `ExportError` unless it ends with the exception named `error`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "script.py")
        file.write_text(script)
        try:
            ended = subprocess.run(
                [sys.executable, "-c", _NAME_OF_ERROR, file],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ExportError("the script does not end") from None
    *_, came = ["", *ended.stdout.split()]
    if came != error:
        raise ExportError(f"the script does not fail as the test does, but with {came or 'nothing'}")
