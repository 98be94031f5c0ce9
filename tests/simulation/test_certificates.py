"""`sim.tls`: the authority of a world, who trusts it, and at which time."""

from __future__ import annotations

import asyncio
import datetime
import os
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import simloop
from simloop.shims.ssl import authority

DAY = datetime.timedelta(days=1)


def moment(year: int, month: int = 1, day: int = 1) -> datetime.datetime:
    return datetime.datetime(year, month, day, tzinfo=datetime.UTC)


async def served(server: ssl.SSLContext, client: Any, name: str = "localhost") -> Any:
    """What the two sides know of one another once a client has connected."""
    seen: list[Any] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peercert"))
        writer.write(b"hello")
        writer.close()

    async with await asyncio.start_server(answer, "localhost", 443, ssl=server):
        reader, writer = await asyncio.open_connection("localhost", 443, ssl=client, server_hostname=name)
        data = await reader.read()
        peer = writer.get_extra_info("peercert")
        writer.close()
        if not data:
            raise ConnectionError("the server has hung up")
        return peer["subjectAltName"], [cert and cert["subjectAltName"] for cert in seen]


def test_default_contexts_trust_it_and_no_name_but_the_certificates() -> None:
    async def main() -> None:
        tls = simloop.current().tls
        server = tls.server_context("localhost", "db.internal", "*.web.internal", "10.0.0.1", "::1")
        assert await served(server, True) == (
            (
                ("DNS", "localhost"), ("DNS", "db.internal"), ("DNS", "*.web.internal"), ("IP Address", "10.0.0.1"),
                ("IP Address", "0:0:0:0:0:0:0:1"),
            ),
            [None],
        )  # fmt: skip
        for name in ("DB.internal", "a.web.internal", "10.0.0.1", "::1"):
            await served(server, ssl.create_default_context(), name)
        for name in ("web.internal", "10.0.0.2", "other"):
            with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
                await served(server, True, name)

    simloop.run(main)


def test_who_trusts_another_authority_does_not_trust_this_one(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem(("somebody",)))

    async def main() -> None:
        with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
            await served(
                simloop.current().tls.server_context("localhost"),
                ssl.create_default_context(cafile=str(tmp_path / "ca.pem")),
            )

    simloop.run(main)


def test_nobody_trusts_it_outside_of_runs() -> None:
    outside = ssl.create_default_context()

    async def main() -> list[int]:
        context = ssl.create_default_context()
        return [store.cert_store_stats()["x509_ca"] for store in (context, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))]

    assert simloop.run(main) == [1, 0]
    subjects = [dict(item[0] for item in cert["subject"]) for cert in outside.get_ca_certs()]  # type: ignore[misc]
    assert all(subject.get("organizationName") != "simloop" for subject in subjects)


def test_the_program_says_in_its_environment_whom_it_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trusted = tmp_path / "own.pem"
    trusted.write_bytes(authority.certificate_pem(("somebody",)))
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))

    async def main() -> int:
        return ssl.create_default_context().cert_store_stats()["x509"]

    assert simloop.run(main) == 2
    trusted.unlink()
    assert simloop.run(main) == 1


def test_clients_show_certificates() -> None:
    async def main() -> Any:
        tls = simloop.current().tls
        server = tls.server_context("localhost")
        server.verify_mode = ssl.CERT_REQUIRED
        server.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        found = await served(server, tls.client_context("worker-1"))
        with pytest.raises(ConnectionError):  # in TLS 1.3 the server judges after the client has begun
            await served(server, True)
        return found

    assert simloop.run(main) == ((("DNS", "localhost"),), [(("DNS", "worker-1"),)])


def test_files_in_the_run_do_as_well() -> None:
    async def main() -> Any:
        tls = simloop.current().tls
        certificate = tls.certificate("localhost")
        Path("both.pem").write_bytes(certificate.pem)
        Path("ca.pem").write_bytes(tls.ca_pem)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain("both.pem")
        return await served(server, ssl.create_default_context(cafile="ca.pem"))

    assert simloop.run(main) == ((("DNS", "localhost"),), [None])


def test_dates_are_judged_by_the_worlds_clock() -> None:
    async def main() -> None:
        sim = simloop.current()
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        sim.tls.certificate("localhost", valid_from=moment(2030), valid_until=moment(2031)).load_into(server)
        client = ssl.create_default_context()
        with pytest.raises(ssl.SSLCertVerificationError, match="not yet valid"):
            await served(server, client)
        sim.clock.set(moment(2030, 6))
        await served(server, client)
        sim.clock.set(moment(2031, 2))
        with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
            await served(server, client)

    simloop.run(main)


def test_each_host_has_its_own_clock() -> None:
    async def main() -> str:
        sim = simloop.current()
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        sim.tls.certificate("localhost", valid_until=moment(2040)).load_into(server)
        late = sim.host("late")
        late.clock.set(moment(2041))

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async def connect() -> str:
            try:
                await asyncio.open_connection("10.0.0.1", 443, ssl=True, server_hostname="localhost")
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
            return ""

        async with await asyncio.start_server(answer, "0.0.0.0", 443, ssl=server):
            return await late.run(connect)

    assert simloop.run(main) == "certificate has expired"


def test_a_context_of_before_the_run_is_judged_by_the_real_clock_after_it() -> None:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    client = ssl.create_default_context(cadata=authority.AUTHORITY_PEM.decode())
    old = authority.certificate_pem(("localhost",), moment(2001), moment(2002))

    async def main() -> None:
        simloop.current().clock.set(moment(2001, 2))
        simloop.Certificate(("localhost",), old, authority.KEY_PEM).load_into(server)
        await served(server, client)

    simloop.run(main)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        asyncio.run(served_for_real(server, client))


async def served_for_real(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(incoming, outgoing, server_hostname="localhost"),
        server.wrap_bio(outgoing, incoming, server_side=True),
    )
    for _ in range(3):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_a_power_cut_under_tls_ends_its_connections() -> None:
    async def main() -> None:
        sim = simloop.current()
        host = sim.host("db")

        async def serve() -> None:
            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while line := await reader.readline():
                    writer.write(line)

            async with await asyncio.start_server(answer, "0.0.0.0", 443, ssl=sim.tls.server_context("db")):
                await asyncio.sleep(60)

        serving = asyncio.create_task(host.run(serve))
        await asyncio.sleep(1)
        reader, writer = await asyncio.open_connection("db", 443, ssl=True)
        writer.write(b"x\n")
        assert await reader.readline() == b"x\n"
        host.crash()
        with pytest.raises(simloop.HostCrashedError):
            await serving
        host.restart()
        writer.write(b"x\n")
        with pytest.raises(ConnectionResetError):
            await reader.readline()
        writer.close()
        with pytest.raises(ConnectionResetError):
            await writer.wait_closed()

    simloop.run(main)


def test_and_nothing_that_complains_at_the_end_of_the_interpreter() -> None:
    # What a power cut has stopped is kept until then.
    code = "import test_certificates as t; t.test_a_power_cut_under_tls_ends_its_connections()"
    ended = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )  # fmt: skip
    assert ended.stderr == ""


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda tls: tls.certificate(), 'a certificate needs a name, as in sim.tls.certificate("db.internal")'),
        (lambda tls: tls.server_context(), "a certificate needs a name"),
        (lambda tls: tls.certificate(""), "'' is neither a host name nor an IP address"),
        (lambda tls: tls.certificate("a", "b c"), "'b c' is neither"),
        (lambda tls: tls.certificate("a.*"), "'a.*' is neither"),
        (lambda tls: tls.certificate(7), "7 is neither"),
        (lambda tls: tls.certificate("x" * 300), "is neither"),
        (lambda tls: tls.certificate("a", valid_from=datetime.datetime(2020, 1, 1)), "two datetimes with a time zone"),
        (lambda tls: tls.certificate("a", valid_until="2020"), "with a time zone, not '2020'"),
        (lambda tls: tls.certificate("a", valid_from=moment(2020), valid_until=moment(2020)), "never is"),
    ],
)
def test_bad_input_is_told_in_one_line(call: Callable[[Any], Any], said: str) -> None:
    async def main() -> None:
        call(simloop.current().tls)

    with pytest.raises(simloop.ConfigurationError) as caught:
        simloop.run(main)
    message = str(caught.value)
    assert message.startswith(f"{__file__}:")
    assert said in message
    assert "\n" not in message


def test_names_are_spelled_as_certificates_spell_them() -> None:
    spelled = [authority.spelled(name) for name in ("DB.Internal.", "bücher.test", "0:0::1", "my_host", "*.a")]
    assert spelled == ["db.internal", "xn--bcher-kva.test", "::1", "my_host", "*.a"]


def test_without_the_extra_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)

    async def main() -> None:
        simloop.current().tls.certificate("without.the.extra")

    with pytest.raises(
        simloop.ConfigurationError, match=r"test_certificates.py:\d+: sim.tls needs cryptography .*\[tls\]"
    ):
        simloop.run(main)
    # Whom to trust is known without it.
    assert authority.AUTHORITY_PEM.startswith(b"-----BEGIN CERTIFICATE-----")
