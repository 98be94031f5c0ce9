"""CPython's own tests of asyncio and of files have the same verdict inside of a world as outside.

`verdicts.py` runs them; `exceptions.toml` and the other tables beside it list those that may differ, each under its
reason.
"""

from __future__ import annotations

import sys

import driver
import pytest
from driver import Exempt, Verdict

only_newer = {"test_eager_task_factory": (3, 12), "test_staggered": (3, 13)}


@pytest.fixture(params=driver.MODULES)
def module(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if not driver.available(name):
        since = only_newer.get(name)
        if since is not None and sys.version_info < since:
            pytest.skip(f"{name} is new in Python {since[0]}.{since[1]}")
        pytest.skip("this Python comes without its own tests (the package test)")
    return name


# One test for both: under xdist the second would run the module again, in another worker.
def test_same_verdicts_but_for_the_listed_exceptions(module: str) -> None:
    unlisted, unneeded = driver.complaints(module, *driver.both(module), driver.exempts())
    assert not unlisted, f"{len(unlisted)} verdicts differ:\n" + "\n".join(unlisted)
    assert not unneeded, "take these out of the tables:\n" + "\n".join(unneeded)


def test_every_exception_is_in_a_module_that_is_run() -> None:
    assert {driver.module_of(exempt.pattern) for exempt in driver.exempts()} <= set(driver.MODULES)


# --- the driver itself ------------------------------------------------------------------------------

PASSED, FAILED = Verdict("pass"), Verdict("fail", "AssertionError: 1 != 2")


def test_a_difference_is_reported() -> None:
    unlisted, unneeded = driver.complaints("m", {"m.a": PASSED}, {"m.a": FAILED}, ())
    assert "m.a: pass outside, fail simulated" in unlisted[0]
    assert "1 != 2" in unlisted[0]
    assert not unneeded


def test_an_exception_covers_what_it_says_and_nothing_else() -> None:
    stock, simulated = {"m.a": PASSED}, {"m.a": FAILED}
    assert driver.complaints("m", stock, simulated, [Exempt("m.a", "why", "1 != 2", False)]) == ([], [])
    unlisted, _ = driver.complaints("m", stock, simulated, [Exempt("m.a", "why", "a real thread", False)])
    assert "listed as 'why', but says otherwise" in unlisted[0]


def test_an_exception_that_agrees_is_reported() -> None:
    stock = {"m.a": FAILED, "m.b": PASSED}
    _, unneeded = driver.complaints("m", stock, {"m.a": PASSED, "m.b": PASSED}, [Exempt("m.*", "why", "", False)])
    assert unneeded == ["m.*: m.b has the same verdict on both"]


def test_an_exception_without_a_test_is_reported() -> None:
    _, unneeded = driver.complaints("m", {}, {}, [Exempt("m.gone", "why", "", False)])
    assert unneeded == ["m.gone: there is no such test"]


@pytest.mark.parametrize(
    ("versions", "meant"),
    [("3.11+", (True, True, True)), ("3.12", (False, True, False)), ("3.11-3.12", (True, True, False))],
)
def test_versions_of_the_table(versions: str, meant: tuple[bool, ...]) -> None:
    assert tuple(driver.holds_for(versions, (3, minor)) for minor in (11, 12, 13)) == meant
