"""The machine's own limits: one attach as bare netlink messages, and one container as a bare `crun run`."""

from __future__ import annotations

import json
import os
import socket
import struct
from pathlib import Path

from bench import kernel
from bench.peer import Peer, Sample, run, seconds
from bench.stage import CGROUP, Stage

# linux/rtnetlink.h, linux/netlink.h, linux/if_link.h, linux/if_addr.h, linux/veth.h
RTM_NEWLINK, RTM_DELLINK, RTM_SETLINK, RTM_NEWADDR, RTM_NEWROUTE = 16, 17, 19, 20, 24
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400
NLMSG_ERROR = 2
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MASTER, IFLA_LINKINFO, IFLA_NET_NS_FD = 1, 3, 10, 18, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_GATEWAY = 5
RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST = 254, 4, 0, 1
IFF_UP = 1
PEER_INDEX = 1000
"""The number that the interface in the namespace gets: chosen by us, so that nobody needs to ask for it.  The kernel
listens to it only if the outer end's number is chosen as well (veth_newlink, drivers/net/veth.c)."""
FIRST_INDEX = 100_000
"""The outer end's number is this and the endpoint's."""


def attribute(kind: int, payload: bytes) -> bytes:
    """Length, type, value, and zeros to a multiple of four (struct nlattr)."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def link(*attributes: bytes, index: int = 0, up: bool = True) -> bytes:
    """struct ifinfomsg and its attributes."""
    return struct.pack("=BxHiII", 0, 0, index, IFF_UP * up, IFF_UP * up) + b"".join(attributes)


class Netlink:
    """A routing socket of the namespace in which it was made."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)

    def close(self) -> None:
        self._socket.close()

    def talk(self, *messages: tuple[int, bytes]) -> None:
        """Send all messages at once and read an acknowledgement for each."""
        data = b""
        for kind, body in messages:
            # In a deletion the bit of NLM_F_EXCL means "in bulk" (NLM_F_BULK), which links do not know.
            new = 0 if kind == RTM_DELLINK else NLM_F_CREATE | NLM_F_EXCL
            data += struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | NLM_F_ACK | new, 0, 0) + body
        self._socket.send(data)
        missing = len(messages)
        while missing:
            answer, offset = self._socket.recv(65536), 0
            while offset < len(answer):
                length, kind = struct.unpack_from("=IH", answer, offset)
                if kind == NLMSG_ERROR:
                    (error,) = struct.unpack_from("=i", answer, offset + 16)
                    if error:
                        raise OSError(-error, os.strerror(-error))
                    missing -= 1
                offset += length + (-length % 4)


class Raw(Peer):
    """What any engine has to do at least for one endpoint on a bridge."""

    name = "raw limit"

    def start(self) -> None:
        run("ip", "link", "add", "rawbr", "type", "bridge")
        run("ip", "addr", "add", "10.200.0.1/16", "dev", "rawbr")
        run("ip", "link", "set", "rawbr", "up")
        self._bridge = socket.if_nametoindex("rawbr")
        self._host = Netlink()
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._subject = self.stage.namespace("raw-subject")
        self._crowd = 0

    def attach_one(self, namespace: Path, number: int) -> None:
        """The veth made, enslaved and up in one message; the rest, inside, in a second send of three.

        The inner end cannot come up in the first: while it is made it has no peer yet (veth_open, drivers/net/veth.c).
        """
        there = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        name, net = attribute(IFLA_IFNAME, b"eth0\0"), attribute(IFLA_NET_NS_FD, struct.pack("=i", there))
        peer = link(name, net, index=PEER_INDEX, up=False)
        veth = attribute(IFLA_INFO_KIND, b"veth\0") + attribute(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer))
        name = attribute(IFLA_IFNAME, f"raw{number}".encode() + b"\0")
        master = attribute(IFLA_MASTER, struct.pack("=i", self._bridge))
        info = attribute(IFLA_LINKINFO, veth)
        self._host.talk((RTM_NEWLINK, link(name, master, info, index=FIRST_INDEX + number)))
        kernel.setns(there)
        inner = Netlink()
        kernel.setns(self._home)
        ip = socket.inet_aton(f"10.200.{number // 250}.{number % 250 + 2}")
        address = struct.pack("=BBBBi", socket.AF_INET, 16, 0, RT_SCOPE_UNIVERSE, PEER_INDEX)
        address += attribute(IFA_LOCAL, ip) + attribute(IFA_ADDRESS, ip)
        route = struct.pack(
            "=BBBBBBBBI", socket.AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0
        ) + attribute(RTA_GATEWAY, socket.inet_aton("10.200.0.1"))
        inner.talk((RTM_SETLINK, link(index=PEER_INDEX)), (RTM_NEWADDR, address), (RTM_NEWROUTE, route))
        inner.close()
        os.close(there)

    def detach_one(self, number: int) -> None:
        self._host.talk((RTM_DELLINK, link(attribute(IFLA_IFNAME, f"raw{number}".encode() + b"\0"), up=False)))

    def attach(self) -> Sample:
        return {
            "attach": seconds(lambda: self.attach_one(self._subject, 0)),
            "detach": seconds(lambda: self.detach_one(0)),
        }

    def crowd(self, count: int) -> None:
        for number in range(self._crowd, count):
            self.attach_one(self.stage.namespace(f"raw{number}"), number + 1)
        self._crowd = count

    def attach_in_crowd(self) -> Sample:
        return {f"attach, {self._crowd} present": self.attach()["attach"]}


class Crun(Peer):
    """The OCI runtime alone: no daemon, no image, no network, no monitor."""

    name = "crun run"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._bundle = stage.directory / "crun"

    def start(self) -> None:
        self._bundle.mkdir()
        run("crun", "spec", "--bundle", self._bundle)
        config = self._bundle / "config.json"
        spec = json.loads(config.read_text())
        spec["process"].update(terminal=False, args=["/bin/true"])
        spec["root"] = {"path": str(self.stage.rootfs), "readonly": True}
        spec["linux"]["cgroupsPath"] = f"/{CGROUP}/crun"
        config.write_text(json.dumps(spec))

    def run_true(self) -> Sample:
        command = ["crun", "--cgroup-manager=cgroupfs", "--root=/run/bench-crun", "run", "--bundle", str(self._bundle)]
        return {"run --rm true": seconds(lambda: run(*command, "bench"))}
