"""Campaigns of programs whose runs differ by the addresses of objects: those are numbered, for that test alone."""

from __future__ import annotations

import asyncio
import copy
import ctypes
import dataclasses
import functools
import gc
import mmap
import pickle
import threading
import types
import unittest.mock
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any

import pytest

import simloop
from simloop.choices.choices import Choices
from simloop.choices.tokens import decode
from simloop.explore.campaign import Campaign
from simloop.shims import numbered as numbering
from simloop.simulation.limits import Limits
from simloop.simulation.outcome import Outcome
from simloop.simulation.run import execute


class Plain:
    def call(self) -> None: ...


class Derived(Plain):
    pass


class WithSlots:
    __slots__ = ("number",)

    def call(self) -> None: ...


class WithWeakReferences:
    __slots__ = ("__weakref__",)


class Meta(type):
    def __setattr__(cls, name: str, value: object) -> None:
        raise AttributeError(name)


class WithMeta(metaclass=Meta):
    pass


class Named:
    """Names its hash, which is put back afterwards."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class Oops(Exception):
    pass


@dataclasses.dataclass(eq=False)
class Record:
    number: int = 0


def local_class() -> object:
    class Local:
        pass

    return Local()


class Transport(asyncio.Transport):
    def close(self) -> None: ...
    def is_closing(self) -> bool:
        return True


def a_writer() -> asyncio.StreamWriter:
    return asyncio.StreamWriter(Transport(), Connection(), None, asyncio.get_running_loop())


class Connection(asyncio.Protocol):
    pass


@pytest.fixture(autouse=True)
def _untouched_classes() -> Iterator[None]:
    """Leaves no objects with a number to the next test."""
    yield
    gc.collect()
    numbering.number_objects(False)
    assert not numbering._changed
    assert not numbering._undo


KINDS: dict[str, Callable[[], Any]] = {
    "class": Plain,
    "subclass": Derived,
    "class with slots": WithSlots,
    "class with slots and weak references": WithWeakReferences,
    "class with a metaclass": WithMeta,
    "class that names its hash": Named,
    "exception": Oops,
    "dataclass": Record,
    "class made in the run": local_class,
    "object of a library": asyncio.Queue,
    "Event": asyncio.Event,
    "Lock": asyncio.Lock,
    "Condition": asyncio.Condition,
    "Semaphore": asyncio.Semaphore,
    "StreamReader": asyncio.StreamReader,
    "StreamWriter": a_writer,
    "protocol": Connection,
    "transport": Transport,
    "bound method": lambda: Plain().call,
    "method of an object with slots": lambda: WithSlots().call,
    "function made in the run": lambda: lambda: None,
    "partial function": lambda: functools.partial(int),
    "lock of a thread": threading.Lock,
    "bare object": object,
    "exception of Python's own": ValueError,
    "generator": lambda: (_ for _ in ()),
    "module": lambda: types.ModuleType("made"),
    "mock": unittest.mock.Mock,
    "magic mock": unittest.mock.MagicMock,
    "class made by a call": lambda: type("Made", (), {})(),
    "class with slots made by a call": lambda: type("Made", (), {"__slots__": ()})(),
    "dataclass made by a call": lambda: dataclasses.make_dataclass("Made", [], eq=False)(),
}
COLLECTIONS: dict[str, Callable[[list[Any]], Iterable[Any]]] = {
    "set": set,
    "frozenset": frozenset,
    "difference": lambda made: set(made) - set(made[:1]),
    "keys": lambda made: dict.fromkeys(made).keys() - set(made[:1]),
    "WeakSet": weakref.WeakSet,
}


# Each change of all classes of a large process takes a second.
GROUPS = [list(KINDS)[first::4] for first in range(4)]


def program(
    makes: Sequence[Callable[[], Any]], collect: Callable[[list[Any]], Iterable[Any]]
) -> Callable[[], Coroutine[Any, Any, None]]:
    async def by_address() -> None:
        for make in makes:
            made = [make() for _ in range(30)]
            kept.append(made)  # so that the next run has other addresses
            order = [made.index(each) for each in collect(made)]
            await asyncio.gather(*(asyncio.sleep(0.001 * (1 + number)) for number in order[:5]))
            await asyncio.to_thread(int)

    kept: list[list[Any]] = []
    return by_address


def campaign(main: Callable[[], Any], runs: int = 10) -> Campaign:
    return Campaign(
        lambda choices, observer=None, **_: execute(main, choices, Limits(), observer), "by_address", runs=runs
    )


@pytest.mark.parametrize("kinds", GROUPS, ids=", ".join)
def test_sets_of_objects_iterate_alike(kinds: list[str]) -> None:
    report = campaign(program([KINDS[kind] for kind in kinds], set)).explore()
    assert report.failure is None
    assert report.numbered
    assert report.runs == 10


@pytest.mark.parametrize("kind", COLLECTIONS)
def test_collections_iterate_alike(kind: str) -> None:
    report = campaign(program([Plain], COLLECTIONS[kind])).explore()
    assert report.failure is None
    assert report.numbered


def test_frozen_objects_keep_the_hash_that_they_have() -> None:
    async def main() -> None:
        assert made in members

    made = Plain()
    members = {made}
    gc.freeze()
    assert execute(main, Choices(numbered=True), Limits()).exception is None


def test_a_test_whose_runs_are_alike_leaves_all_classes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ordered() -> None:
        made = [Plain() for _ in range(10)]
        assert len(set(made)) == 10
        await asyncio.to_thread(int)

    monkeypatch.setattr(numbering, "_change", None)
    report = campaign(ordered).explore()
    assert report.failure is None
    assert not report.numbered


def test_afterwards_all_is_as_before() -> None:
    by_its_address = vars(object)["__hash__"]
    made: list[object] = []

    async def by_address() -> None:
        await mains[0]()
        made.append(Plain.__hash__)

    mains = [program([Plain], set)]
    assert campaign(by_address).explore().numbered
    assert made[0] is by_its_address is not made[-1]
    mains.clear()
    numbering.number_objects(False)
    assert vars(object)["__hash__"] is by_its_address
    assert Plain.__hash__ is object.__hash__
    assert "__hash__" not in vars(Plain)
    assert "__del__" not in vars(WithSlots)
    assert Named.__dict__["__hash__"] is object.__hash__
    assert asyncio.Queue.__hash__ is object.__hash__
    assert not numbering._hashes
    assert not numbering._references


@pytest.mark.parametrize("cls", [Plain, WithSlots, WithWeakReferences, WithMeta])
def test_an_object_keeps_the_hash_that_it_has(cls: type) -> None:
    def numbered(main: Callable[[], Any]) -> None:
        assert execute(main, Choices(numbered=True), Limits()).exception is None

    before = cls()
    outside = {before}
    inside: set[object] = set()

    async def first() -> None:
        assert before in outside
        inside.update(cls() for _ in range(10))
        assert max(hash(each) for each in inside) < 100

    async def second() -> None:
        assert before in outside
        assert all(each in inside for each in [*inside])

    numbered(first)
    later = cls()
    outside.add(later)
    numbered(second)
    numbering.number_objects(False)
    assert all(each in outside for each in (before, later))
    assert hash(cls()) > 100
    assert all(each in inside for each in [*inside])
    inside.clear()
    gc.collect()
    numbering.number_objects(False)
    assert "__hash__" not in vars(cls)
    assert before in outside


class Address:
    """Hashes by address in a function of its own."""

    def __hash__(self) -> int:
        return super().__hash__()


SENTINEL, EMPTY, OWN = object(), type("Empty", (), {"__slots__": ()})(), Address()
# The collector knows neither these keys nor, before 3.14, such a dictionary.
OF_SENTINELS: dict[object, int] = {SENTINEL: 1, EMPTY: 2}


@pytest.mark.parametrize("found", [SENTINEL, EMPTY, ValueError(), Address()])
def test_objects_without_weak_references_keep_the_hash_that_they_have(found: object) -> None:
    outside = {found}
    inside: set[object] = set()

    async def first() -> None:
        assert found in outside
        assert OF_SENTINELS[SENTINEL] == 1
        assert OF_SENTINELS[EMPTY] == 2
        inside.update((object(), ValueError(), type("Made", (), {"__slots__": ()})()))
        assert max(hash(each) for each in inside) < 100

    async def second() -> None:
        assert found in outside
        assert all(each in inside for each in [*inside])

    for main in (first, second):
        assert execute(main, Choices(numbered=True), Limits()).exception is None
    numbering.number_objects(False)
    assert found in outside
    assert all(each in inside for each in [*inside])
    inside.clear()
    numbering.number_objects(False)
    assert not numbering._kept
    assert hash(object()) > 100
    assert found in outside
    assert OF_SENTINELS[SENTINEL] == 1


class Asked:
    """Descriptor that notes each time that it is asked for its value, as the magic methods of mocks are. These make
    another mock, with a class of its own, whenever the class is asked."""

    asked = 0

    def __get__(self, instance: object, owner: type) -> Callable[[], int]:
        Asked.asked += 1
        return lambda: 1


class Asking:
    __hash__ = Asked()
    __del__ = Asked()


def test_what_classes_compute_is_not_asked_for() -> None:
    made = [Asking(), unittest.mock.MagicMock()]

    async def main() -> None: ...

    Asked.asked = 0
    before = len(type.__subclasses__(unittest.mock.MagicMock))
    for _ in range(2):
        assert execute(main, Choices(numbered=True), Limits()).exception is None
        numbering.number_objects(False)
    assert Asked.asked == 0
    assert len(type.__subclasses__(unittest.mock.MagicMock)) == before
    del made


def test_objects_that_nobody_holds_are_not_kept_from_run_to_run() -> None:
    async def main() -> None:
        assert len({object() for _ in range(100)}) == 100

    for _ in range(5):
        assert execute(main, Choices(numbered=True), Limits()).exception is None
    assert sum(type(kept) is object for kept in numbering._kept.values()) < 200
    numbering.number_objects(False)


def test_exceptions_with_a_number_end_as_ever_and_can_be_copied() -> None:
    async def main() -> None:
        class Local: ...

        error, local = ValueError(1), Local()
        error.local = local  # type: ignore[attr-defined]
        gone = weakref.ref(local)
        hash(error)
        assert copy.copy(error).args == copy.deepcopy(error).args == pickle.loads(pickle.dumps(ValueError(1))).args
        del error, local
        assert gone() is None

    assert execute(main, Choices(numbered=True), Limits()).exception is None
    numbering.number_objects(False)


def test_functions_and_methods_keep_the_hash_that_they_have() -> None:
    before = Plain()

    def function() -> None: ...

    outside: set[object] = {before.call, function, len, Plain.call, [].append}
    made: list[Plain] = []
    inside: set[object] = set()

    async def keeps() -> None:
        assert before.call in outside
        assert function in outside
        assert Plain.call in outside
        made.append(Plain())
        inside.update((made[0].call, before.call, function, lambda: None))
        assert hash(made[0].call) == hash(made[0].call) < 1 << 52

    assert execute(keeps, Choices(numbered=True), Limits()).exception is None
    for _ in range(2):
        numbering.number_objects(False)
        assert before.call in outside
        assert function in outside
        assert all(each in inside for each in [*inside])
        assert made[0].call in inside
    inside.clear()
    made.clear()
    gc.collect()
    numbering.number_objects(False)
    assert not numbering._undo
    assert before.call in outside
    assert hash(before.call) == object.__hash__(before) ^ object.__hash__(Plain.call)


def test_an_address_that_is_used_again_gets_another_number() -> None:
    async def again() -> None:
        assert len({hash(WithSlots()) for _ in range(100)}) == 100

    assert execute(again, Choices(numbered=True), Limits()).exception is None
    numbering.number_objects(False)


def test_decorators_find_no_hash_in_a_class_made_in_the_run() -> None:
    async def makes() -> None:
        @dataclasses.dataclass
        class Compared:
            number: int

        @dataclasses.dataclass(frozen=True)
        class Frozen:
            number: int

        with pytest.raises(TypeError, match="unhashable"):
            hash(Compared(1))
        assert hash(Frozen(1)) == hash(Frozen(1))

        @dataclasses.dataclass(eq=False)
        class ByAddress:
            number: int

        class Later:
            pass

        assert hash(ByAddress(1)) < 100
        assert hash(Later()) < 100

    outcome = execute(makes, Choices(numbered=True), Limits())
    numbering.number_objects(False)
    assert outcome.exception is None


async def loses_one() -> None:
    """Fails when the first task of a set is cancelled, by the order of the objects that the tasks belong to."""
    ages.append([Plain() for _ in range(30)])
    members = set(ages[-1])
    done: list[object] = []

    async def work(member: Plain) -> None:
        await asyncio.sleep(0.001 * (1 + ages[-1].index(member)))
        done.append(member)

    tasks = [asyncio.create_task(work(member)) for member in members]
    simloop.current().may_cancel(tasks[0])
    await asyncio.wait(tasks)
    assert len(done) == 30, [ages[-1].index(member) for member in members]


ages: list[list[Plain]] = []


def test_a_token_says_that_objects_are_numbered() -> None:
    failure = simloop.explore(loses_one).failure
    assert failure is not None
    assert failure.token.startswith("sl2:")
    assert decode(failure.token) == failure.schedule
    assert failure.schedule.numbered
    assert len(failure.schedule.deviations) == 1
    orders = set()
    for _ in range(3):
        with pytest.raises(AssertionError) as caught:
            simloop.replay(loses_one, failure.token)
        orders.add(str(caught.value).partition("\n")[0])
    assert orders == {str(failure.exception).partition("\n")[0]}
    ages.clear()


def test_a_campaign_with_a_saved_failure_numbers_objects_from_the_start() -> None:
    failure = simloop.explore(loses_one).failure
    assert failure is not None
    made = 0

    def counted(choices: Choices, observer: Any = None, **_: Any) -> Outcome:
        nonlocal made
        made += 1
        assert choices.numbered
        return execute(loses_one, choices, Limits(), observer)

    again = Campaign(counted, "loses_one", saved=[failure.schedule], shrink_runs=0).explore().failure
    assert again is not None
    assert again.token.startswith("sl2:")
    ages.clear()


def test_a_real_clock_is_an_error_that_names_the_line() -> None:
    libc = ctypes.CDLL(None)

    class Timespec(ctypes.Structure):
        _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))

    async def real_time() -> None:
        now = Timespec()
        libc.clock_gettime(1, ctypes.byref(now))
        await asyncio.sleep(now.nanoseconds % 1_000_000 / 1000)

    with pytest.raises(simloop.NondeterminismError, match=r"They part at .*test_numbered\.py:\d+") as caught:
        campaign(real_time).explore()
    assert "look there for state of a module, the order of a set, id(), real time or a real file" in str(caught.value)


def test_runs_that_part_at_a_choice_name_the_line_that_asked() -> None:
    turns = mmap.mmap(-1, 1)  # forks share it

    async def alternates() -> None:
        turns[0] = (turns[0] + 1) % 256
        names = ["one", "two"] if turns[0] % 2 else ["two", "one"]
        loop = asyncio.get_running_loop()
        for name in names:
            work = asyncio.to_thread(int) if name == "one" else asyncio.to_thread(str)
            await loop.create_task(work)

    with pytest.raises(simloop.NondeterminismError, match=r"They part after .*test_numbered\.py:\d+"):
        campaign(alternates).explore()


def test_a_failure_that_comes_with_an_order_is_an_error_of_its_own() -> None:
    """A program that is wrong for some orders of a set must not pass because it is run with one order alone."""
    kept: list[list[Plain]] = []

    async def wrong() -> None:
        made = [Plain() for _ in range(30)]
        kept.append(made)
        first = made.index(next(iter(set(made))))
        await asyncio.sleep(0.001 * (1 + first))
        assert first == 0

    with pytest.raises(simloop.NondeterminismError) as caught:
        campaign(wrong).explore()
    assert isinstance(caught.value.__cause__, AssertionError)
