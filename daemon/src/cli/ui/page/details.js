// The details of what is chosen: the explanation of the server, step by step.

import { count, few, h, number } from "./dom.js";
import { explain } from "./feed.js";

/** The most names of a list that are shown at once. */
const NAMES_MAX = 6;

const KINDS = { service: "Service", node: "Node", peer: "BGPPeer", pool: "Pool", router: "Router",
  address: "Address" };

const STAGES = { bgp: "BGP", layer2: "Layer 2", peer: "BGPPeer", endpoints: "Endpoints" };

const stageName = (stage) => STAGES[stage] ?? stage[0].toUpperCase() + stage.slice(1);

/** Names as buttons, a few at first. */
function names(kind, list, choose) {
  if (!list?.length) return null;
  const box = h("span", { class: "names" });
  const draw = (all) => {
    const part = all ? list : list.slice(0, NAMES_MAX);
    box.replaceChildren(...part.map((name) =>
      h("button", { type: "button", class: `name ${kind}`, onclick: () => choose(kind, name) },
        name)));
    if (part.length < list.length) {
      box.append(h("button", { type: "button", class: "more", onclick: () => draw(true) },
        `and ${number(list.length - part.length)} more`));
    }
  };
  draw(false);
  return box;
}

function copyButton(text) {
  const button = h("button", { type: "button", class: "copy" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select it";
    }
  });
  return button;
}

function step(one, choose) {
  const [look, sign] = { ok: ["ok", "✓"], withheld: ["bad", "✕"] }[one.verdict] ?? ["open", "?"];
  return h(
    "li",
    { class: `step ${look}` },
    h("span", { class: "verdict", "aria-label": one.verdict }, sign),
    h("div", {},
      h("div", { class: "stage" }, stageName(one.stage),
        one.reason ? h("code", { class: "reason" }, one.reason) : null),
      names("node", one.nodes, choose),
      one.peers?.length ? h("span", { class: "to" }, " → ") : null,
      names("peer", one.peers, choose),
      names("service", one.services, choose),
      h("p", {}, one.text),
      one.command
        ? h("div", { class: "command" }, h("code", {}, one.command), copyButton(one.command))
        : null),
  );
}

function heading(kind, name, close) {
  return h("div", { class: "details-head" },
    h("div", {}, h("span", { class: "kind" }, KINDS[kind] ?? kind), h("h2", {}, name)),
    h("button", { type: "button", class: "close", "aria-label": "Close", onclick: close }, "✕"));
}

function assumptions(kind, name, assume) {
  const button = (label, event) =>
    h("button", { type: "button", onclick: () => assume([event]) }, label);
  if (kind === "node") {
    return h("div", { class: "actions" }, h("span", {}, "What if it is"),
      button("drained", { drain: name }), button("lost", { loseNode: name }));
  }
  if (kind === "peer") {
    return h("div", { class: "actions" }, h("span", {}, "What if its router is"),
      button("lost", { losePeer: name }));
  }
  return null;
}

/** The sessions of a node or peer, as far as the picture knows more than the explanation. */
function sessions(kind, name, world) {
  const of = world.links.filter((link) => {
    if (kind === "node") return world.nodes[link.node].name === name;
    return kind === "peer" && world.peers[link.peer].name === name;
  });
  const wrong = of.filter((link) => link.health === "down" || link.health === "refused");
  const behind = of.filter((link) => link.health === "ok" && link.sent !== link.prefixes);
  if (wrong.length + behind.length === 0) return null;
  const other = (link) => kind === "node" ? world.peers[link.peer].name : world.nodes[link.node].name;
  const line = (link) => {
    if (link.refused) return `${other(link)}: refused: ${link.refused}`;
    if (link.health === "down") {
      return `${other(link)}: ${link.state}${link.error ? `: ${link.error}` : ""}`;
    }
    return `${other(link)}: sent ${count(link.sent, "prefix")}, decided `
      + `${number(link.prefixes)} (counts are at most 90 s old)`;
  };
  return h("ul", { class: "sessions" },
    [...wrong, ...behind].slice(0, 12).map((link) =>
      h("li", { class: link.health === "ok" ? "warn" : "bad" }, line(link))));
}

/** Shows the explanation of something. Returns when it is drawn. */
export async function showDetails(target, { kind, name, world, choose, assume, close }) {
  const title = heading(kind, name, close);
  if (target.dataset.of !== `${kind} ${name}`) {
    target.replaceChildren(title, h("p", { class: "empty" }, "Explaining…"));
  }
  target.dataset.of = `${kind} ${name}`;
  let body;
  try {
    const answer = await explain(kind, name);
    body = [
      h("p", { class: `verdict-line ${answer.announced ? "ok" : "bad"}` }, answer.summary),
      assumptions(kind, name, assume),
      sessions(kind, name, world),
      h("ol", { class: "steps" }, answer.steps.map((one) => step(one, choose))),
    ];
  } catch (error) {
    body = [h("p", { class: "verdict-line bad" }, error.message)];
  }
  // Something else may have been chosen meanwhile.
  if (target.dataset.of !== `${kind} ${name}`) return;
  target.replaceChildren(title, ...body.filter(Boolean));
}

/** Shows a list of things to choose from, such as the members of a group. */
export function showList(target, { kind, title, members, choose, close }) {
  target.dataset.of = "";
  const item = (name) => h("li", {},
    h("button", { type: "button", class: `name ${kind}`, onclick: () => choose(kind, name) }, name));
  target.replaceChildren(heading(kind, title, close),
    h("ul", { class: "members" }, members.slice(0, 400).map(item)),
    members.length > 400 ? h("p", {}, `and ${number(members.length - 400)} more`) : "");
}

/** Shows a router: its BGPPeers and the nodes that have sessions with them. */
export function showRouter(target, { router, world, choose, assume, close }) {
  target.dataset.of = "";
  const peers = router.peers.map((peer) => world.peers[peer].name);
  const links = world.links.filter((link) => router.peers.includes(link.peer));
  const down = links.filter((link) => link.health === "down" || link.health === "refused");
  const facts = [
    `AS ${router.asn}`, router.address, router.bfd ? "BFD" : "no BFD",
    count(links.length, "session"),
  ];
  target.replaceChildren(
    heading("router", router.name, close),
    h("p", { class: `verdict-line ${down.length ? "bad" : "ok"}` }, facts.join(" · ")),
    h("div", { class: "actions" }, h("span", {}, "What if it is"),
      h("button", { type: "button",
        onclick: () => assume(peers.map((name) => ({ losePeer: name }))) }, "lost")),
    down.length
      ? h("p", {}, `Without a session: ${few(down.map((link) => world.nodes[link.node].name), 12)}`)
      : "",
    h("h3", {}, "BGPPeers"), names("peer", peers, choose),
    h("h3", {}, "Nodes"),
    names("node", links.map((link) => world.nodes[link.node].name), choose) ?? "none",
  );
}

/** Shows problems or unreadable inputs. */
export function showProblems(target, { title, entries, more, close }) {
  target.dataset.of = "";
  const item = (entry) => typeof entry === "string"
    ? h("li", { class: "bad" }, h("p", {}, entry))
    : h("li", { class: entry.error ? "bad" : "warn" }, h("b", {}, entry.object),
      h("p", {}, entry.message));
  target.replaceChildren(heading("problem", title, close),
    h("ul", { class: "problems" }, entries.map(item)),
    more > 0 ? h("p", {}, `and ${number(more)} more`) : "");
}
