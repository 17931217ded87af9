// The flow: four columns of boxes, from pools over services and nodes to routers, and the edges
// between them.

import { count, h, s, hideTip, showTip } from "./dom.js";
import { groups } from "./groups.js";

const HEAD = 22;
const BOX = 34;
const GAP = 6;
/** The share of the width of each column, and of the room between columns. */
const COLUMNS = { pool: 0.16, service: 0.22, node: 0.2, router: 0.2 };
const TITLES = { pool: "Pools", service: "Services", node: "Nodes", router: "Routers" };
const LABEL = "600 12.5px";
const SUB = "11px";
const BADGE = "600 11px";

const pen = document.createElement("canvas").getContext("2d");

function widthOf(text, font) {
  pen.font = `${font} ${getComputedStyle(document.body).fontFamily}`;
  return pen.measureText(text).width;
}

/** The text, without its middle if it is wider than the room. */
function cut(text, font, room) {
  const fits = (shorter) => widthOf(shorter, font) <= room;
  if (fits(text)) return text;
  for (let keep = text.length - 1; keep > 3; keep -= 1) {
    const tail = Math.floor(keep / 2);
    const shorter = text.slice(0, keep - tail) + "…" + text.slice(text.length - tail);
    if (fits(shorter)) return shorter;
  }
  return text.slice(0, 3) + "…";
}

function place(lanes, width) {
  const kinds = Object.keys(COLUMNS).filter((kind) => kind !== "router" || lanes.router.length);
  const used = kinds.reduce((sum, kind) => sum + COLUMNS[kind], 0);
  const room = (1 - used) / (kinds.length - 1);
  const rows = Math.max(1, ...kinds.map((kind) => lanes[kind].length));
  const height = HEAD + rows * (BOX + GAP);
  let x = 1;
  for (const kind of kinds) {
    const boxes = lanes[kind];
    const top = HEAD + ((rows - boxes.length) * (BOX + GAP)) / 2;
    boxes.forEach((box, row) => {
      box.x = x;
      box.y = top + row * (BOX + GAP);
      box.width = COLUMNS[kind] * width - 2;
    });
    x += (COLUMNS[kind] + room) * width;
  }
  return { kinds, height };
}

function edgePath({ from, to }) {
  const [x1, y1] = [from.x + from.width, from.y + BOX / 2];
  const [x2, y2] = [to.x, to.y + BOX / 2];
  const bend = (x2 - x1) / 2;
  return `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
}

function edgeText({ from, to, weight, look }) {
  const what = to.kind === "router" ? count(weight, "session") : count(weight, "service");
  return `${from.label} → ${to.label}: ${what}${look === "layer2" ? " (layer 2)" : ""}`;
}

/** What an assumption does to the members of a box: a class and a text. */
function markOf(box, world, colours) {
  if (!colours || box.kind === "pool") return undefined;
  const marks = new Map();
  const add = (key) => marks.set(key, (marks.get(key) ?? 0) + 1);
  for (const member of box.members) {
    if (box.kind === "service") {
      const colour = colours.services.get(member.name);
      if (colour) add(colour.colour);
    } else if (box.kind === "node") {
      const { gone, fresh } = colours.nodes.get(member.name) ?? { gone: 0, fresh: 0 };
      const links = colours.links.filter((link) => link.node === member.name);
      if (gone > 0) add(gone >= member.prefixes + member.candidate ? "lost" : "fewer");
      else if (fresh > 0) add("more");
      else if (links.length > 0) add("changed");
    } else {
      const peers = new Set(member.peers.map((peer) => world.peers[peer].name));
      const links = colours.links.filter((link) => peers.has(link.peer));
      const sum = (key) => links.reduce((total, link) => total + link[key], 0);
      const [gone, fresh] = [sum("withdrawn"), sum("announced")];
      if (gone > fresh) add("fewer");
      else if (fresh > gone) add("more");
      else if (links.length > 0) add("changed");
    }
  }
  const order = ["lost", "moved", "others", "fewer", "gained", "more", "changed"];
  const worst = order.find((key) => marks.has(key));
  if (!worst) return { look: "same", text: "" };
  const n = marks.get(worst);
  return { look: worst, text: box.members.length > 1 ? `${n} ${worst}` : worst };
}

/** Draws the flow. `choose` is called with the kind and the members of a box. */
export function drawFlow(target, state, choose) {
  const { world, services, colours, selected } = state;
  const width = Math.max(560, target.clientWidth);
  const { lanes, edges } = groups(world, services, colours);
  const { kinds, height } = place(lanes, width);
  const svg = s("svg", {
    width,
    height,
    viewBox: `0 0 ${width} ${height}`,
    role: "group",
    "aria-label": "Pools, services, nodes and routers",
  });
  const known = new Set(kinds);
  for (const edge of edges) {
    if (!known.has(edge.from.kind) || !known.has(edge.to.kind)) continue;
    const path = s("path", {
      d: edgePath(edge),
      class: `edge ${edge.look}`,
      "stroke-width": 1.2 + Math.min(8, Math.log2(1 + edge.weight)),
      "data-ends": `${edge.from.id} ${edge.to.id}`,
      onpointermove: (event) => showTip(event, edgeText(edge)),
      onpointerleave: hideTip,
    });
    svg.append(path);
  }
  for (const kind of kinds) {
    const x = lanes[kind][0]?.x;
    if (x !== undefined) svg.append(s("text", { x, y: 12, class: "column" }, TITLES[kind]));
    for (const box of lanes[kind]) {
      svg.append(drawBox(box, markOf(box, world, colours), selected, choose));
    }
  }
  svg.addEventListener("pointerover", (event) => light(svg, event.target.closest(".box")?.id));
  svg.addEventListener("focusin", (event) => light(svg, event.target.closest(".box")?.id));
  svg.addEventListener("pointerleave", () => light(svg, undefined));
  const focused = document.activeElement?.closest?.(".flow .box")?.id;
  target.replaceChildren(world.services.length + world.nodes.length ? svg : empty());
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

function empty() {
  return h("p", { class: "empty" }, "There are no Services of type LoadBalancer and no Nodes.");
}

function drawBox(box, mark, selected, choose) {
  const one = box.members.length === 1 ? box.members[0] : undefined;
  const isSelected = selected && one && selected.kind === box.kind && selected.name === one.name;
  const names = box.members.slice(0, 12).map((member) => member.name);
  const more = box.members.length > 12 ? `\n… ${box.members.length - 12} more` : "";
  const label = `${box.kind} ${box.label}, ${box.sub}${mark?.text ? `: ${mark.text}` : ""}`;
  const act = () => choose(box.kind, box.members);
  const badge = mark?.text
    ? s("text", { x: box.width - 8, y: 14.5, class: "mark", "text-anchor": "end" }, mark.text)
    : null;
  const room = box.width - 34 - (mark?.text ? widthOf(mark.text, BADGE) + 8 : 0);
  return s(
    "g",
    {
      id: box.id,
      class: `box ${box.state} ${mark?.look ?? ""} ${isSelected ? "selected" : ""}`,
      transform: `translate(${box.x} ${box.y})`,
      tabindex: 0,
      role: "button",
      "aria-label": label,
      onclick: act,
      onkeydown: (event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          act();
        }
      },
      onpointermove: (event) => showTip(event, one ? `${one.name}\n${box.sub}` : names.join("\n") + more),
      onpointerleave: hideTip,
    },
    s("rect", { width: box.width, height: BOX, rx: 6 }),
    box.members.length > 1
      ? s("rect", { class: "stack", x: 3, y: BOX, width: box.width - 6, height: 3, rx: 1.5 })
      : null,
    s("circle", { cx: 12, cy: BOX / 2, r: 3.6 }),
    s("text", { x: 23, y: 14.5, class: "label" }, cut(box.label, LABEL, room)),
    s("text", { x: 23, y: 27.5, class: "sub" }, cut(box.sub, SUB, box.width - 30)),
    badge,
  );
}

/** Lights the edges of a box, and those of its neighbors towards the outside. */
function light(svg, id) {
  const edges = [...svg.querySelectorAll(".edge")];
  svg.classList.toggle("lit", Boolean(id));
  const on = new Set();
  const spread = (from, end) => {
    for (const edge of edges) {
      const ends = edge.dataset.ends.split(" ");
      if (ends[end] !== from || on.has(edge)) continue;
      on.add(edge);
      spread(ends[1 - end], end);
    }
  };
  if (id) [0, 1].forEach((end) => spread(id, end));
  for (const edge of edges) edge.classList.toggle("on", on.has(edge));
}
