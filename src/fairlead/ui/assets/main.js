// The page: what is heard from the server goes into the model, the model into a picture; keys and clicks.

import { $ } from "./dom.js";
import { Details } from "./details.js";
import { Drawing } from "./draw.js";
import { Layout } from "./layout.js";
import { follow } from "./live.js";
import { Model, graph } from "./model.js";
import { Trace } from "./trace.js";
import { View, isArrow, neighbour } from "./view.js";

const model = new Model();
const layout = new Layout();
const drawing = new Drawing();
const view = new View($("map"));
const trace = new Trace(model, drawing, view);
const details = new Details(model, { chooseEnd });
let waiting = false;

/** At most once per frame, however fast news come. */
function changed() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    const picture = layout.place(graph(model), model);
    drawing.show(picture, model);
    details.refresh();
    trace.refresh();
    view.extent(picture.frame, trace.extent);
    find();
    const rooms = [...model.rooms.values()];
    const containers = rooms.filter((room) => room.Kind === "container").length;
    const others = rooms.length - 1 - containers;
    say("count", `${containers} container${containers === 1 ? "" : "s"}, ${others} other namespace${others === 1 ? "" : "s"}`);
    document.body.dataset.layouts = layout.runs;
    document.body.dataset.ready = "1";
    delete sessionStorage.again;
  });
}

follow(model, {
  changed,
  trouble(text) {
    $("trouble").hidden = !text;
    say("trouble", text);
  },
});

/** Only when it is another text: who hears the page would hear it again each second. */
function say(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

// Nodes

const nodeOf = (target) => target.closest?.(".node");

function focus(element) {
  for (const other of drawing.nodes()) other.setAttribute("tabindex", other === element ? 0 : -1);
  element.focus({ preventScroll: true });
  view.reveal(element);
}

function chooseEnd(end, room) {
  trace.choose(end, room);
  if (trace.complete) $("go").focus();
}

$("nodes").addEventListener("click", (event) => {
  const element = nodeOf(event.target);
  if (!element) return;
  focus(element);
  details.show(element.dataset.id, element);
});

$("map").addEventListener("keydown", (event) => {
  const element = nodeOf(event.target);
  if (!element || event.ctrlKey || event.altKey || event.metaKey) return;
  const room = element.dataset.id.startsWith("room:") ? model.rooms.get(element.dataset.room) : null;
  if (isArrow(event.key)) {
    const next = neighbour(element, drawing.nodes(), event.key);
    if (next) focus(next);
  } else if (event.key === "Enter" || event.key === " ") details.show(element.dataset.id, element);
  else if (event.key === "s" && room) trace.choose("from", room);
  else if (event.key === "d" && room) trace.choose("to", room);
  else return;
  event.preventDefault();
});

// Keys that work anywhere but where one writes

addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    if (details.open) details.close();
    else if (trace.open) trace.forget();
    else if (event.target === $("find")) $("find").value = "", find();
    return;
  }
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, select, textarea, dialog")) return;
  const does = {
    "/": () => $("find").focus(),
    t: () => (trace.complete ? trace.send() : ($("from").value ? $("to") : $("from")).focus()),
    "+": () => view.zoom(1.25),
    "-": () => view.zoom(0.8),
    0: () => view.fit(),
    "?": () => $("keys").showModal(),
  }[event.key];
  if (does) {
    event.preventDefault();
    does();
  }
});

$("in").addEventListener("click", () => view.zoom(1.25));
$("out").addEventListener("click", () => view.zoom(0.8));
$("fit").addEventListener("click", () => view.fit());
$("help").addEventListener("click", () => $("keys").showModal());

// Find

function find() {
  const word = $("find").value.trim().toLowerCase();
  $("map").classList.toggle("finding", Boolean(word));
  let first = null;
  for (const element of drawing.nodes()) {
    const found = Boolean(word) && element.getAttribute("aria-label").toLowerCase().includes(word);
    element.classList.toggle("found", found);
    first ??= found ? element : null;
  }
  return first;
}

$("find").addEventListener("input", find);
$("find").addEventListener("keydown", (event) => {
  const first = event.key === "Enter" && find();
  if (first) focus(first);
});
