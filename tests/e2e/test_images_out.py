"""Images out of the store: save, push, commit; and what listing and pruning choose.  By the real clients."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from machine import Machine
from registry import REGISTRY, Registry


@pytest.fixture
def changed(machine: Machine) -> Machine:
    """A machine with the image ``mine:1``, of two layers, and ``mine:2``, another tag of it."""
    machine.docker("run", "--name", "maker", "box", "sh", "-c", "echo 1 > /made; rm /etc/group")
    machine.docker("commit", "maker", "mine:1")
    machine.docker("rm", "maker")
    machine.docker("tag", "mine:1", "mine:2")
    return machine


def ids(machine: Machine) -> dict[str, str]:
    words = machine.out("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").split()
    return dict(zip(words[::2], words[1::2], strict=True))


def test_save_and_load(changed: Machine, tmp_path: Path) -> None:
    before = ids(changed)
    changed.docker("save", "-o", str(tmp_path / "one.tar"), "mine:1")
    changed.docker("save", "-o", str(tmp_path / "all.tar"), "mine", "box:latest")
    changed.host.fairlead("image", "save", "-o", str(tmp_path / "id.tar"), before["mine:1"])
    with tarfile.open(tmp_path / "all.tar") as tar:
        (entry, *rest) = json.load(tar.extractfile("manifest.json") or io.StringIO())
        assert sorted([entry["RepoTags"], *(one["RepoTags"] for one in rest)]) == [["box:latest"], ["mine:1", "mine:2"]]
        assert len(tar.getnames()) == len(set(tar.getnames())), "what is shared is there once"
    changed.docker("rmi", "-f", "mine:1", "mine:2", "box")
    assert ids(changed) == {}
    changed.docker("load", "-i", str(tmp_path / "one.tar"))
    assert ids(changed) == {"mine:1": before["mine:1"]}
    assert changed.out("run", "--rm", "mine:1", "sh", "-c", "cat /made; ls /etc/group 2>/dev/null || true") == "1"
    changed.docker("load", "-i", str(tmp_path / "all.tar"))
    assert ids(changed) == before
    changed.docker("rmi", "-f", "mine:1", "mine:2", "box")
    assert "Loaded image ID: sha256:" in changed.host.fairlead("image", "load", "-i", str(tmp_path / "id.tar")).stdout
    assert changed.out("images", "-q", "--no-trunc") == before["mine:1"]
    refused = changed.docker("save", "-o", str(tmp_path / "none.tar"), "absent", check=False)
    assert "No such image: absent" in refused.stderr


def test_skopeo_reads_what_is_saved(changed: Machine, tmp_path: Path) -> None:
    changed.docker("save", "-o", str(tmp_path / "one.tar"), "mine:1")
    (tmp_path / "layout").mkdir()
    subprocess.run(["tar", "-C", tmp_path / "layout", "-xf", tmp_path / "one.tar"], check=True)
    for source in (f"docker-archive:{tmp_path}/one.tar", f"oci:{tmp_path}/layout:1"):
        done = subprocess.run(["skopeo", "inspect", "--config", source], capture_output=True, text=True, check=True)
        assert len(json.loads(done.stdout)["rootfs"]["diff_ids"]) == 2, source


def test_skopeo_copies_from_the_daemon_and_to_it(changed: Machine, tmp_path: Path) -> None:
    before = ids(changed)
    copy = ("skopeo", "--insecure-policy", "copy", "--quiet")
    daemon = changed.host.environment["FAIRLEAD_HOST"]
    changed.host.run(*copy, f"--src-daemon-host={daemon}", "docker-daemon:mine:1", f"docker-archive:{tmp_path}/one.tar")
    changed.host.run(*copy, f"--src-daemon-host={daemon}", f"docker-daemon:{before['mine:1']}", f"dir:{tmp_path}/dir")
    changed.docker("rmi", "-f", "mine:1", "mine:2")
    changed.host.run(*copy, f"--dest-daemon-host={daemon}", f"dir:{tmp_path}/dir", "docker-daemon:there/again:1")
    assert ids(changed)["there/again:1"] == before["mine:1"]
    asked = changed.host.run("skopeo", "inspect", f"--daemon-host={daemon}", "docker-daemon:there/again:1").stdout
    assert len(json.loads(asked)["Layers"]) == 2
    absent = [*copy, f"--src-daemon-host={daemon}", "docker-daemon:nope:1", f"dir:{tmp_path}/none"]
    assert 'Error response from daemon: No such image: nope:1"' in changed.host.run(*absent, check=False).stderr
    changed.docker("rmi", "-f", "there/again:1")


@pytest.fixture
def dockerd(changed: Machine, tmp_path: Path) -> Iterator[list[str]]:
    """A real Docker daemon beside ours; gives the words that lead to it."""
    if subprocess.run(["which", "dockerd"], capture_output=True).returncode:
        pytest.skip("dockerd is not installed")
    socket = f"unix://{tmp_path}/docker.sock"
    options = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs", f"-H={socket}"]
    places = [f"--data-root={tmp_path}/data", f"--exec-root={tmp_path}/exec", f"--pidfile={tmp_path}/pid"]
    with open(tmp_path / "log", "w") as log:
        daemon = changed.host.popen("dockerd", *options, *places, stdout=log, stderr=log)
    words = ["docker", "-H", socket]
    for _ in range(300):
        if changed.host.run(*words, "version", check=False).returncode == 0:
            break
        time.sleep(0.1)
    else:
        daemon.kill()
        pytest.skip(f"dockerd does not start here: {(tmp_path / 'log').read_text()[-300:]}")
    yield words
    daemon.terminate()
    daemon.wait(30)


def test_docker_loads_what_is_saved(changed: Machine, dockerd: list[str], tmp_path: Path) -> None:
    wanted = ids(changed)["mine:1"]
    changed.docker("save", "-o", str(tmp_path / "one.tar"), "mine:1")
    changed.host.run(*dockerd, "load", "-i", str(tmp_path / "one.tar"))
    assert changed.host.run(*dockerd, "images", "-q", "--no-trunc").stdout.strip() == wanted
    changed.host.run(*dockerd, "save", "-o", str(tmp_path / "back.tar"), "mine:1")
    changed.docker("rmi", "-f", "mine:1", "mine:2")
    changed.docker("load", "-i", str(tmp_path / "back.tar"))
    assert ids(changed)["mine:1"] == wanted


def test_commit(machine: Machine, tmp_path: Path) -> None:
    words = ["--name", "one", "-e", "A=1", "-w", "/tmp", "-u", "u1", "--label", "l=1", "-v", "/data"]
    script = "while :; do sleep 1; done"
    machine.docker("run", "-d", *words, "box", "sh", "-c", script)
    machine.docker(
        "exec",
        "-u",
        "0",
        "one",
        "sh",
        "-c",
        "rm -r /root; mkdir /root; echo x > /root/new; echo v > /data/v; echo hi > /tmp/mine; chown 1000 /tmp/mine",
    )
    options = ["-a", "Ann", "-m", "a note", "-c", "ENV B=2", "-c", 'CMD ["cat", "/tmp/mine"]', "-c", "EXPOSE 80"]
    id_ = machine.out("commit", *options, "one", "mine:1")
    assert machine.inspect("one")["State"]["Status"] == "running"
    (image,) = json.loads(machine.out("image", "inspect", "mine:1"))
    assert image["Id"] == id_
    assert image["Author"] == "Ann"
    assert image["Comment"] == "a note"
    config = image["Config"]
    assert config["Env"] == ["A=1", "PATH=/bin", "B=2"]
    assert (config["User"], config["WorkingDir"], config["Labels"]) == ("u1", "/tmp", {"l": "1"})
    assert config["Cmd"] == ["cat", "/tmp/mine"]
    assert config["ExposedPorts"] == {"80/tcp": {}}
    assert config["Volumes"] == {"/data": {}}
    assert len(image["RootFS"]["Layers"]) == 2
    assert machine.out("run", "--rm", "mine:1") == "hi"
    look = "ls /root; ls /data; stat -c %u /tmp/mine; test -s /etc/hosts && echo hosts"
    assert machine.out("run", "--rm", "-u", "0", "mine:1", "sh", "-c", look).split() == ["new", "1000", "hosts"]
    newest = machine.out("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", "mine:1").splitlines()[0]
    assert newest == f"sh -c {script}|a note"
    # Without a change there is no layer.
    machine.docker("create", "--name", "idle", "box")
    machine.docker("commit", "idle", "same")
    (same,) = json.loads(machine.out("image", "inspect", "same"))
    assert len(same["RootFS"]["Layers"]) == 1
    assert machine.out("run", "--rm", "same", "echo", "ok") == "ok"
    assert "No such container: absent" in machine.docker("commit", "absent", "x", check=False).stderr
    said = machine.host.fairlead("commit", "-m", "ours", "idle", "ours:1").stdout
    assert said.startswith("sha256:")
    assert "ours" in machine.host.fairlead("image", "history", "ours:1").stdout


def test_commit_on_commit_and_deleted_files(changed: Machine) -> None:
    changed.docker("run", "--name", "next", "mine:1", "sh", "-c", "rm /made; echo back > /etc/group")
    changed.docker("commit", "next", "mine:3")
    assert changed.out("run", "--rm", "mine:3", "sh", "-c", "cat /etc/group; ls /made 2>/dev/null || true") == "back"
    changed.docker("rm", "next")
    changed.docker("rmi", "mine:1", "mine:2")
    assert changed.out("run", "--rm", "mine:3", "cat", "/etc/group") == "back"


def test_push_and_pull(changed: Machine) -> None:
    registry = Registry(changed.host, auth=False)
    try:
        changed.docker("tag", "mine:1", f"{REGISTRY}/team/mine:1")
        wanted = ids(changed)["mine:1"]
        pushed = changed.out("push", f"{REGISTRY}/team/mine:1")
        assert f"The push refers to repository [{REGISTRY}/team/mine]" in pushed
        assert "1: digest: sha256:" in pushed
        changed.docker("rmi", f"{REGISTRY}/team/mine:1")
        changed.docker("rmi", "mine:1", "mine:2")
        changed.docker("pull", f"{REGISTRY}/team/mine:1")
        assert ids(changed)[f"{REGISTRY}/team/mine:1"] == wanted
        assert changed.out("run", "--rm", f"{REGISTRY}/team/mine:1", "cat", "/made") == "1"
        changed.docker("tag", f"{REGISTRY}/team/mine:1", f"{REGISTRY}/team/mine:2")
        assert changed.out("push", "-a", f"{REGISTRY}/team/mine").count(": digest: sha256:") == 2
        said = changed.host.fairlead("image", "push", f"{REGISTRY}/team/mine:2").stdout
        assert "2: digest: sha256:" in said
        tags = json.loads(changed.host.sh(f"curl -s http://{REGISTRY}/v2/team/mine/tags/list"))["tags"]
        assert sorted(tags) == ["1", "2"]
        refused = changed.docker("push", f"{REGISTRY}/absent:1", check=False)
        assert f"An image does not exist locally with the tag: {REGISTRY}/absent" in refused.stderr
    finally:
        registry.close()


def test_push_tells_of_each_layer(changed: Machine) -> None:
    """In Docker's words and order: by diff ids, the topmost first."""
    changed.docker("run", "--name", "maker", "mine:1", "sh", "-c", "head -c 30000000 /dev/urandom > /noise")
    changed.docker("commit", "maker", f"{REGISTRY}/mine:1")
    changed.docker("rm", "maker")
    registry = Registry(changed.host, auth=False)
    try:
        told = pushed(changed, "mine", "1")
        diff_ids = changed.inspect(f"{REGISTRY}/mine:1")["RootFS"]["Layers"]
        layers = [diff_id.removeprefix("sha256:")[:12] for diff_id in reversed(diff_ids)]
        assert told[0] == {"status": f"The push refers to repository [{REGISTRY}/mine]"}
        assert told[1:4] == [{"status": "Preparing", "progressDetail": {}, "id": layer} for layer in layers]
        counts = [one["progressDetail"] for one in told if one.get("id") == layers[0] and one["status"] == "Pushing"]
        assert counts  # How many depends on how quick the machine is.
        assert [one["current"] for one in counts] == sorted({one["current"] for one in counts})
        assert all(0 < one["current"] <= one["total"] and one["total"] > 30_000_000 for one in counts)
        assert {one["id"] for one in told if one.get("status") == "Pushed"} == set(layers)
        assert told[-1]["aux"]["Tag"] == "1"

        digest = told[-1]["aux"]["Digest"]
        found = changed.api("GET", f"/distribution/{REGISTRY}/mine:1/json")
        assert (found["Descriptor"]["digest"], found["Descriptor"]["size"]) == (digest, told[-1]["aux"]["Size"])
        assert found["Descriptor"]["mediaType"].endswith("json")
        assert [platform["os"] for platform in found["Platforms"]] == ["linux"]
        assert "manifest unknown" in changed.api("GET", f"/distribution/{REGISTRY}/mine:7/json")["message"]

        again = pushed(changed, "mine", "1", header="FOOBAR")  # what aiodocker sends for nobody
        assert [one["status"] for one in again if "id" in one] == ["Preparing"] * 3 + ["Layer already exists"] * 3
        absent = pushed(changed, "absent", "1")
        assert [one.get("error") for one in absent] == [
            None, f"An image does not exist locally with the tag: {REGISTRY}/absent"
        ]  # fmt: skip
    finally:
        registry.close()


def test_pull_of_all_tags(changed: Machine) -> None:
    registry = Registry(changed.host, auth=False)
    try:
        for tag in ("1", "2"):
            changed.docker("tag", "mine:1", f"{REGISTRY}/both:{tag}")
        changed.docker("push", "-a", f"{REGISTRY}/both")
        changed.docker("rmi", f"{REGISTRY}/both:1", f"{REGISTRY}/both:2")
        said = changed.out("pull", "-a", f"{REGISTRY}/both")
        assert "1: Pulling from both" in said
        assert "2: Pulling from both" in said
        assert {f"{REGISTRY}/both:1", f"{REGISTRY}/both:2"} <= set(ids(changed))
        refused = changed.docker("pull", "-a", f"{REGISTRY}/nope", check=False)
        assert refused.returncode == 1
        assert "Error response from daemon: " in refused.stderr
    finally:
        registry.close()


def pushed(one: Machine, name: str, tag: str, header: str = "e30=") -> list[dict[str, Any]]:
    """What a push says, message by message."""
    url = f"http://x/v1.41/images/{REGISTRY}/{name}/push?tag={tag}"
    words = ("-X", "POST", "-H", f"X-Registry-Auth: {header}", url)
    told = one.host.run("curl", "-sS", "--unix-socket", f"{one.host.run_dir}/fairlead.sock", *words).stdout
    return [json.loads(line) for line in told.splitlines()]


def test_a_registry_that_wants_a_password(changed: Machine) -> None:
    registry = Registry(changed.host, auth=True)
    name = f"{REGISTRY}/mine:1"
    client = docker.DockerClient(base_url=f"unix://{changed.host.run_dir}/fairlead.sock")
    try:
        changed.docker("tag", "mine:1", name)
        refused = changed.docker("push", name, check=False)
        assert "denied: requested access to the resource is denied" in refused.stderr + refused.stdout
        good, bad = {"username": "me", "password": "secret"}, {"username": "me", "password": "wrong"}
        assert "denied" in client.images.push(f"{REGISTRY}/mine", "1", auth_config=bad)
        assert "digest: sha256:" in client.images.push(f"{REGISTRY}/mine", "1", auth_config=good)
        client.images.remove(name)
        with pytest.raises(docker.errors.APIError, match="pull access denied"):
            client.images.pull(f"{REGISTRY}/mine", "1", auth_config=bad)
        assert client.images.pull(f"{REGISTRY}/mine", "1", auth_config=good).tags
        assert name in ids(changed)
    finally:
        client.close()
        registry.close()


def test_prune_and_list_by_filters(machine: Machine) -> None:
    def make(name: str, label: str) -> None:
        machine.docker("create", "--name", "maker", "box")
        machine.docker("commit", "-c", f"LABEL kind={label}", "maker", name)
        machine.docker("rm", "maker")

    make("one:1", "a")
    make("two:1", "b")
    make("two:1", "c")  # the one before loses its tag
    assert machine.out("images", "-q", "--filter", "dangling=true").count("\n") == 0
    assert machine.out("images", "--filter", "label=kind=a", "--format", "{{.Repository}}") == "one"
    sizes = {tuple(one["RepoTags"]): one for one in machine.api("GET", "/images/json?shared-size=1")}
    assert sizes[("one:1",)]["SharedSize"] == sizes[("one:1",)]["Size"] > 0
    assert machine.api("GET", "/images/json")[0]["SharedSize"] == -1
    assert "deleted" not in machine.out("image", "prune", "-f", "--filter", "label!=kind=b").lower()
    assert "deleted" not in machine.out("image", "prune", "-f", "--filter", "until=24h").lower()
    assert "deleted: sha256:" in machine.out("image", "prune", "-f", "--filter", "label=kind=b").lower()
    assert set(ids(machine)) == {"box:latest", "one:1", "two:1"}
    assert os.path.isdir(machine.host.state / "images")


def test_docker_py(changed: Machine) -> None:
    client = docker.DockerClient(base_url=f"unix://{changed.host.run_dir}/fairlead.sock")
    try:
        image = client.images.get("mine:1")
        body = b"".join(image.save(named=True))
        changed.docker("rmi", "-f", "mine:1", "mine:2")
        (loaded,) = client.images.load(body)
        assert loaded.id == image.id
        assert loaded.tags == ["mine:1"]
        container = client.containers.run("box", ["sh", "-c", "echo 2 > /two"], detach=True)
        container.wait()
        made = container.commit("py", "1", message="m", author="a", changes='CMD ["cat", "/two"]')
        assert client.containers.run(made.id, remove=True) == b"2\n"
        assert made.history()[0]["Comment"] == "m"
    finally:
        client.close()
