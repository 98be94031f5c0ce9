"""`sim.dns`: what hosts find under a name, and what may become of a look-up."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import simloop
from simloop.choices.choices import Choices
from simloop.simulation.limits import Limits
from simloop.simulation.outcome import Outcome
from simloop.simulation.run import execute


def found(name: str, family: int = 0) -> list[str] | str:
    """The addresses of a name, or the name of the error."""
    try:
        return [str(entry[4][0]) for entry in socket.getaddrinfo(name, 80, family, socket.SOCK_STREAM)]
    except socket.gaierror as error:
        return next(
            known for known in dir(socket) if known.startswith("EAI_") and getattr(socket, known) == error.errno
        )


def test_names_have_several_addresses_in_the_order_of_the_test() -> None:
    async def main() -> None:
        sim = simloop.current()
        db = sim.host("db")
        assert found("db.internal") == "EAI_NONAME"
        sim.dns.set("db.internal", ["fd00::7", db, "192.0.2.1"])
        assert found("db.internal") == found("DB.Internal.") == ["fd00::7", "10.0.0.2", "fd00::2", "192.0.2.1"]
        assert found("db.internal", socket.AF_INET) == ["10.0.0.2", "192.0.2.1"]
        assert socket.gethostbyname_ex("db.internal") == ("db.internal", [], ["10.0.0.2", "192.0.2.1"])
        assert socket.gethostbyname("db.internal") == "10.0.0.2"
        sim.dns.set("db.internal", "db")
        assert found("db.internal") == ["10.0.0.2", "fd00::2"]
        sim.dns.set("v6", "::ffff:1.2.3.4")
        sim.dns.set("v6", "fd00::1")
        assert found("v6", socket.AF_INET) == "EAI_NODATA"
        with socket.socket() as sock, pytest.raises(socket.gaierror, match="No address associated"):
            sock.connect(("v6", 80))
        sim.dns.set("empty", [])
        assert found("empty") == "EAI_NODATA"
        sim.dns.remove("v6")
        assert found("v6") == "EAI_NONAME"

    simloop.run(main)


def test_a_name_of_a_host_can_be_set_to_another_one() -> None:
    async def main() -> Any:
        sim = simloop.current()
        sim.host("db")
        sim.dns.set("db", "192.0.2.1")
        moved = found("db")
        sim.dns.remove("db")
        return moved, found("db")

    assert simloop.run(main) == (["192.0.2.1"], ["10.0.0.2", "fd00::2"])


def test_hosts_remember_a_name_for_its_time_to_live() -> None:
    async def main() -> None:
        sim = simloop.current()
        sim.dns.set("db.internal", "192.0.2.1", ttl=30)
        assert found("db.internal") == ["192.0.2.1"]
        sim.dns.set("db.internal", "192.0.2.2", ttl=30)

        async def other() -> Any:
            return found("db.internal")

        assert found("db.internal") == ["192.0.2.1"]
        assert await sim.host("other").run(other) == ["192.0.2.2"]
        await asyncio.sleep(29)
        sim.dns.remove("db.internal")
        assert found("db.internal") == ["192.0.2.1"]
        await asyncio.sleep(1)
        assert found("db.internal") == "EAI_NONAME"

    simloop.run(main)


def test_a_host_without_power_remembers_nothing() -> None:
    async def main() -> Any:
        sim = simloop.current()
        host = sim.host("web")

        async def look() -> Any:
            return found("db.internal")

        sim.dns.set("db.internal", "192.0.2.1", ttl=3600)
        await host.run(look)
        sim.dns.set("db.internal", "192.0.2.2")
        host.crash()
        host.restart()
        return await host.run(look)

    assert simloop.run(main) == ["192.0.2.2"]


def test_reverse_look_ups() -> None:
    async def main() -> None:
        sim = simloop.current()
        sim.host("db")
        sim.dns.set("first.internal", ["10.0.0.2", "192.0.2.1"])
        sim.dns.set("second.internal", "192.0.2.1")
        assert socket.gethostbyaddr("10.0.0.2") == ("db", [], ["10.0.0.2"])
        assert socket.gethostbyaddr("192.0.2.1") == ("first.internal", [], ["192.0.2.1"])
        assert socket.getnameinfo(("192.0.2.1", 443), 0) == ("first.internal", "https")
        assert socket.getnameinfo(("192.0.2.1", 443), socket.NI_NUMERICHOST) == ("192.0.2.1", "https")
        assert socket.getnameinfo(("192.0.2.9", 1), 0) == ("192.0.2.9", "1")
        assert socket.getfqdn("192.0.2.1") == "first.internal"
        assert socket.getfqdn("10.0.0.2") == socket.getfqdn("db") == "db"
        assert socket.getfqdn("nobody") == "nobody"
        with pytest.raises(socket.herror):
            socket.gethostbyaddr("192.0.2.9")
        with pytest.raises(socket.gaierror):
            socket.getnameinfo(("192.0.2.9", 1), socket.NI_NAMEREQD)

    simloop.run(main)


def test_the_hosts_file_comes_first_once_the_run_has_written_it() -> None:
    async def main() -> None:
        sim = simloop.current()
        sim.dns.set("db.internal", "192.0.2.1")
        real = Path("/etc/hosts").read_text()
        assert found("vm") == "EAI_NONAME", "the machine's own file says nothing"
        Path("/etc/hosts").write_text(
            real
            + "# names of the test\n192.0.2.8 db.internal db # as ever\nfd00::8\tdb.internal\n192.0.2.9 localhost\n"
        )
        assert found("DB.internal") == ["192.0.2.8", "fd00::8"]
        assert found("db") == ["192.0.2.8"]
        assert socket.gethostbyaddr("192.0.2.8") == ("db.internal", ["db"], ["192.0.2.8"])
        assert socket.getfqdn("db") == "db.internal"

        async def elsewhere() -> Any:
            return found("db.internal")

        assert await sim.host("other").run(elsewhere) == ["192.0.2.1"]
        os.remove("/etc/hosts")
        assert found("db.internal") == ["192.0.2.1"]
        assert found("localhost") == ["127.0.0.1", "::1"]

    simloop.run(main)


def test_happy_eyeballs_go_on_with_the_next_address() -> None:
    async def main() -> tuple[float, Any]:
        sim = simloop.current()

        async def serve() -> None:
            async with await asyncio.start_server(lambda reader, writer: writer.close(), "0.0.0.0", 80):
                await asyncio.sleep(60)

        serving = asyncio.create_task(sim.host("web").run(serve))
        sim.host("gone").crash()
        await asyncio.sleep(1)
        sim.dns.set("web.internal", [sim.host("gone").ipv6, sim.host("gone").ip, sim.host("web").ip])
        began = sim.elapsed
        _, writer = await asyncio.open_connection("web.internal", 80, happy_eyeballs_delay=0.25)
        took, peer = sim.elapsed - began, writer.get_extra_info("peername")
        writer.close()
        await writer.wait_closed()
        serving.cancel()
        return round(took, 1), peer

    assert simloop.run(main) == (0.5, ("10.0.0.2", 80))


# --- look-ups that fail, or are slow ----------------------------------------------------------------


def run_with(main: Callable[[], Any], kind: str, value: int) -> Outcome:
    """A run in which the first point of a kind has an answer, and all others have none."""

    def decide(who: str, asked: str, number: int, n: int) -> int:
        return value if (asked, number) == (kind, 1) else 0

    outcome = execute(main, Choices(0, decide), Limits())
    if outcome.exception is not None:
        raise outcome.exception
    return outcome


async def looks_up_twice() -> list[Any]:
    sim = simloop.current()
    sim.dns.set("db.internal", "192.0.2.1")
    sim.dns.may_fail("db.internal")
    sim.dns.may_be_slow("DB.internal")
    results: list[Any] = []
    for _ in range(2):
        began = sim.elapsed
        try:
            infos: Any = await asyncio.get_running_loop().getaddrinfo("db.internal", 80)
            results.append((infos[0][4][0], round(sim.elapsed - began)))
        except socket.gaierror as error:
            results.append((error.args, round(sim.elapsed - began)))
    return results


AGAIN = (socket.EAI_AGAIN, "Temporary failure in name resolution")


@pytest.mark.parametrize(
    ("kind", "value", "first"),
    [
        ("dns.fail", 0, ("192.0.2.1", 0)),
        ("dns.fail", 1, (AGAIN, 0)),
        ("dns.fail", 2, (AGAIN, 10)),
        ("dns.slow", 1, ("192.0.2.1", 1)),
        ("dns.slow", 2, ("192.0.2.1", 5)),
    ],
)
def test_look_ups_fail_or_are_slow_as_often_as_declared(kind: str, value: int, first: Any) -> None:
    outcome = run_with(looks_up_twice, kind, value)
    assert outcome.value == [first, ("192.0.2.1", 0)]
    asked = [(who, number, n) for who, asked, number, n, _ in outcome.choices.recorded if asked == kind]
    assert asked == [("localhost:db.internal", number, 3) for number in (1, 2)[: 2 - (value > 0)]]


def test_what_is_known_without_asking_does_not_fail() -> None:
    async def main() -> None:
        sim = simloop.current()
        sim.dns.set("db.internal", "192.0.2.1", ttl=60)
        found("db.internal")
        sim.dns.may_fail(at_most=100)
        for name in ("localhost", "127.0.0.1", "db.internal", "a.localhost"):
            assert found(name) != "EAI_AGAIN"
        sim.network.heal()
        assert found("nobody") == "EAI_NONAME"

    outcome = run_with(main, "dns.fail", 1)
    assert not [kind for _, kind, *_ in outcome.choices.recorded if kind == "dns.fail"]


def test_a_failing_look_up_is_found_and_told() -> None:
    async def main() -> None:
        sim = simloop.current()
        sim.dns.set("db.internal", "192.0.2.1")
        sim.dns.may_fail()
        await asyncio.get_running_loop().getaddrinfo("db.internal", 80)

    failure = simloop.explore(main).failure
    assert failure is not None
    assert [point.kind for point in failure.schedule.deviations] == ["dns.fail"]
    assert "the look-up of db.internal on host localhost failed: the name server said that it had failed" in " ".join(
        failure.explanation.sentences
    )


def test_a_slow_look_up_is_found_and_told() -> None:
    async def main() -> None:
        sim = simloop.current()
        sim.dns.set("db.internal", "192.0.2.1")
        sim.dns.may_be_slow("db.internal")
        await asyncio.wait_for(asyncio.get_running_loop().getaddrinfo("db.internal", 80), 3)

    failure = simloop.explore(main).failure
    assert failure is not None
    assert "the look-up of db.internal on host localhost took 5 s" in " ".join(failure.explanation.sentences)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda dns: dns.set("db.internal", ["300.1.1.1"]), "'300.1.1.1' is neither an IP address nor a host"),
        (lambda dns: dns.set("db.internal", ["10.0.0.1", "nobody"]), "'nobody' is neither"),
        (lambda dns: dns.set("db.internal", [7]), "7 is neither"),
        (lambda dns: dns.set("", "10.0.0.1"), "'' is no name"),
        (lambda dns: dns.set("a b", "10.0.0.1"), "'a b' is no name"),
        (lambda dns: dns.set("a..b", "10.0.0.1"), "'a..b' is no name"),
        (lambda dns: dns.set("10.0.0.9", "10.0.0.1"), "'10.0.0.9' is an address, which nobody looks up"),
        (lambda dns: dns.set("localhost", "10.0.0.1"), "localhost is always the host itself"),
        (
            lambda dns: dns.set("db.internal", "10.0.0.1", ttl=-1),
            "ttl must be a number of seconds of at least 0, not -1",
        ),
        (lambda dns: dns.set("db.internal", "10.0.0.1", ttl="1"), "not '1'"),
        (lambda dns: dns.remove("db.internal"), "the name 'db.internal' was not set"),
        (lambda dns: dns.may_fail("db.internal", at_most=0), "at_most must be a whole number of at least 1, not 0"),
        (lambda dns: dns.may_be_slow(5), "5 is no name"),
    ],
)
def test_bad_input_for_names_is_told_in_one_line(call: Callable[[Any], Any], said: str) -> None:
    async def main() -> None:
        call(simloop.current().dns)

    with pytest.raises(simloop.ConfigurationError) as caught:
        simloop.run(main)
    message = str(caught.value)
    assert message.startswith(f"{__file__}:")
    assert said in message
    assert "\n" not in message
