// What the flow draws: pools, services, nodes and routers, one by one where there are few, and
// in groups of what is alike where there are many.

import { few, number } from "./dom.js";

/** The most boxes of one kind that are drawn one by one. */
const SINGLE_MAX = 14;
/** The most groups of one kind. The smallest ones beyond it become one. */
const GROUPS_MAX = 16;

function grouped(members, keyOf) {
  const groups = new Map();
  for (const member of members) {
    const key = keyOf(member);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(member);
  }
  const list = [...groups].map(([key, of]) => ({ key, members: of }));
  if (list.length <= GROUPS_MAX) return list;
  const bySize = [...list].sort((a, b) => b.members.length - a.members.length);
  const kept = new Set(bySize.slice(0, GROUPS_MAX - 1));
  const rest = list.filter((group) => !kept.has(group)).flatMap((group) => group.members);
  return [...list.filter((group) => kept.has(group)), { key: "rest", members: rest }];
}

function lane(kind, members, keyOf, single, group) {
  const boxes =
    members.length <= SINGLE_MAX
      ? members.map((member) => ({ kind, members: [member], ...single(member) }))
      : grouped(members, keyOf).map(({ key, members: of }) => ({
          kind,
          members: of,
          ...(of.length === 1 ? single(of[0]) : group(of, key)),
        }));
  boxes.forEach((box, place) => (box.id = `${kind}-${place}`));
  return boxes;
}

const STATE = { announced: "ok", partly: "warn", withheld: "bad" };

function serviceLane(world, services) {
  const poolNames = (service) => service.pools.map((pool) => world.pools[pool].name).join(" + ");
  const keyOf = (service) =>
    [service.state, service.reason ?? service.policy, poolNames(service)].join("|");
  return lane(
    "service",
    services,
    keyOf,
    (service) => ({
      label: service.name,
      sub: service.reason ?? service.addresses.join(", "),
      state: STATE[service.state],
    }),
    (of, key) => ({
      label: `${number(of.length)} services`,
      sub: key === "rest"
        ? "of other kinds"
        : [of[0].reason ?? of[0].policy, poolNames(of[0])].filter(Boolean).join(" · "),
      state: STATE[of.some((s) => s.state === "withheld") ? "withheld" : of[0].state],
    }),
  );
}

const OFF = new Set(["NodeExcluded", "NodeLeaving"]);

function nodeLane(world) {
  const state = (node) => (OFF.has(node.trouble) ? "off" : node.trouble ? "bad" : "ok");
  const routers = (node) =>
    [...new Set(node.links.map((link) => world.routerOfPeer[link.peer]))].sort().join(",");
  const sub = (node) => {
    const parts = [];
    if (node.prefixes > 0) parts.push(number(node.prefixes) + " by BGP");
    if (node.candidate > 0) parts.push(number(node.candidate) + " by layer 2");
    return node.trouble || parts.join(", ") || "announces nothing";
  };
  return lane(
    "node",
    world.nodes,
    (node) => [node.trouble, routers(node), node.candidate > 0, node.prefixes > 0].join("|"),
    (node) => ({ label: node.name, sub: sub(node), state: state(node) }),
    (of) => ({
      label: `${number(of.length)} nodes`,
      sub: of[0].trouble || few(of.map((node) => node.name), 2),
      state: state(of[0]),
    }),
  );
}

function routerLane(world) {
  const links = world.routers.map(() => []);
  for (const link of world.links) links[world.routerOfPeer[link.peer]].push(link);
  const state = (router) => {
    const of = links[router.place];
    const wrong = of.filter((link) => link.health === "down" || link.health === "refused");
    if (wrong.length > 0) return wrong.length === of.length ? "bad" : "warn";
    return of.length > 0 ? "ok" : "off";
  };
  return lane(
    "router",
    world.routers,
    (router) => [router.asn, state(router)].join("|"),
    (router) => ({
      label: router.name,
      sub: `AS ${router.asn}` + (router.name === router.address ? "" : ` · ${router.address}`),
      state: state(router),
    }),
    (of) => ({
      label: `${number(of.length)} routers`,
      sub: `AS ${of[0].asn}`,
      state: state(of[0]),
    }),
  );
}

function poolLane(world) {
  const used = (pool) =>
    pool.usage.map((use) => `${number(use.used)} of ${shortNumber(use.capacity)} used`).join(", ");
  const isFull = (pool) => pool.usage.some((use) => use.used >= use.capacity);
  return lane(
    "pool",
    world.pools.map((pool, place) => ({ ...pool, place })),
    (pool) => String(pool.invalid),
    (pool) => ({
      label: pool.name,
      sub: pool.invalid ? "invalid" : used(pool),
      state: pool.invalid || isFull(pool) ? "bad" : "ok",
    }),
    (of) => ({ label: `${number(of.length)} pools`, sub: "", state: "ok" }),
  );
}

/** Large counts in words: an IPv6 pool has more addresses than digits say. */
function shortNumber(n) {
  return n < 1e6 ? number(n) : n < 1e9 ? `${Math.round(n / 1e6)} million` : "billions";
}

/** Adds to an edge between two boxes. `weight`: how many there are now. */
function edge(edges, from, to, weight, state, share = weight) {
  if (!from || !to) return;
  const key = `${from.id} ${to.id}`;
  const known = edges.get(key) ?? { from, to, weight: 0, states: new Map() };
  known.weight += weight;
  known.states.set(state, (known.states.get(state) ?? 0) + share);
  edges.set(key, known);
}

/** The box of each member. */
function index(boxes, keyOf) {
  const map = new Map();
  for (const box of boxes) for (const member of box.members) map.set(keyOf(member), box);
  return map;
}

/** Adds what an assumption changes to the edges. */
function paint(edges, world, lanes, colours, routerBox) {
  const nodeBox = index(lanes.node, (node) => node.name);
  for (const box of lanes.service) {
    for (const { name } of box.members) {
      const colour = colours.services.get(name);
      for (const node of colour?.gone ?? []) edge(edges, box, nodeBox.get(node), 0, "gone", 1);
      for (const node of colour?.new ?? []) edge(edges, box, nodeBox.get(node), 0, "new", 1);
    }
  }
  const routerOf = new Map(world.peers.map((p, place) => [p.name, world.routerOfPeer[place]]));
  for (const link of colours.links) {
    const [node, router] = [nodeBox.get(link.node), routerBox.get(routerOf.get(link.peer))];
    const before = world.linkOf(link.node, link.peer)?.prefixes ?? 0;
    const { withdrawn, announced } = link;
    const look = withdrawn >= before && announced === 0 ? "gone"
      : withdrawn > announced ? "fewer"
      : announced > withdrawn ? "new" : "changed";
    edge(edges, node, router, 0, look, 1);
  }
}

/** The boxes of the nodes that announce a service, and how. */
function nodeBoxes(via, nodeBox) {
  const boxes = new Map();
  for (const node of via.layer2) boxes.set(nodeBox.get(node), "layer2");
  for (const [node, { up }] of via.bgp) {
    if (up) boxes.set(nodeBox.get(node), "bgp");
    else if (!boxes.has(nodeBox.get(node))) boxes.set(nodeBox.get(node), "down");
  }
  return boxes;
}

/** What an edge looks like: the gravest of its states. */
function lookOf({ weight, states }) {
  const gone = states.get("gone") ?? 0;
  if (gone > 0) return gone >= weight ? "gone" : "fewer";
  // Of sessions, one that is down shows; of services, one that is announced.
  const order = ["fewer", "new", "changed", "refused", "bad", "bgp", "down", "ok", "layer2", "unknown"];
  return order.find((state) => states.has(state)) ?? "idle";
}

/** The boxes and the edges between them. `colours`: what an assumption would change. */
export function groups(world, services, colours) {
  const lanes = {
    pool: poolLane(world),
    service: serviceLane(world, services),
    node: nodeLane(world),
    router: routerLane(world),
  };
  const place = (member) => member.place;
  const poolBox = index(lanes.pool, place);
  const nodeBox = index(lanes.node, place);
  const routerBox = index(lanes.router, place);
  const edges = new Map();
  // Most services have one of a few spreads.
  const known = new Map();
  const nodesOf = (via) => {
    if (!known.has(via)) known.set(via, nodeBoxes(via, nodeBox));
    return known.get(via);
  };
  for (const box of lanes.service) {
    for (const service of box.members) {
      const state = service.state === "announced" ? "ok" : "bad";
      for (const pool of service.pools) edge(edges, poolBox.get(pool), box, 1, state);
      for (const [node, how] of nodesOf(service.via)) edge(edges, box, node, 1, how);
    }
  }
  for (const link of world.links) {
    const router = routerBox.get(world.routerOfPeer[link.peer]);
    const idle = link.prefixes === 0 && (link.health === "ok" || link.health === "unknown");
    edge(edges, nodeBox.get(link.node), router, 1, idle ? "idle" : link.health);
  }
  if (colours) paint(edges, world, lanes, colours, routerBox);
  const list = [...edges.values()];
  for (const one of list) one.look = lookOf(one);
  return { lanes, edges: list };
}
