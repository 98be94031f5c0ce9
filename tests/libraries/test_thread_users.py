"""Libraries that hand work to threads: under every seed they do what they do on the real machine."""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import queue
import time
from pathlib import Path
from typing import Any

import pytest
from harness import check

import simloop

for library in ("aiosqlite", "apscheduler", "asgiref", "fastapi", "httpx", "janus", "sqlalchemy", "uvicorn"):
    pytest.importorskip(library, reason=f"{library} is not installed: pip install pytest-simloop[libraries]")


def test_asgiref_sync_to_async() -> None:
    from asgiref.sync import async_to_sync, sync_to_async

    async def main() -> Any:
        running: list[int] = []
        most = 0

        def work(number: int) -> int:
            nonlocal most
            running.append(number)
            most = max(most, len(running))
            time.sleep(0.01)
            running.remove(number)
            return number

        async def back(number: int) -> int:
            await asyncio.sleep(0.01)
            return number + 1

        sensitive = await asyncio.gather(*(sync_to_async(work)(n) for n in range(3)))
        assert most == 1, "thread-sensitive code has one thread"
        free = await asyncio.gather(*(sync_to_async(work, thread_sensitive=False)(n) for n in range(3)))
        return sensitive, free, await sync_to_async(lambda: async_to_sync(back)(1))()

    check(main, ([0, 1, 2], [0, 1, 2], 2))


def test_janus() -> None:
    import janus

    async def main() -> list[int]:
        jobs: janus.Queue[int] = janus.Queue(maxsize=2)
        results: janus.Queue[int] = janus.Queue()

        def work() -> None:
            for _ in range(6):
                results.sync_q.put(jobs.sync_q.get(timeout=5) * 2)
                jobs.sync_q.task_done()

        worker = asyncio.create_task(asyncio.to_thread(work))
        for number in range(6):
            await jobs.async_q.put(number)
        await jobs.async_q.join()
        await worker
        found = [await results.async_q.get() for _ in range(6)]
        for used in (jobs, results):
            used.close()
            await used.wait_closed()
        return found

    check(main, [0, 2, 4, 6, 8, 10])


def test_apscheduler() -> None:
    from apscheduler.schedulers.asyncio import AsyncIOScheduler

    async def main() -> tuple[list[str], list[str]]:
        scheduler = AsyncIOScheduler(timezone="UTC")
        coroutines: list[str] = []
        functions: list[str] = []

        async def coroutine() -> None:
            coroutines.append("tick")

        scheduler.add_job(coroutine, "interval", seconds=10)
        scheduler.add_job(functions.append, "interval", ["tock"], hours=1)
        scheduler.start()
        await asyncio.sleep(35)
        scheduler.remove_all_jobs()
        scheduler.add_job(functions.append, "date", ["once"])
        await asyncio.sleep(1)
        scheduler.shutdown()
        return coroutines, functions

    check(main, (["tick"] * 3, ["once"]))


def test_queue_listener() -> None:
    async def main() -> list[str]:
        seen: list[str] = []

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                seen.append(record.getMessage())

        records: queue.Queue[logging.LogRecord] = queue.Queue()
        listener = logging.handlers.QueueListener(records, Handler())
        log = logging.Logger("program", logging.INFO)
        log.addHandler(logging.handlers.QueueHandler(records))
        listener.start()
        for number in range(4):
            log.info("message %d", number)
            await asyncio.sleep(0.001)
        await asyncio.to_thread(listener.stop)
        return seen

    check(main, [f"message {number}" for number in range(4)])


def test_starlette_file_responses(tmp_path: Path) -> None:
    import httpx
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import FileResponse, PlainTextResponse
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

    path = tmp_path / "report.txt"
    places = ("/read", "/static/report.txt", "/static/no")

    def write(request: Request) -> PlainTextResponse:
        path.write_text(request.query_params["text"] * 1000)
        return PlainTextResponse("written")

    def read(request: Request) -> FileResponse:
        return FileResponse(path)

    async def main() -> Any:
        routes = [Route("/write", write), Route("/read", read), Mount("/static", StaticFiles(directory=tmp_path))]
        config = uvicorn.Config(Starlette(routes=routes), port=8000, log_config=None, ws="none", lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        async with httpx.AsyncClient(base_url="http://127.0.0.1:8000") as client:
            await client.get("/write", params={"text": "tea "})
            answers = await asyncio.gather(*(client.get(place) for place in places))
            part = await client.get("/read", headers={"range": "bytes=4-6"})
        server.should_exit = True
        await serving
        return [(answer.status_code, len(answer.content)) for answer in answers], part.text

    check(main, ([(200, 4000), (200, 4000), (404, 9)], "tea"), range(20))
    assert not path.exists()


def test_a_lost_update_of_two_requests_that_share_a_row() -> None:
    """FastAPI behind uvicorn, asked by httpx: each request reads a row and writes it back. What makes the two one
    after the other passes."""
    import fastapi
    import httpx
    import uvicorn
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import StaticPool

    async def main(serialised: bool) -> None:
        engine = create_async_engine("sqlite+aiosqlite:///:memory:", poolclass=StaticPool)
        async with engine.begin() as connection:
            await connection.execute(text("create table account (balance integer)"))
            await connection.execute(text("insert into account values (0)"))
        app = fastapi.FastAPI()
        lock = asyncio.Lock()

        async def add() -> None:
            async with engine.connect() as connection:
                balance = (await connection.execute(text("select balance from account"))).scalar_one()
                await connection.execute(text("update account set balance = :new"), {"new": balance + 1})
                await connection.commit()

        @app.post("/add")
        async def handle() -> None:
            if serialised:
                async with lock:
                    await add()
            else:
                await add()

        config = uvicorn.Config(app, port=8000, log_config=None, ws="none", lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        async with httpx.AsyncClient(base_url="http://127.0.0.1:8000") as client:
            answers = await asyncio.gather(client.post("/add"), client.post("/add"))
        assert [answer.status_code for answer in answers] == [200, 200]
        server.should_exit = True
        await serving
        async with engine.connect() as connection:
            balance = (await connection.execute(text("select balance from account"))).scalar_one()
        await engine.dispose()
        assert balance == 2, "an update is lost"

    async def racing() -> None:
        await main(serialised=False)

    async def serialised() -> None:
        await main(serialised=True)

    failure = simloop.explore(racing, runs=30).failure
    assert failure is not None
    assert "an update is lost" in str(failure.exception)
    assert simloop.explore(serialised, runs=50).failure is None
