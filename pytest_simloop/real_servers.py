"""Diagnosis of failures for lack of a real server: sockets of a run can only connect to sockets of the same run.

A fixture of wider scope is set up once, in the real world, and so is a server or container that it starts. That a
connection to it is refused is a limit of the simulation. Only failing tests are examined: one that expects a connection
to be refused passes, whatever listens on the machine.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_simloop import internals
from simloop.errors import EscapedSimulationError, SimulationError, causes
from simloop.explore.signature import signature_of
from simloop.kernel.net.addresses import is_loopback

if TYPE_CHECKING:
    import pytest

    from simloop.world.world import World

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
# TCP_LISTEN in include/net/tcp_states.h.
_LISTENING = "0A"


def asked_for_real_server(item: pytest.Function, world: World, error: BaseException) -> EscapedSimulationError | None:
    """Return the error to report for a run that failed because it cannot connect to a server on the real machine; None
    if the failure `error` has another cause."""
    refused = world.root.host.ports.refused
    if not refused:
        return None
    found = _listening()
    port = next((port for ip, port in refused if is_loopback(ip) and port in found), None)
    if port is None:
        return None
    fixture = _fixture_with(item, port)
    if fixture is None and not any(_may_come_of_refusal(cause) for cause in causes(error)):
        return None
    server = "a server" if fixture is None else f"the server of fixture {fixture!r}"
    scope = "in the test, or in a fixture" if fixture is None else "in a fixture"
    raised = signature_of(error)
    place = f"{raised.file}:{raised.line}: " if raised.file else ""
    escape = EscapedSimulationError(
        f"{place}{server} that listens on the real port {port} is outside of the simulation: "
        f"start it {scope} of function scope, so that it is simulated, too"
    )
    escape.__cause__ = error
    return escape.with_traceback(error.__traceback__)


def _may_come_of_refusal(error: BaseException) -> bool:
    """Return True for an error that a refused connection may cause: the refusal, several refusals in one exception
    (`asyncio.create_connection`), or a timeout."""
    if isinstance(error, (TimeoutError, SimulationError)):
        return True
    return isinstance(error, OSError) and (error.errno == errno.ECONNREFUSED or "Connect call failed" in str(error))


def _listening() -> set[int]:
    """Return the TCP ports on which the real machine accepts connections from itself."""
    ports = set()
    for table in _TABLES:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state, *_ = line.split()
            if state == _LISTENING:
                ports.add(int(local.rpartition(":")[2], 16))
    return ports


def _fixture_with(item: pytest.Function, port: int) -> str | None:
    """Return the name of the fixture of wider scope whose value contains the port number; None if there is none."""
    for name in internals.wide_fixtures(item):
        value = internals.fixture_value(item, name)
        if any(re.search(rf"\b{port}\b", text) for text in _texts(value)):
            return name
    return None


def _texts(value: Any) -> Iterator[str]:
    for part in (value, *getattr(value, "__dict__", {}).values()):
        with contextlib.suppress(Exception):  # of somebody's own repr()
            yield repr(part)
