"""nftables through libnftables in this process (man 3 libnftables, man 8 nft): no `nft` is started per change."""

from __future__ import annotations

import builtins
import ctypes
import threading
from dataclasses import dataclass
from typing import Any

import msgspec

from fairlead.errors import KernelError, MissingProgram
from fairlead.kernel import descriptors
from fairlead.kernel.netlink import NETLINK_NETFILTER, Message, Socket, attributes

_OUTPUT_HANDLE, _OUTPUT_JSON, _OUTPUT_TERSE = 1 << 3, 1 << 4, 1 << 11
"""Flags of nft_ctx_output_set_flags; terse: sets without their elements."""
_PR_SET_NAME = 15

_GETTABLE, _NFGENMSG = (10 << 8) | 1, 4
_NFTA_TABLE_NAME, _NFTA_TABLE_FLAGS, _F_OWNER = 1, 2, 2
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
"""NFNL_SUBSYS_NFTABLES with NFT_MSG_GETTABLE; the families are NFPROTO_* (linux/netfilter.h, nf_tables.h)."""

THREAD_NAME = b"fairlead-nft"
"""What a thread of ours is called once it changed nftables.

The kernel names the thread behind each change (NFTA_GEN_PROC_NAME), which, other than its number, means the same in
every process id namespace; so `fairlead.kernel.watch` can tell our changes from others'.
"""

_libc = ctypes.CDLL(None)
_lock = threading.Lock()
"""One for all contexts: the library keeps some of its state (the parser's, that of iptables' extensions) for itself."""


class Nftables:
    """One libnftables context, opened at first use.

    A context works in the network namespace of the thread that first uses it and is not thread-safe, hence
    the lock.
    """

    def __init__(self, *, json: bool = True) -> None:
        self._flags = _OUTPUT_JSON if json else _OUTPUT_HANDLE | _OUTPUT_TERSE
        self._library: Any = None
        self._context: Any = None

    def run(self, commands: str) -> None:
        """Apply commands as one transaction: all of them or none.  Raises `KernelError` with nft's own sentence."""
        with _lock:
            self._open()
            _libc.prctl(_PR_SET_NAME, THREAD_NAME)
            if self._library.nft_run_cmd_from_buffer(self._context, commands.encode()) != 0:
                raise KernelError(f"nftables: {self._error()}")

    def list(self, what: str) -> builtins.list[dict[str, Any]]:
        """The objects that ``nft -j list WHAT`` prints, empty when there is no such object."""
        return [thing for thing in self._query(f"list {what}") if "metainfo" not in thing]

    def table(self, table: str) -> builtins.list[dict[str, Any]]:
        """What ``nft -j list table TABLE`` prints; of one with flags only its chains and rules (see `tables`)."""
        if not any(str(one) == table and one.flagged for one in tables()):
            return self.list(f"table {table}")
        chains = (thing["chain"] for thing in self.list("chains") if "chain" in thing)
        names = [one["name"] for one in chains if f"{one['family']} {one['table']}" == table]
        return [thing for name in names for thing in self.list(f"chain {table} {name}")]

    def version(self) -> str:
        """The library's version; empty where the kernel gives it no answer at all."""
        found = (thing["metainfo"] for thing in self._query("list chains") if "metainfo" in thing)
        return next((str(one.get("version", "")) for one in found), "")

    def text(self, command: str) -> str:
        """What nft prints; for a context made without JSON.  Raises `KernelError` with nft's own sentence."""
        with _lock:
            self._open()
            if self._library.nft_run_cmd_from_buffer(self._context, command.encode()) != 0:
                raise KernelError(f"nftables: {self._error()}")
            return (self._library.nft_ctx_get_output_buffer(self._context) or b"").decode(errors="replace")

    def close(self) -> None:
        """Let go of the context; the kernel takes away the tables that it owned (``flags owner``)."""
        with _lock:
            if self._context is not None:
                self._library.nft_ctx_free(self._context)
                self._context = None
                descriptors.keep()

    def _query(self, command: str) -> builtins.list[dict[str, Any]]:
        with _lock:
            self._open()
            if self._library.nft_run_cmd_from_buffer(self._context, command.encode()) != 0:
                return []
            output = self._library.nft_ctx_get_output_buffer(self._context)
        found: builtins.list[dict[str, Any]] = msgspec.json.decode(output or b"{}").get("nftables", [])
        return found

    def has_table(self, table: str) -> bool:
        """Whether a table (``inet fairlead``) exists in the kernel.  To list the table would list its elements."""
        return table in map(str, tables())

    def has_element(self, table: str, name: str, key: str, value: str = "") -> bool:
        """Whether a set has this element; for a map, with this value."""
        # libnftables 1.0.6 answers `get element` with text even when asked for JSON.
        with _lock:
            self._open()
            command = f"get element {table} {name} {{ {key} }}"
            if self._library.nft_run_cmd_from_buffer(self._context, command.encode()) != 0:
                return False
            output = self._library.nft_ctx_get_output_buffer(self._context) or b""
        return _flat(value) in _flat(output.decode(errors="replace"))

    def _open(self) -> None:
        if self._context is not None:
            return
        try:
            library = ctypes.CDLL("libnftables.so.1")
        except OSError:
            raise MissingProgram("libnftables is not installed: install the package libnftables1") from None
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
        library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer", "nft_ctx_buffer_output", "nft_ctx_free"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
        library.nft_ctx_buffer_error.argtypes = [ctypes.c_void_p]
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]

        def new() -> Any:
            context = library.nft_ctx_new(0)
            if not context:
                raise KernelError("libnftables gives no context: is this kernel built with nf_tables?")
            return context

        context = descriptors.small(new, library.nft_ctx_free)
        library.nft_ctx_buffer_output(context)
        library.nft_ctx_buffer_error(context)
        library.nft_ctx_output_set_flags(context, self._flags)
        self._library, self._context = library, context

    def _error(self) -> str:
        raw = self._library.nft_ctx_get_error_buffer(self._context) or b""
        lines = [line for line in raw.decode(errors="replace").splitlines() if "rror:" in line]
        return lines[0].split("rror:", 1)[1].strip() if lines else "the kernel refused the change"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of this thread's namespace.  `owned`: only the process that made it can change it (``flags owner``)."""

    family: str
    name: str
    flagged: bool = False
    owned: bool = False

    def __str__(self) -> str:
        return f"{self.family} {self.name}"


def tables() -> builtins.list[Table]:
    """All of them, asked of the kernel: of a table's flags libnftables 1.0.6 makes JSON out of stray memory."""
    sock = Socket(NETLINK_NETFILTER)
    try:
        answers = sock.dump(Message(_GETTABLE, 0, bytes(_NFGENMSG)))
    finally:
        sock.close()
    found = []
    for body in answers:
        values = dict(attributes(body[_NFGENMSG:]))
        flags = int.from_bytes(values.get(_NFTA_TABLE_FLAGS, b""), "big")
        name = values[_NFTA_TABLE_NAME].rstrip(b"\0").decode(errors="replace")
        found.append(Table(_FAMILIES.get(body[0], str(body[0])), name, bool(flags), bool(flags & _F_OWNER)))
    return found


def _flat(words: str) -> str:
    """Comparable across nft's two ways to write a concatenation: ``a . b`` and ``["a", "b"]``."""
    return "".join(c for c in words.replace(" . ", ",") if c not in '"[] ')
