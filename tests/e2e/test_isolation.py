"""How far a container is cut off: namespaces shared, devices, system calls; by the real docker CLI."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from machine import Machine


def sh(machine: Machine, *words: str, script: str) -> str:
    """What a script in a new container says, with these options of run."""
    return machine.out("run", "--rm", *words, "box", "sh", "-c", script)


def refused(machine: Machine, *words: str) -> str:
    done = machine.docker("run", "--rm", *words, "box", "true", check=False)
    assert done.returncode == 125, done.stderr
    return done.stderr


def namespace(kind: str) -> str:
    return os.readlink(f"/proc/self/ns/{kind}")


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("--pid", "host"), "pid"),
        (("--ipc", "host"), "ipc"),
        (("--uts", "host"), "uts"),
        (("--cgroupns", "host"), "cgroup"),
    ],
)
def test_the_hosts_namespaces(machine: Machine, words: tuple[str, ...], kind: str) -> None:
    read = f"readlink /proc/self/ns/{kind}"
    assert sh(machine, *words, script=read) == namespace(kind)
    assert sh(machine, script=read) != namespace(kind)


def test_the_hosts_name(machine: Machine) -> None:
    assert sh(machine, "--uts", "host", script="hostname") == os.uname().nodename
    assert "conflicting options: hostname and the UTS mode" in refused(machine, "--uts", "host", "--hostname", "x")


def test_another_containers_processes(machine: Machine) -> None:
    machine.docker("run", "-d", "--name", "one", "box", "sleep", "12345")
    assert "sleep 12345" in sh(machine, "--pid", "container:one", script="ps -o args")
    machine.docker("rename", "one", "other")
    machine.docker("create", "--name", "late", "--pid", "container:other", "box", "true")
    machine.docker("rm", "-f", "other")
    done = machine.docker("start", "late", check=False)
    assert done.returncode
    assert "No such container" in refused(machine, "--pid", "container:absent")
    machine.docker("create", "--name", "idle", "box")
    assert "cannot join PID namespace of a non running container" in refused(machine, "--pid", "container:idle")


def test_shared_memory(machine: Machine) -> None:
    machine.docker("run", "-d", "--name", "donor", "--ipc", "shareable", "--shm-size", "3m", "box", "sleep", "600")
    machine.docker("exec", "donor", "sh", "-c", "echo shared > /dev/shm/x")
    assert sh(machine, "--ipc", "container:donor", script="cat /dev/shm/x; df -k /dev/shm | tail -1").split()[:3] == [
        "shared", "shm", "3072",
    ]  # fmt: skip
    machine.docker("run", "-d", "--name", "heir", "--ipc", "container:donor", "box", "sleep", "600")
    machine.docker("rm", "-f", "donor")
    assert machine.out("exec", "heir", "cat", "/dev/shm/x") == "shared"
    machine.docker("run", "-d", "--name", "private", "box", "sleep", "600")
    assert "non-shareable IPC" in refused(machine, "--ipc", "container:private")
    assert sh(machine, "--ipc", "none", script="grep -c /dev/shm /proc/mounts || true") == "0"
    machine.docker("rm", "-f", "heir", "private")
    assert machine.host.sh(f"grep -c {machine.host.run_dir}/shm /proc/mounts || true").strip() == "0"


def test_devices(machine: Machine) -> None:
    machine.host.sh(f"mknod {machine.host.directory}/node c 1 5; mkdir {machine.host.directory}/dir")
    machine.host.sh(f"mknod {machine.host.directory}/dir/a c 1 3")
    place = machine.host.directory
    assert sh(machine, "--device", f"{place}/node:/dev/mine:r", script="head -c 4 /dev/mine | wc -c") == "4"
    assert "/dev/all/a" in sh(machine, "--device", f"{place}/dir:/dev/all", script="ls /dev/all/a")
    use = "mknod /tmp/tun c 10 200; (exec 3< /tmp/tun) 2>/dev/null && echo open || echo closed"
    assert sh(machine, script=use) == "closed"
    assert sh(machine, "--device-cgroup-rule", "c 10:200 r", script=use) == "open"
    # 127, as docker has it for these words.
    done = machine.docker("run", "--rm", "--device", "/dev/no-such-device", "box", "true", check=False)
    assert done.returncode == 127
    assert "error gathering device information" in done.stderr
    assert (
        "invalid device cgroup rule format: 'x'"
        in machine.api("POST", "/containers/create", {"Image": "box", "HostConfig": {"DeviceCgroupRules": ["x"]}})[
            "message"
        ]
    )


def test_privileged_sees_the_hosts_devices(machine: Machine) -> None:
    assert sh(machine, "--privileged", script="ls /dev/kmsg; grep Seccomp: /proc/self/status").split() == [
        "/dev/kmsg", "Seccomp:", "0",
    ]  # fmt: skip
    assert sh(machine, script="ls /dev/kmsg 2>/dev/null | wc -l") == "0"


def test_seccomp(machine: Machine, tmp_path: Path) -> None:
    mode = "grep Seccomp: /proc/self/status"
    try_mount = "mount -t tmpfs none /tmp 2>&1 && echo mounted || true"
    assert sh(machine, script=mode).split()[1] == "2", "there is a filter by default"
    assert sh(machine, "--security-opt", "seccomp=unconfined", script=mode).split()[1] == "0"
    # With the capability the default profile lets it through; without the profile the kernel asks for the capability.
    assert "mounted" in sh(machine, "--cap-add", "SYS_ADMIN", script=try_mount)
    assert "mounted" not in sh(machine, script=try_mount)
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    }
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    option = ("--security-opt", f"seccomp={tmp_path}/profile.json")
    assert "Operation not permitted" in sh(machine, *option, script="mkdir /x 2>&1 || true")
    said = machine.host.fairlead("run", "--rm", *option, "box", "sh", "-c", "mkdir /x 2>&1 || true").stdout
    assert "Operation not permitted" in said
    machine.docker("run", "-d", "--name", "one", *option, "box", "sleep", "600")
    assert "Operation not permitted" in machine.docker("exec", "one", "mkdir", "/y", check=False).stderr
    kept, configs = (machine.host.run_dir / name for name in ("seccomp", "containers/*/config.json"))
    assert machine.host.sh(f"ls {kept}").count("\n") == 3, "that of most, that with the capability, this one"
    assert machine.host.sh(f"cat {configs} | grep -c seccomp_bpf_data") == "1\n", "it was not compiled again"
    (tmp_path / "bad.json").write_text("{}")
    assert "Decoding seccomp profile failed" in refused(machine, "--security-opt", f"seccomp={tmp_path}/bad.json")
    assert "Invalid --security-opt" in refused(machine, "--security-opt", "colour")


def test_masked_paths(machine: Machine) -> None:
    read = "head -c 1 /proc/timer_list | wc -c; grep -c ' /proc/sys ' /proc/mounts || true"
    assert sh(machine, script=read).split() == ["0", "1"]
    assert sh(machine, "--security-opt", "systempaths=unconfined", script=read).split() == ["1", "0"]


def test_control_groups(machine: Machine) -> None:
    machine.docker("run", "-d", "--name", "one", "--cgroup-parent", "fairlead-test", "box", "sleep", "600")
    id_ = machine.inspect("one")["Id"]
    pid = machine.inspect("one")["State"]["Pid"]
    assert f"/fairlead-test/fairlead-{id_}" in Path(f"/proc/{pid}/cgroup").read_text()
    assert "sleep 600" in machine.out("top", "one")
    machine.docker("rm", "-f", "one")
    for parent in Path("/sys/fs/cgroup").glob("*/fairlead-test"):
        assert list(parent.glob("fairlead-*")) == []
        parent.rmdir()


def test_what_inspect_shows(machine: Machine) -> None:
    words = ["--pid", "host", "--ipc", "shareable", "--uts", "host", "--security-opt", "no-new-privileges"]
    words += ["--annotation", "a=b", "--device", "/dev/null:/dev/nil:r", "--cgroupns", "host", "--userns", "host"]
    machine.docker("create", "--name", "one", *words, "box")
    host = machine.inspect("one")["HostConfig"]
    assert (host["PidMode"], host["IpcMode"], host["UTSMode"], host["UsernsMode"]) == (
        "host",
        "shareable",
        "host",
        "host",
    )
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["Annotations"] == {"a": "b"}
    assert host["CgroupnsMode"] == "host"
    device = {"PathOnHost": "/dev/null", "PathInContainer": "/dev/nil", "CgroupPermissions": "r"}
    assert host["Devices"] == [device]
    machine.docker("start", "one")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--pid", "strange"), "PID mode"),
        (("--ipc", "strange"), "IPC mode"),
        (("--runtime", "gvisor"), "unknown or invalid runtime name: gvisor"),
        (("--security-opt", "apparmor=mine"), "is not supported"),
    ],
)
def test_refusals(machine: Machine, words: tuple[str, ...], sentence: str) -> None:
    done = machine.host.fairlead("run", "--rm", *words, "box", "true", check=False)
    assert done.returncode == 125
    assert sentence in done.stderr
    assert machine.out("ps", "-aq") == ""


def test_limits_of_block_devices(shared: Machine) -> None:
    block = next(f"/dev/{name}" for name in sorted(os.listdir("/sys/block")) if os.path.exists(f"/dev/{name}"))
    device = f"{os.major(os.stat(block).st_rdev)}:{os.minor(os.stat(block).st_rdev)}"
    limits = {"read-bps": "1mb", "write-bps": "2mb", "read-iops": "30", "write-iops": "40"}
    words = [f"--device-{name}={block}:{value}" for name, value in limits.items()]
    script = "cat /sys/fs/cgroup/blkio/blkio.throttle.*_device /sys/fs/cgroup/io.max 2>/dev/null || true"
    said = shared.out("run", "--rm", *words, "box", "sh", "-c", script)
    if "rbps" in said:  # version 2
        assert said == f"{device} rbps=1048576 wbps=2097152 riops=30 wiops=40"
    else:
        found = {line.split()[1] for line in said.splitlines() if line.startswith(f"{device} ")}
        assert found == {"1048576", "2097152", "30", "40"}


@pytest.mark.skipif(
    not Path("/sys/fs/cgroup/blkio").exists() or Path("/sys/fs/cgroup/blkio/blkio.weight").exists(),
    reason="this kernel has weights of block I/O",
)
def test_weights_of_block_devices_that_the_kernel_has_not_are_left_out(shared: Machine) -> None:
    done = shared.docker("run", "--name", "heavy", "--blkio-weight", "300", "box", "true")
    assert "Your kernel does not support Block I/O weight or the cgroup is not mounted" in done.stderr
    assert shared.inspect("heavy")["HostConfig"]["BlkioWeight"] == 0
    warned = shared.api("POST", "/containers/heavy/update", {"BlkioWeight": 400})
    assert warned["Warnings"] == [
        "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
    ]
    shared.docker("rm", "heavy")
