"""``fairlead trace``: why A cannot reach B."""

from __future__ import annotations

from fairlead.cli.client import Client
from fairlead.cli.flags import Command, Failure, Flag, Options
from fairlead.cli.output import print_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def parse_destination(text: str) -> tuple[str, int]:
    """``NAME``, ``NAME:PORT``, ``ADDRESS``, ``ADDRESS:PORT``, ``[IPv6]:PORT``; port 0 where there is none."""
    if text.startswith("["):
        host, closed, port = text[1:].partition("]")
        if not closed or (port and not port.startswith(":")):
            raise Failure(f"invalid destination {text!r}: an IPv6 address with a port is [ADDRESS]:PORT", 2)
        return host, _port(text, port[1:]) if port else 0
    if text.count(":") != 1:
        return text, 0
    host, _, port = text.partition(":")
    return host, _port(text, port)


def _port(text: str, port: str) -> int:
    if not port.isdigit() or not 1 <= int(port) <= 65535:
        raise Failure(f"invalid destination {text!r}: a port from 1 to 65535 comes after the colon", 2)
    return int(port)


def _trace(options: Options, words: list[str]) -> int:
    form = options.text("format", "text")
    if form not in ("text", "json"):
        raise Failure(f"invalid format {form!r}: only text and json are allowed", 2)
    host, port = parse_destination(words[1])
    if options.flag("udp") and options.flag("icmp"):
        raise Failure("only one of --udp and --icmp can be asked for", 2)
    protocol = "udp" if options.flag("udp") else "icmp" if options.flag("icmp") or not port else "tcp"
    if protocol == "icmp" and port:
        raise Failure("an ICMP echo has no port: leave the port out, or ask with TCP or UDP", 2)
    asked = {
        "Source": words[0],
        "Destination": host,
        "Port": port,
        "Protocol": protocol,
        "Size": options.number("size") or 0,
        "SourcePort": options.number("source-port") or 0,
        "Patience": float(options.number("wait") or 2),
    }
    found = Client().post("/fairlead/trace", asked)
    if form == "json":
        print_json(found)
    else:
        print("\n".join(lines(found)))
    return 0 if found["Verdict"]["Ok"] else 1


def lines(found: dict[str, Any]) -> list[str]:
    """A trace for people."""
    asked = found["Observation"]["Asked"]
    goal = found["Destination"] + (f":{asked['Port']}" if asked.get("Port") else "")
    address = f" ({found['Address']})" if found["Address"] not in ("", found["Destination"]) else ""
    said = [f"{found['Source']} → {goal}{address}, {_protocol(asked)}"]
    name = found.get("Name") or {}
    if name.get("Addresses"):
        said.append(f"  name {name['Name']} is {name['Addresses'][0]}, says {name['Server']}")
    elif name:
        said.append(f"  name {name['Name']} does not resolve here ({name.get('Problem')})")
    said += _hops(found["Hops"])
    sized = found["Observation"].get("Sized")
    if sized:
        said.append(f"  then one of {sized['Bytes']} bytes, not to be fragmented: {_outcome(sized['Outcome'])}")
    said.append(f"  outcome: {_outcome(found['Outcome'])}")
    said += [f"  note: {note}" for note in found["Notes"]]
    verdict = found["Verdict"]
    said += ["", ("✔ " if verdict["Ok"] else "✘ ") + verdict["Sentence"]]
    said += [f"  remedy: {line}" for line in verdict["Remedies"][:1]]
    said += [f"      or: {line}" for line in verdict["Remedies"][1:]]
    return said


def _protocol(asked: dict[str, Any]) -> str:
    protocol = {"tcp": "TCP", "udp": "UDP", "icmp": "ICMP echo"}[asked.get("Protocol", "tcp")]
    return protocol + (f" with {asked['Size']} bytes" if asked.get("Size") else "")


def _outcome(outcome: dict[str, Any]) -> str:
    took = f"{outcome.get('Milliseconds', 0):.2f} ms"
    kind = outcome["Kind"]
    if kind == "answered":
        return f"answered after {took}"
    if kind == "silence":
        return f"no answer in {took}"
    if kind == "unresolved":
        return "not sent"
    return f"{outcome.get('Error', '')} ({outcome.get('Said', '')}) after {took}"


_DIRECTIONS = {"request": "request", "reply": "answer", "error": "error"}


def _hops(hops: list[dict[str, Any]]) -> list[str]:
    said: list[str] = []
    before: tuple[str, str] | None = None
    for hop in hops:
        if hop["Kind"] == "rule" and hop.get("Verdict") in ("jump", "goto"):
            continue
        here = (hop["Direction"], hop["NamespaceName"])
        if before is None or here[0] != before[0]:
            said.append(f"  {_DIRECTIONS[here[0]]}  {hop.get('Source', '')} → {hop.get('Destination', '')}")
        if here != before:
            said.append(f"    {here[1]}")
        before = here
        time = f"{hop['Time']:8.1f} µs" if "Time" in hop else " " * 11
        said.append(f"    {time}  {_hop(hop)}")
    return said


def _hop(hop: dict[str, Any]) -> str:
    kind, interface = hop["Kind"], hop.get("Interface", "")
    bridge = f" (port of {hop['Bridge']})" if hop.get("Bridge") else ""
    if kind == "send":
        return f"↑ {interface}{bridge} sends"
    if kind == "receive":
        return f"↓ {interface}{bridge} receives"
    if kind == "route":
        return f"→ route to {hop['Text']}"
    if kind == "nat":
        return f"⇄ {hop['Text']}"
    if kind == "drop":
        reason = hop.get("Reason") or hop.get("Function") or "no reason given"
        return f"✘ dropped by the kernel: {reason}"
    mark = "✘" if hop.get("Verdict") == "drop" else "✔"
    handle = f" handle {hop['Handle']}" if hop.get("Handle") else ""
    return f"{mark} {hop['Family']} {hop['Table']} {hop['Chain']}{handle}, of {hop.get('Owner', '')}: {hop['Text']}"


TRACE = Command(
    "trace",
    "[OPTIONS] SRC DST[:PORT]",
    "Send one real probe and show its way, or why it does not arrive. SRC and DST are 'host', a container, the name or "
    "path of a network namespace, a process id; DST also an address or a name that SRC resolves. With a port TCP is "
    "asked for, without one an ICMP echo",
    _trace,
    (
        Flag("--udp", "Send a UDP datagram"),
        Flag("--icmp", "Send an ICMP echo request"),
        Flag("--size", 'Bytes that a datagram or echo carries, with "don\'t fragment"', "number"),
        Flag("--source-port", "Send from this port, as a program with a fixed one does", "number"),
        Flag("--wait", "Seconds to wait for an answer (default 2)", "number"),
        Flag("--format", "text (default) or json", "text"),
    ),
    (2, 2),
)
