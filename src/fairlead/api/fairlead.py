"""``/fairlead/…``: what Docker has no word for.  Namespaces, links, and taking everything away."""

from __future__ import annotations

import asyncio
import shlex
from ipaddress import ip_interface
from typing import Any

import msgspec
from aiohttp import web

from fairlead.api.app import Daemon, Explained, answer, body_as, flag, perform
from fairlead.api.shapes import owners
from fairlead.containers.explain import Explainer
from fairlead.containers.inspect import rfc3339
from fairlead.dns import ADDRESS
from fairlead.errors import Conflict, FairleadError, Invalid, NotFound
from fairlead.kernel.cgroups import Cgroup
from fairlead.model import Endpoint, Interface, Link, LinkEnd, Phase, Sandbox
from fairlead.plan.runtime import usual_parent


class AddNamespace(msgspec.Struct, rename="pascal"):
    """The body of ``POST /fairlead/netns``."""

    name: str


class WantedEnd(msgspec.Struct, rename="pascal"):
    """One end of a wanted link; `sandbox` is a namespace, a container, or empty for the host."""

    interface: str
    sandbox: str = ""
    addresses: list[str] = []


class AddLink(msgspec.Struct, rename="pascal"):
    """The body of ``POST /fairlead/links``."""

    ends: list[WantedEnd]


def routes(daemon: Daemon) -> list[web.RouteDef]:
    """The routes of this module."""
    catalog, planner = daemon.engine.catalog, daemon.engine.planner

    async def namespaces(request: web.Request) -> web.Response:
        all_ = flag(request, "all")
        view = View(daemon)
        return answer(
            [
                view.sandbox(sandbox)
                for sandbox in sorted(catalog.sandboxes(), key=lambda sandbox: sandbox.name)
                if sandbox.phase is Phase.READY and (all_ or not sandbox.container)
            ]
        )

    async def namespace(request: web.Request) -> web.Response:
        return answer(View(daemon).sandbox(find_sandbox(daemon, request.match_info["name"])))

    async def add_namespace(request: web.Request) -> web.Response:
        wanted = await body_as(request, AddNamespace)
        sandbox = await perform(daemon, request, planner.open_sandbox, wanted.name)
        return answer(View(daemon).sandbox(sandbox), 201)

    async def remove_namespace(request: web.Request) -> web.Response:
        sandbox = find_sandbox(daemon, request.match_info["name"])
        if sandbox.container:
            raise Conflict(
                f"the namespace belongs to container {View(daemon).owner[sandbox.id][1] or sandbox.container[:12]}: "
                "stop or remove the container"
            )
        await perform(daemon, request, planner.close_sandbox, sandbox.id)
        return answer(status=204)

    async def links(_: web.Request) -> web.Response:
        view = View(daemon)
        return answer([view.link(link) for link in catalog.links() if link.phase is Phase.READY])

    async def add_link(request: web.Request) -> web.Response:
        wanted = await body_as(request, AddLink)
        if len(wanted.ends) != 2:
            raise Invalid(f"a link has two ends, not {len(wanted.ends)}")
        one, other = (link_end(daemon, end) for end in wanted.ends)
        link = await perform(daemon, request, planner.add_link, one, other)
        return answer(View(daemon).link(link), 201)

    async def remove_link(request: web.Request) -> web.Response:
        await perform(daemon, request, planner.remove_link, request.match_info["ref"])
        return answer(status=204)

    async def base(_: web.Request) -> web.Response:
        """What the daemon makes at its start, as shell lines."""
        raise Explained(await asyncio.to_thread(daemon.engine.explain_base))

    async def reset(request: web.Request) -> web.Response:
        everything = flag(request, "all")
        if flag(request, "explain"):
            raise Explained(await explain_reset(daemon, everything))
        await daemon.mending.acquire()
        try:
            removed = await take_away(daemon, everything)
        except BaseException:
            daemon.mending.release()
            raise
        daemon.stop()
        return answer(removed)

    return [
        web.get("/fairlead/netns", namespaces),
        web.post("/fairlead/netns", add_namespace),
        web.get("/fairlead/netns/{name}", namespace),
        web.delete("/fairlead/netns/{name}", remove_namespace),
        web.get("/fairlead/links", links),
        web.post("/fairlead/links", add_link),
        web.delete("/fairlead/links/{ref:.*}", remove_link),
        web.get("/fairlead/base", base),
        web.post("/fairlead/reset", reset),
    ]


def find_sandbox(daemon: Daemon, ref: str) -> Sandbox:
    """The sandbox `ref`: a namespace's name or id, or a running container's name or id."""
    catalog = daemon.engine.catalog
    try:
        return catalog.sandbox(ref)
    except NotFound as error:
        try:
            container = daemon.containers.get(ref)
        except NotFound:
            raise error from None
    if sandbox := daemon.containers.sharing.sandbox(container):
        return sandbox
    if container.is_running:
        raise Conflict(f"container {container.name} is in the host's network namespace")
    raise Conflict(f"container {container.name} is not running: it has no network namespace")


def link_end(daemon: Daemon, wanted: WantedEnd) -> LinkEnd:
    """A wanted end as the planner takes it."""
    sandbox = find_sandbox(daemon, wanted.sandbox).id if wanted.sandbox else ""
    return LinkEnd(sandbox=sandbox, ifname=wanted.interface, addresses=tuple(map(_interface, wanted.addresses)))


def _interface(text: str) -> Interface:
    try:
        if "/" in text:
            return ip_interface(text)
    except ValueError:
        pass
    raise Invalid(f"invalid address {text!r}: an address and a prefix length are needed, such as 10.0.0.1/24")


async def take_away(daemon: Daemon, everything: bool) -> dict[str, int]:
    """Remove every container, then all that the engine has in the kernel and the store; tells how many there were.

    With `everything` also the images and the volumes with a name, which would else stay for the next daemon.

    One container that cannot be removed does not keep the others, but then the rest stays and nothing is said done.
    """
    engine, catalog = daemon.engine, daemon.engine.catalog
    containers = daemon.containers.list()
    counts = {
        "Containers": len(containers),
        "Links": len(catalog.links()),
        "Namespaces": sum(not sandbox.container for sandbox in catalog.sandboxes()),
        "Networks": sum(not network.predefined for network in catalog.networks()),
    }
    errors: list[str] = []
    for container in containers:
        try:
            await daemon.containers.remove(container.id, force=True, volumes=True)
        except NotFound:
            pass  # removed by itself, or by somebody else, meanwhile
        except FairleadError as error:
            errors.append(str(error))
    if errors:
        raise FairleadError(f"not everything could be removed: {'; '.join(errors)}")
    if everything:
        counts["Images"] = len(daemon.images.list())
        await daemon.images.prune(all_unused=True, in_use=daemon.containers.using_image)
        names, _ = await daemon.containers.volumes.prune(lambda _: True)
        counts["Volumes"] = len(names)
    await asyncio.to_thread(engine.reset)
    await asyncio.to_thread(daemon.names.end)
    if parent := usual_parent():
        Cgroup(parent).remove_empty()
    return counts


async def explain_reset(daemon: Daemon, everything: bool) -> list[str]:
    """The lines that take away what `take_away` does."""
    containers = daemon.containers.list()
    explainer = Explainer(daemon.containers)
    lines = [line for container in containers for line in explainer.end(container.id)]
    lines += await asyncio.to_thread(daemon.engine.explain_reset)
    away = [daemon.paths.container_state(container.id) for container in containers]
    away += [daemon.paths.images, daemon.paths.volumes] if everything else []
    return [*lines, *([f"rm -rf {shlex.join(map(str, away))}"] if away else [])]


class View:
    """The catalog as JSON; made anew for each request, so that one answer shows one state."""

    def __init__(self, daemon: Daemon) -> None:
        catalog = daemon.engine.catalog
        self.daemon = daemon
        self.networks = {network.id: network for network in catalog.networks()}
        self.owner = owners(daemon)
        self.users = daemon.containers.sharing.all_users()
        self.endpoints: dict[str, list[Endpoint]] = {}
        for endpoint in catalog.endpoints():
            if endpoint.phase is Phase.READY:
                self.endpoints.setdefault(endpoint.sandbox, []).append(endpoint)
        self.links = [link for link in catalog.links() if link.phase is Phase.READY]

    def sandbox(self, sandbox: Sandbox) -> dict[str, Any]:
        """A namespace with what is in it."""
        name = self.owner.get(sandbox.id, ("", ""))[1] if sandbox.container else ""
        return {
            "Id": sandbox.id,
            "Name": sandbox.name,
            "Path": sandbox.path,
            "Container": sandbox.container,
            "ContainerName": name,
            "Containers": [user.name for user in self.users.get(sandbox.container, ())],
            "Created": rfc3339(sandbox.created),
            "Resolver": ADDRESS if sandbox.names else "",
            "Endpoints": [self.endpoint(endpoint) for endpoint in self.endpoints.get(sandbox.id, [])],
            "Links": [
                self.link(link) for link in self.links if sandbox.id in (link.ends[0].sandbox, link.ends[1].sandbox)
            ],
        }

    def endpoint(self, endpoint: Endpoint) -> dict[str, Any]:
        """A place in a network, and whose it is."""
        network = self.networks.get(endpoint.network)
        id_, name = self.owner.get(endpoint.sandbox, (endpoint.sandbox, ""))
        return {
            "Id": endpoint.id,
            "Network": endpoint.network,
            "NetworkName": network.name if network else "",
            "Sandbox": endpoint.sandbox,
            "Owner": id_,
            "OwnerName": name,
            "Interface": endpoint.ifname,
            "HostInterface": endpoint.host_ifname,
            "Addresses": [str(address) for address in endpoint.addresses],
            "Gateways": [str(address) for address in endpoint.gateways],
            "MacAddress": endpoint.mac,
            "Aliases": list(endpoint.aliases),
            "Ports": [
                {
                    "HostIp": str(port.host_ip),
                    "HostPort": port.host_port,
                    "Protocol": port.protocol,
                    "Port": port.port,
                }
                for port in endpoint.ports
            ],
        }

    def link(self, link: Link) -> dict[str, Any]:
        """A link, with the names of what it joins; the host has an empty one."""
        return {
            "Id": link.id,
            "Ends": [
                {
                    "Sandbox": end.sandbox,
                    "SandboxName": self.owner.get(end.sandbox, ("", ""))[1],
                    "Interface": end.ifname,
                    "Addresses": [str(address) for address in end.addresses],
                }
                for end in link.ends
            ],
        }
