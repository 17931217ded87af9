// The matrix: a row for each service, a column for each node. Only the rows in view exist.

import { few, h, hideTip, number, s, showTip } from "./dom.js";

const ROW = 24;
/** Rows beyond the view that exist, so that scrolling shows no gap. */
const MARGIN = 8;
/** Columns at least this wide have a name above them. */
const NAMED = 15;

const MARK = { announced: "●", partly: "◐", withheld: "✕" };

/** A matrix in an element. `choose` is called with a service or a node. */
export class Matrix {
  constructor(target, choose) {
    this.choose = choose;
    this.state = undefined;
    this.active = 0;
    this.head = h("div", { class: "matrix-head" });
    this.rows = h("div", { class: "rows", role: "presentation" });
    this.body = h(
      "div",
      {
        id: "rows",
        class: "matrix-body",
        tabindex: 0,
        role: "listbox",
        "aria-label": "Services",
        onscroll: () => this.drawRows(),
        onkeydown: (event) => this.key(event),
      },
      this.rows,
    );
    target.replaceChildren(this.head, this.body);
  }

  /** Shows a state. */
  draw(state) {
    this.state = state;
    this.active = Math.min(this.active, Math.max(0, state.services.length - 1));
    const names = Math.max(160, Math.min(360, this.body.clientWidth * 0.24));
    this.body.parentElement.style.setProperty("--name", `${names}px`);
    const strip = this.body.clientWidth - names - 24 - 190 - 150 - 40;
    const nodes = Math.max(1, state.world.nodes.length);
    this.cell = Math.max(2, Math.min(30, Math.floor((Math.max(strip, 80) / nodes) * 2) / 2));
    this.width = Math.max(60, this.cell * nodes);
    this.body.parentElement.style.setProperty("--strip", `${this.width}px`);
    this.drawHead();
    this.rows.style.height = `${state.services.length * ROW}px`;
    this.drawRows();
  }

  drawHead() {
    const { world, services } = this.state;
    const named = this.cell >= NAMED;
    const longest = Math.max(0, ...world.nodes.map((node) => node.name.length));
    const height = named ? Math.min(110, longest * 5.2 + 12) : 26;
    const columns = world.nodes.map((node, place) => {
      const x = place * this.cell;
      const off = node.trouble ? (node.off === "NodeExcluded" ? "off" : "bad") : "ok";
      return s(
        "g",
        {
          class: `head ${off}`,
          onclick: () => this.choose("node", node.name),
          onpointermove: (event) => showTip(event, nodeText(node)),
          onpointerleave: hideTip,
        },
        s("rect", { x, y: 0, width: this.cell, height, class: "hit" }),
        named
          ? s("text", { transform: `translate(${x + this.cell / 2 + 4} ${height - 8}) rotate(-52)` },
              node.name.length > 20 ? node.name.slice(0, 19) + "…" : node.name)
          : null,
        s("rect", { x: x + 0.25, y: height - 5, width: this.cell - 0.5, height: 4, class: "bar" }),
      );
    });
    const label = named ? null : s("text", { x: 0, y: 13, class: "many" },
      `${number(world.nodes.length)} nodes`);
    const svg = s("svg", { width: this.width, height, class: "heads" }, label, columns);
    this.head.replaceChildren(
      h("span", {}, ""),
      h("span", { class: "cell" }, `${number(services.length)} of `
        + `${number(world.services.length)} services`),
      h("span", { class: "cell" }, "addresses"),
      h("span", { class: "cell strip" }, svg),
      h("span", { class: "cell" }, this.state.colours ? "would be" : "pool, or why not"),
    );
  }

  /** The rows in view, or all of them for a printer. */
  drawRows(all = false) {
    if (!this.state) return;
    const { services } = this.state;
    const top = all ? 0 : Math.max(0, Math.floor(this.body.scrollTop / ROW) - MARGIN);
    const view = all ? services.length : Math.ceil(this.body.clientHeight / ROW) + 2 * MARGIN;
    const rows = services.slice(top, top + view).map((service, i) => this.row(service, top + i));
    this.rows.replaceChildren(...rows);
    this.body.setAttribute("aria-activedescendant", `row-${this.active}`);
  }

  row(service, place) {
    const { world, colours, selected } = this.state;
    const colour = colours?.services.get(service.name);
    const isSelected = selected?.kind === "service" && selected.name === service.name;
    const pools = service.pools.map((pool) => world.pools[pool].name).join(", ");
    const row = h(
      "div",
      {
        id: `row-${place}`,
        class: [
          "row",
          service.state,
          isSelected && "selected",
          place === this.active && "active",
          colours && (colour ? `would-${colour.colour}` : "would-same"),
        ].filter(Boolean).join(" "),
        role: "option",
        "aria-selected": isSelected ? "true" : "false",
        onclick: () => {
          this.active = place;
          this.choose("service", service.name);
        },
      },
      h("span", { class: "mark", title: service.state }, MARK[service.state]),
      h("span", { class: "cell name", title: service.name }, service.name),
      h("span", { class: "cell mono" }, addressText(service, colour)),
      h("span", { class: "cell strip" }, this.strip(service, colour)),
      h("span", { class: "cell why" }, colour ? wouldText(colour) : (service.reason ?? pools)),
    );
    row.style.top = `${place * ROW}px`;
    return row;
  }

  strip(service, colour) {
    const { world } = this.state;
    const paths = { layer2: "", bgp: "", down: "", gone: "", new: "" };
    const gap = this.cell > 4 ? 1 : 0;
    const add = (how, node) => {
      const x = node * this.cell;
      paths[how] += `M${x} 4h${this.cell - gap}v${ROW - 9}h${gap - this.cell}z`;
    };
    const gone = new Set((colour?.gone ?? []).map((name) => world.nodeOf.get(name)));
    for (const node of service.via.layer2) {
      if (!service.via.bgp.has(node) && !gone.has(node)) add("layer2", node);
    }
    for (const [node, { up }] of service.via.bgp) {
      if (!gone.has(node)) add(up ? "bgp" : "down", node);
    }
    for (const node of gone) if (node !== undefined) add("gone", node);
    for (const name of colour?.new ?? []) {
      const node = world.nodeOf.get(name);
      if (node !== undefined) add("new", node);
    }
    const drawn = Object.entries(paths).filter(([, d]) => d);
    const lines = drawn.map(([how, d]) => s("path", { d, class: `cells ${how}` }));
    return s(
      "svg",
      {
        width: this.width,
        height: ROW - 1,
        onpointermove: (event) => this.point(event, service, colour),
        onpointerleave: hideTip,
      },
      s("rect", { class: "track", x: 0, y: 4, width: this.cell * world.nodes.length - gap,
        height: ROW - 9 }),
      lines,
    );
  }

  point(event, service, colour) {
    const { world } = this.state;
    const box = event.currentTarget.getBoundingClientRect();
    const node = world.nodes[Math.floor((event.clientX - box.left) / this.cell)];
    if (!node) return hideTip();
    const bgp = service.via.bgp.get(node.place);
    let text = `${node.name}: `;
    if (colour?.gone?.includes(node.name)) text += "would no longer announce it";
    else if (colour?.new?.includes(node.name)) text += "would announce it";
    else if (bgp && !bgp.up) text += "would announce it, but has no session";
    else if (bgp) text += `announces it to ${few(bgp.peers.map((p) => world.peers[p].name))}`;
    else if (service.via.layer2.has(node.place)) text += "may own it by layer 2";
    else text += node.trouble ? `does not announce it (${node.trouble})` : "does not announce it";
    return showTip(event, `${service.name}\n${text}`);
  }

  key(event) {
    const { services } = this.state ?? { services: [] };
    const page = Math.max(1, Math.floor(this.body.clientHeight / ROW) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page,
      Home: -services.length, End: services.length };
    if (event.key in steps) {
      event.preventDefault();
      this.activate(this.active + steps[event.key]);
    } else if (event.key === "Enter" && services[this.active]) {
      event.preventDefault();
      this.choose("service", services[this.active].name);
    }
  }

  /** Makes a row the active one, and scrolls to it. */
  activate(place) {
    this.active = Math.max(0, Math.min(place, this.state.services.length - 1));
    const top = this.active * ROW;
    if (top < this.body.scrollTop) this.body.scrollTop = top;
    const bottom = top + ROW - this.body.clientHeight;
    if (bottom > this.body.scrollTop) this.body.scrollTop = bottom;
    this.drawRows();
  }
}

function nodeText(node) {
  const parts = [node.name, node.addresses.join(", ")];
  if (node.trouble) parts.push(node.trouble);
  if (node.cordoned) parts.push("cordoned");
  parts.push(`${number(node.prefixes)} prefixes by BGP`);
  return parts.filter(Boolean).join("\n");
}

function addressText(service, colour) {
  const before = service.addresses.join(" ") || "none";
  if (!colour?.addresses) return before;
  return `${before} → ${colour.addresses[1].join(" ") || "none"}`;
}

const WOULD = {
  lost: "announced by no node",
  gained: "announced again",
  moved: "at another address",
  others: "on other nodes",
  fewer: "on fewer nodes",
  more: "on more nodes",
  changed: "with other attributes",
};

function wouldText({ colour, movedAtLeast: least, movedByRehash }) {
  if (colour === "lost" || least === 0) return WOULD[colour];
  const most = Math.max(least, movedByRehash);
  return `${WOULD[colour]}, ${least === most ? least : `${least}–${most}`} % of flows`;
}
