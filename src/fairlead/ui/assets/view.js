// Which part of the picture is seen, and going about in it by mouse and keyboard.

import { $ } from "./dom.js";

const LEAST = 0.08, MOST = 3;

export class View {
  #x = 0;
  #y = 0;
  #scale = 1;
  #own = false; // The user chose what to see: it is not changed behind their back.
  #frame = { x: 0, y: 0, width: 1, height: 1 };

  constructor(map) {
    this.map = map;
    map.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 500), event.offsetX, event.offsetY);
    }, { passive: false });
    map.addEventListener("pointerdown", (event) => this.#drag(event));
    new ResizeObserver(() => this.#own || this.fit()).observe(map);
  }

  /** The picture has this extent now, and so has something beside it. */
  extent(picture, beside) {
    const frame = united(picture, beside);
    const { x, y, width, height } = this.#frame;
    const same = x === frame.x && y === frame.y && width === frame.width && height === frame.height;
    this.#frame = frame;
    if (!same && !this.#own) this.fit();
  }

  fit() {
    const { clientWidth: width, clientHeight: height } = this.map;
    const { x, y, width: w, height: h } = this.#frame;
    this.#own = false;
    this.#scale = Math.max(LEAST, Math.min((width - 40) / Math.max(w, 1), (height - 40) / Math.max(h, 1), 1.25));
    this.#x = (width - w * this.#scale) / 2 - x * this.#scale;
    this.#y = (height - h * this.#scale) / 2 - y * this.#scale;
    this.#apply();
  }

  zoom(factor, x = this.map.clientWidth / 2, y = this.map.clientHeight / 2) {
    const scale = Math.min(MOST, Math.max(LEAST, this.#scale * factor));
    this.#x = x - ((x - this.#x) * scale) / this.#scale;
    this.#y = y - ((y - this.#y) * scale) / this.#scale;
    this.#scale = scale;
    this.#own = true;
    this.#apply();
  }

  /** Move so far that an element can be seen. */
  reveal(element) {
    const outer = this.map.getBoundingClientRect(), inner = element.getBoundingClientRect();
    const room = (low, high, from, to) => (low < from + 8 ? from + 8 - low : high > to - 8 ? Math.min(to - 8 - high, 0) : 0);
    const dx = room(inner.left, inner.right, outer.left, outer.right), dy = room(inner.top, inner.bottom, outer.top, outer.bottom);
    if (!dx && !dy) return;
    this.#x += dx;
    this.#y += dy;
    this.#own = true;
    this.#apply();
  }

  #drag(event) {
    if (event.button !== 0 || event.target.closest(".node")) return;
    let { clientX, clientY } = event;
    this.map.setPointerCapture(event.pointerId);
    const move = (next) => {
      this.#x += next.clientX - clientX;
      this.#y += next.clientY - clientY;
      ({ clientX, clientY } = next);
      this.#own = true;
      this.#apply();
    };
    this.map.addEventListener("pointermove", move);
    this.map.addEventListener("lostpointercapture", () => this.map.removeEventListener("pointermove", move), { once: true });
  }

  #apply() {
    $("world").setAttribute("transform", `translate(${this.#x.toFixed(1)},${this.#y.toFixed(1)}) scale(${this.#scale.toFixed(4)})`);
    // What nobody can read from so far away need not be painted.
    this.map.classList.toggle("far", this.#scale < 0.4);
  }
}

function united(a, b) {
  if (!b) return a;
  const x = Math.min(a.x, b.x), y = Math.min(a.y, b.y);
  return { x, y, width: Math.max(a.x + a.width, b.x + b.width) - x, height: Math.max(a.y + a.height, b.y + b.height) - y };
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** From one node to the nearest in a direction: what lies ahead counts once, what lies aside twice. */
export function neighbour(element, nodes, key) {
  const [dx, dy] = ARROWS[key];
  const middle = (one) => {
    const { left, top, width, height } = one.getBoundingClientRect();
    return { left, top, right: left + width, bottom: top + height, x: left + width / 2, y: top + height / 2 };
  };
  const here = middle(element);
  let best = null, least = Infinity;
  for (const other of nodes) {
    if (other === element) continue;
    const there = middle(other);
    const ahead = dx ? (there.x - here.x) * dx : (there.y - here.y) * dy;
    if (ahead <= 1) continue;
    // A bar is as wide as what hangs on it: nothing in its width lies aside of it.
    const aside = dx ? gap(here.top, here.bottom, there.top, there.bottom) : gap(here.left, here.right, there.left, there.right);
    const centre = dx ? Math.abs(there.y - here.y) : Math.abs(there.x - here.x);
    const cost = ahead + 3 * aside + centre / 10;
    if (cost < least) [best, least] = [other, cost];
  }
  return best;
}

const gap = (a1, a2, b1, b2) => Math.max(0, b1 - a2, a1 - b2);

export const isArrow = (key) => key in ARROWS;
