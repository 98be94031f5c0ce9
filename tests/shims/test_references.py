"""References to the real functions that libraries took before the first run."""

from __future__ import annotations

import asyncio
import functools
import io
import os
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import simloop
from simloop.shims.patch import Patch


def wrapping(function: Callable[..., Any]) -> Callable[..., Any]:
    """As aiofiles makes its coroutine functions."""

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


@pytest.fixture
def library() -> Iterator[types.ModuleType]:
    module = types.ModuleType("library_of_the_test")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def test_those_that_decorated_functions_enclose_are_changed(library: Any) -> None:
    owner: Any = types.ModuleType("owner")

    def real(thing: str) -> str:
        return "real"

    owner.call = real

    def later() -> Any:
        return not_there_yet

    library.once, library.twice, library.later = wrapping(real), wrapping(wrapping(real)), later
    patch = Patch([(owner, "call", lambda thing: "shim")])
    patch.apply()
    assert (library.once("four"), library.twice("four")) == ("shim", "shim")
    not_there_yet = None
    assert later() is None
    patch.restore()
    assert owner.call is real


def test_modules_that_have_a_shim_of_their_own_are_looked_through_too() -> None:
    """`from time import monotonic as _time` stands in `subprocess` and in `threading`."""

    async def main() -> float:
        sim = simloop.current()
        sim.program("sleep", takes=10)

        def wait() -> None:
            with pytest.raises(subprocess.TimeoutExpired):
                subprocess.run(["sleep"], timeout=1, check=True)
            condition = threading.Condition()
            with condition:
                condition.wait_for(lambda: False, 2)

        await asyncio.to_thread(wait)
        return round(sim.elapsed, 2)

    assert simloop.run(main) == 3


def test_what_the_shims_enclose_stays() -> None:
    """Else they would call themselves. In a fresh process, since references are looked at once."""
    code = """
        import os, sys, types, simloop
        async def main():
            global late
            late = types.ModuleType("late")
            # Imported while the shims are in place: their own function, with the real one in its closure.
            late.dup_of_read, late.read = os.read, os.read
            sys.modules["late"] = late
        simloop.run(main)
        async def again():
            with open("/scratch", "w") as file:
                file.write("four")
            fd = os.open("/scratch", os.O_RDONLY)
            assert late.read(fd, 9) == b"four"
        simloop.run(again)
        r, w = os.pipe()
        os.write(w, b"real")
        assert late.read(r, 9) == b"real"
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


@functools.singledispatch
def kind_of(file: Any) -> str:
    return "nothing known"


@kind_of.register(io.FileIO)
def _(file: io.FileIO) -> str:
    return "a raw file"


REAL_FILE_IO = io.FileIO


def test_a_raw_file_is_what_libraries_know_as_one(tmp_path: Path) -> None:
    async def main() -> list[Any]:
        with open(tmp_path / "file", "wb", 0) as file:
            file.write(b"four")
            found = [kind_of(file), isinstance(file, REAL_FILE_IO), file.closed]
        return [*found, file.closed, os.stat(tmp_path / "file").st_size]

    assert simloop.run(main) == ["a raw file", True, False, True, 4]
    assert not (tmp_path / "file").exists()


def test_a_raw_file_uses_nothing_of_the_real_one() -> None:
    """Whose descriptor is not set: each of its methods would fail, or do something else."""
    from simloop.shims.io import SimFileIO, real_FileIO

    # The object itself, what no file can do, and how attributes are found, which Python 3.11 lists.
    kept = {"__new__", "__reduce__", "__reduce_ex__", "__getattribute__"}
    # Set and read by C code only, of buffers that it knows to be real.
    kept |= {"_blksize", "_finalizing"}
    assert set(vars(real_FileIO)) - set(vars(SimFileIO)) - kept == set()


@pytest.mark.parametrize("name", ["simloop_extra", "simloops.clock", "pytest_simloop_extra"])
def test_modules_whose_names_only_begin_like_ours_are_a_users(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin for simloop is named like that, and reads clocks and draws numbers as any other module does."""
    owner: Any = types.ModuleType("owner")
    owner.call = real = lambda: "real"
    module: Any = types.ModuleType(name)
    exec("def wrapping(function):\n    return lambda: function()", vars(module))
    module.call, module.enclosed = real, module.wrapping(real)
    monkeypatch.setitem(sys.modules, name, module)
    patch = Patch([(owner, "call", lambda: "shim")])
    patch.apply()
    assert (module.call(), module.enclosed()) == ("shim", "shim")


@pytest.mark.parametrize("name", ["simloop", "simloop.shims.any", "pytest_simloop.any"])
def test_our_own_modules_keep_the_real_functions(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner: Any = types.ModuleType("owner")
    owner.call = real = lambda: "real"
    module: Any = types.ModuleType(name)
    module.call = real
    monkeypatch.setitem(sys.modules, name, module)
    Patch([(owner, "call", lambda: "shim")]).apply()
    assert module.call() == "real"


def test_what_merely_says_that_it_is_a_module_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the libraries of cffi do, which stand in `sys.modules` and have no weak references."""

    class Library:
        __slots__ = ()
        __class__ = types.ModuleType  # type: ignore[assignment]

    assert isinstance(Library(), types.ModuleType)
    monkeypatch.setitem(sys.modules, "library", Library())  # type: ignore[arg-type]
    owner: Any = types.ModuleType("owner")
    owner.call = lambda: "real"
    Patch([(owner, "call", lambda: "shim")]).apply()
    assert owner.call() == "shim"
