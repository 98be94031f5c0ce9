"""python-zeroconf: multicast DNS over simulated UDP, in the groups of the hosts' network."""

from __future__ import annotations

import asyncio
import functools
import socket
from typing import Any

import pytest

pytest.importorskip("zeroconf", reason="zeroconf is not installed: pip install pytest-simloop[libraries]")

from harness import check, digests_elsewhere
from sizes import examples
from zeroconf import InterfaceChoice, IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

import simloop

KIND = "_printer._tcp.local."


def own_address() -> str:
    return simloop.current().host(socket.gethostname()).ip


def on_all_interfaces() -> AsyncZeroconf:
    return AsyncZeroconf(interfaces=InterfaceChoice.All, ip_version=IPVersion.All)


def on_one_interface() -> AsyncZeroconf:
    return AsyncZeroconf(interfaces=[own_address()])


async def announce(make: Any, name: str, port: int) -> None:
    """Offers a service for 20 seconds, and says goodbye."""
    info = AsyncServiceInfo(
        KIND, f"{name}.{KIND}", port=port, parsed_addresses=[own_address()], properties={"paper": "A4"},
        server=f"{name}.local.",
    )  # fmt: skip
    async with make() as zeroconf:
        await (await zeroconf.async_register_service(info))
        await asyncio.sleep(20)
        await (await zeroconf.async_unregister_service(info))


async def discovery(make: Any = on_one_interface) -> list[Any]:
    """Two printers are found by a browser, resolved, and gone in the end."""
    sim = simloop.current()
    changes: set[tuple[str, str]] = set()
    found: list[Any] = []
    resolving: list[asyncio.Task[None]] = []

    async def resolve(zeroconf: Zeroconf, name: str) -> None:
        info = AsyncServiceInfo(KIND, name)
        assert await info.async_request(zeroconf, 3000)
        found.append((name.partition(".")[0], info.parsed_addresses(), info.port, info.properties))

    def changed(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        changes.add((name.partition(".")[0], state_change.name))
        if state_change is ServiceStateChange.Added:
            resolving.append(asyncio.create_task(resolve(zeroconf, name)))

    printers = [
        asyncio.create_task(sim.host(name).run(functools.partial(announce, make, name, port)))
        for name, port in (("laser", 631), ("inkjet", 9100))
    ]
    async with make() as zeroconf:
        browser = AsyncServiceBrowser(zeroconf.zeroconf, KIND, handlers=[changed])
        await asyncio.gather(*printers)
        await asyncio.sleep(5)
        await asyncio.gather(*resolving)
        await browser.async_cancel()
    return [sorted(changes), sorted(found)]


FOUND = [
    [("inkjet", "Added"), ("inkjet", "Removed"), ("laser", "Added"), ("laser", "Removed")],
    [("inkjet", ["10.0.0.3"], 9100, {b"paper": b"A4"}), ("laser", ["10.0.0.2"], 631, {b"paper": b"A4"})],
]


def test_services_are_found_and_go() -> None:
    """On all interfaces, of IPv4 and IPv6, which ifaddr tells."""
    check(functools.partial(discovery, on_all_interfaces), FOUND, range(examples(20)))


def test_other_process_same_digests() -> None:
    """On one interface: it takes several in the order of a set of strings."""
    assert simloop.run(discovery) == FOUND
    first, second = (digests_elsewhere("test_zeroconf", "discovery", hash_seed, range(3)) for hash_seed in (1, 2))
    assert len(first) == 3
    assert first == second
