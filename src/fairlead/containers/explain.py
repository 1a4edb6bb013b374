"""What an operation on a container would do, as the lines that a person would type.  Changes nothing."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal

from msgspec.structs import replace

from fairlead.containers import plans
from fairlead.containers.execs import ExecSpec
from fairlead.containers.isolation import surroundings
from fairlead.containers.record import Container, ContainerSpec, Status
from fairlead.containers.service import Containers, signal_number
from fairlead.errors import NotFound, NotModified
from fairlead.model import Endpoint
from fairlead.plan import Plan


class Explainer:
    """Explains operations; each method raises what the operation would raise."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    def create(self, name: str, spec: ContainerSpec) -> list[str]:
        """The lines of a whole run of this container: sandbox, endpoints, ports, mount, crun."""
        return self._run(self._containers.plan_new(name, spec))

    def start(self, ref: str) -> list[str]:
        """The lines that starting would amount to."""
        container = self._containers.get(ref)
        if container.is_running:
            raise NotModified(f"container {container.name} is already running")
        return self._run(container)

    def _run(self, container: Container) -> list[str]:
        engine, paths, sharing = self._containers.engine, self._containers.paths, self._containers.sharing
        lines: list[str] = []
        container = replace(container, joined=sharing.root(container))
        sandbox = sharing.sandbox(replace(container, status=Status.RUNNING))
        endpoints = engine.catalog.endpoints(sandbox=sandbox.id) if sandbox else []
        if sandbox is None and not sharing.on_host(container):
            change = engine.draft(
                engine.planner.open_sandbox,
                container.id,
                container=container.id,
                endpoints=plans.endpoint_specs(container, engine.catalog),
            )
            sandbox, endpoints = change.result, [record for record in change.add if isinstance(record, Endpoint)]
            lines += change.shell()
        plan = plans.preparing(
            container,
            paths,
            self._containers.images.lower_directories(self._containers.image(container)),
            namespace=sandbox.path if sandbox else None,
            endpoints=endpoints,
            has_names=sandbox is not None and sandbox.names,
            linked=self._containers.links.of(container),
            around=surroundings(container, paths, self._containers.get),
        )
        root, *rest = plan
        lines += [*root.shell(), *self._sources(container)]
        return lines + (Plan(tuple(rest)) + plans.running(container, paths)).shell()

    def _sources(self, container: Container) -> list[str]:
        """What is bound into it: directories of the host that are not there yet, and volumes."""
        sources = [bind.source for bind in container.spec.binds if not os.path.exists(bind.source)]
        lines = [f"mkdir -p {shlex.join(sources)}"] if sources else []
        root = self._containers.place(container).rootfs
        for mount in container.spec.volumes:
            content = self._containers.paths.volume(mount.name)
            if not content.exists():
                lines.append(f"mkdir -p {shlex.quote(str(content))}")
                if mount.copy:
                    # Into a new volume goes what the image has there.
                    inside = shlex.quote(f"{root}{mount.target}/.")
                    lines.append(f"[ ! -d {inside} ] || cp -a {inside} {shlex.quote(str(content))}")
            else:
                lines += self._containers.volumes.mount_lines(mount.name)
        return lines

    def end(self, ref: str) -> list[str]:
        """The lines that stopping would amount to."""
        container = self._containers.get(ref)
        if not container.is_running:
            return []
        name = signal.Signals(signal_number(container.spec.stop_signal)).name.removeprefix("SIG")
        lines = [self.kill(container.id, name), *plans.remains(container.id, self._containers.paths).unshell()]
        engine, sharing = self._containers.engine, self._containers.sharing
        owner = sharing.made_for(container.id)
        if not sharing.users(owner, besides=container.id):
            with contextlib.suppress(NotFound):
                lines += engine.explain(engine.planner.close_sandbox, owner)
        return lines

    def kill(self, ref: str, name: str) -> str:
        """The line that sends a signal."""
        container = self._containers.get(ref)
        return shlex.join(self._containers.place(container).crun("kill", container.id, name))

    def verb(self, ref: str, verb: str) -> str:
        """The line of another crun command."""
        container = self._containers.get(ref)
        return shlex.join(self._containers.place(container).crun(verb, container.id))

    def exec(self, ref: str, spec: ExecSpec) -> str:
        """The line that runs a further process."""
        container = self._containers.get(ref)
        options = [f"--user={spec.user}"] if spec.user else []
        options += [f"--cwd={spec.workdir}"] if spec.workdir else []
        options += [f"--env={variable}" for variable in spec.env]
        options += ["--tty"] if spec.tty else []
        return shlex.join(self._containers.place(container).crun("exec", *options, container.id, *spec.command))
