"""Searching a registry's index, by the real docker command and our own; the index is a small server on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from machine import Machine, eventually

ADDRESS = "127.0.0.1:5555"
INDEX = """
import base64, http.server, json, urllib.parse
IMAGES = [
    {"name": "team/web", "description": "A\\n web server", "star_count": 7, "is_official": False},
    {"name": "team/webby", "description": None, "star_count": 0, "is_official": True, "is_automated": False},
]
class Index(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        words = dict(urllib.parse.parse_qsl(url.query))
        found = [image for image in IMAGES if words.get("q", "") in image["name"]][: int(words["n"])]
        if words["q"] == "private" and self.headers.get("Authorization"):
            name = base64.b64decode(self.headers["Authorization"].split()[1]).decode().partition(":")[0]
            found = [{"name": name + "/private", "description": "", "star_count": 0}]
        body = json.dumps({"results": found}) if words["q"] != "broken" else "<html>"
        self.send_response(200 if url.path == "/v1/search" and words["q"] != "absent" else 404)
        self.end_headers()
        self.wfile.write(body.encode())
    def log_message(self, *words):
        pass
http.server.HTTPServer(("127.0.0.1", 5555), Index).serve_forever()
"""


@pytest.fixture(scope="module")
def index(shared: Machine) -> Iterator[Machine]:
    server = shared.host.popen(sys.executable, "-c", INDEX, stdout=subprocess.DEVNULL)
    eventually(lambda: "5555" in shared.host.sh("ss -Hltn"))
    yield shared
    server.kill()
    server.wait()


def names(machine: Machine, *words: str) -> list[str]:
    return machine.out("search", "--format", "{{.Name}}", *words).split()


def test_by_docker(index: Machine) -> None:
    assert names(index, f"{ADDRESS}/web") == ["team/web", "team/webby"]
    assert names(index, "--limit", "1", f"{ADDRESS}/web") == ["team/web"]
    assert names(index, "--filter", "stars=3", f"{ADDRESS}/web") == ["team/web"]
    assert names(index, "--filter", "is-official=true", f"{ADDRESS}/web") == ["team/webby"]
    assert names(index, "--filter", "is-automated=true", f"{ADDRESS}/web") == []
    assert names(index, f"{ADDRESS}/nothing") == []
    (line,) = index.out("search", "--filter", "stars=1", f"{ADDRESS}/web").splitlines()[1:]
    assert line.split() == ["team/web", "A", "web", "server", "7"]


def test_by_fairlead(index: Machine) -> None:
    lines = index.host.fairlead("search", f"{ADDRESS}/web").stdout.splitlines()
    assert lines[0].split() == ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]
    assert lines[1].split() == ["team/web", "A", "web", "server", "7"]
    assert lines[2].split() == ["team/webby", "0", "[OK]"]
    limited = index.host.fairlead("search", "--limit", "1", "--format", "json", f"{ADDRESS}/web").stdout
    assert [image["name"] for image in json.loads(limited)] == ["team/web"]


def test_with_a_login(index: Machine) -> None:
    header = "X-Registry-Auth: eyJ1c2VybmFtZSI6ICJhbm4iLCAicGFzc3dvcmQiOiAieCJ9"  # {"username": "ann", "password": "x"}
    socket = f"{index.host.run_dir}/fairlead.sock"
    url = f"http://x/images/search?term={ADDRESS}/private"
    found = index.host.json("curl", "-s", "--unix-socket", socket, "-H", header, url)
    assert [image["name"] for image in found] == ["ann/private"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--limit", "101", f"{ADDRESS}/web"], "Limit 101 is outside the range of [1, 100]"),
        (["--filter", "stars=many", f"{ADDRESS}/web"], "invalid filter 'stars=many'"),
        (["--filter", "is-official=maybe", f"{ADDRESS}/web"], "invalid filter 'is-official=maybe'"),
        (["--filter", "colour=red", f"{ADDRESS}/web"], "invalid filter 'colour'"),
        (["https://x.example/web"], "should not have a scheme"),
        ([f"{ADDRESS}/absent"], "answered with status 404"),
        ([f"{ADDRESS}/broken"], "gave no search results"),
        (["127.0.0.1:1/web"], "the index 127.0.0.1:1 cannot be asked"),
    ],
)
def test_mistakes(index: Machine, words: list[str], sentence: str) -> None:
    done = index.docker("search", *words, check=False)
    assert done.returncode == 1
    assert sentence in done.stderr
