"""``/fairlead/topology``, ``…/rules``, ``…/doctor``, ``…/explain``: the network as it is, what ails or makes it."""

from __future__ import annotations

import asyncio

from aiohttp import web

from fairlead import __version__
from fairlead.api.app import Daemon, Explained, answer, flag
from fairlead.errors import NotFound
from fairlead.see import doctor, mend, rebuild, rules
from fairlead.see.checks import CHECKS
from fairlead.see.doctor import Finding, Patient
from fairlead.see.ground import Ground


def routes(daemon: Daemon) -> list[web.RouteDef]:
    """The routes of this module."""

    async def topology(request: web.Request) -> web.Response:
        found = await asyncio.to_thread(ground(daemon).topology, everything=flag(request, "all"))
        return answer(found)

    async def firewall(request: web.Request) -> web.Response:
        path, namespaces = request.query.get("namespace", ""), daemon.engine.kernel.namespaces
        if path and not namespaces.exists(path):
            raise NotFound(f"there is no network namespace at {path}")
        return answer(await asyncio.to_thread(rules.read, namespaces, path))

    async def examine(_: web.Request) -> web.Response:
        return answer(await asyncio.to_thread(findings))

    async def cure(request: web.Request) -> web.Response:
        if flag(request, "explain"):
            raise Explained(await asyncio.to_thread(lines))
        async with daemon.mending:
            await asyncio.to_thread(repair)
        return answer(await asyncio.to_thread(findings))

    async def explain(request: web.Request) -> web.Response:
        found = await asyncio.to_thread(rebuild.lines, ground(daemon), request.match_info["ref"])
        return answer({"Lines": found})

    def findings() -> list[Finding]:
        here = Finding(check="daemon", result="ok", sentence=f"it runs, in version {__version__}")
        return [here, *doctor.examine(Patient(ground(daemon)), CHECKS)]

    def lines() -> list[str]:
        patient = Patient(ground(daemon))
        return mend.lines(patient, doctor.examine(patient, CHECKS))

    def repair() -> None:
        mend.mend(daemon.engine, daemon.names, lambda: Patient(ground(daemon)))

    return [
        web.get("/fairlead/topology", topology),
        web.get("/fairlead/rules", firewall),
        web.get("/fairlead/doctor", examine),
        web.post("/fairlead/doctor", cure),
        web.get("/fairlead/explain/{ref}", explain),
    ]


def ground(daemon: Daemon) -> Ground:
    """What the daemon's lookers stand on."""
    engine = daemon.engine
    return Ground(paths=daemon.paths, kernel=engine.kernel, store=engine.store, planner=engine.planner)
