"""Limits of block I/O, on kernels that have them and on others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fairlead.api import block_spec
from fairlead.api.limits import limits
from fairlead.errors import Invalid

GIVEN = {"BlkioWeight": 300, "BlkioDeviceReadBps": [{"Path": "/dev/vda", "Rate": 7}], "Memory": 1}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Control groups as a test makes them; of version 1 where it makes nothing."""
    monkeypatch.setattr(block_spec, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ((), {"Memory"}),
        (("blkio/blkio.weight",), {"Memory", "BlkioWeight"}),
        (("blkio/blkio.weight", "blkio/blkio.throttle.read_bps_device"), set(GIVEN)),
        (("cgroup.controllers",), {"Memory"}),
        (("cgroup.controllers", "one/io.max"), {"Memory", "BlkioDeviceReadBps"}),
        (("cgroup.controllers", "one/io.max", "one/io.bfq.weight"), set(GIVEN)),
    ],
)
def test_what_the_kernel_cannot_limit_is_left_out_with_a_warning(tree: Path, files: Any, left: set[str]) -> None:
    for name in files:
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).touch()
    host = dict(GIVEN)
    warnings = block_spec.discard_unsupported(host)
    assert set(host) == left
    assert len(warnings) == len(GIVEN) - len(left)
    assert all(warning.startswith("Your kernel does not support") for warning in warnings)


def test_devices_and_numbers() -> None:
    assert block_spec.device_limits(GIVEN) == {"throttleReadBpsDevice": (("/dev/vda", 7),)}


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ({"BlkioWeightDevice": [{"Path": "/dev/vda", "Weight": 5}]}, "invalid weight for device: /dev/vda:5"),
        ({"BlkioDeviceWriteBps": [{"Path": "/dev/vda", "Rate": -1}]}, "Rate must be a number from 0 on"),
    ],
)
def test_refusals(host: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        block_spec.device_limits(host)


def test_the_weight_is_a_limit_that_can_be_changed() -> None:
    assert limits({"BlkioWeight": 300}).block_weight == 300
    assert limits({"BlkioWeight": 20}, limits({"BlkioWeight": 300})).block_weight == 20
    with pytest.raises(Invalid, match="Range of blkio weight is from 10 to 1000"):
        limits({"BlkioWeight": 5})
