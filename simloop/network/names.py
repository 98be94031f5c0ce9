"""Name service of a network (DNS): the records that a test has set, caches of hosts, and look-ups that may fail or be
slow."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from simloop.choices.choices import Choices
    from simloop.kernel.clock import Clock

#: What the answers at a `dns.fail` point mean, in the order of their values: seconds until the look-up fails, and why.
#: A resolver asks twice, and waits 5 s for an answer each time (resolv.conf(5)).
FAILURES = ((0, "the name server said that it had failed"), (10, "the name server did not answer"))
#: Seconds that a look-up takes at a `dns.slow` point, in the order of the answers after 0: a slow server; a lost query.
SLOW_S = (1, 5)


class _Record(NamedTuple):
    """Record of a name: its addresses, and its time to live in nanoseconds."""

    addresses: tuple[str, ...]
    ttl_ns: int


class Lookup(NamedTuple):
    """Subject of the points at which a look-up may fail or be slow, for reports: the name, and the host that asks."""

    name: str
    host: str


class Permission:
    """Permission to let look-ups of these names (none: of all names) fail or be slow, `budget` so many times."""

    def __init__(self, names: frozenset[str], budget: int) -> None:
        self._names = names
        self._budget = budget

    def ask(self, choices: Choices, kind: str, n: int, lookup: Lookup) -> int:
        """Return the environment's answer for a look-up."""
        if not self._budget or (self._names and lookup.name not in self._names):
            return 0
        answer = choices.choose(f"{lookup.host}:{lookup.name}", kind, n, lookup)
        self._budget -= answer != 0
        return answer


class Names:
    """Records of a network's names, beside those of its hosts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._records: dict[str, _Record] = {}
        # What hosts remember, by host and name, and until when.
        self._known: dict[tuple[str, str], tuple[tuple[str, ...], int]] = {}
        self.may_fail: list[Permission] = []
        self.may_be_slow: list[Permission] = []

    def set(self, name: str, addresses: tuple[str, ...], ttl_ns: int) -> None:
        """Set the addresses of a name, in the order in which look-ups return them."""
        self._records[canonical(name)] = _Record(addresses, ttl_ns)

    def remove(self, name: str) -> bool:
        """Remove a name. Returns True if it was there."""
        return self._records.pop(canonical(name), None) is not None

    def find(self, name: str, host: str) -> tuple[str, ...] | None:
        """Return the addresses of a name as a host sees them: from its cache, as long as the record's time to live has
        not passed. None for an unknown name."""
        name, now = canonical(name), self._clock.now
        known = self._known.get((host, name))
        if known is not None and now < known[1]:
            return known[0]
        record = self._records.get(name)
        if record is None:
            return None
        if record.ttl_ns:
            self._known[host, name] = record.addresses, now + record.ttl_ns
        return record.addresses

    def known(self, name: str, host: str) -> bool:
        """Return True if a host has the answer for a name in its cache, so that it asks nobody."""
        known = self._known.get((host, canonical(name)))
        return known is not None and self._clock.now < known[1]

    def name_of(self, address: str) -> str | None:
        """Return the name that was first set to an address."""
        return next((name for name, record in self._records.items() if address in record.addresses), None)

    def trouble(self, choices: Choices, name: str, host: str) -> tuple[float, bool]:
        """Return the environment's choice for a look-up: seconds that it takes, and True if it fails then."""
        lookup = Lookup(canonical(name), host)
        for permission in self.may_fail:
            if answer := permission.ask(choices, "dns.fail", 1 + len(FAILURES), lookup):
                return FAILURES[answer - 1][0], True
        for permission in self.may_be_slow:
            if answer := permission.ask(choices, "dns.slow", 1 + len(SLOW_S), lookup):
                return SLOW_S[answer - 1], False
        return 0, False

    def heal(self) -> None:
        """End all permissions: look-ups neither fail nor are slow any more."""
        self.may_fail.clear()
        self.may_be_slow.clear()

    def forget(self, host: str) -> None:
        """Clear the cache of a host, which has lost its power."""
        for key in [key for key in self._known if key[0] == host]:
            del self._known[key]


def canonical(name: str) -> str:
    """Return a name in lower case and without its last dot, which make no difference."""
    return name.lower().rstrip(".")


def failed_told(answer: int) -> str:
    """Return a phrase for an answer at a `dns.fail` point."""
    seconds, why = FAILURES[answer - 1]
    return f"failed after {seconds} s: {why}" if seconds else f"failed: {why}"
