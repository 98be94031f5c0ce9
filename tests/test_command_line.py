"""`simloop` and `python -m simloop`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from simloop.__main__ import main
from simloop.choices.choices import KINDS, Point
from simloop.choices.schedule import Schedule
from simloop.choices.tokens import encode
from simloop.explore.store import Saved, Store
from simloop.report.sentences import tell_point

BANK = "tests/test_bank.py::test_transfer[50 eur]"
SHOP = "tests/test_shop.py::test_sale"


def token(test: str = BANK) -> str:
    name = test.rpartition("/")[2]
    return encode(
        Schedule("portable", 7, {Point("move~sleep", "cancel", 2): 1, Point("a>b#1", "net.deliver", 1): 4}), name
    )


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store that is used by default, with the failures of two tests."""
    monkeypatch.chdir(tmp_path)
    store = Store(Path(".simloop"))
    store.add(BANK, Saved(token(), "AssertionError", "cancel sweep"))
    store.add(BANK, Saved(token(), "ValueError", "walk", cancel=True))
    store.add(SHOP, Saved(token(SHOP), "KeyError", "walk"))
    return store


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    (version,) = told(capsys, "version")
    assert version[0].isdigit()


WORDS = [
    "profile: portable",
    "seed: 7",
    "deviations: 2",
    "  cancel #2 of move~sleep: task move is cancelled from outside while it waits in sleep()",
    "  net.deliver #1 of a>b#1: data on a>b#1 arrive 25 to 50 ms later",
]


def test_what_a_token_holds(
    capsys: pytest.CaptureFixture[str], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(capsys, "token", token()) == [f"test: {BANK}", *WORDS]
    monkeypatch.chdir(tmp_path.parent)
    assert told(capsys, "token", token()) == WORDS  # nobody knows its test
    assert told(capsys, "token", token(), "--store", str(tmp_path / ".simloop"))[0] == f"test: {BANK}"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_choice_has_words(kind: str) -> None:
    sentence = tell_point(Point("web:after send#1 SIGTERM", kind, 1), 1)
    assert "answered" not in sentence
    assert tell_point(Point("x", kind, 1), 10**6)  # of another release


def test_list_show_and_drop(capsys: pytest.CaptureFixture[str], store: Store) -> None:
    assert told(capsys, "list") == [f"{BANK}: 1 failure (ValueError)", f"{SHOP}: 1 failure (KeyError)"]
    shown = [f"{BANK} ({store.path(BANK)})", "", "ValueError, found by walk", *WORDS]
    assert told(capsys, "show", "bank") == [
        *shown,
        f"replay it: pytest 'tests/test_bank.py::test_transfer[50 eur]' --sim-replay={token()} --sim-cancel",
    ]
    assert told(capsys, "drop", SHOP) == [f"dropped 1 failure of {SHOP}"]
    assert store.load(SHOP) == []
    assert [line.partition(":")[0] for line in told(capsys, "list", "--store", ".simloop")] == ["tests/test_bank.py"]


def test_a_name_that_is_a_part_of_another_one(capsys: pytest.CaptureFixture[str], store: Store) -> None:
    store.add(SHOP + "_again", Saved(token(SHOP), "KeyError", "walk"))
    assert told(capsys, "drop", SHOP) == [f"dropped 1 failure of {SHOP}"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: COMMAND: see simloop --help"),
        (["tokne"], "invalid choice: 'tokne' (choose from"),
        (["token"], "required: TOKEN"),
        (["token", "sl1:AAAA"], "malformed or cut off: copy it again"),
        (["token", "sl3:AAAAAAcAALcm"], "newer simloop: upgrade"),
        (["token", "eyJhbGciOiJIUzI1NiJ9"], "is not a token: tokens begin with 'sl1:'"),
        (["token", "\N{LATIN SMALL LETTER E WITH ACUTE}\x1b[31m\n"], "is not a token"),
        (["token", "sl1:AAAAAAcAALcm", "--store", "nowhere"], "nowhere is no directory: say with --store"),
        (["list", "--store", "file"], "file is no directory: say with --store"),
        (["list", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["show", "tests"], f"'tests' is a part of 2 tests ({BANK}, {SHOP}): say more of the name"),
        (["drop", ""], "say more of the name"),
        (["drop", "pay"], "no failure of a test 'pay' is saved in .simloop: see simloop list"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(
    capsys: pytest.CaptureFixture[str], store: Store, arguments: list[str], words: str
) -> None:
    Path("file").touch()
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("simloop: ")
    assert words in captured.err
    assert captured.err[:-1].isprintable()
    assert len(store.load(BANK)) == len(store.load(SHOP)) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff", "damaged: delete it"),
        (b"[]", "damaged: delete it"),
        (b"[" * 100_000, "damaged: delete it"),
        (json.dumps({"version": 1, "test": SHOP, "failures": [{"token": "x"}]}).encode(), "damaged: delete it"),
        (json.dumps({"version": 1, "test": None, "failures": []}).encode(), "damaged: delete it"),
        (json.dumps({"version": 1, "test": "\ud800", "failures": []}).encode(), "damaged: delete it"),
        (json.dumps({"version": 2, "test": SHOP}).encode(), "newer simloop: upgrade"),
        (None, "Is a directory"),
    ],
)
def test_a_file_that_cannot_be_read(
    capsys: pytest.CaptureFixture[str], store: Store, content: bytes | None, words: str
) -> None:
    path = store.path(SHOP)
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    for arguments in (["list"], ["show", "shop"], ["drop", "shop"]):
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == (f"{BANK}: 1 failure (ValueError)\n" if arguments == ["list"] else "")
        assert captured.err.count("\n") == 1
        assert f"{path}" in captured.err
        assert words in captured.err
    # What can be read is not touched by it.
    assert told(capsys, "show", "bank")
    assert told(capsys, "token", token())[0] == f"test: {BANK}"
    assert path.exists()


def test_a_token_of_a_newer_release_is_shown_as_far_as_it_goes(
    capsys: pytest.CaptureFixture[str], store: Store
) -> None:
    store.add(SHOP, Saved("sl9:xyz", "KeyError", "walk"))
    shown = told(capsys, "show", "shop")
    assert "written by a newer simloop: upgrade pytest-simloop to read it" in shown
    assert "seed: 7" in shown


def test_a_name_that_would_change_the_terminal_is_escaped(capsys: pytest.CaptureFixture[str], store: Store) -> None:
    store.add("test_x.py::test[\x1b[2J]", Saved(token(), "KeyError", "walk"))
    assert r"test_x.py::test[\x1b[2J]: 1 failure (KeyError)" in told(capsys, "list")


def run(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", command, sys.executable], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", ["list | true", "list >&-", "token sl1:AAAAAAcAALcm | head -n1"])
def test_output_that_nobody_reads(store: Store, command: str) -> None:
    result = run(f'"$0" -m simloop {command}')
    assert result.stderr == ""


def test_output_that_cannot_be_written(store: Store) -> None:
    result = run('"$0" -m simloop list > /dev/full')
    assert result.returncode == 2
    assert result.stderr == "simloop: cannot write: No space left on device\n"
