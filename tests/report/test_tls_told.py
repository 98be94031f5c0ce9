"""What travels by TLS is told as what it is, and not as bytes that nobody can read."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

import simloop
from simloop.report import sentences


async def reset_somewhere() -> None:
    sim = simloop.current()

    async def serve() -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while line := await reader.readline():
                    writer.write(line)
            writer.close()

        server = await asyncio.start_server(echo, "0.0.0.0", 443, ssl=sim.tls.server_context("db"))
        async with server:
            await asyncio.sleep(60)

    serving = asyncio.create_task(sim.host("db").run(serve))
    await asyncio.sleep(1)
    sim.network.may_reset("localhost", "db")
    reader, writer = await asyncio.open_connection("db", 443, ssl=True)
    writer.write(b"x\n")
    await reader.readline()
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(1)
    serving.cancel()
    await asyncio.wait([serving])


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\x16\x03\x01\x02\x00" + bytes(512), "a handshake of TLS (517 bytes)"),
        (b"\x17\x03\x03\x00\x17" + bytes(23), "a record of TLS (28 bytes)"),
        (b"\x15\x03\x03\x00\x02ab", "an alert of TLS (7 bytes)"),
        (b"\x17\x04", "'\\x17\\x04' (2 bytes)"),
        (b"GET /", "'GET /' (5 bytes)"),
    ],
)
def test_records_are_told_by_their_kinds(data: bytes, told: str) -> None:
    assert sentences._preview(data) == told


def test_a_reset_of_tls_is_told() -> None:
    told = []
    for seed in range(5):  # which packet is the one, the seed decides
        failure = simloop.explore(reset_somewhere, runs=30, seed=seed).failure
        assert failure is not None
        told.append(" ".join(failure.explanation.sentences))
    assert all("was reset" in text for text in told)
    assert any("of TLS (" in text for text in told)
