"""Names on the real kernel, asked by real clients: dig in a sandbox, busybox in a container."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import FAIRLEAD, Host, images

UPSTREAM = str(Path(__file__).parents[1] / "upstream.py")


class Lab(Host):
    """A host with the image alpine, the network ``u``, and in it the namespace ``asker`` that asks."""

    def __init__(self) -> None:
        super().__init__()
        self.resolv_conf = self.directory / "resolv.conf"
        self.resolv_conf.write_text("nameserver 198.51.100.1\n")
        self.sh(f"mount --bind {self.resolv_conf} /etc/resolv.conf")
        self.sh("ip netns exec internet ip route add default via 198.51.100.2")
        self.daemon: subprocess.Popen[str] | None = None
        self.start()
        self.fairlead("image", "load", "-i", str(images() / "alpine.tar"))
        self.fairlead("network", "create", "--subnet", "10.1.0.0/16", "u")
        self.sandbox("asker", "u")

    def start(self) -> None:
        """Start the daemon."""
        self.daemon = self.popen(FAIRLEAD, "daemon", stderr=subprocess.DEVNULL)
        ping = ["curl", "-sf", "--unix-socket", f"{self.run_dir}/fairlead.sock", "x/_ping"]
        eventually(lambda: self.run(*ping, check=False).returncode == 0)

    def docker(self, *words: str) -> str:
        """Docker's own command line."""
        return self.run("docker", "-H", self.environment["FAIRLEAD_HOST"], *words).stdout

    def sandbox(self, name: str, *networks: str) -> None:
        """A namespace in networks."""
        self.fairlead("netns", "add", name)
        for network in networks:
            self.fairlead("network", "connect", network, name)

    def container(self, name: str, *options: str) -> None:
        """A container that sleeps."""
        self.fairlead("run", "-d", "--name", name, *options, "alpine", "sleep", "1000")

    def dig(self, *words: str, sandbox: str = "asker", check: bool = True) -> str:
        """What dig says in a namespace."""
        command = ["ip", "netns", "exec", sandbox, "dig", "@127.0.0.11", "+tries=1", "+time=3", *words]
        return self.run(*command, check=check).stdout

    def addresses(self, *words: str, sandbox: str = "asker") -> list[str]:
        """The answer's data alone, sorted."""
        return sorted(self.dig("+short", *words, sandbox=sandbox).split())

    def status(self, *words: str, sandbox: str = "asker") -> str:
        """``NOERROR 1``: the answer's code and its number of records."""
        text = self.dig(*words, sandbox=sandbox)
        return f"{text.split('status: ')[1].split(',')[0]} {text.split('ANSWER: ')[1].split(',')[0]}"

    def resolver(self) -> int:
        """The resolver's pid, 0 without one."""
        try:
            return int((self.run_dir / "dns.pid").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    @contextlib.contextmanager
    def upstream(self, address: str, mode: str = "answer", *, namespace: str = "internet") -> Iterator[Path]:
        """A server in the internet (or, empty, on the host); what it yields has the requests, a line each."""
        log = self.directory / f"upstream-{address}"
        inside = ["ip", "netns", "exec", namespace] if namespace else []
        with open(log, "w") as file:
            process = self.popen(*inside, sys.executable, UPSTREAM, address, mode, stdout=file)
        try:
            eventually(lambda: "ready" in log.read_text())
            yield log
        finally:
            process.terminate()
            process.wait()


def eventually(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.02)


def asked(log: Path) -> list[str]:
    """The requests that a server has got."""
    return log.read_text().splitlines()[1:]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as one:
        yield one


@pytest.fixture
def web(lab: Lab) -> Iterator[str]:
    """A container ``web`` in the network ``u``; its id."""
    lab.container("web", "--network", "u", "--ip", "10.1.7.7", "--network-alias", "www", "--hostname", "webhost")
    yield lab.run(FAIRLEAD, "inspect", "--format", "{{.Id}}", "web").stdout.strip()
    lab.fairlead("rm", "-f", "web")


@pytest.fixture
def nobody(lab: Lab) -> Iterator[None]:
    """The host's server knows no name."""
    with lab.upstream("198.51.100.1", "nxdomain"):
        yield


def test_what_a_container_is_called(lab: Lab, web: str) -> None:
    for name in ("web", "www", web[:12], "webhost", "web.u", "www.u", "WeB", "web.U."):
        assert lab.addresses(name) == ["10.1.7.7"], name
        assert lab.addresses("+tcp", name) == ["10.1.7.7"], name
    assert lab.dig("+short", "-x", "10.1.7.7") == "web.u.\n"
    assert lab.addresses("asker") != []


def test_an_answer_is_as_dockers(lab: Lab, web: str) -> None:
    text = lab.dig("WEB", "A")
    assert "flags: qr rd ra;" in text
    assert [line.split() for line in text.splitlines() if line.startswith("WEB.")] == [
        ["WEB.", "600", "IN", "A", "10.1.7.7"]
    ]
    assert lab.status("web", "AAAA") == "NOERROR 0"
    assert lab.status("web", "MX") == "NOERROR 0"
    assert "EDNS: version: 0" in text
    assert "EDNS" not in lab.dig("+noedns", "web")


def test_a_name_goes_with_its_container(lab: Lab, nobody: None) -> None:
    lab.container("short", "--network", "u")
    assert lab.addresses("short")
    lab.docker("rename", "short", "long")
    assert lab.addresses("long")
    assert lab.status("short") == "NXDOMAIN 0"
    lab.fairlead("rm", "-f", "long")
    assert lab.status("long") == "NXDOMAIN 0"


def test_busybox_in_a_container(lab: Lab, web: str) -> None:
    said = lab.fairlead("run", "--rm", "--network", "u", "alpine", "nslookup", "web", check=False).stdout
    assert "127.0.0.11:53" in said
    assert "Address: 10.1.7.7" in said
    lab.fairlead("run", "--rm", "--network", "u", "alpine", "ping", "-c1", "-W2", "web")


def test_a_program_may_have_port_53_itself(lab: Lab, web: str) -> None:
    script = (
        "import socket, time\n"
        "for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):\n"
        "    for family, address in ((socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::1')):\n"
        "        held = socket.socket(family, kind); held.bind((address, 53)); globals()[address + str(kind)] = held\n"
        "print('held', flush=True); time.sleep(60)\n"
    )
    holder = lab.popen("ip", "netns", "exec", "asker", sys.executable, "-c", script, stdout=subprocess.PIPE)
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    assert lab.addresses("web") == ["10.1.7.7"]
    assert lab.addresses("+tcp", "web") == ["10.1.7.7"]
    holder.kill()
    holder.communicate()


def test_a_name_is_known_in_its_network_alone(lab: Lab, nobody: None, web: str) -> None:
    lab.fairlead("network", "create", "other")
    lab.sandbox("stranger", "other")
    assert lab.status("web", sandbox="stranger") == "NXDOMAIN 0"
    assert lab.status("-x", "10.1.7.7", sandbox="stranger") == "NXDOMAIN 0"
    lab.fairlead("network", "connect", "u", "stranger")
    assert lab.addresses("web", sandbox="stranger") == ["10.1.7.7"]
    assert lab.status("web.other", sandbox="stranger") == "NXDOMAIN 0"
    lab.fairlead("network", "disconnect", "u", "stranger")
    assert lab.status("web", sandbox="stranger") == "NXDOMAIN 0"
    lab.fairlead("netns", "rm", "stranger")
    lab.fairlead("network", "rm", "other")


def test_a_link_is_seen_by_one_alone(lab: Lab, nobody: None, web: str) -> None:
    lab.container("linked")
    lab.docker("network", "connect", "--link", "web:db", "u", "linked")
    ask = ("exec", "linked", "nslookup", "db")
    assert "10.1.7.7" in lab.fairlead(*ask, check=False).stdout
    assert lab.status("db") == "NXDOMAIN 0"
    lab.fairlead("rm", "-f", "linked")


def test_several_in_turn(lab: Lab) -> None:
    for number in range(3):
        lab.container(f"w{number}", "--network", "u", "--ip", f"10.1.9.{number + 1}", "--network-alias", "pool")
    first = Counter(lab.dig("+short", "+nocookie", "pool").split()[0] for _ in range(9))
    assert first == {"10.1.9.1": 3, "10.1.9.2": 3, "10.1.9.3": 3}
    lab.fairlead("rm", "-f", "w0", "w1", "w2")


def test_both_families(lab: Lab) -> None:
    lab.fairlead("network", "create", "--ipv6", "--subnet", "fd00:6::/64", "--subnet", "10.6.0.0/24", "six")
    lab.sandbox("a6", "six")
    lab.container("c6", "--network", "six", "--ip6", "fd00:6::77")
    assert lab.addresses("c6", "AAAA", sandbox="a6") == ["fd00:6::77"]
    assert len(lab.addresses("c6", "A", sandbox="a6")) == 1
    assert lab.dig("+short", "-x", "fd00:6::77", sandbox="a6") == "c6.six.\n"
    lab.fairlead("rm", "-f", "c6")
    lab.fairlead("netns", "rm", "a6")
    lab.fairlead("network", "rm", "six")


def test_too_many_for_udp(lab: Lab, nobody: None) -> None:
    """Forty addresses do not fit into 512 bytes: dig is told so, and asks again by TCP."""
    for number in range(40):
        name = f"many{number}"
        lab.fairlead("netns", "add", name)
        lab.fairlead("network", "connect", "--alias", "many", "u", name)
    cut = lab.dig("+noedns", "+ignore", "many")
    assert "flags: qr tc rd ra;" in cut
    assert 0 < cut.count("\tA\t10.1.") < 40
    assert len(lab.addresses("+noedns", "many")) == 40
    assert len(lab.addresses("+bufsize=4096", "+ignore", "many")) == 40
    lab.fairlead("netns", "rm", *(f"many{number}" for number in range(40)))
    assert lab.status("many") == "NXDOMAIN 0"


# Passing on


def test_passed_on_and_kept(lab: Lab) -> None:
    with lab.upstream("198.51.100.1") as log:
        assert lab.addresses("one.test") == ["198.51.100.1"]
        assert lab.addresses("ONE.test") == ["198.51.100.1"]
        assert lab.status("nx.test") == "NXDOMAIN 0"
        assert lab.status("nx.test") == "NXDOMAIN 0"
        assert len(asked(log)) == 2
        time.sleep(1.1)
        life = [line.split()[1] for line in lab.dig("oNe.test").splitlines() if line.startswith("oNe.test.")]
        assert life in (["299"], ["298"])
        assert lab.addresses("short.test") == ["198.51.100.1"]
        time.sleep(1.1)
        assert lab.addresses("short.test") == ["198.51.100.1"]
        assert len(asked(log)) == 4
        # From the sandbox, that is, through its bridge and the host's masquerade.
        assert {line.split()[1] for line in asked(log)} == {"198.51.100.2"}


def test_a_long_answer_comes_by_tcp(lab: Lab) -> None:
    with lab.upstream("198.51.100.1") as log:
        assert "flags: qr tc" in lab.dig("+ignore", "big.test")
        assert len(lab.addresses("big.test")) == 60
        assert [line.split()[0] for line in asked(log)][-1] == "tcp"
        # What is kept from TCP is too long for a client without EDNS.
        assert "flags: qr tc" in lab.dig("+noedns", "+ignore", "big.test")


@pytest.mark.parametrize("mode", ["servfail", "refused", "silent", "absent"])
def test_the_next_server_is_asked(lab: Lab, mode: str) -> None:
    lab.resolv_conf.write_text("nameserver 198.51.100.1\nnameserver 8.8.8.8\n")
    with contextlib.ExitStack() as stack:
        if mode != "absent":
            stack.enter_context(lab.upstream("198.51.100.1", mode))
        stack.enter_context(lab.upstream("8.8.8.8"))
        began = time.monotonic()
        assert lab.addresses(f"{mode}.next.test") == ["8.8.8.8"]
        took = time.monotonic() - began
        assert took > 1.9 if mode == "silent" else took < 1.9
        # One that was silent is asked last for a while.
        began = time.monotonic()
        assert lab.addresses("+tcp", f"{mode}.tcp.test") == ["8.8.8.8"]
        assert time.monotonic() - began < 1.9
    lab.resolv_conf.write_text("nameserver 198.51.100.1\n")


def test_the_last_refusal_is_passed_on(lab: Lab) -> None:
    with lab.upstream("198.51.100.1", "refused"):
        assert lab.status("refused.test") == "REFUSED 0"


def test_the_hosts_servers_change(lab: Lab) -> None:
    with lab.upstream("198.51.100.1"), lab.upstream("8.8.8.8"):
        for name in ("before.test", "kept.test"):
            assert lab.addresses(name) == ["198.51.100.1"]
        lab.resolv_conf.write_text("nameserver 8.8.8.8\n")
        for name in ("after.test", "kept.test"):
            assert lab.addresses(name) == ["8.8.8.8"]
        lab.resolv_conf.write_text("nameserver 198.51.100.1\n")
        assert lab.addresses("again.test") == ["198.51.100.1"]


def test_a_server_on_the_hosts_loopback(lab: Lab) -> None:
    lab.resolv_conf.write_text("nameserver 127.0.0.53\n")
    with lab.upstream("127.0.0.53", namespace="") as log:
        assert lab.addresses("stub.test") == ["127.0.0.53"]
        assert asked(log) == ["udp 127.0.0.1 stub.test A"]
    lab.resolv_conf.write_text("nameserver 198.51.100.1\n")


def test_a_server_in_a_family_that_the_sandbox_has_not(lab: Lab) -> None:
    lab.sh("ip addr add 2001:db8:9::2/64 dev eth0 nodad; ip -n internet addr add 2001:db8:9::1/64 dev eth0 nodad")
    lab.resolv_conf.write_text("nameserver 2001:db8:9::1\n")
    with lab.upstream("2001:db8:9::1") as log:
        assert lab.status("six.test") == "NOERROR 0"  # an A record of an IPv6 address there is none
        assert asked(log) == ["udp 2001:db8:9::2 six.test A"]
    lab.resolv_conf.write_text("nameserver 198.51.100.1\n")


def test_a_users_own_server(lab: Lab) -> None:
    """Asked from inside the container, so that a neighbour in its network may be one."""
    lab.fairlead("netns", "add", "server")
    lab.fairlead("network", "connect", "--ip", "10.1.8.8", "u", "server")
    options = ("--dns", "10.1.8.8", "--dns-search", "a.test", "--dns-option", "ndots:2")
    with lab.upstream("198.51.100.1") as host, lab.upstream("10.1.8.8", namespace="server") as own:
        lab.container("custom", "--network", "u", "--ip", "10.1.8.9", *options)
        assert lab.fairlead("exec", "custom", "cat", "/etc/resolv.conf").stdout == (
            "nameserver 127.0.0.11\nsearch a.test\noptions ndots:2\n"
        )
        assert "10.1.8.8" in lab.fairlead("exec", "custom", "nslookup", "-type=a", "own.test.", check=False).stdout
        assert not asked(host)
        assert "udp 10.1.8.9 own.test A" in asked(own)
    lab.fairlead("rm", "-f", "custom")
    lab.fairlead("netns", "rm", "server")


def test_nothing_leaves_an_internal_network(lab: Lab) -> None:
    lab.fairlead("network", "create", "--internal", "inner")
    lab.sandbox("inside", "inner")
    with lab.upstream("198.51.100.1") as log:
        assert lab.status("secret.test", sandbox="inside") == "SERVFAIL 0"
        assert lab.status("+tcp", "secret.test", sandbox="inside") == "SERVFAIL 0"
        assert lab.addresses("inside", sandbox="inside")
        assert not asked(log)
        lab.fairlead("network", "connect", "bridge", "inside")
        assert lab.addresses("public.test", sandbox="inside") == ["198.51.100.1"]
    lab.fairlead("netns", "rm", "inside")
    lab.fairlead("network", "rm", "inner")


def test_no_server_at_all(lab: Lab) -> None:
    assert lab.status("nobody.test") == "SERVFAIL 0"


# Files


def test_files_of_a_container(lab: Lab) -> None:
    lab.container("filed", "--network", "u", "--ip", "10.1.5.5", "--hostname", "box", "--add-host", "extra:192.0.2.9")
    read = ("exec", "filed", "cat")
    assert lab.fairlead(*read, "/etc/resolv.conf").stdout == ("nameserver 127.0.0.11\noptions ndots:0\n")
    hosts = lab.fairlead(*read, "/etc/hosts").stdout
    assert "10.1.5.5\tbox\n" in hosts
    assert "192.0.2.9\textra\n" in hosts
    # What a user adds stays, whatever it is: here what is no UTF-8, and characters at which Python also ends a line.
    added = r"# f\374r \014 \342\200\250\n"
    lab.fairlead("exec", "filed", "sh", "-c", f"printf '{added}' >>/etc/hosts; cp /etc/hosts /before")
    lab.fairlead("network", "create", "--subnet", "10.5.0.0/24", "second")
    lab.fairlead("network", "connect", "--ip", "10.5.0.5", "second", "filed")
    wanted = r"{ cat /before; printf '10.5.0.5\tbox\n'; } | cmp - /etc/hosts"
    lab.fairlead("exec", "filed", "sh", "-c", wanted)
    lab.fairlead("network", "disconnect", "second", "filed")
    lab.fairlead("exec", "filed", "cmp", "/before", "/etc/hosts")
    lab.fairlead("rm", "-f", "filed")
    lab.fairlead("network", "rm", "second")


def test_the_default_bridge_has_no_names(lab: Lab, web: str) -> None:
    lab.container("plain")
    read = ("exec", "plain", "cat", "/etc/resolv.conf")
    assert lab.fairlead(*read).stdout == "nameserver 198.51.100.1\n"
    lab.fairlead("network", "connect", "u", "plain")
    assert lab.fairlead(*read).stdout == "nameserver 127.0.0.11\noptions ndots:0\n"
    assert "10.1.7.7" in lab.fairlead("exec", "plain", "nslookup", "web", check=False).stdout
    # Back on the default bridge alone the resolver passes on, and knows no names.
    lab.fairlead("network", "disconnect", "u", "plain")
    with lab.upstream("198.51.100.1"):
        for name in ("web.", "far.test."):
            said = lab.fairlead("exec", "plain", "nslookup", "-type=a", name, check=False).stdout
            assert "Address: 198.51.100.1" in said
    lab.fairlead("rm", "-f", "plain")


def test_an_edited_resolv_conf_is_left_alone(lab: Lab) -> None:
    lab.container("edited")
    lab.fairlead("exec", "edited", "sh", "-c", "echo nameserver 192.0.2.1 > /etc/resolv.conf")
    lab.fairlead("network", "connect", "u", "edited")
    assert lab.fairlead("exec", "edited", "cat", "/etc/resolv.conf").stdout == "nameserver 192.0.2.1\n"
    lab.fairlead("rm", "-f", "edited")


def test_programs_in_a_namespace(lab: Lab, web: str) -> None:
    lab.sandbox("bare")
    before = lab.resolv_conf.read_text()
    read = ("netns", "exec", "bare", "cat", "/etc/resolv.conf")
    assert lab.fairlead(*read).stdout == before
    lab.fairlead("network", "connect", "u", "bare")
    assert lab.fairlead(*read).stdout == "nameserver 127.0.0.11\noptions ndots:0\n"
    assert "10.1.7.7" in lab.fairlead("netns", "exec", "bare", "getent", "hosts", "web").stdout
    assert lab.sh("cat /etc/resolv.conf") == before
    assert not list(lab.run_dir.glob("resolv.conf*"))
    lab.fairlead("netns", "rm", "bare")


# Two processes


def test_a_restart_of_the_daemon_loses_no_request(lab: Lab, web: str) -> None:
    """A thousand requests a second, one after the other, while the daemon is stopped, killed and started again."""
    requests = lab.directory / "requests"
    requests.write_text("web A\nwww A\n" * 100)
    perf = ["ip", "netns", "exec", "asker", "dnsperf", "-s", "127.0.0.11", "-d", str(requests), "-l", "6", "-Q", "1000"]
    asking = lab.popen(*perf, stdout=subprocess.PIPE)
    resolver = lab.resolver()
    for number in (signal.SIGTERM, signal.SIGKILL):
        time.sleep(0.7)
        assert lab.daemon
        lab.daemon.send_signal(number)
        lab.daemon.wait(20)
        time.sleep(0.7)
        lab.start()
    said, _ = asking.communicate(timeout=30)
    assert int(said.split("Queries completed:")[1].split()[0]) > 2000, said
    assert "Queries lost:         0 " in said, said
    assert lab.resolver() == resolver
    lab.container("later", "--network", "u", "--ip", "10.1.3.3")
    assert lab.addresses("later") == ["10.1.3.3"]
    lab.fairlead("rm", "-f", "later")


def test_a_killed_resolver_is_started_again(lab: Lab, web: str) -> None:
    before = lab.resolver()
    os.kill(before, signal.SIGKILL)
    eventually(lambda: "10.1.7.7" in lab.dig("+short", "web", check=False))
    assert lab.resolver() != before


def test_both_are_killed(lab: Lab, web: str) -> None:
    assert lab.daemon
    lab.daemon.kill()
    lab.daemon.wait()
    os.kill(lab.resolver(), signal.SIGKILL)
    lab.start()
    assert lab.addresses("web") == ["10.1.7.7"]


def test_a_resolver_of_another_version_is_replaced(lab: Lab, web: str) -> None:
    assert lab.daemon
    lab.daemon.terminate()
    lab.daemon.wait(20)
    os.kill(lab.resolver(), signal.SIGTERM)
    script = "import sys; from fairlead.dns import __main__, resolver; resolver.VERSION = 0; __main__.main(sys.argv[1])"
    command = lab.enter(sys.executable, "-P", "-c", script, str(lab.run_dir))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    eventually(lambda: (lab.run_dir / "dns.sock").exists())
    before = lab.resolver()
    lab.start()
    assert lab.addresses("web") == ["10.1.7.7"]
    assert lab.resolver() != before


def test_a_resolver_that_does_not_answer_is_replaced(lab: Lab) -> None:
    before = lab.resolver()
    os.kill(before, signal.SIGSTOP)
    lab.container("late", "--network", "u", "--ip", "10.1.4.4")
    assert lab.addresses("late") == ["10.1.4.4"]
    assert lab.resolver() != before
    lab.fairlead("rm", "-f", "late")


def test_a_flushed_ruleset_is_made_again_at_the_next_start(lab: Lab, web: str) -> None:
    lab.sh("ip netns exec asker nft flush ruleset")
    lab.sh("ip netns exec asker sh -c '! timeout 1 dig +short +tries=1 +time=1 @127.0.0.11 web | grep 10.1'")
    assert lab.daemon
    lab.daemon.terminate()
    lab.daemon.wait(20)
    lab.start()
    assert lab.addresses("web") == ["10.1.7.7"]


def test_a_namespace_goes_at_once(lab: Lab) -> None:
    """The resolver's sockets do not keep it: the host's end of its link goes with it."""
    before = lab.sh("ip -br link | wc -l")
    lab.sandbox("brief", "u")
    assert lab.addresses("brief", sandbox="brief")
    lab.fairlead("netns", "rm", "brief")
    assert lab.sh("ip -br link | wc -l") == before
    path = Path(f"/proc/{lab.resolver()}/fd")
    sockets = [os.readlink(file) for file in path.iterdir()]
    served = len(lab.json(FAIRLEAD, "netns", "ls", "-a", "--format", "json"))
    assert sum(name.startswith("socket:") for name in sockets) == 2 * served + 2  # its own, the daemon's


def test_none_before_it_is_needed_and_none_after_a_reset() -> None:
    with Lab() as lab:
        lab.fairlead("system", "reset", "--force")
        assert lab.daemon
        lab.daemon.wait(20)
        assert lab.sh("pgrep -f 'fairlead[.]dns " + str(lab.run_dir) + "' | wc -l") == "0\n"
        assert not (lab.run_dir / "dns.sock").exists()
        lab.start()
        lab.sandbox("alone", "bridge")
        assert not (lab.run_dir / "dns.sock").exists()
        assert "names" not in lab.sh("ip netns exec alone nft list ruleset")
