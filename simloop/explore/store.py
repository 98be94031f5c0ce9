"""Store of failing schedules, kept on disk for each test until the failure is fixed.

A store is a directory (`.simloop/`) with one small JSON file per test, newest failure first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simloop.choices.tokens import decode
from simloop.explore.kept_files import DAMAGE, KeptFiles, NewerError, content_of, contents

if TYPE_CHECKING:
    from simloop.choices.schedule import Schedule

#: Maximum number of failures that are kept for one test.
KEPT_MAX = 10
_VERSION = 1
_README = (
    "Failing schedules that simloop found, one file per test: it tries them first until they pass.\n"
    "Do not commit this directory; pin a schedule with `@simloop.replay(token)` instead.\n"
)


@dataclass(frozen=True)
class Saved:
    """Saved failure of a test, as in a file of the store."""

    token: str
    #: Name of the class of the exception that the test raised.
    error: str
    #: Name of the strategy that found the failure.
    found: str
    #: True if the failure was found with the option ``cancel``, without which its cancellations cannot occur.
    cancel: bool = False

    @property
    def newer(self) -> bool:
        """True if a newer simloop wrote the token: this version cannot run it, but keeps it."""
        return is_newer(self.token)

    @property
    def schedule(self) -> Schedule:
        return decode(self.token)


def is_newer(token: str) -> bool:
    """Return True for a token in a format that only a newer simloop can read."""
    return re.match(r"sl([3-9]|[1-9]\d+):", token) is not None


class Store:
    """Store of failures in one directory, created when the first failure is saved. Problems with its files are reported
    as warnings (`simloop.explore.kept_files`)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files = KeptFiles(directory, "failures", _README)

    def path(self, test: str) -> Path:
        """Return the path of the file with the failures of `test`. The file need not exist."""
        return self._files.path(test)

    def load(self, test: str) -> list[Saved]:
        """Return the saved failures of `test`, newest first."""
        return self._read(test) or []

    def add(self, test: str, failure: Saved) -> Path | None:
        """Save `failure` as the newest failure of `test`. Returns the path of the file, or None if it could not be
        written."""
        known = self._read(test)
        if known is None:
            return None
        others = [saved for saved in known if saved.token != failure.token]
        return self.path(test) if self._write(test, [failure, *others][:KEPT_MAX]) else None

    def drop(self, test: str, tokens: Collection[str]) -> None:
        """Remove the failures of `test` that have these tokens."""
        known = self._read(test) if tokens else None
        if not known:
            return
        left = [saved for saved in known if saved.token not in tokens]
        if left:
            self._write(test, left)
        else:
            self._files.delete(self.path(test))

    def _read(self, test: str) -> list[Saved] | None:
        """Return the saved failures of `test`; None if its file must not be overwritten."""
        none: list[Saved] = []
        return self._files.read(self.path(test), lambda text: _parse(text, test), none)

    def _write(self, test: str, failures: list[Saved]) -> bool:
        entries = [_entry(saved) for saved in failures]
        text = json.dumps({"version": _VERSION, "test": test, "failures": entries}, indent=1) + "\n"
        return self._files.write(self.path(test), text)


def read_file(path: Path) -> tuple[str, list[Saved]]:
    """Return the name of the test that a file of a store belongs to, and its failures, newest first. Never changes the
    file. Raises `ValueError` for a file that cannot be read; its message says what to do."""
    try:
        data = contents(path)
        test = json.loads(data)["test"]
        if not isinstance(test, str):
            raise TypeError("its test must be a string")
        test.encode()  # JSON may hold half a character
        return test, _parse(data, test)
    except NewerError:
        raise ValueError(f"{path} was written by a newer simloop: upgrade pytest-simloop") from None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except DAMAGE:
        raise ValueError(f"{path} is damaged: delete it, nothing else is lost") from None


def _parse(text: bytes, test: str) -> list[Saved]:
    """Return the failures in the contents of a store file for `test`. Raises `ValueError`, `TypeError`, `KeyError` or
    `TokenError` if they are invalid, and `NewerError` if a newer simloop wrote them."""
    content = content_of(text, _VERSION, test)
    failures = []
    for entry in content["failures"]:
        saved = Saved(entry["token"], entry["error"], entry["found"], entry.get("cancel", False))
        if not all(isinstance(part, str) for part in (saved.token, saved.error, saved.found)):
            raise TypeError("a failure's parts must be strings")
        if not saved.newer:
            decode(saved.token)
        failures.append(saved)
    return failures


def _entry(saved: Saved) -> dict[str, Any]:
    entry: dict[str, Any] = {"token": saved.token, "error": saved.error, "found": saved.found}
    return {**entry, "cancel": True} if saved.cancel else entry
