"""TLS in a run: what `ssl.SSLSocket` does over simulated sockets is what it does on Linux, and OpenSSL's generator is
the seed's."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
import threading
import warnings
from asyncio import sslproto
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
from tls_programs import PROGRAMS, much_by_three_threads

import simloop
from simloop.shims import libraries
from simloop.shims.ssl import entropy

HERE = Path(__file__).parent


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_sockets_do_as_on_linux(program: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    real = program()

    async def main() -> Any:
        return program()

    for seed in range(3):
        assert simloop.run(main, seed=seed, blocking="ignore") == real


def test_threads_share_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def main() -> Any:
        return much_by_three_threads()

    for seed in range(3):
        assert simloop.run(main, seed=seed, blocking="ignore") == [True, True]


def test_the_bundle_of_certifi_is_known_without_a_call_of_its_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "cacert.pem"
    bundle.write_text("no certificate")
    package, core = ModuleType("certifi"), ModuleType("certifi.core")
    core.where = lambda: str(bundle)  # type: ignore[attr-defined]
    where = package.where = mock.Mock(side_effect=AssertionError)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "certifi", package)
    monkeypatch.setitem(sys.modules, "certifi.core", core)

    async def main() -> list[str]:
        # The worlds' own authority in place of what the bundle holds.
        return [str(found["subject"]) for found in ssl.create_default_context(cafile=str(bundle)).get_ca_certs()]

    (subject,) = simloop.run(main)
    assert "simloop" in subject
    assert not where.mock_calls


# --- the generator ----------------------------------------------------------------------------------


async def talk() -> list[tuple[int, str]]:
    """What a client and a server write: sizes, and bytes in hexadecimal digits."""
    records: list[bytes] = []
    real = sslproto.SSLProtocol._process_outgoing  # type: ignore[attr-defined]

    def process_outgoing(self: Any) -> None:
        write = self._transport.write
        self._transport.write = lambda data: (records.append(bytes(data)), write(data))
        try:
            real(self)
        finally:
            del self._transport.write

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    sslproto.SSLProtocol._process_outgoing = process_outgoing  # type: ignore[attr-defined]
    try:
        context = simloop.current().tls.server_context("localhost")
        async with await asyncio.start_server(echo, "localhost", 443, ssl=context):
            reader, writer = await asyncio.open_connection("localhost", 443, ssl=True)
            writer.write(b"hello\n")
            await reader.readline()
            writer.close()
            await writer.wait_closed()
            await asyncio.sleep(1)
    finally:
        sslproto.SSLProtocol._process_outgoing = real  # type: ignore[attr-defined]
    assert len(records) > 6
    # The record of the session tickets has the real time in it, encrypted.
    tickets = max(range(3, len(records)), key=lambda number: len(records[number]))
    return [(len(data), "" if number == tickets else data.hex()) for number, data in enumerate(records)]


def test_the_bytes_are_the_seeds() -> None:
    assert simloop.run(talk, seed=1) == simloop.run(talk, seed=1) != simloop.run(talk, seed=2)


def test_the_bytes_are_the_same_in_every_process() -> None:
    code = "import simloop, test_tls; [print(simloop.run(test_tls.talk, seed=seed)) for seed in range(3)]"
    found = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), "PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in (1, 2)
    ]  # fmt: skip
    assert found[0] == found[1] == "".join(f"{simloop.run(talk, seed=seed)}\n" for seed in range(3))


def test_what_the_program_draws_does_not_depend_on_tls() -> None:
    async def draws() -> bytes:
        return os.urandom(4)

    async def talks_and_draws() -> bytes:
        await talk()
        return os.urandom(4)

    assert simloop.run(talks_and_draws, seed=1) == simloop.run(draws, seed=1)


def drawn() -> bytes:
    """What OpenSSL draws for itself, as here for the keys of tickets."""
    return bytes(entropy._real_bytes(16))


def test_openssl_draws_for_real_after_a_run_and_in_other_threads() -> None:
    outside: list[bytes] = []

    def inside() -> tuple[bytes, bytes]:
        go = threading.Event()
        thread = threading.Thread(target=lambda: (go.wait(), outside.append(drawn())))
        thread.start()
        number = len(outside)

        async def main() -> tuple[bytes, bytes]:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            first = drawn()
            go.set()
            while len(outside) == number:
                os.sched_yield()
            return first, drawn()

        try:
            return simloop.run(main, seed=5)
        finally:
            go.set()
            thread.join()

    first, second = inside(), inside()
    assert first == second
    assert len({*first, *outside, drawn(), drawn()}) == 6


def test_a_run_without_tls_leaves_the_generator_alone() -> None:
    before = entropy._get()

    async def main() -> Any:
        return entropy._get()

    assert simloop.run(main) == before
    assert libraries._endings == []


def test_a_generator_that_cannot_be_replaced_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entropy, "_set", None)
    monkeypatch.setattr(entropy, "_told", False)

    async def main() -> int:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        assert [warning.category for warning in caught] == [simloop.RealLibraryWarning]
        message = str(caught[0].message)
        assert f"{__file__}:" in message
        assert "\n" not in message
        return len(await talk())

    assert simloop.run(main) > 6
