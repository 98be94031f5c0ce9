"""Libraries that the session's very first run imports: it goes as all later ones."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("httpx", reason="httpx is not installed: pip install pytest-simloop[libraries]")
pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install pytest-simloop[libraries]")

# In a process of its own, in which none of it was imported.
PROGRAM = """
import asyncio, random, sys
import simloop
from simloop.choices.choices import Choices
from simloop.simulation.limits import Limits
from simloop.simulation.run import execute

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})

async def main():
    import httpx, uvicorn  # uvicorn draws entropy when it is imported
    server = uvicorn.Server(uvicorn.Config(app, port=8000, log_config=None, ws="none", lifespan="off"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.1)
    async with httpx.AsyncClient() as client:
        response = await client.get("http://127.0.0.1:8000")
    server.should_exit = True
    await task
    return response.status_code, random.random()

for name in ("httpx", "uvicorn", "anyio", "h11"):
    assert name not in sys.modules
for _ in range(3):
    outcome = execute(main, Choices(), Limits())
    print(outcome.choices.digest, outcome.value, outcome.exception)
"""


def test_the_first_run_imports_them_and_goes_as_the_others() -> None:
    child = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=dict(os.environ), capture_output=True, text=True, timeout=120, check=True
    )
    first, *others = child.stdout.splitlines()
    assert " (204, 0." in first
    assert others == [first, first]
