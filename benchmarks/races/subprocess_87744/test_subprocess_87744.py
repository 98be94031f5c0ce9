"""Does somebody who gives a process so much time, and then ends it, learn how it ended?

`Process.terminate` polls first, and takes the exit status of a process that has just ended by itself from asyncio's own
watcher, which then says 255.
https://github.com/python/cpython/issues/87744: in CPython up to 3.12; fixed in 3.13.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal


async def test_the_exit_code_of_a_backup_is_its_own(sim):
    sim.program("pg_dump", takes=0.99, returncode=3)
    process = await asyncio.create_subprocess_exec("pg_dump")
    try:
        code = await asyncio.wait_for(process.wait(), 1)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        code = await process.wait()
    assert code in (3, -signal.SIGTERM)
