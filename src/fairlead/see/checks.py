"""The table of what the doctor looks at, in the order in which it is told."""

from __future__ import annotations

from fairlead.see import checks_host, checks_ours
from fairlead.see.doctor import Check

CHECKS = (
    Check(
        "kernel",
        "the kernel's features, and which driver needs each",
        checks_host.kernel,
        "it has bridge, veth, macvlan, ipvlan, vlan, dummy, overlayfs and IPv6",
    ),
    Check("nftables", "the library, and the kernel's answer to it", checks_host.nftables, ""),
    Check(
        "programs",
        "crun, conmon and skopeo, and their versions",
        checks_host.programs,
        "crun, conmon and skopeo are there, of versions that Fairlead is tested with",
    ),
    Check("cgroups", "how quickly a process gets into a control group", checks_host.control_groups, ""),
    Check(
        "forwarding",
        "whether the host passes on packets, where a network needs it",
        checks_host.forwarding,
        "the host passes on packets in every family in which a network needs it",
    ),
    Check(
        "firewalls",
        "other programs' chains that drop, and Fairlead's accept rules in them",
        checks_host.other_firewalls,
        "no other firewall drops what networks need",
    ),
    Check(
        "subnets",
        "networks' subnets against the host's other routes",
        checks_host.subnets,
        "no network's subnet overlaps another route of the host",
    ),
    Check(
        "mtu",
        "how large packets may be on the way from a container to the world",
        checks_host.mtu,
        "all links of each network carry packets of one size, and the way out no less",
    ),
    Check(
        "nameservers",
        "the host's nameservers",
        checks_host.nameservers,
        "/etc/resolv.conf names nameservers",
    ),
    Check(
        "objects",
        "links, addresses, routes and settings of every record",
        checks_ours.objects,
        "the kernel has every link, address, route and setting that a record wants",
    ),
    Check(
        "table",
        "Fairlead's nftables table: its rules, and the elements that records want",
        checks_ours.table,
        "the nftables table has its rules, and every element that a record wants",
    ),
    Check(
        "ports",
        "who holds the published ports",
        checks_ours.ports,
        "every published port is held by Fairlead's keeper",
    ),
    Check(
        "resolver",
        "whether names are answered in every sandbox",
        checks_ours.names,
        "names are answered in every sandbox that has the resolver",
    ),
    Check(
        "containers",
        "whether running containers have their monitor",
        checks_ours.containers,
        "every running container has its monitor",
    ),
    Check(
        "addresses",
        "addresses that two interfaces of one network have",
        checks_ours.addresses,
        "no address is on two interfaces of one network",
    ),
    Check(
        "leaks",
        "what carries Fairlead's mark and belongs to no record",
        checks_ours.leaks,
        "nothing carries Fairlead's mark that no record knows",
    ),
)
