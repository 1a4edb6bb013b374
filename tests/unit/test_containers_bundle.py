"""The OCI configuration, the files in /etc, and the users of an image."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.containers import files
from fairlead.containers.bundle import (
    ALL_CAPABILITIES,
    DEFAULT_CAPABILITIES,
    available_capabilities,
    capabilities,
    make_config,
)
from fairlead.containers.record import Bind, Container, ContainerSpec, Limits
from fairlead.errors import Invalid
from fairlead.plan.containers import MarkRoot, _await_end
from fairlead.plan.runtime import explain_refusal
from fairlead.plan.users import User, resolve

SPEC = ContainerSpec(image="box", command=("sleep", "1"), hostname="h1")
KERNEL: Any = None
"""For steps that only write files."""


def config(namespace: str | None = "/run/x/netns/1", **fields: object) -> dict:  # type: ignore[type-arg]
    spec = msgspec.structs.replace(SPEC, **fields)
    one = Container(id="a" * 64, name="one", image_id="b" * 64, spec=spec, created=1.0)
    bound = {"/etc/hosts": Path("/s/hosts")}
    return make_config(one, root=Path("/b/rootfs"), namespace=namespace, files=bound, cgroup="/fairlead-a")


def mount(document: dict, target: str) -> dict:  # type: ignore[type-arg]
    (found,) = [m for m in document["mounts"] if m["destination"] == target]
    return found


def test_capabilities() -> None:
    assert capabilities(SPEC) == [c for c in ALL_CAPABILITIES if c in DEFAULT_CAPABILITIES]
    assert len(DEFAULT_CAPABILITIES) == 14
    added = msgspec.structs.replace(SPEC, cap_add=("net_admin",), cap_drop=("CAP_CHOWN",))
    assert set(capabilities(added)) == (set(DEFAULT_CAPABILITIES) | {"CAP_NET_ADMIN"}) - {"CAP_CHOWN"}
    assert capabilities(msgspec.structs.replace(SPEC, cap_drop=("ALL",))) == []
    assert capabilities(msgspec.structs.replace(SPEC, cap_drop=("ALL",), cap_add=("KILL",))) == ["CAP_KILL"]
    all_but = capabilities(msgspec.structs.replace(SPEC, cap_add=("ALL",), cap_drop=("SYS_ADMIN",)))
    assert set(all_but) == set(available_capabilities()) - {"CAP_SYS_ADMIN"}
    with pytest.raises(Invalid, match="invalid capability 'FLY'"):
        capabilities(msgspec.structs.replace(SPEC, cap_add=("FLY",)))


def test_the_network_namespace_is_given_by_path_or_shared_with_the_host() -> None:
    own = config()
    assert {"type": "network", "path": "/run/x/netns/1"} in own["linux"]["namespaces"]
    assert own["linux"]["sysctl"]["net.ipv4.ip_unprivileged_port_start"] == "0"
    shared = config(namespace=None)
    assert all(n["type"] != "network" for n in shared["linux"]["namespaces"])
    assert shared["linux"]["sysctl"] == {}
    assert mount(shared, "/sys")["type"] == "bind"


def test_mounts_of_the_user_win_over_ours_and_parents_come_first() -> None:
    binds = (Bind(source="/mine", target="/etc/hosts"), Bind(source="/d", target="/data/sub", options=("ro",)))
    document = config(binds=binds, tmpfs={"/data": "size=1m"})
    assert mount(document, "/etc/hosts")["source"] == "/mine"
    order = [m["destination"] for m in document["mounts"]]
    assert order.index("/data") < order.index("/data/sub")
    assert order.index("/dev") < order.index("/dev/shm")
    assert {"ro", "rro"} & set(mount(document, "/data/sub")["options"])


def test_a_bind_of_one_mount_says_nothing_recursive_for_crun_takes_it_for_the_bind() -> None:
    binds = [Bind(source="/d", target=f"/{word}", options=(word,), recursive=False) for word in ("rslave", "shared")]
    document = config(binds=(*binds, Bind(source="/d", target="/d", recursive=False), Bind(source="/d", target="/r")))
    assert {"bind", "slave"} <= set(mount(document, "/rslave")["options"])
    assert {"bind", "shared"} <= set(mount(document, "/shared")["options"])
    assert {"bind", "private"} <= set(mount(document, "/d")["options"])
    assert {"rbind", "rprivate"} <= set(mount(document, "/r")["options"])
    assert not [o for path in ("/rslave", "/shared", "/d") for o in mount(document, path)["options"] if o[0] == "r"]


def test_privileged_lifts_every_restriction() -> None:
    document = config(privileged=True)
    assert document["linux"]["maskedPaths"] == []
    assert document["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert "rw" in mount(document, "/sys")["options"]
    plain = config()["linux"]["resources"]["devices"]
    assert plain[0] == {"allow": False, "access": "rwm"}


def test_limits() -> None:
    limits = config(limits=Limits(memory=64 << 20, pids=7, nano_cpus=1_500_000_000))["linux"]["resources"]
    assert limits["memory"] == {"limit": 64 << 20, "swap": 128 << 20}
    assert limits["pids"] == {"limit": 7}
    assert limits["cpu"] == {"period": 100_000, "quota": 150_000}
    assert set(config()["linux"]["resources"]) == {"devices"}


def test_environment() -> None:
    assert config()["process"]["env"][0].startswith("PATH=")
    env = config(env=("PATH=/x", "A=b"), tty=True)["process"]["env"]
    assert env == ["PATH=/x", "HOSTNAME=h1", "TERM=xterm", "A=b"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nbad line\nu1:x:1000:1001::/home/u1:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\nu1:x:1001:\nextra:x:2000:u1,other\nthird:x:3000:\n")
    return tmp_path


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", User(0, 0, (0,), "/root")),
        ("u1", User(1000, 1001, (1001, 2000), "/home/u1")),
        ("1000", User(1000, 1001, (1001, 2000), "/home/u1")),
        ("u1:third", User(1000, 3000, (3000,), "/home/u1")),
        ("u1:77", User(1000, 77, (77,), "/home/u1")),
        ("4711", User(4711, 0, (0,), "/")),
        ("4711:4712", User(4711, 4712, (4712,), "/")),
    ],
)
def test_users(root: Path, user: str, expected: User) -> None:
    assert resolve(root, user) == expected


def test_users_that_are_not_there(root: Path) -> None:
    with pytest.raises(Invalid, match="unable to find user nobody: no matching entries in passwd file"):
        resolve(root, "nobody")
    with pytest.raises(Invalid, match="unable to find group nogroup"):
        resolve(root, "u1:nogroup")
    with pytest.raises(Invalid, match="out of range"):
        resolve(root, "4294967296")
    assert resolve(root, "u1", ("third", "99")).groups == (1001, 2000, 3000, 99)


def test_an_image_cannot_make_us_read_the_hosts_files(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("spy:x:5:5::/:/bin/sh\n")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    for target in (str(outside), "../../outside", "/../../../../" + str(outside)):
        (root / "etc/passwd").unlink(missing_ok=True)
        (root / "etc/passwd").symlink_to(target)
        with pytest.raises(Invalid):
            resolve(root, "spy")
    # A link within the image is followed as the container would.
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to("/real")
    (root / "real").write_text("spy:x:5:5::/:/bin/sh\n")
    assert resolve(root, "spy").uid == 5


def test_a_root_is_marked_as_a_containers_and_has_a_table_of_mounts(root: Path) -> None:
    step = MarkRoot(root)
    by_hand = ["sh", "-e", "-c", "\n".join(step.shell())]
    for make in (lambda: step.apply(KERNEL), lambda: subprocess.run(by_hand, check=True)):
        for _ in range(2):
            make()
            assert (root / ".dockerenv").stat().st_mode & 0o7777 == 0o755
            assert os.readlink(root / "etc/mtab") == "/proc/mounts"
        (root / ".dockerenv").unlink()
        (root / "etc/mtab").unlink()
    (root / "etc/mtab").write_text("the image's own")
    step.apply(KERNEL)
    assert (root / "etc/mtab").read_text() == "the image's own"


@pytest.mark.parametrize("etc", [None, "/outside", "../outside", "etc", "a file"])
def test_a_root_is_marked_whatever_the_image_has_for_etc(tmp_path: Path, etc: str | None) -> None:
    (tmp_path / "outside").mkdir()
    root = tmp_path / "root"
    root.mkdir()
    if etc == "a file":
        (root / "etc").write_text("")
    elif etc:
        (root / "etc").symlink_to(f"{tmp_path}{etc}" if etc.startswith("/") else etc)
    (root / ".dockerenv").symlink_to(tmp_path / "outside/mark")
    MarkRoot(root).apply(KERNEL)
    subprocess.run(["sh", "-e"], input="\n".join(MarkRoot(root).shell()), check=True, text=True)
    assert os.listdir(tmp_path / "outside") == []


def test_hosts() -> None:
    spec = msgspec.structs.replace(SPEC, extra_hosts=("db:10.0.0.9", "me:host-gateway"), domainname="lan")
    text = files.hosts(spec, ("172.17.0.2",), "172.17.0.1")
    assert "127.0.0.1\tlocalhost\n" in text
    assert "10.0.0.9\tdb\n" in text
    assert "172.17.0.1\tme\n" in text
    assert text.endswith("172.17.0.2\th1.lan h1\n")


@pytest.mark.parametrize(
    ("hostname", "domainname", "names"),
    [("h1", "", "h1"), ("h1.lan", "", "h1.lan h1"), ("h1.lan", "example.org", "h1.lan.example.org h1")],
)
def test_own_names_are_the_whole_and_its_first_label(hostname: str, domainname: str, names: str) -> None:
    spec = msgspec.structs.replace(SPEC, hostname=hostname, domainname=domainname)
    assert files.own_hosts(spec, ("10.0.0.2",)) == [f"10.0.0.2\t{names}"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("nameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch a b\n", "nameserver 10.0.0.1\nsearch a b\n"),
        ("nameserver ::1\noptions ndots:2\n", "nameserver 8.8.8.8\nnameserver 8.8.4.4\noptions ndots:2\n"),
        ("# nothing\n", "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"),
        ("nameserver fe80::1%eth0\n", "nameserver fe80::1%eth0\n"),
    ],
)
def test_resolv_conf(host: str, expected: str) -> None:
    assert files.resolv_conf(SPEC, host, host_network=False) == expected


def test_resolv_conf_of_the_user_and_of_the_hosts_network() -> None:
    spec = msgspec.structs.replace(SPEC, dns=("127.0.0.1",), dns_search=(".",), dns_options=("ndots:1",))
    text = files.resolv_conf(spec, "nameserver 10.0.0.1\nsearch a\n", host_network=False)
    assert text == "nameserver 127.0.0.1\noptions ndots:1\n"
    assert files.resolv_conf(SPEC, "nameserver 127.0.0.1\n", host_network=True) == "nameserver 127.0.0.1\n"


@pytest.mark.parametrize(
    ("said", "command", "code", "words"),
    [
        ("executable file `foo` not found in $PATH: No such file or directory", "foo", 127, "file not found in $PATH"),
        ("executable file `/a/b` not found in $PATH: No such file or directory", "/a/b", 127, "no such file or dir"),
        ("open executable: Permission denied", "", 127, 'exec: "": executable file not found in $PATH'),
        ("open executable: Permission denied", "/etc/passwd", 126, "permission denied"),
        ("mount `/x` to `y`: No such file or directory", "sh", 127, "mount `/x` to `y`: no such file or directory"),
        ("mount `/x` to `y`: Not a directory", "sh", 127, "mount `/x` to `y`: Not a directory"),
        (
            "chdir `/a`: No such file or directory",
            "sh",
            127,
            'chdir to cwd ("/a") set in config.json failed: no such fi',
        ),
        ("mount `/x` to `y`: Invalid argument", "sh", 128, "mount `/x`"),
        ("", "sh", 128, "no reason"),
    ],
)
def test_refusals_in_dockers_words(said: str, command: str, code: int, words: str) -> None:
    found = explain_refusal(said, command)
    assert found[0] == code
    assert words in found[1]


def test_a_daemon_with_many_descriptors_can_wait_for_a_monitor() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    many = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    child = subprocess.Popen(["sleep", "0.1"])
    try:
        _await_end(child.pid)
        assert child.poll() == 0
    finally:
        child.kill()
        child.wait()
        for descriptor in many:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
