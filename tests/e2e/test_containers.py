"""Containers by the real docker CLI and docker-py, on the real kernel."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from pathlib import Path

import docker
import pytest
from machine import Machine, eventually, is_process


def test_run_gives_output_and_exit_code(machine: Machine) -> None:
    id_file = machine.host.directory / "id"
    script = "echo out; echo err >&2; exit 3"
    done = machine.docker("run", "--rm", "--cidfile", str(id_file), "box", "sh", "-c", script, check=False)
    machine.seen.add(id_file.read_text())
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 3)
    assert machine.out("ps", "-aq") == ""
    assert machine.leftovers() == ""


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("nope", 127, "executable file not found in $PATH"),
        ("/no/such", 127, "no such file or directory"),
        ("/etc/passwd", 126, "permission denied"),
    ],
)
def test_what_cannot_run(machine: Machine, command: str, code: int, words: str) -> None:
    done = machine.docker("run", "--name", "x", "box", command, check=False)
    assert done.returncode == code
    assert words in done.stderr
    state = machine.inspect("x")["State"]
    assert (state["Status"], state["ExitCode"]) == ("created", code)
    assert words in state["Error"]
    assert machine.docker("run", "--rm", "box", command, check=False).returncode == code
    machine.docker("rm", "x")
    assert machine.leftovers() == ""


def test_errors_are_sentences(machine: Machine) -> None:
    done = machine.docker("create", "--pull=never", "nothere", check=False)
    assert "No such image: nothere:latest" in done.stderr
    machine.docker("create", "--name", "taken", "box")
    done = machine.docker("create", "--name", "taken", "box", check=False)
    assert 'The container name "/taken" is already in use by container' in done.stderr
    for verb in ("start", "stop", "kill", "rm", "inspect", "logs", "wait"):
        done = machine.docker(verb, "absent", check=False)
        assert done.returncode != 0
        assert "No such" in done.stderr
    assert "is not running" in machine.docker("kill", "taken", check=False).stderr
    assert "is not running" in machine.docker("exec", "taken", "true", check=False).stderr


def test_input_reaches_the_container_and_ends(machine: Machine) -> None:
    text = "".join(f"line {n}\n" for n in range(20000))
    assert machine.docker("run", "--rm", "-i", "box", "cat", input=text).stdout == text
    assert machine.docker("run", "--rm", "-i", "box", "wc", "-c", input=text).stdout.strip() == str(len(text))


def test_a_terminal(machine: Machine) -> None:
    # script(1) gives the CLI a terminal to pass on.
    done = machine.host.sh(
        "script -qec 'docker run --rm -it box sh -c \"test -t 0 && test -t 1 && tty; exit 7\"' /dev/null; echo code $?"
    )
    assert "/dev/pts/0" in done
    assert "code 7" in done


def test_network_files_and_published_port(machine: Machine) -> None:
    machine.docker(
        "run", "-d", "--name", "web", "-p", "8081:80", "--add-host", "db:10.9.9.9", "box",
        "sh", "-c", "mkdir /w; echo hello > /w/index.html; exec httpd -f -p 80 -h /w",
    )  # fmt: skip
    eventually(lambda: machine.host.run("curl", "-s", "localhost:8081", check=False).stdout == "hello\n")
    document = machine.inspect("web")
    assert document["NetworkSettings"]["IPAddress"] == "172.17.0.2"
    assert document["NetworkSettings"]["Ports"]["80/tcp"][0] == {"HostIp": "0.0.0.0", "HostPort": "8081"}
    assert "0.0.0.0:8081->80/tcp" in machine.out("ps")
    hosts = machine.out("exec", "web", "cat", "/etc/hosts")
    assert "10.9.9.9\tdb" in hosts
    assert f"172.17.0.2\t{document['Config']['Hostname']}" in hosts
    assert machine.out("exec", "web", "hostname") == document["Id"][:12]
    machine.docker("exec", "web", "ping", "-c1", "-W2", "8.8.8.8")
    machine.docker("stop", "-t", "0", "web")
    assert machine.inspect("web")["NetworkSettings"]["IPAddress"] == ""
    assert machine.host.run("curl", "-s", "localhost:8081", check=False).returncode != 0
    machine.docker("start", "web")
    eventually(lambda: machine.host.run("curl", "-s", "localhost:8081", check=False).stdout == "hello\n")


def test_the_host_network_and_none(machine: Machine) -> None:
    assert "eth0" in machine.out("run", "--rm", "--network", "host", "box", "ip", "-o", "link")
    assert machine.out("run", "--rm", "--network", "none", "box", "ls", "/sys/class/net") == "lo"


def test_options_of_run(machine: Machine) -> None:
    (machine.host.directory / "data").mkdir()
    (machine.host.directory / "data/file").write_text("from outside")
    run = ("run", "--rm")
    assert machine.out(*run, "-e", "A=b", "box", "sh", "-c", "echo $A $HOSTNAME", "-h").startswith("b ")
    assert machine.out(*run, "-w", "/made/here", "box", "pwd") == "/made/here"
    assert machine.out(*run, "-u", "u1", "box", "id") == "uid=1000(u1) gid=1000(u1) groups=1000(u1),2000(extra)"
    assert machine.out(*run, "-h", "name", "box", "hostname") == "name"
    assert machine.out(*run, "--entrypoint", "echo", "box", "x") == "x"
    volume = f"{machine.host.directory}/data:/data:ro"
    assert machine.out(*run, "-v", volume, "box", "cat", "/data/file") == "from outside"
    assert machine.docker(*run, "-v", volume, "box", "touch", "/data/new", check=False).returncode == 1
    assert machine.docker(*run, "--read-only", "box", "touch", "/x", check=False).returncode == 1
    assert machine.docker(*run, "--cap-drop", "ALL", "box", "chown", "1", "/tmp", check=False).returncode == 1
    assert machine.out(*run, "--tmpfs", "/t", "box", "sh", "-c", "grep ' /t ' /proc/mounts").startswith("tmpfs")
    assert machine.out(*run, "--memory", "32m", "box", "sh", "-c", "cat /sys/fs/cgroup/memory*/memory.limit_in_bytes"
                       " || cat /sys/fs/cgroup/memory.max") == str(32 << 20)  # fmt: skip


def test_a_container_cannot_open_the_hosts_devices(machine: Machine) -> None:
    made = machine.docker("run", "--rm", "box", "sh", "-c", "mknod /disk b 254 0; head -c1 /disk", check=False)
    assert made.returncode != 0
    assert "not permitted" in made.stderr


def test_files_survive_a_stop_but_not_a_removal(machine: Machine) -> None:
    machine.docker("run", "--name", "keep", "box", "sh", "-c", "cat /kept; echo again >> /kept")
    assert machine.out("start", "-a", "keep") == "again"
    machine.docker("rm", "keep")
    machine.docker("run", "--name", "keep", "box", "sh", "-c", "! test -e /kept")


def test_stop_kill_wait_restart(machine: Machine) -> None:
    trap = "trap 'echo bye; exit 4' TERM; while :; do sleep 0.1; done"
    machine.docker("run", "-d", "--name", "t", "box", "sh", "-c", trap)
    waiting = machine.host.popen("docker", "wait", "t", stdout=subprocess.PIPE)
    started = time.monotonic()
    machine.docker("stop", "t")
    assert time.monotonic() - started < 5
    assert waiting.communicate(timeout=10)[0].strip() == "4"
    assert machine.out("logs", "t") == "bye"
    machine.docker("start", "t")
    pid = machine.inspect("t")["State"]["Pid"]
    machine.docker("restart", "-t", "1", "t")
    assert machine.inspect("t")["State"]["Pid"] != pid
    machine.docker("kill", "t")
    assert machine.inspect("t")["State"]["ExitCode"] == 137
    assert machine.docker("rm", "t").returncode == 0


def test_removal_of_a_running_container_needs_force(machine: Machine) -> None:
    machine.docker("run", "-d", "--name", "r", "box", "sleep", "1000")
    done = machine.docker("rm", "r", check=False)
    assert "stop the container before removing or force remove" in done.stderr
    machine.docker("rm", "-f", "r")
    assert machine.leftovers() == ""


def test_pause(machine: Machine) -> None:
    machine.docker("run", "-d", "--name", "p", "box", "sh", "-c", "while :; do echo x; sleep 0.01; done")
    machine.docker("pause", "p")
    assert "(Paused)" in machine.out("ps")
    time.sleep(0.1)
    before = machine.out("logs", "p")
    time.sleep(0.2)
    assert machine.out("logs", "p") == before
    machine.docker("unpause", "p")
    eventually(lambda: machine.out("logs", "p") != before)
    machine.docker("pause", "p")
    machine.docker("rm", "-f", "p")


def test_exec(machine: Machine) -> None:
    machine.docker("run", "-d", "--name", "e", "-e", "A=1", "box", "sleep", "1000")
    done = machine.docker("exec", "-e", "B=2", "e", "sh", "-c", "echo $A$B; echo err >&2; exit 9", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("12\n", "err\n", 9)
    text = "word " * 100_000
    assert machine.docker("exec", "-i", "e", "cat", input=text).stdout == text
    assert machine.docker("exec", "e", "nope", check=False).returncode == 126
    assert machine.docker("exec", "e", "/etc/passwd", check=False).returncode == 126
    assert (
        machine.out("exec", "-u", "u1", "-w", "/tmp", "e", "sh", "-c", "id -u; pwd; echo $HOME") == "1000\n/tmp\n/tmp"
    )
    machine.docker("exec", "-d", "e", "touch", "/touched")
    eventually(lambda: machine.docker("exec", "e", "test", "-e", "/touched", check=False).returncode == 0)
    terminal = machine.host.sh("script -qec 'docker exec -it e sh -c \"tty; exit 5\"' /dev/null; echo code $?")
    assert "/dev/pts/" in terminal
    assert "code 5" in terminal
    going = machine.host.popen("docker", "exec", "e", "sleep", "1000")
    time.sleep(0.3)
    machine.docker("kill", "e")
    assert going.wait(10) == 137


def test_logs(machine: Machine) -> None:
    machine.docker("run", "--name", "l", "box", "sh", "-c", "seq 1 30000; printf end")
    everything = "".join(f"{n}\n" for n in range(1, 30001)) + "end"
    assert machine.docker("logs", "l").stdout == everything
    assert machine.docker("logs", "--tail", "3", "l").stdout == "29999\n30000\nend"
    stamped = machine.out("logs", "-t", "--tail", "1", "l")
    assert stamped.endswith("Z end")
    long = machine.docker("run", "--name", "long", "box", "sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; echo")
    assert long.stdout == "x" * 100000 + "\n"
    assert machine.docker("logs", "long").stdout == "x" * 100000 + "\n"


def test_logs_follow_until_the_end(machine: Machine) -> None:
    machine.docker(
        "run", "-d", "--name", "f", "box", "sh", "-c", "echo one; sleep 0.5; echo two; sleep 0.2; echo three"
    )
    assert machine.docker("logs", "-f", "f").stdout == "one\ntwo\nthree\n"


def test_attach_several_at_once(machine: Machine) -> None:
    machine.docker("run", "-di", "--name", "c", "box", "sh", "-c", "while read x; do echo got $x; done")
    watchers = [
        machine.host.popen("docker", "attach", "--no-stdin", "c", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    time.sleep(0.5)
    typing = machine.host.popen("docker", "attach", "c", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert typing.stdin is not None
    assert typing.stdout is not None
    typing.stdin.write("a\n")
    typing.stdin.flush()
    assert typing.stdout.readline() == "got a\n"
    typing.kill()
    typing.wait()
    # One who leaves neither ends the container nor the others.
    assert machine.inspect("c")["State"]["Running"]
    machine.docker("kill", "c")
    for watcher in watchers:
        assert watcher.communicate(timeout=10)[0] == "got a\n"


def test_auto_restart_backs_off_and_can_be_stopped(machine: Machine) -> None:
    machine.docker("run", "-d", "--name", "re", "--restart", "on-failure:3", "box", "sh", "-c", "echo x; exit 1")
    eventually(lambda: machine.inspect("re")["State"]["Status"] == "exited")
    assert machine.inspect("re")["RestartCount"] == 3
    assert machine.out("logs", "re") == "x\nx\nx\nx"
    machine.docker("run", "-d", "--name", "al", "--restart", "always", "box", "false")
    eventually(lambda: machine.inspect("al")["RestartCount"] >= 2)
    machine.docker("stop", "al")
    count = machine.inspect("al")["RestartCount"]
    time.sleep(1)
    assert machine.inspect("al")["RestartCount"] == count
    assert machine.inspect("al")["State"]["Status"] == "exited"


def test_a_stop_ends_restarts_at_whatever_moment_it_comes(machine: Machine) -> None:
    names = [f"al{n}" for n in range(15)]
    for n, name in enumerate(names):
        machine.docker("run", "-d", "--name", name, "--restart", "always", "box", "false")
        # The next start is 100 ms after the end, and takes some 40.
        time.sleep(0.08 + n / 100)
        assert machine.inspect(name)["State"]["Status"] in ("running", "restarting")
        machine.docker("stop", name)
        assert machine.inspect(name)["State"]["Status"] == "exited"
    time.sleep(0.5)
    assert {machine.inspect(name)["State"]["Status"] for name in names} == {"exited"}


def test_rename_prune_top_ps(machine: Machine) -> None:
    machine.docker("run", "-d", "--name", "a", "--label", "k=v", "box", "sleep", "1000")
    machine.docker("rename", "a", "b")
    assert machine.out("ps", "--format", "{{.Names}} {{.Status}}").startswith("b Up ")
    assert "sleep 1000" in machine.out("top", "b")
    machine.docker("create", "--name", "c", "box")
    for filters, expected in (
        (("name=b",), "b"), (("label=k=v",), "b"), (("status=created",), "c"), (("ancestor=box",), "c\nb"),
        (("network=bridge",), "c\nb"), (("name=zzz",), ""),
    ):  # fmt: skip
        words = [word for one in filters for word in ("--filter", one)]
        assert machine.out("ps", "-a", "--format", "{{.Names}}", *words) == expected
    assert machine.inspect("c")["Id"] in machine.out("container", "prune", "-f")
    assert machine.out("ps", "-a", "--format", "{{.Names}}") == "b"


def test_explain_changes_nothing(machine: Machine) -> None:
    body = {"Image": "box", "Cmd": ["true"], "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8081"}]}}}
    lines = machine.api("POST", "/containers/create?explain=1", body)["Lines"]
    text = "\n".join(lines)
    for words in ("netns", "ip link add", "mount -t overlay overlay", "conmon", "crun", "start"):
        assert words in text
    assert machine.out("ps", "-aq") == ""
    assert machine.leftovers() == ""
    machine.docker("create", "--name", "x", "box")
    assert any("mount -t overlay" in line for line in machine.api("POST", "/containers/x/start?explain=1")["Lines"])
    assert machine.inspect("x")["State"]["Status"] == "created"


def test_containers_outlive_the_daemon(machine: Machine) -> None:
    loop = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"
    machine.docker("run", "-d", "--name", "on", "-p", "8082:80", "box", "sh", "-c", loop)
    machine.docker("run", "-d", "--name", "off", "box", "sh", "-c", "sleep 0.3; exit 6")
    machine.docker("run", "-d", "--name", "rm", "--rm", "box", "sleep", "0.3")
    pid = machine.inspect("on")["State"]["Pid"]
    machine.kill()
    time.sleep(0.6)
    machine.start()
    assert machine.inspect("on")["State"]["Pid"] == pid
    numbers = [int(n) for n in machine.out("logs", "on").split()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 10
    state = machine.inspect("off")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 6)
    assert machine.docker("inspect", "rm", check=False).returncode == 1
    assert machine.out("exec", "on", "echo", "hi") == "hi"
    machine.docker("stop", "-t", "0", "on")
    machine.docker("start", "on")


def test_an_exec_goes_on_when_the_daemon_dies(machine: Machine) -> None:
    machine.docker("run", "-d", "--name", "on", "box", "sleep", "1000")
    loop = "i=0; while [ $i -lt 20 ]; do i=$((i+1)); echo $i; echo $i >&2; sleep 0.05; done; echo all >/tmp/done"
    client = machine.host.popen(
        "docker", "exec", "on", "sh", "-c", loop, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert client.stdout
    assert client.stdout.readline() == "1\n"
    machine.kill()
    client.communicate(timeout=10)
    assert client.returncode != 0
    machine.start()
    eventually(lambda: machine.out("exec", "on", "sh", "-c", "cat /tmp/done || true") == "all")
    assert "while" not in machine.out("top", "on")


def test_an_exec_whose_client_leaves_is_not_stopped_by_a_full_pipe(machine: Machine) -> None:
    machine.docker("run", "-d", "--name", "on", "box", "sleep", "1000")
    script = "head -c 1000000 /dev/zero; echo all >/tmp/done"
    client = machine.host.popen("docker", "exec", "on", "sh", "-c", f"sleep 0.5; {script}", stdout=subprocess.DEVNULL)
    eventually(lambda: "head -c" in machine.out("top", "on"))
    client.kill()
    client.wait()
    eventually(lambda: machine.out("exec", "on", "sh", "-c", "cat /tmp/done || true") == "all")


def test_a_monitor_that_was_killed(machine: Machine) -> None:
    machine.docker("run", "-d", "--name", "m", "box", "sleep", "1000")
    pid = machine.inspect("m")["State"]["Pid"]
    monitor = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(monitor, 9)
    eventually(lambda: machine.inspect("m")["State"]["Status"] == "exited")
    assert machine.inspect("m")["State"]["ExitCode"] == 255
    assert "State:\tZ" in is_process(pid) or not is_process(pid)


def test_killed_at_every_boundary_of_a_run(machine: Machine) -> None:
    """Whatever instant the daemon dies at: afterwards the container runs as promised, or nothing of it is left."""
    ports = {"80/tcp": [{"HostPort": "8083"}]}
    body = json.dumps({"Image": "box", "Cmd": ["sleep", "1000"], "HostConfig": {"PortBindings": ports}})
    socket = f"{machine.host.run_dir}/fairlead.sock"
    words = ["curl", "-s", "--unix-socket", socket, "-X", "POST", "-H", "Content-Type: application/json"]
    machine.stop()
    for boundary in range(1, 100):
        machine.start(fault=boundary)
        created = machine.host.run(*words, "-d", body, "http://x/containers/create?name=k", check=False).stdout
        code = machine.host.run(*words, "http://x/containers/k/start", "-w", "%{http_code}", check=False).stdout
        if machine.daemon.poll() is None and code == "204":
            machine.kill()
            machine.start()
            break
        machine.daemon.wait(10)
        machine.start()
        shown = machine.out("ps", "-a", "--format", "{{.Names}} {{.State}}")
        assert shown in ({"k created", "k running"} if created else {"", "k created"})
        if code == "204":
            assert shown == "k running"
        if shown:
            machine.docker("start", "k")
            machine.docker("rm", "-f", "k")
        assert machine.leftovers() == "", f"killed at boundary {boundary}"
        machine.stop()
    else:
        pytest.fail("the daemon died at every boundary")
    assert boundary > 8


def test_killed_at_every_boundary_of_a_removal(machine: Machine) -> None:
    for boundary in range(1, 100):
        machine.docker("run", "-d", "--name", "k", "-p", "8084:80", "box", "sleep", "1000")
        machine.stop()
        machine.start(fault=boundary)
        done = machine.docker("rm", "-f", "k", check=False)
        if done.returncode == 0:
            machine.kill()
            machine.start()
            break
        machine.daemon.wait(10)
        machine.start()
        for name in machine.out("ps", "-a", "--format", "{{.Names}}").split():
            machine.docker("rm", "-f", name)
        assert machine.leftovers() == "", f"killed at boundary {boundary}"
    else:
        pytest.fail("the daemon died at every boundary")
    assert boundary > 4


def test_many_users_at_once(machine: Machine) -> None:
    results: list[int] = []

    def run(number: int) -> None:
        done = machine.docker("run", "--rm", "--name", f"n{number % 4}", "box", "true", check=False)
        results.append(done.returncode)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(results) <= {0, 125}  # 125: the name was in use
    assert results.count(0) >= 4
    assert machine.leftovers() == ""


def test_docker_py(machine: Machine) -> None:
    client = docker.DockerClient(base_url=machine.host.environment["FAIRLEAD_HOST"])
    try:
        one = client.containers.create("box", ["sh", "-c", "echo out; exit 2"], name="py")
        one.start()
        assert one.wait()["StatusCode"] == 2
        assert one.logs() == b"out\n"
        one.remove()
        two = client.containers.create("box", ["sleep", "1000"], name="py", tty=False)
        two.start()
        code, (out, err) = two.exec_run(["sh", "-c", "echo a; echo b >&2; exit 4"], demux=True)
        assert (code, out, err) == (4, b"a\n", b"b\n")
        stream = client.api.exec_start(client.api.exec_create(two.id, ["cat"], stdin=True)["Id"], socket=True)
        stream._sock.sendall(b"ping\n")
        assert stream._sock.recv(100) == b"\x01\0\0\0\0\0\0\x05ping\n"
        stream._sock.close()
        two.remove(force=True)
    finally:
        client.close()
