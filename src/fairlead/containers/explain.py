"""What an operation on a container would do, as the lines that a person would type.  Changes nothing."""

from __future__ import annotations

import contextlib
import shlex
import signal

from msgspec.structs import replace

from fairlead.containers import plans
from fairlead.containers.execs import ExecSpec
from fairlead.containers.record import Container, ContainerSpec, Status
from fairlead.containers.service import Containers, signal_number
from fairlead.errors import NotFound, NotModified


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
        engine, paths = self._containers.engine, self._containers.paths
        lines: list[str] = []
        namespace: str | None = None
        sharing = self._containers.sharing
        container = replace(container, joined=sharing.root(container))
        kept = sharing.sandbox(replace(container, status=Status.RUNNING))
        if kept:
            namespace = kept.path
        elif not sharing.on_host(container):
            namespace = str(paths.namespaces / container.id)
            lines += engine.explain(
                engine.planner.open_sandbox,
                container.id,
                container=container.id,
                endpoints=plans.endpoint_specs(container, engine.catalog),
            )
        lower = self._containers.images.lower_directories(self._containers.image(container))
        linked = self._containers.links.of(container)
        plan = plans.preparing(container, paths, lower, namespace=namespace, endpoints=[], linked=linked)
        return lines + (plan + plans.running(container, paths)).shell()

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
