"""The page in a real browser, against a real kernel: what it shows is what `ip` says, while things come and go."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from browser import CHROMIUM, FIREFOX, TRACE_DONE, chromium, in_firefox, opened, ui
from lab import Host, images

pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed"),
    pytest.mark.timeout(180),
]

BRIDGE = ("-o", "com.docker.network.bridge.name=br0")

DROP = "ip netns exec ns1 nft 'add table ip f; add chain ip f in { type filter hook input priority 0; policy drop; }'"

ON_THE_PAGE = """() => {
  const rooms = {}, bars = {};
  for (const node of document.querySelectorAll(".node.room")) {
    rooms[node.dataset.name] = Object.fromEntries([...node.querySelectorAll(".port")].map((port) => {
      const texts = [...port.querySelectorAll("text:not(.name)")].map((one) => one.textContent);
      return [port.dataset.interface, texts.filter((one) => /^[0-9a-f.:]+\\/\\d+$/.test(one)).sort()];
    }));
  }
  for (const node of document.querySelectorAll(".node.bar"))
    bars[node.dataset.name] = [...node.querySelectorAll(".port")].map((port) => port.dataset.interface).sort();
  const cables = [...document.querySelectorAll("#lines .cable")].length;
  return { rooms, bars, cables };
}"""


@pytest.fixture
def browser(host: Host) -> Iterator[Any]:
    with chromium(host) as one:
        yield one


@pytest.fixture
def two(host: Host) -> Host:
    """Three namespaces on br0."""
    host.fairlead("network", "create", "br0", "--subnet", "10.0.0.0/24", *BRIDGE)
    for number in range(3):
        host.fairlead("netns", "add", f"ns{number}")
        host.fairlead("network", "connect", "br0", f"ns{number}", "--ip", f"10.0.0.{number + 2}")
    return host


@pytest.fixture
def page(two: Host, browser: Any) -> Iterator[Any]:
    with ui(two) as address, opened(browser, address) as one:
        yield one


def in_the_kernel(host: Host) -> dict[str, Any]:
    """The same as `ON_THE_PAGE`, by `ip` alone."""
    places: dict[str, tuple[str, ...]] = {"host": ("ip",)}
    places |= {name: ("ip", "-n", name) for name in host.sh("ls /run/netns").split()}
    containers = host.fairlead("ps", "--format", "{{.Names}}").stdout.split()
    places |= {name: inside(host, name) for name in containers}
    rooms: dict[str, Any] = {}
    bars: dict[str, Any] = {}
    cables = 0
    for name, where in places.items():
        links = host.json(*where, "-json", "-details", "address")
        kinds = {link["ifname"]: link.get("linkinfo", {}).get("info_kind", "") for link in links}
        cables += sum(kind == "veth" for kind in kinds.values())
        rooms[name] = {
            link["ifname"]: sorted(
                f"{one['local']}/{one['prefixlen']}"
                for one in link["addr_info"]
                if "local" in one and one["scope"] != "link"
            )
            for link in links
            if kinds[link["ifname"]] != "bridge" and link["ifname"] != "lo" and "master" not in link
        }
        for bridge in (one for one, kind in kinds.items() if kind == "bridge"):
            bars[bridge] = sorted(link["ifname"] for link in links if link.get("master") == bridge)
    assert cables % 2 == 0
    return {"rooms": rooms, "bars": bars, "cables": cables // 2}


def sandbox(host: Host, container: str) -> str:
    """The path of a container's namespace."""
    return host.fairlead("inspect", "-f", "{{.NetworkSettings.SandboxKey}}", container).stdout.strip()


def inside(host: Host, container: str) -> tuple[str, ...]:
    """`ip` in a container's namespace."""
    return ("nsenter", f"--net={sandbox(host, container)}", "ip")


def become_equal(host: Host, page: Any, seconds: float = 8) -> dict[str, Any]:
    """Wait for the page to show what the kernel has."""
    wanted = in_the_kernel(host)
    end = time.monotonic() + seconds
    while (found := page.evaluate(ON_THE_PAGE)) != wanted and time.monotonic() < end:
        page.wait_for_timeout(100)
    assert found == wanted
    return wanted


def node(page: Any, name: str) -> Any:
    return page.locator(f".node[data-name='{name}']")


def trace(page: Any, source: str, destination: str, port: str = "") -> str:
    """Ask by the form; returns the verdict."""
    page.fill("#from", source)
    page.fill("#to", destination)
    page.fill("#port", port)
    page.click("#go")
    page.wait_for_selector(TRACE_DONE)
    return str(page.inner_text("#result .verdict"))


def lit_ports(page: Any) -> set[str]:
    return set(
        page.eval_on_selector_all(
            ".port.lit", "all => all.map((one) => one.dataset.interface + '@' + one.closest('.node').dataset.name)"
        )
    )


def eventually(page: Any, script: str, seconds: float = 10) -> None:
    """Wait until a script says so.  (Playwright's own waiting needs eval, which the page forbids itself.)"""
    end = time.monotonic() + seconds
    while not page.evaluate(script):
        assert time.monotonic() < end, f"it did not come to {script}"
        page.wait_for_timeout(100)


# The topology


def test_the_page_shows_what_the_kernel_has_while_containers_come_and_go(host: Host, browser: Any) -> None:
    host.fairlead("image", "load", "-i", str(images() / "alpine.tar"))
    host.fairlead("network", "create", "br0", *BRIDGE)
    with ui(host) as address, opened(browser, address) as page:
        assert become_equal(host, page)["bars"]["br0"] == []
        for name in ("a1", "a2", "a3"):
            host.fairlead("run", "-d", "--name", name, "--network", "br0", "alpine", "sleep", "1000")
            assert name in become_equal(host, page)["rooms"]
        host.fairlead("network", "connect", "bridge", "a2")
        assert len(become_equal(host, page)["rooms"]["a2"]) == 2
        host.fairlead("stop", "-t", "0", "a1")
        assert "a1" not in become_equal(host, page)["rooms"]
        host.fairlead("start", "a1")
        become_equal(host, page)
        # What nobody told Fairlead of.
        host.sh(
            "ip netns add foreign; ip link add v0 type veth peer name v1 netns foreign; ip addr add 192.0.2.1/30 dev v0"
        )
        host.sh(
            "ip link add tap9 type bridge; ip link set v0 up;"
            "ip -n foreign addr add 2001:db8::2/64 dev v1 nodad; ip -n foreign link set v1 up"
        )
        assert become_equal(host, page)["rooms"]["foreign"] == {"v1": ["2001:db8::2/64"]}
        host.sh("ip link del tap9; ip netns del foreign")
        host.fairlead("rm", "-f", "a1", "a2", "a3")
        assert become_equal(host, page)["bars"]["br0"] == []


def test_what_disagrees_is_marked(two: Host, page: Any) -> None:
    assert page.locator(".port.differs").count() == 0
    two.sh("ip -n ns1 addr del 10.0.0.3/24 dev eth0")
    node(page, "ns1").locator(".port.differs").wait_for()
    assert "✗ 10.0.0.3/24" in (node(page, "ns1").text_content() or "")
    two.fairlead("doctor", "--fix")
    eventually(page, "!document.querySelector('.port.differs')")


def test_counters_become_throughput_on_the_line(two: Host, page: Any) -> None:
    counted = "/sys/class/net/eth0/statistics/rx_bytes"
    ping = two.popen(
        "ip", "netns", "exec", "ns0", "ping", "-q", "-i", "0.01", "-s", "1400", "10.0.0.3", stdout=subprocess.DEVNULL
    )
    try:
        label = page.locator(f"#labels [data-line$='{inode(two, 'ns1')}/eth0']")
        label.wait_for()
        page.wait_for_timeout(2500)

        def received() -> int:
            return int(two.sh(f"ip netns exec ns1 cat {counted}"))

        before, began = received(), time.monotonic()
        page.wait_for_timeout(2000)
        wanted = (received() - before) * 8 / (time.monotonic() - began)
        text = label.text_content()
        down = re.match(r"↓ ([\d.]+) (k|M)bit/s", text)
        assert down, text
        shown = float(down[1]) * {"k": 1e3, "M": 1e6}[down[2]]
        assert 0.5 * wanted < shown < 2 * wanted
        assert page.locator("#lines .busy").count() >= 2
    finally:
        ping.terminate()
        ping.wait()
    eventually(page, f"!document.querySelector(\"#labels [data-line$='{inode(two, 'ns1')}/eth0']\")")


def inode(host: Host, name: str) -> str:
    return host.sh(f"stat -L -c %i /run/netns/{name}").strip()


def test_what_a_link_stands_on_is_told(host: Host, browser: Any) -> None:
    """Of a VLAN as of this: where in the box, with its mode or tag, and in the details."""
    host.sh("ip link add link eth0 name shim type macvlan mode bridge && ip link set shim up")
    with ui(host) as address, opened(browser, address) as page:
        one = page.locator(".node.host")
        eventually(page, "document.querySelector('.node.host').textContent.includes('macvlan bridge on eth0')")
        one.click()
        shown = page.locator("#details [data-interface=shim]").inner_text()
        assert "macvlan bridge, " in shown
        assert "stands on eth0 of host" in shown


def cut(host: Host, address: str) -> None:
    """Every connection to the page's server that says anything within a second is reset."""
    port = urlsplit(address).port
    host.sh(f"""nft 'table inet cut {{ chain out {{ type filter hook output priority 0;
        tcp dport {port} reject with tcp reset; }}; }}'; sleep 1; nft delete table inet cut""")


def test_a_click_shows_addresses_routes_rules_ports_and_logs(host: Host, browser: Any) -> None:
    host.fairlead("image", "load", "-i", str(images() / "alpine.tar"))
    script = "echo hello from inside; echo and a problem >&2; while sleep 1; do echo tick; done"
    host.fairlead("network", "create", "net1")
    host.fairlead(
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "net1",
        "-p",
        "8081:80",
        "-p",
        "127.0.0.1:53:5353/udp",
        "alpine",
        "sh",
        "-c",
        script,
    )
    with ui(host) as address, opened(browser, address) as page:
        node(page, "web").click()
        details = page.locator("#details")
        where = inside(host, "web")
        (link,) = host.json(*where, "-j", "address", "show", "eth0")
        shown = details.locator("[data-interface=eth0]").inner_text()
        assert link["address"] in shown
        for one in link["addr_info"]:
            assert f"{one['local']}/{one['prefixlen']}" in shown
        routes = [row.split() for row in details.locator(".routes tr").all_inner_texts()]
        for route in host.json(*where, "-j", "route"):
            words = [route["dst"], *(["via", route["gateway"]] if "gateway" in route else []), "dev", route["dev"]]
            assert words in routes
        assert "8081/tcp → 80" in details.inner_text()
        assert "127.0.0.1:53/udp → 5353" in details.inner_text()
        details.locator("summary", has_text="Firewall rules").click()
        # The rules that lead names to the resolver, as nft has them inside.
        details.locator(".rules pre").first.wait_for()
        ruleset = host.sh(f"nsenter {where[1]} nft -a list ruleset")
        rules = re.findall(r"^\t\t(.*# handle \d+)$", ruleset, re.MULTILINE)
        assert rules
        for rule in rules:
            assert rule in details.locator(".rules pre").first.inner_text()
        assert "map ports4_any: 8081/tcp → 80" in details.locator(".rules pre").nth(1).inner_text()
        details.locator("summary", has_text="Log").click()
        eventually(page, "document.querySelector('.log')?.textContent.includes('tick')")
        before = details.locator(".log").inner_text()
        assert sorted(before.splitlines()[:2]) == ["and a problem", "hello from inside"]
        eventually(page, f"document.querySelector('.log').textContent.length > {len(before)}")
        # A connection that breaks is made again, and the log goes on.
        count = "document.querySelector('.log').textContent.match(/tick/g)?.length"
        ticks = page.evaluate(count)
        cut(host, address)
        eventually(page, f"{count} > {ticks} + 3")
        assert "does not answer" not in details.inner_text()
        host.fairlead("rm", "-f", "web")
        eventually(page, "document.querySelector('#details').textContent.includes('It is gone.')")


def test_a_bridge_tells_of_its_ports(two: Host, page: Any) -> None:
    node(page, "br0").click()
    shown = page.inner_text("#details")
    for link in two.json("ip", "-j", "link", "show", "master", "br0"):
        assert link["ifname"] in shown
    assert "Network br0 (bridge): 10.0.0.0/24, gateway 10.0.0.1" in shown


# Traces


def test_a_trace_lights_the_way_hop_by_hop(two: Host, page: Any) -> None:
    page.evaluate("""() => { window.steps = []; new MutationObserver(() => {
        const count = document.querySelectorAll('.port.lit').length;
        if (count !== window.steps.at(-1)) window.steps.push(count);
    }).observe(document.getElementById('nodes'), { subtree: true, attributes: true, attributeFilter: ['class'] }); }""")
    assert re.match(r"✔ 10\.0\.0\.3 answers after [\d.]+ ms", trace(page, "ns0", "10.0.0.3"))
    names = {link["ifindex"]: link["ifname"] for link in two.json("ip", "-j", "link")}
    ports = [
        names[two.json("ip", "-n", name, "-j", "link", "show", "eth0")[0]["link_index"]] for name in ("ns0", "ns1")
    ]
    assert lit_ports(page) == {"eth0@ns0", f"{ports[0]}@br0", f"{ports[1]}@br0", "eth0@ns1"}
    assert set(page.eval_on_selector_all(".node.lit", "all => all.map((one) => one.dataset.name)")) >= {
        "ns0",
        "br0",
        "ns1",
    }
    assert "lit" not in (node(page, "ns2").get_attribute("class") or "")
    assert page.locator("#lines .cable.lit").count() == 2
    # One after the other, not all at once.
    assert page.evaluate("window.steps") == sorted({*page.evaluate("window.steps")})
    assert {1, 2, 3, 4} <= set(page.evaluate("window.steps"))
    assert page.locator("#result .hop").count() == page.locator("#result .hop.lit").count() > 4
    page.click("#result .close")
    assert lit_ports(page) == set()
    assert page.locator("#lines .lit, .callout").count() == 0


@pytest.mark.parametrize(
    ("fault", "cause", "where"),
    [
        ("ip -n ns1 link set eth0 down", "interface-down", ("ns1", "br0")),
        (
            DROP,
            "input-drop",
            ("ns1",),
        ),
        ("ip -n ns0 route del 10.0.0.0/24; ip -n ns0 route del default || true", "no-route", ("ns0",)),
    ],
)
def test_a_failure_tells_its_reason_in_place(
    two: Host, page: Any, fault: str, cause: str, where: tuple[str, ...]
) -> None:
    two.sh(fault)
    verdict = trace(page, "ns0", "10.0.0.3")
    said = two.fairlead("trace", "--format", "json", "ns0", "10.0.0.3", check=False).stdout
    wanted = json.loads(said)["Verdict"]
    assert verdict.startswith("✘ ")
    assert page.get_attribute("#result", "data-cause") == wanted["Cause"]
    assert wanted["Cause"] == cause
    assert wanted["Remedies"][0] in page.inner_text("#result .remedy >> nth=0")
    callout = " ".join(page.locator(".callout text:not(.remedy)").all_text_contents())
    assert callout == verdict
    # The words stand at what is at fault, and within the map.  One look: the picture may be drawn anew any moment.
    eventually(page, "document.querySelector('.node.fault, .port.fault')")
    fault_at, name, words, around, outer = page.evaluate("""() => {
        const place = (one) => one.getBoundingClientRect().toJSON();
        const fault = document.querySelector('.node.fault, .port.fault');
        return [place(fault), fault.closest('.node').dataset.name, place(document.querySelector('.callout path')),
            place(document.querySelector('.callout rect')), place(document.getElementById('map'))]; }""")
    assert name in where
    assert fault_at["left"] - 30 <= (words["left"] + words["right"]) / 2 <= fault_at["right"] + 30
    assert fault_at["top"] - 30 <= (words["top"] + words["bottom"]) / 2 <= fault_at["bottom"] + 60
    assert outer["left"] <= around["left"] < around["right"] <= outer["right"]
    assert outer["top"] <= around["top"] < around["bottom"] <= outer["bottom"]


def test_a_trace_that_cannot_be_says_why(page: Any) -> None:
    assert "nobody" in trace(page, "nobody", "ns1")
    assert page.get_attribute("#result", "data-state") == "refused"


# Keys, colours


def test_all_of_it_by_keyboard(two: Host, page: Any) -> None:
    page.evaluate("document.activeElement.blur()")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('node')"):
            break

    def here() -> str:
        return str(page.evaluate("document.activeElement.dataset?.name ?? document.activeElement.id"))

    def walk(keys: str, goal: str) -> None:
        for key in keys.split():
            page.keyboard.press(f"Arrow{key}")
            if here() == goal:
                return
        raise AssertionError(f"{here()} instead of {goal}")

    assert here() == "host"
    walk("Down Down", "br0") if here() != "br0" else None
    walk("Down Left Left Left", "ns0")
    page.keyboard.press("s")
    walk("Right", "ns1")
    page.keyboard.press("d")
    assert page.input_value("#from") == "ns0"
    assert page.input_value("#to") == "ns1"
    page.keyboard.press("t")
    page.wait_for_selector(TRACE_DONE)
    assert page.inner_text("#result .verdict").startswith("✔ ns1 (10.0.0.3) answers")
    page.keyboard.press("Escape")
    assert page.is_hidden("#result")
    page.keyboard.press("Enter")
    assert page.inner_text("#details h2") == "ns1"
    assert here() == "details"
    page.keyboard.press("Escape")
    assert here() == "ns1"
    page.keyboard.press("/")
    assert here() == "find"
    page.keyboard.type("10.0.0.4")
    page.keyboard.press("Enter")
    assert here() == "ns2"
    page.keyboard.press("?")
    assert page.is_visible("#keys")
    page.keyboard.press("Escape")
    assert page.is_hidden("#keys")
    before = page.get_attribute("#world", "transform")
    page.keyboard.press("+")
    assert page.get_attribute("#world", "transform") != before
    page.keyboard.press("0")
    assert page.get_attribute("#world", "transform") == before
    assert page.eval_on_selector_all(".node", "all => all.every((one) => one.getAttribute('aria-label'))")


def test_light_and_dark(page: Any) -> None:
    def brightness(what: str, name: str) -> float:
        colour = page.eval_on_selector(what, f"one => getComputedStyle(one)['{name}']")
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / 765

    for scheme, dark in (("light", False), ("dark", True)):
        page.emulate_media(color_scheme=scheme)
        assert (brightness("body", "background-color") < 0.3) == dark
        assert (brightness(".node.room .title", "fill") > 0.7) == dark


# Many

COUNT_LONG_TASKS = """() => {
  window.longTasks = 0;
  new PerformanceObserver((list) => { window.longTasks += list.getEntries().length; }).observe({ type: "longtask" });
}"""
"""Those for which nothing else happens on the page: more than 50 ms (W3C, Long Tasks API)."""


def long_tasks(page: Any) -> int:
    """How many there were since they are counted."""
    return int(page.evaluate("window.longTasks"))


def test_five_hundred_namespaces_are_shown_and_one_more_moves_nothing(host: Host, browser: Any) -> None:
    host.sh(
        "set -e; ip link add big type bridge; ip link set big up;"
        "seq 500 | sed 's/.*/netns add n&/' | ip -batch -;"
        "seq 500 | sed 's/.*/link add v& master big type veth peer name eth0 netns n&/' | ip -batch -;"
        # Some have no cable: so has one that is just made, and there must be a place for it.
        "seq 8 | sed 's/.*/netns add lone&/' | ip -batch -;"
        "for n in 1 333; do ip -n n$n addr add 10.9.0.$((n % 100))/24 dev eth0; ip -n n$n link set eth0 up;"
        "  ip link set v$n up; done; sysctl -qw net.bridge.bridge-nf-call-iptables=0",
        timeout=150,
    )
    with ui(host) as address, opened(browser, address) as page:
        eventually(page, "document.querySelectorAll('.node.namespace').length === 509")
        page.evaluate(COUNT_LONG_TASKS)
        page.evaluate(
            "() => { setTimeout(() => { const end = performance.now() + 100; while (performance.now() < end); }, 0); }"
        )
        eventually(page, "window.longTasks >= 1")  # They are counted.
        page.wait_for_timeout(3000)
        assert long_tasks(page) <= 4, "what does not change is not drawn again"
        layouts = page.evaluate("document.body.dataset.layouts")
        places = (
            "Object.fromEntries([...document.querySelectorAll('.node')]"
            ".map((one) => [one.dataset.id, one.getAttribute('transform')]))"
        )
        before = page.evaluate(places)
        host.sh("ip netns del n77; ip netns add m1; ip link add x1 master big type veth peer name eth0 netns m1")
        eventually(
            page, "document.querySelector('.node[data-name=m1]') && !document.querySelector('.node[data-name=n77]')"
        )
        after = page.evaluate(places)
        kept = before.keys() & after.keys()
        assert len(kept) >= 510
        assert {id_: before[id_] for id_ in kept} == {id_: after[id_] for id_ in kept}
        assert page.evaluate("document.body.dataset.layouts") == layouts
        # Who zooms sees it at once: twenty times in and out.
        took = page.evaluate("""async () => { const began = performance.now(); for (let n = 0; n < 20; n++) {
            document.getElementById(n % 2 ? 'out' : 'in').click(); await new Promise(requestAnimationFrame); }
            return (performance.now() - began) / 20; }""")
        assert took < 500, f"{took} ms for one picture"
        page.fill("#find", "n333")
        page.press("#find", "Enter")
        page.keyboard.press("Enter")
        assert page.inner_text("#details h2") == "n333"
        page.fill("#find", "")

        # So does who selects one with the mouse, and who traces from one to another.
        before_clicks = long_tasks(page)
        node(page, "n200").click()
        eventually(page, "document.querySelector('#details h2')?.textContent === 'n200'")
        page.keyboard.press("Escape")
        assert "n333 (10.9.0.33) answers" in trace(page, "n1", "n333")
        assert set(page.eval_on_selector_all(".node.lit", "all => all.map((one) => one.dataset.name)")) == {
            "n1",
            "big",
            "n333",
        }
        host.sh("ip netns del m1")
        eventually(page, "!document.querySelector('.node[data-name=m1]')")
        assert long_tasks(page) - before_clicks <= 20, "it answers between any two steps"


def test_what_a_changed_network_cuts_off_is_asked_for_again(two: Host, browser: Any) -> None:
    """Chromium gives up what it loads when an address or a link of the machine changes."""
    cut = {"view.js": 2, "style.css": 1, "live": 2, "trace": 1, "rules/host": 2}
    with ui(two) as address:
        page = browser.new_page()

        def cut_off(route: Any) -> None:
            name = route.request.url.removeprefix(address)
            if cut.get(name):
                cut[name] -= 1
                route.abort("internetdisconnected")
            else:
                route.continue_()

        page.route("**", cut_off)
        page.goto(address)
        page.wait_for_selector("body[data-ready]")
        assert page.is_hidden("#trouble")
        assert page.evaluate("getComputedStyle(document.querySelector('header')).display") == "flex"
        assert "ns1 (10.0.0.3) answers" in trace(page, "ns0", "ns1")
        node(page, "host").click()
        page.click("#details .rules summary")
        eventually(page, "document.querySelector('#details .rules').innerText.includes('table inet fairlead')")
        page.close()
    assert set(cut.values()) == {0}


def test_a_page_that_lacks_a_part_is_not_loaded_forever(two: Host, browser: Any) -> None:
    tries = []
    with ui(two) as address:
        page = browser.new_page()
        page.route("**/view.js", lambda route: (tries.append(route), route.abort()))
        page.goto(address)
        page.wait_for_timeout(13_000)
        page.close()
    assert len(tries) == 11


# Who may see it


@pytest.mark.skipif(not FIREFOX, reason="Firefox is not installed")
def test_the_page_in_firefox(two: Host) -> None:
    names = "[...document.querySelectorAll('.node')].map((one) => one.getAttribute('aria-label'))"
    heard = "window.heard = []; window.addEventListener('error', (event) => window.heard.push(event.message));"
    asked = "for (const [id, word] of [['from', 'ns0'], ['to', 'ns1']]) document.getElementById(id).value = word;"
    click = "const event = new MouseEvent('click', {bubbles: true});"
    click += "document.querySelector('.node[aria-label^=\"namespace ns0\"]').dispatchEvent(event);"
    with ui(two) as address:
        _, nodes, _, said, details, errors = in_firefox(
            two,
            address,
            f"{heard} return document.body.dataset.ready === undefined ? null : true",
            f"return {names}",
            f"{asked} document.getElementById('go').click(); return true",
            "const one = document.querySelector('#result[data-state=ok]'); return one && one.innerText",
            f"{click} const one = document.querySelector('#details:not([hidden])'); return one && one.innerText",
            "return window.heard",
        )
    assert any(name.startswith("namespace ns0: eth0 10.0.0.2/24") for name in nodes), nodes
    assert "✔ ns1 (10.0.0.3) answers" in said
    assert "10.0.0.2/24" in details
    assert errors == []


def test_nobody_else_can_read_it(two: Host, browser: Any) -> None:
    with ui(two) as address, opened(browser, address):
        base, token = address.rstrip("/").rsplit("/", 1)

        def status(path: str, *options: str) -> str:
            return two.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *options, base + path).stdout

        assert status(f"/{token}/") == "200"
        wrong = token[:-1] + ("y" if token.endswith("x") else "x")
        assert status("/") == status(f"/{wrong}/") == status("/live") == "403"
        assert status(f"/{token}/", "-H", "Host: rebound.example") == "403"
        assert status(f"/{token}/live", "-H", "Origin: http://evil.example", "--max-time", "5") == "403"
        # Only on loopback.
        port = base.rsplit(":", 1)[1]
        listening = {
            line.split()[3] for line in two.sh("ss -Hltn").splitlines() if line.split()[3].endswith(f":{port}")
        }
        assert listening == {f"127.0.0.1:{port}"}
        # Not even a page on the same machine that knows the address: the browser does not let it read.
        server = two.popen(
            "python3",
            "-m",
            "http.server",
            "--bind",
            "127.0.0.1",
            "8000",
            "--directory",
            str(two.directory / "run"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            other = browser.new_page()
            for _ in range(50):
                try:
                    other.goto("http://127.0.0.1:8000/")
                    break
                except Exception:
                    time.sleep(0.1)
            read = "url => fetch(url).then((answer) => answer.text()).catch((error) => 'refused: ' + error.message)"
            assert other.evaluate(read, "http://127.0.0.1:8000/").startswith("<!DOCTYPE")
            assert other.evaluate(read, address) == "refused: Failed to fetch"
            run = """url => new Promise((done) => {
                const one = document.createElement('script');
                Object.assign(one, { src: url, onload: () => done('ran'), onerror: () => done('refused') });
                document.head.append(one);
            })"""
            assert other.evaluate(run, f"{address}words.js") == "refused"
        finally:
            server.terminate()
            server.wait()


def test_a_daemon_that_went_away_is_told_of(two: Host, page: Any) -> None:
    two.sh(f"kill $(cat {two.run_dir}/daemon.pid)")
    page.locator("#trouble:not([hidden])").wait_for()
    assert "does not answer" in page.inner_text("#trouble")
    two.fairlead("netns", "add", "ns9")
    page.locator(".node[data-name=ns9]").wait_for()
    assert page.is_hidden("#trouble")
    become_equal(two, page)


def test_bad_usage_and_a_port_in_use(host: Host) -> None:
    host.fairlead("netns", "ls")
    for port, code in (("70000", 2), ("-1", 2), ("x", 2)):
        done = host.fairlead("ui", "--port", port, check=False)
        assert done.returncode == code, done.stderr
        assert len(done.stderr.splitlines()) <= 3
    with ui(host) as address:
        port = address.split(":")[2].split("/")[0]
        done = host.fairlead("ui", "--port", port, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"fairlead: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_rules_of_what_is_no_namespace(host: Host) -> None:
    host.fairlead("netns", "add", "ns0")
    for path, status in (("/run/netns/ns0", 200), ("", 200), ("/etc/passwd", 404), ("/nowhere", 404), ("%ff", 404)):
        url = f"http://x/fairlead/rules?namespace={path}"
        found = host.run(
            "curl", "-s", "-w", "\n%{http_code}", "--unix-socket", f"{host.run_dir}/fairlead.sock", url
        ).stdout.splitlines()
        assert found[-1] == str(status), found
