"""The corpus: campaigns go on from where the one before has ended, and no file can keep them from it."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

import simloop
from simloop.choices.choices import Point
from simloop.choices.schedule import Schedule
from simloop.choices.tokens import decode, encode
from simloop.explore import campaign as campaigns
from simloop.explore import corpus as corpus_file
from simloop.explore.corpus import FINGERPRINTS_MAX, Corpora, Corpus
from simloop.explore.strategies.mutation import KEPT_MAX
from simloop.simulation.limits import Limits

KEY = "tests/test_bank.py::test_transfer"


def schedule(at: int, *, size: int = 1) -> Schedule:
    points = [Point(f"{at * 7919 + number}:x#1>", "net.deliver", 1 + at) for number in range(size)]
    return Schedule(seed=7, deviations=dict.fromkeys(points, 4))


@pytest.fixture
def corpora(tmp_path: Path) -> Corpora:
    return Corpora(tmp_path / ".simloop" / "corpus")


def load(corpora: Corpora, **options: Any) -> Corpus:
    return corpora.load(KEY, "test_transfer", Limits(**options))


def the_file(corpora: Corpora) -> Path:
    (path,) = corpora.directory.glob("*.json")
    return path


def test_the_next_campaign_finds_what_was_kept(corpora: Corpora) -> None:
    corpus = load(corpora)
    assert (corpus.schedules, set(corpus.fingerprints), corpus.seed(5)) == ([], set(), 5)
    assert not corpora.directory.exists()
    corpus.keep([schedule(1), schedule(2)], [3, -4, 2**63 - 1])
    corpus = load(corpora)
    assert corpus.schedules == [schedule(1), schedule(2)]
    assert corpus.fingerprints == {3, -4, 2**63 - 1}
    seed = corpus.seed(5)
    assert seed != 5
    assert 0 <= seed < 2**16
    corpus.keep([], [])
    assert load(corpora).schedules == []
    assert load(corpora).seed(5) not in (5, seed)
    assert ".gitignore" in {path.name for path in corpora.directory.iterdir()}


def test_a_token_of_the_corpus_is_one_of_the_test(corpora: Corpora) -> None:
    load(corpora).keep([schedule(1)], [])
    (token,) = json.loads(the_file(corpora).read_text())["schedules"]
    assert decode(token, "test_transfer") == schedule(1)


def test_other_options_and_tests_have_a_corpus_of_their_own(corpora: Corpora) -> None:
    load(corpora).keep([schedule(1)], [])
    assert load(corpora, profile="hostile").schedules == []
    assert load(corpora, cancel=True).schedules == []
    assert load(corpora, preempt="lines").schedules == []
    assert corpora.load(f"{KEY}[1]", "test_transfer[1]", Limits()).schedules == []
    assert load(corpora, max_steps=5).schedules == [schedule(1)]


def test_it_is_bounded(corpora: Corpora, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_file, "TOKENS_SIZE_MAX", 20_000)
    long = [schedule(at, size=1500) for at in range(3)]  # of some 8,000 characters each
    load(corpora).keep([*long, *map(schedule, range(200))], range(FINGERPRINTS_MAX + 30_000))
    corpus = load(corpora)
    assert corpus.schedules[:3] == [*long[:2], schedule(0)]
    assert sum(len(encode(one, "test_transfer")) for one in corpus.schedules) <= 20_000
    assert corpus.fingerprints == set(range(30_000, FINGERPRINTS_MAX + 30_000))
    assert the_file(corpora).stat().st_size < 700_000
    load(corpora).keep(map(schedule, range(200)), [])
    assert load(corpora).schedules == [schedule(at) for at in range(KEPT_MAX)]
    # Those that were seen again are not the oldest any more.
    corpus.keep([], [30_000, -1])
    assert {30_000, -1} <= load(corpora).fingerprints
    assert 30_001 not in load(corpora).fingerprints


def test_two_campaigns_at_once_lose_nothing_of_one_another(corpora: Corpora) -> None:
    load(corpora).keep([schedule(1), schedule(2)], [1])
    one, other = load(corpora), load(corpora)
    one.keep([schedule(1), schedule(3)], [2])
    other.keep([schedule(4)], [3])
    # The second one has dropped the first two, which it knew, and knows nothing of the third.
    assert load(corpora).schedules == [schedule(4), schedule(3)]
    assert load(corpora).fingerprints == {1, 2, 3}


def write_often(directory: Path, at: int) -> None:
    corpora = Corpora(directory)
    for number in range(40):
        load(corpora).keep([schedule(at), schedule(at + number)], range(number * 100))


def test_several_processes_at_once_leave_a_file_that_can_be_read(corpora: Corpora) -> None:
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=write_often, args=(corpora.directory, at * 100)) for at in range(4)]
    for writer in writers:
        writer.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        while any(writer.is_alive() for writer in writers):
            load(corpora)
        assert load(corpora).schedules
    assert all(writer.exitcode == 0 for writer in writers)
    assert not list(corpora.directory.glob(".new-*"))


GOOD: dict[str, Any] = {"version": 1, "campaigns": 1, "schedules": [encode(schedule(1))], "fingerprints": ""}


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 0},
        {"version": "2"},
        {"test": "another"},
        {"campaigns": -1},
        {"campaigns": True},
        {"campaigns": "1"},
        {"schedules": None},
        {"schedules": "sl1:"},
        {"schedules": [1]},
        {"schedules": ["sl1:AAAA"]},
        {"fingerprints": None},
        {"fingerprints": "AAAA"},
        {"fingerprints": "*"},
        {"fingerprints": "\u00e9"},
    ],
)
def test_a_damaged_file_is_set_aside_with_one_warning(corpora: Corpora, changed: dict[str, Any]) -> None:
    load(corpora).keep([schedule(1)], [])
    path = the_file(corpora)
    good = {**GOOD, "test": json.loads(path.read_text())["test"]}
    path.write_text(json.dumps(good))
    assert load(corpora).schedules == [schedule(1)]
    path.write_text(json.dumps({**good, **changed}))
    with pytest.warns(simloop.CorruptStoreWarning, match="it was renamed to") as caught:
        corpus = load(corpora)
    assert len(caught) == 1
    assert corpus.schedules == []
    assert path.with_name(f"{path.name}.corrupt").exists()
    corpus.keep([schedule(2)], [])
    assert load(corpora).schedules == [schedule(2)]


@pytest.mark.parametrize("text", [b"", b"\0" * 10, b"[]", b"{}", b"[" * 100_000, b"\xff", b'{"version": 1e999}'])
def test_so_is_any_other_text(corpora: Corpora, text: bytes) -> None:
    load(corpora).keep([schedule(1)], [])
    the_file(corpora).write_bytes(text)
    with pytest.warns(simloop.CorruptStoreWarning):
        assert load(corpora).schedules == []


@pytest.mark.parametrize("what", ["fifo", "huge", "directory"])
def test_so_is_what_is_no_file_of_ours(corpora: Corpora, what: str) -> None:
    load(corpora).keep([schedule(1)], [])
    path = the_file(corpora)
    path.unlink()
    if what == "fifo":
        os.mkfifo(path)
    elif what == "huge":
        with open(path, "wb") as file:
            file.truncate(10 << 30)
    else:
        path.mkdir()
    with pytest.warns(simloop.StoreWarning) as caught:
        load(corpora).keep([schedule(1)], [])
    assert len(caught) == 1


@pytest.mark.parametrize("newer", [{"version": 2}, {"schedules": ["sl9:AAAA"]}])
def test_a_file_of_a_newer_version_is_left_alone(corpora: Corpora, newer: dict[str, Any]) -> None:
    load(corpora).keep([schedule(1)], [])
    path = the_file(corpora)
    path.write_text(text := json.dumps({**json.loads(path.read_text()), **newer}))
    with pytest.warns(
        simloop.StoreWarning, match="a newer simloop wrote: schedules of that test are not kept"
    ) as caught:
        load(corpora).keep([schedule(2)], [])
    assert len(caught) == 1
    assert path.read_text() == text


def test_a_directory_that_cannot_be_written_is_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    corpora = Corpora(tmp_path / "file" / "corpus")
    with pytest.warns(simloop.StoreWarning, match="Not a directory; schedules are not kept"):
        load(corpora).keep([schedule(1)], [])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it was said
        load(corpora).keep([schedule(1)], [])


async def many_threads() -> None:
    await asyncio.gather(*(asyncio.to_thread(threading.get_ident) for _ in range(12)))


def test_a_second_campaign_goes_on_with_other_runs(tmp_path: Path) -> None:
    first, second = (simloop.explore(many_threads, runs=80, seed=3, corpus=tmp_path) for _ in range(2))
    assert first.coverage.new == first.distinct
    assert second.coverage.new < second.distinct
    assert second.coverage.new_in_last <= first.coverage.last
    # The same ones would be known, all of them.
    assert second.coverage.new > 10
    alone = simloop.explore(many_threads, runs=80, seed=3)
    assert alone.coverage.new == alone.distinct


def test_schedules_of_a_program_that_has_changed_are_pruned(tmp_path: Path) -> None:
    async def main() -> None:
        await (many_threads() if threads else connect())

    async def connect() -> None:
        async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 7000):
            ends = [await asyncio.open_connection("127.0.0.1", 7000) for _ in range(4)]
            for reader, writer in ends:
                await reader.read()
                writer.close()

    def kinds() -> set[str]:
        (path,) = tmp_path.glob("*.json")
        return {point.kind for token in json.loads(path.read_text())["schedules"] for point in decode(token).deviations}

    threads = True
    simloop.explore(main, runs=60, corpus=tmp_path)
    assert any("thread" in kind for kind in kinds())
    threads = False
    simloop.explore(main, runs=60, corpus=tmp_path)
    # Too few runs to try all of them.
    assert any("thread" in kind for kind in kinds())
    simloop.explore(main, runs=400, corpus=tmp_path)
    assert kinds()
    assert not any("thread" in kind for kind in kinds())


def test_nothing_is_kept_where_there_is_nothing_to_go_on_with(tmp_path: Path) -> None:
    async def nothing() -> None:
        await asyncio.sleep(1)

    async def little() -> None:
        await asyncio.to_thread(int)

    assert simloop.explore(nothing, corpus=tmp_path / "corpus").runs == 1
    assert simloop.explore(little, runs=200, corpus=tmp_path / "corpus").schedules_in_all
    assert not (tmp_path / "corpus").exists()


def test_a_corpus_is_written_while_a_long_campaign_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaigns, "_KEEPS_EVERY", 0.0)
    written: list[int] = []
    monkeypatch.setattr(Corpus, "keep", lambda corpus, schedules, _: written.append(len(list(schedules))))
    simloop.explore(many_threads, runs=60, corpus=tmp_path)
    assert len(written) == 61
    assert written[0] < written[-1]


def test_a_corpus_needs_the_strategy_that_it_is_for(tmp_path: Path) -> None:
    with pytest.raises(simloop.ConfigurationError, match="a corpus is for the strategy mutation"):
        simloop.explore(many_threads, strategies=["dense walk"], corpus=tmp_path)
    report = simloop.explore(many_threads, strategies=["dense walk", "mutation"], runs=5, corpus=tmp_path)
    assert report.runs == 5
