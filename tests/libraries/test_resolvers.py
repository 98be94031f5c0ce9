"""Resolvers of their own: dnspython's over simulated UDP, and aiodns, which asks in C."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("dns", reason="dnspython is not installed: pip install pytest-simloop[libraries]")

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.reversename
import dns.rrset
from harness import check, digests_elsewhere

import simloop

RECORDS = {
    ("db.internal.", "A"): ["10.0.0.9", "10.0.0.10"],
    ("db.internal.", "AAAA"): ["fd00::9"],
    ("_http._tcp.internal.", "SRV"): ["0 5 80 web.internal."],
}


class NameServer(asyncio.DatagramProtocol):
    """A name server that says nothing to the first query."""

    def __init__(self) -> None:
        self.queries = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.queries += 1
        if self.queries == 1:
            return
        query = dns.message.from_wire(data)
        asked = query.question[0]
        response = dns.message.make_response(query)
        records = RECORDS.get((str(asked.name), dns.rdatatype.to_text(asked.rdtype)))
        if records is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
        else:
            response.answer.append(dns.rrset.from_text(asked.name, 60, "IN", asked.rdtype, *records))
        self.transport.sendto(response.to_wire(), address)


async def serve() -> None:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(NameServer, local_addr=("0.0.0.0", 53))
    try:
        await asyncio.sleep(600)
    finally:
        transport.close()


async def queries() -> list[Any]:
    sim = simloop.current()
    serving = asyncio.create_task(sim.host("ns").run(serve))
    await asyncio.sleep(1)
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = [sim.host("ns").ip]
    resolver.timeout = 2
    began = sim.elapsed
    first = await resolver.resolve("db.internal", "A")
    took = sim.elapsed - began
    others = await asyncio.gather(
        resolver.resolve("db.internal", "AAAA"), resolver.resolve("_http._tcp.internal", "SRV")
    )
    with pytest.raises(dns.resolver.NXDOMAIN):
        await resolver.resolve("nobody.internal")
    serving.cancel()
    await asyncio.wait([serving])
    # A server of dnspython tells records in an order that it draws.
    return [took > 2, sorted(str(record) for answer in (first, *others) for record in answer)]


def test_dnspython_over_udp() -> None:
    check(queries, [True, ["0 5 80 web.internal.", "10.0.0.10", "10.0.0.9", "fd00::9"]], range(10))


def test_dnspython_has_the_same_digests_elsewhere() -> None:
    first, second = (digests_elsewhere("test_resolvers", "queries", hash_seed, range(4)) for hash_seed in (1, 2))
    assert first == second


def test_aiodns_escapes_with_the_remedy() -> None:
    aiodns = pytest.importorskip("aiodns")

    async def main() -> None:
        aiodns.DNSResolver()

    with pytest.raises(simloop.EscapedSimulationError, match=r"pycares\.Channel .* loop\.getaddrinfo, or by dnspython"):
        simloop.run(main)
