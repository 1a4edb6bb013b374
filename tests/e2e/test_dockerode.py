"""dockerode, the client of Node.js, gets from Fairlead what it gets from Docker: streams above all."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Host, images
from node import needs_node, node
from peer import DOCKERD, Docker

pytestmark = [
    *needs_node,
    pytest.mark.skipif(not DOCKERD, reason="Docker is not installed: apt-get install docker.io"),
    pytest.mark.xdist_group("docker"),
]

HEAD = """
const Docker = require('dockerode'), { PassThrough } = require('stream');
const docker = new Docker({ socketPath: process.env.DOCKER_HOST.slice('unix://'.length) });
const words = process.argv.slice(1);
const read = stream => new Promise((done, fail) => {
  const chunks = [];
  stream.on('data', chunk => chunks.push(chunk)).on('error', fail);
  stream.on('end', () => done(Buffer.concat(chunks))).on('close', () => done(Buffer.concat(chunks)));
});
const split = async stream => {  // standard output and error
  const both = [new PassThrough(), new PassThrough()];
  docker.modem.demuxStream(stream, ...both);
  stream.on('end', () => both.forEach(one => one.end()));
  return (await Promise.all(both.map(read))).map(String);
};
const refused = promise => promise.then(() => 'no error', error => [error.statusCode, error.reason]);
const box = (name, script, more) => docker.createContainer({
  name, Image: 'alpine', Cmd: ['sh', '-c', script], ...more,
});
"""

Play = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def play() -> Iterator[Play]:
    """Plays lines of JavaScript with Docker and with Fairlead; they must come to the same, which is returned."""
    with Host() as one, Host() as other, Docker(one) as docker:
        other.fairlead("network", "ls")  # starts the daemon
        engines = ((one, docker.socket), (other, other.run_dir / "fairlead.sock"))
        load = "result.said = String(await read(await docker.loadImage(words[0])));"
        for engine in engines:
            assert "Loaded image: alpine:latest" in node(*engine, HEAD, load, str(images() / "alpine.tar"))["said"]

        def run(lines: str, *words: str) -> dict[str, Any]:
            docker, fairlead = (node(*engine, HEAD, lines, *words) for engine in engines)
            assert fairlead == docker
            return fairlead

        yield run


def test_attach_logs_and_wait(play: Play) -> None:
    lines = """
const open = { OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true };
const container = await box('box', 'echo hello; echo oops >&2; cat; exit 3', open);
const stream = await container.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
const attached = split(stream);
await container.start();
const followed = split(await container.logs({ follow: true, stdout: true, stderr: true }));
stream.write('through\\n');
stream.end();
result.code = await container.wait().then(answer => answer.StatusCode);
result.attached = await attached;
result.followed = await followed;
result.last = String(await container.logs({ stdout: true, tail: 1 })).slice(8);
await container.remove();
result.run = (await docker.run('alpine', ['sh', '-c', 'exit 5'], new PassThrough(), { name: 'ran' }))[0].StatusCode;
await docker.getContainer('ran').remove();
"""
    both = ["hello\nthrough\n", "oops\n"]
    assert play(lines) == {"code": 3, "attached": both, "followed": both, "last": "through\n", "run": 5}


def test_exec(play: Play) -> None:
    lines = """
const container = await box('box', 'sleep 600');
await container.start();
const words = ['sh', '-c', 'echo out; echo err >&2; cat; exit 4'];
const exec = await container.exec({ Cmd: words, AttachStdin: true, AttachStdout: true, AttachStderr: true });
const stream = await exec.start({ hijack: true, stdin: true });
const said = split(stream);
stream.write('typed\\n');
stream.end();
result.said = await said;
result.code = (await exec.inspect()).ExitCode;
const tty = await container.exec({ Cmd: ['sh', '-c', 'echo $A; tty'], Env: ['A=b'], Tty: true, AttachStdout: true });
result.tty = String(await read(await tty.start({ hijack: true, Tty: true })));
await container.remove({ force: true });
"""
    assert play(lines) == {"said": ["out\ntyped\n", "err\n"], "code": 4, "tty": "b\r\n/dev/pts/0\r\n"}


def test_stats_archives_and_changes(play: Play, tmp_path: Path) -> None:
    (tmp_path / "put").write_text("content\n")
    with tarfile.open(tmp_path / "put.tar", "w") as tar:
        tar.add(tmp_path / "put", "put")
    lines = """
const container = await box('box', 'sleep 600');
await container.start();
const stats = await container.stats({ stream: true });
let text = '';
await new Promise(done => stats.on('data', chunk => { if ((text += chunk).split('\\n').length > 2) done(); }));
stats.destroy();
result.stats = [...new Set(text.trim().split('\\n').map(line => JSON.parse(line).name))];
result.once = (await container.stats({ stream: false })).name;
await container.putArchive(words[0], { path: '/tmp' });
result.got = String(await read(await container.getArchive({ path: '/tmp/put' }))).includes('content\\n');
result.changes = (await container.changes()).map(change => change.Kind + change.Path).sort();
result.nothing = await refused(container.getArchive({ path: '/nope' }));
await container.remove({ force: true });
"""
    found = play(lines, str(tmp_path / "put.tar"))
    assert (found["stats"], found["once"], found["got"]) == (["/box"], "/box", True)
    assert found["changes"] == ["0/tmp", "1/tmp/put"]


def test_networks_volumes_ports_and_events(play: Play) -> None:
    lines = """
const stream = await docker.getEvents({ filters: { type: ['container', 'network', 'volume'] } });
let seen = '';
stream.on('data', chunk => seen += chunk);
const network = await docker.createNetwork({ Name: 'net', IPAM: { Config: [{ Subnet: '10.44.0.0/24' }] } });
const volume = await docker.createVolume({ Name: 'vol', Labels: { a: 'b' } });
const container = await box('box', 'sleep 600', {
  ExposedPorts: { '80/tcp': {} },
  HostConfig: { NetworkMode: 'net', Binds: ['vol:/data'], PortBindings: { '80/tcp': [{ HostPort: '18085' }] } },
  NetworkingConfig: { EndpointsConfig: { net: { IPAMConfig: { IPv4Address: '10.44.0.9' }, Aliases: ['crate'] } } },
});
await container.start();
const shown = await container.inspect();
result.address = shown.NetworkSettings.Networks.net.IPAddress;
result.mounts = shown.Mounts.map(mount => [mount.Type, mount.Name, mount.Destination]);
result.members = Object.values((await network.inspect()).Containers).map(one => [one.Name, one.IPv4Address]);
result.listed = (await docker.listContainers({ filters: { network: ['net'] } })).map(one => [one.Names, one.Ports]);
result.used = [await refused(network.remove()), await refused(volume.remove())];
await docker.getNetwork('bridge').connect({ Container: 'box' });
await network.disconnect({ Container: 'box' });
result.ports = (await container.inspect()).NetworkSettings.Ports;
await container.pause();
await container.unpause();
await container.update({ Memory: 64 << 20, MemorySwap: 128 << 20 });
await container.rename({ name: 'crate' });
await container.stop({ t: 0 });
result.stopped = await refused(container.stop());
await container.remove({ v: true });
await network.remove();
await volume.remove();
for (let i = 0; i < 50 && !/"destroy".*"volume"|"volume".*"destroy"/.test(seen); i++)
  await new Promise(done => setTimeout(done, 100));
stream.destroy();
const events = seen.trim().split('\\n').map(line => JSON.parse(line));
const named = events.map(event => `${event.Type} ${event.Action} ${event.Actor.Attributes.name || event.Actor.ID}`);
// Docker 20.10 says twice that a volume is made; and the order of what concerns several objects is nobody's promise.
result.events = [...new Set(named)].sort();
result.nope = [docker.getContainer('nope'), docker.getNetwork('nope')].map(one => refused(one.inspect()));
result.nope = await Promise.all(result.nope);
"""
    found = play(lines)
    port = [{"HostIp": "0.0.0.0", "HostPort": "18085"}, {"HostIp": "::", "HostPort": "18085"}]
    assert (found["address"], found["ports"]) == ("10.44.0.9", {"80/tcp": port})
    assert "volume destroy vol" in found["events"]
    assert found["nope"][0][0] == 404


def test_images(play: Play) -> None:
    lines = """
const image = docker.getImage('alpine');
await image.tag({ repo: 'copy', tag: '1' });
result.listed = (await docker.listImages({ filters: { reference: ['copy'] } })).map(one => one.RepoTags.sort());
result.saved = (await read(await image.get())).includes('manifest.json');
const container = await box('box', 'true');
await container.commit({ repo: 'made', tag: '1', changes: 'CMD ["false"]' });
result.command = (await docker.getImage('made:1').inspect()).Config.Cmd;
await container.remove();
for (const name of ['made:1', 'copy:1']) await docker.getImage(name).remove();
result.gone = await refused(docker.getImage('copy:1').inspect());
result.refused = await refused(docker.createContainer({ Image: 'copy:1' }));
"""
    found = play(lines)
    assert (found["saved"], found["command"], found["gone"][0]) == (True, ["false"], 404)
    assert json.dumps(found["listed"]) == '[["copy:1"]]'
