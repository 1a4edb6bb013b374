"""A topology as a graph: in the languages of Graphviz and Mermaid, and as an SVG picture laid out by Graphviz.

Drawn as people draw it on a whiteboard: the host is a box around everything, a namespace a box in it with a row for
each interface, a bridge a bar with a cell for each of its ports, and a veth pair a line from cell to row.
"""

from __future__ import annotations

import html
import shutil
import subprocess
from collections.abc import Iterator

from fairlead.errors import FairleadError, MissingProgram
from fairlead.see import words
from fairlead.see.topology import HOST_ID, Place, Port, Room, Topology

TALL = 24
"""With more ports than this on one bridge the picture grows downwards, not to the side."""

_SECONDS = 120
_COLOURS = {"missing": "#c62828", "unowned": "#b26a00", "differs": "#c62828", "": "#263238"}
_FILL = {"host": "#eceff1", "container": "#e3f2fd", "namespace": "#f1f8e9", "process": "#fafafa"}


class _Graph:
    """Names for the parts of a topology, and the lines between them, for either language."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._numbers = {room.id: number for number, room in enumerate(topology.rooms)}
        self._ports = {(room.id, port.name): port for room in topology.rooms for port in room.ports}
        self._masters = {(room.id, port.master) for room in topology.rooms for port in room.ports if port.master}

    def node(self, room: Room) -> str:
        """The node of a namespace: its box."""
        return "host" if room.id == HOST_ID else f"ns{self._numbers[room.id]}"

    def is_bar(self, room: Room, port: Port) -> bool:
        """Whether an interface is drawn as a bar of its own: a bridge, or what has ports all the same."""
        return port.kind == "bridge" or (room.id, port.name) in self._masters

    def bar(self, room: Room, port: Port) -> str:
        """The node of a bridge."""
        return f"{self.node(room)}_{_safe(port.name)}"

    def rows(self, room: Room) -> list[Port]:
        """The interfaces in a namespace's own box: all but loopback, bridges, and their ports."""
        return [
            port
            for port in room.ports
            if port.kind != "loopback" and not self.is_bar(room, port) and not self._in_bar(room, port)
        ]

    def _in_bar(self, room: Room, port: Port) -> bool:
        return bool(port.master) and (room.id, port.master) in self._ports

    def bars(self, room: Room) -> list[tuple[Port, list[Port]]]:
        """The bridges of a namespace, each with its ports."""
        return [
            (port, [one for one in room.ports if one.master == port.name])
            for port in room.ports
            if self.is_bar(room, port)
        ]

    def end(self, room: Room, port: Port) -> tuple[str, str]:
        """Node and cell at which a line to this interface ends."""
        if self.is_bar(room, port) and not self._in_bar(room, port):
            return self.bar(room, port), "head"
        node = self.node(room)
        if self._in_bar(room, port):
            node = f"{node}_{_safe(port.master)}"
        return node, f"p{_safe(port.name)}"

    def lines(self) -> Iterator[tuple[tuple[str, str], tuple[str, str], str, str]]:
        """The lines: one end, the other, ``veth`` or ``parent``, the worse mark.  The one in a bar comes first."""
        for room in self.topology.rooms:
            for port in room.ports:
                for place, kind in ((port.peer, "veth"), (port.parent, "parent")):
                    other = self._at(place)
                    if other is None:
                        continue
                    here, there = self.end(room, port), self.end(*other)
                    if kind == "parent":
                        yield there, here, kind, port.mark
                    elif self._first(room, port, *other):
                        yield here, there, kind, port.mark or other[1].mark

    def _at(self, place: Place | None) -> tuple[Room, Port] | None:
        if place is None or (place.namespace, place.interface) not in self._ports:
            return None
        room = self.topology.room(place.namespace)
        return (room, self._ports[place.namespace, place.interface]) if room else None

    def _first(self, room: Room, port: Port, other: Room, end: Port) -> bool:
        """Whether a pair is drawn from this end: from the one in a bar, in the host, or that comes earlier."""

        def order(room: Room, port: Port) -> tuple[bool, int, int]:
            return not self._in_bar(room, port), self._numbers[room.id], port.index

        return order(room, port) < order(other, end)


# Graphviz


def dot(topology: Topology) -> str:
    """The graph in Graphviz's language (graphviz.org/doc/info/lang.html)."""
    graph = _Graph(topology)
    most = max((len(ports) for room in topology.rooms for _, ports in graph.bars(room)), default=0)
    tall = most > TALL
    layout = "rankdir=LR; ranksep=2; splines=line;" if tall else "rankdir=TB; ranksep=0.7; splines=true;"
    lines = [
        "graph topology {",
        f"  {layout} nodesep=0.4;",
        '  bgcolor="white"; fontname="Helvetica"; fontsize=12;',
        '  node [shape=plain, fontname="Helvetica", fontsize=11];',
        f'  edge [color="{_COLOURS[""]}", penwidth=1.4];',
        "  subgraph cluster_host {",
        '    label="host"; labeljust=l; style="rounded,filled"; color="#607d8b"; fillcolor="#fafafa"; fontsize=14;',
    ]
    for room in topology.rooms:
        lines += [f"    {line}" for line in _dot_room(graph, room, tall)]
    lines.append("  }")
    lines += [f"  {line}" for line in _dot_lines(graph, tall)]
    return "\n".join([*lines, "}"]) + "\n"


def _dot_room(graph: _Graph, room: Room, tall: bool) -> Iterator[str]:
    rows, bars = graph.rows(room), graph.bars(room)
    framed = bool(bars) and room.kind != "host"
    if framed:
        label = _text(f"{_named(room)} {words.role(room)}")
        yield f'subgraph cluster_{graph.node(room)} {{ label="{label}"; style=rounded; color="{_COLOURS[room.mark]}";'
    if rows or (room.kind != "host" and not bars):
        yield f"{graph.node(room)} [label=<{_table(graph, room, rows, tall)}>];"
    for bridge, ports in bars:
        yield f"{graph.bar(room, bridge)} [label=<{_bar(graph, room, bridge, ports, tall)}>];"
    if framed:
        yield "}"


def _dot_lines(graph: _Graph, tall: bool) -> Iterator[str]:
    for (node, cell), (other, other_cell), kind, mark in graph.lines():
        if node == other:
            continue
        style = ["style=dashed"] if kind == "parent" else []
        style += [f'color="{_COLOURS[mark]}"'] if mark else []
        # From a bar, or from what the host has, down to the top of a box; between two boxes over the top.
        sides = ("e", "w") if tall else ("s", "n")
        if not node.startswith("host") and "_" not in node:
            sides = ("e", "w") if tall else ("n", "n")
            style.append("constraint=false")
        here, there = (f":{side}" if one != "head" else "" for side, one in zip(sides, (cell, other_cell), strict=True))
        words_ = f" [{', '.join(style)}]" if style else ""
        yield f"{node}:{cell}{here} -- {other}:{other_cell}{there}{words_};"


def _table(graph: _Graph, room: Room, rows: list[Port], tall: bool) -> str:
    """A namespace: its interfaces at the side where lines come in, its name, the ports that are published to it."""
    cells = [
        f'<TD PORT="p{_safe(port.name)}" BORDER="1" BGCOLOR="white" CELLPADDING="5">{_port(graph, room, port)}</TD>'
        for port in rows
    ]
    role = f' <FONT COLOR="#607d8b">{_text(words.role(room))}</FONT>'
    title = f'<TR><TD COLSPAN="{1 if tall else max(len(cells), 1)}"><B>{_text(_named(room))}</B>{role}</TD></TR>'
    if room.kind == "host":
        title = ""  # It stands on the box around everything.
    lines = (
        [title, *(f"<TR>{cell}</TR>" for cell in cells)]
        if tall
        else [f"<TR>{''.join(cells)}</TR>" * bool(cells), title]
    )
    small = [f"{_sign(mark)}{text}" for text, mark in words.ports_of(graph.topology, room)[:8]]
    small += [room.note] if room.mark else []
    if small:
        text = "<BR/>".join(map(_text, small))
        span = 1 if tall else max(len(cells), 1)
        lines.append(f'<TR><TD COLSPAN="{span}"><FONT POINT-SIZE="10" COLOR="#455a64">{text}</FONT></TD></TR>')
    style = "rounded,dashed" if room.mark else "rounded"
    return (
        f'<TABLE BORDER="1" CELLBORDER="0" CELLSPACING="4" CELLPADDING="4" COLOR="{_COLOURS[room.mark]}"'
        f' BGCOLOR="{_FILL[room.kind]}" STYLE="{style}">{"".join(lines)}</TABLE>'
    )


def _bar(graph: _Graph, room: Room, bridge: Port, ports: list[Port], tall: bool) -> str:
    """A bridge: its name and addresses, and a cell for each port."""
    head = 'BGCOLOR="#cfd8dc" CELLPADDING="2"'
    # In cells of their own: how wide a font is, the one who looks at the picture decides.
    label = (
        f'<TABLE BORDER="0" CELLSPACING="6" CELLPADDING="0"><TR><TD>{_port(graph, room, bridge, "</TD><TD>")}</TD></TR>'
    )
    label += "</TABLE>"
    cells = [
        f'<TD PORT="p{_safe(port.name)}" BGCOLOR="white" CELLPADDING="3"><FONT POINT-SIZE="10"'
        f' COLOR="{_COLOURS[port.mark]}">{_text(_sign(port.mark) + port.name + _aside(port))}</FONT></TD>'
        for port in ports
    ]
    if tall:
        body = f'<TR><TD PORT="head" {head}>{label}</TD></TR>' + "".join(f"<TR>{cell}</TR>" for cell in cells)
    else:
        body = f'<TR><TD PORT="head" COLSPAN="{max(len(cells), 1)}" {head}>{label}</TD></TR>'
        body += f"<TR>{''.join(cells)}</TR>" if cells else ""
    colour = _COLOURS[bridge.mark]
    return f'<TABLE BORDER="2" CELLBORDER="0" CELLSPACING="2" COLOR="{colour}" BGCOLOR="#cfd8dc">{body}</TABLE>'


def _port(graph: _Graph, room: Room, port: Port, between: str = "<BR/>") -> str:
    """An interface's name and addresses, and what is unusual about it."""
    name = f'<FONT COLOR="{_COLOURS[port.mark]}"><B>{_text(_sign(port.mark) + port.name)}</B></FONT>'
    parts = [name, *(_text(address) for address in words.addresses(port))]
    parts += [f'<FONT COLOR="{_COLOURS["missing"]}">{_text("✗ " + one)}</FONT>' for one in port.missing_addresses]
    if qualities := words.qualities(graph.topology, room, port):
        parts.append(f'<FONT COLOR="#607d8b">{_text(", ".join(qualities))}</FONT>')
    for text, mark in words.defaults(room, port):
        colour = _COLOURS[mark] if mark else "#455a64"
        parts.append(f'<FONT POINT-SIZE="10" COLOR="{colour}">{_text(_sign(mark) + text)}</FONT>')
    return between.join(parts)


def _aside(port: Port) -> str:
    """What there is to say of a bridge's port, in brackets."""
    if port.mark == "missing":
        return ""
    state = [] if port.carries else ["no carrier" if port.up else "down"]
    return f" ({', '.join(facts)})" if (facts := [*words.vlans(port), *state]) else ""


def svg(topology: Topology) -> str:
    """A picture, laid out by Graphviz's program ``dot``; raises `MissingProgram` where it is not installed."""
    program = shutil.which("dot")
    if program is None:
        raise MissingProgram("an svg picture is laid out by Graphviz: install the package graphviz")
    try:
        done = subprocess.run(
            [program, "-Tsvg"], input=dot(topology), capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise FairleadError(f"Graphviz did not finish within {_SECONDS} seconds: draw a part, by naming it") from None
    if done.returncode or not done.stdout:
        raise FairleadError(f"Graphviz failed: {done.stderr.strip().splitlines()[0] if done.stderr else 'no picture'}")
    return done.stdout


# Mermaid


def mermaid(topology: Topology) -> str:
    """A flowchart in Mermaid's language (mermaid.js.org), which many sites draw from a text in a page."""
    graph = _Graph(topology)
    lines = ["flowchart TB", "  subgraph machine[host]"]
    marked: list[tuple[str, str]] = []
    for room in topology.rooms:
        lines += [f"    {line}" for line in _mermaid_room(graph, room)]
        marked += [(graph.bar(room, port), port.mark) for port, _ in graph.bars(room) if port.mark]
        marked += [("_".join(graph.end(room, port)), port.mark) for port in graph.rows(room) if port.mark]
    lines.append("  end")
    labels = {
        graph.end(room, port): ", ".join([port.name, *words.vlans(port)])
        for room in topology.rooms
        for _, ports in graph.bars(room)
        for port in ports
    }
    for here, there, kind, _ in graph.lines():
        line = "-.-" if kind == "parent" else "---"
        names = [labels[end] for end in (here, there) if end in labels]
        lines.append(f"  {_mermaid_end(here, labels)} {line}{_edge_label(names)} {_mermaid_end(there, labels)}")
    for node, mark in marked:
        lines.append(f"  style {node} stroke:{_COLOURS[mark]},stroke-width:2px")
    return "\n".join(lines) + "\n"


def _mermaid_room(graph: _Graph, room: Room) -> Iterator[str]:
    rows = graph.rows(room)
    indent = ""
    if room.kind != "host":
        yield f'subgraph {graph.node(room)}["{_quoted(_named(room))}"]'
        indent = "  "
        if not rows and not graph.bars(room):
            yield f'{indent}{graph.node(room)}_empty["{_quoted(room.note or "nothing but lo")}"]'
    for port in rows:
        lines = [_sign(port.mark) + port.name, *words.addresses(port)]
        lines += [f"✗ {address}" for address in port.missing_addresses]
        lines += [", ".join(words.qualities(graph.topology, room, port))]
        lines += [_sign(mark) + text for text, mark in words.defaults(room, port)]
        node, cell = graph.end(room, port)
        yield f'{indent}{node}_{cell}["{"<br/>".join(_quoted(line) for line in lines if line)}"]'
    for bridge, _ in graph.bars(room):
        lines = [_sign(bridge.mark) + bridge.name, *words.addresses(bridge)]
        lines += [", ".join(words.qualities(graph.topology, room, bridge))]
        yield f'{indent}{graph.bar(room, bridge)}[["{"<br/>".join(_quoted(line) for line in lines if line)}"]]'
    small = [text for text, _ in words.ports_of(graph.topology, room)[:8]]
    if small:
        yield f'{indent}{graph.node(room)}_notes>"{"<br/>".join(map(_quoted, small))}"]'
    if room.kind != "host":
        yield "end"


def _mermaid_end(end: tuple[str, str], labels: dict[tuple[str, str], str]) -> str:
    """Bars have no cells there: the port's name is on the line instead."""
    node, cell = end
    return node if cell == "head" or end in labels else f"{node}_{cell}"


def _edge_label(names: list[str]) -> str:
    return f'|"{_quoted(" · ".join(names))}"|' if names else ""


def _named(room: Room) -> str:
    return _sign(room.mark) + room.name


def _sign(mark: str) -> str:
    return f"{words.SIGNS[mark]} " if mark else ""


def _safe(name: str) -> str:
    """A name as an identifier of either language, still told apart from all others."""
    return "".join(c if c.isascii() and c.isalnum() else f"_{ord(c):x}_" for c in name)


def _text(text: str) -> str:
    return html.escape(text, quote=True)


def _quoted(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
