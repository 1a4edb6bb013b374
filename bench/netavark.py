"""netavark, Podman's network program, called as Podman calls it: JSON on its standard input."""

from __future__ import annotations

import json
from pathlib import Path

from bench.peer import Peer, Sample, Unavailable, run, seconds

PROGRAM = Path("/usr/lib/podman/netavark")


class Netavark(Peer):
    """`netavark setup` and `netavark teardown` of one endpoint on a bridge."""

    name = "netavark"
    ports: tuple[dict[str, object], ...] = ()

    def start(self) -> None:
        if not PROGRAM.exists():
            raise Unavailable(f"{PROGRAM} is not installed")
        self._config = Path("/run/bench-netavark") / self.name.replace(" ", "-")
        self._config.mkdir(parents=True)
        # The last endpoint of a bridge takes the bridge with it; a resident keeps it, as in a network in use.
        resident = self.stage.namespace(f"{self._config.name}-resident")
        run(*self._command("setup", resident), input=self._request("resident", "10.203.0.2", ()))
        self._subject = self.stage.namespace(f"{self._config.name}-subject")

    def _command(self, verb: str, namespace: Path) -> list[str]:
        return [str(PROGRAM), f"--config={self._config}", verb, str(namespace)]

    def _request(self, container: str, address: str, ports: tuple[dict[str, object], ...]) -> str:
        network = {
            "name": "bench",
            "id": "be" * 32,
            "driver": "bridge",
            "network_interface": "nvbr0",
            "subnets": [{"subnet": "10.203.0.0/16", "gateway": "10.203.0.1"}],
            "ipv6_enabled": False,
            "internal": False,
            "dns_enabled": False,
            "ipam_options": {"driver": "host-local"},
        }
        request: dict[str, object] = {
            "container_id": container.encode().hex().ljust(64, "0"),
            "container_name": container,
            "networks": {"bench": {"static_ips": [address], "interface_name": "eth0"}},
            "network_info": {"bench": network},
        }
        if ports:
            request["port_mappings"] = ports
        return json.dumps(request)

    def attach(self) -> Sample:
        request = self._request("subject", "10.203.0.3", self.ports)
        return {
            "attach": seconds(lambda: run(*self._command("setup", self._subject), input=request)),
            "detach": seconds(lambda: run(*self._command("teardown", self._subject), input=request)),
        }


class NetavarkPort(Netavark):
    """The same with one published port."""

    name = "netavark+port"
    ports = ({"container_port": 80, "host_ip": "", "host_port": 20000, "protocol": "tcp", "range": 1},)
