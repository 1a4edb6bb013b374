"""Files in and out of containers: docker cp, export, diff; by the real clients, and with hostile files."""

from __future__ import annotations

import base64
import io
import json
import os
import socket
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import docker
import pytest
from lab import Host, images
from machine import Machine, eventually


@pytest.fixture(params=["running", "stopped", "new"])
def box(request: pytest.FixtureRequest, machine: Machine) -> Machine:
    """A machine with a container named `box` that has a volume and a bind, running, ended, or never started."""
    (machine.host.directory / "bind").mkdir()
    words = ["--name", "box", "-v", "vol:/vol", "-v", f"{machine.host.directory}/bind:/bind", "-v", "fixed:/fixed:ro"]
    machine.docker("create", *words, "box", "sleep", "600")
    if request.param != "new":
        machine.docker("start", "box")
    if request.param == "stopped":
        machine.docker("stop", "-t", "0", "box")
    return machine


def content(machine: Machine, path: str) -> Any:
    """A file of the container, by its mounted or its own layer, without asking Fairlead."""
    id_ = machine.inspect("box")["Id"]
    merged = machine.host.run_dir / "containers" / id_ / "rootfs"
    for base in (merged, machine.host.state / "containers" / id_ / "upper"):
        found = machine.host.run("cat", f"{base}{path}", check=False)
        if found.returncode == 0:
            return found.stdout
    return None


def test_into_a_container(box: Machine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    (tmp_path / "tree/deep").mkdir(parents=True)
    (tmp_path / "tree/deep/leaf").write_text("leaf")
    (tmp_path / "tree/link").symlink_to("deep/leaf")
    box.docker("cp", str(tmp_path / "file"), "box:/tmp/renamed")
    assert content(box, "/tmp/renamed") == "hello"
    box.docker("cp", str(tmp_path / "file"), "box:/tmp")
    assert content(box, "/tmp/file") == "hello"
    box.docker("cp", str(tmp_path / "tree"), "box:/tmp")
    assert content(box, "/tmp/tree/deep/leaf") == "leaf"
    box.docker("cp", f"{tmp_path}/tree/.", "box:/root")
    assert content(box, "/root/deep/leaf") == "leaf"
    box.docker("cp", str(tmp_path / "file"), "box:/vol/file")
    assert (box.host.state / "volumes/vol/_data/file").read_text() == "hello"
    box.docker("cp", str(tmp_path / "file"), "box:/bind/file")
    assert (box.host.directory / "bind/file").read_text() == "hello"
    for target, sentence in (
        ("/fixed/file", "mounted volume is marked read-only"),
        ("/absent/dir/file", "Could not find the file /absent/dir in container box"),
        ("/etc/passwd/x", "not a directory"),
    ):
        refused = box.docker("cp", str(tmp_path / "file"), f"box:{target}", check=False)
        assert refused.returncode
        assert sentence in refused.stderr, target


def test_out_of_a_container(box: Machine, tmp_path: Path) -> None:
    (box.host.state / "volumes/vol/_data/file").write_text("in a volume")
    (box.host.directory / "bind/file").write_text("in a bind")
    box.docker("cp", "box:/etc/passwd", str(tmp_path / "passwd"))
    assert (tmp_path / "passwd").read_text().startswith("root:")
    box.docker("cp", "box:/etc", str(tmp_path))
    assert (tmp_path / "etc/group").is_file()
    box.docker("cp", "box:/etc", str(tmp_path / "new"))
    assert (tmp_path / "new/group").is_file()
    (tmp_path / "flat").mkdir()
    box.docker("cp", "box:/etc/.", str(tmp_path / "flat"))
    assert (tmp_path / "flat/group").is_file()
    for place in ("vol", "bind"):
        box.docker("cp", f"box:/{place}/file", str(tmp_path / place))
    assert (tmp_path / "vol").read_text() == "in a volume"
    assert (tmp_path / "bind").read_text() == "in a bind"
    stream = subprocess.run(
        box.host.enter("docker", "cp", "box:/etc/passwd", "-"), env=box.host.environment, capture_output=True
    )
    with tarfile.open(fileobj=io.BytesIO(stream.stdout)) as tar:
        assert tar.getnames() == ["passwd"]
    box.docker("cp", "box:/", str(tmp_path / "all"))
    assert (tmp_path / "all/etc/group").is_file()
    refused = box.docker("cp", "box:/absent", str(tmp_path), check=False)
    assert "Could not find the file /absent in container box" in refused.stderr


def test_links_lead_nowhere_outside(box: Machine, tmp_path: Path) -> None:
    secret = box.host.directory / "secret"
    secret.mkdir()
    (secret / "key").write_text("host")
    (box.host.state / "volumes/vol/_data/out").symlink_to(secret)
    (box.host.state / "volumes/vol/_data/up").symlink_to("../../../../../../../../../../.." + str(secret))
    (box.host.state / "volumes/vol/_data/passwd").symlink_to("/etc/passwd")
    (tmp_path / "file").write_text("mine")
    for name in ("out", "up"):
        for path in (f"/vol/{name}/key", f"/vol/{name}/", f"/../../../vol/{name}/key", f"{secret}/key"):
            assert box.docker("cp", f"box:{path}", str(tmp_path / "x"), check=False).returncode, path
        assert box.docker("cp", str(tmp_path / "file"), f"box:/vol/{name}/key", check=False).returncode
        assert box.docker("cp", str(tmp_path / "file"), f"box:/vol/{name}/new", check=False).returncode
    assert os.listdir(secret) == ["key"]
    assert (secret / "key").read_text() == "host"
    box.docker("cp", "-L", "box:/vol/passwd", str(tmp_path / "passwd"))
    assert "u1:x:1000" in (tmp_path / "passwd").read_text(), "the container's own file, not the host's"
    box.docker("cp", "box:/vol/passwd", str(tmp_path / "link"))
    assert os.readlink(tmp_path / "link") == "/etc/passwd"


@pytest.mark.parametrize("kind", ["dots", "absolute", "symlink", "hardlink"])
def test_a_hostile_archive(box: Machine, kind: str) -> None:
    secret = box.host.directory / "secret"
    secret.mkdir()
    (secret / "key").write_text("host")
    pack = io.BytesIO()
    with tarfile.open(fileobj=pack, mode="w") as tar:

        def add(name: str, type_: bytes = tarfile.REGTYPE, link: str = "") -> None:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = type_, link
            body = b"" if link else b"evil"
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))

        if kind == "dots":
            add("../../../../../../.." + str(secret) + "/new")
        elif kind == "absolute":
            add(f"{secret}/new")
        elif kind == "symlink":
            add("way", tarfile.SYMTYPE, str(secret))
            add("way/new")
        else:
            add("key", tarfile.LNKTYPE, "../../../../../../.." + str(secret) + "/key")
    file = box.host.directory / "evil.tar"
    file.write_bytes(pack.getvalue())
    box.host.sh(f"docker cp - box:/tmp < {file}", check=False)
    assert os.listdir(secret) == ["key"]
    assert (secret / "key").read_text() == "host"
    assert (secret / "key").stat().st_nlink == 1


def test_owners_modes_and_packing(machine: Machine, tmp_path: Path) -> None:
    machine.docker("create", "--name", "box", "-u", "u1", "box", "sh")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("x")
    os.chown(tmp_path / "tree/file", 123, 456)
    (tmp_path / "tree/file").chmod(0o4751)
    os.utime(tmp_path / "tree/file", (1_000_000_000, 1_000_000_000))
    for number, (pack, suffix) in enumerate(
        [("cat", "tar"), ("gzip", "gz"), ("bzip2", "bz2"), ("xz", "xz"), ("zstd", "zst")]
    ):
        if subprocess.run(["which", pack], capture_output=True).returncode:
            continue
        machine.host.sh(f"mkdir -p {tmp_path}/p; tar -C {tmp_path}/tree -c file | {pack} > {tmp_path}/p/a.{suffix}")
        url = "http://x/containers/box/archive?path=/tmp"
        machine.host.sh(
            f"curl -sf --unix-socket {machine.host.run_dir}/fairlead.sock -T {tmp_path}/p/a.{suffix} '{url}'"
        )
        upper = machine.host.state / "containers" / machine.inspect("box")["Id"] / "upper/tmp/file"
        status = upper.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (123, 456, 0o4751), pack
        assert status.st_mtime == 1_000_000_000
        upper.unlink()
        assert number >= 0
    machine.docker("cp", "-a", f"{tmp_path}/tree", "box:/root/")
    upper = machine.host.state / "containers" / machine.inspect("box")["Id"] / "upper/root/tree/file"
    assert (upper.stat().st_uid, upper.stat().st_gid) == (1000, 1000), "with -a all belongs to the container's user"


def test_the_path_stat_header(machine: Machine) -> None:
    machine.docker(
        "run", "--name", "box", "box", "sh", "-c", "mkdir -m 1770 /d; ln -s d /l; touch -t 197001010000.12 /d"
    )

    def look(path: str) -> Any:
        url = f"http://x/containers/box/archive?path={path}"
        said = machine.host.sh(f"curl -sI --unix-socket {machine.host.run_dir}/fairlead.sock '{url}'")
        (line,) = [line for line in said.splitlines() if line.startswith("X-Docker-Container-Path-Stat")]
        return json.loads(base64.b64decode(line.split(": ")[1]))

    directory = look("/d")
    assert directory["name"] == "d"
    assert directory["mode"] == 1 << 31 | 1 << 20 | 0o770
    assert directory["mtime"].startswith("1970-01-01T00:00:12")
    assert directory["linkTarget"] == ""
    link = look("/l")
    assert (link["mode"] & 1 << 27, link["linkTarget"], link["size"]) == (1 << 27, "/d", 1)
    assert look("/l/")["mode"] & 1 << 31
    missing = machine.host.sh(
        f"curl -s -o /dev/null -w '%{{http_code}}' -I --unix-socket {machine.host.run_dir}/fairlead.sock "
        "'http://x/containers/box/archive?path=/absent'"
    )
    assert missing == "404"


def test_directories_and_files_do_not_replace_each_other(machine: Machine, tmp_path: Path) -> None:
    machine.docker("run", "--name", "box", "box", "sh", "-c", "mkdir /tmp/x; echo 1 > /tmp/y")
    (tmp_path / "x").write_text("file")
    (tmp_path / "y").mkdir()
    for name, sentence in (("x", "cannot overwrite directory"), ("y", "cannot overwrite non-directory")):
        machine.host.sh(f"tar -C {tmp_path} -cf {tmp_path}/{name}.tar {name}")
        url = "http://x/containers/box/archive?path=/tmp&noOverwriteDirNonDir=1"
        said = machine.host.sh(
            f"curl -s --unix-socket {machine.host.run_dir}/fairlead.sock -T {tmp_path}/{name}.tar '{url}'"
        )
        assert sentence in said
    url = "http://x/containers/box/archive?path=/tmp"
    machine.host.sh(f"curl -sf --unix-socket {machine.host.run_dir}/fairlead.sock -T {tmp_path}/x.tar '{url}'")
    assert content(machine, "/tmp/x") == "file"


def test_a_read_only_root(machine: Machine, tmp_path: Path) -> None:
    machine.docker("create", "--read-only", "--name", "box", "-v", "vol:/vol", "box", "sh")
    (tmp_path / "f").write_text("1")
    refused = machine.docker("cp", str(tmp_path / "f"), "box:/tmp/f", check=False)
    assert "container rootfs is marked read-only" in refused.stderr
    machine.docker("cp", str(tmp_path / "f"), "box:/vol/f")
    assert (machine.host.state / "volumes/vol/_data/f").read_text() == "1"


def test_export(box: Machine, tmp_path: Path) -> None:
    (box.host.state / "volumes/vol/_data/file").write_text("in a volume")
    (tmp_path / "new").write_text("new")
    box.docker("cp", str(tmp_path / "new"), "box:/etc/new")
    box.docker("export", "-o", str(tmp_path / "all.tar"), "box")
    with tarfile.open(tmp_path / "all.tar") as tar:
        names = tar.getnames()
        file = tar.extractfile("etc/new")
        assert file is not None
        assert file.read() == b"new"
    assert "bin/busybox" in names
    assert "etc/passwd" in names
    assert not [name for name in names if name.startswith(("/", "./")) or name in (".", "vol/file")]


def test_diff(machine: Machine) -> None:
    script = """
    echo 1 > /new; mkdir /dir; echo 2 > /dir/file; rm /etc/group; echo x >> /etc/passwd
    chmod 700 /root; rm -r /tmp; mkdir /tmp; echo 3 > /tmp/again; ln -s new /link
    """
    machine.docker("run", "--name", "box", "-v", "vol:/vol", "box", "sh", "-c", script)
    wanted = {
        "A /new", "A /dir", "A /dir/file", "D /etc/group", "C /etc/passwd", "C /etc", "C /root", "C /tmp",
        "A /tmp/again", "A /link", "A /vol",
    }  # fmt: skip
    assert set(machine.out("diff", "box").splitlines()) == wanted
    assert set(machine.host.fairlead("diff", "box").stdout.splitlines()) == wanted
    machine.docker("run", "--name", "calm", "box", "true")
    assert machine.out("diff", "calm") == ""


def test_a_name_may_hold_any_bytes(machine: Machine, tmp_path: Path) -> None:
    """In an answer U+FFFD stands for what is no UTF-8, as in Docker's; the file itself is found by its bytes."""
    name = os.fsdecode(b"f\xfcr")
    machine.docker("run", "--name", "box", "box", "sh", "-c", r"echo 1 >$(printf '/f\374r')")
    assert machine.out("diff", "box") == "A /f\ufffdr"
    for command in (machine.docker, machine.host.fairlead):
        command("cp", f"box:/{name}", str(tmp_path / "got"))
        assert (tmp_path / "got").read_text() == "1\n"
        (tmp_path / "got").unlink()
        command("cp", str(tmp_path), f"box:/root/{name}")
    refused = machine.host.fairlead("run", "-e", f"X={name}", "box", check=False)
    assert refused.stderr == r"fairlead: 'X=f\xfcr' is no UTF-8, which is all that the daemon can be told" + "\n"


def test_who_leaves_while_files_come_is_no_fault(host: Host) -> None:
    host.fairlead("image", "load", "-i", str(images() / "alpine.tar"))
    host.fairlead("create", "--name", "box", "alpine")
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(host.run_dir / "fairlead.sock"))
            client.sendall(b"GET /containers/box/archive?path=/etc HTTP/1.1\r\nHost: x\r\n\r\n")
            client.recv(64)
    host.fairlead("rm", "box")
    assert '"level":"error"' not in (host.run_dir / "daemon.log").read_text()


def test_a_busy_container_is_copied_whole(machine: Machine, tmp_path: Path) -> None:
    script = "mkdir /w; while :; do for i in 1 2 3 4 5 6 7 8 9; do echo $i > /w/$i; rm /w/$i; done; done"
    machine.docker("run", "-d", "--name", "box", "box", "sh", "-c", script)
    eventually(lambda: content(machine, "/etc/passwd"))
    for number in range(5):
        machine.docker("cp", "box:/w", str(tmp_path / f"copy{number}"))
        machine.docker("cp", "box:/etc/passwd", str(tmp_path / "passwd"))


def test_a_large_file_comes_whole(machine: Machine, tmp_path: Path) -> None:
    machine.docker("create", "--name", "box", "box", "sh")
    with open(tmp_path / "big", "wb") as file:
        for number in range(64):
            file.write(bytes([number]) * (1 << 20))
    machine.docker("cp", str(tmp_path / "big"), "box:/tmp/big")
    machine.docker("cp", "box:/tmp/big", str(tmp_path / "back"))
    subprocess.run(["cmp", tmp_path / "big", tmp_path / "back"], check=True)


def test_docker_py(machine: Machine) -> None:
    client = docker.DockerClient(base_url=f"unix://{machine.host.run_dir}/fairlead.sock")
    try:
        container = client.containers.create("box", ["sh", "-c", "echo 1 > /made"])
        pack = io.BytesIO()
        with tarfile.open(fileobj=pack, mode="w") as tar:
            member = tarfile.TarInfo("given")
            member.size = 2
            tar.addfile(member, io.BytesIO(b"ok"))
        assert container.put_archive("/tmp", pack.getvalue())
        stream, status = container.get_archive("/tmp/given")
        assert (status["name"], status["size"]) == ("given", 2)
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
            assert tar.getnames() == ["given"]
        with pytest.raises(docker.errors.NotFound):
            container.get_archive("/absent")
        container.start()
        container.wait()
        assert {"Path": "/made", "Kind": 1} in container.diff()
        with tarfile.open(fileobj=io.BytesIO(b"".join(container.export()))) as tar:
            assert "made" in tar.getnames()
    finally:
        client.close()


def test_our_own_command(box: Machine, tmp_path: Path) -> None:
    fairlead = box.host.fairlead
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/leaf").write_text("leaf")
    fairlead("cp", str(tmp_path / "tree"), "box:/tmp")
    assert content(box, "/tmp/tree/leaf") == "leaf"
    fairlead("cp", str(tmp_path / "tree/leaf"), "box:/tmp/other")
    assert content(box, "/tmp/other") == "leaf"
    fairlead("cp", "box:/tmp/tree", str(tmp_path / "back"))
    assert (tmp_path / "back/leaf").read_text() == "leaf"
    fairlead("cp", "box:/tmp/tree/.", str(tmp_path))
    assert (tmp_path / "leaf").read_text() == "leaf"
    fairlead("cp", "box:/etc/passwd", str(tmp_path / "passwd"))
    assert (tmp_path / "passwd").read_text().startswith("root")
    assert fairlead("cp", "box:/absent", str(tmp_path), check=False).returncode == 1
    assert fairlead("cp", str(tmp_path), str(tmp_path), check=False).returncode == 2
    fairlead("export", "-o", str(tmp_path / "all.tar"), "box")
    with tarfile.open(tmp_path / "all.tar") as tar:
        assert "tmp/tree/leaf" in tar.getnames()
