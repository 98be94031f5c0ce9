"""Files that are kept from one session to the next, in a directory of their own, one file per test.

The directory may be deleted at any time. Several processes may use it at once: files are replaced as a whole, and the
last writer wins. Problems with the files are warnings, never errors: `CorruptStoreWarning` for an unreadable file,
which is renamed and then ignored, and a single `StoreWarning` for a directory that cannot be used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import posix
import re
import stat
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from simloop.errors import CorruptStoreWarning, StoreWarning, TokenError

T = TypeVar("T")

# Tokens of very long schedules have some 10,000 bytes.
_SIZE_MAX = 1_000_000
_SLUG_MAX = 64
_SUPPORT = {
    ".gitignore": "# Created by simloop.\n*\n",
    "CACHEDIR.TAG": (
        "Signature: 8a477f597d28d172789f06886806bc55\n"
        "# This file is a cache directory tag created by simloop.\n"
        "# For information about cache directory tags, see https://bford.info/cachedir/\n"
    ),
}


class NewerError(Exception):
    """Raised for a file in a format that only a newer simloop can read."""


class KeptFiles:
    """Directory of kept files, created when the first one is written. `what` says in messages which things are kept, in
    the plural; `readme` is the text of the directory's README file."""

    def __init__(self, directory: Path, what: str, readme: str) -> None:
        self.directory = directory
        self._what = what
        self._readme = readme
        self._complained = False

    def path(self, name: str) -> Path:
        """Return the path of the file for `name`, a test or another key. The file need not exist."""
        slug = re.sub(r"[^\w.]+", "-", name, flags=re.ASCII).strip("-.")[-_SLUG_MAX:].lstrip("-._")
        return self.directory / f"{slug}-{hashlib.sha256(name.encode()).hexdigest()[:10]}.json"

    def read(self, path: Path, parse: Callable[[bytes], T], empty: T) -> T | None:
        """Return ``parse(contents)`` for the contents of a file; `empty` if it is missing or damaged; None if it must
        not be overwritten, because it cannot be read or a newer simloop wrote it. `parse` raises `NewerError`, or one
        of `DAMAGE` for invalid contents."""
        try:
            return parse(contents(path))
        except FileNotFoundError:
            return empty
        except OSError as error:
            self._complain(f"cannot read {path}: {error.strerror}; {self._what} are not kept")
        except NewerError:
            self._complain(f"leaves {path} alone, which a newer simloop wrote: {self._what} of that test are not kept")
        except DAMAGE as error:
            _set_aside(path, error)
            return empty
        return None

    def write(self, path: Path, text: str) -> bool:
        """Replace the contents of a file. Returns False if that failed."""
        with self._complaining("write"):
            self.directory.mkdir(parents=True, exist_ok=True)
            for name, content in {**_SUPPORT, "README.md": self._readme}.items():
                if not (self.directory / name).exists():
                    _replace(self.directory / name, content)
            _replace(path, text)
            return True
        return False

    def delete(self, path: Path) -> None:
        with self._complaining("delete"):
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _complaining(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._complain(f"cannot {verb} in {self.directory}: {error.strerror}; {self._what} are not kept")

    def _complain(self, problem: str) -> None:
        if not self._complained:
            self._complained = True
            warnings.warn(f"simloop {problem}", StoreWarning, stacklevel=2)


def content_of(text: bytes, version: int, test: str) -> Any:
    """Parse the JSON object in a file that simloop keeps between sessions, check its ``version`` and ``test``, and
    return it. Raises `NewerError` if a newer simloop wrote it, and `ValueError`, `TypeError` or `KeyError` if it is
    invalid."""
    content = json.loads(text)
    found = content["version"]
    if type(found) is int and found > version:
        raise NewerError
    if found != version or content["test"] != test:
        raise ValueError(f"it is not version {version} of a file for {test}")
    return content


#: Exceptions by which a function that parses a file reports invalid contents.
DAMAGE = (ValueError, TypeError, KeyError, TokenError, RecursionError)


def contents(path: Path) -> bytes:
    """Return the contents of a regular file of limited size. Raises `ValueError` for any other file, since reading it
    might never end."""
    # A fifo has no reader, or no writer, to wait for.
    with open(path, "rb", opener=lambda name, flags: posix.open(name, flags | posix.O_NONBLOCK)) as file:
        facts = posix.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("it is no regular file")
        if facts.st_size > _SIZE_MAX:
            raise ValueError(f"it has more than {_SIZE_MAX} bytes")
        return file.read(_SIZE_MAX)


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
    warnings.warn(f"simloop cannot read {path} ({error}): {what}", CorruptStoreWarning, stacklevel=5)


def _replace(path: Path, text: str) -> None:
    """Write a file atomically: a reader sees the old contents or the new ones, never a part."""
    new = path.with_name(f".new-{uuid.uuid4().hex}")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    finally:
        with contextlib.suppress(OSError):
            new.unlink()
