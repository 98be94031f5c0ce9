from __future__ import annotations

import asyncio
import contextlib

import pytest
from careless import ForgetsItsVote, ReadsAlone
from raft import FOLDER, Address, Node, call

import simloop

NAMES = ["a", "b", "c"]
SECONDS = 15


class Cluster:
    """Three nodes on three hosts, or as three processes on one, and what is known of them."""

    def __init__(self, kind: type[Node], hosts: list[simloop.SimHost]) -> None:
        self.kind = kind
        self.hosts = dict(zip(NAMES, hosts, strict=True))
        self.addresses: dict[str, Address] = {}
        for port, (name, host) in enumerate(self.hosts.items(), 7000):
            self.addresses[name] = (host.ip, port)
            host.fs.write_tree({f"{FOLDER}/{name}": {}})
        self.leaders: dict[int, set[str]] = {}
        #: The last number that was put.
        self.done = 0

    def elected(self, term: int, name: str) -> None:
        self.leaders.setdefault(term, set()).add(name)

    async def keep_running(self, name: str) -> None:
        """Starts a node whenever its host has power."""

        async def node() -> None:
            await self.kind(name, self.addresses, self.elected).run()

        while True:
            with contextlib.suppress(simloop.HostCrashedError):
                await self.hosts[name].run(node)
            await asyncio.sleep(0.1)
            self.hosts[name].restart()

    async def write(self) -> None:
        for value in range(1, 5):
            while not any([(await call(to, 1, kind="put", value=value)).get("done") for to in self.addresses.values()]):
                await asyncio.sleep(0.5)
            self.done = value
            await asyncio.sleep(1)

    async def read(self) -> None:
        while True:
            for name, address in self.addresses.items():
                done = self.done
                found = (await call(address, 1, kind="get")).get("value", done)
                assert found >= done, f"{done} was put, and {name} still answers {found}"
            await asyncio.sleep(1)

    async def keeps_its_promises(self) -> None:
        writing = asyncio.create_task(self.write())
        tasks = [asyncio.create_task(task) for task in (*map(self.keep_running, NAMES), self.read())]
        try:
            for _ in range(SECONDS):
                await asyncio.wait([*tasks, writing], timeout=1, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    if task.done():
                        task.result()
                for term, names in self.leaders.items():
                    assert len(names) == 1, f"{' and '.join(sorted(names))} lead in term {term}"
                if writing.done():
                    break
        finally:
            for task in (*tasks, writing):
                task.cancel()
            for host in self.hosts.values():
                host.crash()
            await asyncio.gather(*tasks, writing, return_exceptions=True)


async def survives_a_partition(sim: simloop.Sim, kind: type[Node]) -> None:
    """The network may be cut between each host and the others, once."""
    hosts = [sim.host(name) for name in NAMES]
    cluster = Cluster(kind, hosts)
    for host in hosts:
        sim.network.may_partition(host.name, [name for name in NAMES if name != host.name])
    await cluster.keeps_its_promises()


async def survives_a_power_cut(sim: simloop.Sim, kind: type[Node]) -> None:
    """All three have one power supply."""
    host = sim.host("rack")
    cluster = Cluster(kind, [host] * 3)
    host.may_crash()
    await cluster.keeps_its_promises()


@pytest.mark.parametrize("survives", [survives_a_partition, survives_a_power_cut])
async def test_raft(sim, survives):
    await survives(sim, Node)


async def test_a_mistake_with_a_partition(sim):
    await survives_a_partition(sim, ReadsAlone)


async def test_a_mistake_with_a_power_cut(sim):
    await survives_a_power_cut(sim, ForgetsItsVote)
