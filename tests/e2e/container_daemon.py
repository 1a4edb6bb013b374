"""A daemon with nothing but engine, containers and one image made by hand, for the tests of containers.

The image's one layer is the directory `FAIRLEAD_TEST_LAYER`; its configuration is `FAIRLEAD_TEST_CONFIG` (JSON).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

from aiohttp import web

from fairlead.api import containers as api_containers
from fairlead.api import exec as api_exec
from fairlead.api.app import Daemon, answer, make_app
from fairlead.containers import Container, Containers
from fairlead.engine import KINDS, Engine
from fairlead.errors import NotFound
from fairlead.images import Image
from fairlead.kernel import Kernel
from fairlead.paths import Paths
from fairlead.plan.executor import Executor
from fairlead.store import Store

IMAGE = Image(id="ab" * 32, tags=("box:latest",), config=json.loads(os.environ["FAIRLEAD_TEST_CONFIG"]))


class OneImage:
    """Stands in for `fairlead.images.Images`."""

    def get(self, ref: str) -> Image:
        if ref in ("box", "box:latest") or IMAGE.id.startswith(ref.removeprefix("sha256:")):
            return IMAGE
        raise NotFound(f"No such image: {ref if ':' in ref else ref + ':latest'}")

    def lower_directories(self, image: Image) -> list[Path]:
        return [Path(os.environ["FAIRLEAD_TEST_LAYER"])]


class Faults:
    """Kills the daemon at the n-th boundary after it was armed, by ``POST /test/fault?n=``."""

    left = 0

    def __call__(self, point: str) -> None:
        if self.left and point != "commit-memory":
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)


def system_routes(faults: Faults) -> list[web.RouteDef]:
    async def ping(request: web.Request) -> web.StreamResponse:
        return web.Response(text="OK", headers={"Builder-Version": "1", "Docker-Experimental": "false"})

    async def version(request: web.Request) -> web.StreamResponse:
        return answer({"Version": "0", "ApiVersion": "1.51", "MinAPIVersion": "1.24", "Os": "linux", "Arch": "amd64"})

    async def fault(request: web.Request) -> web.StreamResponse:
        faults.left = int(request.query["n"])
        return answer()

    async def info(request: web.Request) -> web.StreamResponse:
        return answer({"OSType": "linux"})

    return [
        web.route("GET", "/_ping", ping),
        web.route("GET", "/version", version),
        web.route("GET", "/info", info),
        web.post("/test/fault", fault),
    ]


def note(paths: Paths, action: str, container: Container) -> None:
    """Keep the ids of all containers ever made, so that a test can look for what they left."""
    if action == "create":
        with (paths.state / "ids").open("a") as file:
            file.write(f"{container.id}\n")


async def main() -> None:
    logging.basicConfig(level="INFO")
    paths = Paths.from_environment()
    faults = Faults()
    paths.run.mkdir(parents=True, exist_ok=True)
    store = Store(paths.store, (*KINDS, Container))
    store.fault = faults
    executor = Executor(Kernel(), faults)
    engine = Engine(store, executor, paths)
    images: Any = OneImage()
    containers = Containers(store, paths, engine, images, executor)
    (paths.state / "ids").touch()
    containers.listeners.append(lambda action, container, _: note(paths, action, container))
    await asyncio.to_thread(engine.recover)
    await containers.recover()
    daemon = Daemon(paths=paths, engine=engine, images=images, containers=containers)
    runner = web.AppRunner(
        make_app([*api_containers.routes(daemon), *api_exec.routes(daemon), *system_routes(faults)]), access_log=None
    )
    await runner.setup()
    paths.socket.unlink(missing_ok=True)
    await web.UnixSite(runner, str(paths.socket)).start()
    print("ready", flush=True)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await stopping.wait()
    await containers.close()
    await runner.cleanup()
    store.close()


if __name__ == "__main__":
    asyncio.run(main())
