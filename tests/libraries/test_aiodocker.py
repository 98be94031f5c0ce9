"""aiodocker over a unix socket, against a server of aiohttp that answers as Docker's would."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("aiodocker", reason="aiodocker is not installed: pip install pytest-simloop[libraries]")

import aiodocker
from aiohttp import web
from harness import check
from sizes import examples

PATH = "/run/docker.sock"


def docker() -> web.Application:
    containers: dict[str, dict[str, Any]] = {}

    async def version(request: web.Request) -> web.Response:
        return web.json_response({"Version": "27.0.0", "ApiVersion": "1.46"})

    async def create(request: web.Request) -> web.Response:
        container = {"Id": f"{len(containers):064}", "Image": (await request.json())["Image"], "State": "created"}
        containers[container["Id"]] = container
        return web.json_response({"Id": container["Id"], "Warnings": []}, status=201)

    async def start(request: web.Request) -> web.Response:
        containers[request.match_info["id"]]["State"] = "running"
        return web.Response(status=204)

    async def listed(request: web.Request) -> web.Response:
        return web.json_response(list(containers.values()))

    async def show(request: web.Request) -> web.Response:
        try:
            return web.json_response(containers[request.match_info["id"]])
        except KeyError:
            return web.json_response({"message": "No such container"}, status=404)

    async def pull(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for number in range(5):
            await response.write(json.dumps({"status": f"layer {number}"}).encode() + b"\r\n")
        await response.write_eof()
        return response

    application = web.Application()
    application.router.add_get("/version", version)
    application.router.add_post("/{v}/containers/create", create)
    application.router.add_post("/{v}/containers/{id}/start", start)
    application.router.add_get("/{v}/containers/json", listed)
    application.router.add_get("/{v}/containers/{id}/json", show)
    application.router.add_post("/{v}/images/create", pull)
    return application


async def containers() -> list[Any]:
    runner = web.AppRunner(docker())
    await runner.setup()
    await web.UnixSite(runner, PATH).start()
    async with aiodocker.Docker(url=f"unix://{PATH}") as client:
        pulled = [entry["status"] async for entry in client.images.pull("busybox", stream=True)]
        container = await client.containers.create({"Image": "busybox"})
        await container.start()
        found = [(await one.show())["State"] for one in await client.containers.list()]
        try:
            await client.containers.get("missing")
        except aiodocker.DockerError as error:
            found.append(error.status)
    await runner.cleanup()
    return [len(pulled), found]


def test_containers() -> None:
    check(containers, [5, ["running", 404]], range(examples(20)))
