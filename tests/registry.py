"""A registry on the loopback of a throwaway host."""

from __future__ import annotations

import subprocess
import time

from lab import Host

REGISTRY = "127.0.0.1:5000"


class Registry:
    """docker-registry on the loopback of a host, with the user me:secret where it asks for one."""

    def __init__(self, host: Host, *, auth: bool) -> None:
        directory = host.directory / "registry"
        directory.mkdir()
        config = (
            f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
            f"storage: {{filesystem: {{rootdirectory: {directory}/data}}}}\nhttp: {{addr: '{REGISTRY}'}}\n"
        )
        if auth:
            # What htpasswd(1) writes: the password "secret" by bcrypt.
            command = ["perl", "-e", 'print "me:", crypt("secret", q($2b$04$abcdefghijklmnopqrstuu)), "\\n"']
            line = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            (directory / "htpasswd").write_text(line)
            config += f"auth: {{htpasswd: {{realm: here, path: {directory}/htpasswd}}}}\n"
        (directory / "config.yml").write_text(config)
        self._process = host.popen(
            "docker-registry", "serve", f"{directory}/config.yml", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(200):
            if host.run("curl", "-s", "-o", "/dev/null", f"http://{REGISTRY}/v2/", check=False).returncode == 0:
                return
            time.sleep(0.05)
        raise AssertionError("docker-registry did not start")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
