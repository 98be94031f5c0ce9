"""Command line of simloop: ``simloop`` and ``python -m simloop``. It reads tokens and saved failures; tests are run by
pytest."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from simloop.choices.tokens import decode
from simloop.errors import OtherTestError, TokenError
from simloop.explore import DIRECTORY
from simloop.explore.store import Saved, read_file
from simloop.report.sentences import tell_point

if TYPE_CHECKING:
    from simloop.choices.schedule import Schedule

_USAGE_ERROR = 2
_AMBIGUOUS_MAX = 3


class CommandError(Exception):
    """Error in the use of the command line. Its message is one line that says what to do."""


class SavedTest(NamedTuple):
    """File of a store of failures, with the saved failures of one test."""

    path: Path
    test: str
    failures: list[Saved]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 2 for invalid input.

    >>> main(["token", "sl1:AAAAAAcAALcm"])
    profile: cpython
    seed: 7
    deviations: none
    0
    """
    if sys.stdout is None:  # closed by the shell
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    try:
        options = _parser().parse_args(arguments)
        for line in options.command(options):
            print(_shown(line))
        sys.stdout.flush()
    except CommandError as error:
        print(f"simloop: {_shown(str(error))}", file=sys.stderr)
        return _USAGE_ERROR
    except BrokenPipeError:  # of `| head`
        _give_up_output()
        return 1
    except OSError as error:
        _give_up_output()
        print(f"simloop: cannot write: {error.strerror}", file=sys.stderr)
        return _USAGE_ERROR
    return 0


def _give_up_output() -> None:
    """Redirect standard output to /dev/null after a failed write: otherwise the interpreter would fail once more when
    it flushes the stream at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """Argument parser that reports an error in one line, without printing the usage first."""

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message}: see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="simloop", description="Read tokens, and the failures that simloop has saved.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    command = commands.add_parser("version", help="print the version of simloop")
    command.set_defaults(command=_version)

    store = _Parser(add_help=False)
    store.add_argument("--store", metavar="DIR", type=Path, help=f"where failures are saved (default: {DIRECTORY})")
    command = commands.add_parser("token", parents=[store], help="say in words what a token holds")
    command.add_argument("token", metavar="TOKEN", help="a token, as a report prints it")
    command.set_defaults(command=_token)

    command = commands.add_parser(
        "export", parents=[store], help="print a script that shows a failure on stock asyncio, without simloop"
    )
    command.add_argument("token", metavar="TOKEN", help="the token of a failure, as a report prints it")
    command.add_argument(
        "--test", metavar="NODE", help="the test that it was printed for, if no failure of it is saved"
    )
    command.add_argument("-o", "--output", metavar="FILE", type=Path, help="write the script to FILE")
    command.set_defaults(command=_export)

    command = commands.add_parser("list", parents=[store], help="list the tests that have saved failures")
    command.set_defaults(command=_list)

    for name, function, words in (
        ("show", _show, "show the saved failures of a test"),
        ("drop", _drop, "forget the saved failures of a test"),
    ):
        command = commands.add_parser(name, parents=[store], help=words)
        command.add_argument("name", metavar="NAME", help="a test, as list prints it, or a part that only it has")
        command.set_defaults(command=function)
    return parser


def _version(options: argparse.Namespace) -> Iterator[str]:
    try:
        yield metadata.version("pytest-simloop")
    except metadata.PackageNotFoundError:
        raise CommandError("this copy of simloop is not installed, and has no version: pip install it") from None


def _token(options: argparse.Namespace) -> Iterator[str]:
    try:
        schedule = decode(options.token)
    except TokenError as error:
        raise CommandError(str(error)) from None
    # A token holds a checksum of its test's name, by which only a name that is known can be told.
    if options.store is not None or Path(DIRECTORY).is_dir():
        for saved in _readable(options.store):
            if _made_for(options.token, saved.test):
                yield f"test: {saved.test}"
    yield from _words(schedule)


def _export(options: argparse.Namespace) -> Iterator[str]:
    try:
        decode(options.token)
    except TokenError as error:
        raise CommandError(str(error)) from None
    saved: list[SavedTest] = []
    if not options.test:
        saved = [each for each in _readable(options.store) if _made_for(options.token, each.test)]
        if not saved:
            raise CommandError("no failure of the token's test is saved: name the test, with --test FILE::NAME")
    test = options.test or saved[0].test
    cancel = any(failure.cancel for each in saved for failure in each.failures if failure.token == options.token)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "script.py")
        words = ["-q", test, f"--sim-replay={options.token}", f"--sim-export={file}", *["--sim-cancel"] * cancel]
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", *words],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if not file.exists():
            # A paragraph of the report, or the last line of a pytest that did not come to it.
            _, told, reason = ended.stdout.partition("\nnot exported: ")
            if told:
                reason = re.split(r"\n(?:\n|[-=_]{10})", reason)[0]
            else:
                reason = (ended.stderr or ended.stdout).strip().rpartition("\n")[2]
            raise CommandError(f"{test} is not exported: {' '.join(reason.split())}")
        script = file.read_text()
    if options.output is None:
        yield from script.splitlines()
        return
    options.output.write_text(script)
    yield f"wrote {options.output}"


def _made_for(token: str, test: str) -> bool:
    path, colons, rest = test.partition("::")
    try:
        decode(token, path.rpartition("/")[2] + colons + rest)
    except OtherTestError:
        return False
    return True


def _words(schedule: Schedule) -> Iterator[str]:
    yield f"profile: {schedule.profile}"
    yield f"seed: {schedule.seed}"
    if schedule.numbered:
        yield "objects that would hash by address have numbers"
    yield f"deviations: {len(schedule.deviations) or 'none'}"
    for point, value in schedule.deviations.items():
        yield f"  {point}: {tell_point(point, value)}"


def _list(options: argparse.Namespace) -> Iterator[str]:
    problems: list[str] = []
    for saved in _readable(options.store, problems):
        count = len(saved.failures)
        kinds = ", ".join(dict.fromkeys(failure.error for failure in saved.failures))
        yield f"{saved.test}: {count} failure{'s' * (count != 1)} ({kinds})"
    if problems:
        raise CommandError("; ".join(problems))


def _show(options: argparse.Namespace) -> Iterator[str]:
    saved = _named(options)
    yield f"{saved.test} ({saved.path})"
    for failure in saved.failures:
        yield ""
        yield f"{failure.error}, found by {failure.found}"
        if failure.newer:
            yield "written by a newer simloop: upgrade pytest-simloop to read it"
        else:
            yield from _words(failure.schedule)
        cancel = " --sim-cancel" if failure.cancel else ""
        yield f"replay it: pytest {shlex.quote(saved.test)} --sim-replay={failure.token}{cancel}"


def _drop(options: argparse.Namespace) -> Iterator[str]:
    saved = _named(options)
    try:
        saved.path.unlink()
    except OSError as error:
        raise CommandError(f"cannot delete {saved.path}: {error.strerror}") from None
    count = len(saved.failures)
    yield f"dropped {count} failure{'s' * (count != 1)} of {saved.test}"


def _named(options: argparse.Namespace) -> SavedTest:
    """Return the one saved test whose name is, or else contains, the name given as ``options.name``. Raises
    `CommandError` if there is none, or more than one."""
    problems: list[str] = []
    tests = list(_readable(options.store, problems))
    found = [saved for saved in tests if saved.test == options.name]
    found = found or [saved for saved in tests if options.name in saved.test]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(saved.test for saved in found[:_AMBIGUOUS_MAX])
        more = ", ..." if len(found) > _AMBIGUOUS_MAX else ""
        raise CommandError(f"{options.name!r} is a part of {len(found)} tests ({names}{more}): say more of the name")
    if problems:
        raise CommandError("; ".join(problems))
    raise CommandError(
        f"no failure of a test {options.name!r} is saved in {options.store or DIRECTORY}: see simloop list"
    )


def _readable(store: Path | None, problems: list[str] | None = None) -> Iterator[SavedTest]:
    """Yield the readable files of a store (a directory), in the order of their names. The messages of unreadable files
    are appended to `problems`, if it is given."""
    store = store or Path(DIRECTORY)
    try:
        names = sorted(name for name in os.listdir(store) if name.endswith(".json"))
    except (FileNotFoundError, NotADirectoryError):
        raise CommandError(f"{store} is no directory: say with --store where pytest has saved failures") from None
    except OSError as error:
        raise CommandError(f"cannot read {store}: {error.strerror}") from None
    for name in names:
        path = store / name
        try:
            test, failures = read_file(path)
        except ValueError as error:
            if problems is not None:
                problems.append(str(error))
        else:
            yield SavedTest(path, test, failures)


def _shown(text: str) -> str:
    """Return the text with control characters escaped, since a terminal would obey them: tokens and files may come from
    anywhere."""
    printable = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    encoding = sys.stdout.encoding or "ascii"
    return printable.encode(encoding, "backslashreplace").decode(encoding)


if __name__ == "__main__":
    sys.exit(main())
