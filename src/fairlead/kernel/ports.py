"""The host's published ports: sockets that keep them from other programs.

They are bound here and held by the keeper (`fairlead.keeper`), a process that outlives the daemon, so that a port stays
ours while no daemon runs.  Packets to a published port are redirected by nftables before they reach these sockets; what
the kernel cannot redirect (to the other family, and from ``::1``), the keeper relays.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import queue
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar, cast

from fairlead import keeper
from fairlead.errors import Conflict, FairleadError, Invalid
from fairlead.model import Address, Protocol

_TYPES = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "sctp": socket.SOCK_STREAM}
_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}
_BACKLOG = 128
_ANSWER_SECONDS = 10.0
"""How long the keeper may take to answer; one that takes longer is killed, and its ports are held anew."""

_OTHER_FILES = 64
"""Open files of the keeper that hold no port, and of relayed connections: a little room."""

Key = tuple[Protocol, Address | None, int]
"""A held port; no address: all of both families, which one socket holds."""
Target = tuple[Address, int]
T = TypeVar("T")

log = logging.getLogger("fairlead.ports")


class Ports:
    """The ports that this instance holds.  `run` is its run directory.  Safe to use from several threads."""

    def __init__(self, run: Path) -> None:
        self._path = run / "keeper.sock"
        self._lock = threading.RLock()
        self._held: dict[Key, Target | None] = {}
        self._keeper: _Connection | None = None
        self._picked = _Picked()

    def holds(self, key: Key) -> bool:
        """Whether we hold this port."""
        with self._lock:
            return key in self._held

    def target(self, key: Key) -> Target | None:
        """Where a held port is relayed to, if it is."""
        with self._lock:
            return self._held.get(key)

    def find(self) -> None:
        """After a start: take over what an earlier daemon's keeper holds, if there is one."""
        with self._lock:
            if self._keeper is not None:
                return
            try:
                connection = _Connection(_connect(self._path))
                self._held = connection.list()
            except (FileNotFoundError, ConnectionRefusedError):
                return
            except OSError as error:
                log.error("the keeper of the published ports gives no answer: %s", error)
                return
            self._keeper = connection
            self._listen(connection)

    def keep_only(self, keys: Iterable[Key]) -> None:
        """Give back every port but these."""
        with self._lock:
            self.release(self._held.keys() - set(keys))

    def hold(self, wanted: Mapping[Key, Target | None]) -> None:
        """Take these ports, all or none, and relay what arrives at one with a target, which is of the other family.

        Raises `Conflict` if one is in use, with none taken; those that we hold already stay as they are.
        """
        with self._lock, contextlib.ExitStack() as bound:
            # Ours are closed once the keeper has them, or if one is refused.
            missing = [key for key in wanted if key not in self._held]
            taken = {key: (bound.enter_context(self._picked.take(key) or bind(*key)), wanted[key]) for key in missing}
            if taken:
                self._pass_on(taken)

    def release(self, keys: Iterable[Key]) -> None:
        """Give ports back, on return; one not held is no error."""
        with self._lock:
            given = [key for key in keys if key in self._held]
            for key in given:
                del self._held[key]
            if given and self._keeper:
                self._keeper.release(given)

    def end(self) -> None:
        """Give back everything, and end the keeper now: with nothing to hold it would do so soon."""
        with self._lock:
            self._held.clear()
            if self._keeper:
                self._keeper.end()
                self._keeper = None

    def close(self) -> None:
        """Let go of the keeper, which goes on without us."""
        with self._lock:
            if self._keeper:
                self._keeper.leave()
                self._keeper = None

    # Ports of the kernel's choice

    @contextlib.contextmanager
    def picks(self) -> Iterator[None]:
        """Around a change, in one thread: what `pick` bound inside and `hold` did not take is let go at the end."""
        try:
            yield
        finally:
            self._picked.drop()

    def pick(self, protocol: Protocol, addresses: Sequence[Address], number: int = 0) -> int | None:
        """A port that is free on all of these addresses: this one, or (0) one that the kernel picks of
        ip_local_port_range; None if there is none.

        The sockets that found it free are the ones that `hold` will take, so nobody can come in between.
        """
        bound: dict[Key, socket.socket] = {}
        everywhere = {address.version for address in addresses if address.is_unspecified} == {4, 6}
        try:
            for address in (None,) if everywhere else addresses:
                held = bind(protocol, address, number)
                number = held.getsockname()[1]
                bound[protocol, address, number] = held
        except Conflict:
            for held in bound.values():
                held.close()
            return None
        self._picked.sockets |= bound
        return number

    # The keeper

    def _pass_on(self, taken: Mapping[Key, tuple[socket.socket, Target | None]]) -> None:
        connection = self._keeper
        if connection is None:
            connection = self._keeper = _start(self._path)
            self._listen(connection)
        if len(self._held) + len(taken) > connection.most():
            raise FairleadError(f"{len(taken)} more ports cannot be held: too many open files")
        self._held |= {key: target for key, (_, target) in taken.items()}
        connection.hold(taken)

    def _listen(self, connection: _Connection) -> None:
        threading.Thread(target=self._watch, args=(connection,), name="keeper", daemon=True).start()

    def _watch(self, connection: _Connection) -> None:
        """Until the connection ends.  If that was not our doing the keeper died: start another, with all its ports."""
        wanted = connection.listen()
        with self._lock:
            connection.close()
            if self._keeper is not connection:
                return
            self._keeper = None
            if wanted or not self._held:
                return
            log.warning("the keeper of the published ports died: holding them anew", extra={"ports": len(self._held)})
            lost, self._held = self._held, {}
            with contextlib.ExitStack() as bound:
                taken = {}
                for key, target in lost.items():
                    try:
                        taken[key] = (bound.enter_context(bind(*key)), target)
                    except FairleadError as error:
                        log.error("a published port was lost: %s", error)
                try:
                    self._pass_on(taken)
                except FairleadError as error:
                    log.error("the published ports are not held: %s", error)


class _Picked(threading.local):
    """Sockets bound by this thread to pick a port, until they are held."""

    def __init__(self) -> None:
        self.sockets: dict[Key, socket.socket] = {}

    def take(self, key: Key) -> socket.socket | None:
        return self.sockets.pop(key, None)

    def drop(self) -> None:
        while self.sockets:
            self.sockets.popitem()[1].close()


class _Connection:
    """To the keeper, in its words (see `fairlead.keeper`).

    Nothing waits for the keeper to take ports over: a socket on its way lives as long as the keeper does.
    """

    def __init__(self, sock: socket.socket, process: subprocess.Popen[bytes] | None = None) -> None:
        self._socket = sock
        self._process = process
        self._pid = process.pid if process else 0
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def most(self) -> int:
        """How many sockets it may hold."""
        try:
            return resource.prlimit(self._pid, resource.RLIMIT_NOFILE)[0] - _OTHER_FILES
        except ProcessLookupError:
            return sys.maxsize  # It just died: the next one will say.

    def hold(self, taken: Mapping[Key, tuple[socket.socket, Target | None]]) -> None:
        """Pass sockets on."""
        for some in _parts(list(taken.items())):
            lines = ["hold", *(_line(key, target) for key, (_, target) in some)]
            with contextlib.suppress(OSError):  # It died: whoever listens sees that, and starts anew with these.
                socket.send_fds(self._socket, ["\n".join(lines).encode()], [held.fileno() for _, (held, _) in some])

    def release(self, keys: list[Key]) -> None:
        """Returns when the ports are free."""
        for some in _parts(keys):
            with self._patience():
                self._socket.send("\n".join(["release", *(_line(key, None) for key in some)]).encode())
                self._answers.get(timeout=_ANSWER_SECONDS)

    def list(self) -> dict[Key, Target | None]:
        """All that it holds.  To be asked before anybody listens; raises `OSError`."""
        found: dict[Key, Target | None] = {}
        self._socket.settimeout(_ANSWER_SECONDS)
        self._socket.send(b"list")
        self._pid = int(self._socket.recv(keeper.MESSAGE).split()[1])
        while (message := self._socket.recv(keeper.MESSAGE)) not in (b"end", b""):
            for line in message.decode().splitlines():
                protocol, address, port, *target = line.split()
                key = (cast(Protocol, protocol), None if address == "*" else ip_address(address), int(port))
                found[key] = (ip_address(target[0]), int(target[1])) if target else None
        self._socket.settimeout(None)
        return found

    def listen(self) -> bool:
        """Take answers until the end of the connection; whether that was wanted."""
        wanted = False
        with contextlib.suppress(OSError):
            while message := self._socket.recv(keeper.MESSAGE):
                wanted |= message == b"displaced"
                self._answers.put(message)
        self._answers.put(b"")
        if self._process:
            self._process.wait()
        return wanted

    def end(self) -> None:
        """Returns when it is gone, its sockets with it."""
        with contextlib.suppress(OSError):
            self._socket.send(b"end")
        with self._patience():
            while self._answers.get(timeout=_ANSWER_SECONDS):
                pass

    @contextlib.contextmanager
    def _patience(self) -> Iterator[None]:
        """Around a question.  If it died its sockets are gone, which is what we ask for; if it is stuck it must die."""
        try:
            yield
        except queue.Empty:
            log.error("the keeper of the published ports does not answer: killing it")
            os.kill(self._pid, signal.SIGKILL)
        except OSError:
            return

    def leave(self) -> None:
        """Leave it alone: who listens sees the end, and closes."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """After its end, when nobody listens."""
        self._socket.close()


def _start(path: Path) -> _Connection:
    """A new keeper.  Its socket is made here, so that we need not wait until it runs."""
    # The run directory on its command line tells people, and tests, whose it is.
    command = [sys.executable, "-I", "-S", keeper.__file__, str(path)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            with _short(path) as name:
                listener.bind(name)
            path.chmod(0o600)  # Nobody could connect yet.  A mask would be that of other threads' files as well.
            listener.listen(1)
            sock = _connect(path)
            # Not our own standard error: whoever waits for its end waits for the daemon's end.
            with open(path.with_suffix(".log"), "wb") as errors:
                process = subprocess.Popen(
                    command, stdin=listener.fileno(), stdout=errors, stderr=errors, start_new_session=True
                )
            _raise_limit(process.pid)
    except OSError as error:
        raise FairleadError(f"the keeper of the published ports cannot be started: {error}") from None
    return _Connection(sock, process)


def _raise_limit(pid: int) -> None:
    """As many open files as there can be: each held port is one.  Not for ourselves, as containers inherit that."""
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    with contextlib.suppress(OSError, ValueError):  # Without CAP_SYS_RESOURCE it stays with our own limit.
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))


def _connect(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with _short(path) as name:
            sock.connect(name)
    except OSError:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for a socket's path, which may itself be longer than the 108 bytes of an address (unix(7))."""
    directory = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _parts(things: list[T]) -> Iterator[list[T]]:
    """As many at a time as a message may carry."""
    for start in range(0, len(things), keeper.SOCKETS):
        yield things[start : start + keeper.SOCKETS]


def _line(key: Key, target: Target | None) -> str:
    protocol, address, port = key
    return " ".join(map(str, (protocol, address or "*", port, *(target or ()))))


def bind(protocol: Protocol, address: Address | None, port: int) -> socket.socket:
    """A socket that keeps everyone else from `port` (0: any free one); raises `Conflict`, `Invalid`."""
    if address:
        return _bind(protocol, address, port, both=False)
    try:
        return _bind(protocol, _EVERYWHERE[1], port, both=True)
    except Conflict:
        for one in _EVERYWHERE:
            _bind(protocol, one, port, both=False).close()  # In which family is it?
        raise


_EVERYWHERE = (ip_address("0.0.0.0"), ip_address("::"))


def _bind(protocol: Protocol, address: Address, port: int, *, both: bool) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    where = f"{address}:{port}/{protocol}" if address.version == 4 else f"[{address}]:{port}/{protocol}"
    try:
        held = socket.socket(family, _TYPES[protocol] | socket.SOCK_CLOEXEC, _PROTOCOLS[protocol])
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise FairleadError(f"port {where} cannot be held: too many open files") from None
        if protocol == "sctp" and error.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
            raise Invalid(f"port {where} cannot be published: this host's kernel has no SCTP (module sctp)") from None
        raise Invalid(f"port {where} cannot be published: {error.strerror}") from None
    try:
        if family == socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
        if protocol != "udp" and port:
            # Closed connections may linger on the port.  With this set only a listening socket keeps others out, so
            # the holder listens even where nothing will ever reach it.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((str(address), port))
        if protocol != "udp":
            held.listen(_BACKLOG)
    except OSError as error:
        held.close()
        if error.errno == errno.EADDRINUSE:
            raise Conflict(f"port {where} is in use by another program on this host") from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise Invalid(f"port {where} cannot be published: this host has no address {address}") from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise Invalid(f"port {where} cannot be published: a port below 1024 needs root") from None
        raise Invalid(f"port {where} cannot be published: {os.strerror(error.errno or 0)}") from None
    return held
