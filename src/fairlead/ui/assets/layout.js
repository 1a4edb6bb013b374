// Where everything is.  Blocks are laid out by dagre; within a block there is a grid whose places are kept, so that what
// is there stays where it is when others come and go.  dagre runs only when a block's size, or what joins blocks, changes.

import dagre from "./vendor/dagre.js";
import { portKey } from "./model.js";
import { addresses, natural, qualities, quiet, role, sign } from "./words.js";

const COMPACT = 40; // With more namespaces than this a box is a name and an address.
const ROW = 6; // So many hang on a bar side by side, each below its port; more are a grid.
const GAP = 18;
const CHIP_LINE = 14;
const MAX_CHIP = 190;

const context = document.createElement("canvas").getContext("2d");
const widths = new Map();

export function measure(text, bold = false) {
  const key = (bold ? "b" : "r") + text;
  let width = widths.get(key);
  if (width === undefined) {
    context.font = `${bold ? "600 13px" : "11.5px"} ui-sans-serif, system-ui, sans-serif`;
    width = context.measureText(text).width;
    if (widths.size > 20000) widths.clear();
    widths.set(key, width);
  }
  return width;
}

const clipped = (text, most) => {
  if (measure(text) <= most) return text;
  let cut = text;
  while (cut && measure(`${cut}…`) > most) cut = cut.slice(0, -1);
  return `${cut}…`;
};

export class Layout {
  #slots = new Map(); // block → room → place in the grid
  #columns = new Map();
  #signature = "";
  #centres = new Map();
  runs = 0; // how often dagre was asked

  /** Gives every box and bar of a graph its place, and every line its path. */
  place(graph, model) {
    const compact = model.rooms.size > COMPACT;
    const sized = graph.blocks.map((block) => this.#block(block, model, compact, graph));
    this.#arrange(sized, graph);
    const picture = { compact, boxes: new Map(), bars: new Map(), ports: new Map(), lanes: new Map() };
    for (const block of sized) spread(block, this.#centres.get(block.id), picture);
    for (const id of this.#slots.keys()) if (!sized.some((block) => block.id === id)) this.#slots.delete(id);
    picture.lines = graph.lines.map((line) => ({ ...line, ...path(line, picture) }));
    picture.frame = frame(picture, graph);
    return picture;
  }

  #block(block, model, compact, graph) {
    const boxes = block.members.map((box) => (compact && box.room.Kind !== "host" ? small(box) : full(box, model)));
    const grid = block.bar || block.id.startsWith("group:");
    const columns = grid ? this.#grid(block.id, boxes, compact) : Math.max(boxes.length, 1);
    const single = columns === Infinity || !grid;
    const slots = this.#slots.get(block.id) ?? new Map();
    const cellWidth = Math.max(60, ...boxes.map((box) => box.width));
    const cellHeight = Math.max(30, ...boxes.map((box) => box.height));
    const used = boxes.map((box) => slots.get(box.id) ?? 0);
    const places = Math.max(0, ...used.map((slot) => slot + 1));
    const across = single ? Math.max(places, boxes.length) : columns;
    const down = single ? 1 : Math.ceil(places / columns);
    const bar = block.bar ? barOf(block.bar, model, single, boxes, graph) : null;
    const drop = bar ? (boxes.length ? 56 : 0) : 0;
    const gridWidth = boxes.length ? across * cellWidth + (across - 1) * GAP + (single ? 0 : GAP) : 0;
    const extras = bar ? bar.extras.reduce((sum, cell) => sum + cell.width + 6, 0) : 0;
    // Beside a row's own ports; a grid's have none in the picture, so there the bar itself has room for them.
    const beside = single && extras ? gridWidth + GAP + extras : gridWidth;
    const width = Math.max(beside, bar?.least ?? 0, bar ? extras + 20 : 0, 40);
    const height = (bar?.height ?? 0) + drop + (boxes.length ? down * cellHeight + (down - 1) * GAP : 0);
    return { id: block.id, up: block.up, bar, boxes, slots, single, columns: across, cellWidth, cellHeight, drop, gridWidth, width, height };
  }

  /** Gives new members a free place; Infinity: all in one row. */
  #grid(id, boxes, compact) {
    const count = boxes.length;
    const columns = count <= ROW ? Infinity : count <= 24 ? 6 : count <= 120 ? 10 : count <= 320 ? 14 : 18;
    let slots = this.#slots.get(id);
    const fewer = slots && count < slots.size / 2;
    if (!slots || this.#columns.get(id) !== `${columns} ${compact}` || fewer) slots = new Map();
    const here = new Set(boxes.map((box) => box.id));
    for (const one of slots.keys()) if (!here.has(one)) slots.delete(one);
    const taken = new Set(slots.values());
    let next = 0;
    for (const box of [...boxes].sort((a, b) => natural(a.room.Name, b.room.Name))) {
      if (slots.has(box.id)) continue;
      while (taken.has(next)) next += 1;
      slots.set(box.id, next);
      taken.add(next);
    }
    this.#slots.set(id, slots);
    this.#columns.set(id, `${columns} ${compact}`);
    return columns;
  }

  #arrange(blocks, graph) {
    const within = new Map();
    for (const block of blocks) {
      if (block.bar) within.set(block.bar.id, block.id);
      for (const box of block.boxes) within.set(box.id, block.id);
    }
    const edges = new Map();
    const join = (a, b) => a && b && a !== b && edges.set(`${a}\n${b}`, [a, b]);
    for (const bar of graph.bars) join(within.get(`room:${bar.room.Id}`), within.get(bar.id));
    const ups = new Set(blocks.filter((block) => block.up).map((block) => block.id));
    for (const line of graph.lines) {
      const a = within.get(line.from), b = within.get(line.to);
      if (ups.has(b)) join(b, a);
      else if (!edges.has(`${b}\n${a}`)) join(a, b);
    }
    const signature = JSON.stringify([blocks.map((one) => [one.id, Math.ceil(one.width), Math.ceil(one.height)]), [...edges.keys()]]);
    if (signature === this.#signature) return;
    this.#signature = signature;
    this.runs += 1;
    const wanted = new dagre.graphlib.Graph();
    wanted.setGraph({ rankdir: "TB", nodesep: 36, ranksep: 64, marginx: 20, marginy: 20 });
    wanted.setDefaultEdgeLabel(() => ({}));
    for (const block of blocks) wanted.setNode(block.id, { width: block.width, height: block.height });
    for (const [a, b] of edges.values()) wanted.setEdge(a, b);
    dagre.layout(wanted);
    this.#centres = hung(blocks, new Map(blocks.map((block) => [block.id, wanted.node(block.id)])));
  }
}

/** dagre sets what has one rank on one middle line; here it hangs from one upper line, so that bars are side by side. */
function hung(blocks, centres) {
  const heights = new Map();
  for (const block of blocks) {
    const { y } = centres.get(block.id);
    heights.set(y, Math.max(heights.get(y) ?? 0, block.height));
  }
  return new Map(blocks.map((block) => {
    const { x, y } = centres.get(block.id);
    const half = heights.get(y) / 2;
    return [block.id, { x, y: y - half + block.height / 2, clear: y + half }];
  }));
}

/** A box with a chip for each interface, the name below, and what is published to it. */
function full(box, model) {
  const chips = box.rows.map((port) => {
    const defaults = box.room.Routes.filter((one) => one.Destination === "default" && one.Interface === port.Name)
      .map((one) => `${sign(one.Mark)}default${one.Gateway ? ` via ${one.Gateway}` : ""}`);
    const lines = [...addresses(port), ...port.MissingAddresses.map((one) => `✗ ${one}`), qualities(model, box.room, port).join(", "),
      ...new Set(defaults)].filter(Boolean).map((text) => clipped(text, MAX_CHIP));
    const title = sign(port.Mark) + port.Name;
    const width = Math.max(measure(title, true), ...lines.map((text) => measure(text))) + 16;
    return { port, title, lines, width, height: 20 + CHIP_LINE * lines.length };
  });
  const high = Math.max(0, ...chips.map((chip) => chip.height));
  const title = sign(box.room.Mark) + box.room.Name;
  const kind = box.room.Kind === "host" ? "" : role(box.room);
  const small = box.notes.map((text) => clipped(text, 260));
  const width = 12 + Math.max(chips.reduce((sum, chip) => sum + chip.width + 6, -6), measure(title, true) + 12 + measure(kind),
    ...small.map((text) => measure(text)), 60);
  return { ...box, form: "full", chips, high, title, kind, small, width: width + 12, height: (high ? high + 8 : 0) + 26 + small.length * CHIP_LINE + 4 };
}

/** A name and an address. */
function small(box) {
  const first = box.rows.find((port) => addresses(port).length);
  const mark = box.room.Mark || box.rows.find((port) => port.Mark)?.Mark || "";
  const broken = box.rows.map(quiet).find(Boolean) ?? "";
  const under = [first ? addresses(first)[0] : "no address", broken].filter(Boolean).join(", ");
  const title = clipped(sign(mark) + box.room.Name, 118);
  return { ...box, form: "small", chips: [], title, kind: "", small: [clipped(under, 132)], width: 146, height: 36 };
}

function barOf(bar, model, single, boxes, graph) {
  const words = [...addresses(bar.port), ...bar.port.MissingAddresses.map((one) => `✗ ${one}`), qualities(model, bar.room, bar.port).join(", ")].filter(Boolean);
  const title = sign(bar.port.Mark) + bar.port.Name;
  const members = new Set(boxes.map((box) => box.id));
  const inner = new Map();
  for (const line of graph.lines) if (line.from === bar.id && members.has(line.to)) inner.set(line.a, line.to);
  const cells = bar.ports.map((port) => {
    const key = portKey(bar.room.Id, port.Name);
    const state = quiet(port);
    const text = `${sign(port.Mark)}${port.Name}${state ? ` (${state})` : ""}`;
    return { port, key, text, width: measure(text) + 10, box: inner.get(key) };
  });
  // In a grid a cable needs no port of its own in the picture.
  const extras = single ? cells.filter((cell) => !cell.box) : cells.filter((cell) => !cell.box).slice(0, 24);
  const least = measure(title, true) + words.reduce((sum, text) => sum + measure(text) + 12, 0) + 24;
  return { ...bar, title, words, cells: single ? cells : extras, extras, least, height: !single || cells.length ? 46 : 28 };
}

/** Turn a block's place into the places of what is in it. */
function spread(block, centre, picture) {
  const left = centre.x - block.width / 2, top = centre.y - block.height / 2;
  const barHeight = block.bar?.height ?? 0;
  const at = new Map();
  for (const box of block.boxes) {
    const slot = block.slots.get(box.id) ?? block.boxes.indexOf(box);
    const column = slot % block.columns, row = Math.floor(slot / block.columns);
    const x = left + (block.single ? 0 : GAP) + column * (block.cellWidth + GAP) + (block.single ? (block.cellWidth - box.width) / 2 : 0);
    const y = top + barHeight + block.drop + row * (block.cellHeight + GAP);
    const placed = { ...box, x, y };
    picture.boxes.set(box.id, placed);
    at.set(box.id, placed);
    let chipX = x + 12;
    for (const chip of placed.chips) {
      chip.x = chipX - x;
      chipX += chip.width + 6;
      picture.ports.set(portKey(box.room.Id, chip.port.Name),
        { x: x + chip.x + chip.width / 2, top: y + 6, bottom: y + box.height, left: x, right: x + box.width, node: box.id });
    }
    for (const port of box.form === "small" ? box.rows : [])
      picture.ports.set(portKey(box.room.Id, port.Name), { x: x + box.width / 2, top: y, bottom: y + box.height, left: x, right: x + box.width, node: box.id });
    if (!block.single && block.bar) picture.lanes.set(box.id, { x: x - GAP / 2, y: y + box.height / 2 });
  }
  if (!block.bar) return;
  const bar = { ...block.bar, x: left, y: top, width: block.width };
  picture.bars.set(bar.id, bar);
  const key = portKey(bar.room.Id, bar.port.Name);
  if (!bar.port.Master) picture.ports.set(key, { x: centre.x, top, bottom: top + bar.height, left, right: left + bar.width, node: bar.id });
  let free = left + (block.single && block.boxes.length ? block.gridWidth + GAP : 10);
  bar.cells = bar.cells.map((cell) => {
    const box = cell.box && at.get(cell.box);
    const width = box ? Math.min(cell.width, block.cellWidth) : cell.width;
    // Below each other, a port and the interface at the other end of its cable.
    const peer = box && cell.port.Peer && picture.ports.get(portKey(cell.port.Peer.Namespace, cell.port.Peer.Interface));
    const x = box ? (peer?.x ?? box.x + box.width / 2) - width / 2 : free;
    if (!box) free += width + 6;
    // A cable to elsewhere goes straight down beside what hangs on the bar and its neighbours, and only then turns.
    const clear = box ? 0 : centre.clear;
    picture.ports.set(cell.key, { x: x + width / 2, top, bottom: top + bar.height, left, right: left + bar.width, node: bar.id, clear });
    return { ...cell, x: x - left, width, text: clipped(cell.text, width - 6) };
  });
  for (const port of bar.ports) {
    const one = portKey(bar.room.Id, port.Name);
    if (!picture.ports.has(one)) picture.ports.set(one, { x: centre.x, top, bottom: top + bar.height, left, right: left + bar.width, node: bar.id, shared: true });
  }
}

/** A line's path, and where its words stand. */
function path(line, picture) {
  const a = picture.ports.get(line.a), b = picture.ports.get(line.b);
  if (!a || !b) return { d: "", x: 0, y: 0 };
  const lane = picture.lanes.get(b.node);
  if (lane && a.node.startsWith("bar:") && a.shared) {
    return { d: `M${lane.x},${a.bottom}V${lane.y}H${b.left}`, x: lane.x + 4, y: lane.y - 22, narrow: true };
  }
  let ax = a.x, bx = b.x;
  if (a.shared) ax = Math.min(Math.max(b.x, a.left + 8), a.right - 8);
  if (b.shared) bx = Math.min(Math.max(a.x, b.left + 8), b.right - 8);
  if (a.bottom <= b.top) return curve(ax, a.bottom, bx, b.top, a.clear);
  if (b.bottom <= a.top) return curve(bx, b.bottom, ax, a.top, b.clear);
  const high = Math.min(a.top, b.top) - 36;
  return { d: `M${ax},${a.top}C${ax},${high} ${bx},${high} ${bx},${b.top}`, x: (ax + bx) / 2, y: high + 10 };
}

/** Straight down to `clear`, then in a curve. */
function curve(x1, y1, x2, y2, clear = 0) {
  const turn = clear > y1 && clear < y2 ? clear : y1;
  const middle = (turn + y2) / 2;
  const d = Math.abs(x1 - x2) < 1 ? `M${x1},${y1}V${y2}` : `M${x1},${y1}V${turn}C${x1},${middle} ${x2},${middle} ${x2},${y2}`;
  return { d, x: (x1 + x2) / 2, y: middle };
}

/** Around everything there is. */
function frame(picture, graph) {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const one of [...picture.boxes.values(), ...picture.bars.values()]) {
    left = Math.min(left, one.x);
    top = Math.min(top, one.y);
    right = Math.max(right, one.x + one.width);
    bottom = Math.max(bottom, one.y + one.height);
  }
  // The host reaches its own bridges without a cable.
  const inside = graph.bars.map((bar) => {
    const box = picture.boxes.get(`room:${bar.room.Id}`), drawn = picture.bars.get(bar.id);
    if (!box || !drawn) return null;
    const down = box.y + box.height <= drawn.y;
    return { id: `inside:${bar.id}`, bar: bar.id, room: `room:${bar.room.Id}`,
      ...(down ? curve(box.x + box.width / 2, box.y + box.height, drawn.x + drawn.width / 2, drawn.y)
        : curve(drawn.x + drawn.width / 2, drawn.y + drawn.height, box.x + box.width / 2, box.y)) };
  }).filter(Boolean);
  return { x: left, y: top, width: right - left, height: bottom - top, inside };
}
