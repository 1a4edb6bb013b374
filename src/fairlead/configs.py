"""Configuration networks (``network create --config-only``): settings by name, from which networks are made.

One is a record like a network's, with pools and options, but nothing in the kernel; a network made from it
(``--config-from``) copies its settings and says none of its own.  As in Docker, whose words the errors have.
"""

from __future__ import annotations

import time

from msgspec.structs import replace

from fairlead import ipam
from fairlead.catalog import Catalog
from fairlead.errors import Forbidden, NotFound
from fairlead.model import Network, new_id
from fairlead.spec import NetworkSpec

DRIVER = "null"
"""What a configuration network says its driver is."""


def configuration(spec: NetworkSpec) -> Network:
    """The record of a configuration network."""
    if spec.config_from:
        raise Forbidden("a configuration network cannot depend on another configuration network")
    for pool in spec.pools:
        ipam.check_pool(pool)
    return Network(
        id=new_id(),
        name=spec.name,
        driver=DRIVER,
        pools=spec.pools,
        internal=spec.internal,
        attachable=spec.attachable,
        options=spec.options,
        labels=spec.labels,
        created=time.time(),
        config_only=True,
    )


def configured(spec: NetworkSpec, catalog: Catalog) -> NetworkSpec:
    """The spec with the settings of the configuration that it names."""
    if not spec.config_from:
        return spec
    source = next((one for one in catalog.networks() if one.config_only and one.name == spec.config_from), None)
    if source is None:
        raise NotFound(f'configuration network "{spec.config_from}" does not exist')
    if spec.pools or spec.options or spec.labels or spec.ipv6 or spec.internal:
        raise Forbidden(
            "user specified configurations are not supported if the network depends on a configuration network"
        )
    return replace(
        spec,
        ipv6=any(pool.subnet.version == 6 for pool in source.pools),
        pools=source.pools,
        internal=source.internal,
        options=source.options,
        labels=source.labels,
    )


def check_unused(network: Network, catalog: Catalog) -> None:
    """Raise `Forbidden` for a configuration that networks were made from."""
    if not network.config_only:
        return
    users = [one.name for one in catalog.networks() if one.config_from == network.name]
    if users:
        raise Forbidden(
            f'configuration network "{network.name}" is in use by {", ".join(users[:5])}: remove what it made first'
        )


def check_joinable(network: Network) -> None:
    """Raise `Forbidden` for a configuration: nothing can be in it."""
    if network.config_only:
        raise Forbidden(f"cannot create endpoint on configuration-only network {network.name}")
