"""What `--explain` prints for commands that move files and images, typed by hand, moves the same."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import FAIRLEAD, Host, images
from machine import Machine
from registry import REGISTRY, Registry

CHANGE = (
    "echo 1 >/made; rm /etc/group; rm -r /var/spool; mkdir -p /var/spool/new; ln /made /twin; "
    "ln -s /nowhere /link; touch '/tmp/a\\b ü'; touch \"$(printf '/tmp/x\\377\\ny')\"; "
    "chown 33:33 /made; chmod 4750 /tmp; mkfifo /pipe"
)
"""What a container does to its files: all that a layer can tell of."""


@pytest.fixture
def alpine(host: Host) -> Host:
    """A host with an image, and one with two layers made of it."""
    host.fairlead("image", "load", "-i", str(images() / "alpine.tar"))
    host.fairlead("run", "--name", "maker", "alpine", "sh", "-c", CHANGE)
    host.fairlead("commit", "maker", f"{REGISTRY}/mine:1")
    return host


def tree(host: Host, root: Path) -> dict[str, Any]:
    """Everything that can be told of the files beneath a directory, but times."""
    return {
        "files": host.sh(f"cd {root} && find . -not -type s -printf '%p %y %m %U:%G %l\\n' | sort | cat -v"),
        "sums": host.sh(f"cd {root} && find . -type f -print0 | sort -z | xargs -0r sha256sum | cat -v"),
        "marks": host.sh(f"cd {root} && getfattr --recursive --no-dereference --dump --match=trusted. ."),
    }


def new_layer(host: Host, before: set[str]) -> dict[str, Any]:
    """The one layer that was not there before."""
    (layer,) = layers(host) - before
    return tree(host, host.state / "images/layers" / layer)


def layers(host: Host) -> set[str]:
    return {path.name for path in (host.state / "images/layers").iterdir()}


def blobs(host: Host) -> dict[str, str]:
    """Every blob's name, and what its bytes would be called."""
    lines = host.sh(
        f"cd {host.state}/images/blobs/sha256 && find . -type f -printf '%P\\0' | xargs -0r sha256sum"
    ).splitlines()
    return {name: digest for digest, name in map(str.split, lines)}


def whole(host: Host) -> dict[str, Any]:
    """All unpacked layers, and the blobs."""
    assert list((host.state / "images/tmp").iterdir()) == []
    return {"blobs": blobs(host), **tree(host, host.state / "images/layers")}


def forget(host: Host, *names: str) -> None:
    """Remove images, and all that is left of them on the disk."""
    for name in names:
        host.fairlead("image", "rm", "-f", name)


@pytest.fixture
def registry(alpine: Host) -> Iterator[Registry]:
    one = Registry(alpine, auth=False)
    yield one
    one.close()


def test_pull_and_push(alpine: Host, registry: Registry) -> None:
    name = f"{REGISTRY}/mine:1"
    alpine.sh(alpine.fairlead("image", "push", name, "--explain").stdout)
    manifest = alpine.json("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}")
    assert len(manifest["layers"]) == 2, "what was sent by hand is there"
    digest = alpine.sh(f"skopeo inspect --tls-verify=false --format '{{{{.Digest}}}}' docker://{name}")
    alpine.fairlead("image", "push", name)
    assert digest == alpine.sh(f"skopeo inspect --tls-verify=false --format '{{{{.Digest}}}}' docker://{name}")
    alpine.fairlead("rm", "maker")
    for gone in ([name], [name, "alpine"]):
        forget(alpine, *gone)
        empty = whole(alpine)
        lines = alpine.fairlead("image", "pull", name, "--explain").stdout
        assert whole(alpine) == empty
        alpine.sh("set -e\n" + lines)
        by_hand = whole(alpine)
        alpine.fairlead("image", "pull", name)
        assert alpine.fairlead("image", "pull", name, "--explain").stdout == "", "it is there"
        # What is unpacked by hand the daemon takes away, since it is nobody's, or takes for its own.
        forget(alpine, name)
        alpine.fairlead("image", "pull", name)
        assert by_hand == whole(alpine)
        alpine.fairlead("image", "load", "-i", str(images() / "alpine.tar"))
    refused = alpine.fairlead("image", "pull", f"{REGISTRY}/mine:7", "--explain", check=False)
    assert (refused.returncode, "manifest unknown" in refused.stderr) == (1, True)
    refused = alpine.fairlead("image", "push", f"{REGISTRY}/nope", "--explain", check=False)
    assert (refused.returncode, "does not exist locally" in refused.stderr) == (1, True)


@pytest.mark.parametrize("how", ["file", "packed", "stdin", "docker"])
def test_save_and_load(alpine: Host, how: str) -> None:
    name, archive = f"{REGISTRY}/mine:1", alpine.directory / "it's.tar"
    lines = alpine.fairlead("image", "save", "-o", str(archive), name, "alpine", "--explain").stdout
    assert not archive.exists()
    alpine.sh("set -e\n" + lines)
    assert list((alpine.state / "images/tmp").iterdir()) == []
    with tarfile.open(archive) as by_hand:
        names = by_hand.getnames()
    to_stdout = alpine.fairlead("image", "save", name, "alpine", "--explain").stdout
    assert alpine.run("sh", "-c", f"({to_stdout}) | tar -t").stdout.split() == names
    alpine.fairlead("image", "save", "-o", f"{archive}.by-command", name, "alpine")
    with tarfile.open(f"{archive}.by-command") as by_command:
        assert by_command.getnames() == names
    if how == "docker":
        archive = images() / "nginx.tar"  # has no manifest of its own
    if how == "packed":
        alpine.run("gzip", str(archive))
        archive = archive.with_name(f"{archive.name}.gz")
    alpine.fairlead("rm", "maker")
    forget(alpine, name, "alpine")
    if how == "stdin":
        lines = alpine.sh(f'cat "{archive}" | {FAIRLEAD} image load --explain')
        (alpine.directory / "script").write_text("set -e\n" + lines)
        alpine.sh(f'sh {alpine.directory}/script <"{archive}"')
    else:
        lines = alpine.fairlead("image", "load", "-i", str(archive), "--explain").stdout
        alpine.sh("set -e\n" + lines)
    by_hand_state = whole(alpine)
    assert by_hand_state["files"].count("\n") > 10
    alpine.fairlead("image", "load", "-i", str(archive))
    assert whole(alpine) == by_hand_state
    assert alpine.fairlead("image", "load", "-i", str(archive), "--explain").stdout == "", "all of it is there"


@pytest.mark.parametrize("how", ["file", "packed", "stdin"])
def test_import(alpine: Host, how: str) -> None:
    archive = alpine.directory / "root.tar"
    alpine.fairlead("export", "-o", str(archive), "maker")
    if how == "packed":
        alpine.run("zstd", "--rm", "-q", str(archive))
        archive = archive.with_name("root.tar.zst")
    before, words = layers(alpine), ["-c", 'CMD ["it\'s"]', "-m", "why"]
    if how == "stdin":
        lines = alpine.run("sh", "-c", f"cat {archive} | {FAIRLEAD} import -c 'CMD [\"x\"]' - --explain").stdout
        (alpine.directory / "script").write_text("set -e\n" + lines)
        alpine.sh(f"sh {alpine.directory}/script <{archive}")
    else:
        alpine.sh("set -e\n" + alpine.fairlead("image", "import", *words, "--explain", str(archive)).stdout)
    assert all(name == digest for name, digest in blobs(alpine).items())
    (layer,) = layers(alpine) - before
    by_hand = new_layer(alpine, before)
    alpine.fairlead("image", "import", *words, str(archive), "made")
    assert {layer} == layers(alpine) - before
    assert new_layer(alpine, before) == by_hand


@pytest.mark.parametrize("state", ["running", "stopped", "unchanged"])
def test_commit(alpine: Host, state: str) -> None:
    words = ["alpine", "sleep", "999"] if state != "stopped" else ["alpine", "sh", "-c", CHANGE]
    run = ["run", "--name", "c", *(["-d"] if state != "stopped" else []), *words]
    alpine.fairlead(*run)
    if state == "running":
        alpine.fairlead("exec", "c", "sh", "-c", CHANGE)
    before, known = layers(alpine), set(blobs(alpine))
    change = ["-c", 'LABEL a="it\'s"', "-m", "why"]
    lines = alpine.fairlead("commit", *change, "c", "new:1", "--explain").stdout
    assert (" pause " in lines, " resume " in lines) == ((state != "stopped",) * 2)
    alpine.sh("set -e\n" + lines)
    assert list((alpine.state / "images/tmp").iterdir()) == []
    made = blobs(alpine)
    assert all(name == digest for name, digest in made.items())
    by_hand = documents(alpine, set(made) - known)
    unpacked = None if state == "unchanged" else new_layer(alpine, before)
    alpine.fairlead("commit", *change, "c", "new:1")  # which takes away what is nobody's
    by_command = documents(alpine, set(blobs(alpine)) - known)
    assert by_hand == by_command
    if unpacked is None:
        assert layers(alpine) == before
    else:
        assert new_layer(alpine, before) == unpacked
        assert "trusted.overlay.opaque" in unpacked["marks"]
        assert " c " in unpacked["files"], "a whiteout"
    alpine.fairlead("rm", "-f", "c")


def documents(host: Host, names: set[str]) -> list[Any]:
    """The JSON files among these blobs, without what depends on the moment and on how a tar is written."""
    found = []
    for name in names:
        text = (host.state / "images/blobs/sha256" / name).read_bytes()
        if text.startswith(b"{"):
            document = json.loads(text)
            for member in ("created", "rootfs"):
                document.pop(member, None)
            for thing in [*document.get("layers", []), document.get("history", [{}])[-1], document.get("config", {})]:
                for member in ("digest", "size", "created"):
                    thing.pop(member, None)
            found.append(document)
    return sorted(found, key=json.dumps)


@pytest.fixture(params=["running", "stopped", "new"])
def twins(request: pytest.FixtureRequest, machine: Machine) -> Host:
    """A host with two containers, `hand` and `command`, of the user 1000, that have volumes and a bind.

    They run, have ended, or were never started.
    """
    host = machine.host
    tree = host.directory / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep/it's").write_text("leaf")
    (tree / "deep").chmod(0o2711)
    (tree / "link").symlink_to("/etc/passwd")
    (host.directory / "file").write_text("hello")
    (host.directory / "file").chmod(0o640)
    host.sh(f"tar -C {host.directory} -cf {host.directory}/all.tar tree file")
    for name in ("hand", "command"):
        (host.directory / name).mkdir()
        words = ["-v", f"v{name}:/vol", "-v", f"{host.directory}/{name}:/bind", "-v", f"v{name}:/fixed:ro", "-u", "u1"]
        machine.docker("create", "--name", name, *words, "box", "sleep", "600")
        if request.param != "new":
            machine.docker("start", name)
        if request.param == "stopped":
            machine.docker("stop", "-t", "0", name)
        machine.docker("cp", f"{tree}", f"{name}:/tmp/old")
    return host


INTO = [
    ["file", ":/tmp/"],
    ["file", ":/tmp/other"],
    ["-a", "file", ":/tmp/other"],
    ["file", ":/vol/x"],
    ["file", ":/tmp/old/link"],
    ["tree", ":/tmp"],
    ["tree", ":/tmp/old"],
    ["tree/.", ":/tmp/old"],
    ["-a", "tree/.", ":/tmp/old"],
    ["-a", "tree", ":/tmp/more"],
    ["tree", ":/vol/y"],
    ["tree/.", ":/"],
    ["tree", ":/bind"],
    ["tree/link", ":/tmp"],
    ["-L", "tree/link", ":/tmp"],
    ["-", ":/tmp/old"],
    ["-a", "-", ":/root"],
]
"""Words of ``cp``, one after the other; before a colon goes the container's name, before a file its directory."""

OUT_OF = [
    [":/tmp/old", "a"],
    ["-a", ":/tmp/old", "b"],
    [":/tmp/old/.", "a"],
    [":/etc/passwd", "c"],
    [":/tmp/old/link", "d"],
    ["-L", ":/tmp/old/link", "e"],
    [":/vol", "f"],
    [":/bind/one", "g"],
    [":/", "h"],
    [":/tmp/old", "-"],
    [":/", "-"],
]


def inside(host: Host, name: str) -> str:
    """Everything that a container has, as a copy tells it; but for what the runtime made to mount on."""
    copy = host.directory / "all"
    host.fairlead("cp", "-a", f"{name}:/", str(copy))
    found = told(host, copy)
    host.sh(f"rm -r {copy}")
    return found


def told(host: Host, place: Path) -> str:
    return host.sh(
        f"cd {place} && find . -not -path './dev/*' -printf '%p %y %m %U:%G %l\\n' | sort && "
        "find tmp vol bind -type f -print0 | sort -z | xargs -0r sha256sum"
    )


def words_for(host: Host, name: str, words: list[str]) -> list[str]:
    return [
        name + word if word.startswith(":") else word if word.startswith("-") else f"{host.directory}/{word}"
        for word in words
    ]


def test_copies_into_a_container(twins: Host) -> None:
    archive, script = twins.directory / "all.tar", twins.directory / "script"
    before = inside(twins, "hand")
    assert before == inside(twins, "command")
    for words in INTO:
        lines = twins.fairlead("cp", "--explain", *words_for(twins, "hand", words)).stdout
        script.write_text("set -e\n" + lines)
        twins.sh(f"sh {script} <{archive}")
        assert str(twins.run_dir / "view") not in twins.sh("cat /proc/mounts")
        by_hand = inside(twins, "hand")
        assert by_hand != before, words
        copy = " ".join(words_for(twins, "command", words))
        twins.sh(f"{FAIRLEAD} cp {copy} <{archive}")
        assert by_hand == inside(twins, "command"), words
        before = by_hand


def test_copies_out_of_a_container(twins: Host) -> None:
    for name in ("hand", "command"):
        (twins.directory / name / "one").write_text("1")
        (twins.directory / f"from-{name}").mkdir()
        twins.fairlead("cp", str(twins.directory / "file"), f"{name}:/vol/x")
    hand, command = twins.directory / "from-hand", twins.directory / "from-command"
    for option, *words in [word if word[0].startswith("-") else ["-q", *word] for word in OUT_OF]:
        source, target = words
        lines = twins.fairlead(
            "cp", "--explain", option, f"hand{source}", target if target == "-" else str(hand / target)
        ).stdout
        (twins.directory / "script").write_text("set -e\n" + lines)
        if target == "-":
            by_hand = twins.sh(f"sh {twins.directory}/script | tar -tv --numeric-owner | sort -k6")
            by_command = twins.sh(f"{FAIRLEAD} cp command{source} - | tar -tv --numeric-owner | sort -k6")
            assert names(by_hand) == names(by_command), words
            continue
        twins.sh(f"sh {twins.directory}/script")
        twins.fairlead("cp", option, f"command{source}", str(command / target))
        listing = "cd {} && find . -not -path '*/dev/*' -printf '%p %y %m %U:%G %l\\n' | sort"
        assert twins.sh(listing.format(hand)) == twins.sh(listing.format(command)), words
    assert str(twins.run_dir / "view") not in twins.sh("cat /proc/mounts")


def names(listing: str) -> list[list[str]]:
    """Mode, owner and name of each member that ``tar -tv`` lists."""
    found = [line.split() for line in listing.splitlines()]
    return sorted([mode, owner, name.lstrip("./")] for mode, owner, _, _, _, name, *_ in found if "/dev/" not in name)


def test_export(twins: Host) -> None:
    by_hand = twins.directory / "hand.tar"
    twins.sh(twins.fairlead("export", "--explain", "-o", str(by_hand), "hand").stdout)
    by_command = twins.sh(f"{FAIRLEAD} export hand | tar -tv --numeric-owner")
    assert names(twins.sh(f"tar -tv --numeric-owner -f {by_hand}")) == names(by_command)
    to_stdout = twins.fairlead("export", "--explain", "hand").stdout
    (twins.directory / "script").write_text(to_stdout)
    assert names(twins.sh(f"sh {twins.directory}/script | tar -tv --numeric-owner")) == names(by_command)


def test_what_cannot_be_copied(twins: Host) -> None:
    file = str(twins.directory / "file")
    for words, sentence in (
        ([file, "hand:/fixed/x"], "mounted volume is marked read-only"),
        ([file, "hand:/nowhere/x"], "Could not find the file /nowhere in container hand"),
        (["hand:/nowhere", "/tmp/x"], "Could not find the file /nowhere in container hand"),
    ):
        done = twins.fairlead("cp", "--explain", *words, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert sentence in done.stderr


def test_a_program_in_a_namespace(host: Host) -> None:
    host.fairlead("netns", "add", "ns0")
    host.sh(
        "mkdir -p /etc/netns && mount -t tmpfs tmpfs /etc/netns && mkdir /etc/netns/ns0 && echo a >/etc/netns/ns0/motd"
    )
    look = ["sh", "-c", 'cat /etc/motd /etc/resolv.conf; ls /sys/class/net; echo "$1"', "x", "it's"]
    for connect in ([], ["network create net", "network connect net ns0"]):
        for command in connect:
            host.fairlead(*command.split())
        before = host.sh("ls /run/netns; cat /proc/mounts")
        lines = host.fairlead("netns", "exec", "--explain", "ns0", *look).stdout
        assert host.sh("set -e\n" + lines) == host.fairlead("netns", "exec", "ns0", *look).stdout
        assert host.sh("ls /run/netns; cat /proc/mounts") == before


def test_links_volumes_options_and_parts_of_volumes(machine: Machine) -> None:
    """Where a line leads is the host's own path of what the container sees, whatever its links say."""
    host = machine.host
    (host.directory / "real").mkdir()
    (host.directory / "file").write_text("new")
    device = ["--opt", "type=none", "--opt", "o=bind", "--opt", f"device={host.directory}/real"]
    machine.docker("volume", "create", *device, "bound")
    machine.docker("run", "--rm", "-v", "parted:/p", "box", "sh", "-c", "mkdir /p/sub; ln -s /etc /p/sub/away")
    mounts = ["-v", "bound:/b", "--mount", "type=volume,src=parted,dst=/s,volume-subpath=sub"]
    machine.docker("run", "--name", "c", *mounts, "box", "ln", "-s", "/etc", "/tmp/link")
    root = host.run_dir / "view"
    upper = host.state / "containers" / machine.inspect("c")["Id"] / "upper"
    for target, line, place in (
        ("/tmp/link/x", f"{root}/etc/x", upper / "etc/x"),
        ("/s/away/y", f"{root}/etc/y", upper / "etc/y"),
        ("/s/z", f"{host.state}/volumes/parted/_data/sub/z", host.state / "volumes/parted/_data/sub/z"),
        ("/b/w", f"{host.state}/volumes/bound/_data/w", host.directory / "real/w"),
    ):
        lines = host.fairlead("cp", "--explain", f"{host.directory}/file", f"c:{target}").stdout
        assert f" {host.directory}/file {line}\n" in lines
        host.sh("set -e\n" + lines)
        assert place.read_text() == "new", target
        assert not Path("/etc", Path(target).name).exists()
    assert str(host.state / "volumes/bound") not in host.sh("cat /proc/mounts")
    machine.docker("rm", "c")
