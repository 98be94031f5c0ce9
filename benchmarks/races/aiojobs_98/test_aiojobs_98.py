"""Does a scheduler of jobs get through them, also when they come all at once?

A job that waits for a place in the queue of pending ones is counted as active; then no pending job is started when
an active one ends, and all later ones wait for ever. https://github.com/aio-libs/aiojobs/issues/98: in aiojobs 1.0.0;
fixed in 1.1.0.
"""

from __future__ import annotations

import asyncio

import aiojobs

MAILS = 5


async def test_every_mail_is_sent():
    # The one way to make one that both versions know.
    scheduler = await aiojobs.create_scheduler(limit=1, pending_limit=1)
    sent = asyncio.Queue()

    async def send_mail(address: str) -> None:
        await asyncio.sleep(0.012)
        sent.put_nowait(address)

    async def sign_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = (await reader.readline()).decode().strip()
        await scheduler.spawn(send_mail(address))
        writer.close()

    async def user(number: int) -> None:
        await asyncio.sleep(0.01 * number)
        reader, writer = await asyncio.open_connection("127.0.0.1", 8000)
        writer.write(b"user%d@example.com\n" % number)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(sign_up, "127.0.0.1", 8000)
    async with asyncio.timeout(60):
        await asyncio.gather(*[user(number) for number in range(MAILS)])
        addresses = {await sent.get() for _ in range(MAILS)}
    assert addresses == {f"user{number}@example.com" for number in range(MAILS)}
    server.close()
    await scheduler.close()
