"""Names: the resolver that each sandbox sees at 127.0.0.11, as Docker's containers do.

Two processes.  The daemon knows the records and *feeds* names (`feed`, `names`); the resolver, a process of its own so
that names go on while the daemon restarts, holds a socket in each sandbox and answers (`server` and what it stands on:
`table`, `wire`, `forward`, `hosts`).  What the resolver imports is kept small: it is one more process on the machine.
"""

ADDRESS = "127.0.0.11"
"""Where programs in a sandbox ask, on port 53…"""

LISTEN_PORT = 65353
"""…and where the resolver's socket is: rules in the sandbox lead there and back (`fairlead.kernel.loopback`), so that
a program inside may itself listen on every address's port 53.  It is above all ports that the kernel gives by itself.
"""
