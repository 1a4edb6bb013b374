"""Where an instance keeps its things: durable state, and what does not outlive a reboot."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fairlead.errors import FairleadError


@dataclass(frozen=True)
class Paths:
    """The directories of one instance.  `state` is durable; `run` belongs on a tmpfs."""

    state: Path = Path("/var/lib/fairlead")
    run: Path = Path("/run/fairlead")

    @classmethod
    def from_environment(cls) -> Paths:
        """``FAIRLEAD_STATE`` and ``FAIRLEAD_RUN``, or the defaults; raises `FairleadError` for a relative path."""
        return cls(state=_absolute("FAIRLEAD_STATE", cls.state), run=_absolute("FAIRLEAD_RUN", cls.run))

    @property
    def socket(self) -> Path:
        """The daemon's unix socket."""
        return self.run / "fairlead.sock"

    @property
    def store(self) -> Path:
        """The SQLite file that holds all intent."""
        return self.state / "fairlead.db"

    @property
    def log(self) -> Path:
        """The daemon's log when the CLI started it (under systemd the journal has it)."""
        return self.run / "daemon.log"

    @property
    def namespaces(self) -> Path:
        """Containers' network namespaces; those made by name are in /run/netns."""
        return self.run / "netns"

    @property
    def images(self) -> Path:
        """OCI layout with the blobs, and the unpacked layers."""
        return self.state / "images"

    @property
    def volumes(self) -> Path:
        """Volumes' directories: the content of each is in ``NAME/_data``."""
        return self.state / "volumes"

    def volume(self, name: str) -> Path:
        """A volume's content."""
        return self.volumes / name / "_data"

    @property
    def view(self) -> Path:
        """An empty directory, for programs to mount on in mount namespaces of their own."""
        return self.run / "view"

    @property
    def subpaths(self) -> Path:
        """Parts of volumes, bound for running containers: ``ID/N``.  Not in their bundles, which are removed whole."""
        return self.run / "subpaths"

    def container_state(self, container_id: str) -> Path:
        """What a container keeps between starts: overlay upper and work, /etc files, log."""
        return self.state / "containers" / container_id

    def container_run(self, container_id: str) -> Path:
        """What a container has while it runs: bundle, mount point, pid files, sockets."""
        return self.run / "containers" / container_id


def _absolute(variable: str, default: Path) -> Path:
    path = Path(os.environ.get(variable) or default)
    if not path.is_absolute():
        raise FairleadError(f"{variable} is {str(path)!r}: an absolute path is needed")
    return path
