"""FastAPI, pydantic, uvicorn and httpx, all of them imported, made and asked inside the test, 100 times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

for library in ("fastapi", "httpx", "pydantic", "uvicorn"):
    pytest.importorskip(library, reason=f"{library} is not installed: pip install pytest-simloop[libraries]")

SUITE = """
import asyncio, sys

def test_of_another_kind():
    assert "fastapi" not in sys.modules

async def test_an_application():
    import httpx, uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Item(BaseModel):
        name: str
        price: float = 1.5

    app = FastAPI()

    @app.post("/items/{number}")
    async def create(number: int, item: Item) -> Item:
        await asyncio.sleep(0.01)
        return item.model_copy(update={"price": item.price * number})

    server = uvicorn.Server(uvicorn.Config(app, port=8000, log_config=None, ws="none", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.1)
    async with httpx.AsyncClient(base_url="http://127.0.0.1:8000") as client:
        answers = await asyncio.gather(*(client.post(f"/items/{n}", json={"name": "tea"}) for n in range(3)))
        assert [answer.json() for answer in answers] == [{"name": "tea", "price": 1.5 * n} for n in range(3)]
        assert (await client.post("/items/x", json={})).status_code == 422
    server.should_exit = True
    await serving
"""


@pytest.mark.parametrize("selected", ["test_an_application", "test_of_another_kind or test_an_application"])
def test_it_passes_the_first_time_as_later(tmp_path: Path, selected: str) -> None:
    (tmp_path / "test_app.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-Werror", "-v", "--sim", "-k", selected]
    child = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert child.returncode == 0, child.stdout
    assert "test_an_application PASSED (100 runs" in child.stdout
