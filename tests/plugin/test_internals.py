"""The private parts of pytest and of Hypothesis that the plugin rests on are still there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from _pytest.logging import caplog_handler_key, caplog_records_key

from pytest_simloop import hypothesis_internals, internals


@pytest.fixture(scope="module")
def wide() -> str:
    return "wide"


@pytest.fixture
def narrow(wide: str) -> list[str]:
    return [wide]


def test_what_internals_reads_of_an_item(
    request: pytest.FixtureRequest, narrow: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    item = request.node
    assert "wide" in internals.wide_fixtures(item)
    assert "narrow" not in internals.wide_fixtures(item)
    assert internals.argument_names(item) == ("request", "narrow", "caplog")
    finalizers = internals.finalizers(item)
    item.addfinalizer(noted := (lambda: None))
    assert finalizers[-1] is noted
    assert caplog_handler_key in item.stash
    assert caplog_records_key in item.stash


def test_streams_that_pytest_captures_are_kept_at_descriptors(pytestconfig: pytest.Config) -> None:
    how = pytestconfig.getoption("capture")
    kept = internals.captured_streams(pytestconfig)
    assert len(kept) == (3 if how == "fd" else 0)
    assert all(os.fstat(fd) for fd in kept)


def test_fixtures_can_be_filled_again(request: pytest.FixtureRequest, narrow: list[str]) -> None:
    item = request.node
    before = len(internals.finalizers(item))
    narrow.append("used")
    registered = internals.finalizers(item)
    while len(registered) > 1:
        registered.pop()()
    internals.fill_fixtures(item)
    assert item.funcargs["narrow"] == ["wide"]
    assert len(registered) <= before


def test_output_can_be_forgotten(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    import logging

    print("forgotten")
    logging.getLogger().warning("forgotten")
    internals.forget_output(request.node)
    assert caplog.records == []
    assert caplog.get_records("call") == []


def test_settings_of_a_hypothesis_test_can_be_changed_for_a_while() -> None:
    hypothesis = pytest.importorskip("hypothesis", reason="its own test functions are looked at")

    @hypothesis.settings(max_examples=7, database=None)
    @hypothesis.given(n=hypothesis.strategies.integers())
    def test(n: int) -> None:
        called.append(n)

    called: list[int] = []
    with hypothesis_internals.changed_settings(test, max_examples=3):
        assert hypothesis_internals.hypothesis_settings(test).max_examples == 3
        test()
        assert len(called) == 3
    assert hypothesis_internals.hypothesis_settings(test).max_examples == 7


def test_what_internals_reads_of_a_running_example(capsys: pytest.CaptureFixture[str]) -> None:
    hypothesis = pytest.importorskip("hypothesis", reason="its own test functions are looked at")
    keys: dict[object, set[int]] = {}
    final: list[int] = []

    @hypothesis.settings(database=None, max_examples=50)
    @hypothesis.example(n=-1)
    @hypothesis.given(n=hypothesis.strategies.integers(0, 1000))
    def test(n: int) -> None:
        if n == -1:
            assert hypothesis_internals.example_key() is None
            assert hypothesis_internals.is_final_example()
            return
        keys.setdefault(hypothesis_internals.example_key(), set()).add(n)
        hypothesis.target(n)
        hypothesis_internals.forget_targets()
        hypothesis.target(n)
        with hypothesis_internals.silent_hypothesis():
            hypothesis.note("not heard of")
        hypothesis.note("heard of")
        if hypothesis_internals.is_final_example():
            final.append(n)
        assert n < 17

    with pytest.raises(AssertionError) as caught:
        test()
    assert final == [17]
    assert len(keys) > 10
    assert {len(values) for values in keys.values()} == {1}
    assert None not in keys
    notes = caught.value.__notes__
    assert "heard of" in notes
    assert "not heard of" not in notes


def test_lines_of_the_machinery_are_not_explained() -> None:
    pytest.importorskip("hypothesis", reason="it is told which lines to leave out")
    from hypothesis.internal import scrutineer

    folder = str(Path(__file__).parent)
    before = scrutineer.should_trace_file
    with hypothesis_internals.unexplained((folder,)):
        assert not scrutineer.should_trace_file(__file__)
        assert scrutineer.should_trace_file(internals.__file__)
        assert not scrutineer.should_trace_file(scrutineer.__file__)
    assert scrutineer.should_trace_file is before


def test_a_test_of_hypothesis_can_be_put_in_place_of_another() -> None:
    """What Hypothesis itself documents for plugins that run async tests."""
    hypothesis = pytest.importorskip("hypothesis", reason="its own test functions are looked at")

    @hypothesis.settings(database=None, max_examples=5)
    @hypothesis.given(n=hypothesis.strategies.integers())
    async def test(n: int) -> None: ...

    called: list[int] = []
    test.hypothesis.inner_test = lambda n: called.append(n)
    test()
    assert len(called) == 5


def test_our_modules_are_imported_as_they_are_written(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_loaders():
            ours = [module for name, module in sys.modules.items() if name.startswith("pytest_simloop.")]
            assert len(ours) > 3
            rewritten = [module.__name__ for module in ours if "Rewriting" in type(module.__spec__.loader).__name__]
            assert rewritten in ([], ["pytest_simloop.as_written"])
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
