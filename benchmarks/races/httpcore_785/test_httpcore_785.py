"""Is a pool still good for requests after one of them took too long?

A request that is given up at the wrong moment leaves its connection in the pool, neither in use nor idle. Once all
are, every request ends with `PoolTimeout`, though nothing is going on. https://github.com/encode/httpcore/issues/785:
in httpcore 1.0.2; fixed in 1.0.3.
"""

from __future__ import annotations

import anyio
import httpcore
from http_server import start_server


async def test_a_request_after_a_slow_one_is_answered():
    server = await start_server("127.0.0.1", 8000)
    async with httpcore.AsyncConnectionPool(max_connections=1) as pool:

        async def get(path: str) -> bytes:
            url = f"http://127.0.0.1:8000{path}"
            response = await pool.request("GET", url, extensions={"timeout": {"pool": 5}})
            return response.content

        with anyio.move_on_after(0.05):  # a page does not wait for its weather report
            assert await get("/weather") == b"/weather"
        assert await get("/news") == b"/news"
    server.close()
