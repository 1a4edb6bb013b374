// The topology as the server tells it, kept up to date; and the graph that it is drawn from.

import { natural, plain, published, sign } from "./words.js";

export class Model {
  rooms = new Map();
  networks = [];
  published = [];
  masquerading = [];
  #counts = new Map();
  #rates = new Map();
  #time = 0;

  /** The whole, as a page gets it first. */
  load({ Topology, Traffic, Time }) {
    this.rooms = new Map(Topology.Namespaces.map((room) => [room.Id, room]));
    this.#counts.clear();
    this.#rates.clear();
    this.#time = Time;
    this.#take(Topology);
    this.#count(Traffic, 0);
  }

  /** What changed since. */
  change(message) {
    for (const id of message.Gone) {
      this.rooms.delete(id);
      this.#counts.delete(id);
      this.#rates.delete(id);
    }
    for (const room of message.Changed) this.rooms.set(room.Id, room);
    this.#take(message);
    this.#rates.clear();
    this.#count(message.Traffic, message.Time - this.#time);
    this.#time = message.Time;
  }

  #take(message) {
    this.networks = message.Networks ?? this.networks;
    this.published = message.Published ?? this.published;
    this.masquerading = message.Masquerading ?? this.masquerading;
  }

  #count(traffic, seconds) {
    for (const [id, ports] of Object.entries(traffic)) {
      const had = this.#counts.get(id) ?? {};
      for (const [name, numbers] of Object.entries(ports)) {
        const before = had[name];
        // Without a former number, or with a smaller one (another link by that name), there is no rate.
        if (before && seconds > 0 && numbers[0] >= before[0] && numbers[1] >= before[1]) {
          if (!this.#rates.has(id)) this.#rates.set(id, {});
          this.#rates.get(id)[name] = { rx: (numbers[0] - before[0]) / seconds, tx: (numbers[1] - before[1]) / seconds };
        }
        had[name] = numbers;
      }
      this.#counts.set(id, had);
    }
  }

  /** Bytes per second that an interface receives and sends, in the time before the last look. */
  rates(id, name) {
    return this.#rates.get(id)?.[name] ?? { rx: 0, tx: 0 };
  }

  /** Received and sent since the link was made: bytes, packets, dropped. */
  counts(id, name) {
    return this.#counts.get(id)?.[name] ?? [0, 0, 0, 0, 0, 0];
  }

  port(id, name) {
    return this.rooms.get(id)?.Interfaces.find((port) => port.Name === name);
  }

  /** By which word the daemon finds a namespace. */
  reference(room) {
    if (room.Kind === "host") return "host";
    if (room.Kind === "process") return String(room.Pids[0] ?? room.Path);
    const others = [...this.rooms.values()].filter((one) => one.Name === room.Name);
    return others.length === 1 ? room.Name : room.Path || room.Owner;
  }

  named(word) {
    return [...this.rooms.values()].find((room) => this.reference(room) === word);
  }

  publishedTo(room) {
    const found = new Map();
    for (const one of this.published) if (one.Namespace === room.Id) found.set(published(one), one);
    return found;
  }

  /** Whether what comes by this interface of the host leaves with another source. */
  masquerades(port) {
    if (port.Kind !== "bridge") return false;
    const inside = new Set(port.Addresses.map(network));
    return this.masquerading.some((one) => one.Source === port.Name || inside.has(one.Source));
  }
}

/** `172.17.0.1/16` → `172.17.0.0/16`; of IPv6 only whole groups, which is how bridges have them. */
function network(address) {
  const [text, length] = address.split("/");
  const bits = Number(length);
  if (text.includes(":")) {
    const [head, tail = ""] = text.split("::");
    const left = head.split(":").filter(Boolean), right = tail.split(":").filter(Boolean);
    const groups = text.includes("::") ? [...left, ...Array(8 - left.length - right.length).fill("0"), ...right] : left;
    const kept = groups.slice(0, bits / 16);
    while (kept.length && /^0+$/.test(kept.at(-1))) kept.pop();
    return `${kept.join(":")}::/${bits}`;
  }
  const value = text.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
  const base = value - (value % 2 ** (32 - bits));
  return `${[24, 16, 8, 0].map((shift) => Math.floor(base / 2 ** shift) % 256).join(".")}/${bits}`;
}

export const portKey = (room, name) => `${room}/${name}`;

/**
 * What is drawn: boxes for namespaces, bars for bridges, lines for cables, gathered in blocks.  A block is what is laid
 * out as one: a bridge with those namespaces that hang on it alone, or namespaces that hang on the same things.  So a
 * container that comes or goes moves nothing else.
 */
export function graph(model) {
  const rooms = [...model.rooms.values()];
  const ends = new Map();
  const bars = [];
  const boxes = new Map();
  for (const room of rooms) {
    const masters = new Set(room.Interfaces.map((port) => port.Master).filter(Boolean));
    const isBar = (port) => port.Kind === "bridge" || masters.has(port.Name);
    const names = new Set(room.Interfaces.map((port) => port.Name));
    const rows = [];
    for (const port of room.Interfaces) {
      if (isBar(port)) {
        const bar = { id: `bar:${portKey(room.Id, port.Name)}`, room, port, ports: [] };
        bar.ports = room.Interfaces.filter((one) => one.Master === port.Name);
        bars.push(bar);
        if (!port.Master) ends.set(portKey(room.Id, port.Name), bar.id);
      } else if (!(port.Master && names.has(port.Master)) && port.Kind !== "loopback") {
        rows.push(port);
        ends.set(portKey(room.Id, port.Name), `room:${room.Id}`);
      }
    }
    boxes.set(`room:${room.Id}`, { id: `room:${room.Id}`, room, rows, notes: notes(model, room) });
  }
  for (const bar of bars)
    for (const port of bar.ports) ends.set(portKey(bar.room.Id, port.Name), bar.id);
  const lines = cables(model, rooms, ends);
  return { boxes, bars, lines, blocks: blocks(boxes, bars, lines, model.rooms.get("host")) };
}

function notes(model, room) {
  const found = [...model.publishedTo(room).keys()];
  const shown = found.length > 4 ? [...found.slice(0, 3), `and ${found.length - 3} ports more`] : found;
  return room.Mark ? [...shown, room.Note] : shown;
}

/** Each cable once: from a bar or the host (`a`) to the other end (`b`). */
function cables(model, rooms, ends) {
  const found = new Map();
  const order = (end) => (ends.get(end).startsWith("bar:") ? 0 : end.startsWith("host/") ? 1 : 2);
  for (const room of rooms)
    for (const port of room.Interfaces)
      for (const [place, kind] of [[port.Peer, "veth"], [port.Parent, "parent"]]) {
        if (!place) continue;
        const here = portKey(room.Id, port.Name), there = portKey(place.Namespace, place.Interface);
        if (!ends.has(here) || !ends.has(there)) continue;
        const [a, b] = kind === "parent" ? [there, here]
          : order(here) < order(there) || (order(here) === order(there) && natural(here, there) < 0) ? [here, there] : [there, here];
        const id = `line:${a}|${b}`;
        const mark = port.Mark || found.get(id)?.mark || "";
        const dead = !port.Carries || found.get(id)?.dead;
        found.set(id, { id, a, b, from: ends.get(a), to: ends.get(b), kind, mark, dead });
      }
  return [...found.values()];
}

function blocks(boxes, bars, lines, host) {
  const near = new Map([...boxes.keys(), ...bars.map((bar) => bar.id)].map((id) => [id, new Set()]));
  const up = new Set();
  const uplinks = new Set((host?.Routes ?? []).filter((one) => one.Destination === "default").map((one) => `host/${one.Interface}`));
  for (const line of lines) {
    near.get(line.from).add(line.to);
    near.get(line.to).add(line.from);
    if (line.kind === "veth" && uplinks.has(line.a)) up.add(line.to);
  }
  const framed = new Set(bars.map((bar) => `room:${bar.room.Id}`));
  const found = new Map();
  const block = (id, first) => {
    if (!found.has(id)) found.set(id, { id, bar: null, members: [], up: false, ...first });
    return found.get(id);
  };
  for (const bar of bars) block(bar.id, { bar });
  for (const box of [...boxes.values()].sort((a, b) => natural(a.room.Name, b.room.Name))) {
    const around = [...near.get(box.id)].sort();
    const plainOnes = around.every((id) => id.startsWith("bar:") || id === "room:host");
    if (box.room.Kind === "host" || framed.has(box.id) || !plainOnes) block(box.id).members.push(box);
    else if (around.length === 1 && around[0].startsWith("bar:")) block(around[0]).members.push(box);
    else block(`group:${up.has(box.id) ? "up " : ""}${around.join(" ")}`, { up: up.has(box.id) }).members.push(box);
  }
  return [...found.values()];
}

/** One line that says what a box is, for those who hear the page. */
export function spoken(box) {
  const { room, rows, notes: extra } = box;
  const parts = rows.map((port) => [sign(port.Mark) + port.Name, ...port.Addresses.filter((one) => !one.startsWith("fe80:"))].join(" "));
  return `${room.Kind} ${room.Name}: ${[...parts, ...extra].join(", ") || "no interfaces"}`;
}

export { plain };
