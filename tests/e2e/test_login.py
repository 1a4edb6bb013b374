"""``docker login`` against a registry that wants a password, and the docker command's pull with what it kept."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Host, images
from peer import CLI

from fairlead.api.login import server_of
from fairlead.errors import Invalid

pytestmark = pytest.mark.skipif(not CLI, reason="the docker command is not installed")
REGISTRY = "127.0.0.1:5000"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host whose loopback has a registry for the user "me" with the password "secret"."""
    command = ["perl", "-e", 'print "me:", crypt("secret", q($2b$04$abcdefghijklmnopqrstuu)), "\\n"']
    (tmp_path / "htpasswd").write_text(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    config = tmp_path / "config.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
        f"storage: {{filesystem: {{rootdirectory: {tmp_path}/data}}}}\nhttp: {{addr: '{REGISTRY}'}}\n"
        f"auth: {{htpasswd: {{realm: here, path: {tmp_path}/htpasswd}}}}\n"
    )
    with Host() as one:
        server = one.popen(
            "docker-registry", "serve", str(config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        one.environment |= {"DOCKER_HOST": one.environment["FAIRLEAD_HOST"], "DOCKER_CONFIG": str(tmp_path / "docker")}
        one.fairlead("network", "ls")  # starts the daemon
        for _ in range(100):
            if one.run("curl", "-s", f"http://{REGISTRY}/", check=False).returncode == 0:
                break
            time.sleep(0.05)
        yield one
        server.terminate()
        server.wait()


def test_login_and_pull(host: Host) -> None:
    def docker(*words: str, password: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        assert CLI
        return host.run(CLI, *words, input=password, check=check)

    login = ("login", "--username=me", "--password-stdin", REGISTRY)
    wrong = docker(*login, password="wrong", check=False)
    assert wrong.returncode == 1
    assert "401 Unauthorized" in wrong.stderr
    assert "Login Succeeded" in docker(*login, password="secret").stdout
    archive = images() / "alpine.tar"
    host.run(
        *("skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", "--dest-creds=me:secret"),
        *(f"docker-archive:{archive}", f"docker://{REGISTRY}/alpine"),
    )
    docker("pull", f"{REGISTRY}/alpine")
    docker("logout", REGISTRY)
    assert "denied" in docker("pull", f"{REGISTRY}/alpine", check=False).stderr
    away = docker("login", "--username=me", "--password-stdin", "127.0.0.1:1", password="x", check=False)
    assert "cannot be asked" in away.stderr
    assert list(host.directory.parent.glob("fairlead-login-*")) == []


@pytest.mark.parametrize(
    ("address", "server"),
    [
        ("", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("https://r.example.org:5000/v2/", "r.example.org:5000"),
        ("localhost:5000", "localhost:5000"),
        ("[::1]:5000", "[::1]:5000"),
    ],
)
def test_addresses(address: str, server: str) -> None:
    assert server_of(address) == server


@pytest.mark.parametrize("address", ["--help", "a b", "a;b", "https://-x/", "a:b:c"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(Invalid, match="invalid registry address"):
        server_of(address)
