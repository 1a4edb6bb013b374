"""What has changed between two topologies, as little as a page needs to follow.  Pure.

A topology here is the daemon's JSON (`fairlead.see.topology`), decoded.  Counters change all the time, so they travel
apart from the rest: ``Traffic`` has, by namespace and interface, the six numbers of `COUNTERS`.
"""

from __future__ import annotations

from typing import Any

COUNTERS = ("RxBytes", "TxBytes", "RxPackets", "TxPackets", "RxDropped", "TxDropped")
WHOLE = ("Networks", "Published", "Masquerading", "LeftOut")
"""Parts that are sent as a whole if anything in them changes."""

Traffic = dict[str, dict[str, list[int]]]


def split(topology: dict[str, Any]) -> tuple[dict[str, Any], Traffic]:
    """The topology without its counters, and the counters."""
    traffic: Traffic = {}
    rooms = []
    for room in topology["Namespaces"]:
        ports = []
        for port in room["Interfaces"]:
            counted = port.get("Traffic") or {}
            traffic.setdefault(room["Id"], {})[port["Name"]] = [counted.get(name, 0) for name in COUNTERS]
            ports.append({name: value for name, value in port.items() if name != "Traffic"})
        rooms.append({**room, "Interfaces": ports})
    return {**topology, "Namespaces": rooms}, traffic


def between(old: tuple[dict[str, Any], Traffic], new: tuple[dict[str, Any], Traffic]) -> dict[str, Any]:
    """The namespaces that are new or not as before, the ids of those that have gone, and other parts that changed."""
    (before, counted), (after, counts) = old, new
    had = {room["Id"]: room for room in before["Namespaces"]}
    has = {room["Id"]: room for room in after["Namespaces"]}
    found: dict[str, Any] = {
        "Changed": [room for id_, room in has.items() if had.get(id_) != room],
        "Gone": [id_ for id_ in had if id_ not in has],
        "Traffic": {},
    }
    for part in WHOLE:
        if before.get(part) != after.get(part):
            found[part] = after.get(part)
    for id_, ports in counts.items():
        was = counted.get(id_, {})
        moved = {name: numbers for name, numbers in ports.items() if was.get(name) != numbers}
        if moved:
            found["Traffic"][id_] = moved
    return found
