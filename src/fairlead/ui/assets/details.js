// What is known of one namespace or bridge: addresses, routes, ports, rules, logs.

import { ask, persist } from "./ask.js";
import { html, $ } from "./dom.js";
import { portKey } from "./model.js";
import { MEANINGS, amount, kind, plain, published, quiet, rate, role, sign, vlans } from "./words.js";

export class Details {
  #id = null;
  #opener = null;
  #signature = "";
  #reader = null;

  constructor(model, { chooseEnd }) {
    this.model = model;
    this.pane = $("details");
    this.chooseEnd = chooseEnd;
  }

  get open() {
    return this.#id !== null;
  }

  /** Show a node: `room:ID` or `bar:ROOM/INTERFACE`. */
  show(id, opener) {
    this.close();
    this.#id = id;
    this.#opener = opener;
    this.pane.hidden = false;
    this.refresh();
    this.pane.focus({ preventScroll: true });
  }

  close() {
    if (this.#id === null) return;
    this.#id = null;
    this.#signature = "";
    this.#stop();
    this.pane.hidden = true;
    this.pane.replaceChildren();
    this.#opener?.focus({ preventScroll: true });
  }

  /** The model has moved: renew what is shown of it, leave rules and logs alone. */
  refresh() {
    if (this.#id === null) return;
    const { room, port } = this.#subject();
    if (!room || (this.#id.startsWith("bar:") && !port)) {
      this.#gone();
      return;
    }
    const facts = port ? this.#bar(room, port) : this.#room(room);
    const signature = facts.map((one) => one.outerHTML).join("");
    if (signature !== this.#signature) {
      this.#signature = signature;
      const old = this.pane.querySelector(".facts");
      const fresh = html("div", { class: "facts" }, facts);
      if (old) old.replaceWith(fresh);
      else this.pane.replaceChildren(this.#head(room, port), fresh, ...(port ? [] : this.#more(room)));
    }
    for (const cell of this.pane.querySelectorAll("[data-rate]")) {
      const [id, name] = JSON.parse(cell.dataset.rate);
      cell.textContent = traffic(this.model, id, name);
    }
  }

  #subject() {
    const [kind, key] = [this.#id.slice(0, 4), this.#id.slice(this.#id.indexOf(":") + 1)];
    if (kind === "room") return { room: this.model.rooms.get(key) };
    const slash = key.indexOf("/");
    return { room: this.model.rooms.get(key.slice(0, slash)), port: this.model.port(key.slice(0, slash), key.slice(slash + 1)) };
  }

  #gone() {
    this.#stop();
    this.#signature = "";
    const facts = this.pane.querySelector(".facts");
    facts?.replaceChildren(html("p", { class: "mark" }, "It is gone."));
  }

  #head(room, port) {
    const name = port ? port.Name : room.Name;
    return html("div", { class: "head" },
      html("h2", {}, name),
      html("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => this.close() }, "×"),
      port || room.Mark === "missing" ? "" : html("p", { class: "ends" },
        html("button", { type: "button", onclick: () => this.chooseEnd("from", room) }, "Trace from here"),
        html("button", { type: "button", onclick: () => this.chooseEnd("to", room) }, "Trace to here")));
  }

  #room(room) {
    const ports = this.model.publishedTo(room);
    const where = [role(room), room.Owner && room.Owner.slice(0, 12), room.Kind === "namespace" && room.Path].filter(Boolean).join(" · ");
    return [
      html("p", { class: "kind" }, where),
      ...mark(room),
      html("h3", {}, "Interfaces"),
      ...room.Interfaces.map((one) => this.#interface(room, one)),
      html("h3", {}, "Routes"),
      room.Routes.length ? html("table", { class: "routes" }, html("tbody", {}, room.Routes.map((one) => html("tr", { class: one.Mark },
        html("td", {}, sign(one.Mark) + one.Destination), html("td", {}, one.Gateway ? `via ${one.Gateway}` : one.Type === "unicast" ? "" : one.Type),
        html("td", {}, one.Interface ? `dev ${one.Interface}` : ""))))) : html("p", { class: "none" }, "none"),
      ...(room.Kind === "host" ? this.#nat() : [
        html("h3", {}, "Published ports"),
        ports.size ? html("ul", { class: "published" }, [...ports].map(([text, one]) => html("li", {}, `${text} (${one.Manager}, ${one.Rule})`)))
          : html("p", { class: "none" }, "none")]),
    ];
  }

  #nat() {
    const rows = [...this.model.published.map((one) => `${published(one)} of ${one.Address}`),
      ...this.model.masquerading.map((one) => `${one.Source} leaves as ${one.To || "the host"} (${one.Manager})`)];
    return [html("h3", {}, "Published ports and NAT"), rows.length ? html("ul", {}, [...new Set(rows)].map((text) => html("li", {}, text))) : html("p", { class: "none" }, "none")];
  }

  #bar(room, port) {
    const ports = room.Interfaces.filter((one) => one.Master === port.Name);
    const nets = this.model.networks.filter((one) => room.Kind === "host" && one.Interface === port.Name);
    return [
      html("p", { class: "kind" }, `bridge in ${room.Name}`),
      ...nets.map((net) => html("p", {}, `Network ${net.Name} (${net.Driver}${net.Internal ? ", internal" : ""}): ${net.Subnets.join(", ") || "no subnet"}${net.Gateways.length ? `, gateway ${net.Gateways.join(", ")}` : ""}`)),
      this.#interface(room, port),
      html("h3", {}, `Ports (${ports.length})`),
      ...ports.map((one) => this.#interface(room, one)),
    ];
  }

  #interface(room, port) {
    const peer = port.Peer ?? port.Parent;
    const other = peer && this.model.rooms.get(peer.Namespace);
    const about = [kind(port), quiet(port), port.Mac, port.Mtu && `mtu ${port.Mtu}`, port.Master && `port of ${port.Master}`,
      port.Network && `network ${port.Network}`, ...vlans(port), port.Isolated && "isolated"].filter(Boolean).join(", ");
    return html("div", { class: `interface ${port.Mark}`, "data-interface": port.Name },
      html("h4", {}, sign(port.Mark) + port.Name),
      html("p", { class: "addresses" }, port.Addresses.join("  ") || "no address"),
      port.MissingAddresses.length ? html("p", { class: "mark" }, `✗ ${port.MissingAddresses.join(" ")}`) : "",
      html("p", { class: "kind" }, about),
      peer ? html("p", { class: "kind" }, `${port.Peer ? "joined to" : "stands on"} ${peer.Interface} of ${other?.Name ?? "?"}`) : port.Hidden ? html("p", { class: "kind" }, "leads to a namespace that cannot be seen") : "",
      html("p", { class: "kind", "data-rate": JSON.stringify([room.Id, port.Name]) }),
      ...mark(port));
  }

  /** What is asked for only when somebody opens it. */
  #more(room) {
    const found = [];
    if (room.Mark !== "missing") found.push(section("Firewall rules", "rules", (body) => this.#rules(room, body)));
    if (room.Manager === "fairlead" && room.Kind === "container")
      found.push(section("Log", "logs", (body) => this.#logs(room, body), () => this.#stop()));
    return found;
  }

  async #rules(room, body) {
    try {
      const tables = await ask(`rules/${encodeURIComponent(room.Id)}`);
      const text = tables.map((one) => `table ${one.Family} ${one.Name}\n${one.Lines.join("\n").trimEnd()}`);
      const parts = [html("pre", {}, text.join("\n\n") || "no rules of nftables or iptables-nft inside")];
      if (room.Kind !== "host") parts.push(html("p", {}, "On the host, what names it:"), html("pre", {}, await this.#hostRules(room)));
      body.replaceChildren(...parts);
    } catch (error) {
      body.replaceChildren(html("p", { class: "mark" }, error.message));
    }
  }

  /** The host's rules with one of its addresses, or with its cable's other end. */
  async #hostRules(room) {
    const words = room.Interfaces.filter((one) => one.Kind !== "loopback")
      .flatMap((one) => [...one.Addresses.map(plain), one.Peer?.Namespace === "host" ? one.Peer.Interface : ""]).filter(Boolean);
    const tables = await ask("rules/host");
    const lines = tables.flatMap((one) => one.Lines.filter((line) => words.some((word) => line.split(/[\s",{}]+/).includes(word)))
      .map((line) => `${one.Family} ${one.Name}: ${line.trim()}`));
    for (const [text, one] of this.model.publishedTo(room)) lines.push(`${one.Rule}: ${text}`);
    return lines.join("\n") || "nothing";
  }

  async #logs(room, body) {
    const out = html("pre", { class: "log", tabindex: 0 });
    body.replaceChildren(out);
    this.#stop();
    const { signal } = (this.#reader = new AbortController());
    try {
      await persist((heard) => this.#follow(room, out, signal, heard));
      if (!out.textContent) out.textContent = "nothing was written";
    } catch (error) {
      if (!signal.aborted) body.append(html("p", { class: "mark" }, error.message));
    }
  }

  /** The last lines, and what follows them; `heard` is called when there is something. */
  async #follow(room, out, signal, heard) {
    const answer = await fetch(`logs/${encodeURIComponent(room.Owner)}`, { signal });
    if (!answer.ok) throw new Error((await answer.json()).message);
    const decoder = new TextDecoder();
    let text = "";
    for (let stream = answer.body.getReader(); ;) {
      const { done, value } = await stream.read();
      if (done) return;
      heard();
      text += decoder.decode(value, { stream: true });
      if (text.length > 200000) text = text.slice(-100000);
      const below = out.scrollTop + out.clientHeight >= out.scrollHeight - 4;
      out.textContent = text;
      if (below) out.scrollTop = out.scrollHeight;
    }
  }

  #stop() {
    this.#reader?.abort();
    this.#reader = null;
  }
}

function section(title, name, opened, closed) {
  const body = html("div", {});
  const element = html("details", { class: name }, html("summary", {}, title), body);
  element.addEventListener("toggle", () => (element.open ? opened(body) : closed?.()));
  return element;
}

function mark(thing) {
  if (!thing.Mark && !thing.Note) return [];
  return [html("p", { class: "mark" }, [sign(thing.Mark) + (MEANINGS[thing.Mark] ?? ""), thing.Note].filter(Boolean).join(": "))];
}

function traffic(model, id, name) {
  const { rx, tx } = model.rates(id, name);
  const [rxBytes, txBytes, , , rxDropped, txDropped] = model.counts(id, name);
  const dropped = rxDropped + txDropped;
  return `↓ ${rate(rx)} ↑ ${rate(tx)}, in all ↓ ${amount(rxBytes)} ↑ ${amount(txBytes)}${dropped ? `, ${dropped} dropped` : ""}`;
}
