"""testcontainers for Node.js: what its users' test suites do with containers, networks and files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lab import Host, images
from node import needs_node, node

pytestmark = needs_node

HEAD = """
const { GenericContainer, Network, Wait } = require('testcontainers');
const box = (...words) => new GenericContainer('alpine').withCommand(words);
"""


@pytest.fixture(scope="module")
def play() -> Iterator[Callable[[str], dict[str, Any]]]:
    with Host() as host:
        for name in ("alpine", "nginx"):
            host.fairlead("image", "load", "-i", str(images() / f"{name}.tar"))

        def run(lines: str) -> dict[str, Any]:
            found = node(host, host.run_dir / "fairlead.sock", HEAD, lines)
            assert host.fairlead("ps", "-aq").stdout == ""
            assert host.fairlead("network", "ls", "-q", "--filter", "type=custom").stdout == ""
            return found

        yield run


def test_ports_networks_and_restarts(play: Callable[[str], dict[str, Any]]) -> None:
    lines = """
const network = await new Network().start();
const nginx = () => new GenericContainer('nginx').withNetwork(network);
const answers = Wait.forHttp('/', 80);
const web = await nginx().withNetworkAliases('web').withExposedPorts(80).withWaitStrategy(answers).start();
const get = async port => (await fetch(`http://${web.getHost()}:${port}/`)).status;
result.status = await get(web.getMappedPort(80));
await web.restart({ timeout: 0 });
result.again = await get(web.getMappedPort(80));
const client = await box('sleep', '60').withNetwork(network).start();
result.fetched = (await client.exec(['wget', '-qO-', 'http://web/'])).exitCode;
const ports = { container: 80, host: 18095 };
const other = await nginx().withExposedPorts(ports).withWaitStrategy(Wait.forListeningPorts()).start();
result.chosen = await get(18095);
for (const one of [web, client, other]) await one.stop({ timeout: 0 });
await network.stop();
"""
    assert play(lines) == {"status": 200, "again": 200, "fetched": 0, "chosen": 200}


def test_files_exec_health_and_logs(play: Callable[[str], dict[str, Any]]) -> None:
    lines = """
const lines = [];
const one = await box('sh', '-c', 'echo one; echo two; sleep 60')
  .withCopyContentToContainer([{ content: 'given', target: '/tmp/a/b', mode: 0o640 }])
  .withTmpFs({ '/t': 'rw,size=1m' }).withUlimits({ nofile: { soft: 256, hard: 512 } })
  .withResourcesQuota({ memory: 0.125, cpu: 0.5 }).withEnvironment({ A: 'b' }).withUser('root').withWorkingDir('/tmp')
  .withHealthCheck({ test: ['CMD', 'true'], interval: 500, timeout: 1000, retries: 3, startPeriod: 0 })
  .withLogConsumer(stream => stream.on('data', line => lines.push(String(line).trim())))
  .withWaitStrategy(Wait.forAll([Wait.forHealthCheck(), Wait.forLogMessage(/two/)])).start();
result.exec = await one.exec(['sh', '-c', 'cat a/b; stat -c %a a/b; echo $A >&2; exit 3']);
let size = 0;
for await (const chunk of await one.copyArchiveFromContainer('/tmp/a/b')) size += chunk.length;
result.blocks = size % 512;
result.lines = lines;
await one.stop({ timeout: 0 });
const once = await box('true').withWaitStrategy(Wait.forOneShotStartup()).start();
await once.stop();
const failing = box('false').withWaitStrategy(Wait.forLogMessage('never')).start();
result.failing = await failing.then(() => 'no error', error => error.message);
"""
    found = play(lines)
    assert (found["exec"]["stdout"], found["exec"]["stderr"], found["exec"]["exitCode"]) == ("given640\n", "b\n", 3)
    assert (found["lines"], found["blocks"]) == (["one", "two"], 0)
    assert "was not received" in found["failing"]
