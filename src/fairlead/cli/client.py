"""A blocking HTTP/1.1 client for the daemon's unix socket, and starting the daemon when it is not there.

`http.client` does all this too, but importing it takes longer than asking the daemon (48 ms against 3 ms), and it has
no way to take the connection over after ``101 Switching Protocols``.  RFC 9112 is what is spoken.
"""

from __future__ import annotations

import os

from fairlead.cli.flags import Failure
from fairlead.cli.quick import dumps, loads, unix_socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    Value = str | int | bool | list[str] | None

_BLOCK = 1 << 16


class Unreachable(Failure):
    """The daemon cannot be reached."""


class ApiError(Failure):
    """The daemon refused; `status` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def own_socket() -> str:
    """The socket of this instance's daemon; the same as `fairlead.paths`, without its imports."""
    run = os.environ.get("FAIRLEAD_RUN") or "/run/fairlead"
    if not run.startswith("/"):
        raise Failure(f"FAIRLEAD_RUN is {run!r}: an absolute path is needed")
    return f"{run.rstrip('/')}/fairlead.sock"


def socket_path() -> str:
    """Where the daemon is: ``FAIRLEAD_HOST``, or our own socket."""
    host = os.environ.get("FAIRLEAD_HOST", "")
    if not host:
        return own_socket()
    path = host.removeprefix("unix://")
    if not path.startswith("/"):
        raise Failure(f"FAIRLEAD_HOST is {host!r}: only unix:///PATH is allowed")
    return path


def quote(text: str) -> str:
    """Percent-encode everything but unreserved characters and ``/`` (RFC 3986)."""
    return "".join(
        chr(byte) if byte < 128 and (chr(byte).isalnum() or chr(byte) in "-._~/") else f"%{byte:02X}"
        for byte in text.encode("utf-8", "surrogateescape")
    )


def segment(text: str) -> str:
    """A reference as one segment of a path; a slash in it is no separator."""
    return quote(text).replace("/", "%2F")


def target(path: str, query: Mapping[str, Value]) -> str:
    """Path and query; parameters that are None or False are left out, a list is given word by word."""
    given = [
        f"{name}={quote('1' if word is True else str(word))}"
        for name, value in query.items()
        for word in (value if isinstance(value, list) else [value])
        if word is not None and word is not False
    ]
    return path + ("?" + "&".join(given) if given else "")


def as_json(value: Any) -> str:
    """A value for the daemon.  Words of the command line may hold any bytes, JSON holds UTF-8; raises `Failure`."""
    text = dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        start, end = text.rfind('"', 0, error.start) + 1, text.find('"', error.start)
        word = os.fsencode(text[start:end]).decode(errors="backslashreplace")
        raise Failure(f"'{word}' is no UTF-8, which is all that the daemon can be told") from None
    return text


class Connection:
    """One connection, with what was read from it but not used yet."""

    def __init__(self, path: str) -> None:
        self.sock = unix_socket(path)
        self.buffer = b""

    def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes | Iterable[bytes] | None) -> None:
        """Send a request; a body of unknown length goes in chunks."""
        head = [f"{method} {path} HTTP/1.1", "Host: fairlead", *(f"{name}: {value}" for name, value in headers.items())]
        if isinstance(body, bytes):
            head.append(f"Content-Length: {len(body)}")
        elif body is not None:
            head.append("Transfer-Encoding: chunked")
        elif method == "POST":
            head.append("Content-Length: 0")
        start = "\r\n".join(head).encode() + b"\r\n\r\n"
        if body is None or isinstance(body, bytes):
            self.sock.sendall(start + (body or b""))
            return
        self.sock.sendall(start)
        try:
            for chunk in body:
                if chunk:
                    self.sock.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            self.sock.sendall(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # the daemon answered before it had read everything: the answer says why

    def more(self) -> bytes:
        """Read what there is; empty at the end."""
        return self.sock.recv(_BLOCK)

    def line(self) -> bytes:
        """One line without its end."""
        while b"\n" not in self.buffer:
            data = self.more()
            if not data:
                raise ConnectionResetError("the daemon closed the connection")
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.rstrip(b"\r")

    def exactly(self, length: int) -> Iterator[bytes]:
        """The next `length` bytes, as they come."""
        while length:
            data = self.buffer or self.more()
            if not data:
                raise ConnectionResetError("the daemon closed the connection")
            part, self.buffer = data[:length], data[length:]
            length -= len(part)
            yield part

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()


class Response:
    """An answer: the head is read, the body is read by who wants it."""

    def __init__(self, connection: Connection, method: str) -> None:
        self.connection = connection
        status: bytes = connection.line()
        try:
            self.status = int(status.split(b" ", 2)[1])
        except (ValueError, IndexError):
            raise Unreachable(f"what answers on the socket does not speak HTTP: {status[:60]!r}") from None
        self.headers: dict[str, str] = {}
        while line := connection.line():
            name, _, value = line.decode("latin-1").partition(":")
            self.headers[name.strip().lower()] = value.strip()
        self._empty = method == "HEAD" or self.status in (101, 204, 304)

    def stream(self) -> Iterator[bytes]:
        """The body as it comes; the connection is closed at its end."""
        connection = self.connection
        try:
            if self._empty:
                return
            if self.headers.get("transfer-encoding", "").lower() == "chunked":
                while size := int(connection.line().split(b";")[0], 16):
                    yield from connection.exactly(size)
                    connection.line()
                while connection.line():
                    pass  # trailers
            elif "content-length" in self.headers:
                yield from connection.exactly(int(self.headers["content-length"]))
            else:
                if connection.buffer:
                    yield connection.buffer
                while data := connection.more():
                    yield data
        finally:
            connection.close()

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self.stream())

    def messages(self) -> Iterator[dict[str, Any]]:
        """A body of JSON objects, one a line, as they come."""
        rest = b""
        for part in self.stream():
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                if line.strip():
                    yield loads(line)
        if rest.strip():
            yield loads(rest)


class Client:
    """The daemon's API.  Each request has its own connection: over a unix socket that costs nothing worth saving."""

    def __init__(self, path: str | None = None, *, start: bool = True) -> None:
        self.path = path or socket_path()
        self._start = start and self.path == own_socket()

    def connect(self) -> Connection:
        """A connection; starts the daemon where it is ours and does not answer."""
        try:
            return Connection(self.path)
        except OSError as error:
            if isinstance(error, PermissionError):
                raise Unreachable(f"no permission to use the daemon's socket {self.path}: be root") from None
            if not self._start or os.geteuid() != 0:
                reason = "is it running?" if os.geteuid() == 0 else "be root to have it started"
                raise Unreachable(f"cannot reach the Fairlead daemon at unix://{self.path}: {reason}") from None
        from fairlead.cli.start import start_daemon

        start_daemon()
        try:
            return Connection(self.path)
        except OSError as error:
            raise Unreachable(
                f"cannot reach the Fairlead daemon at unix://{self.path}: {error.strerror or error}"
            ) from None

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, Value] | None = None,
    ) -> Response:
        """Send a request (`body` as JSON, or `raw`); raises `ApiError` for what the daemon refuses."""
        head = dict(headers or {})
        if body is not None:
            head["Content-Type"] = "application/json"
            raw = as_json(body).encode()
        elif raw is not None:
            head["Content-Type"] = "application/x-tar"
        # A daemon that is just being killed still takes connections.  What only asks, asks the next one.
        for _ in range(2 if method == "GET" else 1):
            connection = self.connect()
            try:
                connection.send(method, target(path, query or {}), head, raw)
                response = Response(connection, method)
                if response.status >= 400:
                    raise ApiError(_message(response), response.status)
                return response
            except ConnectionError:
                connection.close()
            except BaseException:
                connection.close()
                raise
        raise Unreachable("the daemon closed the connection before it answered: see its log")

    def get(self, path: str, **query: Value) -> Any:
        """The JSON answer of a GET."""
        return _decode(self.request("GET", path, query=query))

    def post(self, path: str, body: Any = None, **query: Value) -> Any:
        """The JSON answer of a POST, None where it is empty."""
        return _decode(self.request("POST", path, body, query=query))

    def delete(self, path: str, **query: Value) -> Any:
        """The JSON answer of a DELETE, None where it is empty."""
        return _decode(self.request("DELETE", path, query=query))

    def upgrade(self, path: str, body: Any = None, **query: Value) -> tuple[Connection, bool]:
        """Take the connection over (attach, exec); tells whether stdout and stderr come multiplexed on it."""
        response = self.request("POST", path, body, headers={"Connection": "Upgrade", "Upgrade": "tcp"}, query=query)
        if response.status != 101:
            response.connection.close()
            raise Failure(f"the daemon answered {response.status} instead of handing the stream over")
        return response.connection, response.headers.get("content-type", "").endswith("multiplexed-stream")


def _decode(response: Response) -> Any:
    try:
        data = response.read()
    except ConnectionError:
        raise Unreachable("the daemon closed the connection before it had answered: see its log") from None
    return loads(data) if data.strip() else None


def _message(response: Response) -> str:
    data = response.read()
    try:
        return str(loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data.decode("utf-8", "replace").strip() or f"the daemon answered {response.status}"
