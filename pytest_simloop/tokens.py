"""Assignment of tokens to the tests that they were made for: by pinning them to tests, or selecting a test by a
token."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_simloop.settings import test_name
from simloop.choices.tokens import decode
from simloop.errors import OtherTestError


def _made_for(item: pytest.Item, token: str) -> bool:
    try:
        decode(token, test_name(item))
    except OtherTestError:
        return False
    return True


def pin(items: list[Any], tokens: tuple[str, ...]) -> None:
    """Pin tokens to the simulated items (parametrizations) of one test function, each token to the item that it was
    made for. A token that was made for none of them makes all of them fail."""
    strays = [token for token in tokens if not any(_made_for(item, token) for item in items)]
    for item in items:
        item.pins = tuple(token for token in tokens if _made_for(item, token))
        if strays:
            item.refusal = f"@simloop.replay: token {strays[0]} was not made for {test_name(item)}"


def pick(config: pytest.Config, items: list[pytest.Item], token: str) -> None:
    """Deselect all items except the tests that a replay token was made for."""
    chosen: list[pytest.Item] = []
    others: list[pytest.Item] = []
    for item in items:
        (chosen if _made_for(item, token) and getattr(item, "simulated", False) else others).append(item)
    if not chosen:
        raise pytest.UsageError(
            "--sim-replay: the token was not made for any of the selected tests: name the test that it was printed for"
        )
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = chosen
