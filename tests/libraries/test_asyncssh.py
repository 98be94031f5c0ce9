"""asyncssh, client and server: keys, commands and files. Its keys are cryptography's, of other bytes in each run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("asyncssh", reason="asyncssh is not installed: pip install pytest-simloop[libraries]")

import asyncssh
from harness import check
from sizes import examples

HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")
USER_KEY = asyncssh.generate_private_key("ssh-ed25519")


async def handle(process: asyncssh.SSHServerProcess[str]) -> None:
    if process.command == "shout":
        async for line in process.stdin:
            process.stdout.write(line.upper())
    else:
        process.stderr.write(f"{process.command}: not found")
        process.exit(127)
        return
    process.exit(0)


async def session() -> list[Any]:
    users = asyncssh.import_authorized_keys(USER_KEY.export_public_key().decode())
    server = await asyncssh.create_server(
        asyncssh.SSHServer, "localhost", 22, server_host_keys=[HOST_KEY], authorized_client_keys=users,
        process_factory=handle, sftp_factory=True,
    )  # fmt: skip
    known = asyncssh.import_known_hosts(f"localhost {HOST_KEY.export_public_key().decode()}")
    found: list[Any] = []
    async with asyncssh.connect(
        "localhost", username="me", client_keys=[USER_KEY], known_hosts=known, config=None
    ) as client:
        shouted, missing = await asyncio.gather(client.run("shout", input="one\ntwo\n"), client.run("nothing"))
        found += [shouted.stdout, shouted.exit_status, missing.stderr, missing.exit_status]
        async with client.start_sftp_client() as files:
            async with files.open("/tmp/file", "wb") as file:
                await file.write(b"x" * 50_000)
            found.append((await files.stat("/tmp/file")).size)
    try:
        await asyncssh.connect("localhost", username="me", client_keys=[HOST_KEY], known_hosts=known, config=None)
    except asyncssh.PermissionDenied as error:
        found.append(type(error).__name__)
    server.close()
    await server.wait_closed()
    return found


EXPECTED = ["ONE\nTWO\n", 0, "nothing: not found", 127, 50_000, "PermissionDenied"]


def test_session() -> None:
    check(session, EXPECTED, range(examples(20)))
