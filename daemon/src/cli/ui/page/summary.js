// The line at the top: how much is announced, and what is wrong, each entry a button.

import { count, h, number } from "./dom.js";

function figure(value, text, look = "") {
  return h("div", { class: `figure ${look}` }, h("b", {}, value), h("span", {}, text));
}

function figures(world) {
  const announced = world.services.filter((service) => service.state === "announced").length;
  const isUp = (link) => link.health === "ok" || link.health === "unknown";
  const announces = (node) =>
    node.candidate > 0 || (node.prefixes > 0 && node.links.some(isUp));
  const nodes = world.nodes.filter(announces).length;
  const up = world.links.filter((link) => link.health === "ok").length;
  const known = world.links.filter((link) => link.health !== "unknown").length;
  const all = world.services.length;
  const list = [
    figure(`${number(announced)} / ${number(all)}`, "services announced",
      announced === all ? "ok" : "bad"),
    figure(`${number(nodes)} / ${number(world.nodes.length)}`, "nodes announce"),
  ];
  if (known > 0) {
    list.push(figure(`${number(up)} / ${number(world.links.length)}`, "sessions established",
      up === world.links.length ? "ok" : "bad"));
  } else if (world.links.length > 0) {
    list.push(figure(number(world.links.length), "sessions configured"));
  }
  list.push(figure(number(world.routers.length), world.routers.length === 1 ? "router" : "routers"));
  list.push(figure(number(world.pools.length), world.pools.length === 1 ? "pool" : "pools"));
  return list;
}

const UNIT = {
  services: "service",
  nodes: "node",
  pools: "pool",
  problems: "object",
  unseen: "input",
};

/** Draws the summary. `choose` is called with a trouble. */
export function drawSummary(target, world, choose) {
  const chips = world.troubles.map((trouble) =>
    h(
      "button",
      {
        type: "button",
        class: `chip ${trouble.grave ? "bad" : "off"}`,
        title: count(trouble.names.length, UNIT[trouble.kind]),
        onclick: () => choose(trouble),
      },
      trouble.label,
      h("b", {}, number(trouble.names.length)),
    ),
  );
  const quiet = h("span", { class: "quiet" }, "✓ nothing");
  target.replaceChildren(
    ...figures(world),
    h("div", { class: "wrong" }, h("span", { class: "wrong-title" }, "What is wrong"),
      chips.length > 0 ? chips : quiet),
  );
}
