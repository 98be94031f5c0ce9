"""Imports run one way (docs/architecture.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pytest_simloop
import simloop

# From the bottom up: a module may import from its own layer and from those before it.
LAYERS = [
    {"simloop.errors"},
    {"simloop.choices"},
    {"simloop.kernel"},
    {"simloop.network"},
    {
        "simloop.shims",
        "simloop.tasks",
        "simloop.stock",
        "simloop.profiles",
        "simloop.tidy",
        "simloop.outside",
        "simloop.stopped",
    },
    {"simloop.turns"},
    {"simloop.loop"},
    {"simloop.cancelled"},
    {"simloop.checks"},
    {"simloop.hosted", "simloop.disks", "simloop.installation", "simloop.blocking"},
    {"simloop.shell"},
    {"simloop.hosts", "simloop.programs"},
    {"simloop.simulation"},
    {"simloop.report"},
    {"simloop.explore", "simloop.hookspecs"},
    {"simloop"},
    {"simloop.__main__"},
    {"pytest_simloop"},
]
ROOTS = [Path(package.__file__).parent for package in (simloop, pytest_simloop)]
FILES = sorted(path for root in ROOTS for path in root.rglob("*.py"))
# kernel names what the network gives it for type checking and for constants of nobody else.
LINES_MAX = 500


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOTS[0].parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> int:
    for number, prefixes in enumerate(LAYERS):
        for prefix in prefixes:
            if module == prefix or (prefix not in ("simloop",) and module.startswith(prefix + ".")):
                return number
    raise AssertionError(f"{module} has no layer: give it one in LAYERS and in docs/architecture.md")


def imported(tree: ast.AST, typing_only: set[int]) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.lineno not in typing_only:
            yield node.module, node.lineno
        elif isinstance(node, ast.Import) and node.lineno not in typing_only:
            for alias in node.names:
                yield alias.name, node.lineno


def typing_only_lines(tree: ast.AST) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            lines |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_run_one_way(path: Path) -> None:
    tree = ast.parse(path.read_text())
    own = layer_of(module_name(path))
    for module, line in imported(tree, typing_only_lines(tree)):
        if module.split(".")[0] in ("simloop", "pytest_simloop"):
            assert layer_of(module) <= own, f"{path}:{line} imports {module}"


@pytest.mark.parametrize("package", ["simloop"])
def test_simloop_never_imports_pytest(package: str) -> None:
    for path in FILES:
        if module_name(path).split(".")[0] == package:
            modules = {module.split(".")[0] for module, _ in imported(ast.parse(path.read_text()), set())}
            assert not modules & {"pytest", "_pytest", "pytest_simloop"}, path


def test_the_kernel_knows_nothing_of_asyncio() -> None:
    for path in FILES:
        if module_name(path).startswith(("simloop.kernel", "simloop.network")):
            assert "asyncio" not in {module for module, _ in imported(ast.parse(path.read_text()), set())}, path


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_a_file_is_one_room(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_MAX, "split it by subject"
