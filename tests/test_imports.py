"""Imports run one way: down the floors of docs/architecture.md, and in no circle on any of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pytest_simloop
import simloop

# From the ground up: a module may import from its own floor and from those below. Packages that share a floor are
# siblings, neither of which imports the other.
FLOORS = [
    {"simloop.errors", "simloop.sources"},
    {"simloop.choices"},
    {"simloop.kernel"},
    {"simloop.network"},
    {"simloop.world"},
    {"simloop.loop", "simloop.shims"},
    {"simloop.checks"},
    {"simloop.simulation"},
    {"simloop.report"},
    {"simloop.explore"},
    {"simloop", "simloop.__main__", "pytest_simloop"},
]
#: Whatever has no package of its own: the names that users import, and the command line.
LOOSE_MAX = 4
ROOTS = [Path(package.__file__).parent for package in (simloop, pytest_simloop)]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOTS[0].parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for root in ROOTS for path in sorted(root.rglob("*.py"))}


def package_of(module: str) -> str:
    """The package, or loose file, that stands on a floor."""
    first, _, rest = module.partition(".")
    return f"{first}.{rest.partition('.')[0]}" if first == "simloop" and rest else first


def floor_of(module: str) -> int:
    for number, packages in enumerate(FLOORS):
        if package_of(module) in packages:
            return number
    raise AssertionError(f"{module} stands on no floor: give it one here and in docs/architecture.md")


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every module that is imported anywhere in a file, for type checking as well, with the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                # `from package import name` means a module, or a name in the package.
                full = f"{node.module}.{alias.name}"
                yield full if full in FILES else node.module, node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno


IMPORTS = {module: list(imported(ast.parse(path.read_text()))) for module, path in FILES.items()}


def own_imports(module: str) -> dict[str, int]:
    return {name: line for name, line in IMPORTS[module] if name in FILES and name != module}


@pytest.mark.parametrize("module", FILES)
def test_imports_run_down_the_floors(module: str) -> None:
    for name, line in own_imports(module).items():
        above = floor_of(name) > floor_of(module)
        sibling = floor_of(name) == floor_of(module) and package_of(name) != package_of(module)
        top = floor_of(module) == len(FLOORS) - 1
        assert not above and (not sibling or top), f"{FILES[module]}:{line} imports {name}"


def circle(graph: dict[str, list[str]]) -> list[str]:
    """Some circle of a graph, as the way from a node back to itself; empty if there is none."""
    done: set[str] = set()
    for start in graph:
        way: list[str] = []
        waiting = [(start, iter(graph[start]))] if start not in done else []
        way += [start] if waiting else []
        while waiting:
            node, rest = waiting[-1]
            following = next(rest, None)
            if following is None:
                done.add(node)
                waiting.pop()
                way.pop()
            elif following in way:
                return [*way[way.index(following) :], following]
            elif following not in done:
                waiting.append((following, iter(graph[following])))
                way.append(following)
    return []


def test_imports_run_in_no_circle() -> None:
    assert circle({module: list(own_imports(module)) for module in FILES}) == []


def test_a_circle_is_seen() -> None:
    assert circle({"a": ["b", "c"], "b": ["d"], "c": [], "d": ["c", "b"]}) == ["b", "d", "b"]


def test_an_import_for_type_checking_is_seen() -> None:
    source = "if TYPE_CHECKING:\n    from simloop.kernel import clock\n    from simloop.errors import SimulationError\n"
    assert list(imported(ast.parse(source))) == [("simloop.kernel.clock", 2), ("simloop.errors", 3)]


def test_few_files_are_loose() -> None:
    loose = [module for module, path in FILES.items() if path.parent == ROOTS[0]]
    assert len(loose) <= LOOSE_MAX, loose


def test_simloop_never_imports_pytest() -> None:
    for module, names in IMPORTS.items():
        if package_of(module) != "pytest_simloop":
            roots = {name.partition(".")[0] for name, _ in names}
            assert not roots & {"pytest", "_pytest", "pytest_simloop"}, FILES[module]


def test_what_is_below_the_loop_knows_nothing_of_asyncio() -> None:
    for module, names in IMPORTS.items():
        if floor_of(module) < floor_of("simloop.loop"):
            assert "asyncio" not in {name.partition(".")[0] for name, _ in names}, FILES[module]
