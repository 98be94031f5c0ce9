"""Name service of a network (DNS): records set by the test, caches of hosts, and look-ups that fail or are slow."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from simloop.choices.choices import Choices
    from simloop.kernel.clock import Clock

#: Meaning of the answers at a choice point `dns.fail`, in order: seconds until the look-up fails, and the reason. A
#: resolver asks twice, and waits 5 s for an answer each time (resolv.conf(5)).
FAILURES = ((0, "the name server said that it had failed"), (10, "the name server did not answer"))
#: Seconds that a look-up takes by the answers after 0 at a choice point `dns.slow`: a slow server; a lost query.
SLOW_S = (1, 5)


class _Record(NamedTuple):
    """Address record of a name: its addresses, and its time to live in nanoseconds."""

    addresses: tuple[str, ...]
    ttl_ns: int


class Lookup(NamedTuple):
    """Subject of the choice points at which a look-up may fail or be slow, for reports: the name, and the host that
    looks it up."""

    name: str
    host: str


class Permission:
    """Permission for the environment to let look-ups of some names (an empty set: of all names) fail or be slow,
    `budget` times at most."""

    def __init__(self, names: frozenset[str], budget: int) -> None:
        self._names = names
        self._budget = budget

    def ask(self, choices: Choices, kind: str, n: int, lookup: Lookup) -> int:
        """Return the environment's answer for a look-up, at a choice point of the kind `kind` with `n` answers; 0 if
        this permission does not apply."""
        if not self._budget or (self._names and lookup.name not in self._names):
            return 0
        answer = choices.choose(f"{lookup.host}:{lookup.name}", kind, n, lookup)
        self._budget -= answer != 0
        return answer


class Names:
    """DNS records of a network, other than those of its hosts' own names, and each host's cache of look-ups."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._records: dict[str, _Record] = {}
        # What hosts remember, by host and name, and until when.
        self._known: dict[tuple[str, str], tuple[tuple[str, ...], int]] = {}
        self.may_fail: list[Permission] = []
        self.may_be_slow: list[Permission] = []

    def set(self, name: str, addresses: tuple[str, ...], ttl_ns: int) -> None:
        """Set the addresses of a name, in the order in which look-ups return them, and their time to live in
        nanoseconds."""
        self._records[canonical(name)] = _Record(addresses, ttl_ns)

    def remove(self, name: str) -> bool:
        """Remove the record of a name. Returns True if there was one."""
        return self._records.pop(canonical(name), None) is not None

    def find(self, name: str, host: str) -> tuple[str, ...] | None:
        """Return the addresses of a name for a look-up by `host`: from its cache, until the record's time to live is
        over, else from the record. None if the name is unknown."""
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
        """Return True if `host` has the name in its cache, so that a look-up sends no query."""
        known = self._known.get((host, canonical(name)))
        return known is not None and self._clock.now < known[1]

    def name_of(self, address: str) -> str | None:
        """Return the first name whose record has this address; None if there is none."""
        return next((name for name, record in self._records.items() if address in record.addresses), None)

    def trouble(self, choices: Choices, name: str, host: str) -> tuple[float, bool]:
        """Ask at choice points if a look-up fails or is slow. Returns the seconds that it takes, and True if it fails
        then."""
        lookup = Lookup(canonical(name), host)
        for permission in self.may_fail:
            if answer := permission.ask(choices, "dns.fail", 1 + len(FAILURES), lookup):
                return FAILURES[answer - 1][0], True
        for permission in self.may_be_slow:
            if answer := permission.ask(choices, "dns.slow", 1 + len(SLOW_S), lookup):
                return SLOW_S[answer - 1], False
        return 0, False

    def heal(self) -> None:
        """Remove all permissions: look-ups neither fail nor are slow any more."""
        self.may_fail.clear()
        self.may_be_slow.clear()

    def forget(self, host: str) -> None:
        """Clear the cache of a host that has lost power."""
        for key in [key for key in self._known if key[0] == host]:
            del self._known[key]


def canonical(name: str) -> str:
    """Return a name in lower case and without a trailing dot, since neither makes a difference."""
    return name.lower().rstrip(".")


def failed_told(answer: int) -> str:
    """Return a phrase for reports on an answer at a choice point `dns.fail`."""
    seconds, why = FAILURES[answer - 1]
    return f"failed after {seconds} s: {why}" if seconds else f"failed: {why}"
