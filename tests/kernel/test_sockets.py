"""Who has a socket."""

from __future__ import annotations

import subprocess
import sys

from fairlead.kernel import sockets

HOLDER = """
import socket
held = socket.create_server(("127.0.0.1", 8081))
open("/proc/self/comm", "wb").write(b"f\\374r")
print(flush=True)
input()
"""


def test_a_holder_is_found_whatever_it_calls_itself(fresh_kernel: None) -> None:
    """A process names itself with any bytes but NUL (proc(5), comm)."""
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        inodes = {inode for (_, _, port), found in sockets.bound().items() if port == 8081 for inode in found}
        assert sockets.holder(inodes) == (process.pid, r"f\xfcr")
        process.communicate(b"\n")
