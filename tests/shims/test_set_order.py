"""Sets of numbered objects iterate alike in every world."""

from __future__ import annotations

import pytest

import simloop
from simloop.shims.set_order import number_hashes


class Scope:
    pass


class Slotted:
    __slots__ = ("__weakref__",)


@pytest.mark.parametrize("cls", [Scope, Slotted])
def test_hash_in_order_of_first_use(cls: type) -> None:
    number_hashes(cls)

    def order() -> list[int]:
        scopes = [cls() for _ in range(50)]
        members = {scopes[number] for number in (40, 3, 17, 29, 8)}
        return [scopes.index(scope) for scope in members]

    with simloop.world():
        first = order()
    with simloop.world():
        second = order()
    assert first == second
    assert len({cls(), cls()}) == 2
