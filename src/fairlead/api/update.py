"""``/containers/{id}/update``: other limits, another restart policy (Docker Engine API v1.51)."""

from __future__ import annotations

from aiohttp import web

from fairlead.api.app import Daemon, answer, body, flag
from fairlead.api.block_spec import discard_unsupported
from fairlead.api.container_spec import UNSET_LIMITS, restart_policy
from fairlead.api.create_body import UpdateBody
from fairlead.api.limits import limits
from fairlead.containers.limits import changed
from fairlead.containers.limits import update as change


def routes(daemon: Daemon) -> list[web.RouteDef]:
    """The route of this module."""

    async def update(request: web.Request) -> web.StreamResponse:
        container = daemon.containers.get(request.match_info["ref"])
        wanted = await body(request, UpdateBody)
        warnings = discard_unsupported(wanted)
        new = limits(wanted, container.spec.limits)
        restart = container.spec.restart
        if (wanted.get("RestartPolicy") or {}).get("Name"):
            restart = restart_policy(wanted)
        if flag(request, "explain"):
            document = changed(container.spec.limits, new) if container.is_running else {}
            words = daemon.containers.place(container).crun("update", "--resources=-", container.id)
            return answer({"Lines": [f"{' '.join(words)} <<< '{document}'"] if document else []})
        await change(daemon.containers, container.id, new, restart)
        warnings += [f"{name} is not supported: it has no effect" for name in UNSET_LIMITS.split() if wanted.get(name)]
        return answer({"Warnings": warnings or None})

    return [web.post("/containers/{ref}/update", update)]
