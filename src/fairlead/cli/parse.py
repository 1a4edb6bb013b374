"""The words of ``run`` and ``create`` as the API takes them: ports, volumes, environment, networks, sizes.  Pure."""

from __future__ import annotations

from fairlead.cli.flags import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from fairlead.cli.flags import Options

PROTOCOLS = ("tcp", "udp", "sctp")
RESTART = ("no", "always", "unless-stopped", "on-failure")


def publish(text: str) -> list[tuple[str, dict[str, str]]]:
    """``[ip:][host[-end]]:ctr[-end][/proto]`` as pairs of "80/tcp" and Docker's PortBinding.

    A host range for one container port stays a range: the daemon takes any free port of it.  Source: docs.docker.com,
    "Publishing ports"; IPv6 addresses stand in brackets.
    """
    main, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in PROTOCOLS:
        raise Usage(f"invalid port {text!r}: the protocol is one of {', '.join(PROTOCOLS)}")
    address, host, inside = _port_words(text, main)
    if not inside:
        raise Usage(f"invalid port {text!r}: the container's port is missing")
    first, last = _range(text, inside, "container port", least=1)
    if not host:
        return [(f"{port}/{protocol}", _binding(address, "")) for port in range(first, last + 1)]
    host_first, host_last = _range(text, host, "host port", least=0)
    if first == last:
        wanted = str(host_first) if host_first == host_last else f"{host_first}-{host_last}"
        return [(f"{first}/{protocol}", _binding(address, wanted))]
    if last - first != host_last - host_first:
        raise Usage(f"invalid port {text!r}: the host range and the container range differ in length")
    shift = host_first - first
    return [(f"{port}/{protocol}", _binding(address, str(port + shift))) for port in range(first, last + 1)]


def _port_words(text: str, main: str) -> tuple[str, str, str]:
    from ipaddress import ip_address

    rest, _, inside = main.rpartition(":")
    address, _, host = rest.rpartition(":") if not rest.endswith("]") else (rest, "", "")
    if rest.endswith("]") or (address.startswith("[") and not address.endswith("]")):
        raise Usage(f"invalid port {text!r}: [ADDRESS]:HOST:CONTAINER is needed, HOST may be empty")
    if not address:
        return "", host, inside
    bare = address[1:-1] if address.startswith("[") else address
    try:
        if (":" in bare) != address.startswith("["):
            raise ValueError
        return str(ip_address(bare)), host, inside
    except ValueError:
        raise Usage(f"invalid port {text!r}: {address!r} is no address of the host (IPv6 stands in brackets)") from None


def _binding(address: str, port: str) -> dict[str, str]:
    return {"HostIp": address, "HostPort": port}


def _range(text: str, words: str, what: str, *, least: int) -> tuple[int, int]:
    first, dash, last = words.partition("-")
    numbers = [first, last] if dash else [first]
    if not all(number.isascii() and number.isdigit() and least <= int(number[:6]) <= 65535 for number in numbers):
        raise Usage(f"invalid port {text!r}: the {what} is a number from {least or 1} to 65535, or a range of them")
    low, high = int(first), int(numbers[-1])
    if high < low:
        raise Usage(f"invalid port {text!r}: the {what} range ends before it starts")
    return low, high


def exposed(text: str) -> list[str]:
    """``--expose 80-90/udp`` as "80/udp"…"""
    if ":" in text:
        raise Usage(f"invalid port {text!r}: --expose takes PORT[-END][/PROTOCOL]")
    return [port for port, _ in publish(text)]


def environment(words: Iterable[str], files: Iterable[str], own: Mapping[str, str]) -> list[str]:
    """``-e`` and ``--env-file`` together; a bare name takes our own value, and is left out where there is none."""
    found = []
    for file in files:
        for number, line in enumerate(_read_lines(file), 1):
            line = line.lstrip()
            if line and not line.startswith("#"):
                name = line.partition("=")[0]
                if not name or any(character.isspace() for character in name):
                    raise Usage(f"invalid variable in {file}, line {number}: NAME=VALUE or NAME is needed")
                found.append(line)
    for word in words:
        if not word or word.startswith("="):
            raise Usage(f"invalid environment variable {word!r}: NAME=VALUE or NAME is needed")
        found.append(word)
    return [word if "=" in word else f"{word}={own[word]}" for word in found if "=" in word or word in own]


def labels(words: Iterable[str], files: Iterable[str]) -> dict[str, str]:
    """``--label`` and ``--label-file``."""
    found = {}
    lines = [line.strip() for file in files for line in _read_lines(file)]
    for word in [*(line for line in lines if line and not line.startswith("#")), *words]:
        key, _, value = word.partition("=")
        if not key:
            raise Usage(f"invalid label {word!r}: KEY or KEY=VALUE is needed")
        found[key] = value
    return found


def _read_lines(file: str) -> list[str]:
    try:
        with open(file, encoding="utf-8-sig") as stream:
            return stream.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None


def volume(text: str, absolute: Callable[[str], str]) -> str:
    """``-v [SOURCE:]TARGET[:OPTIONS]`` with a relative source made absolute; a source without a slash is a volume."""
    parts = text.split(":")
    if len(parts) == 1 and text.startswith("/"):
        return text
    if len(parts) < 2 or len(parts) > 3 or not all(parts[:2]):
        raise Usage(f"invalid volume {text!r}: [SOURCE:]TARGET[:OPTIONS] is needed")
    if not parts[1].startswith("/"):
        raise Usage(f"invalid volume {text!r}: the target must be an absolute path")
    if parts[0].startswith((".", "~")):
        parts[0] = absolute(parts[0])
    return ":".join(parts)


def mount(text: str, absolute: Callable[[str], str]) -> dict[str, Any]:
    """``--mount type=bind,source=…,target=…[,readonly]`` as Docker's Mount; without a type it is a volume."""
    found: dict[str, Any] = {"Type": "volume"}
    for field in text.split(","):
        key, equals, value = field.partition("=")
        _mount_field(found, text, key.strip().lower(), value if equals else None)
    if found["Type"] not in ("bind", "tmpfs", "volume"):
        raise Usage(f"invalid mount {text!r}: the type is one of bind, tmpfs, volume")
    if not found.get("Target", "").startswith("/"):
        raise Usage(f"invalid mount {text!r}: the target must be an absolute path")
    if found["Type"] == "bind":
        if not found.get("Source"):
            raise Usage(f"invalid mount {text!r}: the source is missing")
        found["Source"] = absolute(found["Source"])
    return found


_MOUNT_WORDS = {
    "type": "Type",
    "source": "Source",
    "src": "Source",
    "target": "Target",
    "destination": "Target",
    "dst": "Target",
}
_MOUNT_OPTIONS: dict[str, tuple[str, str, type]] = {
    "bind-propagation": ("BindOptions", "Propagation", str),
    "bind-nonrecursive": ("BindOptions", "NonRecursive", bool),
    "bind-create-mountpoint": ("BindOptions", "CreateMountpoint", bool),
    "volume-nocopy": ("VolumeOptions", "NoCopy", bool),
    "volume-subpath": ("VolumeOptions", "Subpath", str),
    "tmpfs-size": ("TmpfsOptions", "SizeBytes", int),
    "tmpfs-mode": ("TmpfsOptions", "Mode", int),
}
"""Words of ``--mount``: the member of Docker's Mount, the member of that, and its type."""


def _mount_field(found: dict[str, Any], text: str, key: str, value: str | None) -> None:
    word = value or ""
    if key in _MOUNT_WORDS:
        found[_MOUNT_WORDS[key]] = word
    elif key in ("readonly", "ro"):
        found["ReadOnly"] = value is None or _truth(text, word)
    elif key in _MOUNT_OPTIONS:
        part, name, kind = _MOUNT_OPTIONS[key]
        given: Any = word
        if kind is bool:
            given = value is None or _truth(text, word)
        elif kind is int:
            given = size(word) if name == "SizeBytes" else _octal(text, word)
        found.setdefault(part, {})[name] = given
    elif key == "volume-driver":
        found.setdefault("VolumeOptions", {}).setdefault("DriverConfig", {})["Name"] = word
    elif key == "volume-opt":
        name, _, rest = word.partition("=")
        driver = found.setdefault("VolumeOptions", {}).setdefault("DriverConfig", {})
        driver.setdefault("Options", {})[name] = rest
    elif key == "volume-label":
        name, _, rest = word.partition("=")
        found.setdefault("VolumeOptions", {}).setdefault("Labels", {})[name] = rest
    else:
        raise Usage(f"invalid mount {text!r}: {key or text!r} is not understood")


def _truth(text: str, value: str) -> bool:
    if value.lower() not in ("1", "true", "0", "false"):
        raise Usage(f"invalid mount {text!r}: {value!r} is neither true nor false")
    return value.lower() in ("1", "true")


def _octal(text: str, value: str) -> int:
    try:
        return int(value, 8)
    except ValueError:
        raise Usage(f"invalid mount {text!r}: {value!r} is no octal number") from None


def tmpfs(words: Iterable[str]) -> dict[str, str]:
    """``--tmpfs /run:rw,size=64m``."""
    found = {}
    for word in words:
        target, _, options = word.partition(":")
        if not target.startswith("/"):
            raise Usage(f"invalid tmpfs {word!r}: the target must be an absolute path")
        found[target] = options
    return found


_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def size(text: str) -> int:
    """Bytes: ``512m``, ``1.5g``, ``64kib``; the units are powers of 1024, as docker run has them."""
    word = text.strip().lower().removesuffix("ib" if text.lower().endswith("ib") else "")
    if word[-2:] in ("kb", "mb", "gb", "tb"):
        word = word[:-1]
    unit = word[-1] if word and word[-1] in "bkmgt" else ""
    number = word.removesuffix(unit).strip()
    whole, _, fraction = number.partition(".")
    if not whole.isascii() or not (whole + fraction).isdigit() or not whole or len(number) > 18:
        raise Usage(f"invalid size {text!r}: a number with an optional unit b, k, m or g is needed")
    return int(float(number) * _UNITS[unit])


def cpus(text: str) -> int:
    """``--cpus 1.5`` in billionths of a processor."""
    whole, _, fraction = text.partition(".")
    if not (whole + fraction).isdigit() or not (whole + fraction).isascii() or len(whole) > 6 or len(fraction) > 9:
        raise Usage(f"invalid --cpus {text!r}: a number such as 0.5 is needed")
    return int(whole or 0) * 1_000_000_000 + int(fraction.ljust(9, "0"))


def restart(text: str) -> dict[str, Any]:
    """``--restart on-failure:3``."""
    name, colon, count = text.partition(":")
    if (name or "no") not in RESTART:
        raise Usage(f"invalid restart policy {text!r}: only {', '.join(RESTART)} are allowed")
    if colon and (name != "on-failure" or not count.isascii() or not count.isdigit() or len(count) > 9):
        raise Usage(f"invalid restart policy {text!r}: only on-failure takes a maximum, a number")
    return {"Name": name or "no", "MaximumRetryCount": int(count) if colon else 0}


def extra_host(text: str) -> str:
    """``--add-host NAME:IP`` or ``NAME=IP`` as the API has it."""
    equals = "=" in text
    name, _, address = text.partition("=" if equals else ":")
    if not name or not address:
        raise Usage(f"invalid host {text!r}: NAME:IP is needed")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if address != "host-gateway":
        from ipaddress import ip_address

        try:
            ip_address(address)
        except ValueError:
            raise Usage(f"invalid host {text!r}: {address!r} is no IP address") from None
    return f"{name}:{address}"


def network(text: str) -> tuple[str, dict[str, Any]]:
    """``--network NAME`` or ``--network name=NAME,ip=…,alias=…`` as a name and Docker's EndpointSettings."""
    if "=" not in text:
        if not text:
            raise Usage("invalid network '': a name is needed")
        return text, {}
    name = ""
    settings: dict[str, Any] = {}
    for field in _fields(text):
        key, _, value = field.partition("=")
        if key == "name":
            name = value
        elif key == "ip":
            settings.setdefault("IPAMConfig", {})["IPv4Address"] = value
        elif key == "ip6":
            settings.setdefault("IPAMConfig", {})["IPv6Address"] = value
        elif key == "link-local-ip":
            settings.setdefault("IPAMConfig", {}).setdefault("LinkLocalIPs", []).append(value)
        elif key == "alias":
            settings.setdefault("Aliases", []).append(value)
        elif key == "gw-priority":
            settings["GwPriority"] = priority(value)
        elif key == "mac-address":
            settings["MacAddress"] = value
        elif key == "driver-opt":
            option, _, word = value.partition("=")
            settings.setdefault("DriverOpts", {})[option] = word
        else:
            known = "name, ip, ip6, link-local-ip, alias, mac-address, driver-opt, gw-priority"
            raise Usage(f"invalid network {text!r}: {key!r} is not understood ({known})")
    if not name:
        raise Usage(f"invalid network {text!r}: name=… is missing")
    return name, settings


def _fields(text: str) -> list[str]:
    """The fields between commas; one with commas of its own stands in double quotes, as in CSV (RFC 4180)."""
    if '"' not in text:
        return text.split(",")
    import csv

    return next(csv.reader([text]))


def priority(text: str) -> int:
    """``gw-priority``: a whole number, also less than 0."""
    try:
        return int(text)
    except ValueError:
        raise Usage(f"invalid gw-priority {text!r}: a whole number is needed") from None


def link_local(addresses: Iterable[str], config: dict[str, Any]) -> None:
    """Put ``--link-local-ip`` into Docker's EndpointSettings."""
    if found := list(addresses):
        config.setdefault("IPAMConfig", {})["LinkLocalIPs"] = found


def detach_keys(text: str) -> bytes:
    """``ctrl-p,ctrl-q`` as the bytes that a terminal sends."""
    keys = bytearray()
    for key in text.split(","):
        letter = key.removeprefix("ctrl-")
        if letter != key and len(letter) == 1 and letter in "abcdefghijklmnopqrstuvwxyz@[\\]^_":
            keys.append(ord(letter.upper()) - 64)
        elif len(key) == 1 and key.isascii():
            keys.append(ord(key))
        else:
            raise Usage(f"invalid detach keys {text!r}: letters and ctrl-LETTER, with commas between")
    return bytes(keys)


def moment(text: str, now: float) -> str:
    """``--since``: a duration back from now, seconds since the epoch, or a time; as seconds since the epoch."""
    if text.replace(".", "", 1).isdecimal():
        return text
    seconds, number, is_duration = 0.0, "", False
    for character in text:
        if character in "smhd" and number.replace(".", "", 1).isdecimal():
            is_duration = True
            seconds, number = seconds + float(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[character], ""
        else:
            number += character
    if is_duration and not number:
        return f"{now - seconds:.9f}"
    from datetime import datetime

    try:
        return f"{datetime.fromisoformat(text).timestamp():.9f}"
    except (ValueError, OverflowError, OSError):
        raise Usage(
            f"invalid time {text!r}: a duration (10m, 1h30m) or a time (2026-01-31T12:00:00) is needed"
        ) from None


_NANOSECONDS = {"h": 3600e9, "m": 60e9, "s": 1e9, "ms": 1e6, "us": 1e3, "µs": 1e3, "ns": 1.0}


def duration(text: str, name: str) -> int:
    """``1m30s`` in nanoseconds (Go's time.ParseDuration)."""
    total, rest = 0.0, text
    while rest:
        number = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        unit = next(
            (unit for unit in ("ms", "us", "µs", "ns", "h", "m", "s") if rest[len(number) :].startswith(unit)), ""
        )
        if not unit or not number.replace(".", "", 1).isdecimal():
            raise Usage(f"invalid {name} {text!r}: a duration such as 10s or 1m30s is needed")
        total += float(number) * _NANOSECONDS[unit]
        rest = rest[len(number) + len(unit) :]
    return int(total)


def health(options: Options) -> dict[str, Any] | None:
    """``--health-…`` and ``--no-healthcheck`` as the API's Healthcheck; None where none of them is given."""
    times = {
        "Interval": "health-interval",
        "Timeout": "health-timeout",
        "StartPeriod": "health-start-period",
        "StartInterval": "health-start-interval",
    }
    given = [name for name in ("health-cmd", "health-retries", *times.values()) if options.has(name)]
    if options.flag("no-healthcheck"):
        if given:
            raise Usage("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    if not given:
        return None
    check: dict[str, Any] = {
        key: duration(options.text(name), f"--{name}") for key, name in times.items() if name in given
    }
    if options.text("health-cmd"):
        check["Test"] = ["CMD-SHELL", options.text("health-cmd")]
    if options.has("health-retries"):
        check["Retries"] = options.number("health-retries")
    return check


def image_name(text: str) -> tuple[str, str]:
    """A reference as repository and tag or digest, ``latest`` where neither is given."""
    if "@" in text:
        name, _, digest = text.partition("@")
        return name, digest
    head, colon, tag = text.rpartition(":")
    if colon and "/" not in tag:
        return head, tag
    return text, "latest"
