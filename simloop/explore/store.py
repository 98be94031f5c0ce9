"""Store of failing schedules, kept on disk for each test until the failure is fixed.

A store is a directory (`.simloop/`) with one small JSON file per test, newest failure first. It may be
deleted at any time. Several processes may use it at once: files are replaced whole, and the last writer wins.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import uuid
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simloop.choices.tokens import decode
from simloop.errors import CorruptStoreWarning, StoreWarning, TokenError

if TYPE_CHECKING:
    from simloop.choices.schedule import Schedule

DIRECTORY = ".simloop"
#: Maximum number of failures that are kept for one test.
KEPT_MAX = 10
_VERSION = 1
# Tokens of very long schedules have some 10,000 bytes.
_SIZE_MAX = 1_000_000
_SLUG_MAX = 64
_SUPPORT = {
    ".gitignore": "# Created by simloop.\n*\n",
    "README.md": (
        "Failing schedules that simloop found, one file per test: it tries them first until they pass.\n"
        "Do not commit this directory; pin a schedule with `@simloop.replay(token)` instead.\n"
    ),
    "CACHEDIR.TAG": (
        "Signature: 8a477f597d28d172789f06886806bc55\n"
        "# This file is a cache directory tag created by simloop.\n"
        "# For information about cache directory tags, see https://bford.info/cachedir/\n"
    ),
}


@dataclass(frozen=True)
class Saved:
    """Failure of a test as it is saved in a file of the store."""

    token: str
    #: Name of the type of the exception that the test raised.
    error: str
    #: Name of the strategy that found the failure.
    found: str
    #: True if the failure was found with `Limits.cancel`, without which its cancellations cannot occur.
    cancel: bool = False

    @property
    def newer(self) -> bool:
        """True if a newer simloop wrote the token: this one cannot run it, but keeps it."""
        return re.match(r"sl([3-9]|[1-9]\d+):", self.token) is not None

    @property
    def schedule(self) -> Schedule:
        return decode(self.token)


class Store:
    """Store of failures in one directory, which is created when the first failure is saved.

    Problems with the files are warnings, never errors: `CorruptStoreWarning` for a file that cannot be read, which is
    renamed and left, and one `StoreWarning` in all for a directory that cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._complained = False

    def path(self, test: str) -> Path:
        """Return the path of the file with the failures of `test`, which need not exist."""
        slug = re.sub(r"[^\w.]+", "-", test, flags=re.ASCII).strip("-.")[-_SLUG_MAX:].lstrip("-._")
        return self.directory / f"{slug}-{hashlib.sha256(test.encode()).hexdigest()[:10]}.json"

    def load(self, test: str) -> list[Saved]:
        """Return the saved failures of `test`, newest first."""
        return self._read(test) or []

    def add(self, test: str, failure: Saved) -> Path | None:
        """Save `failure` before the other failures of `test`. Returns the file, or None if it could not be written."""
        known = self._read(test)
        if known is None:
            return None
        others = [saved for saved in known if saved.token != failure.token]
        return self._write(test, [failure, *others][:KEPT_MAX])

    def drop(self, test: str, tokens: Collection[str]) -> None:
        """Remove the failures of `test` that have these tokens."""
        known = self._read(test) if tokens else None
        if not known:
            return
        left = [saved for saved in known if saved.token not in tokens]
        if left:
            self._write(test, left)
            return
        with self._complaining("delete"):
            self.path(test).unlink(missing_ok=True)

    def _read(self, test: str) -> list[Saved] | None:
        """Return the failures in the file of `test`; None if the file must not be overwritten."""
        path = self.path(test)
        try:
            return _parse(_contents(path), test)
        except FileNotFoundError:
            return []
        except OSError as error:
            self._complain(f"cannot read {path}: {error.strerror}; failures are not kept")
        except _NewerError:
            self._complain(f"leaves {path} alone, which a newer simloop wrote: failures of that test are not kept")
        except (ValueError, TypeError, KeyError, TokenError, RecursionError) as error:
            _set_aside(path, error)
            return []
        return None

    def _write(self, test: str, failures: list[Saved]) -> Path | None:
        path = self.path(test)
        entries = [_entry(saved) for saved in failures]
        text = json.dumps({"version": _VERSION, "test": test, "failures": entries}, indent=1) + "\n"
        with self._complaining("write"):
            self.directory.mkdir(parents=True, exist_ok=True)
            for name, content in _SUPPORT.items():
                if not (self.directory / name).exists():
                    _replace(self.directory / name, content)
            _replace(path, text)
            return path
        return None

    @contextlib.contextmanager
    def _complaining(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._complain(f"cannot {what} in {self.directory}: {error.strerror}; failures are not kept")

    def _complain(self, problem: str) -> None:
        if not self._complained:
            self._complained = True
            warnings.warn(f"simloop {problem}", StoreWarning, stacklevel=2)


class _NewerError(Exception):
    """Error for a file of the store whose layout only a newer simloop knows."""


def read_file(path: Path) -> tuple[str, list[Saved]]:
    """Return the test that a file of a store belongs to, and its failures, newest first. Changes nothing. Raises
    `ValueError` for a file that cannot be read; its message says what to do."""
    try:
        data = _contents(path)
        test = json.loads(data)["test"]
        if not isinstance(test, str):
            raise TypeError("its test must be a string")
        test.encode()  # JSON may hold half a character
        return test, _parse(data, test)
    except _NewerError:
        raise ValueError(f"{path} was written by a newer simloop: upgrade pytest-simloop") from None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, TokenError, RecursionError):
        raise ValueError(f"{path} is damaged: delete it, nothing else is lost") from None


def _contents(path: Path) -> bytes:
    """Return the contents of a file. Raises `ValueError` for what is no file of a store: to read it might not end."""
    # A fifo has no reader, or no writer, to wait for.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("it is no regular file")
        if facts.st_size > _SIZE_MAX:
            raise ValueError(f"it has more than {_SIZE_MAX} bytes")
        return file.read(_SIZE_MAX)


def _parse(text: bytes, test: str) -> list[Saved]:
    """Return the failures in the contents of a store file for `test`. Raises `ValueError`, `TypeError`, `KeyError` or
    `TokenError` for anything else."""
    content = json.loads(text)
    version = content["version"]
    if type(version) is int and version > _VERSION:
        raise _NewerError
    if version != _VERSION or content["test"] != test:
        raise ValueError(f"it is not version {_VERSION} of a file for {test}")
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


def _set_aside(path: Path, error: Exception) -> None:
    aside = path.with_name(path.name + ".corrupt")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.corrupt{number}")
    what = f"it was renamed to {aside.name}"
    try:
        path.rename(aside)
    except OSError as problem:
        what = f"it is not used, and cannot be renamed: {problem.strerror}"
    warnings.warn(f"simloop cannot read {path} ({error}): {what}", CorruptStoreWarning, stacklevel=4)


def _replace(path: Path, text: str) -> None:
    """Write a file in one step: a reader sees the old contents or the new ones, never a part."""
    new = path.with_name(f".new-{uuid.uuid4().hex}")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    finally:
        with contextlib.suppress(OSError):
            new.unlink()
