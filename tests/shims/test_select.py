"""`select` and `selectors` over simulated sockets."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import selectors
import socket
import threading
import time

import pytest

import simloop


def pair() -> tuple[socket.socket, socket.socket]:
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    listener.close()
    return client, server


def test_poll() -> None:
    with simloop.world() as sim:
        client, server = pair()
        poll = select.poll()
        poll.register(client, select.POLLIN)
        assert poll.poll(0) == []
        assert poll.poll(2500) == []
        assert round(sim.elapsed, 1) == 2.5
        server.send(b"x")
        assert poll.poll() == [(client.fileno(), select.POLLIN)]
        poll.modify(client, select.POLLOUT)
        assert poll.poll() == [(client.fileno(), select.POLLOUT)]
        fd = client.fileno()
        client.close()
        assert poll.poll() == [(fd, select.POLLNVAL)]
        poll.unregister(fd)
        with pytest.raises(KeyError):
            poll.unregister(fd)
        server.close()


def test_select() -> None:
    with simloop.world() as sim:
        client, server = pair()
        assert select.select([client], [], [], 3) == ([], [], [])
        assert round(sim.elapsed) == 3
        assert select.select([client], [client, server], [client]) == ([], [client, server], [])
        server.close()
        assert select.select([client.fileno()], [], []) == ([client.fileno()], [], [])
        client.close()
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            select.select([1 << 20], [], [])
        with pytest.raises(ValueError, match="negative"):
            select.select([client], [], [])


@pytest.mark.parametrize("kind", [selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector])
def test_selectors(kind: type[selectors.BaseSelector]) -> None:
    with simloop.world() as sim, kind() as selector:
        client, server = pair()
        selector.register(client, selectors.EVENT_READ, "data")

        def answer() -> None:
            time.sleep(7)
            server.send(b"x")

        threading.Thread(target=answer).start()
        assert selector.select(1) == []
        [(key, events)] = selector.select()
        assert (key.data, events) == ("data", selectors.EVENT_READ)
        assert round(sim.elapsed) == 7
        selector.unregister(client)
        client.close()
        server.close()


def test_a_real_descriptor_escapes() -> None:
    read, write = os.pipe()
    try:
        told = f"waiting for the real descriptor {read} .*: open the file or socket inside the run"
        with pytest.raises(simloop.EscapedSimulationError, match=told), simloop.world():
            select.select([read], [], [], 0)
    finally:
        os.close(read)
        os.close(write)


def test_a_wait_looks_at_the_descriptors_of_its_own_process() -> None:
    """Also when another one blocks meanwhile, and the world goes on inside of its call."""

    async def main() -> int:
        sim = simloop.current()
        reading, writing = os.pipe()

        def wait() -> int:
            waiting = select.poll()
            waiting.register(reading, select.POLLIN)
            return len(waiting.poll())

        async def other() -> None:
            await asyncio.sleep(0.1)
            time.sleep(0.1)

        found = asyncio.create_task(asyncio.to_thread(wait))
        await sim.host("other").run(other)
        os.write(writing, b"x")
        return await found

    assert simloop.run(main, blocking="ignore") == 1
