"""What Docker's API has and Fairlead does not: each request names the feature that is missing, with status 501.

Where a client only looks whether there is something of a name (``docker inspect`` goes through all kinds), the answer
is a plain 404, and where it only wants something cleared away (``docker system prune``), there was nothing.
"""

from __future__ import annotations

from aiohttp import web

from fairlead.api.app import Handler, answer
from fairlead.errors import MissingFeature, NotFound, Unavailable

FEATURES: dict[str, str] = {
    "building images": "POST /build, POST /session, POST /grpc",
    "swarm mode": """
        GET /swarm, POST /swarm/init, POST /swarm/join, POST /swarm/update, GET /swarm/unlockkey,
        POST /swarm/unlock, GET /nodes, DELETE /nodes/{id}, POST /nodes/{id}/update, GET /services,
        POST /services/create, DELETE /services/{id}, POST /services/{id}/update, GET /services/{id}/logs, GET /tasks,
        GET /tasks/{id}/logs, GET /secrets, POST /secrets/create, DELETE /secrets/{id}, POST /secrets/{id}/update,
        GET /configs, POST /configs/create, DELETE /configs/{id}, POST /configs/{id}/update""",
    "managing plugins": """
        GET /plugins, GET /plugins/privileges, POST /plugins/pull, POST /plugins/create,
        DELETE /plugins/{name:.+}, POST /plugins/{name:.+}/enable, POST /plugins/{name:.+}/disable,
        POST /plugins/{name:.+}/upgrade, POST /plugins/{name:.+}/push, POST /plugins/{name:.+}/set""",
    "checkpointing containers": """
        GET /containers/{id}/checkpoints, POST /containers/{id}/checkpoints,
        DELETE /containers/{id}/checkpoints/{checkpoint}""",
}
"""Feature → the requests that need it."""

LOOKUPS: dict[str, str] = {
    "node": "GET /nodes/{id}",
    "service": "GET /services/{id}",
    "task": "GET /tasks/{id}",
    "secret": "GET /secrets/{id}",
    "config": "GET /configs/{id}",
    "plugin": "GET /plugins/{id:.+}/json",
}
"""Kind of object, of which there is none → the request that looks for one."""


def routes() -> list[web.RouteDef]:
    """The routes of this module."""
    return [
        *(_route(line, _refuse(feature)) for feature, lines in FEATURES.items() for line in lines.split(",")),
        *(_route(line, _not_there(kind)) for kind, line in LOOKUPS.items()),
        web.post("/build/prune", _prune_build),
        web.post("/swarm/leave", _leave_swarm),
    ]


def _route(line: str, handler: Handler) -> web.RouteDef:
    method, path = line.split()
    return web.route(method, path, handler)


def _refuse(feature: str) -> Handler:
    async def refuse(_: web.Request) -> web.StreamResponse:
        raise MissingFeature(f"{feature} is not supported by Fairlead")

    return refuse


def _not_there(kind: str) -> Handler:
    async def look(request: web.Request) -> web.StreamResponse:
        raise NotFound(f"No such {kind}: {request.match_info['id']} ({kind}s are not supported by Fairlead)")

    return look


async def _leave_swarm(_: web.Request) -> web.StreamResponse:
    raise Unavailable("This node is not part of a swarm: swarm mode is not supported by Fairlead")


async def _prune_build(_: web.Request) -> web.StreamResponse:
    return answer({"CachesDeleted": None, "SpaceReclaimed": 0})
