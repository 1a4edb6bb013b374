"""Volumes and mounts by the real docker CLI, docker-py and our own command, on the real kernel."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import docker
import pytest
from machine import Machine, eventually


def sh(machine: Machine, *words: str, script: str = "", check: bool = True) -> str:
    """What a script in a new container says, with these options of run."""
    return machine.docker("run", "--rm", *words, "box", "sh", "-c", script, check=check).stdout.strip()


def names(machine: Machine, *words: str) -> set[str]:
    return set(machine.out("volume", "ls", "-q", *words).split())


def data(machine: Machine, name: str) -> Path:
    return machine.host.state / "volumes" / name / "_data"


def test_a_volume_outlives_its_containers(machine: Machine) -> None:
    assert machine.out("volume", "create", "--label", "a=b", "data") == "data"
    sh(machine, "-v", "data:/data", script="echo kept > /data/file")
    assert sh(machine, "-v", "data:/d:ro", script="cat /d/file; echo x > /d/y || true").startswith("kept")
    assert not (data(machine, "data") / "y").exists()
    (shown,) = json.loads(machine.out("volume", "inspect", "data"))
    assert shown.pop("CreatedAt").endswith("Z")
    assert shown == {
        "Driver": "local",
        "Labels": {"a": "b"},
        "Mountpoint": str(data(machine, "data")),
        "Name": "data",
        "Options": None,
        "Scope": "local",
    }
    machine.stop()
    machine.start()
    assert sh(machine, "-v", "data:/data", script="cat /data/file") == "kept"
    machine.docker("create", "--name", "one", "-v", "data:/data", "box")
    refused = machine.docker("volume", "rm", "data", check=False)
    assert f"remove data: volume is in use - [{machine.inspect('one')['Id']}]" in refused.stderr
    machine.docker("rm", "one")
    assert machine.out("volume", "rm", "data") == "data"
    assert not data(machine, "data").parent.exists()
    assert "no such volume" in machine.docker("volume", "inspect", "data", check=False).stderr


def test_what_inspect_shows(machine: Machine, tmp_path: Path) -> None:
    words = ["-v", f"{tmp_path}:/bound:ro", "-v", "named:/named", "-v", "/alone", "--tmpfs", "/run:size=1m"]
    words += ["--mount", "type=tmpfs,dst=/tmpfs", "--mount", "type=volume,src=other,dst=/other,readonly"]
    machine.docker("create", "--name", "one", *words, "box")
    shown = machine.inspect("one")
    mounts = {mount["Destination"]: mount for mount in shown["Mounts"]}
    assert mounts["/bound"] == {
        "Type": "bind",
        "Source": str(tmp_path),
        "Destination": "/bound",
        "Mode": "ro",
        "RW": False,
        "Propagation": "rprivate",
    }
    assert mounts["/named"] == {
        "Type": "volume",
        "Name": "named",
        "Source": str(data(machine, "named")),
        "Destination": "/named",
        "Driver": "local",
        "Mode": "z",
        "RW": True,
        "Propagation": "",
    }
    assert (mounts["/other"]["Mode"], mounts["/other"]["RW"]) == ("z", False)
    assert (len(mounts["/alone"]["Name"]), mounts["/alone"]["Mode"]) == (64, "")
    assert mounts["/tmpfs"]["Type"] == "tmpfs"
    assert "/run" not in mounts
    # The docker command keeps them in a map, so in any order.
    assert sorted(shown["HostConfig"]["Binds"]) == [f"{tmp_path}:/bound:ro", "named:/named"]
    assert shown["HostConfig"]["Tmpfs"] == {"/run": "size=1m"}
    assert [mount["Target"] for mount in shown["HostConfig"]["Mounts"]] == ["/tmpfs", "/other"]
    assert shown["Config"]["Volumes"] == {"/alone": {}}


def test_an_empty_volume_gets_what_the_image_has(machine: Machine, layer: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(["tar", "-xf", layer, "-C", root], check=True)
    (root / "srv/deep").mkdir(parents=True)
    (root / "srv/deep/file").write_text("from the image")
    os.chown(root / "srv/deep/file", 1000, 2000)
    (root / "srv/link").symlink_to("/etc/shadow")
    os.chown(root / "srv", 1000, 2000)
    (root / "srv").chmod(0o1750)
    (root / "var").symlink_to("/srv")
    subprocess.run(["tar", "-C", root, "-cf", tmp_path / "full.tar", "."], check=True)
    machine.docker("import", "--change", "VOLUME /srv", str(tmp_path / "full.tar"), "full")
    machine.docker("create", "--name", "one", "-v", "named:/srv", "full", "sh")
    named = data(machine, "named")
    assert (named / "deep/file").read_text() == "from the image"
    assert ((named / "deep/file").stat().st_uid, (named / "deep/file").stat().st_gid) == (1000, 2000)
    assert os.readlink(named / "link") == "/etc/shadow"
    assert (named.stat().st_mode & 0o7777, named.stat().st_uid) == (0o1750, 1000)
    (named / "deep/file").write_text("changed")
    machine.docker("run", "--rm", "-v", "named:/srv", "full", "true")
    assert (named / "deep/file").read_text() == "changed", "it is not empty any more"
    machine.docker("create", "--name", "two", "-v", "bare:/srv:nocopy", "full", "sh")
    assert os.listdir(data(machine, "bare")) == []
    machine.docker("create", "--name", "three", "-v", "linked:/var/deep", "full", "sh")
    assert os.listdir(data(machine, "linked")) == ["file"]
    machine.docker("create", "--name", "four", "full", "sh")
    (mount,) = machine.inspect("four")["Mounts"]
    assert set(os.listdir(mount["Source"])) == {"deep", "link"}


def test_removing_with_and_without_volumes(machine: Machine) -> None:
    machine.docker("run", "--name", "one", "-v", "/anonymous", "-v", "named:/named", "box", "true")
    assert len(names(machine)) == 2
    machine.docker("rm", "-v", "one")
    assert names(machine) == {"named"}
    machine.docker("run", "--name", "one", "-v", "/anonymous", "box", "true")
    machine.docker("rm", "one")
    left = names(machine) - {"named"}
    assert len(left) == 1
    sh(machine, "-v", "/anonymous", script="true")
    assert names(machine) == {"named", *left}, "--rm removes anonymous volumes"
    assert set(names(machine, "--filter", "dangling=true")) == {"named", *left}
    assert left.pop() in machine.out("volume", "prune", "-f")
    assert names(machine) == {"named"}
    assert "named" in machine.out("volume", "prune", "-af")
    assert names(machine) == set()


def test_volumes_from(machine: Machine) -> None:
    machine.docker("run", "--name", "donor", "-v", "/data", "-v", "named:/named", "box", "sh", "-c", "echo 1 > /data/x")
    assert sh(machine, "--volumes-from", "donor", script="cat /data/x; ls -d /named") == "1\n/named"
    refused = machine.docker(
        "run", "--rm", "--volumes-from", "donor:ro", "box", "sh", "-c", "echo > /data/y", check=False
    )
    assert "Read-only file system" in refused.stderr
    (anonymous,) = names(machine) - {"named"}
    machine.docker("create", "--name", "heir", "--volumes-from", "donor", "box")
    machine.docker("rm", "-v", "donor")
    assert anonymous in names(machine), "the heir still uses it"
    machine.docker("rm", "heir")


def test_driver_options_are_mounted_while_a_container_runs(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    options = ["-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}"]
    machine.docker("volume", "create", *options, "bound")
    machine.docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,uid=7", "memory")
    script = "cat /b/file; stat -c %u /m; df -k /m | tail -1"
    said = sh(machine, "-v", "bound:/b", "-v", "memory:/m", script=script)
    assert said.startswith("hello7")
    assert "1024" in said
    mounted = "grep -c volumes/ /proc/self/mounts || true"
    eventually(lambda: machine.host.sh(mounted).strip() == "0")
    machine.docker("run", "-d", "--name", "one", "-v", "memory:/m", "box", "sleep", "600")
    machine.docker("run", "-d", "--name", "two", "-v", "memory:/m", "box", "sleep", "600")
    machine.docker("exec", "one", "sh", "-c", "echo shared > /m/x")
    machine.docker("rm", "-f", "one")
    assert machine.out("exec", "two", "cat", "/m/x") == "shared"
    assert machine.host.sh(mounted).strip() == "1"
    machine.docker("rm", "-f", "two")
    assert machine.host.sh(mounted).strip() == "0"
    machine.docker("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/no/such", "wrong")
    refused = machine.docker("run", "--rm", "-v", "wrong:/w", "box", "true", check=False)
    assert "failed to mount local volume: mount /no/such" in refused.stderr
    assert refused.returncode == 127  # the docker command has read "no such file"


def test_a_part_of_a_volume(machine: Machine) -> None:
    sh(machine, "-v", "data:/d", script="mkdir -p /d/a/b; echo deep > /d/a/b/f; ln -s /etc /d/out; ln -s a/b /d/short")
    part = "type=volume,src=data,dst=/p,volume-subpath="
    assert sh(machine, "--mount", part + "a/b", script="cat /p/f") == "deep"
    assert sh(machine, "--mount", part + "short", script="cat /p/f") == "deep"
    for bad in ("absent", "out"):
        refused = machine.docker("run", "--rm", "--mount", part + bad, "box", "true", check=False)
        assert "cannot access path" in refused.stderr, bad
    assert (data(machine, "data") / "a/b/f").read_text() == "deep\n"
    assert not list(machine.host.run_dir.glob("subpaths/*"))


def test_bind_sources(machine: Machine, tmp_path: Path) -> None:
    new = tmp_path / "new"
    sh(machine, "-v", f"{new}:/n", script="echo 1 > /n/f")
    assert (new / "f").read_text() == "1\n"
    absent = tmp_path / "absent"
    refused = machine.docker("run", "--rm", "--mount", f"type=bind,src={absent},dst=/n", "box", "true", check=False)
    assert f'invalid mount config for type "bind": bind source path does not exist: {absent}' in refused.stderr
    assert not absent.exists()
    body = {
        "Image": "box",
        "Cmd": ["true"],
        "HostConfig": {
            "Mounts": [
                {"Type": "bind", "Source": str(absent), "Target": "/n", "BindOptions": {"CreateMountpoint": True}}
            ]
        },
    }
    made = machine.api("POST", "/containers/create", body)
    assert absent.is_dir(), made


def test_propagation_and_read_only_binds(machine: Machine, tmp_path: Path) -> None:
    outer = machine.host.directory / "outer"
    machine.host.sh(f"mkdir -p {outer}; mount -t tmpfs none {outer}; mount --make-shared {outer}; mkdir {outer}/in")
    machine.host.sh(f"mount -t tmpfs none {outer}/in")
    script = "echo 1 > /o/f; echo 1 > /o/in/f"
    refused = machine.docker("run", "--rm", "-v", f"{outer}:/o:ro", "box", "sh", "-c", script, check=False)
    assert refused.stderr.count("Read-only file system") == 2
    flat = {"ReadOnlyNonRecursive": True}
    mount = {"Type": "bind", "Source": str(outer), "Target": "/o", "ReadOnly": True, "BindOptions": flat}
    body = {"Image": "box", "Cmd": ["sh", "-c", script], "HostConfig": {"Mounts": [mount]}}
    made = machine.api("POST", "/containers/create?name=flat", body)
    machine.docker("start", "-a", "flat", check=False)
    assert machine.host.sh(f"cat {outer}/in/f; ls {outer}").split() == ["1", "in"], made
    machine.docker("run", "-d", "--name", "slave", "-v", f"{outer}:/o:rslave", "box", "sleep", "600")
    machine.docker("run", "-d", "--name", "private", "-v", f"{outer}:/o", "box", "sleep", "600")
    machine.host.sh(f"mkdir {outer}/late; mount -t tmpfs none {outer}/late; echo > {outer}/late/seen")
    assert machine.out("exec", "slave", "ls", "/o/late") == "seen"
    assert machine.out("exec", "private", "ls", "/o/late") == ""
    script = "mkdir /o/back; mount -t tmpfs none /o/back; echo > /o/back/seen"
    machine.docker("run", "--rm", "--privileged", "-v", f"{outer}:/o:rshared", "box", "sh", "-c", script)
    assert machine.host.sh(f"ls {outer}/back; umount {outer}/back") == "seen\n"
    machine.docker("rm", "-f", "slave", "private", "flat")
    machine.host.sh(f"umount {outer}/late {outer}/in {outer}")


def test_tmpfs(machine: Machine) -> None:
    said = sh(
        machine,
        *("--tmpfs", "/a:size=1m,mode=700", "--mount", "type=tmpfs,dst=/b,tmpfs-size=2m,tmpfs-mode=1711"),
        *("--tmpfs", "/c:exec"),
        script="grep -E ' /[abc] ' /proc/mounts; stat -c %a /a /b",
    ).splitlines()
    found = {line.split()[1]: set(line.split()[3].split(",")) for line in said[:3]}
    assert {"noexec", "nosuid", "nodev", "size=1024k"} <= found["/a"]
    assert {"noexec", "size=2048k"} <= found["/b"]
    assert "noexec" not in found["/c"]
    assert said[3:] == ["700", "1711"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("create", "x"), "volume name is too short"),
        (("create", "a/b"), "includes invalid characters for a local volume name"),
        (("create", "-o", "size=1g", "vv"), "quota size requested but no quota support"),
        (("create", "-d", "nfs", "vv"), 'plugin "nfs" not found'),
        (("rm", "vv"), "get vv: no such volume"),
        (("ls", "--filter", "colour=red"), "invalid filter 'colour'"),
        (("ls", "--filter", "dangling=perhaps"), "invalid filter 'dangling="),
    ],
)
def test_refusals(machine: Machine, words: tuple[str, ...], sentence: str) -> None:
    for command in ("docker", "fairlead"):
        run = machine.docker if command == "docker" else machine.host.fairlead
        done = run("volume", *words, check=False)
        assert done.returncode, command
        assert sentence in done.stderr, command
    assert names(machine) == set()


def test_filters(machine: Machine) -> None:
    machine.docker("volume", "create", "--label", "tier=db", "alpha")
    machine.docker("volume", "create", "--label", "tier=web", "beta")
    machine.docker("create", "--name", "one", "-v", "beta:/b", "box")
    assert names(machine, "-f", "label=tier") == {"alpha", "beta"}
    assert names(machine, "-f", "label=tier=db") == {"alpha"}
    assert names(machine, "-f", "name=et") == {"beta"}
    assert names(machine, "-f", "dangling=true") == {"alpha"}
    assert names(machine, "-f", "dangling=false") == {"beta"}
    assert names(machine, "-f", "driver=local") == {"alpha", "beta"}
    assert names(machine, "-f", "driver=other") == set()


def test_docker_py(machine: Machine) -> None:
    with Client(machine) as client:
        volume = client.volumes.create(name="vol", labels={"x": "y"})
        assert client.volumes.get("vol").attrs["Labels"] == {"x": "y"}
        client.containers.run("box", ["sh", "-c", "echo 1 > /mnt/f"], volumes={"vol": {"bind": "/mnt"}}, remove=True)
        said = client.containers.run("box", ["cat", "/m/f"], volumes={"vol": {"bind": "/m", "mode": "ro"}}, remove=True)
        assert said == b"1\n"
        volume.remove()
        with pytest.raises(docker.errors.NotFound):
            client.volumes.get("vol")
        with pytest.raises(docker.errors.NotFound):
            client.volumes.create(name="vol", driver="invalid.driver")
        assert client.volumes.create().name in [one.name for one in client.volumes.list()]
        assert len(client.volumes.prune()["VolumesDeleted"]) == 1
        assert client.volumes.prune() == {"VolumesDeleted": [], "SpaceReclaimed": 0}
        assert client.volumes.list() == []


class Client:
    """docker-py's client; the socket file is reached from outside the host."""

    def __init__(self, machine: Machine) -> None:
        self._client = docker.DockerClient(base_url=f"unix://{machine.host.run_dir}/fairlead.sock")

    def __enter__(self) -> Any:
        return self._client

    def __exit__(self, *_: object) -> None:
        self._client.close()


def test_our_own_command(machine: Machine) -> None:
    fairlead = machine.host.fairlead
    assert fairlead("volume", "create", "--label", "a=b", "data").stdout == "data\n"
    assert fairlead("volume", "create", "--explain", "other").stdout == f"mkdir -p {data(machine, 'other')}\n"
    assert fairlead("volume", "ls").stdout.split() == ["DRIVER", "VOLUME", "NAME", "local", "data"]
    assert json.loads(fairlead("volume", "ls", "--format", "json").stdout)[0]["Name"] == "data"
    said = fairlead(
        "run", "--rm", "-v", "data:/d", "--mount", "dst=/e", "box", "sh", "-c", "echo 1 > /d/f; ls /e; cat /d/f"
    )
    assert said.stdout == "1\n"
    assert fairlead("volume", "inspect", "--format", "{{.Name}}", "data").stdout == "data\n"
    assert "data" in fairlead("volume", "prune", "--all", "--force").stdout
    assert fairlead("volume", "ls", "-q").stdout == ""


def test_two_at_once(machine: Machine) -> None:
    """Containers that share a new volume are made at once, while the volume is removed again and again."""
    script = """
    for i in 1 2 3 4 5 6; do docker run --rm -v race:/r box sh -c 'echo x >> /r/f && cat /r/f >/dev/null' & done
    for i in 1 2 3 4 5 6 7 8; do docker volume rm race 2>/dev/null; done
    wait
    """
    machine.host.sh(script)
    machine.docker("volume", "rm", "-f", "race")
    assert list((machine.host.state / "volumes").glob("*")) in ([], [machine.host.state / "volumes/.removed"])
    assert list((machine.host.state / "volumes/.removed").glob("*")) == []


@pytest.mark.parametrize("action", ["make", "remove"])
def test_a_kill_leaves_no_half_volume(machine: Machine, action: str) -> None:
    """The daemon dies at each commit of making and removing: afterwards the volume is there whole, or not at all."""
    for fault in range(1, 4):
        if action == "remove":
            machine.docker("volume", "create", "vol")
            (data(machine, "vol") / "f").write_text("1")
        machine.stop()
        machine.start(fault=fault)
        words = ("create", "vol") if action == "make" else ("rm", "vol")
        done = machine.docker("volume", *words, check=False)
        if done.returncode == 0:
            machine.kill()
        machine.daemon.wait()
        machine.start()
        known = names(machine)
        assert (machine.host.state / "volumes/vol").exists() == ("vol" in known)
        if done.returncode == 0:
            assert ("vol" in known) == (action == "make")
        assert list((machine.host.state / "volumes/.removed").glob("*")) == []
        machine.docker("volume", "rm", "-f", "vol")


def test_what_the_source_forbids_is_forbidden_inside(machine: Machine) -> None:
    """A mount that is read-only, or where nothing may be executed, is not opened by being bound."""
    place = machine.host.directory / "place"
    machine.host.sh(
        f"mkdir {place}; mount -t tmpfs -o nosuid,nodev,noexec tmpfs {place}; mkdir {place}/fixed {place}/v; "
        f"mount --bind {place}/v {place}/fixed; mount -o remount,bind,ro {place}/fixed"
    )
    machine.docker("volume", "create", "-o", "type=none", "-o", "o=bind,ro", "-o", f"device={place}/v", "fixed")
    for source in (f"{place}/fixed:/b", f"{place}/fixed:/b:rw", f"{place}/v:/b:ro", "fixed:/b"):
        assert "Read-only file system" in sh(machine, "-v", source, script="touch /b/x 2>&1; true"), source
    script = "cp /bin/busybox /b/x; /b/x true 2>&1; grep ' /b ' /proc/mounts"
    said, options = sh(machine, "-v", f"{place}:/b", script=script).splitlines()
    assert "Permission denied" in said
    assert {"rw", "nosuid", "nodev", "noexec"} <= set(options.split()[3].split(","))
    machine.docker("volume", "rm", "fixed")
    machine.host.sh(f"umount {place}/fixed {place}")


@pytest.mark.parametrize("source", ["socket", "pipe", "/dev/null", "/etc/passwd"])
def test_what_is_no_directory_can_be_bound_read_only(machine: Machine, source: str) -> None:
    """The engine's own socket above all: Traefik, Portainer and others are given it this way."""
    place = {"socket": f"{machine.host.run_dir}/fairlead.sock", "pipe": f"{machine.host.directory}/pipe"}
    machine.host.sh(f"mkfifo {place['pipe']}")
    kind = {"socket": "s", "pipe": "p", "/dev/null": "c", "/etc/passwd": "-"}[source]
    said = sh(
        machine, "-v", f"{place.get(source, source)}:/bound:ro", script="ls -l /bound; grep ' /bound ' /proc/mounts"
    )
    assert said[0] == kind
    assert said.splitlines()[1].split()[3].split(",")[0] == "ro"


@pytest.mark.parametrize("kind", ["nfs", "cifs"])
def test_a_server_that_does_not_answer(machine: Machine, kind: str) -> None:
    """The reason is the kernel's, in Docker's words; a container can be made, and nothing stays mounted."""
    options = "addr=127.0.0.1,soft,nosuid,password=open"
    machine.docker("volume", "create", "-o", f"type={kind}", "-o", f"o={options}", "-o", "device=:/export", "far")
    machine.docker("create", "--name", "one", "-v", "far:/far", "box", "true")
    place = data(machine, "far")
    sentence = f"mount :/export:{place}, flags: 0x2, data: addr=127.0.0.1,soft,password=********: "
    refused = machine.docker("start", "one", check=False).stderr
    assert f"error while mounting volume '{place}': failed to mount local volume: {sentence}" in refused
    assert machine.inspect("one")["State"]["ExitCode"] == 128
    assert sentence in machine.inspect("one")["State"]["Error"]
    machine.docker("rm", "one")
    machine.docker("volume", "rm", "far")


def test_a_server_without_an_address(machine: Machine) -> None:
    machine.docker("volume", "create", "-o", "type=nfs", "-o", "o=addr=no/name", "-o", "device=:/export", "far")
    refused = machine.docker("run", "--rm", "-v", "far:/far", "box", "true", check=False).stderr
    assert "error resolving passed in network volume address: lookup no/name: " in refused
