"""pytest rewrites the assertions of a user's files, and of none of ours, however simloop was installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import simloop

ROOT = Path(simloop.__file__).parents[1]

CONFTEST = """
    import sys
    import helper

    def pytest_unconfigure():
        loaders = {name: type(module.__loader__).__name__ for name, module in sys.modules.items()
                   if hasattr(module, "__loader__")}
        ours = [name for name in loaders if name.partition(".")[0] in ("simloop", "pytest_simloop")]
        print("ours:", len(ours), sorted(name for name in ours if loaders[name] == "AssertionRewritingHook"))
        print("theirs:", [name for name in ("conftest", "helper", "test_it")
                          if loaders[name] == "AssertionRewritingHook"])
"""


def test_what_pytest_rewrites(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    # As an installer leaves it: pytest marks every package of such a distribution, a user's helper plugin as well.
    for name, entry in (("pytest_simloop", "simloop = pytest_simloop.plugin"), ("helper", "helper = helper")):
        info = pytester.mkdir(f"{name}-9.dist-info")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9\n")
        (info / "entry_points.txt").write_text(f"[pytest11]\n{entry}\n")
        files = ["helper.py"] if name == "helper" else ["simloop/__init__.py", "pytest_simloop/__init__.py"]
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    pytester.makepyfile(helper="", test_it="async def test_it(sim): pass")
    pytester.makeconftest(CONFTEST)
    monkeypatch.setenv("PYTHONPATH", f"{pytester.path}:{ROOT}")
    result = pytester.run(sys.executable, "-m", "pytest", "--sim", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    # Only the plugin's first modules, by which it comes to say so.
    result.stdout.re_match_lines(
        [
            r"ours: \d\d+ \['pytest_simloop'(, 'pytest_simloop\.\w+'){,7}\]",
            r"theirs: \['conftest', 'helper', 'test_it'\]",
        ]
    )
