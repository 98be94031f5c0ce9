"""Does a queue between a loop and threads say when all its items are done?

`task_done` in a thread tells the loop only a moment later that all is done; an item that is put in between is
forgotten, and `async_q.join` then spins without letting the loop go on. https://github.com/aio-libs/janus/issues/715:
in janus 1.1.0; fixed in 1.2.0.
"""

from __future__ import annotations

import asyncio

import janus
import pytest

# How many blocks each picture of each album has.
ALBUMS = [(6, 6), (8, 8, 8)] * 2


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while request := await reader.readline():
        writer.write(b"block " + request)
    writer.close()


async def fetch(blocks: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    picture = b""
    for block in range(blocks):
        writer.write(b"%d\n" % block)
        picture += await reader.readline()
    return picture


async def resize_all(pictures: janus.Queue[bytes], sizes: list[int]) -> None:
    def resize(picture: bytes) -> None:
        sizes.append(len(picture))
        pictures.sync_q.task_done()

    while True:
        picture = await pictures.async_q.get()
        await asyncio.to_thread(resize, picture)  # work for a processor does not belong in the loop


@pytest.mark.usefixtures("no_endless_step")
async def test_join_waits_until_every_picture_is_resized():
    server = await asyncio.start_server(serve, "127.0.0.1", 8000)
    reader, writer = await asyncio.open_connection("127.0.0.1", 8000)
    pictures: janus.Queue[bytes] = janus.Queue()
    sizes: list[int] = []
    resizer = asyncio.create_task(resize_all(pictures, sizes))
    for album in ALBUMS:
        for blocks in album:
            await pictures.async_q.put(await fetch(blocks, reader, writer))
        await pictures.async_q.join()
        assert len(sizes) == len(album)
        sizes.clear()
    resizer.cancel()
    pictures.close()
    await pictures.wait_closed()
    writer.close()
    server.close()
