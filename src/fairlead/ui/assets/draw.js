// The picture, as SVG.  What is as before is not touched: an element is made anew only when what it shows changes.

import { svg, $ } from "./dom.js";
import { portKey, spoken } from "./model.js";
import { rate } from "./words.js";

const BUSY = 60; // More moving lines than this would only keep the processor busy.

export class Drawing {
  #nodes = new Map();
  #lines = new Map();
  #lit = new Set();
  #fault = null;
  #ends = { from: null, to: null };
  picture = null;

  /** Show a picture of the model. */
  show(picture, model) {
    this.picture = picture;
    this.#drawNodes(picture, model);
    this.#drawLines(picture, model);
    this.#mark();
  }

  element(id) {
    return this.#nodes.get(id)?.element;
  }

  nodes() {
    return [...this.#nodes.values()].map((node) => node.element);
  }

  /** Light these, by id: `room:…`, `bar:…`, `port:…`; a port's cable is lit with it. */
  light(ids) {
    for (const id of ids) this.#lit.add(id);
    this.#mark();
  }

  fault(id) {
    this.#fault = id;
    this.#mark();
  }

  dark() {
    this.#lit.clear();
    this.#fault = null;
    this.#mark();
  }

  ends(from, to) {
    this.#ends = { from, to };
    this.#mark();
  }

  #drawNodes(picture, model) {
    const wanted = new Map([...picture.bars, ...picture.boxes]);
    for (const [id, node] of this.#nodes)
      if (!wanted.has(id)) {
        node.element.remove();
        this.#nodes.delete(id);
      }
    for (const [id, one] of wanted) {
      const isBar = id.startsWith("bar:");
      const { x, y, ...rest } = one;
      const signature = JSON.stringify(isBar ? [rest.title, rest.words, rest.cells, rest.width, rest.port.Mark] : [rest.title, rest.kind, rest.chips, rest.small, rest.width, rest.height, rest.room.Mark, rest.form]);
      let node = this.#nodes.get(id);
      if (!node) {
        node = { element: svg("g", { tabindex: -1, role: "button", "data-id": id }) };
        this.#nodes.set(id, node);
        $("nodes").append(node.element);
      }
      const { element } = node;
      if (node.signature !== signature) {
        node.signature = signature;
        element.replaceChildren(...(isBar ? bar(one) : box(one)));
        element.setAttribute("class", isBar ? `node bar ${one.port.Mark}` : `node room ${one.room.Kind} ${one.form} ${one.room.Mark}`);
        element.dataset.name = isBar ? one.port.Name : one.room.Name;
        element.dataset.room = one.room.Id;
      }
      const said = isBar ? `bridge ${one.port.Name}: ${[...one.words, `${one.ports.length} ports`].join(", ")}` : spoken(one);
      if (node.said !== said) {
        node.said = said;
        element.setAttribute("aria-label", said);
      }
      const place = `translate(${round(x)},${round(y)})`;
      if (node.place !== place) {
        node.place = place;
        element.setAttribute("transform", place);
      }
    }
    if (!this.nodes().some((element) => element.tabIndex === 0)) this.element("room:host")?.setAttribute("tabindex", 0);
  }

  #drawLines(picture, model) {
    const wanted = new Map([...picture.frame.inside.map((line) => [line.id, line]), ...picture.lines.map((line) => [line.id, line])]);
    for (const [id, line] of this.#lines)
      if (!wanted.has(id)) {
        line.element.remove();
        line.label?.remove();
        this.#lines.delete(id);
      }
    for (const [id, one] of wanted) {
      let line = this.#lines.get(id);
      if (!line) {
        line = { element: svg("path", { "data-id": id }) };
        this.#lines.set(id, line);
        $("lines").append(line.element);
      }
      if (line.d !== one.d) {
        line.d = one.d;
        line.element.setAttribute("d", one.d);
      }
      line.one = one;
      if (one.a) this.#traffic(line, one, model, wanted.size < BUSY);
      else line.kind = "inside";
    }
  }

  #traffic(line, one, model, moving) {
    const [room, name] = split(one.b);
    const { rx, tx } = model.rates(room, name);
    const bits = (rx + tx) * 8;
    const busy = bits >= 1000;
    line.kind = `cable ${one.kind} ${one.mark} ${one.dead ? "dead" : ""} ${busy ? "busy" : ""} ${busy && moving ? "moving" : ""}`;
    const width = busy ? Math.min(1.5 + Math.log10(bits / 1000) * 0.9, 8) : 1.5;
    line.element.style.setProperty("--width", String(round(width)));
    const text = busy ? (one.narrow ? rate(rx + tx) : `↓ ${rate(rx)}  ↑ ${rate(tx)}`) : "";
    if (text && !line.label) {
      line.label = svg("text", { class: "rate", "data-line": one.id });
      $("labels").append(line.label);
    }
    if (!line.label) return;
    if (!text) {
      line.label.remove();
      line.label = null;
      return;
    }
    line.label.textContent = text;
    line.label.setAttribute("x", round(one.x + 6));
    line.label.setAttribute("y", round(one.y + 4));
  }

  #mark() {
    for (const [id, { element }] of this.#nodes) {
      element.classList.toggle("lit", this.#lit.has(id));
      element.classList.toggle("fault", this.#fault === id);
      element.classList.toggle("from", this.#ends.from === element.dataset.room && id.startsWith("room:"));
      element.classList.toggle("to", this.#ends.to === element.dataset.room && id.startsWith("room:"));
      if (this.#lit.size || this.#fault || element.dataset.marked) {
        element.dataset.marked = this.#lit.size ? "1" : "";
        for (const part of element.querySelectorAll("[data-port]")) {
          part.classList.toggle("lit", this.#lit.has(`port:${part.dataset.port}`));
          part.classList.toggle("fault", this.#fault === `port:${part.dataset.port}`);
        }
      }
    }
    for (const { element, one, kind } of this.#lines.values()) {
      const lit = one.a ? this.#lit.has(`port:${one.a}`) || this.#lit.has(`port:${one.b}`) : this.#lit.has(`port:${one.bar.slice(4)}`);
      element.setAttribute("class", `${kind} ${lit ? "lit" : ""}`.replace(/\s+/g, " ").trim());
    }
  }
}

const round = (value) => Math.round(value * 10) / 10;

function split(key) {
  const at = key.indexOf("/");
  return [key.slice(0, at), key.slice(at + 1)];
}

function box(one) {
  const chips = one.chips.map((chip) =>
    svg("g", { class: `port ${chip.port.Mark} ${chip.port.Carries ? "" : "quiet"}`, "data-port": portKey(one.room.Id, chip.port.Name), "data-interface": chip.port.Name },
      svg("rect", { x: round(chip.x), y: 6, width: round(chip.width), height: one.high, rx: 3 }),
      svg("text", { class: "name", x: round(chip.x + 8), y: 21 }, chip.title),
      chip.lines.map((text, index) => svg("text", { x: round(chip.x + 8), y: 35 + index * 14 }, text)),
      chip.port.Note ? svg("title", {}, chip.port.Note) : null));
  const y = one.form === "small" ? 15 : (one.high ? one.high + 8 : 0) + 18;
  return [
    svg("rect", { class: "frame", width: round(one.width), height: one.height, rx: 6 }),
    ...chips,
    svg("text", { class: "title", x: one.form === "small" ? 7 : 12, y }, one.title, one.kind ? svg("tspan", { class: "kind", dx: 8 }, one.kind) : ""),
    ...one.small.map((text, index) => svg("text", { class: "note", x: one.form === "small" ? 7 : 12, y: y + 14 + index * 14 }, text)),
    ...(one.room.Note ? [svg("title", {}, one.room.Note)] : []),
  ];
}

function bar(one) {
  let x = 10;
  const words = one.words.map((text, index) => svg("tspan", { dx: 10, class: index ? "kind" : "" }, text));
  return [
    svg("rect", { class: "frame", width: round(one.width), height: one.height, rx: 3 }),
    svg("text", { x, y: 18 }, svg("tspan", { class: "title" }, one.title), words),
    ...one.cells.map((cell) =>
      svg("g", { class: `port ${cell.port.Mark} ${cell.port.Carries ? "" : "quiet"}`, "data-port": cell.key, "data-interface": cell.port.Name },
        svg("rect", { x: round(cell.x), y: 25, width: round(cell.width), height: 21, rx: 2 }),
        svg("text", { x: round(cell.x + 5), y: 39 }, cell.text),
        svg("title", {}, [cell.port.Name, cell.port.Note].filter(Boolean).join(": ")))),
    ...(one.port.Note ? [svg("title", {}, one.port.Note)] : []),
  ];
}
