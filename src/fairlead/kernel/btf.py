"""The running kernel's own types: where a field lies in a structure, what an enumeration's numbers are called.

Structures differ from one kernel to the next; /sys/kernel/btf/vmlinux says how they are here (linux/btf.h,
kernel.org/doc/html/latest/bpf/btf.html).
"""

from __future__ import annotations

import array
import struct
from pathlib import Path

from fairlead.errors import MissingFeature

VMLINUX = Path("/sys/kernel/btf/vmlinux")

_HEADER = struct.Struct("=HBBIIIII")
_TYPE = struct.Struct("=III")
_MEMBER = struct.Struct("=III")
_ENUMERATOR = struct.Struct("=Ii")
_MAGIC = 0xEB9F

_PTR, _STRUCT, _UNION, _ENUM, _TYPEDEF, _FUNC_PROTO = 2, 4, 5, 6, 8, 13
_MODIFIERS = (_TYPEDEF, 9, 10, 11, 18)
"""Typedef, volatile, const, restrict, type tag: they stand before another type."""
_FIXED = {1: 4, 3: 12, 14: 4, 17: 4}
_EACH = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _FUNC_PROTO: 8, 15: 12, 19: 12}
"""Bytes that follow the header of a type, once or for each of its members."""


class Types:
    """All types of a kernel; reading them takes a tenth of a second, so keep it."""

    def __init__(self, data: bytes) -> None:
        magic, _, _, length, types, types_length, strings, strings_length = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise MissingFeature("the kernel's type information has another byte order or form than this program")
        self._data = data
        self._strings = data[length + strings : length + strings + strings_length]
        self._offsets = array.array("I", [0])
        self._named: dict[int, list[int]] = {}
        offset, end = length + types, length + types + types_length
        unpack, add = _TYPE.unpack_from, self._offsets.append
        while offset < end:
            name, info, _ = unpack(data, offset)
            if name:
                self._named.setdefault(name, []).append(len(self._offsets))
            add(offset)
            kind = info >> 24 & 0x1F
            offset += 12 + _FIXED.get(kind, 0) + _EACH.get(kind, 0) * (info & 0xFFFF)

    @classmethod
    def of_this_kernel(cls) -> Types:
        """Raises `MissingFeature` on kernels built without CONFIG_DEBUG_INFO_BTF."""
        try:
            return cls(VMLINUX.read_bytes())
        except OSError:
            raise MissingFeature(f"this kernel has no {VMLINUX} (CONFIG_DEBUG_INFO_BTF)") from None

    def offset(self, name: str, *path: str) -> int:
        """Bytes from the start of ``struct NAME`` to a field; of several fields each lies in the one before.

        Raises `LookupError` where this kernel has no such structure or field.
        """
        current = self._find(name, _STRUCT)
        total = 0
        for field in path:
            found = self._field(self._plain(current), field)
            if found is None:
                raise LookupError(f"struct {name} has no field {'.'.join(path)}")
            bits, current = found
            total += bits // 8
        return total

    def parameters(self, typedef: str) -> int:
        """How many parameters a function has that a typedef points to."""
        identity = self._plain(self._find(typedef, _TYPEDEF))
        kind, _, target = self._type(identity)
        if kind == _PTR:
            _, count, _ = self._type(target)
            return count
        return 0

    def enumeration(self, name: str) -> dict[int, str]:
        """The names of an enumeration by number; empty where this kernel has none of that name."""
        try:
            identity = self._find(name, _ENUM)
        except LookupError:
            return {}
        _, count, _ = self._type(identity)
        start = self._offsets[identity] + 12
        pairs = (_ENUMERATOR.unpack_from(self._data, start + 8 * number) for number in range(count))
        return {value: self._string(text) for text, value in pairs}

    def _find(self, name: str, kind: int) -> int:
        word = b"\0" + name.encode() + b"\0"
        at = self._strings.find(word)
        while at >= 0:
            for identity in self._named.get(at + 1, ()):
                if self._type(identity)[0] == kind:
                    return identity
            at = self._strings.find(word, at + 1)
        raise LookupError(f"this kernel has no type {name}")

    def _type(self, identity: int) -> tuple[int, int, int]:
        """Kind, number of members, and size or the type that it refers to."""
        _, info, target = _TYPE.unpack_from(self._data, self._offsets[identity])
        return info >> 24 & 0x1F, info & 0xFFFF, target

    def _plain(self, identity: int) -> int:
        kind, _, target = self._type(identity)
        while kind in _MODIFIERS:
            identity = target
            kind, _, target = self._type(identity)
        return identity

    def _field(self, identity: int, wanted: str) -> tuple[int, int] | None:
        """Bits from the start, and the type, of a field; fields of unnamed members count as the structure's own."""
        kind, count, _ = self._type(identity)
        if kind not in (_STRUCT, _UNION):
            return None
        start = self._offsets[identity]
        packed = _TYPE.unpack_from(self._data, start)[1] >> 31  # The upper byte is then a bit field's width.
        for number in range(count):
            name, target, bits = _MEMBER.unpack_from(self._data, start + 12 + 12 * number)
            bits = bits & 0xFFFFFF if packed else bits
            if name and self._string(name) == wanted:
                return bits, target
            if not name and (found := self._field(self._plain(target), wanted)):
                return bits + found[0], found[1]
        return None

    def _string(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()
