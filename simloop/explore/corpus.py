"""Corpora: for each test, the schedules and fingerprints that are kept on disk, so that the next campaign continues
where earlier ones ended.

A corpus holds schedules whose runs reached something new (`simloop.explore.strategies.mutation`), the fingerprints
(hashes of what happened) of runs, and the number of campaigns so far, which makes the next one draw other runs. There
is one file for each test and combination of options that choice points depend on: profile, cancellation, preemption of
lines, version of Python.
"""

from __future__ import annotations

import base64
import json
import sys
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simloop.choices.draws import mixed_seed
from simloop.choices.tokens import decode, encode
from simloop.explore.kept_files import KeptFiles, NewerError, content_of
from simloop.explore.store import is_newer
from simloop.explore.strategies.mutation import KEPT_MAX

if TYPE_CHECKING:
    from simloop.choices.schedule import Schedule
    from simloop.simulation.limits import Limits

#: Name of the directory of corpora, inside of `simloop.explore.DIRECTORY`.
CORPUS = "corpus"
#: Limits of one corpus: the number of characters of all its tokens, and the number of its fingerprints, of which the
#: latest are kept.
TOKENS_SIZE_MAX = 200_000
FINGERPRINTS_MAX = 40_000
_VERSION = 1
_README = (
    "Schedules from which simloop's campaigns go on (--sim-corpus), one file per test. They pass.\n"
    "Do not commit this directory; to delete it loses nothing but that.\n"
)


@dataclass
class Contents:
    """Parsed contents of a corpus file. Its schedules are tokens, in the order in which to try them."""

    campaigns: int = 0
    tokens: list[str] = field(default_factory=list)
    fingerprints: list[int] = field(default_factory=list)


class Corpus:
    """Corpus of one test, as read when the campaign began. `files` is the directory, `key` identifies the corpus in it,
    and `test` is the name that the tokens are made for."""

    def __init__(self, files: KeptFiles, key: str, test: str) -> None:
        self._files = files
        self._key = key
        self._test = test
        self._found = self._read()
        found = self._found or Contents()
        self._campaigns = found.campaigns
        self._tokens = frozenset(found.tokens)
        #: Schedules that earlier campaigns have kept, beginning with those that were not tried for longest.
        self.schedules = [decode(token) for token in found.tokens]
        #: Fingerprints of the runs of earlier campaigns.
        self.fingerprints = frozenset(found.fingerprints)

    def seed(self, seed: int) -> int:
        """Return the seed of this campaign, derived from `seed` and the number of earlier campaigns: that of the first
        one is `seed` itself, later ones have 16 bits, so that tokens stay short."""
        return mixed_seed(seed, self._campaigns) & 0xFFFF if self._campaigns else seed

    def keep(self, schedules: Iterable[Schedule], fingerprints: Iterable[int]) -> None:
        """Save the corpus after a campaign: the `schedules`, in the order in which to try them, and the `fingerprints`
        of its runs. Keeps what another process has added since the corpus was read. May be called more than once."""
        now = self._read() if self._found is not None else None
        if now is None:
            return
        tokens = [encode(schedule, self._test) for schedule in schedules]
        tokens += [token for token in now.tokens if token not in self._tokens]
        numbers = dict.fromkeys(now.fingerprints)
        for number in fingerprints:
            numbers.pop(number, None)
            numbers[number] = None  # the latest
        campaigns = max(now.campaigns, self._campaigns + 1)
        left = Contents(campaigns, _bounded(tokens), list(numbers)[-FINGERPRINTS_MAX:])
        self._files.write(self._files.path(self._key), _text(left, self._key))

    def _read(self) -> Contents | None:
        return self._files.read(self._files.path(self._key), lambda text: _parse(text, self._key), Contents())


class Corpora:
    """Directory of corpora, created when the first one is written. Problems with its files are reported as warnings
    (`simloop.explore.kept_files`)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files = KeptFiles(directory, "schedules", _README)

    def load(self, key: str, test: str, limits: Limits) -> Corpus:
        """Return the corpus of a test under these options. `key` identifies the test's corpora in the directory, and
        `test` is the name that the tokens are made for."""
        options = [f"python{sys.version_info[0]}.{sys.version_info[1]}", limits.profile]
        options += ["cancel"] * limits.cancel + ["lines"] * (limits.preempt == "lines")
        return Corpus(self._files, " ".join([key, *options]), test)


def _bounded(tokens: Iterable[str]) -> list[str]:
    """Return the first of the tokens, without repetitions: as many as the limits of a corpus allow."""
    left = TOKENS_SIZE_MAX
    kept: list[str] = []
    for token in dict.fromkeys(tokens):
        if len(token) <= left and len(kept) < KEPT_MAX:
            left -= len(token)
            kept.append(token)
    return kept


def _parse(text: bytes, key: str) -> Contents:
    """Return the parsed contents of a corpus file. Raises `NewerError` for one that a newer simloop wrote, and
    `ValueError`, `TypeError`, `KeyError` or `TokenError` for an invalid one."""
    content = content_of(text, _VERSION, key)
    tokens, campaigns = content["schedules"], content["campaigns"]
    if not isinstance(tokens, list) or type(campaigns) is not int or campaigns < 0:
        raise TypeError("its schedules must be a list, and its campaigns a number")
    for token in tokens:
        if not isinstance(token, str):
            raise TypeError("a schedule must be a token")
        if is_newer(token):
            raise NewerError
        decode(token)
    numbers = array("q", base64.b64decode(content["fingerprints"], validate=True))
    return Contents(campaigns, _bounded(tokens), list(numbers)[-FINGERPRINTS_MAX:])


def _text(content: Contents, key: str) -> str:
    numbers = base64.b64encode(array("q", content.fingerprints).tobytes()).decode()
    data: dict[str, Any] = {"version": _VERSION, "test": key, "campaigns": content.campaigns}
    data |= {"schedules": content.tokens, "fingerprints": numbers}
    return json.dumps(data, indent=1) + "\n"
