// A trace: two ends are picked, one probe is sent, and its way lights up in the picture, hop by hop.

import { ask } from "./ask.js";
import { html, svg, $ } from "./dom.js";
import { portKey } from "./model.js";
import { measure } from "./layout.js";
import { hop as written } from "./words.js";

const STEP = 180; // Milliseconds from hop to hop…
const WHOLE = 5000; // …and for all of them at most.
const DIRECTIONS = { request: "Request", reply: "Answer", error: "Error" };

export class Trace {
  #run = 0;
  extent = null; // of the callout
  #callout = null;

  constructor(model, drawing, view) {
    Object.assign(this, { model, drawing, view });
    $("trace").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    for (const id of ["from", "to"]) $(id).addEventListener("input", () => this.#showEnds());
  }

  get open() {
    return !$("result").hidden;
  }

  choose(end, room) {
    $(end).value = this.model.reference(room);
    this.#showEnds();
  }

  get complete() {
    return Boolean($("from").value.trim() && $("to").value.trim());
  }

  /** The boxes whose names can be chosen. */
  refresh() {
    const names = [...this.model.rooms.values()].filter((room) => room.Mark !== "missing").map((room) => this.model.reference(room));
    const text = names.join("\n");
    if (text !== this.names) {
      this.names = text;
      $("places").replaceChildren(...names.map((name) => html("option", { value: name })));
    }
    this.#showEnds();
    if (this.#callout) this.#place();
  }

  forget() {
    this.#run += 1;
    this.#callout = null;
    this.extent = null;
    $("result").hidden = true;
    $("result").replaceChildren();
    $("callouts").replaceChildren();
    this.drawing.dark();
  }

  async send() {
    this.forget();
    const run = this.#run;
    const port = Number($("port").value) || 0;
    const protocol = $("protocol").value || (port ? "tcp" : "icmp");
    const asked = { Source: $("from").value.trim(), Destination: $("to").value.trim(), Port: port, Protocol: protocol };
    $("result").hidden = false;
    $("result").dataset.state = "asking";
    $("result").replaceChildren(html("p", { class: "verdict", role: "status" }, `${asked.Source} → ${asked.Destination}: on its way…`));
    $("go").disabled = true;
    try {
      const found = await ask("trace", asked);
      if (run === this.#run) await this.#show(found, run);
    } catch (error) {
      if (run === this.#run) this.#refused(error.message);
    } finally {
      $("go").disabled = false;
    }
  }

  #refused(message) {
    $("result").dataset.state = "refused";
    $("result").replaceChildren(closer(this), html("p", { class: "verdict failed", role: "alert" }, message));
  }

  async #show(found, run) {
    const hops = found.Hops.filter((one) => !(one.Kind === "rule" && ["jump", "goto"].includes(one.Verdict)));
    const items = list(hops);
    const list_ = html("ol", { class: "hops", tabindex: 0, "aria-label": "Hops" }, items.all);
    $("result").dataset.state = "lighting";
    $("result").replaceChildren(closer(this), html("div", { class: "answer" }), list_);
    this.drawing.light([`room:${found.SourceRoom}`]);
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const pause = still ? 0 : Math.min(STEP, WHOLE / Math.max(hops.length, 1));
    for (const [index, one] of hops.entries()) {
      if (pause) await new Promise((done) => setTimeout(done, pause));
      if (run !== this.#run) return;
      this.drawing.light(touched(one));
      items.of[index - 1]?.classList.remove("now");
      items.of[index].classList.add("now", "lit");
      list_.scrollTop = items.of[index].offsetTop - list_.offsetTop - 40;
    }
    items.of.at(-1)?.classList.remove("now");
    this.#verdict(found, hops);
  }

  #verdict(found, hops) {
    const { Ok: ok, Sentence: sentence, Remedies: remedies } = found.Verdict;
    $("result").dataset.state = ok ? "ok" : "failed";
    $("result").dataset.cause = found.Verdict.Cause;
    const name = !found.Name?.Name ? "" : found.Name.Addresses?.length ? `${found.Name.Name} is ${found.Name.Addresses[0]}, says ${found.Name.Server}`
      : `the name ${found.Name.Name} does not resolve here (${found.Name.Problem})`;
    $("result").querySelector(".answer").replaceChildren(
      html("p", { class: `verdict ${ok ? "ok" : "failed"}`, role: "status" }, `${ok ? "✔" : "✘"} ${sentence}`),
      ...remedies.map((line, index) => html("p", { class: "remedy" }, index ? "or: " : "remedy: ", html("code", {}, line), copier(line))),
      ...[name, ...found.Notes].filter(Boolean).map((text) => html("p", { class: "kind" }, text)));
    this.#callout = { ok, sentence, remedy: remedies[0], at: ok ? [`room:${arrival(found, hops)}`] : trouble(found, hops) };
    this.#place();
    this.view.extent(this.drawing.picture.frame, this.extent);
    const words = document.querySelector(".callout");
    if (words) this.view.reveal(words);
  }

  /** The reason stands where it happened, on that side where it hides the least. */
  #place() {
    const { ok, sentence, remedy, at } = this.#callout;
    const spot = at.map((id) => ({ id, ...this.#spot(id) })).find((one) => one.x !== undefined);
    if (!spot) {
      $("callouts").replaceChildren();
      this.extent = null;
      return;
    }
    // A small box has no interfaces of its own to be marked.
    if (!ok) this.drawing.fault(this.drawing.picture.boxes.get(spot.node)?.form === "small" ? spot.node : spot.id);
    const lines = wrapped(`${ok ? "✔" : "✘"} ${sentence}`, 52);
    const more = ok || !remedy ? [] : wrapped(remedy, 56);
    const height = 16 * (lines.length + more.length) + 16;
    const width = 20 + Math.max(...lines.map((line) => measure(line) * 1.06), ...more.map((line) => line.length * 6.8));
    const side = sides(spot, width, height).map((one) => ({ ...one, hides: this.#hides(one) })).reduce((a, b) => (b.hides < a.hides ? b : a));
    this.extent = { x: side.x, y: side.y, width, height };
    const drawn = svg("g", { class: `callout ${ok ? "ok" : "failed"}`, transform: `translate(${side.x.toFixed(1)},${side.y.toFixed(1)})` },
      svg("path", { d: side.tip }),
      svg("rect", { width: width.toFixed(1), height, rx: 6 }),
      lines.map((line, index) => svg("text", { x: 8, y: 18 + 16 * index }, line)),
      more.map((line, index) => svg("text", { class: "remedy", x: 8, y: 18 + 16 * (lines.length + index) }, line)));
    // Who has marked a part of it to copy it keeps that.
    if (!$("callouts").firstElementChild?.isEqualNode(drawn)) $("callouts").replaceChildren(drawn);
  }

  /** How much of boxes and bars a rectangle covers. */
  #hides({ x, y, width, height }) {
    const { boxes, bars } = this.drawing.picture;
    let sum = 0;
    for (const one of [...boxes.values(), ...bars.values()]) {
      const across = Math.min(x + width, one.x + one.width) - Math.max(x, one.x);
      const down = Math.min(y + height, one.y + one.height) - Math.max(y, one.y);
      if (across > 0 && down > 0) sum += across * down;
    }
    return sum;
  }

  /** What it points at: a point above and below which, and edges beside which, it may stand. */
  #spot(id) {
    const { picture } = this.drawing;
    if (id.startsWith("port:")) {
      const port = picture.ports.get(id.slice(5));
      return port && !port.shared ? { x: port.x, top: port.top, bottom: port.bottom, left: port.left, right: port.right, node: port.node } : {};
    }
    const node = picture.boxes.get(id) ?? picture.bars.get(id);
    return node ? { x: node.x + Math.min(40, node.width / 2), top: node.y, bottom: node.y + node.height, left: node.x, right: node.x + node.width } : {};
  }

  #showEnds() {
    const id = (end) => this.model.named($(end).value.trim())?.Id ?? null;
    this.drawing.ends(id("from"), id("to"));
  }
}

/** Where a callout of this size can stand, in the order of preference, each with the triangle that points at the spot. */
function sides({ x, top, bottom, left, right }, width, height) {
  const middle = (top + bottom) / 2;
  return [
    { x: x - 20, y: bottom + 10, width, height, tip: "M20,-10L13,0H27Z" },
    { x: right + 10, y: middle - 18, width, height, tip: "M-10,18L0,11V25Z" },
    { x: left - 10 - width, y: middle - 18, width, height, tip: `M${width + 10},18L${width},11V25Z` },
    { x: x - 20, y: top - 10 - height, width, height, tip: `M20,${height + 10}L13,${height}H27Z` },
  ];
}

/** What a hop touches in the picture. */
function touched(one) {
  const found = [];
  if (one.Interface && ["send", "receive", "route", "drop"].includes(one.Kind)) found.push(`port:${portKey(one.Room, one.Interface)}`);
  if (one.Bridge) found.push(`bar:${portKey(one.Room, one.Bridge)}`);
  // Within a bridge a frame does not come to the host itself; what is routed, judged or rewritten does.
  if (!one.Bridge || ["route", "nat"].includes(one.Kind)) found.push(`room:${one.Room}`);
  return found;
}

function arrival(found, hops) {
  const last = hops.filter((one) => one.Direction === "request").at(-1);
  return last?.Room ?? found.SourceRoom;
}

/** Where it went wrong, the likeliest first: where it was dropped, what on the wire keeps it, the last that was seen. */
function trouble(found, hops) {
  const places = [];
  const add = (room, name) => {
    if (name) places.push(`port:${portKey(room, name)}`);
    places.push(`room:${room}`);
  };
  const dropped = hops.filter((one) => one.Kind === "drop" || (one.Kind === "rule" && one.Verdict === "drop")).at(-1);
  if (dropped) add(dropped.Room, dropped.Interface);
  for (const one of found.Barriers) add(one.Room, one.Interface);
  const last = hops.at(-1);
  const came = hops.filter((one) => one.Direction === "request").at(-1);
  for (const one of [came, last]) if (one) add(one.Room, one.Kind === "receive" || one.Kind === "send" ? one.Interface : "");
  add(found.SourceRoom);
  return places;
}

function list(hops) {
  const all = [], of = [];
  let place = "";
  for (const one of hops) {
    const here = `${DIRECTIONS[one.Direction]}: ${one.NamespaceName}`;
    if (here !== place) all.push(html("li", { class: "place" }, here));
    place = here;
    const time = "Time" in one ? `${one.Time.toFixed(1)} µs` : "";
    const item = html("li", { class: `hop ${one.Kind} ${one.Verdict === "drop" ? "drop" : ""}` }, html("span", { class: "time" }, time), written(one));
    all.push(item);
    of.push(item);
  }
  return { all, of };
}

function closer(trace) {
  return html("button", { type: "button", class: "close", "aria-label": "Forget the trace", onclick: () => trace.forget() }, "×");
}

function copier(text) {
  return html("button", { type: "button", class: "copy", onclick: (event) => {
    navigator.clipboard?.writeText(text);
    event.target.textContent = "copied";
  } }, "copy");
}

function wrapped(text, most) {
  const lines = [""];
  for (const word of text.split(" ")) {
    if (lines.at(-1) && lines.at(-1).length + word.length + 1 > most) lines.push("");
    lines[lines.length - 1] += (lines.at(-1) ? " " : "") + word;
  }
  return lines;
}
