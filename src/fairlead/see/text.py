"""A topology as text for a terminal: boxes for namespaces, a line for each link.

A namespace with something that others hang on (a bridge, a parent link, an end of a veth pair) is a frame; below each
of its interfaces are the legs that lead from there to others' boxes.  With many namespaces each leg is one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fairlead.see import words
from fairlead.see.topology import HOST_ID, Place, Port, Room, Topology

ROOMY = 16
"""With more namespaces than this each gets a line and no box."""

LEAST_WIDTH = 60

_STYLES = {
    "name": "1",
    "address": "36",
    "port": "32",
    "dim": "2",
    "missing": "1;31",
    "unowned": "33",
    "differs": "1;31",
    "": "",
}
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def render(topology: Topology, *, width: int = 80, colour: bool = False) -> str:
    """The picture, in lines of at most `width` columns."""
    return "\n".join(_Drawing(topology, max(width, LEAST_WIDTH), colour).lines()) + "\n"


class _Drawing:
    def __init__(self, topology: Topology, width: int, colour: bool) -> None:
        self._topology = topology
        self._width = width
        self._colour = colour
        self._boxes = len(topology.rooms) <= ROOMY
        self._drawn: set[str] = {HOST_ID}
        self._rooms = {room.id: room for room in topology.rooms}
        self._ports = {(room.id, port.name): port for room in topology.rooms for port in room.ports}
        bridged = [port for room in topology.rooms for port in room.ports if port.master]
        lengths = [max(len(port.name), min(len(self._vlans(port)) - 3, width - 50)) for port in bridged]
        self._longest = max([*lengths, 7])
        """Columns for the names of legs' ends, and the VLANs below, so that all boxes begin in the same."""
        self._children: dict[tuple[str, str], list[tuple[Room, Port]]] = {}
        """What stands on another namespace's interface, such as macvlans; in the same one it is a row of its own."""
        for room in topology.rooms:
            for port in room.ports:
                if port.parent and port.parent.namespace != room.id:
                    place = (port.parent.namespace, port.parent.interface)
                    self._children.setdefault(place, []).append((room, port))

    def lines(self) -> Iterator[str]:
        for room in self._topology.rooms:
            if room.kind == "host" or self._has_hub(room):
                yield from self._frame(room)
        yield from self._straight()
        yield from self._loose()
        yield from self._remarks()

    # Frames: namespaces that others hang on

    def _has_hub(self, room: Room) -> bool:
        """Whether something of others hangs on it: a port on its bridge, or a link on one of its interfaces."""
        return any(self._is_port(room, port) or (room.id, port.name) in self._children for port in room.ports)

    def _is_port(self, room: Room, port: Port) -> bool:
        """Whether it is a port of a bridge, or of something else (a bond, a VRF) that is there."""
        return bool(port.master) and (room.id, port.master) in self._ports

    def _frame(self, room: Room) -> Iterator[str]:
        inner = self._width - 4
        self._drawn.add(room.id)
        yield self._edge("┌", "┐", self._width, self._room_title(room), "" if room.kind == "host" else words.role(room))
        for port in room.ports:
            # What is a port of something else is a leg of that.
            if port.kind == "loopback" or self._is_port(room, port):
                continue
            legs = list(self._legs(room, port))
            for text in self._port_lines(room, port, inner):
                yield self._row(text, inner)
            for number, leg in enumerate(legs):
                for text in self._leg(room, leg, inner, last=number + 1 == len(legs)):
                    yield self._row(text, inner)
        yield self._edge("└", "┘", self._width)

    def _legs(self, room: Room, port: Port) -> Iterator[tuple[Port | None, Room | None, Port | None]]:
        """What hangs on an interface, as: the end here, the namespace there, the end there."""
        for here in room.ports:
            if here.master == port.name:
                there = self._at(here.peer)
                yield here, *(there or (None, None))
        if not port.master and port.peer and port.peer.namespace != room.id and (there := self._at(port.peer)):
            other = there[0]
            # Between two namespaces that are no frames it is a straight link; from a frame it is drawn once.
            if other.kind != "host" and not (other.id in self._drawn and self._has_hub(other)):
                yield None, *there
        for other, child in self._children.get((room.id, port.name), ()):
            yield None, other, child

    def _at(self, place: Place | None) -> tuple[Room, Port] | None:
        if place is None or (place.namespace, place.interface) not in self._ports:
            return None
        return self._rooms[place.namespace], self._ports[place.namespace, place.interface]

    def _leg(
        self, owner: Room, leg: tuple[Port | None, Room | None, Port | None], inner: int, *, last: bool
    ) -> Iterator[str]:
        here, room, there = leg
        corner, stem = ("└", " ") if last else ("├", "│")
        name = f" {self._marked(here, here.name)} {self._state(here)}" if here else ""
        if here and (room is None or there is None or room is owner):
            yield self._dead_end(owner, here, there, f" {corner}─")
        if room is None or there is None or (here and room is owner):
            return
        if not self._boxes:
            vlans = self._vlans(here)
            name += self._paint(f"({vlans}) ", "dim") if vlans else ""
            yield f" {corner}─{name}── {self._paint(room.name, 'name')}  {self._inside(room, there)}"
            self._drawn.add(room.id)
            return
        left = max(self._longest + 8, self._size(name) + 6)
        for number, text in enumerate(self._box(room, there, inner - left)):
            lead = f" {corner}─{name}" if number == 1 else f" {'│' if number == 0 else stem}"
            if number == 2:
                lead += self._cut(self._paint(f"  {self._vlans(here)}", "dim"), left - 3)
            yield lead + ("─" if number == 1 else " ") * (left - self._size(lead)) + text

    def _dead_end(self, owner: Room, here: Port, there: Port | None, lead: str) -> str:
        """A port whose other end is in no box: there is none, or it is in the same namespace."""
        facts = [words.kind(owner, here)] if here.kind not in ("device", "veth") else []
        if there:
            facts.append(f"to {there.name} here")
        elif here.hidden:
            facts.append("to a namespace that cannot be seen from here")
        elif here.mark == "missing":
            facts.append("not there")
        facts += words.vlans(here)
        facts += [word for word in (self._plain_state(here),) if word]
        return f"{lead} {self._marked(here, here.name)}  {self._paint(', '.join(facts), 'dim')}"

    # Boxes: namespaces at the end of a leg

    def _box(self, room: Room, joined: Port, width: int) -> list[str]:
        """The box of a namespace, `joined` in its first row; one that was drawn before has only that."""
        again = room.id in self._drawn
        self._drawn.add(room.id)
        inner = width - 4
        rows = self._port_lines(room, joined, inner)
        if not again:
            for port in room.ports:
                # A bridge's ports are where its own frame is.
                if port is not joined and port.kind != "loopback" and not port.master:
                    rows += self._port_lines(room, port, inner)
            for text, mark in words.ports_of(self._topology, room)[:6]:
                rows.append(self._paint(f"{_sign(mark)}{text}", mark or "port"))
        title = self._room_title(room)
        lines = [self._edge("┌", "┐", width, title, "see above" if again else words.role(room))]
        for number, text in enumerate(rows):
            lines.append(("┤" if number == 0 else "│") + self._row(text, inner)[1:])
        return [*lines, self._edge("└", "┘", width)]

    def _inside(self, room: Room, port: Port) -> str:
        """The end inside and the published ports, in one line; what may be cut off comes last."""
        first, *rest = self._facts(room, port) or [""]
        ports = words.ports_of(self._topology, room)[:4]
        parts = [self._marked(port, port.name), first]
        parts += [self._paint(f"{_sign(mark)}{text}", mark or "port") for text, mark in ports]
        return "  ".join(filter(None, [*parts, *rest]))

    # What is joined by no frame

    def _straight(self) -> Iterator[str]:
        """Veth pairs between two namespaces, neither of them in a frame."""
        seen: set[tuple[str, str]] = set()
        for room in self._topology.rooms:
            for port in room.ports:
                other = self._at(port.peer)
                if other is None or room.kind == "host" or other[0].kind == "host" or (room.id, port.name) in seen:
                    continue
                there, end = other
                if there is room or port.master or end.master:
                    continue
                seen |= {(room.id, port.name), (there.id, end.name)}
                yield from self._pair(room, port, there, end)

    def _pair(self, one: Room, port: Port, other: Room, end: Port) -> Iterator[str]:
        if not self._boxes:
            self._drawn |= {one.id, other.id}
            ends = (
                f"{self._paint(room.name, 'name')}  {self._one_line(room, p)}"
                for room, p in ((one, port), (other, end))
            )
            yield " ── ".join(ends)
            return
        width = (self._width - 10) // 2
        left, right = self._box(one, port, width), self._box(other, end, width)
        gap = self._width - 2 * width
        height = max(len(left), len(right))
        for number in range(height):
            here = left[number] if number < len(left) else " " * width
            there = right[number] if number < len(right) else ""
            if number == 1:
                # Joined on its right side, not on its left.
                here = "│" + here[1:-1] + "├"
                yield f"{here}{'─' * gap}{there}"
            else:
                yield f"{here}{' ' * gap}{there}".rstrip()

    def _loose(self) -> Iterator[str]:
        """Namespaces that nothing leads to."""
        rooms = [room for room in self._topology.rooms if room.id not in self._drawn]
        if not self._boxes or len(rooms) > 4:
            names = [self._sign_of(room) + room.name for room in rooms]
            if names:
                yield f"joined to nothing: {words.counted(len(rooms), 'namespace')}"
                yield from (f"  {line}" for line in words.wrapped(names, self._width - 2))
            return
        for room in rooms:
            ports = [port for port in room.ports if port.kind != "loopback"]
            rows = [row for port in ports for row in self._port_lines(room, port, self._width - 4)]
            yield self._edge("┌", "┐", self._width, self._room_title(room), words.role(room))
            yield from (self._row(row, self._width - 4) for row in rows or [self._paint(_nothing(room), "dim")])
            yield self._edge("└", "┘", self._width)

    def _remarks(self) -> Iterator[str]:
        """Published ports that lead nowhere, what is wrong, and what was left out."""
        nowhere = [one for one in self._topology.published if not one.namespace and not one.mark]
        for text, _ in words.published(nowhere):
            yield f"published, but nobody has the address it leads to: {text}"
        notes = words.notes(self._topology)
        for mark, sentence in notes[:40]:
            yield self._cut(self._paint(f"{words.SIGNS[mark]} {sentence}", mark))
        if len(notes) > 40:
            yield f"and {len(notes) - 40} more"
        if left_out := self._topology.left_out:
            text = f"{words.counted(left_out, 'namespace')} more, without a name or a link to these (--all)"
            yield self._paint(text, "dim")

    # Rows

    def _port_lines(self, room: Room, port: Port, inner: int) -> list[str]:
        """An interface with its addresses; further rows where one is too narrow."""
        head = self._marked(port, port.name)
        rest = self._facts(room, port)
        lines = [head]
        for text in rest:
            if self._size(lines[-1]) + 2 + self._size(text) > inner and lines[-1].strip() and lines[-1] != head:
                lines.append(" " * len(port.name))
            lines[-1] += f"  {text}"
        return [self._cut(line, inner) for line in lines]

    def _one_line(self, room: Room, port: Port) -> str:
        return "  ".join([self._marked(port, port.name), *self._facts(room, port)])

    def _facts(self, room: Room, port: Port) -> list[str]:
        found = []
        for address in words.addresses(port):
            mark = "unowned" if address in port.unowned_addresses else ""
            found.append(self._paint(f"{_sign(mark)}{address}", mark or "address"))
        found += [self._paint(f"✗ {address}", "missing") for address in port.missing_addresses]
        if qualities := words.qualities(self._topology, room, port):
            found.append(self._paint(", ".join(qualities), "dim"))
        for text, mark in words.defaults(room, port):
            found.append(self._paint(f"{_sign(mark)}{text}", mark or "dim"))
        return found

    def _state(self, port: Port | None) -> str:
        word = self._plain_state(port)
        return self._paint(f"({word}) ", "dim") if word else ""

    @staticmethod
    def _plain_state(port: Port | None) -> str:
        if port is None or port.mark == "missing":
            return ""
        return "" if port.carries else "no carrier" if port.up else "down"

    @staticmethod
    def _vlans(port: Port | None) -> str:
        return ", ".join(words.vlans(port)) if port else ""

    def _room_title(self, room: Room) -> str:
        return self._paint(self._sign_of(room) + room.name, room.mark or "name")

    @staticmethod
    def _sign_of(room: Room) -> str:
        return _sign(room.mark)

    def _marked(self, port: Port | None, text: str) -> str:
        mark = port.mark if port else ""
        return self._paint(f"{_sign(mark)}{text}", mark)

    # Strokes

    def _edge(self, left: str, right: str, width: int, title: str = "", end: str = "") -> str:
        head = f"─ {title} " if title else ""
        tail = f" {self._paint(end, 'dim')} ─" if end else ""
        if self._size(head) + self._size(tail) > width - 2:
            tail = ""
        head = self._cut(head, width - 3)
        return left + head + "─" * (width - 2 - self._size(head) - self._size(tail)) + tail + right

    def _row(self, text: str, inner: int) -> str:
        text = self._cut(text, inner)
        return f"│ {text}{' ' * (inner - self._size(text))} │"

    def _paint(self, text: str, style: str) -> str:
        code = _STYLES[style]
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour and code and text else text

    def _size(self, text: str) -> int:
        return len(_ESCAPE.sub("", text)) if self._colour else len(text)

    def _cut(self, text: str, width: int = 0) -> str:
        """At most so many columns, with a sign that something is left out."""
        width = width or self._width
        if self._size(text) <= width:
            return text
        kept, room = [], width - 1
        for part in re.split(r"(\x1b\[[0-9;]*m)", text):
            if part.startswith("\x1b"):
                kept.append(part)
            else:
                kept.append(part[:room])
                room -= len(part[:room])
        return "".join(kept) + "…"


def _sign(mark: str) -> str:
    return f"{words.SIGNS[mark]} " if mark else ""


def _nothing(room: Room) -> str:
    return room.note if room.mark else "nothing but lo"
