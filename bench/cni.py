"""The CNI reference plugins, called as containerd and others call them: environment and JSON on standard input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.peer import Peer, Sample, Unavailable, run, seconds

PLUGINS = Path("/usr/lib/cni")
"""Debian's containernetworking-plugins."""


class Cni(Peer):
    """`bridge` with `host-local` addresses and masquerade."""

    name = "cni bridge"

    def start(self) -> None:
        if not (PLUGINS / "bridge").exists():
            raise Unavailable(f"{PLUGINS}/bridge is not installed")
        self._slug = self.name.replace(" ", "-").replace("+", "-")
        self._config = {
            "cniVersion": "1.0.0",
            "name": self._slug,
            "type": "bridge",
            "bridge": "cnibr0",
            "isGateway": True,
            "ipMasq": True,
            "ipam": {
                "type": "host-local",
                "dataDir": f"/run/bench-{self._slug}",
                "ranges": [[{"subnet": "10.204.0.0/16"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        self._subject = self.stage.namespace(f"{self._slug}-subject")
        self._crowd = 0

    def call(self, plugin: str, command: str, container: str, namespace: Path, config: dict[str, Any]) -> Any:
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": str(namespace),
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(PLUGINS),
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        said = run(PLUGINS / plugin, input=json.dumps(config), env=environment)
        return json.loads(said) if said.strip() else None

    def add(self, container: str, namespace: Path) -> None:
        self.call("bridge", "ADD", container, namespace, self._config)

    def delete(self, container: str, namespace: Path) -> None:
        self.call("bridge", "DEL", container, namespace, self._config)

    def attach(self) -> Sample:
        return {
            "attach": seconds(lambda: self.add("subject", self._subject)),
            "detach": seconds(lambda: self.delete("subject", self._subject)),
        }

    def crowd(self, count: int) -> None:
        for number in range(self._crowd, count):
            self.add(f"crowd{number}", self.stage.namespace(f"{self._slug}{number}"))
        self._crowd = count

    def attach_in_crowd(self) -> Sample:
        return {f"attach, {self._crowd} present": self.attach()["attach"]}


class CniPort(Cni):
    """The same followed by `portmap` with one published port."""

    name = "cni bridge+portmap"

    def _portmap(self, previous: Any) -> dict[str, Any]:
        mapping = {"hostPort": 20000, "containerPort": 80, "protocol": "tcp"}
        return {
            "cniVersion": "1.0.0",
            "name": self._slug,
            "type": "portmap",
            "snat": True,
            "capabilities": {"portMappings": True},
            "runtimeConfig": {"portMappings": [mapping]},
            "prevResult": previous,
        }

    def add(self, container: str, namespace: Path) -> None:
        self._result = self.call("bridge", "ADD", container, namespace, self._config)
        self.call("portmap", "ADD", container, namespace, self._portmap(self._result))

    def delete(self, container: str, namespace: Path) -> None:
        self.call("portmap", "DEL", container, namespace, self._portmap(self._result))
        super().delete(container, namespace)
