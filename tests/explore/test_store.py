"""The store of failures: what it keeps, and what it does with files that it cannot use."""

from __future__ import annotations

import json
import multiprocessing
import os
import warnings
from pathlib import Path

import pytest

import simloop
from simloop.choices.schedule import Schedule
from simloop.choices.tokens import encode
from simloop.explore.store import KEPT_MAX, Saved, Store, read_file

TEST = "tests/test_bank.py::TestBank::test_transfer[50-eur/usd]"


def saved(seed: int, test: str = TEST) -> Saved:
    return Saved(encode(Schedule(seed=seed), test), "AssertionError", "cancel sweep")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / ".simloop")


def test_nothing_is_written_until_something_fails(store: Store) -> None:
    assert store.load(TEST) == []
    store.drop(TEST, [saved(1).token])
    assert not store.directory.exists()


def test_what_is_added_comes_back_newest_first(store: Store) -> None:
    for seed in (1, 2, 3, 2):
        assert store.add(TEST, saved(seed)) == store.path(TEST)
    assert store.load(TEST) == [saved(2), saved(3), saved(1)]
    assert store.load(TEST)[0].schedule == Schedule(seed=2)
    store.add(TEST, cancelling := Saved(saved(9).token, "ValueError", "walk", cancel=True))
    assert store.load(TEST)[0] == cancelling


def test_the_oldest_goes_when_there_are_too_many(store: Store) -> None:
    for seed in range(KEPT_MAX + 3):
        store.add(TEST, saved(seed))
    assert store.load(TEST) == [saved(seed) for seed in range(KEPT_MAX + 2, 2, -1)]


def test_dropping_leaves_the_others_and_then_no_file(store: Store) -> None:
    store.add(TEST, saved(1))
    store.add(TEST, saved(2))
    store.drop(TEST, [saved(2).token])
    assert store.load(TEST) == [saved(1)]
    store.drop(TEST, [saved(1).token])
    assert not store.path(TEST).exists()


def test_names_can_be_read_and_do_not_collide(store: Store) -> None:
    name = store.path(TEST).name
    assert name.startswith("tests-test_bank.py-TestBank-test_transfer-50-eur-usd-")
    assert store.path(TEST.replace("/usd", "-usd")) != store.path(TEST)
    long = store.path("tests/" + "very_" * 100 + "long.py::test_it")
    assert len(long.name) <= 80
    assert "long.py-test_it" in long.name


def test_the_directory_says_what_it_is_and_stays_out_of_version_control(store: Store) -> None:
    store.add(TEST, saved(1))
    names = {path.name for path in store.directory.iterdir()}
    assert names == {".gitignore", "README.md", "CACHEDIR.TAG", store.path(TEST).name}
    assert "*" in (store.directory / ".gitignore").read_text().splitlines()
    assert len((store.directory / "README.md").read_text().splitlines()) == 2
    assert (store.directory / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b'{"version": 1}',
        b'{"version": 0, "test": "x", "failures": []}',
        json.dumps({"version": 1, "test": "another", "failures": []}).encode(),
        json.dumps(
            {"version": 1, "test": TEST, "failures": [{"token": "sl1:AAAA", "error": "", "found": ""}]}
        ).encode(),
        json.dumps({"version": 1, "test": TEST, "failures": [{"token": 5, "error": "", "found": ""}]}).encode(),
        b"[" * 100_000,
        b'{"version": 1, "test": ' + b"9" * 10_000,
        b" " * 1_000_001,
    ],
)
def test_a_corrupt_file_is_reported_and_set_aside(store: Store, content: bytes) -> None:
    store.add(TEST, saved(1))
    path = store.path(TEST)
    for number in ("", "2", "3"):
        path.write_bytes(content)
        with pytest.warns(simloop.CorruptStoreWarning, match=rf"renamed to .*\.corrupt{number}$"):
            assert store.load(TEST) == []
        assert path.with_name(f"{path.name}.corrupt{number}").read_bytes() == content
        assert not path.exists()


def test_what_is_no_regular_file_is_not_read(store: Store) -> None:
    store.add(TEST, saved(1))
    path = store.path(TEST)
    path.unlink()
    os.mkfifo(path)
    with pytest.warns(simloop.CorruptStoreWarning, match=r"no regular file.*renamed to .*\.corrupt$"):
        assert store.load(TEST) == []
    path.symlink_to("/dev/zero")
    with pytest.warns(simloop.CorruptStoreWarning, match=r"no regular file.*renamed to .*\.corrupt2$"):
        assert store.load(TEST) == []
    os.mkfifo(path)
    with pytest.raises(ValueError, match="is damaged"):
        read_file(path)


def test_tokens_and_files_of_a_newer_simloop_are_left_alone(store: Store) -> None:
    newer = Saved("sl3:whatever-it-says", "AssertionError", "telepathy")
    store.add(TEST, newer)
    store.add(TEST, saved(1))
    assert [entry.newer for entry in store.load(TEST)] == [False, True]
    store.drop(TEST, [saved(1).token])
    assert store.load(TEST) == [newer]

    path = store.path(TEST)
    path.write_text(content := '{"version": 2, "anything": true}')
    with pytest.warns(simloop.StoreWarning, match="which a newer simloop wrote"):
        assert store.add(TEST, saved(1)) is None
    store.drop(TEST, [newer.token])
    assert path.read_text() == content


@pytest.mark.parametrize("parent", ["file", "/proc"])
def test_a_directory_that_cannot_be_used_is_one_warning(tmp_path: Path, parent: str) -> None:
    (tmp_path / "file").touch()
    store = Store(tmp_path / parent / ".simloop")
    with pytest.warns(simloop.StoreWarning, match="failures are not kept"):
        assert store.add(TEST, saved(1)) is None
    assert store.add(TEST, saved(2)) is None
    assert store.load(TEST) == []


def hammer(directory: str, seeds: range) -> None:
    warnings.simplefilter("error")
    store = Store(Path(directory))
    for seed in seeds:
        store.add(TEST, saved(seed))
        store.load(TEST)
        if seed % 10 == 0:
            store.drop(TEST, [saved(seed).token])


def test_several_processes_never_leave_half_a_file(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=hammer, args=(str(store.directory), range(at, at + 100))) for at in (0, 1000, 2000)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert store.load(TEST)
    assert not [name for name in os.listdir(store.directory) if name.startswith(".new") or "corrupt" in name]
