"""Late shims: what stands in their place until the first call, and what is there afterwards."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib import import_module

import pytest

from simloop.kernel import descriptors
from simloop.shims import late
from simloop.shims.late import LATE


def in_new_interpreter(program: str) -> list[str]:
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    assert not ran.stderr
    return ran.stdout.split("\n")[:-1]


@pytest.mark.parametrize("module", LATE)
def test_the_table_names_all_replacements_of_the_module(module: str) -> None:
    listed = {(id(owner), name) for owner, names in LATE[module] for name in names if hasattr(owner, name)}
    assert listed == {(id(owner), name) for owner, name, _ in import_module(module).REPLACEMENTS}


def test_a_run_that_calls_none_imports_none() -> None:
    (imported,) = in_new_interpreter(
        """
        import asyncio, sys
        import simloop
        from simloop.shims.late import LATE

        simloop.run(lambda: asyncio.sleep(1))
        print(sorted(set(LATE) & set(sys.modules)))
        """
    )
    assert imported == "[]"


def test_what_stands_there_is_the_same_before_and_after_the_first_call() -> None:
    same, made, warned = in_new_interpreter(
        """
        import os
        import warnings
        from os import mkdir

        import simloop

        async def main():
            before = os.mkdir, os.lstat
            os.mkdir("/d")
            print(before == (os.mkdir, os.lstat), mkdir is os.mkdir, mkdir in os.supports_dir_fd, mkdir.__name__)
            mkdir("/e")
            print({"d", "e"} <= set(os.listdir("/")))

        simloop.run(main)

        async def main():
            with warnings.catch_warnings(record=True) as caught:
                open("/f", "wb", buffering=1).close()
            print(*(warning.filename for warning in caught))

        warnings.simplefilter("always")
        simloop.run(main)
        """
    )
    assert (same, made, warned) == ("True True True mkdir", "True", "<string>")


def test_a_test_that_mocks_how_modules_are_imported_mocks_it_for_itself() -> None:
    told = in_new_interpreter(
        """
        import os
        from unittest import mock

        import simloop

        async def main():
            with mock.patch("importlib.import_module", side_effect=[1]) as mocked:
                os.mkdir("/d")
                print(mocked.mock_calls)

        simloop.run(main)
        """
    )
    assert told == ["[]"]


def test_what_a_test_takes_back_of_sys_modules_is_not_imported_twice() -> None:
    told = in_new_interpreter(
        """
        import os, socket, sys
        from unittest import mock

        import simloop

        def use():
            with open("/f", "w") as file:
                file.write("text")
            near, far = socket.socketpair()
            near.send(b"bytes")
            near.close(), far.close()
            return os.stat("/f").st_size

        async def main():
            with mock.patch.dict(sys.modules, {"missing": None}):
                print(use())
                ours = {name: value for name, value in sys.modules.items() if name.startswith("simloop.")}
            os.mkfifo("/fifo")
            print(use())
            print({name for name in ours if sys.modules.get(name, ours[name]) is not ours[name]})

        simloop.run(main)
        simloop.run(main)
        """
    )
    assert told == ["4", "4", "set()"] * 2


@pytest.mark.parametrize("module", LATE)
def test_a_module_takes_the_real_functions_whenever_it_is_imported(module: str) -> None:
    (held,) = in_new_interpreter(
        f"""
        import importlib
        from types import FunctionType

        from simloop.shims import late
        from simloop.simulation import install

        install.install()
        standing = [getattr(shim, "__func__", shim) for *_, shim in install._patch._replacements]
        standing = [shim for shim in standing if "late.py" in str(getattr(getattr(shim, "func", shim), "__code__", ""))]
        assert len(standing) > 100
        module = importlib.import_module({module!r})
        held = [value for name, value in vars(module).items() if name != "__builtins__"]
        held += [value for value in held if isinstance(value, dict) for value in value.values()]
        held += [cell.cell_contents for value in held if isinstance(value, FunctionType)
                 for cell in value.__closure__ or ()]
        held = {{id(getattr(value, "__func__", value)) for value in held}}
        print([shim.__name__ for shim in standing if id(shim) in held])
        """
    )
    assert held == "[]"


def test_the_first_descriptor_is_the_kernels() -> None:
    assert late.FIRST_FD == descriptors.FIRST_FD


@pytest.mark.parametrize("inside", ["", "os.close(os.dup(fds[0]))"], ids=["first-call", "later-call"])
def test_what_outlives_its_run_may_close_descriptors_of_it(inside: str) -> None:
    """As the queues of multiprocessing do when they are collected."""
    closed, bad = in_new_interpreter(
        f"""
        import os
        import simloop

        async def main():
            fds = os.pipe()
            {inside}
            return fds

        first, second = simloop.run(main)
        print(os.close(first))
        try:
            os.close(1000)
        except OSError as error:
            print(error.strerror)
        """
    )
    assert (closed, bad) == ("None", "Bad file descriptor")
