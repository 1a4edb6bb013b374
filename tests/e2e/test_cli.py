"""The command line and the daemon's life on a throwaway host, with the real kernel."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import FAIRLEAD, Host

BUSYBOX = "/bin/busybox"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system of busybox, as a tar archive."""
    root = tmp_path_factory.mktemp("root")
    for directory in ("bin", "etc", "tmp", "root"):
        (root / directory).mkdir()
    (root / "bin/busybox").write_bytes(Path(BUSYBOX).read_bytes())
    (root / "bin/busybox").chmod(0o755)
    for name in ("sh", "ash", "cat", "true", "sleep", "stty", "tty", "wc", "echo", "kill"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    tar = tmp_path_factory.mktemp("tar") / "box.tar"
    subprocess.run(["tar", "-C", str(root), "-cf", str(tar), "."], check=True)
    return tar


@pytest.fixture
def box(host: Host, archive: Path) -> Host:
    """A host that has the image ``box``."""
    host.fairlead("image", "import", "-c", 'CMD ["sh"]', str(archive), "box")
    return host


def pid_of(host: Host) -> int:
    return int((host.run_dir / "daemon.pid").read_text())


def daemon(host: Host, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """A daemon in the foreground, once it is ready."""
    process = host.popen(
        FAIRLEAD, "daemon", *arguments, stderr=subprocess.PIPE, env={**host.environment, **environment}
    )
    assert process.stderr is not None
    for line in process.stderr:
        if json.loads(line)["message"] == "ready":
            return process
    raise AssertionError(f"the daemon ended with {process.wait()}")


def inner(process: subprocess.Popen[str], host: Host) -> int:
    """The daemon's own process id (nsenter executes it in place)."""
    assert process.pid == pid_of(host)
    return process.pid


def test_the_walk_with_namespaces(host: Host) -> None:
    assert host.fairlead("netns", "add", "ns0", "ns1").stdout == "ns0\nns1\n"
    add = ("link", "add", "ns0/vth0", "ns1/vth1", "--ip", "172.0.0.2/24", "--peer-ip", "172.0.0.3/24")
    explained = host.fairlead(*add, "--explain").stdout
    assert re.search(r"^ip -n ns0 link add vth0 type veth peer name vth1 netns ns1$", explained, re.M)
    assert "vth0" not in host.sh("ip -n ns0 link")
    host.fairlead(*add)
    host.fairlead("netns", "exec", "ns0", "ping", "-c1", "-w5", "172.0.0.3")
    host.fairlead("network", "create", "br0", "--subnet", "10.0.0.0/24", "--gateway", "none")
    for name, address in (("ns0", "10.0.0.1"), ("ns1", "10.0.0.2")):
        host.fairlead("network", "connect", "br0", name, "--ip", address)
    host.fairlead("netns", "exec", "ns1", "ping", "-c1", "-w5", "10.0.0.1")
    topology = host.fairlead("topology").stdout
    assert re.search(r"├─ veth\w+ ─+┤ eth0  10\.0\.0\.1/24 ", topology)
    assert re.search(r"│ vth0  172\.0\.0\.2/24 +├─+┤ vth1  172\.0\.0\.3/24 +│", topology)
    listed = json.loads(host.fairlead("netns", "ls", "--format", "json").stdout)
    assert [namespace["Name"] for namespace in listed] == ["ns0", "ns1"]
    refused = host.fairlead("network", "rm", "br0", check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("fairlead: error while removing network: network br0 has active endpoints")
    host.fairlead("link", "rm", "ns0/vth0")
    host.fairlead("netns", "rm", "ns0", "ns1")
    host.fairlead("network", "rm", "br0")
    assert "br0" not in host.sh("ip -br link")


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["sh", "-c", "exit 7"], 7, ""),
        (["sh", "-c", "kill -TERM $$"], -signal.SIGTERM, ""),
        (["no-such-program"], 127, "fairlead: no-such-program: no such program\n"),
        (["/etc/passwd"], 126, "fairlead: /etc/passwd: Permission denied\n"),
    ],
)
def test_netns_exec_passes_the_end_through(host: Host, command: list[str], code: int, said: str) -> None:
    host.fairlead("netns", "add", "ns0")
    done = host.fairlead("netns", "exec", "ns0", *command, check=False)
    assert (done.returncode, done.stderr) == (code, said)


def test_netns_exec_sees_its_own_sys_and_etc(host: Host) -> None:
    host.fairlead("netns", "add", "ns0")
    host.sh("mount -t tmpfs tmpfs /mnt && mkdir -p /mnt/ns0 && echo 'nameserver 10.9.9.9' > /mnt/ns0/resolv.conf")
    host.sh("mkdir -p /etc/netns")
    try:
        host.sh("mount --bind /mnt /etc/netns")
        seen = host.fairlead("netns", "exec", "ns0", "sh", "-c", "ls /sys/class/net; cat /etc/resolv.conf").stdout
        assert seen == "lo\nnameserver 10.9.9.9\n"
        assert "10.9.9.9" not in host.sh("cat /etc/resolv.conf")
        assert "eth0" in host.sh("ls /sys/class/net") or "eth0" in host.sh("ip -br link")
    finally:
        host.sh("umount /etc/netns; rmdir /etc/netns", check=False)


def test_commands_that_come_at_once_start_one_daemon(host: Host) -> None:
    started = [host.popen(FAIRLEAD, "network", "ls", "-q", stdout=subprocess.PIPE) for _ in range(4)]
    answers = {process.communicate(timeout=30)[0] for process in started}
    assert [process.returncode for process in started] == [0] * 4
    assert len(answers) == 1
    assert len((host.run_dir / "daemon.log").read_text().split('"ready"')) == 2


def test_on_demand_start_leaves_no_descriptor_and_no_directory_in_use(host: Host, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with open(tmp_path / "held", "w") as held:
        os.set_inheritable(writer, True)
        subprocess.run(
            host.enter(FAIRLEAD, "network", "ls"),
            env=host.environment,
            pass_fds=(writer, held.fileno()),
            check=True,
            stdout=subprocess.DEVNULL,
        )
    os.close(writer)
    assert os.read(reader, 1) == b"", "the daemon holds what its starter had open"
    os.close(reader)
    assert os.readlink(f"/proc/{pid_of(host)}/cwd") == "/"
    assert os.getsid(pid_of(host)) == pid_of(host)


def test_no_start_on_demand_for_a_foreign_host(host: Host) -> None:
    host.environment["FAIRLEAD_HOST"] = "unix:///nowhere/sock"
    for command, code in ((["ps"], 1), (["network", "ls"], 1), (["run", "box"], 125)):
        done = host.fairlead(*command, check=False)
        assert done.returncode == code
        assert done.stderr == "fairlead: cannot reach the Fairlead daemon at unix:///nowhere/sock: is it running?\n"
    assert not host.run_dir.exists()


def test_a_daemon_that_cannot_start_says_why(host: Host) -> None:
    host.run_dir.mkdir()
    host.state.write_text("in the way")
    done = host.fairlead("network", "ls", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("fairlead: the daemon could not be started: the directory ")
    assert done.stderr.count("\n") == 1


def test_second_daemon_is_refused(host: Host) -> None:
    process = daemon(host)
    second = host.fairlead("daemon", check=False)
    assert second.returncode == 1
    assert f"another Fairlead daemon (pid {inner(process, host)}) already runs on {host.run_dir}" in second.stderr
    assert host.fairlead("network", "ls", "-q").stdout
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(10) == 0
    assert not (host.run_dir / "fairlead.sock").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_is_graceful(host: Host, number: signal.Signals) -> None:
    process = daemon(host)
    host.fairlead("netns", "add", "ns0")
    os.kill(inner(process, host), number)
    assert process.wait(10) == 0
    assert "ns0" in host.sh("ip netns")
    assert host.fairlead("netns", "ls", "-q").stdout == "ns0\n"


def test_killed_daemon_is_started_again_and_knows_everything(host: Host) -> None:
    process = daemon(host)
    host.fairlead("netns", "add", "ns0")
    os.kill(inner(process, host), signal.SIGKILL)
    process.wait(10)
    assert (host.run_dir / "fairlead.sock").exists()
    assert host.fairlead("netns", "ls", "-q").stdout == "ns0\n"


def test_socket_is_roots_alone(host: Host) -> None:
    host.fairlead("network", "ls")
    status = (host.run_dir / "fairlead.sock").stat()
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o660, 0, 0)


ACTIVATE = """
import os, socket, sys
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
listening.listen()
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_socket_activation_and_notification(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "activated.sock"
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(tmp_path / "notify"))
    notify.settimeout(20)
    environment = {**host.environment, "NOTIFY_SOCKET": str(tmp_path / "notify")}
    process = host.popen(sys.executable, "-c", ACTIVATE, str(path), FAIRLEAD, "daemon", env=environment)
    assert notify.recv(100) == b"READY=1"
    assert not (host.run_dir / "fairlead.sock").exists()
    host.environment["FAIRLEAD_HOST"] = f"unix://{path}"
    assert host.fairlead("network", "ls", "-q").stdout
    process.terminate()
    assert process.wait(10) == 0
    assert notify.recv(100) == b"STOPPING=1"
    notify.close()
    assert path.exists(), "the socket is systemd's"


def test_log_is_one_json_object_a_line(host: Host) -> None:
    host.fairlead("network", "ls")
    for line in (host.run_dir / "daemon.log").read_text().splitlines():
        entry = json.loads(line)
        assert {"time", "level", "logger", "message"} <= entry.keys()
    bad = host.fairlead("daemon", "--log-level", "loud", check=False)
    assert bad.returncode == 1
    assert "invalid log level 'loud': only debug, info, warning, error are allowed" in bad.stderr


def test_fault_points_are_counted_and_kill(host: Host, tmp_path: Path) -> None:
    log = tmp_path / "points"
    process = daemon(host, FAIRLEAD_FAULT_LOG=str(log))
    assert not log.exists(), "start-up is not counted"
    host.fairlead("netns", "add", "ns0")
    points = log.read_text().splitlines()
    assert len(points) >= 3
    process.terminate()
    process.wait(10)
    process = daemon(host, FAIRLEAD_FAULT="2")
    done = host.fairlead("netns", "add", "ns1", check=False)
    assert done.returncode == 1
    assert done.stderr == "fairlead: the daemon closed the connection before it answered: see its log\n"
    assert process.wait(10) == -signal.SIGKILL


def test_memory_and_open_files(host: Host) -> None:
    host.fairlead("network", "ls")
    status = Path(f"/proc/{pid_of(host)}/status").read_text()
    kilobytes = int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]
    assert kilobytes < 60 * 1024
    soft, hard = Path(f"/proc/{pid_of(host)}/limits").read_text().split("Max open files")[1].split()[:2]
    assert soft == hard


def test_not_root() -> None:
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", FAIRLEAD, "daemon"],
        capture_output=True,
        text=True,
    )
    if "Permission denied" in done.stderr:
        pytest.skip("this checkout cannot be read by others than root")
    assert done.returncode == 1
    assert done.stderr.startswith("fairlead: the daemon must run as root")


def test_a_second_instance_in_one_network_namespace_is_refused(box: Host) -> None:
    box.fairlead("run", "-d", "--name", "a", "box", "sleep", "100")
    links = box.sh("ip -br link | awk '{ print $1, $3 }'")
    other = f"FAIRLEAD_HOST= FAIRLEAD_STATE={box.directory}/state2 FAIRLEAD_RUN={box.directory}/run2"
    refused = box.run("sh", "-c", f"{other} {FAIRLEAD} ps", check=False)
    assert refused.returncode == 1
    assert refused.stderr == (
        f"fairlead: the daemon could not be started: another Fairlead daemon (pid {pid_of(box)}) owns this network "
        "namespace: an instance with FAIRLEAD_STATE and FAIRLEAD_RUN of its own needs a namespace of its own, too\n"
    )
    assert box.sh("ip -br link | awk '{ print $1, $3 }'") == links
    assert not (box.directory / "state2/fairlead.db").exists()
    own = f"ip link set lo up; {other} {FAIRLEAD} network ls; kill $(cat {box.directory}/run2/daemon.pid)"
    assert "bridge" in box.run("unshare", "--net", "sh", "-c", own).stdout


@pytest.mark.parametrize("variable", ["FAIRLEAD_STATE", "FAIRLEAD_RUN"])
def test_relative_directories_are_refused(host: Host, variable: str) -> None:
    done = host.run("sh", "-c", f"cd {host.directory}; FAIRLEAD_HOST= {variable}=here {FAIRLEAD} ps", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("fairlead: ")
    assert f"{variable} is 'here': an absolute path is needed" in done.stderr
    assert not (host.directory / "here").exists()


def test_reset_takes_everything_away(box: Host) -> None:
    before = box.sh("nft list ruleset")
    assert "fairlead" in before
    box.fairlead("run", "-d", "--name", "a", "box", "sleep", "100")
    box.fairlead("netns", "add", "ns0")
    box.fairlead("network", "create", "n")
    pid = pid_of(box)
    asked = box.fairlead("system", "reset", check=False)
    assert asked.returncode == 1
    assert "give --force" in asked.stderr
    said = box.fairlead("system", "reset", "--force").stdout
    assert said == "Removed 1 containers, 0 links, 1 namespaces, 1 networks; the daemon stopped.\n"
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not (box.run_dir / "fairlead.sock").exists()
    assert box.sh("nft list ruleset") == ""
    assert [line.split()[0].split("@")[0] for line in box.sh("ip -br link").splitlines()] == ["lo", "eth0"]
    assert "ns0" not in box.sh("ip netns")
    assert str(box.directory) not in box.sh("cat /proc/mounts")


def test_reset_keeps_images_and_volumes_but_with_all(box: Host) -> None:
    box.fairlead("volume", "create", "kept")
    box.fairlead("run", "-v", "kept:/data", "box", "sh", "-c", ": > /data/here")
    box.fairlead("system", "reset", "--force")
    assert box.fairlead("image", "ls", "-q").stdout != ""
    assert (box.state / "volumes/kept/_data/here").exists()
    before = box.sh(f"find {box.state} {box.run_dir} | sort")
    lines = box.fairlead("system", "reset", "--all", "--explain").stdout.splitlines()
    assert f"rm -rf {box.state}/images {box.state}/volumes" in lines
    assert box.sh(f"find {box.state} {box.run_dir} | sort") == before
    asked = box.fairlead("system", "reset", "-a", check=False)
    assert "all containers, namespaces, links and networks, images and volumes" in asked.stderr
    said = box.fairlead("system", "reset", "-a", "-f").stdout
    assert said == "Removed 0 containers, 0 links, 0 namespaces, 0 networks, 1 images, 1 volumes; the daemon stopped.\n"
    left = box.sh(f"find {box.state} -type f").split()
    assert {Path(name).name.partition("-")[0] for name in left} <= {
        "fairlead.db",
        "fairlead.reserve",
        "index.json",
        "oci",
    }, left
    assert box.fairlead("volume", "ls", "-q").stdout == box.fairlead("image", "ls", "-q").stdout == ""


# Containers


@pytest.mark.parametrize(
    ("arguments", "code", "out", "err"),
    [
        (["box", "true"], 0, "", ""),
        (["box", "sh", "-c", "echo out; echo err >&2; exit 5"], 5, "out\n", "err\n"),
        (["-i", "box", "cat"], 0, "typed\n", ""),
        (["box", "no-such-program"], 127, "", "executable file not found"),
        (["box", "/etc/passwd"], 126, "", "permission denied"),
        (["--network", "none-such", "box", "true"], 125, "", "network none-such not found"),
        (["--pull", "never", "absent", "true"], 125, "", "No such image: absent:latest"),
    ],
)
def test_run_ends_as_docker_run_does(box: Host, arguments: list[str], code: int, out: str, err: str) -> None:
    done = box.fairlead("run", "--rm", *arguments, check=False, input="typed\n")
    assert (done.returncode, done.stdout) == (code, out)
    assert re.search(err, done.stderr)
    assert box.fairlead("ps", "-aq").stdout == ""


def test_run_carries_much_input(box: Host) -> None:
    done = box.fairlead("run", "--rm", "-i", "box", "sh", "-c", "cat | wc -c", input="x" * 3_000_000)
    assert done.stdout.strip() == "3000000"


def test_run_detached_then_everything(box: Host) -> None:
    id_ = box.fairlead("run", "-d", "--name", "a", "-p", "8081:80", "-l", "k=v", "box", "sleep", "100").stdout.strip()
    assert re.fullmatch("[0-9a-f]{64}", id_)
    assert box.fairlead("ps", "-q").stdout == id_[:12] + "\n"
    row = box.fairlead("ps").stdout.splitlines()[1]
    assert "0.0.0.0:8081->80/tcp, [::]:8081->80/tcp" in row
    assert box.fairlead("ps", "--format", "{{.Names}} {{.State}}").stdout == "a running\n"
    assert json.loads(box.fairlead("ps", "--format", "json").stdout)[0]["Id"] == id_
    assert box.fairlead("port", "a", "80").stdout.splitlines() == ["0.0.0.0:8081", "[::]:8081"]
    assert box.fairlead("inspect", "-f", "{{.Name}} {{.Config.Labels.k}}", "a").stdout == "/a v\n"
    assert box.fairlead("exec", "a", "sh", "-c", "exit 3", check=False).returncode == 3
    assert box.fairlead("exec", "a", "no-such", check=False).returncode == 126
    assert box.fairlead("exec", "-i", "a", "cat", input="x").stdout == "x"
    assert "172.17.0.2/16" in box.fairlead("netns", "exec", "a", "ip", "addr").stdout
    kept = box.fairlead("rm", "a", check=False)
    assert kept.returncode == 1
    assert box.fairlead("stop", "-t", "0", "a").stdout == "a\n"
    assert box.fairlead("wait", "a").stdout == "137\n"
    assert box.fairlead("start", "a").stdout == "a\n"
    assert box.fairlead("rm", "-f", "a", "absent").stdout == "a\n"


def test_explain_of_run_changes_nothing(box: Host) -> None:
    lines = box.fairlead("run", "--explain", "-p", "80:80", "box", "true").stdout
    assert "nft add element inet fairlead" in lines
    assert "crun" in lines
    assert box.fairlead("ps", "-aq").stdout == ""


def test_signals_reach_the_container(box: Host) -> None:
    script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    process = box.popen(FAIRLEAD, "run", "--rm", "box", "sh", "-c", script, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.read() == "caught\n"
    assert process.wait(10) == 9


def test_cidfile_is_not_overwritten(box: Host, tmp_path: Path) -> None:
    file = tmp_path / "cid"
    id_ = box.fairlead("create", "--cidfile", str(file), "box").stdout.strip()
    assert file.read_text() == id_
    again = box.fairlead("run", "--cidfile", str(file), "box", check=False)
    assert again.returncode == 125
    assert "exists" in again.stderr


class Terminal:
    """A command on a pseudo terminal."""

    def __init__(self, host: Host, *arguments: str) -> None:
        self.primary, secondary = pty.openpty()
        import fcntl
        import struct
        import termios

        fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
        self.before = termios.tcgetattr(secondary)
        self.secondary = secondary
        self.process = subprocess.Popen(
            host.enter(FAIRLEAD, *arguments),
            env=host.environment,
            stdin=secondary,
            stdout=secondary,
            stderr=secondary,
            start_new_session=True,
        )
        self.seen = ""

    def expect(self, text: str, seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self.primary], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not come: {self.seen!r}"
            self.seen += os.read(self.primary, 65536).decode()

    def type(self, text: str) -> None:
        os.write(self.primary, text.encode())

    def resize(self, lines: int, columns: int) -> None:
        import fcntl
        import struct
        import termios

        fcntl.ioctl(self.primary, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def ends(self) -> int:
        import termios

        code = self.process.wait(10)
        assert termios.tcgetattr(self.secondary) == self.before, "the terminal was not restored"
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.primary)
        os.close(self.secondary)


@contextlib.contextmanager
def terminal(host: Host, *arguments: str) -> Iterator[Terminal]:
    one = Terminal(host, *arguments)
    try:
        yield one
    finally:
        one.close()


def test_terminal_size_and_exit_code(box: Host) -> None:
    with terminal(box, "run", "--rm", "-it", "box", "sh") as one:
        one.expect("#")
        one.type("stty size; tty\r")
        one.expect("33 99")
        one.expect("/dev/pts/0")
        one.resize(40, 120)
        time.sleep(0.3)
        one.type("stty size\r")
        one.expect("40 120")
        one.type("exit 4\r")
        assert one.ends() == 4


def test_detach_and_attach(box: Host) -> None:
    with terminal(box, "run", "-it", "--name", "a", "box", "sh") as one:
        one.expect("#")
        one.type("\x10\x11")
        assert one.ends() == 0
    assert box.fairlead("inspect", "-f", "{{.State.Running}}", "a").stdout == "true\n"
    with terminal(box, "attach", "a") as one:
        one.type("echo a$((1+1))b\r")
        one.expect("a2b")
        one.type("exit 6\r")
        assert one.ends() == 6


def test_exec_on_a_terminal(box: Host) -> None:
    box.fairlead("run", "-d", "--name", "a", "box", "sleep", "100")
    with terminal(box, "exec", "-it", "a", "sh") as one:
        one.expect("#")
        one.type("stty size\r")
        one.expect("33 99")
        one.type("exit 3\r")
        assert one.ends() == 3


def test_terminal_is_restored_when_we_are_ended(box: Host) -> None:
    with terminal(box, "run", "-it", "--name", "a", "box", "sh") as one:
        one.expect("#")
        one.process.terminate()
        assert one.ends() == 128 + signal.SIGTERM


def test_terminal_is_asked_for(box: Host) -> None:
    done = box.fairlead("run", "-it", "box", "sh", check=False)
    assert done.returncode == 125
    assert done.stderr == "fairlead: the input device is not a TTY\n"
    assert box.fairlead("ps", "-aq").stdout == ""


def test_logs(box: Host) -> None:
    box.fairlead("run", "--name", "a", "box", "sh", "-c", "echo one; echo two; echo err >&2")
    done = box.fairlead("logs", "a")
    assert (done.stdout, done.stderr) == ("one\ntwo\n", "err\n")
    assert box.fairlead("logs", "--tail", "1", "a").stderr == "err\n"
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z one\n", box.fairlead("logs", "-t", "a").stdout)
    box.fairlead("run", "-d", "--name", "b", "box", "sh", "-c", "echo x; sleep 0.3; echo y")
    assert box.fairlead("logs", "-f", "b").stdout == "x\ny\n"


def test_a_stop_does_not_wait_for_streams_and_containers_go_on(box: Host) -> None:
    box.fairlead("run", "-d", "--name", "a", "box", "sleep", "100")
    follower = box.popen(FAIRLEAD, "logs", "-f", "a", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    waiter = box.popen(FAIRLEAD, "wait", "a", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    attached = box.popen(FAIRLEAD, "attach", "--no-stdin", "a", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(0.5)
    pid = pid_of(box)
    started = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    while Path(f"/proc/{pid}").exists() and time.monotonic() < started + 10:
        time.sleep(0.02)
    assert time.monotonic() - started < 5
    for process in (follower, waiter, attached):
        process.communicate(timeout=10)
    assert box.fairlead("inspect", "-f", "{{.State.Running}}", "a").stdout == "true\n"
