"""The private parts of pytest that the plugin rests on are still there."""

from __future__ import annotations

from pathlib import Path

import pytest
from _pytest.logging import caplog_handler_key, caplog_records_key

from pytest_simloop import internals


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
