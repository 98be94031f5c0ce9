"""`tmp_path` inside of a simulated test: the real directory below, and what a run writes in its own world."""

from __future__ import annotations

import pytest

TEST = """
    import asyncio
    from pathlib import Path
    import pytest

    runs = []

    @pytest.fixture(scope="session")
    def real(tmp_path_factory):
        folder = tmp_path_factory.mktemp("real")
        (folder / "kept").write_text("before the run")
        yield folder
        # What no run has changed, and nothing beside it.
        assert [path.name for path in folder.iterdir()] == ["kept"]
        assert (folder / "kept").read_text() == "before the run"
        assert len(runs) > {runs} and len(set(runs)) == 1, runs
        assert list(Path(runs[0][0]).iterdir()) == []
        assert not Path(runs[0][1]).exists()

    @pytest.fixture
    def seeded(tmp_path):
        (tmp_path / "seeded").write_text("by a fixture")
        return tmp_path

    @pytest.fixture
    def made(tmp_path_factory):
        folder = tmp_path_factory.mktemp("made")
        (folder / "file").touch()
        return folder

    async def test_files(real, seeded, made, tmp_path):
        state = [str(path) for path in (tmp_path, made)]
        for folder in (real, seeded, made):
            state += [(path.name, path.read_text(), path.stat().st_ino) for path in sorted(folder.iterdir())]
        runs.append(tuple(state))
        await asyncio.gather(*[asyncio.to_thread((tmp_path / str(n)).write_text, "x") for n in range(3)])
        (real / "kept").write_text("changed")
        (real / "new").mkdir()
        (seeded / "seeded").unlink()
        assert (real / "kept").read_text() == "changed"
        assert len(list(tmp_path.iterdir())) == 3
"""


def test_runs_write_to_their_own_worlds_and_begin_alike(pytester: pytest.Pytester) -> None:
    # Three threads have orders enough for all of the runs to be made.
    pytester.makepyfile(TEST.replace("{runs}", "5"))
    pytester.runpytest("--sim", "--sim-runs=6").assert_outcomes(passed=1)


def test_the_files_are_real_without_the_option(pytester: pytest.Pytester) -> None:
    """So the assertions above are able to fail."""
    source = TEST.replace("{runs}", "0").replace("async def test_files", "def test_files").replace(
        "await asyncio.gather(*[asyncio.to_thread((tmp_path / str(n)).write_text, \"x\") for n in range(3)])",
        "[(tmp_path / str(n)).write_text(\"x\") for n in range(3)]",
    )  # fmt: skip
    pytester.makepyfile(source)
    result = pytester.runpytest("--sim")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*assert *'new'* == ?'kept'?"])


def test_the_factory_makes_its_directory_outside_of_every_run(pytester: pytest.Pytester) -> None:
    """It does so when it is first asked, and remembers it for the session."""
    pytester.makepyfile(
        """
        from random import random
        import pytest

        @pytest.fixture
        def folder(tmp_path_factory):
            return tmp_path_factory.mktemp("folder")

        async def test_first(folder):
            random()
            (folder / "file").touch()

        def test_second(tmp_path):
            (tmp_path / "file").touch()
        """
    )
    pytester.runpytest("--sim", "--sim-runs=5").assert_outcomes(passed=2)


BY_NAME = """
    import asyncio
    from pathlib import Path
    import pytest

    made = {"wide": 0, "tied": 0}
    seen = {}

    @pytest.fixture(scope="session")
    def wide(tmp_path_factory):
        made["wide"] += 1
        folder = tmp_path_factory.mktemp("wide")
        (folder / "kept").write_text("real")
        yield folder
        assert (folder / "kept").read_text() == "real"
        assert made["wide"] == 1
        # Made outside once, to see that it makes a loop, and then in each run.
        assert made["tied"] == 1 + sum(map(len, seen.values())) > 10
        assert [len(set(paths)) for paths in seen.values()] == [1, 1], seen

    @pytest.fixture(scope="session")
    def tied():
        made["tied"] += 1
        loop = asyncio.new_event_loop()
        yield loop
        loop.close()

    @pytest.fixture
    def folders(request):
        return [request.getfixturevalue(name) for name in ("wide", "tmp_path", "tmp_path_factory", "tied")]

    @pytest.mark.parametrize("_", range(2))
    async def test_it(request, folders, _):
        wide, scratch, factory, loop = folders
        assert (wide / "kept").read_text() == "real"
        assert request.getfixturevalue("tmp_path") is scratch
        assert list(scratch.iterdir()) == []
        for folder in (wide, scratch):
            (folder / "new").mkdir()
        (wide / "kept").write_text("changed")
        seen.setdefault(request.node.name, []).append((scratch, factory.mktemp("mine")))
        await asyncio.gather(*[asyncio.to_thread(int) for _ in range(3)])
"""


def test_fixtures_asked_for_by_name_are_as_others(pytester: pytest.Pytester) -> None:
    """Before the test runs, nobody knows of them."""
    pytester.makepyfile(BY_NAME)
    pytester.runpytest("--sim", "--sim-runs=6").assert_outcomes(passed=2)
