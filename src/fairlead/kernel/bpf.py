"""Small BPF programs, packed by hand and attached to tracepoints (man 2 bpf, linux/bpf.h, RFC 9669).

What is loaded here only reads.  Programs and maps are descriptors: the kernel takes them away with the process, however
it ends.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import platform
import struct
from collections.abc import Iterator

from fairlead.errors import KernelError, MissingFeature

_NUMBERS = {"x86_64": 321, "i686": 357, "armv7l": 386, "s390x": 351, "ppc64le": 361}
_OTHERS = 280
"""The number of bpf(2): by machine, and on all whose numbers are the generic ones (aarch64, riscv64, loongarch64)."""

_MAP_CREATE, _LOOKUP_AND_DELETE, _PROG_LOAD, _RAW_TRACEPOINT_OPEN = 0, 21, 5, 17
_MAP_TYPE_QUEUE = 22
_PROG_TYPE_RAW_TRACEPOINT = 17
_PSEUDO_MAP_FD = 1

_MAP_PUSH, _KTIME, _PROBE_READ_KERNEL = 87, 5, 113
"""Helpers: bpf_map_push_elem, bpf_ktime_get_ns, bpf_probe_read_kernel (Linux 5.5)."""

_ATTEMPTS = 20

_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    number = _NUMBERS.get(platform.machine(), _OTHERS)
    found = _libc.syscall(number, command, buffer, 128)
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(found)


def _persistently(command: int, attributes: bytes) -> int:
    """Again where a signal for this thread (a child has ended, say) made the kernel's verifier give up: EAGAIN."""
    for _ in range(_ATTEMPTS):
        try:
            return _bpf(command, attributes)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
    return _bpf(command, attributes)


class Queue:
    """A map that a program puts records of one size into, and a reader takes them out of.

    Once it has held as many as fit, `full` is true: others may have been lost.
    """

    def __init__(self, size: int, records: int) -> None:
        self.full = False
        self._records = records
        try:
            self.fd = _bpf(_MAP_CREATE, struct.pack("=IIII", _MAP_TYPE_QUEUE, 0, size, records))
        except OSError as error:
            raise MissingFeature(
                f"the kernel refuses BPF maps: {error.strerror} (CONFIG_BPF_SYSCALL, CAP_BPF)"
            ) from None
        self._value = ctypes.create_string_buffer(size)
        self._request = struct.pack("=IIQQQ", self.fd, 0, 0, ctypes.addressof(self._value), 0)

    def take(self) -> Iterator[bytes]:
        """The records that are there, in the order in which they came."""
        for number in itertools.count(1):
            try:
                _bpf(_LOOKUP_AND_DELETE, self._request)
            except OSError as error:
                if error.errno == errno.ENOENT:
                    return
                raise
            self.full |= number >= self._records
            yield self._value.raw

    def close(self) -> None:
        """Let go."""
        os.close(self.fd)


class Program:
    """Instructions in the order in which they are added.  Registers are numbers; r10 is the end of the stack.

    A jump names a label, which `label` places further on.
    """

    def __init__(self) -> None:
        self._code: list[bytes] = []
        self._jumps: list[tuple[int, str]] = []
        self._labels: dict[str, int] = {}

    def _add(self, code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> None:
        self._code.append(struct.pack("=BBhi", code, source << 4 | to, offset, _signed(value)))

    def label(self, name: str) -> None:
        """The place that jumps to `name` go to."""
        self._labels[name] = len(self._code)

    def move(self, to: int, source: int) -> None:
        """to = source."""
        self._add(0xBF, to, source)

    def set(self, to: int, value: int) -> None:
        """to = value (32 bits, sign extended)."""
        self._add(0xB7, to, value=value)

    def add(self, to: int, value: int) -> None:
        """to += value."""
        self._add(0x07, to, value=value)

    def add_register(self, to: int, source: int) -> None:
        """to += source."""
        self._add(0x0F, to, source)

    def load(self, to: int, base: int, offset: int, size: int) -> None:
        """to = the `size` bytes at base + offset, which the verifier must know to be readable."""
        self._add({1: 0x71, 2: 0x69, 4: 0x61, 8: 0x79}[size], to, base, offset)

    def store(self, base: int, offset: int, source: int, size: int) -> None:
        """The `size` bytes at base + offset = source."""
        self._add({1: 0x73, 2: 0x6B, 4: 0x63, 8: 0x7B}[size], base, source, offset)

    def mask(self, to: int, value: int) -> None:
        """to &= value."""
        self._add(0x57, to, value=value)

    def jump(self, label: str) -> None:
        """Go to a label."""
        self._jumps.append((len(self._code), label))
        self._add(0x05)

    def jump_equal(self, register: int, value: int, label: str) -> None:
        """Go to a label if the lower half of the register is `value`."""
        self._jumps.append((len(self._code), label))
        self._add(0x16, register, value=value)

    def jump_unequal(self, register: int, value: int, label: str) -> None:
        """Go to a label if the lower half of the register is not `value`."""
        self._jumps.append((len(self._code), label))
        self._add(0x56, register, value=value)

    def read(self, stack: int, size: int, base: int, offset: int) -> None:
        """Copy `size` bytes of the kernel's memory at base + offset to the stack; zeros where it cannot be read."""
        self.move(1, 10)
        self.add(1, stack)
        self.set(2, size)
        self.move(3, base)
        self.add(3, offset)
        self._add(0x85, value=_PROBE_READ_KERNEL)

    def time(self) -> None:
        """r0 = nanoseconds of CLOCK_MONOTONIC."""
        self._add(0x85, value=_KTIME)

    def push(self, queue: Queue, stack: int) -> None:
        """Put the record at this place of the stack into a queue; when it is full, the record is lost."""
        self._add(0x18, 1, _PSEUDO_MAP_FD, value=queue.fd)
        self._add(0)
        self.move(2, 10)
        self.add(2, stack)
        self.set(3, 0)
        self._add(0x85, value=_MAP_PUSH)

    def end(self) -> None:
        """Return 0."""
        self.set(0, 0)
        self._add(0x95)

    def attach(self, tracepoint: str) -> int:
        """Load it and run it at each passing of a tracepoint, until the descriptor that is returned is closed."""
        code = list(self._code)
        for place, label in self._jumps:
            offset = struct.pack("=h", self._labels[label] - place - 1)
            code[place] = code[place][:2] + offset + code[place][4:]
        program = self._load(b"".join(code), tracepoint)
        try:
            name = ctypes.create_string_buffer(tracepoint.encode())
            return _bpf(_RAW_TRACEPOINT_OPEN, struct.pack("=QI", ctypes.addressof(name), program))
        except OSError as error:
            raise MissingFeature(f"the kernel has no tracepoint {tracepoint}: {error.strerror}") from None
        finally:
            os.close(program)

    def _load(self, code: bytes, what: str) -> int:
        instructions = ctypes.create_string_buffer(code, len(code))
        # The helper that reads memory is only for programs that say they are under the GPL; these bytes may be so used.
        licence = ctypes.create_string_buffer(b"GPL")
        log = ctypes.create_string_buffer(1 << 16)

        def attributes(level: int) -> bytes:
            return struct.pack(
                "=IIQQIIQ",
                _PROG_TYPE_RAW_TRACEPOINT,
                len(code) // 8,
                ctypes.addressof(instructions),
                ctypes.addressof(licence),
                level,
                len(log) if level else 0,
                ctypes.addressof(log) if level else 0,
            )

        try:
            return _persistently(_PROG_LOAD, attributes(0))
        except OSError as error:
            if error.errno == errno.EPERM:
                raise MissingFeature("the kernel does not let BPF programs read it (lockdown, or no CAP_BPF)") from None
            try:
                return _persistently(_PROG_LOAD, attributes(1))
            except OSError:
                said = log.value.decode(errors="replace").strip().splitlines()[-3:]
                raise KernelError(f"the kernel refuses the program for {what}: {'; '.join(said)}") from error


def _signed(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value
