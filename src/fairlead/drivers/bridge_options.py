"""The options of a bridge network: their names, what values they take, and what was asked for as one typed value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from fairlead.errors import Invalid
from fairlead.model import Address, check_ifname

NAME = "com.docker.network.bridge.name"
ICC = "com.docker.network.bridge.enable_icc"
MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
MODES = {4: "com.docker.network.bridge.gateway_mode_ipv4", 6: "com.docker.network.bridge.gateway_mode_ipv6"}
HOST_BINDING = "com.docker.network.bridge.host_binding_ipv4"
INHIBIT = "com.docker.network.bridge.inhibit_ipv4"
DEFAULT_BRIDGE = "com.docker.network.bridge.default_bridge"
TRUSTED = "com.docker.network.bridge.trusted_host_interfaces"
MTU = "com.docker.network.driver.mtu"
ENABLE = {4: "com.docker.network.enable_ipv4", 6: "com.docker.network.enable_ipv6"}
PREFIX = "com.docker.network.container_iface_prefix"
SOURCES = {4: "com.docker.network.host_ipv4", 6: "com.docker.network.host_ipv6"}

KNOWN = frozenset(
    {NAME, ICC, MASQUERADE, HOST_BINDING, INHIBIT, DEFAULT_BRIDGE, TRUSTED, MTU, PREFIX}
    | {*MODES.values(), *ENABLE.values(), *SOURCES.values()}
)

NAT: Final = "nat"
UNPROTECTED: Final = "nat-unprotected"
ROUTED: Final = "routed"
ISOLATED: Final = "isolated"
_MODES = (NAT, UNPROTECTED, ROUTED, ISOLATED)

_MTU_RANGE = range(68, 65536)
"""Bytes: RFC 791's least, and what a veth takes at most."""

_TRUE, _FALSE = ("true", "t", "1"), ("false", "f", "0")
"""As Go's strconv.ParseBool has them, in lower case."""


@dataclass(frozen=True, slots=True)
class BridgeOptions:
    """What the options ask for; docs/networking.md says what each does."""

    name: str
    mtu: int
    """0: not given."""
    icc: bool
    masquerade: bool
    modes: Mapping[int, str]
    sources: Mapping[int, Address]
    """By family, the host's address that packets to the world take; a family that is not in it: the kernel chooses."""
    trusted: tuple[str, ...]
    inhibit: bool
    binding: str
    """The host address on which ports are published if none is given, empty: all of them."""
    default_bridge: bool


def read(options: Mapping[str, str]) -> BridgeOptions:
    """The options as one value; raises `Invalid` with the option and what it may be."""
    return BridgeOptions(
        name=options.get(NAME, ""),
        mtu=mtu(options),
        icc=boolean(options, ICC, default=True),
        masquerade=boolean(options, MASQUERADE, default=True),
        modes={version: _mode(options, option) for version, option in MODES.items()},
        sources={
            version: _address(options, option, version) for version, option in SOURCES.items() if option in options
        },
        trusted=_trusted(options),
        inhibit=boolean(options, INHIBIT, default=False),
        binding=_binding(options),
        default_bridge=boolean(options, DEFAULT_BRIDGE, default=False),
    )


def boolean(options: Mapping[str, str], option: str, *, default: bool) -> bool:
    """A value that is true or false."""
    value = options.get(option, str(default)).lower()
    if value not in _TRUE + _FALSE:
        raise Invalid(f"option {option}={options[option]}: it must be true or false")
    return value in _TRUE


def mtu(options: Mapping[str, str]) -> int:
    """The MTU asked for, in bytes; 0: none."""
    value = options.get(MTU, "0")
    if value != "0" and (not value.isdecimal() or int(value) not in _MTU_RANGE):
        raise Invalid(f"option {MTU}={value}: it must be a number of bytes from {_MTU_RANGE[0]} to {_MTU_RANGE[-1]}")
    return int(value)


def _mode(options: Mapping[str, str], option: str) -> str:
    value = options.get(option, NAT)
    if value not in _MODES:
        raise Invalid(f"option {option}={value}: it must be one of {', '.join(_MODES)}")
    return value


def _address(options: Mapping[str, str], option: str, version: int) -> Address:
    try:
        address = ip_address(options[option])
    except ValueError:
        address = None
    if address is None or address.version != version:
        raise Invalid(f"option {option}={options[option]}: it must be an IPv{version} address")
    return address


def _binding(options: Mapping[str, str]) -> str:
    value = options.get(HOST_BINDING, "")
    try:
        # 0.0.0.0 means the addresses of both families, as with Docker; :: those of IPv6 alone.
        return "" if value in ("", "0.0.0.0") else str(ip_address(value))
    except ValueError:
        raise Invalid(f"option {HOST_BINDING}={value}: it must be an IP address of this host") from None


def _trusted(options: Mapping[str, str]) -> tuple[str, ...]:
    """Names with colons between them, which no interface name may contain."""
    names = [name for name in options.get(TRUSTED, "").split(":") if name]
    try:
        return tuple(dict.fromkeys(check_ifname(name) for name in names))
    except Invalid as error:
        raise Invalid(
            f"option {TRUSTED}={options[TRUSTED]}: it must be interface names, such as eth0:wg0 ({error})"
        ) from None
